// SPDX-License-Identifier: Apache-2.0
// What the page may claim about its own data: a pure function of what was
// received and when, so that every state can be tested.
import { age } from '../format';

export interface Target { name: string; up: boolean; age_s: number | null }

export type LinkState = 'connecting' | 'live' | 'partial' | 'reconnecting' | 'stale' | 'down';

export interface LinkInput {
	connectedSinceMs: number | null; // null: not connected
	disconnectedSinceMs: number | null;
	lastFrameMs: number | null; // when the last frame arrived
	nowMs: number;
	intervalMs: number;
	targets: Target[];
}

export interface Link {
	state: LinkState;
	label: string; // short, beside the dot
	detail: string | null; // a sentence, when there is something to say
	dim: boolean; // the numbers on the page are not current
}

const MIN_STALE_MS = 5000;

/** Frames that are later than this make the data stale. */
export function staleAfterMs(intervalMs: number): number {
	return Math.max(MIN_STALE_MS, intervalMs * 3);
}

export function linkOf(input: LinkInput): Link {
	const dataAgeMs = input.lastFrameMs === null ? null : input.nowMs - input.lastFrameMs;
	const late = dataAgeMs !== null && dataAgeMs > staleAfterMs(input.intervalMs);
	if (input.connectedSinceMs === null)
		return disconnected(input, dataAgeMs, late);
	if (input.lastFrameMs === null || input.lastFrameMs < input.connectedSinceMs)
		return waiting(input.nowMs - input.connectedSinceMs, dataAgeMs, input.intervalMs);
	return late ? silent(dataAgeMs!) : ofTargets(input.targets);
}

/** Connected, and nothing came over this connection yet. What is shown may be from the one before. */
function waiting(waitedMs: number, dataAgeMs: number | null, intervalMs: number): Link {
	const limitMs = staleAfterMs(intervalMs);
	if (waitedMs <= limitMs)
		return { state: 'connecting', label: 'connecting', detail: null, dim: dataAgeMs === null || dataAgeMs > limitMs };
	if (dataAgeMs !== null)
		return silent(dataAgeMs);
	return {
		state: 'stale', label: 'no data', dim: true,
		detail: `The server answers but has sent no data yet, for ${age(waitedMs / 1000)}.`,
	};
}

function silent(dataAgeMs: number): Link {
	return {
		state: 'stale', label: `stale, ${age(dataAgeMs / 1000)} old`, dim: true,
		detail: `The server answers but has sent no data for ${age(dataAgeMs / 1000)}.`,
	};
}

function disconnected(input: LinkInput, dataAgeMs: number | null, late: boolean): Link {
	if (input.disconnectedSinceMs === null)
		return { state: 'connecting', label: 'connecting', detail: null, dim: true };
	const since = age((input.nowMs - input.disconnectedSinceMs) / 1000);
	const data = dataAgeMs === null ? 'Nothing was received yet.' : `The data is ${age(dataAgeMs / 1000)} old.`;
	return {
		state: 'reconnecting', label: `reconnecting, ${since}`, dim: late || dataAgeMs === null,
		detail: `No connection to the server for ${since}; trying again. ${data}`,
	};
}

/** No source of data is left: what rates still say is an echo of their window. */
export function allDown(targets: readonly Target[]): boolean {
	return targets.length > 0 && targets.every((target) => !target.up);
}

function ofTargets(targets: Target[]): Link {
	const down = targets.filter((target) => !target.up);
	if (down.length === 0)
		return { state: 'live', label: 'live', detail: null, dim: false };
	const shown = down.slice(0, 3).map(describe).join(', ') + (down.length > 3 ? ` and ${down.length - 3} more` : '');
	if (allDown(targets))
		return {
			state: 'down', label: targets.length === 1 ? 'agent down' : 'all agents down', dim: true,
			detail: `The server cannot reach ${shown}. What is shown is from before.`,
		};
	return {
		state: 'partial', label: `${down.length} of ${targets.length} agents down`, dim: false,
		detail: `Missing from these numbers: ${shown}.`,
	};
}

function describe(target: Target): string {
	return target.age_s === null ? `“${target.name}” (no data yet)` : `“${target.name}” (last data ${age(target.age_s)} ago)`;
}
