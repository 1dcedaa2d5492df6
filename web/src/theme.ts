// SPDX-License-Identifier: Apache-2.0
// Dark or light: the system's choice until the user makes one. Charts are drawn
// on a canvas, so they read the colours of the style sheet through here.
import { computed, effect, signal } from '@preact/signals';
import { view } from './store/state';

const darkQuery = matchMedia('(prefers-color-scheme: dark)');
const systemDark = signal(darkQuery.matches);

export const theme = computed((): 'dark' | 'light' => {
	const chosen = view.value.theme;
	if (chosen !== 'auto')
		return chosen;
	return systemDark.value ? 'dark' : 'light';
});

export function startTheme(): void {
	darkQuery.addEventListener('change', (event) => { systemDark.value = event.matches; });
	effect(() => { document.documentElement.dataset.theme = theme.value; });
}

export function colour(name: string): string {
	return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
