#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// How old is what the page shows: from an event in the kernel to the frame of the browser that has it.
//
// Starts `netsonde run` in network and mount namespaces of its own, opens the dashboard in headless Chromium with one
// peer chosen, and opens connections to that peer, one more at each random moment of the tick. The clock starts just
// before connect() and stops in the first animation frame after the page's number of open connections includes it; the
// charts have a point of the same moment then, which is checked. So it includes: kernel, tick of the agent, scrape,
// store, query, stream, drawing. Page and event maker are on one host; the offset between their clocks is measured and
// taken off. "From the scrape on" starts when the server sent the request that brought the news.
//
//   freshness.mjs [--netsonde build/netsonde] [--events 120] [--json FILE]
//
// Needs root, node, Chromium, and the modules of tests/web (tools/bench installs them).
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const CASES = [{ tick: '1s', tickMs: 1000 }, { tick: '50ms', tickMs: 50 }];
const URL = 'http://127.0.0.1:9436/'; // every port is free in a namespace of our own
const READY_MS = 20000;
const WARM_UP = 5; // events that do not count: the first frames compile the page's code
const PEER = 'bench';
const ADDRESS = '127.201.0.1';
const LOST_MS = 20000;
const GOALS_MS = { '1s': 1100, '50ms': 100 };

const top = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const { values: options } = parseArgs({
	options: {
		netsonde: { type: 'string', default: path.join(top, 'build/netsonde') },
		events: { type: 'string', default: '120' },
		json: { type: 'string' },
	},
});
const events = Number(options.events);
if (!(events >= 10))
	throw new Error('--events must be a number from 10');

const MARK = 'NETSONDE_BENCH_OWN_NAMESPACES';
if (process.env[MARK] === undefined) {
	const done = spawnSync('unshare', ['-n', '-m', process.execPath, ...process.argv.slice(1)],
		{ stdio: 'inherit', env: { ...process.env, [MARK]: '1' } });
	if (done.error)
		throw done.error;
	process.exit(done.status ?? 1);
}
if (spawnSync('ip', ['link', 'set', 'lo', 'up']).status !== 0)
	throw new Error('cannot set lo up');

process.env.NETSONDE_BINARY = path.resolve(options.netsonde); // says where the modules are
const { startBrowser, openPage, until, isLive } = await import(path.join(top, 'tests/web/browser.mjs'));

const now = () => performance.timeOrigin + performance.now();

/** `netsonde run` with one tick; returns what ends it. */
async function startRun(tick, directory) {
	const config = path.join(directory, 'netsonde.yaml');
	fs.writeFileSync(config, `networks: {${PEER}: [${ADDRESS}]}\ncollect: {tick: ${tick}}\n`
		+ `server: {scrape: {interval: ${tick}}}\n`);
	const run = spawn(process.env.NETSONDE_BINARY, ['run', '--config.file', config], {
		cwd: directory, env: { ...process.env, STATE_DIRECTORY: path.join(directory, 'state') },
		stdio: ['ignore', 'pipe', 'inherit'],
	});
	const ended = new Promise((resolve) => { run.on('exit', resolve); });
	await new Promise((resolve, reject) => {
		let said = '';
		run.stdout.on('data', (text) => {
			said += text;
			if (said.includes(URL))
				resolve();
		});
		ended.then(() => reject(new Error(`netsonde run ended: ${said}`)));
		setTimeout(() => reject(new Error('netsonde run is not ready')), READY_MS).unref();
	});
	return async () => {
		run.kill('SIGINT');
		await ended;
	};
}

/** In the page: notes the number of open connections whenever a frame begins that has another one. */
function watchOpen() {
	const number = () => Number(document.querySelector('[data-headline="open"]')?.dataset.value);
	let last = number();
	window.openShown = [];
	new MutationObserver(() => {
		if (Object.is(number(), last))
			return;
		const open = last = number();
		requestAnimationFrame(() => {
			const at = performance.timeOrigin + performance.now();
			const frame = Number(document.querySelector('main').dataset.frame);
			const times = document.querySelector('.plot')?.plot?.data[0] ?? [];
			window.openShown.push({ open, at, frame, inCharts: times[times.length - 1] >= frame });
		});
	}).observe(document.body, { attributes: true, attributeFilter: ['data-value'], childList: true, subtree: true });
}

