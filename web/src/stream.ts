// SPDX-License-Identifier: Apache-2.0
// One EventSource for the whole page. The browser retries by itself after a
// broken connection; this adds what it does not do: a new start after an HTTP
// error, and a watchdog for a connection that is open but silent (comments of
// the server are invisible to a page, so only events count as a sign of life).
import { sampleValue, type Query } from './queries';
import type { Sample } from './store/peers';
import type { Target } from './store/link';

export interface Hello { version: string; intervalMs: number; now: number }
export interface Frame { t: number; results: Map<string, Sample[]>; targets: Target[]; errors: string[] }

export interface StreamEvents {
	hello(hello: Hello): void;
	frame(frame: Frame): void;
	lost(): void; // the connection broke; may be called more than once until the next hello
}

const WATCH_EVERY_MS = 1000;
const SILENCE_MIN_MS = 12000; // two and a half of the server's heartbeats
const RETRY_FIRST_MS = 1000;
const RETRY_MAX_MS = 10000;

/** Starts the stream and returns what ends it. */
export function openStream(queries: readonly Query[], events: StreamEvents): () => void {
	const url = `/api/v1/live?${queries.map((query) => `query=${encodeURIComponent(query.text)}`).join('&')}`;
	let source: EventSource | null = null;
	let lastSign = performance.now();
	let silenceMs = SILENCE_MIN_MS;
	let retryMs = RETRY_FIRST_MS;
	let retryAt: number | null = null;

	const close = (): void => {
		source?.close();
		source = null;
	};
	const fail = (): void => {
		close();
		events.lost();
		retryAt = performance.now() + retryMs;
		retryMs = Math.min(RETRY_MAX_MS, retryMs * 2);
	};
	const on = (name: string, handle: (data: unknown) => void): void => source!.addEventListener(name, (event) => {
		lastSign = performance.now();
		const data = parse((event as MessageEvent<string>).data);
		if (data !== null)
			handle(data);
	});
	const open = (): void => {
		close();
		retryAt = null;
		lastSign = performance.now();
		source = new EventSource(url);
		source.onopen = () => { lastSign = performance.now(); };
		source.onerror = () => {
			if (source?.readyState === EventSource.CLOSED)
				fail();
			else
				events.lost();
		};
		on('hello', (data) => {
			const hello = helloOf(data);
			retryMs = RETRY_FIRST_MS;
			silenceMs = Math.max(SILENCE_MIN_MS, hello.intervalMs * 4);
			events.hello(hello);
		});
		on('frame', (data) => {
			const frame = frameOf(data, queries);
			if (frame !== null)
				events.frame(frame);
		});
	};
	const watch = setInterval(() => {
		const now = performance.now();
		if (retryAt !== null ? now >= retryAt : now - lastSign > silenceMs) {
			if (retryAt === null)
				events.lost();
			open();
		}
	}, WATCH_EVERY_MS);

	open();
	return () => {
		clearInterval(watch);
		close();
	};
}

function parse(text: string): unknown {
	try {
		return JSON.parse(text) as unknown;
	} catch {
		return null;
	}
}

interface RawFrame {
	t?: unknown;
	results?: { query?: number; result?: Sample[]; error?: unknown }[];
	targets?: { name?: unknown; up?: unknown; age_s?: unknown }[];
}

function helloOf(data: unknown): Hello {
	const raw = data as { version?: unknown; interval_ms?: unknown; now?: unknown };
	return {
		version: String(raw.version ?? ''),
		intervalMs: sampleValue(raw.interval_ms) ?? 1000,
		now: sampleValue(raw.now) ?? Date.now() / 1000,
	};
}

function frameOf(data: unknown, queries: readonly Query[]): Frame | null {
	const raw = data as RawFrame;
	const t = sampleValue(raw.t);
	if (t === null)
		return null;
	const results = new Map<string, Sample[]>();
	const errors: string[] = [];
	for (const item of raw.results ?? []) {
		const query = queries[item.query ?? -1];
		if (query === undefined)
			continue;
		if (item.error !== undefined)
			errors.push(String(item.error));
		else
			results.set(query.key, item.result ?? []);
	}
	const targets = (raw.targets ?? []).map((target) => ({
		name: String(target.name ?? ''), up: target.up === true || target.up === 1, age_s: sampleValue(target.age_s),
	}));
	return { t, results, targets, errors };
}
