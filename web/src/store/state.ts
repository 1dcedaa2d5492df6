// SPDX-License-Identifier: Apache-2.0
// The page's state. `view` is what the user chose and lives in the address;
// the rest is what the server said and is written by feed.ts alone.
import { computed, effect, signal } from '@preact/signals';
import { linkOf, type Target } from './link';
import { RANGES, viewFromHash, viewToHash, type View } from './hash';
import { filterRows, sortRows, type PeerRow } from './peers';
import { Timeline } from './timeline';

export const view = signal<View>(viewFromHash(location.hash));

const ADDRESS_DELAY_MS = 150; // browsers refuse an address that changes with every key
let addressTimer: ReturnType<typeof setTimeout> | undefined;

/** A step that the Back button undoes is a push; everything else replaces. */
export function setView(change: Partial<View>, push = false): void {
	view.value = { ...view.peek(), ...change };
	clearTimeout(addressTimer);
	if (push)
		history.pushState(null, '', address());
	else
		addressTimer = setTimeout(() => history.replaceState(null, '', address()), ADDRESS_DELAY_MS);
}

function address(): string {
	return viewToHash(view.peek()) || location.pathname + location.search;
}

export function selectPeer(peer: string | null): void {
	setView({ peer: peer === view.peek().peer ? null : peer }, true);
}

export function followAddress(): void {
	const read = (): void => {
		clearTimeout(addressTimer);
		view.value = viewFromHash(location.hash);
	};
	addEventListener('popstate', read);
	addEventListener('hashchange', read);
}

const SPAN_MIN_S = 60;

/** The points of all charts; `revision` says that they changed. */
export const timeline = new Timeline();
export const revision = signal(0);

/** The points as components must read them: a component that read no signal would never be rendered again. */
export function points(): Timeline {
	revision.value;
	return timeline;
}

export const rows = signal<readonly PeerRow[] | null>(null); // null: no frame yet
export const lost = signal<number | null>(null);
export const targets = signal<Target[]>([]);
export const version = signal('');
export const intervalMs = signal(1000);
export const historyError = signal<string | null>(null);
export const historyLoading = signal(true);
export const queryErrors = signal<string[]>([]);

/** Server time (Unix seconds) of the newest frame, and when it arrived (performance.now()). */
export const frameTime = signal<number | null>(null);
export const frameAt = signal<number | null>(null);
export const connectedSince = signal<number | null>(null);
export const disconnectedSince = signal<number | null>(null);
export const clock = signal(performance.now());

export const link = computed(() => linkOf({
	connectedSinceMs: connectedSince.value, disconnectedSinceMs: disconnectedSince.value, lastFrameMs: frameAt.value,
	nowMs: Math.max(clock.value, frameAt.value ?? 0), intervalMs: intervalMs.value, targets: targets.value,
}));

/** Where charts end: the newest frame, and beyond it while none comes, so that silence shows as a gap. */
export const chartEnd = computed(() => {
	if (frameTime.value === null || frameAt.value === null)
		return null;
	return link.value.state === 'live' || link.value.state === 'partial'
		? frameTime.value : frameTime.value + Math.max(0, clock.value - frameAt.value) / 1000;
});

/** What charts show: the chosen range, or less while there is not that much data. */
export const chartSpan = computed((): [number, number] => {
	const end = chartEnd.value ?? points().lastTime ?? Date.now() / 1000;
	const first = points().firstKnown ?? end;
	return [Math.max(end - RANGES[view.value.range], Math.min(first, end - SPAN_MIN_S)), end];
});

const sortKey = computed(() => view.value.sort.key);
const sortDescending = computed(() => view.value.sort.descending);
const filter = computed(() => view.value.filter);
export const shownRows = computed(() =>
	rows.value === null ? null
		: sortRows(filterRows(rows.value, filter.value), sortKey.value, sortDescending.value));

export const range = computed(() => view.value.range);
export const peer = computed(() => view.value.peer);
export const chartScale = computed(() => view.value.scale);
export const unit = computed(() => view.value.unit);

export function startClock(): void {
	setInterval(() => { clock.value = performance.now(); }, 1000);
	effect(() => {
		const state = link.value.state;
		document.title = state === 'live' ? 'NetSonde' : `(${state}) NetSonde`;
	});
}

