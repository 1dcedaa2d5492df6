// SPDX-License-Identifier: Apache-2.0
// The page's logic without a browser: formats, queries, the address, rows of the
// table, the timeline and what the page says about its connection.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { requireTools, requireWork, workDir } from './modules.mjs';

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'netsonde-web-unit-'));
after(() => fs.rmSync(scratch, { recursive: true, force: true }));

async function load(name) {
	const outfile = path.join(scratch, `${name.replace('/', '-')}.mjs`);
	requireWork('esbuild').buildSync({
		entryPoints: [path.join(workDir, 'src', `${name}.ts`)], outfile, bundle: true, format: 'esm', preserveSymlinks: true,
	});
	return import(pathToFileURL(outfile));
}

const format = await load('format');
const queries = await load('queries');
const hash = await load('store/hash');
const peers = await load('store/peers');
const link = await load('store/link');
const history = await load('history');
const { Timeline, peaks } = await load('store/timeline');

const plain = (text) => text.replace(/\u202f/g, ' ');

test('the sources pass the type check', () => {
	const tsc = requireTools.resolve('typescript/bin/tsc');
	const done = spawnSync(process.execPath, [tsc, '-p', path.join(workDir, 'tsconfig.json')], { encoding: 'utf8' });
	assert.equal(done.status, 0, done.stdout + done.stderr);
});

test('durations, rates and bytes get the unit that keeps them short', () => {
	const cases = [
		['duration', 0.000042, '42.0 µs'], ['duration', 0.000842, '842 µs'], ['duration', 0.0009996, '1.00 ms'],
		['duration', 0.0123, '12.3 ms'], ['duration', 1.5, '1.50 s'], ['duration', 75, '75.0 s'], ['duration', 0, '0 µs'],
		['bytes', 0, '0 B/s'], ['bytes', 999.4, '999 B/s'], ['bytes', 999.6, '1.00 kB/s'], ['bytes', 12.4e6, '12.4 MB/s'],
		['rate', 0.001, '<0.01/s'], ['rate', 3.2, '3.20/s'], ['rate', 12345, '12.3k/s'], ['rate', 0, '0/s'],
		['ratio', 0.0042, '0.42 %'], ['ratio', 1, '100 %'], ['count', 1234567, '1 234 567'], ['count', 0, '0'],
	];
	for (const [kind, value, want] of cases)
		assert.equal(plain(format.format(kind, value)), want, `${kind} ${value}`);
	assert.equal(plain(format.format('bytes', 125000, 'bits')), '1.00 Mbit/s');
});

test('unknown is said in words, never as a number', () => {
	for (const kind of ['duration', 'bytes', 'rate', 'ratio', 'count'])
		assert.equal(format.format(kind, null), 'no data yet');
	for (const text of ['NaN', '+Inf', '-Inf', undefined, null, {}])
		assert.equal(queries.sampleValue(text), null, String(text));
	assert.equal(queries.sampleValue('1.5'), 1.5);
	assert.equal(queries.sampleValue('0'), 0);
});

test('a formatted number is within half a digit of the value', () => {
	let seed = 20240611; // fixed, so that a failure repeats
	console.log(`# seed ${seed}`);
	const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
	const sizes = { 'µs': 1e-6, ms: 1e-3, s: 1 };
	for (let i = 0; i < 2000; i++) {
		const value = 10 ** (random() * 8 - 6);
		const { text, unit } = format.scale('duration', value);
		if (unit === 's' && value > 999)
			continue;
		assert.ok(Number(text) < 1000, `${value} is ${text} ${unit}`);
		assert.ok(Math.abs(Number(text) * sizes[unit] - value) <= value * 0.0051, `${value} is ${text} ${unit}`);
	}
});

test('axis labels share one unit and can be told apart', () => {
	assert.deepEqual(format.axisLabels('rate', [0, 0.25, 0.5, 0.75]), ['0', '0.25/s', '0.50/s', '0.75/s']);
	assert.deepEqual(format.axisLabels('duration', [0, 0.2, 0.4]), ['0', '200 ms', '400 ms']);
	assert.deepEqual(format.axisLabels('bytes', [0, 5e6, 1e7]), ['0', '5 MB/s', '10 MB/s']);
	assert.deepEqual(format.axisLabels('duration', [0.1]), ['100 ms']);
});

