// SPDX-License-Identifier: Apache-2.0
// A word-sized chart: shape only, no axis. Peaks survive, gaps stay gaps.
import { peaks, type Cell } from './store/timeline';

const WIDTH = 120, HEIGHT = 28, POINTS = 60;

interface Props { times: number[]; cells: Cell[]; from: number; to: number; colour: string }

export function Sparkline({ times, cells, from, to, colour }: Props) {
	const points = peaks(times, cells, from, to, POINTS);
	const shown = points.some((point) => point !== null && point > 0) ? colour : 'grey'; // nothing to see in a flat zero
	return (
		<svg class="sparkline" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
			<path class="area" d={pathOf(points, true)} style={{ fill: `var(--${shown})` }} />
			<path class="line" d={pathOf(points, false)} style={{ stroke: `var(--${shown})` }} />
		</svg>
	);
}

export function pathOf(points: readonly Cell[], area: boolean): string {
	const max = points.reduce<number>((top, point) => Math.max(top, point ?? 0), 0);
	const x = (i: number): string => ((i + 0.5) / points.length * WIDTH).toFixed(1);
	let path = '', drawing = false;
	points.forEach((point, i) => {
		if (point !== null) {
			const y = HEIGHT - 2 - (max > 0 ? point / max : 0) * (HEIGHT - 4);
			if (drawing)
				path += `L${x(i)} ${y.toFixed(1)}`;
			else // a lone point is a dot
				path += area ? `M${x(i)} ${HEIGHT}L${x(i)} ${y.toFixed(1)}` : `M${x(i)} ${y.toFixed(1)}h0.1`;
		} else if (drawing && area) {
			path += `L${x(i - 1)} ${HEIGHT}Z`;
		}
		drawing = point !== null;
	});
	return drawing && area ? `${path}L${x(points.length - 1)} ${HEIGHT}Z` : path;
}
