// SPDX-License-Identifier: Apache-2.0
// The numbers to read first. A value that is not current any more (nothing was
// measured lately) stays, says how old it is and steps back.
import { age, format, scale, type Kind } from './format';
import { FAILED_OUTCOMES } from './queries';
import { Sparkline } from './sparkline';
import { chartSpan, frameTime, historyLoading, intervalMs, points, unit } from './store/state';

interface Figure { key: string; label: string; kind: Kind; trouble?: (value: number) => boolean }
interface Card { id: string; title: string; figures: Figure[]; spark: string; colour: string }

const RETRANSMIT_TROUBLE = 0.01;
export const isLossy = (ratio: number): boolean => ratio >= RETRANSMIT_TROUBLE;
const isAny = (value: number): boolean => value > 0;

const CARDS: readonly Card[] = [
	{
		id: 'rtt', title: 'Round-trip time', spark: 'rtt99', colour: 'orange',
		figures: [
			{ key: 'rtt50', label: 'p50', kind: 'duration' },
			{ key: 'rtt99', label: 'p99', kind: 'duration' },
		],
	},
	{
		id: 'handshake', title: 'Handshake', spark: 'handshake99', colour: 'orange',
		figures: [
			{ key: 'handshake50', label: 'p50', kind: 'duration' },
			{ key: 'handshake99', label: 'p99', kind: 'duration' },
		],
	},
	{
		id: 'retransmit', title: 'Retransmitted', spark: 'retransmitRatio', colour: 'blue',
		figures: [
			{ key: 'retransmitRatio', label: 'share', kind: 'ratio', trouble: isLossy },
			{ key: 'retransmits', label: 'rate', kind: 'rate' },
		],
	},
	{
		id: 'failed', title: 'Failed connections', spark: 'failed', colour: 'red',
		figures: [{ key: 'failed', label: 'rate', kind: 'rate', trouble: isAny }],
	},
	{
		id: 'throughput', title: 'Throughput', spark: 'in', colour: 'green',
		figures: [
			{ key: 'in', label: 'in', kind: 'bytes' },
			{ key: 'out', label: 'out', kind: 'bytes' },
		],
	},
	{
		id: 'connections', title: 'Connections', spark: 'open', colour: 'blue',
		figures: [
			{ key: 'open', label: 'open', kind: 'count' },
			{ key: 'outcome:established', label: 'opened', kind: 'rate' },
		],
	},
];

export function Headlines() {
	const { times } = points();
	const [from, to] = chartSpan.value;
	return (
		<section class="headlines" aria-label="Headline numbers">
			{CARDS.map((card) => (
				<article class="card" key={card.id}>
					<h2>{card.title}</h2>
					<dl>
						{card.figures.map((figure) => <FigureValue key={figure.key} figure={figure} />)}
						{card.id === 'failed' && <Outcomes />}
					</dl>
					<Sparkline times={times} cells={points().column(card.spark)} colour={card.colour}
						from={from} to={to} />
				</article>
			))}
		</section>
	);
}

function FigureValue({ figure }: { figure: Figure }) {
	const latest = points().latest(figure.key);
	const label = <dt>{figure.label}</dt>;
	if (latest === null)
		return (
			<div class="figure">
				{label}
				<dd class="unknown" data-headline={figure.key} data-value="">{historyLoading.value ? 'loading' : 'no data yet'}</dd>
			</div>
		);
	const oldS = (frameTime.value ?? latest.t) - latest.t;
	const isOld = oldS > 3 * intervalMs.value / 1000 + 1;
	const { text, unit: unitText } = scale(figure.kind, latest.value, unit.value);
	const trouble = !isOld && figure.trouble?.(latest.value) === true;
	return (
		<div class={`figure${isOld ? ' old' : ''}${trouble ? ' trouble' : ''}`}>
			{label}
			<dd data-headline={figure.key} data-value={latest.value}>
				<span class="number">{text}</span><span class="unit">{unitText}</span>
				{isOld && <span class="ago">{age(oldS)} ago</span>}
			</dd>
		</div>
	);
}

/** What the failures are: the two most frequent by name. */
function Outcomes() {
	const failing = FAILED_OUTCOMES
		.map((outcome) => ({ outcome, value: points().column(`outcome:${outcome}`)[points().times.length - 1] ?? 0 }))
		.filter(({ value }) => value > 0)
		.sort((a, b) => b.value - a.value);
	if (failing.length === 0)
		return null;
	const shown = failing.slice(0, 2).map(({ outcome, value }) => (
		<dd class="outcome" key={outcome}>{outcome.replace('_', ' ')} <b>{format('rate', value)}</b></dd>
	));
	const rest = failing.length - shown.length;
	return (
		<div class="figure outcomes">
			<dt>by outcome</dt>
			{shown}
			{rest > 0 && <dd class="outcome">and {rest} more</dd>}
		</div>
	);
}
