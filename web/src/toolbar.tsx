// SPDX-License-Identifier: Apache-2.0
// The head of the page: what this is, whether it is live, and how to look at it.
import { Choice } from './choice';
import { clockTime } from './format';
import { RANGES, type Range } from './store/hash';
import { frameTime, link, setView, version } from './store/state';
import { theme } from './theme';

export function Toolbar() {
	return (
		<header class="toolbar">
			<h1 title={version.value === '' ? undefined : `NetSonde ${version.value}`}>
				<svg viewBox="4 5 26 18" aria-hidden="true">
					<path d="M4 18h6l3-10 5 17 4-12 2 5h4" />
				</svg>
				NetSonde
			</h1>
			<LinkPill />
			{frameTime.value !== null && (
				<time class="data-time" title="Time of the newest data">{clockTime(frameTime.value, true)}</time>
			)}
			<div class="controls">
				<Choice of="range" label="Time range" options={Object.keys(RANGES) as Range[]} push />
				<ThemeButton />
			</div>
		</header>
	);
}

function LinkPill() {
	const { state, label } = link.value;
	return (
		<>
			<span class={`pill ${state}`} data-link={state}><span class="dot" aria-hidden="true" />{label}</span>
			<span class="sr-only" role="status">{`Data is ${state}`}</span>
		</>
	);
}

function ThemeButton() {
	const other = theme.value === 'dark' ? 'light' : 'dark';
	return (
		<button type="button" class="theme" title={`Use ${other} colours`} aria-label={`Use ${other} colours`}
			onClick={() => setView({ theme: other })}>
			<svg viewBox="0 0 16 16" aria-hidden="true">
				<circle cx="8" cy="8" r="6.2" /><path d="M8 1.8a6.2 6.2 0 0 1 0 12.4z" />
			</svg>
		</button>
	);
}
