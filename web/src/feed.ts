// SPDX-License-Identifier: Apache-2.0
// Feeds the state: history first, then live frames on top, and history again
// for whatever was missed. Frames are applied together, once per animation
// frame. Long ranges have steps longer than the live window; their live tail is
// replaced by range queries as soon as a step is complete.
import { batch, effect } from '@preact/signals';
import { fetchHistory, gridOf, type Grid } from './history';
import { chartQueries, columnOf, derive, liveWindow, lossQueries, peerQueries, sampleValue, type Query } from './queries';
import { RANGES, type Range } from './store/hash';
import { allDown } from './store/link';
import { peerRows } from './store/peers';
import * as state from './store/state';
import type { Row } from './store/timeline';
import { openStream, type Frame, type Hello } from './stream';

const STEPS: Record<Range, number> = { '5m': 1, '15m': 2, '1h': 10, '6h': 60, '24h': 240 };
const RETRY_HISTORY_MS = 5000;

let closeStream: (() => void) | null = null;
let queries: Query[] = [];
let pending: Frame[] = [];
let scheduled = 0;
let loading: AbortController | null = null;
let settled = 0; // up to here the timeline comes from range queries (or is as good)

export function startFeed(): void {
	let last: { peer: string | null; range: Range } | null = null;
	effect(() => {
		const next = { peer: state.peer.value, range: state.range.value };
		if (last === null || next.peer !== last.peer)
			restart(next.peer);
		else if (next.range !== last.range)
			loadRange();
		last = next;
	});
}

/** Other queries: a new stream. Points of the old question must not stand under the new one. */
function restart(peer: string | null): void {
	closeStream?.();
	loading?.abort();
	pending = [];
	state.timeline.clear();
	settled = 0;
	const windowS = liveWindow(state.intervalMs.peek());
	queries = [...chartQueries(peer, windowS), ...peerQueries(windowS), ...lossQueries()];
	batch(() => {
		state.historyLoading.value = true;
		state.revision.value++;
	});
	closeStream = openStream(queries, { hello: onHello, frame: onFrame, lost: onLost });
}

function onHello(hello: Hello): void {
	const slower = liveWindow(hello.intervalMs) !== liveWindow(state.intervalMs.peek());
	batch(() => {
		state.connectedSince.value ??= performance.now(); // a stream with other queries is no new connection
		state.disconnectedSince.value = null;
		state.version.value = hello.version;
		state.intervalMs.value = hello.intervalMs;
	});
	if (slower)
		restart(state.peer.peek());
	else
		loadRange(hello.now);
}

function onLost(): void {
	if (state.connectedSince.peek() === null && state.disconnectedSince.peek() !== null)
		return;
	batch(() => {
		state.connectedSince.value = null;
		state.disconnectedSince.value = performance.now();
		state.clock.value = performance.now();
	});
}

function onFrame(frame: Frame): void {
	pending.push(frame);
	if (document.hidden)
		applyFrames(); // no animation frames there: frames must not pile up
	else if (scheduled === 0)
		scheduled = requestAnimationFrame(applyFrames);
}

function applyFrames(): void {
	scheduled = 0;
	const frames = pending;
	pending = [];
	const last = frames[frames.length - 1];
	if (last === undefined)
		return;
	for (const frame of frames)
		state.timeline.append(rowOf(frame), maxGap());
	state.timeline.trim(last.t - RANGES[state.range.peek()] - 2 * step());
	const losses = last.results.get('lost')?.map((sample) => sampleValue(sample.value)) ?? [];
	batch(() => {
		state.frameTime.value = last.t;
		state.frameAt.value = state.clock.value = performance.now();
		state.targets.value = last.targets;
		if (!allDown(last.targets))
			state.rows.value = peerRows(last.results);
		state.lost.value = losses[0] ?? null;
		if (last.errors.join() !== state.queryErrors.peek().join())
			state.queryErrors.value = last.errors;
		state.revision.value++;
	});
	settleTail(last.t);
}

function rowOf(frame: Frame): Row {
	const values = new Map<string, number>();
	for (const query of allDown(frame.targets) ? [] : queries) {
		if (query.key.startsWith('peer.'))
			continue;
		for (const sample of frame.results.get(query.key) ?? []) {
			const value = sampleValue(sample.value);
			const column = columnOf(query, sample.metric);
			if (value !== null)
				values.set(column, (values.get(column) ?? 0) + value);
		}
	}
	derive(values);
	return { t: frame.t, values };
}

function step(): number {
	return STEPS[state.range.peek()];
}

function maxGap(): number {
	return Math.max(3 * state.intervalMs.peek() / 1000, 1.5 * step());
}

/** The whole range, or after an interruption only what is missing. */
function loadRange(serverNow?: number): void {
	const now = serverNow ?? state.frameTime.peek();
	if (now === null)
		return; // the hello will bring us back
	load(gridOf(now - RANGES[state.range.peek()], now, step()));
}

function settleTail(now: number): void {
	const size = step();
	if (size <= liveWindow(state.intervalMs.peek()) || loading !== null || settled === 0 || now - settled < 2 * size)
		return;
	load(gridOf(settled + size, now, size));
}

function load(grid: Grid): void {
	loading?.abort();
	const control = new AbortController();
	loading = control;
	const asked = chartQueries(state.peer.peek(), Math.max(liveWindow(state.intervalMs.peek()), grid.step));
	fetchHistory(asked, grid, control.signal).then((fetched) => {
		if (control.signal.aborted)
			return;
		loading = null;
		settled = grid.to;
		state.timeline.splice(grid.from, grid.to, fetched);
		finishLoading(null);
	}, (error: unknown) => {
		if (control.signal.aborted)
			return;
		finishLoading(error instanceof Error ? error.message : String(error));
		setTimeout(() => {
			if (loading === control)
				loadRange();
		}, RETRY_HISTORY_MS);
	});
}

function finishLoading(error: string | null): void {
	batch(() => {
		state.historyLoading.value = false;
		state.historyError.value = error;
		state.revision.value++;
	});
}