/** The page's clock minus ours, from the exchange that took least; its error is at most half of that one's time. */
async function clockOffset(page) {
	let best = { tookMs: Infinity };
	for (let i = 0; i < 100; i++) {
		const before = now();
		const there = await page.evaluate(() => performance.timeOrigin + performance.now());
		const after = now();
		if (after - before < best.tookMs)
			best = { tookMs: after - before, offsetMs: there - (before + after) / 2 };
	}
	return best;
}

/** One more connection; `open` is how many there are then. */
async function oneEvent(page, port, open, sockets) {
	const begin = now();
	const socket = net.connect({ port, host: ADDRESS, autoSelectFamily: false });
	socket.on('error', () => {});
	sockets.push(socket);
	const shown = await until(page, `${open} open connections`,
		(wanted) => window.openShown.find((entry) => entry.open >= wanted), open, LOST_MS);
	return { ms: shown.at - begin, sinceScrapeMs: shown.at - 1000 * shown.frame, inCharts: shown.inCharts };
}

async function measureCase({ tick, tickMs }, port) {
	const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'netsonde-freshness-'));
	fs.chmodSync(directory, 0o755); // the server is an unprivileged user
	const stopRun = await startRun(tick, directory);
	const browser = await startBrowser();
	const sockets = [];
	try {
		const { page, complaints } = await openPage(browser.context, `${URL}#peer=${PEER}`);
		await until(page, 'live data', isLive);
		await page.evaluate(watchOpen);
		const clock = await clockOffset(page);
		const results = [];
		for (let i = 0; i < events + WARM_UP; i++) {
			await sleep(Math.random() * tickMs);
			results.push(await oneEvent(page, port, i + 1, sockets));
		}
		if (complaints.length > 0)
			throw new Error(`the page complains: ${complaints.join('; ')}`);
		return { tick, clock, results: results.slice(WARM_UP)
			.map((r) => ({ ...r, ms: r.ms - clock.offsetMs, sinceScrapeMs: r.sinceScrapeMs - clock.offsetMs })) };
	} finally {
		sockets.forEach((socket) => socket.destroy());
		await browser.stop();
		await stopRun();
		fs.rmSync(directory, { recursive: true, force: true });
	}
}

const quantiles = { min: 0, p50: 0.5, p90: 0.9, p99: 0.99, max: 1 };

/** By nearest rank: a value that really was. */
function spread(values) {
	const sorted = [...values].sort((a, b) => a - b);
	return Object.fromEntries(Object.entries(quantiles)
		.map(([name, q]) => [name, sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)]]));
}

function summary({ tick, clock, results }) {
	return {
		tick, events: results.length, event_to_pixel_ms: spread(results.map((r) => r.ms)),
		scrape_to_pixel_ms: spread(results.map((r) => r.sinceScrapeMs)), goal_p99_ms: GOALS_MS[tick],
		charts_behind: results.filter((r) => !r.inCharts).length,
		clock_offset_ms: clock.offsetMs, clock_error_ms: clock.tookMs / 2,
	};
}

const server = net.createServer((socket) => socket.on('error', () => {})).listen({ port: 0, host: '0.0.0.0' });
await new Promise((resolve) => { server.on('listening', resolve); });
const rows = [];
const names = Object.keys(quantiles);
console.log(`ms${' '.repeat(30)}events ${names.map((name) => name.padStart(8)).join(' ')}   goal p99`);
for (const one of CASES) {
	const row = summary(await measureCase(one, server.address().port));
	rows.push(row);
	const line = (what, values) => `${what.padEnd(31)} ${String(row.events).padStart(6)} `
		+ names.map((name) => values[name].toFixed(1).padStart(8)).join(' ');
	const goal = row.goal_p99_ms.toFixed(1).padStart(10);
	console.log(`${line(`tick ${one.tick}: kernel event to pixel`, row.event_to_pixel_ms)} ${goal}`);
	console.log(line('  of it, from the scrape on', row.scrape_to_pixel_ms));
	const error = row.clock_error_ms.toFixed(1);
	console.log(`  the charts were behind ${row.charts_behind} times; clocks compared to +-${error} ms`);
}
server.close();
if (options.json !== undefined)
	fs.writeFileSync(options.json, `${JSON.stringify({ bench: 'freshness', rows }, null, 1)}\n`);
