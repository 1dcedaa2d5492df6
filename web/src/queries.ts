// SPDX-License-Identifier: Apache-2.0
// Every question the page asks the server, in PromQL. The same list serves the
// history (query_range) and the live stream, so both mean the same thing.

export const LIVE_WINDOW_S = 10;
const INTERVALS_PER_WINDOW = 4; // a rate needs two samples even when some scrapes are late

export interface Query {
	key: string;
	text: string;
	by?: string; // label that splits the answer into several columns, "key:value"
	values?: readonly string[]; // of that label; anything else is counted as "other"
}

export const RETRANSMIT_TYPES = ['fast', 'timeout', 'tail_loss_probe', 'syn', 'synack', 'other'] as const;
export const FAILED_OUTCOMES =
	['refused', 'timed_out', 'reset', 'host_unreachable', 'net_unreachable', 'other'] as const;
export const OUTCOMES = ['established', ...FAILED_OUTCOMES] as const;

export function quote(value: string): string {
	return `"${value.replace(/[\\"\n]/g, (c) => (c === '\n' ? '\\n' : `\\${c}`))}"`;
}

/** The window of rate(): never shorter than what a slow scrape interval can fill. */
export function liveWindow(intervalMs: number): number {
	return Math.max(LIVE_WINDOW_S, Math.ceil(intervalMs * INTERVALS_PER_WINDOW / 1000));
}

function selector(peer: string | null): string {
	return peer === null ? '' : `{peer=${quote(peer)}}`;
}

function quantile(q: number, metric: string, by: string, window: string): string {
	return `histogram_quantile(${q}, sum${by} (rate(netsonde_tcp_${metric}${window})))`;
}

/** What the headline numbers and the charts show, for all peers or for one. */
export function chartQueries(peer: string | null, windowS: number): Query[] {
	const window = `${selector(peer)}[${windowS}s]`;
	const total = (metric: string, by = ''): string => `sum${by} (rate(netsonde_tcp_${metric}_total${window}))`;
	return [
		{ key: 'rtt50', text: quantile(0.5, 'rtt_seconds', '', window) },
		{ key: 'rtt99', text: quantile(0.99, 'rtt_seconds', '', window) },
		{ key: 'handshake50', text: quantile(0.5, 'handshake_duration_seconds', '', window) },
		{ key: 'handshake99', text: quantile(0.99, 'handshake_duration_seconds', '', window) },
		{ key: 'retransmit', text: total('retransmits', ' by (type)'), by: 'type', values: RETRANSMIT_TYPES },
		{ key: 'segments', text: total('sent_segments') },
		{ key: 'out', text: total('sent_bytes') },
		{ key: 'in', text: total('received_bytes') },
		{ key: 'outcome', text: total('connections', ' by (outcome)'), by: 'outcome', values: OUTCOMES },
		{ key: 'open', text: `sum (netsonde_tcp_open_connections${selector(peer)})` },
	];
}

/** One answer per peer and role: the rows of the table. */
export function peerQueries(windowS: number): Query[] {
	const by = ' by (peer, role)';
	const window = `[${windowS}s]`;
	const total = (metric: string, labels = by): string =>
		`sum${labels} (rate(netsonde_tcp_${metric}_total${window}))`;
	return [
		{ key: 'peer.open', text: `sum${by} (netsonde_tcp_open_connections)` },
		{ key: 'peer.outcome', text: total('connections', ' by (peer, role, outcome)') },
		{ key: 'peer.handshake99', text: quantile(0.99, 'handshake_duration_seconds', by, window) },
		{ key: 'peer.rtt50', text: quantile(0.5, 'rtt_seconds', by, window) },
		{ key: 'peer.rtt99', text: quantile(0.99, 'rtt_seconds', by, window) },
		{ key: 'peer.minRtt', text: `min${by} (netsonde_tcp_min_rtt_seconds)` },
		{ key: 'peer.retransmits', text: total('retransmits') },
		{ key: 'peer.segments', text: total('sent_segments') },
		{ key: 'peer.out', text: total('sent_bytes') },
		{ key: 'peer.in', text: total('received_bytes') },
	];
}

/** Events the kernel side could not deliver: the numbers beside it are then incomplete. */
export function lossQueries(): Query[] {
	return [{ key: 'lost', text: 'sum (increase(netsonde_lost_events_total[1m]))' }];
}

/** The column of the timeline that one series of a query's answer belongs to. */
export function columnOf(query: Query, metric: Record<string, string>): string {
	if (query.by === undefined)
		return query.key;
	const value = metric[query.by] ?? 'other';
	return `${query.key}:${query.values?.includes(value) ? value : 'other'}`;
}

/** Values the page computes itself, added to those that were asked for. */
export function derive(point: Map<string, number>): void {
	const retransmits = sumOf(point, RETRANSMIT_TYPES.map((type) => `retransmit:${type}`));
	const segments = point.get('segments');
	if (retransmits !== null)
		point.set('retransmits', retransmits);
	if (retransmits !== null && segments !== undefined && segments > 0)
		point.set('retransmitRatio', retransmits / segments);
	const outcomes = sumOf(point, OUTCOMES.map((outcome) => `outcome:${outcome}`));
	if (outcomes !== null)
		point.set('failed', sumOf(point, FAILED_OUTCOMES.map((outcome) => `outcome:${outcome}`)) ?? 0);
}

function sumOf(point: Map<string, number>, keys: string[]): number | null {
	let sum: number | null = null;
	for (const key of keys) {
		const value = point.get(key);
		if (value !== undefined)
			sum = (sum ?? 0) + value;
	}
	return sum;
}

/** A sample of the API ("1.5", "NaN", "+Inf") as a number, or null when it says nothing. */
export function sampleValue(text: unknown): number | null {
	const value = typeof text === 'string' || typeof text === 'number' ? Number(text) : NaN;
	return Number.isFinite(value) ? value : null;
}