test('label values are quoted, whatever is in them', () => {
	assert.equal(queries.quote('a"b\\c\nd'), '"a\\"b\\\\c\\nd"');
	const hostile = '"} or up{x="';
	for (const { text } of queries.chartQueries(hostile, 10))
		assert.ok(text.includes('{peer="\\"} or up{x=\\""}'), text);
	for (const { text } of queries.chartQueries(null, 10))
		assert.ok(!text.includes('peer='), text);
});

test('the window of a rate holds several scrapes', () => {
	assert.equal(queries.liveWindow(1000), 10);
	assert.equal(queries.liveWindow(15000), 60);
	assert.ok(queries.chartQueries(null, 60).some(({ text }) => text.includes('[60s]')));
});

test('derived values exist only where their parts do', () => {
	const point = new Map([['retransmit:fast', 1], ['retransmit:syn', 1], ['segments', 100], ['outcome:established', 5]]);
	queries.derive(point);
	assert.equal(point.get('retransmitRatio'), 0.02);
	assert.equal(point.get('retransmits'), 2);
	assert.equal(point.get('failed'), 0);
	const empty = new Map([['retransmit:fast', 1], ['segments', 0]]);
	queries.derive(empty);
	assert.ok(!empty.has('retransmitRatio') && !empty.has('failed'));
});

test('a type nobody knows is counted as other', () => {
	const query = queries.chartQueries(null, 10).find(({ key }) => key === 'outcome');
	assert.equal(queries.columnOf(query, { outcome: 'refused' }), 'outcome:refused');
	assert.equal(queries.columnOf(query, { outcome: '<b>' }), 'outcome:other');
	assert.equal(queries.columnOf(query, {}), 'outcome:other');
});

test('a view survives the way through the address', () => {
	const view = {
		range: '6h', peer: 'a&b=c #%"', sort: { key: 'in', descending: false }, filter: 'x y', theme: 'light', scale: 'log', unit: 'bits',
	};
	assert.deepEqual(hash.viewFromHash(hash.viewToHash(view)), view);
	assert.equal(hash.viewToHash(hash.DEFAULT_VIEW), '');
	assert.deepEqual(hash.viewFromHash(''), hash.DEFAULT_VIEW);
});

test('a broken address opens the default view', () => {
	for (const text of ['#range=toString&sort=-__proto__&theme=x&scale=&unit=0', '#%E0%A4%A&&&=', '#sort=id'])
		assert.deepEqual(hash.viewFromHash(text), hash.DEFAULT_VIEW, text);
	assert.equal(hash.viewFromHash(`#filter=${'x'.repeat(5000)}`).filter.length, 200);
});

const sample = (value, metric) => ({ metric, value: String(value) });

test('rows join the answers of all queries by peer and role', () => {
	const a = { peer: 'a', role: 'client' }, b = { peer: 'b', role: 'server' };
	const rows = peers.peerRows(new Map([
		['peer.open', [sample(3, a), sample(1, b)]],
		['peer.rtt99', [sample(0.1, a), sample('NaN', b)]],
		['peer.outcome', [sample(2, { ...a, outcome: 'established' }), sample(0.5, { ...a, outcome: 'refused' }),
			sample(0.25, { ...a, outcome: 'reset' })]],
		['peer.segments', [sample(100, a), sample(0, b)]],
		['peer.retransmits', [sample(2, a), sample(0, b)]],
	]));
	assert.equal(rows.length, 2);
	const [first, second] = rows;
	assert.deepEqual([first.open, first.opened, first.failed, first.rtt99, first.retransmit], [3, 2, 0.75, 0.1, 0.02]);
	assert.deepEqual([second.open, second.opened, second.failed, second.rtt99, second.retransmit], [1, null, null, null, null]);
});

