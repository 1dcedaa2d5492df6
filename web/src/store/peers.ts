// SPDX-License-Identifier: Apache-2.0
// The rows of the peer table: built from one live frame, then filtered and
// sorted. Labels come from the network's other end and stay plain strings.
import type { Kind } from '../format';
import { sampleValue } from '../queries';

export interface Sample { metric: Record<string, string>; value: unknown }

export interface PeerRow {
	id: string; // unique: peer and role
	peer: string;
	role: string;
	open: number | null;
	opened: number | null;
	failed: number | null;
	handshake99: number | null;
	rtt50: number | null;
	rtt99: number | null;
	minRtt: number | null;
	retransmit: number | null;
	in: number | null;
	out: number | null;
}

export type ColumnKey = Exclude<keyof PeerRow, 'id'>;

export interface Column { key: ColumnKey; title: string; hint: string; kind: Kind | 'text' }

export const COLUMNS: readonly Column[] = [
	{ key: 'peer', title: 'Peer', kind: 'text', hint: 'The other end: a network by name, an address, or "other"' },
	{ key: 'role', title: 'Role', kind: 'text', hint: 'What this host is: the client connected, the server accepted' },
	{ key: 'open', title: 'Open', kind: 'count', hint: 'Connections open now' },
	{ key: 'opened', title: 'Opened', kind: 'rate', hint: 'Connections established per second' },
	{ key: 'failed', title: 'Failed', kind: 'rate', hint: 'Connection attempts that failed per second, all causes' },
	{ key: 'handshake99', title: 'Handshake p99', kind: 'duration', hint: '99 of 100 handshakes took at most this long' },
	{ key: 'rtt50', title: 'RTT p50', kind: 'duration', hint: 'Half of the round trips took at most this long' },
	{ key: 'rtt99', title: 'RTT p99', kind: 'duration', hint: '99 of 100 round trips took at most this long' },
	{ key: 'minRtt', title: 'RTT min', kind: 'duration', hint: 'The lowest round-trip time of the open connections' },
	{ key: 'retransmit', title: 'Retrans.', kind: 'ratio', hint: 'Retransmitted segments, of all sent segments' },
	{ key: 'in', title: 'In', kind: 'bytes', hint: 'Received per second' },
	{ key: 'out', title: 'Out', kind: 'bytes', hint: 'Sent per second' },
];
export const COLUMN_KEYS: readonly ColumnKey[] = COLUMNS.map((column) => column.key);

type Field = Exclude<ColumnKey, 'peer' | 'role'>;

const PLAIN: readonly [string, Field][] = [
	['peer.open', 'open'], ['peer.handshake99', 'handshake99'], ['peer.rtt50', 'rtt50'], ['peer.rtt99', 'rtt99'],
	['peer.minRtt', 'minRtt'], ['peer.in', 'in'], ['peer.out', 'out'],
];

export function rowId(peer: string, role: string): string {
	return JSON.stringify([peer, role]);
}

export function peerRows(results: ReadonlyMap<string, Sample[]>): PeerRow[] {
	const rows = new Map<string, PeerRow>();
	const rowOf = (metric: Record<string, string>): PeerRow => {
		const peer = metric.peer ?? '', role = metric.role ?? '';
		const id = rowId(peer, role);
		let row = rows.get(id);
		if (row === undefined) {
			row = {
				id, peer, role, open: null, opened: null, failed: null, handshake99: null, rtt50: null,
				rtt99: null, minRtt: null, retransmit: null, in: null, out: null,
			};
			rows.set(id, row);
		}
		return row;
	};
	for (const [query, field] of PLAIN)
		for (const sample of results.get(query) ?? [])
			rowOf(sample.metric)[field] = sampleValue(sample.value);
	for (const sample of results.get('peer.outcome') ?? []) {
		const value = sampleValue(sample.value);
		if (value === null)
			continue;
		const row = rowOf(sample.metric);
		const established = sample.metric.outcome === 'established';
		row.opened = (row.opened ?? 0) + (established ? value : 0);
		row.failed = (row.failed ?? 0) + (established ? 0 : value);
	}
	addRetransmits(rows, results);
	return [...rows.values()];
}

/** Retransmissions may come per peer only; all roles of the peer then share the ratio of the peer. */
function addRetransmits(rows: Map<string, PeerRow>, results: ReadonlyMap<string, Sample[]>): void {
	const sent = new Map<string, number>();
	const add = (key: string, value: number): void => void sent.set(key, (sent.get(key) ?? 0) + value);
	for (const sample of results.get('peer.segments') ?? []) {
		const value = sampleValue(sample.value);
		if (value === null)
			continue;
		const { peer = '', role = '' } = sample.metric;
		add(rowId(peer, role), value);
		if (role !== '')
			add(rowId(peer, ''), value);
	}
	for (const sample of results.get('peer.retransmits') ?? []) {
		const value = sampleValue(sample.value);
		const { peer = '', role = '' } = sample.metric;
		const segments = sent.get(rowId(peer, role)) ?? 0;
		if (value === null || segments <= 0)
			continue;
		for (const row of rows.values())
			if (row.peer === peer && (role === '' || row.role === role))
				row.retransmit = value / segments;
	}
}

export function filterRows(rows: readonly PeerRow[], filter: string): PeerRow[] {
	const words = filter.toLowerCase().split(/\s+/).filter((word) => word !== '');
	return rows.filter((row) => {
		const text = `${row.peer} ${row.role}`.toLowerCase();
		return words.every((word) => text.includes(word));
	});
}

const collator = new Intl.Collator('en', { numeric: true });

/** Sorted copy. Unknown is last in both directions; equal rows keep the order of their names. */
export function sortRows(rows: readonly PeerRow[], key: ColumnKey, descending: boolean): PeerRow[] {
	const sign = descending ? -1 : 1;
	return [...rows].sort((a, b) => {
		const x = a[key], y = b[key];
		if (x === null || y === null) {
			if (x !== y)
				return x === null ? 1 : -1;
		} else if (x !== y) {
			const order = typeof x === 'string' ? collator.compare(x, y as string) : x - (y as number);
			if (order !== 0)
				return sign * order;
		}
		return collator.compare(a.peer, b.peer) || collator.compare(a.role, b.role);
	});
}

/** Rows in the order of ids as far as those exist; new rows follow. */
export function holdOrder(rows: readonly PeerRow[], ids: readonly string[]): PeerRow[] {
	const place = new Map(ids.map((id, i) => [id, i]));
	return rows
		.map((row, i) => ({ row, at: place.get(row.id) ?? ids.length + i }))
		.sort((a, b) => a.at - b.at)
		.map(({ row }) => row);
}
