// SPDX-License-Identifier: Apache-2.0
// Numbers for people: three significant digits and a unit that keeps them short.
// Unknown is null and never becomes a number.

export type Kind = 'duration' | 'bytes' | 'rate' | 'count' | 'ratio';
export type ByteUnit = 'bytes' | 'bits';
export interface Scaled { text: string; unit: string }

interface Step { size: number; unit: string }

const DURATION: Step[] = [
	{ size: 1e-6, unit: 'µs' }, { size: 1e-3, unit: 'ms' }, { size: 1, unit: 's' },
];
const BYTES: Step[] = [
	{ size: 1, unit: 'B/s' }, { size: 1e3, unit: 'kB/s' }, { size: 1e6, unit: 'MB/s' },
	{ size: 1e9, unit: 'GB/s' }, { size: 1e12, unit: 'TB/s' },
];
const BITS: Step[] = [
	{ size: 1, unit: 'bit/s' }, { size: 1e3, unit: 'kbit/s' }, { size: 1e6, unit: 'Mbit/s' },
	{ size: 1e9, unit: 'Gbit/s' }, { size: 1e12, unit: 'Tbit/s' },
];
const RATE: Step[] = [{ size: 1, unit: '/s' }, { size: 1e3, unit: 'k/s' }, { size: 1e6, unit: 'M/s' }];
const RATIO: Step[] = [{ size: 0.01, unit: '%' }];

function stepsOf(kind: Kind, bytes: ByteUnit): Step[] {
	switch (kind) {
	case 'duration': return DURATION;
	case 'bytes': return bytes === 'bits' ? BITS : BYTES;
	case 'rate': return RATE;
	case 'ratio': return RATIO;
	case 'count': return [{ size: 1, unit: '' }];
	}
}

/** Three significant digits; what is not zero is never shown as zero. */
export function digits(value: number): string {
	const size = Math.abs(value);
	if (size === 0)
		return '0';
	if (size < 0.005)
		return '<0.01';
	if (size < 9.995)
		return value.toFixed(2);
	if (size < 99.95)
		return value.toFixed(1);
	return Math.round(value).toString();
}

function grouped(value: number): string {
	return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, '\u202f');
}

/** Picks the step whose rounded number stays below 1000. */
function pickStep(steps: Step[], value: number): Step {
	const size = Math.abs(value);
	return steps.find((step) => Math.round(size / step.size) < 1000) ?? steps[steps.length - 1]!;
}

export function scale(kind: Kind, value: number, bytes: ByteUnit = 'bytes'): Scaled {
	if (kind === 'count')
		return { text: grouped(value), unit: '' };
	if (kind === 'bytes' && bytes === 'bits')
		value *= 8;
	const steps = stepsOf(kind, bytes);
	const step = pickStep(steps, value);
	const scaled = value / step.size;
	const whole = step === steps[0] && kind === 'bytes';
	return { text: whole && scaled >= 1 ? Math.round(scaled).toString() : digits(scaled), unit: step.unit };
}

export function format(kind: Kind, value: number | null, bytes: ByteUnit = 'bytes'): string {
	if (value === null)
		return 'no data yet';
	const { text, unit } = scale(kind, value, bytes);
	if (unit === '')
		return text;
	return kind === 'rate' ? text + unit : `${text}\u202f${unit}`;
}

/** Labels of one axis: one unit for all ticks, as many decimals as the ticks need. */
export function axisLabels(kind: Kind, ticks: number[], bytes: ByteUnit = 'bytes'): string[] {
	const factor = kind === 'bytes' && bytes === 'bits' ? 8 : 1;
	const top = ticks.reduce((max, tick) => Math.max(max, Math.abs(tick)), 0) * factor;
	const step = pickStep(stepsOf(kind, bytes), top);
	const decimals = decimalsOf(ticks.length > 1 ? Math.abs(ticks[1]! - ticks[0]!) * factor / step.size : 1);
	const unit = step.unit === '' || kind === 'rate' ? step.unit : ` ${step.unit}`;
	return ticks.map((tick) => (tick === 0 ? '0' : (tick * factor / step.size).toFixed(decimals) + unit));
}

/** As few decimals as tell apart the multiples of a gap. */
function decimalsOf(gap: number): number {
	let decimals = 0;
	while (decimals < 4 && Math.abs(gap - Math.round(gap)) > gap * 1e-6) {
		gap *= 10;
		decimals++;
	}
	return decimals;
}

/** How long ago, in whole units: "4 s", "3 min", "2 h". */
export function age(seconds: number): string {
	const whole = Math.max(0, Math.floor(seconds));
	if (whole < 90)
		return `${whole} s`;
	if (whole < 90 * 60)
		return `${Math.round(whole / 60)} min`;
	if (whole < 48 * 3600)
		return `${Math.round(whole / 3600)} h`;
	return `${Math.round(whole / 86400)} d`;
}

const minutes = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const seconds =
	new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });

/** Local time of day. */
export function clockTime(t: number, withSeconds: boolean): string {
	return (withSeconds ? seconds : minutes).format(new Date(t * 1000));
}