test('retransmissions without a role belong to all roles of the peer', () => {
	const rows = peers.peerRows(new Map([
		['peer.open', [sample(1, { peer: 'a', role: 'client' }), sample(1, { peer: 'a', role: 'server' })]],
		['peer.segments', [sample(60, { peer: 'a', role: 'client' }), sample(40, { peer: 'a', role: 'server' })]],
		['peer.retransmits', [sample(5, { peer: 'a' })]],
	]));
	assert.deepEqual(rows.map((row) => row.retransmit), [0.05, 0.05]);
});

test('peer and role that look like another pair stay apart', () => {
	const rows = peers.peerRows(new Map([
		['peer.open', [sample(1, { peer: 'a","b', role: 'c' }), sample(2, { peer: 'a', role: 'b","c' })]],
	]));
	assert.equal(rows.length, 2);
});

test('sorting puts unknown last in both directions and compares addresses by number', () => {
	const row = (peer, rtt99) => ({ peer, role: 'client', rtt99 });
	const rows = [row('10.0.0.10', null), row('10.0.0.9', 2), row('web', 1)];
	const names = (key, descending) => peers.sortRows(rows, key, descending).map(({ peer }) => peer);
	assert.deepEqual(names('rtt99', true), ['10.0.0.9', 'web', '10.0.0.10']);
	assert.deepEqual(names('rtt99', false), ['web', '10.0.0.9', '10.0.0.10']);
	assert.deepEqual(names('peer', false), ['10.0.0.9', '10.0.0.10', 'web']);
	assert.deepEqual(names('peer', true), ['web', '10.0.0.10', '10.0.0.9']);
	assert.deepEqual(peers.filterRows(rows, '10. CLIENT').map(({ peer }) => peer), ['10.0.0.10', '10.0.0.9']);
	assert.deepEqual(peers.filterRows(rows, 'server'), []);
});

test('a held order keeps rows where they were and adds new ones below', () => {
	const rows = ['c', 'new', 'a', 'b'].map((id) => ({ id }));
	assert.deepEqual(peers.holdOrder(rows, ['a', 'gone', 'b', 'c']).map(({ id }) => id), ['a', 'b', 'c', 'new']);
});

const values = (object) => new Map(Object.entries(object));

test('the timeline breaks lines at gaps and never goes back', () => {
	const timeline = new Timeline();
	assert.ok(timeline.append({ t: 1, values: values({ a: 1 }) }, 3));
	assert.ok(timeline.append({ t: 2, values: values({ a: 2, b: 9 }) }, 3));
	assert.ok(!timeline.append({ t: 2, values: values({ a: 7 }) }, 3));
	assert.ok(timeline.append({ t: 10, values: values({ a: 3 }) }, 3));
	assert.deepEqual(timeline.times, [1, 2, 6, 10]);
	assert.deepEqual(timeline.column('a'), [1, 2, null, 3]);
	assert.deepEqual(timeline.column('b'), [null, 9, null, null]);
	assert.deepEqual(timeline.latest('b'), { value: 9, t: 2 });
	assert.equal(timeline.firstKnown, 1);
	timeline.splice(-10, -5, [{ t: -10, values: values({}) }, { t: -5, values: values({}) }]);
	assert.equal(timeline.firstKnown, 1);
	assert.equal(timeline.latest('none'), null);
});

test('history takes the place of a gap and leaves newer points alone', () => {
	const timeline = new Timeline();
	for (const t of [1, 2, 20, 21])
		timeline.append({ t, values: values({ a: t }) }, 3);
	timeline.splice(1, 20, [1, 5, 10, 15, 20].map((t) => ({ t, values: values({ a: t * 100, c: 0 }) })));
	assert.deepEqual(timeline.times, [1, 5, 10, 15, 20, 21]);
	assert.deepEqual(timeline.column('a'), [100, 500, 1000, 1500, 2000, 21]);
	assert.deepEqual(timeline.column('c'), [0, 0, 0, 0, 0, null]);
	timeline.trim(15);
	assert.deepEqual(timeline.times, [15, 20, 21]);
	assert.deepEqual(timeline.column('a'), [1500, 2000, 21]);
	timeline.splice(100, 110, []);
	assert.equal(timeline.times.length, 3);
});

