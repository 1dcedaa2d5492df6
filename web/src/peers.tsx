// SPDX-License-Identifier: Apache-2.0
// The table of peers. While the pointer or the focus is on a row the order is
// held, so that nothing moves away from under a click; values stay live.
import { useRef, useState } from 'preact/hooks';
import { format, type ByteUnit } from './format';
import { isLossy } from './headline';
import { COLUMNS, holdOrder, type Column, type PeerRow } from './store/peers';
import { peer as chosenPeer, rows as allRows, selectPeer, setView, shownRows, unit, view } from './store/state';

const FIRST_ROWS = 100;

export function Peers() {
	const [everything, setEverything] = useState(false);
	const [held, setHeld] = useState(false);
	const heldIds = useRef<string[]>([]);
	const sorted = shownRows.value;
	const ordered = sorted === null ? [] : held ? holdOrder(sorted, heldIds.current) : sorted;
	const shown = everything ? ordered : ordered.slice(0, FIRST_ROWS);
	const hold = (): void => {
		if (!held)
			heldIds.current = ordered.map((row) => row.id);
		setHeld(true);
	};
	const release = (event: Event): void => {
		const body = event.currentTarget as HTMLElement;
		const next = (event as FocusEvent).relatedTarget as Node | null;
		if (next === null || !body.contains(next))
			setHeld(false);
	};

	return (
		<section class="peers" aria-labelledby="peers-title">
			<header class="panel-head">
				<h2 id="peers-title">Peers <span class="count">{countText(sorted)}</span></h2>
				{held && sorted !== null && sorted.length > 1 && <span class="note">order held</span>}
				<Filter />
			</header>
			<div class="table-wrap" role="region" aria-label="Table of peers" tabIndex={0}>
				<table>
					<thead><tr>{COLUMNS.map((column) => <Heading key={column.key} column={column} />)}</tr></thead>
					<tbody onPointerEnter={hold} onPointerLeave={release} onFocusCapture={hold} onBlurCapture={release}>
						{shown.map((row) => <Row key={row.id} row={row} chosen={row.peer === chosenPeer.value} bytes={unit.value} />)}
					</tbody>
				</table>
				{ordered.length === 0 && <p class="nothing">{emptyText(sorted)}</p>}
			</div>
			{ordered.length > shown.length && (
				<button type="button" class="more" onClick={() => setEverything(true)}>
					Show all {ordered.length} rows
				</button>
			)}
		</section>
	);
}

function countText(sorted: readonly PeerRow[] | null): string {
	const total = allRows.value?.length ?? 0;
	if (sorted === null || total === 0)
		return '';
	return sorted.length === total ? `${total} rows` : `${sorted.length} of ${total} rows`;
}

function emptyText(sorted: readonly PeerRow[] | null): string {
	if (sorted === null || (allRows.value?.length ?? 0) === 0)
		return 'no data yet';
	return `No peer matches “${view.value.filter}”.`;
}

function Filter() {
	return (
		<label class="filter">
			<span class="sr-only">Filter peers</span>
			<input type="search" placeholder="Filter peers" value={view.value.filter} spellcheck={false} autocomplete="off"
				onInput={(event) => setView({ filter: event.currentTarget.value })} />
		</label>
	);
}

function Heading({ column }: { column: Column }) {
	const { key, descending } = view.value.sort;
	const active = key === column.key;
	const sort = (): void =>
		setView({ sort: { key: column.key, descending: active ? !descending : column.kind !== 'text' } });
	return (
		<th scope="col" class={column.kind === 'text' ? 'text' : 'numeric'} data-column={column.key}
			aria-sort={active ? (descending ? 'descending' : 'ascending') : 'none'}>
			<button type="button" title={column.hint} onClick={sort}>
				{column.title}<span class="arrow" aria-hidden="true">{active ? (descending ? '▼' : '▲') : ''}</span>
			</button>
		</th>
	);
}

function Row({ row, chosen, bytes }: { row: PeerRow; chosen: boolean; bytes: ByteUnit }) {
	return (
		<tr class={chosen ? 'chosen' : undefined} data-row={row.id} onClick={() => selectPeer(row.peer)}>
			{COLUMNS.map((column) => <Cell key={column.key} row={row} column={column} chosen={chosen} bytes={bytes} />)}
		</tr>
	);
}

function Cell({ row, column, chosen, bytes }: { row: PeerRow; column: Column; chosen: boolean; bytes: ByteUnit }) {
	const value = row[column.key];
	if (column.key === 'peer')
		return (
			<th scope="row" class="text">
				<button type="button" aria-pressed={chosen} title={`${row.peer}: show only this peer in the charts`}
					onClick={(event) => { event.stopPropagation(); selectPeer(row.peer); }}>
					{row.peer === '' ? '(no name)' : row.peer}
				</button>
			</th>
		);
	if (column.kind === 'text')
		return <td class="text">{value}</td>;
	if (value === null)
		return <td class="numeric unknown" data-value=""><span aria-hidden="true">–</span><span class="sr-only">no data yet</span></td>;
	const number = value as number;
	const trouble = (column.key === 'failed' && number > 0) || (column.key === 'retransmit' && isLossy(number));
	const quiet = number === 0;
	return (
		<td class={`numeric${trouble ? ' trouble' : ''}${quiet ? ' quiet' : ''}`} data-value={number}>
			{format(column.kind as Exclude<Column['kind'], 'text'>, number, bytes)}
		</td>
	);
}
