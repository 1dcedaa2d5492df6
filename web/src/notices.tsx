// SPDX-License-Identifier: Apache-2.0
// Sentences about the data that the reader must not miss: it is old, it is
// incomplete, or it is about one peer only.
import { format } from './format';
import { historyError, link, lost, peer, queryErrors, selectPeer } from './store/state';

export function Notices() {
	const { state, detail } = link.value;
	const lostNow = lost.value ?? 0;
	return (
		<div class="notices">
			{detail !== null && <p class={`notice ${state === 'partial' ? 'warning' : 'bad'}`} data-notice="link">{detail}</p>}
			{lostNow > 0 && (
				<p class="notice warning" data-notice="lost">
					{format('count', Math.max(1, lostNow))} kernel events were lost in the last minute: counts are too low.
				</p>
			)}
			{historyError.value !== null && (
				<p class="notice warning" data-notice="history">
					History is missing ({historyError.value}); trying again.
				</p>
			)}
			{queryErrors.value.length > 0 && (
				<p class="notice warning" data-notice="query">The server refused a query: {queryErrors.value[0]}</p>
			)}
			{peer.value !== null && (
				<p class="notice chosen-peer" data-notice="peer">
					<span>Numbers and charts: only <strong>{peer.value}</strong></span>
					<button type="button" onClick={() => selectPeer(null)}>Show all peers</button>
				</p>
			)}
		</div>
	);
}
