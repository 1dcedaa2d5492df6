// SPDX-License-Identifier: Apache-2.0
// One of a few values: native radio buttons, so the arrow keys work by themselves.
import { setView, view } from './store/state';
import type { View } from './store/hash';

type Key = 'range' | 'scale' | 'unit';

interface Props<K extends Key> {
	of: K;
	label: string;
	options: readonly View[K][];
	place?: string; // tells apart several copies of the same choice
	push?: boolean; // the Back button undoes it
}

export function Choice<K extends Key>({ of, label, options, place, push }: Props<K>) {
	return (
		<fieldset class={place === undefined ? 'choice' : 'choice quiet'} title={label}>
			<legend class="sr-only">{label}</legend>
			{options.map((option) => (
				<label key={option}>
					<input type="radio" name={`${of}${place ?? ''}`} value={option} checked={option === view.value[of]}
						onChange={() => setView({ [of]: option }, push)} />
					<span>{option}</span>
				</label>
			))}
		</fieldset>
	);
}
