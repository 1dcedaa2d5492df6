// SPDX-License-Identifier: Apache-2.0
// The points behind all charts: one time axis, one column per line. History is
// spliced in, live frames are appended; a hole in time holds a row of nulls, so
// that no line is ever drawn across it.

export type Cell = number | null;
export interface Row { t: number; values: Map<string, number> }

export class Timeline {
	times: number[] = [];
	columns = new Map<string, Cell[]>();

	/** When the first known value is of; charts need not show the nothing before it. */
	get firstKnown(): number | null {
		let first = this.times.length;
		for (const cells of this.columns.values()) {
			const i = cells.findIndex((cell) => cell !== null);
			if (i >= 0 && i < first)
				first = i;
		}
		return this.times[first] ?? null;
	}

	get lastTime(): number | null {
		return this.times.length > 0 ? this.times[this.times.length - 1]! : null;
	}

	clear(): void {
		this.times = [];
		this.columns.clear();
	}

	/** Adds a live row. A row that is not newer than the last is dropped: the stream never goes back. */
	append(row: Row, maxGap: number): boolean {
		const last = this.lastTime;
		if (last !== null && row.t <= last)
			return false;
		if (last !== null && row.t - last > maxGap)
			this.push({ t: last + (row.t - last) / 2, values: new Map() });
		this.push(row);
		return true;
	}

	/** Puts rows (sorted by time) in place of everything in [from, to]. */
	splice(from: number, to: number, rows: Row[]): void {
		const start = this.indexFrom(from);
		const end = this.indexAfter(to);
		for (const row of rows)
			this.ensureColumns(row);
		for (const [key, cells] of this.columns) {
			const fresh = rows.map((row) => row.values.get(key) ?? null);
			this.columns.set(key, cells.slice(0, start).concat(fresh, cells.slice(end)));
		}
		this.times = this.times.slice(0, start).concat(rows.map((row) => row.t), this.times.slice(end));
	}

	/** Forgets what is older than a time. */
	trim(before: number): void {
		const n = this.indexFrom(before);
		if (n === 0)
			return;
		this.times.splice(0, n);
		for (const cells of this.columns.values())
			cells.splice(0, n);
	}

	column(key: string): Cell[] {
		return this.columns.get(key) ?? new Array<Cell>(this.times.length).fill(null);
	}

	has(key: string): boolean {
		return this.columns.get(key)?.some((cell) => cell !== null) ?? false;
	}

	/** The newest known value of a column and its time. */
	latest(key: string): { value: number; t: number } | null {
		const cells = this.columns.get(key);
		for (let i = (cells?.length ?? 0) - 1; i >= 0; i--) {
			const value = cells![i];
			if (value !== null && value !== undefined)
				return { value, t: this.times[i]! };
		}
		return null;
	}

	private push(row: Row): void {
		this.ensureColumns(row);
		this.times.push(row.t);
		for (const [key, cells] of this.columns)
			cells.push(row.values.get(key) ?? null);
	}

	private ensureColumns(row: Row): void {
		for (const key of row.values.keys())
			if (!this.columns.has(key))
				this.columns.set(key, new Array<Cell>(this.times.length).fill(null));
	}

	/** Index of the first point at or after t. */
	private indexFrom(t: number): number {
		let low = 0, high = this.times.length;
		while (low < high) {
			const middle = (low + high) >> 1;
			if (this.times[middle]! < t)
				low = middle + 1;
			else
				high = middle;
		}
		return low;
	}

	private indexAfter(t: number): number {
		let i = this.indexFrom(t);
		while (i < this.times.length && this.times[i] === t)
			i++;
		return i;
	}
}

/** The highest value of each of n equal parts of a column: a sparkline that keeps its peaks. */
export function peaks(times: number[], cells: Cell[], from: number, to: number, n: number): Cell[] {
	const result = new Array<Cell>(n).fill(null);
	if (to <= from)
		return result;
	for (let i = 0; i < times.length; i++) {
		const cell = cells[i];
		const part = Math.min(n - 1, Math.floor((times[i]! - from) / (to - from) * n));
		if (cell === null || cell === undefined || part < 0)
			continue;
		const peak = result[part];
		result[part] = peak === null || peak === undefined ? cell : Math.max(peak, cell);
	}
	return result;
}
