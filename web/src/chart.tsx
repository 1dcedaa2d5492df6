// SPDX-License-Identifier: Apache-2.0
// One chart: uPlot on a canvas, a legend in HTML beside it. The plot is built
// anew when its look changes (theme, scale, unit) and only fed when data comes,
// so a frame costs no layout. All charts share the cursor.
import { effect, signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { Choice } from './choice';
import { axisLabels, clockTime, format, type ByteUnit } from './format';
import type { Line, Panel } from './panels';
import { chartScale, chartSpan, historyLoading, points, unit } from './store/state';
import { colour, theme } from './theme';

const cursorIndex = signal<number | null>(null);
// Seconds between the labels of the time axis.
const TIME_STEPS = [1, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400];
const SYNC_KEY = 'netsonde';

/** What is drawn can be read from the element, by a test or from the browser's console. */
type PlotElement = HTMLDivElement & { plot?: uPlot };

export function Chart({ panel }: { panel: Panel }) {
	const host = useRef<HTMLDivElement>(null);
	const look = theme.value;
	const scale = panel.canLog ? chartScale.value : 'linear';
	const bytes = panel.kind === 'bytes' ? unit.value : 'bytes';

	useEffect(() => {
		const element: PlotElement = host.current!;
		const plot = new uPlot(optionsOf(panel, element, scale === 'log', bytes), dataOf(panel), element);
		element.plot = plot;
		const resize = new ResizeObserver(() => plot.setSize(sizeOf(element)));
		resize.observe(element);
		const stop = effect(() => {
			chartSpan.value;
			plot.setData(dataOf(panel));
		});
		return () => {
			stop();
			resize.disconnect();
			plot.destroy();
		};
	}, [panel, look, scale, bytes]);

	return (
		<section class="panel" aria-labelledby={`panel-${panel.id}`}>
			<header class="panel-head">
				<h2 id={`panel-${panel.id}`} title={panel.hint}>{panel.title}</h2>
				<CursorTime />
				{panel.canLog && <Choice of="scale" label="Latency axis" options={['linear', 'log']} place={panel.id} />}
				{panel.kind === 'bytes' && <Choice of="unit" label="Unit" options={['bytes', 'bits']} place={panel.id} />}
			</header>
			<div class="plot" ref={host} />
			<Legend panel={panel} bytes={bytes} />
		</section>
	);
}

function CursorTime() {
	const index = cursorIndex.value;
	const t = index === null ? undefined : points().times[index];
	return t === undefined ? null : <time class="cursor-time">{clockTime(t, true)}</time>;
}

function Legend({ panel, bytes }: { panel: Panel; bytes: ByteUnit }) {
	const { times } = points();
	const index = cursorIndex.value ?? times.length - 1;
	const lines = panel.lines.filter((line) => points().has(line.key));
	if (lines.length === 0)
		return <p class="legend empty">{historyLoading.value ? 'loading' : 'no data yet'}</p>;
	return (
		<ul class="legend" aria-label={`${panel.title}, latest values`}>
			{lines.map((line) => {
				const value = points().column(line.key)[index] ?? null;
				return (
					<li key={line.key}>
						<Swatch line={line} />
						<span class="legend-name">{line.label}</span>
						<span class={value === 0 || value === null ? 'legend-value quiet' : 'legend-value'}>
							{value === null ? 'no data' : format(panel.kind, value, bytes)}
						</span>
					</li>
				);
			})}
		</ul>
	);
}

function Swatch({ line }: { line: Line }) {
	return (
		<svg class="swatch" viewBox="0 0 18 4" aria-hidden="true">
			<line x1="0" y1="2" x2="18" y2="2" style={{ stroke: `var(--${line.colour})` }} stroke-dasharray={line.dash?.join(' ')} />
		</svg>
	);
}

function dataOf(panel: Panel): uPlot.AlignedData {
	return [points().times, ...panel.lines.map((line) => points().column(line.key))];
}

function sizeOf(element: HTMLElement): { width: number; height: number } {
	return { width: Math.max(1, element.clientWidth), height: Math.max(1, element.clientHeight) };
}

function optionsOf(panel: Panel, element: HTMLElement, log: boolean, bytes: ByteUnit): uPlot.Options {
	const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
	const axis = {
		stroke: colour('muted'), font: `${Math.round(rem * 0.72)}px ${getComputedStyle(document.body).fontFamily}`,
		grid: { stroke: colour('grid'), width: 1 }, ticks: { show: false },
	};
	return {
		...sizeOf(element),
		legend: { show: false },
		padding: [8, rem * 1.2, 0, 0],
		cursor: { y: false, drag: { x: false, y: false }, sync: { key: SYNC_KEY }, points: { size: 6 } },
		scales: {
			x: { time: true, range: () => chartSpan.peek() },
			y: log ? { distr: 3, range: yRangeLog } : { range: yRangeLinear },
		},
		axes: [
			{ ...axis, size: rem * 1.6, space: rem * 4.5, incrs: TIME_STEPS, values: timeLabels },
			{
				...axis, size: rem * 4.2, space: rem * 2, gap: 4,
				values: (_, splits) => log
					? splits.map((tick) => tick === null ? '' : axisLabels(panel.kind, [tick], bytes)[0]!)
					: axisLabels(panel.kind, splits, bytes),
			},
		],
		series: [{}, ...panel.lines.map((line) => seriesOf(line))],
		hooks: { setCursor: [(plot) => { cursorIndex.value = plot.cursor.idx ?? null; }] },
	};
}

/** A label at the very left would run into those of the other axis. */
function timeLabels(plot: uPlot, splits: number[], _: number, __: number, step: number): string[] {
	const left = plot.scales.x!.min ?? 0, right = plot.scales.x!.max ?? 0;
	return splits.map((t) => (t - left < (right - left) * 0.04 ? '' : clockTime(t, step < 60)));
}

function seriesOf(line: Line): uPlot.Series {
	const stroke = colour(line.colour);
	return {
		label: line.label, stroke, width: 1.6, dash: line.dash, fill: line.fill ? `${stroke}1f` : undefined,
		points: { show: true, size: 4, fill: stroke, filter: lonePoints },
	};
}

/** A value between two gaps has no line; it is drawn as a dot. */
function lonePoints(plot: uPlot, seriesIndex: number): number[] {
	const cells = plot.data[seriesIndex]!;
	const alone: number[] = [];
	for (let i = 0; i < cells.length; i++)
		if (cells[i] != null && cells[i - 1] == null && cells[i + 1] == null)
			alone.push(i);
	return alone;
}

function yRangeLinear(_: uPlot, __: number | null, max: number | null): [number, number] {
	return [0, max !== null && max > 0 ? max * 1.12 : 1];
}

function yRangeLog(_: uPlot, min: number | null, max: number | null): [number, number] {
	if (min === null || max === null || !(min > 0))
		return [1e-4, 1];
	return [10 ** Math.floor(Math.log10(min)), 10 ** Math.ceil(Math.log10(max * 1.0001))];
}
