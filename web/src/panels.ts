// SPDX-License-Identifier: Apache-2.0
// The six subjects of the page, in the order of an investigation: is it slow, is
// it lossy, is it refused, is it busy. Each is one headline and one chart.
import type { Kind } from './format';

export interface Line { key: string; label: string; colour: string; dash?: number[]; fill?: boolean }
export interface Panel { id: string; title: string; kind: Kind; hint: string; lines: Line[]; canLog?: boolean }

export const PANELS: readonly Panel[] = [
	{
		id: 'rtt', title: 'Round-trip time', kind: 'duration', canLog: true,
		hint: 'Smoothed round-trip time of open TCP connections, as the kernel measures it',
		lines: [
			{ key: 'rtt50', label: 'p50', colour: 'blue', fill: true },
			{ key: 'rtt99', label: 'p99', colour: 'orange' },
		],
	},
	{
		id: 'handshake', title: 'Handshake', kind: 'duration', canLog: true,
		hint: 'From the first SYN until the connection is established',
		lines: [
			{ key: 'handshake50', label: 'p50', colour: 'blue', fill: true },
			{ key: 'handshake99', label: 'p99', colour: 'orange' },
		],
	},
	{
		id: 'retransmit', title: 'Retransmissions', kind: 'rate', hint: 'Segments sent again, by what caused it',
		lines: [
			{ key: 'retransmit:fast', label: 'fast', colour: 'blue' },
			{ key: 'retransmit:timeout', label: 'timeout', colour: 'red' },
			{ key: 'retransmit:tail_loss_probe', label: 'tail loss probe', colour: 'green' },
			{ key: 'retransmit:syn', label: 'SYN', colour: 'orange', dash: [6, 3] },
			{ key: 'retransmit:synack', label: 'SYN-ACK', colour: 'purple', dash: [6, 3] },
			{ key: 'retransmit:other', label: 'other', colour: 'grey', dash: [2, 3] },
		],
	},
	{
		id: 'failed', title: 'Failed connections', kind: 'rate', hint: 'Attempts that did not get a connection, by outcome',
		lines: [
			{ key: 'outcome:refused', label: 'refused', colour: 'orange' },
			{ key: 'outcome:timed_out', label: 'timed out', colour: 'red' },
			{ key: 'outcome:reset', label: 'reset', colour: 'purple' },
			{ key: 'outcome:host_unreachable', label: 'host unreachable', colour: 'blue', dash: [6, 3] },
			{ key: 'outcome:net_unreachable', label: 'net unreachable', colour: 'green', dash: [6, 3] },
			{ key: 'outcome:other', label: 'other', colour: 'grey', dash: [2, 3] },
		],
	},
	{
		id: 'throughput', title: 'Throughput', kind: 'bytes', hint: 'Payload bytes of TCP, without headers',
		lines: [
			{ key: 'in', label: 'in', colour: 'green', fill: true },
			{ key: 'out', label: 'out', colour: 'purple' },
		],
	},
	{
		id: 'opened', title: 'Connections opened', kind: 'rate', hint: 'Connections established, in both directions',
		lines: [{ key: 'outcome:established', label: 'established', colour: 'blue', fill: true }],
	},
];
