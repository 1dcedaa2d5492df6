// SPDX-License-Identifier: Apache-2.0
// The view (what is looked at, not the data) as the part of the address after
// "#", so that a link shows a colleague the same thing. Unknown keys and values
// are ignored: links of other versions must open.
import type { ByteUnit } from '../format';
import { COLUMN_KEYS, type ColumnKey } from './peers';

export const RANGES = { '5m': 300, '15m': 900, '1h': 3600, '6h': 21600, '24h': 86400 } as const;
export type Range = keyof typeof RANGES;
export type Theme = 'auto' | 'dark' | 'light';
export type Scale = 'linear' | 'log';
export interface Sort { key: ColumnKey; descending: boolean }

export interface View {
	range: Range;
	peer: string | null;
	sort: Sort;
	filter: string;
	theme: Theme;
	scale: Scale;
	unit: ByteUnit;
}

export const DEFAULT_VIEW: View = {
	range: '5m', peer: null, sort: { key: 'rtt99', descending: true },
	filter: '', theme: 'auto', scale: 'linear', unit: 'bytes',
};

const MAX_TEXT = 200;

export function viewToHash(view: View): string {
	const params = new URLSearchParams();
	if (view.range !== DEFAULT_VIEW.range)
		params.set('range', view.range);
	if (view.peer !== null)
		params.set('peer', view.peer);
	const sort = (view.sort.descending ? '-' : '') + view.sort.key;
	if (sort !== '-rtt99')
		params.set('sort', sort);
	if (view.filter !== '')
		params.set('filter', view.filter);
	for (const key of ['theme', 'scale', 'unit'] as const)
		if (view[key] !== DEFAULT_VIEW[key])
			params.set(key, view[key]);
	const text = params.toString();
	return text === '' ? '' : `#${text}`;
}

export function viewFromHash(hash: string): View {
	const params = new URLSearchParams(hash.replace(/^#/, ''));
	const range = params.get('range') ?? '';
	const sort = params.get('sort') ?? '';
	const sortKey = sort.replace(/^-/, '') as ColumnKey;
	const peer = params.get('peer');
	return {
		range: Object.hasOwn(RANGES, range) ? range as Range : DEFAULT_VIEW.range,
		peer: peer === null || peer === '' ? null : peer.slice(0, MAX_TEXT),
		sort: COLUMN_KEYS.includes(sortKey) ? { key: sortKey, descending: sort.startsWith('-') } : DEFAULT_VIEW.sort,
		filter: (params.get('filter') ?? '').slice(0, MAX_TEXT),
		theme: oneOf(params.get('theme'), ['auto', 'dark', 'light'], DEFAULT_VIEW.theme),
		scale: oneOf(params.get('scale'), ['linear', 'log'], DEFAULT_VIEW.scale),
		unit: oneOf(params.get('unit'), ['bytes', 'bits'], DEFAULT_VIEW.unit),
	};
}

function oneOf<T extends string>(value: string | null, allowed: T[], fallback: T): T {
	return allowed.includes(value as T) ? value as T : fallback;
}
