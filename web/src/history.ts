// SPDX-License-Identifier: Apache-2.0
// What happened before the page was opened, and while it was cut off: range
// queries, merged into rows on one grid. A step without any value stays in the
// grid as an empty row, so that it is a gap in the chart.
import { columnOf, derive, sampleValue, type Query } from './queries';
import type { Row } from './store/timeline';

interface Answer {
	status?: string;
	error?: string;
	data?: { result?: { metric: Record<string, string>; values?: [number, string][] }[] };
}

export interface Grid { from: number; to: number; step: number }

/** The grid of a range that ends now: multiples of the step, so that equal views ask equal questions. */
export function gridOf(from: number, to: number, step: number): Grid {
	return { from: Math.ceil(from / step) * step, to: Math.floor(to / step) * step, step };
}

export async function fetchHistory(queries: readonly Query[], grid: Grid, signal: AbortSignal): Promise<Row[]> {
	if (grid.to < grid.from)
		return [];
	const answers = await Promise.all(queries.map((query) => fetchOne(query, grid, signal)));
	return rowsOf(queries, answers, grid);
}

async function fetchOne(query: Query, grid: Grid, signal: AbortSignal): Promise<Answer> {
	const params = new URLSearchParams({
		query: query.text, start: String(grid.from), end: String(grid.to), step: String(grid.step),
	});
	const response = await fetch(`/api/v1/query_range?${params}`, { signal });
	let answer: Answer;
	try {
		answer = await response.json() as Answer;
	} catch {
		throw new Error(`the server answered ${response.status} without JSON`);
	}
	if (answer.status !== 'success')
		throw new Error(answer.error ?? `the server answered ${response.status}`);
	return answer;
}

export function rowsOf(queries: readonly Query[], answers: readonly Answer[], grid: Grid): Row[] {
	const rows: Row[] = [];
	const count = Math.round((grid.to - grid.from) / grid.step) + 1;
	for (let i = 0; i < count; i++)
		rows.push({ t: grid.from + i * grid.step, values: new Map() });
	answers.forEach((answer, i) => {
		for (const series of answer.data?.result ?? []) {
			const column = columnOf(queries[i]!, series.metric);
			for (const [t, text] of series.values ?? []) {
				const row = rows[Math.round((t - grid.from) / grid.step)];
				const value = sampleValue(text);
				if (row !== undefined && value !== null)
					row.values.set(column, (row.values.get(column) ?? 0) + value);
			}
		}
	});
	for (const row of rows)
		derive(row.values);
	return rows;
}