test('sparklines keep peaks and gaps', () => {
	assert.deepEqual(peaks([0, 1, 2, 3, 9], [1, 8, null, 2, 5], 0, 10, 5), [8, 2, null, null, 5]);
	assert.deepEqual(peaks([], [], 0, 0, 2), [null, null]);
});

test('history rows lie on the grid, with empty rows where nothing was known', () => {
	const asked = queries.chartQueries(null, 10);
	const grid = history.gridOf(101.2, 131.9, 10);
	assert.deepEqual(grid, { from: 110, to: 130, step: 10 });
	const answers = asked.map(({ key }) => ({
		data: {
			result: key === 'outcome'
				? [{ metric: { outcome: 'refused' }, values: [[110, '1'], [130, '2']] }]
				: key === 'rtt50' ? [{ metric: {}, values: [[110, 'NaN'], [130, '0.5']] }] : [],
		},
	}));
	const rows = history.rowsOf(asked, answers, grid);
	assert.deepEqual(rows.map(({ t }) => t), [110, 120, 130]);
	assert.deepEqual(rows.map(({ values: v }) => v.get('failed') ?? null), [1, null, 2]);
	assert.deepEqual(rows.map(({ values: v }) => v.get('rtt50') ?? null), [null, null, 0.5]);
});

const base = { connectedSinceMs: 0, disconnectedSinceMs: null, lastFrameMs: 9500, nowMs: 10000, intervalMs: 1000, targets: [] };
const up = { name: 'host-a', up: true, age_s: 0.2 }, down = { name: 'host-b', up: false, age_s: 65 };

test('the page says live only when all of its data is current', () => {
	const state = (change) => link.linkOf({ ...base, ...change });
	assert.equal(state({ targets: [up] }).state, 'live');
	assert.equal(state({ targets: [up] }).dim, false);
	assert.equal(state({ lastFrameMs: null, nowMs: 1000 }).state, 'connecting');
	assert.match(state({ lastFrameMs: null }).detail, /no data yet, for 10 s/);
	const stale = state({ nowMs: 24000 });
	assert.deepEqual([stale.state, stale.label, stale.dim], ['stale', 'stale, 14 s old', true]);
	assert.equal(state({ nowMs: 24000, intervalMs: 15000 }).state, 'live');
});

test('after a reconnect only a new frame makes the page live', () => {
	const state = (change) => link.linkOf({ ...base, targets: [up], connectedSinceMs: 9800, ...change });
	assert.deepEqual([state({}).state, state({}).dim], ['connecting', false]);
	assert.deepEqual([state({ lastFrameMs: 4000 }).state, state({ lastFrameMs: 4000 }).dim], ['connecting', true]);
	assert.equal(state({ nowMs: 20000 }).label, 'stale, 10 s old');
	assert.equal(state({ lastFrameMs: 9900 }).state, 'live');
});

test('a lost connection says for how long and how old the data is', () => {
	const lost = link.linkOf({ ...base, connectedSinceMs: null, disconnectedSinceMs: 10000, nowMs: 22000 });
	assert.deepEqual([lost.state, lost.label, lost.dim], ['reconnecting', 'reconnecting, 12 s', true]);
	assert.match(lost.detail, /The data is 12 s old/);
	const brief = link.linkOf({ ...base, connectedSinceMs: null, disconnectedSinceMs: 10000, nowMs: 11000 });
	assert.deepEqual([brief.state, brief.dim], ['reconnecting', false]);
});

test('an agent that is down is named', () => {
	const some = link.linkOf({ ...base, targets: [up, down] });
	assert.deepEqual([some.state, some.label, some.dim], ['partial', '1 of 2 agents down', false]);
	assert.match(some.detail, /“host-b” \(last data 65 s ago\)/);
	const all = link.linkOf({ ...base, targets: [{ ...down, age_s: null }] });
	assert.deepEqual([all.state, all.label, all.dim], ['down', 'agent down', true]);
	assert.match(all.detail, /“host-b” \(no data yet\)/);
	assert.deepEqual([[], [up, down], [down, down]].map(link.allDown), [false, false, true]);
});
