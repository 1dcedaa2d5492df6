// SPDX-License-Identifier: Apache-2.0
// The dashboard as its user meets it, in a real browser, from a real server with
// real traffic. Whoever runs this starts them first.
//   NETSONDE_URL           of the dashboard, such as http://127.0.0.1:9436/
//   NETSONDE_ARTEFACTS     directory for screenshots (default: none are kept)
//   NETSONDE_RESTART_CMD   shell command that restarts the server (else that test is skipped)
//   NETSONDE_HOSTILE_PEER  name of a peer with markup in it (else that test is skipped)
// The traffic must go on during the test, to at least one peer in two roles
// (a client and a server on one host do), and open connections all the time.
import assert from 'node:assert/strict';
import { exec } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { isLive, openPage, startBrowser, until } from './browser.mjs';
import { requireTools } from './modules.mjs';

const url = process.env.NETSONDE_URL;
const artefacts = process.env.NETSONDE_ARTEFACTS;
const restart = process.env.NETSONDE_RESTART_CMD;
const hostile = process.env.NETSONDE_HOSTILE_PEER;
const skip = url === undefined ? 'NETSONDE_URL is not set' : false;
const MAX_GZIP_BYTES = 80_000;

let browser;
before(async () => {
	if (!skip)
		browser = await startBrowser();
});
after(async () => browser?.stop());

/** Opens the page, waits until it is live, and in the end demands that nothing was complained about. */
async function withPage(hash, body) {
	const { page, complaints } = await openPage(browser.context, new URL(hash, url).href);
	try {
		await until(page, 'live data', isLive);
		await body(page);
		assert.deepEqual(complaints, []);
	} finally {
		await page.close();
	}
}

const headlines = (page) => page.evaluate(() => Object.fromEntries(
	[...document.querySelectorAll('[data-headline]')].map((e) => [e.dataset.headline, e.dataset.value])));

/** Rows and sort state of one moment: [{peer, role, open, ..}], unknown is null. */
const table = (page) => page.evaluate(() => {
	const keys = [...document.querySelectorAll('thead th')].map((th) => th.dataset.column);
	return [...document.querySelectorAll('tbody tr')].map((tr) => Object.fromEntries([...tr.children].map((cell, i) => {
		const value = cell.dataset.value;
		return [keys[i], value === undefined ? cell.textContent : value === '' ? null : Number(value)];
	})));
});

test('headline numbers are real and change', { skip }, () => withPage('#range=5m', async (page) => {
	await until(page, 'headline numbers', () =>
		['rtt50', 'rtt99', 'handshake50', 'handshake99', 'in', 'out', 'open', 'outcome:established', 'failed']
			.every((key) => document.querySelector(`[data-headline="${key}"]`)?.dataset.value));
	const first = await headlines(page);
	const number = (key) => Number(first[key]);
	for (const key of ['rtt50', 'rtt99', 'handshake50', 'handshake99'])
		assert.ok(number(key) > 0 && number(key) < 20, `${key} is ${first[key]} s`);
	assert.ok(number('rtt50') <= number('rtt99') && number('handshake50') <= number('handshake99'));
	assert.ok(number('in') > 0 && number('out') > 0 && number('open') >= 1 && number('failed') >= 0);
	if (first.retransmitRatio !== '')
		assert.ok(number('retransmitRatio') >= 0 && number('retransmitRatio') <= 1);
	const frame = await page.evaluate(() => document.querySelector('main').dataset.frame);
	await until(page, 'other numbers in another frame', ([old, oldFrame]) =>
		document.querySelector('main').dataset.frame !== oldFrame
		&& [...document.querySelectorAll('[data-headline]')].filter((e) => old[e.dataset.headline] !== e.dataset.value).length >= 2,
	[first, frame]);
}));

test('charts grow by a point per frame and hold what the headline says', { skip }, () => withPage('#range=5m', async (page) => {
	const last = () => {
		const [times, p50] = document.querySelector('.plot').plot.data;
		const known = p50.map((v, i) => [times[i], v]).filter(([, v]) => v !== null);
		return { n: known.length, t: times[times.length - 1], frame: Number(document.querySelector('main').dataset.frame) };
	};
	await until(page, 'a point in the RTT chart', () => document.querySelector('.plot').plot.data[1].some((v) => v !== null));
	const before = await page.evaluate(last);
	await until(page, 'two more frames', (t) => document.querySelector('.plot').plot.data[0].filter((x) => x > t).length >= 2, before.t);
	const now = await page.evaluate(last);
	assert.ok(now.n >= before.n, 'known points went away');
	assert.equal(now.t, now.frame);
}));

test('the table sorts by every column, by click and by keyboard', { skip }, () => withPage('#range=5m', async (page) => {
	await until(page, 'two rows of peers', () => document.querySelectorAll('tbody tr').length >= 2);
	const collator = new Intl.Collator('en', { numeric: true });
	const check = async (key, order) => {
		await until(page, `${key} ${order}`, ([k, o]) =>
			document.querySelector(`th[data-column="${k}"]`).getAttribute('aria-sort') === o, [key, order]);
		assert.equal(await page.locator('th[aria-sort="ascending"], th[aria-sort="descending"]').count(), 1);
		const values = (await table(page)).map((row) => row[key]);
		const sign = order === 'ascending' ? 1 : -1;
		values.slice(1).forEach((value, i) => {
			const previous = values[i];
			if (value === null)
				return;
			assert.notEqual(previous, null, `${key} ${order}: unknown before ${value}`);
			const step = typeof value === 'string' ? collator.compare(previous, value) : previous - value;
			assert.ok(step * sign <= 0, `${key} ${order}: ${previous} before ${value}`);
		});
	};
	const keys = await page.$$eval('thead th', (headings) => headings.map((th) => th.dataset.column));
	assert.deepEqual(keys, ['peer', 'role', 'open', 'opened', 'failed', 'handshake99', 'rtt50', 'rtt99', 'minRtt',
		'retransmit', 'in', 'out']);
	for (const key of keys) {
		const button = page.locator(`th[data-column="${key}"] button`);
		const wasActive = await page.locator(`th[data-column="${key}"]`).getAttribute('aria-sort');
		const text = key === 'peer' || key === 'role';
		const firstOrder = wasActive === 'descending' || (wasActive === 'none' && text) ? 'ascending' : 'descending';
		const other = firstOrder === 'ascending' ? 'descending' : 'ascending';
		await button.click();
		await check(key, firstOrder);
		await button.click();
		await check(key, other);
		await button.focus();
		await page.keyboard.press('Enter');
		await check(key, firstOrder);
		await page.keyboard.press('Space');
		await check(key, other);
	}
}));

test('the filter narrows the table and is part of the address', { skip }, () => withPage('', async (page) => {
	await until(page, 'rows of peers', () => document.querySelectorAll('tbody tr').length >= 1);
	const { peer, role } = (await table(page))[0];
	const box = page.getByRole('searchbox', { name: 'Filter peers' });
	await box.fill('no peer has this name');
	await until(page, 'the words that nothing matches', () => document.querySelectorAll('tbody tr').length === 0
		&& document.querySelector('.nothing')?.textContent.includes('no peer has this name'));
	await box.fill(`${peer} ${role}`);
	await until(page, 'the row that matches', () => document.querySelectorAll('tbody tr').length >= 1);
	for (const row of await table(page))
		assert.ok(row.peer.includes(peer) && row.role === role, JSON.stringify(row));
	await until(page, 'the filter in the address', (text) =>
		new URLSearchParams(location.hash.slice(1)).get('filter') === text, `${peer} ${role}`);
	await page.reload();
	await until(page, 'live data after a reload', isLive);
	assert.equal(await box.inputValue(), `${peer} ${role}`);
}));

test('a peer is chosen by keyboard or click, and undone by Escape and Back', { skip }, () => withPage('#range=5m', async (page) => {
	await until(page, 'rows of peers', () => document.querySelectorAll('tbody tr').length >= 1);
	const notice = page.locator('[data-notice="peer"]');
	const button = page.locator('tbody th button').first();
	await button.focus();
	const peer = await page.evaluate(() => document.activeElement.textContent);
	await page.keyboard.press('Enter');
	await notice.waitFor();
	assert.ok((await notice.textContent()).includes(peer));
	assert.equal(new URLSearchParams(new URL(page.url()).hash.slice(1)).get('peer'), peer);
	await until(page, 'numbers of that peer', () => document.querySelector('[data-headline="open"]')?.dataset.value);
	await page.keyboard.press('Escape');
	await notice.waitFor({ state: 'detached' });
	assert.equal(new URL(page.url()).hash.includes('peer='), false);
	await page.goBack();
	await notice.waitFor();
	await notice.getByRole('button').click();
	await notice.waitFor({ state: 'detached' });
	await page.mouse.move(0, 0);
	await page.locator('tbody tr td').first().click();
	await notice.waitFor();
}));

test('a shared link shows the same view', { skip }, () => withPage(
	'#range=1h&sort=in&filter=c&theme=light&scale=log&unit=bits&peer=nobody%26else', async (page) => {
		assert.equal(await page.locator('input[name="range"]:checked').inputValue(), '1h');
		assert.equal(await page.locator('input[name="scalertt"]:checked').inputValue(), 'log');
		assert.equal(await page.locator('input[name="unitthroughput"]:checked').inputValue(), 'bits');
		assert.equal(await page.locator('th[data-column="in"]').getAttribute('aria-sort'), 'ascending');
		assert.equal(await page.getByRole('searchbox').inputValue(), 'c');
		assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'light');
		assert.ok((await page.locator('[data-notice="peer"]').textContent()).includes('nobody&else'));
		await until(page, 'words for unknown numbers', () =>
			document.querySelector('[data-headline="rtt50"]').textContent === 'no data yet');
		await page.locator('input[name="range"]').first().focus();
		await page.keyboard.press('ArrowRight');
		await until(page, 'a range chosen with the arrow keys', () => location.hash.includes('range=15m'));
		await page.getByRole('button', { name: 'Use dark colours' }).click();
		await until(page, 'dark colours', () => document.documentElement.dataset.theme === 'dark' && location.hash.includes('theme=dark'));
	}));

test('the keyboard reaches the controls and shows where it is', { skip }, () => withPage('#range=5m', async (page) => {
	const reached = [];
	for (let i = 0; i < 24; i++) {
		await page.keyboard.press('Tab');
		reached.push(await page.evaluate(() => {
			const element = document.activeElement;
			const shown = element.type === 'radio' ? element.nextElementSibling : element;
			const name = element.name || element.getAttribute('aria-label') || element.type || element.textContent;
			return { name, visible: getComputedStyle(shown).outlineStyle === 'solid' || element.tagName === 'BODY' };
		}));
	}
	for (const { name, visible } of reached)
		assert.ok(visible, `${name} has the focus and does not show it`);
	const names = reached.map(({ name }) => name);
	for (const name of ['range', 'scalertt', 'unitthroughput', 'search'])
		assert.ok(names.includes(name), `${name} was not reached: ${names.join(', ')}`);
}));

for (const scheme of ['dark', 'light'])
	test(`${scheme}: no accessibility violations, no overflow from 360 px to 4K`, { skip }, () => withPage('#range=5m', async (page) => {
		await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
		await until(page, `the ${scheme} theme`, (s) => document.documentElement.dataset.theme === s, scheme);
		for (const [width, height] of [[1440, 1000], [360, 740], [3840, 2160]]) {
			await page.setViewportSize({ width, height });
			await until(page, 'a live page with charts of the new width', (w) => document.querySelector('[data-link="live"]') !== null
				&& innerWidth === w && [...document.querySelectorAll('.plot')].every((e) => e.plot.width === e.clientWidth), width);
			const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
			assert.ok(overflow <= 0, `${overflow} px too wide at ${width} px`);
			if (artefacts !== undefined) {
				fs.mkdirSync(artefacts, { recursive: true });
				await page.screenshot({ path: path.join(artefacts, `dashboard-${scheme}-${width}.png`) });
			}
			if (width === 3840)
				continue;
			await page.evaluate(requireTools('axe-core').source);
			const { violations, passes } = await page.evaluate(() => window.axe.run());
			const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join('\n  ')}`);
			assert.deepEqual(found, [], `${width} px`);
			assert.ok(passes.length > 15);
		}
	}));

function get(target) {
	return new Promise((resolve, reject) => http.get(target, { headers: { 'accept-encoding': 'gzip' } }, (response) => {
		const parts = [];
		response.on('data', (part) => parts.push(part));
		response.on('end', () => resolve({ headers: response.headers, body: Buffer.concat(parts) }));
		response.on('error', reject);
	}).on('error', reject));
}

test(`the whole page weighs at most ${MAX_GZIP_BYTES / 1000} kB`, { skip }, () => withPage('', async (page) => {
	const parts = await page.evaluate(() => [location.href.replace(/#.*/, ''),
		...[...document.querySelectorAll('script')].map((script) => script.src),
		...[...document.querySelectorAll('link')].map((link) => link.href)]);
	assert.equal(parts.length, 4);
	assert.ok(parts.every((part) => part.startsWith(new URL(url).origin)), 'everything comes from the server itself');
	let total = 0;
	for (const part of parts) {
		const { headers, body } = await get(part);
		assert.equal(headers['content-encoding'], 'gzip', part);
		total += body.length;
	}
	console.log(`# ${(total / 1000).toFixed(1)} kB with gzip`);
	assert.ok(total <= MAX_GZIP_BYTES, `${total} bytes`);
}));

test('a hostile peer name is only text', { skip: skip || (hostile === undefined && 'NETSONDE_HOSTILE_PEER is not set') },
	() => withPage('', async (page) => {
		await until(page, 'the hostile peer', (name) =>
			[...document.querySelectorAll('tbody th')].some((th) => th.textContent === name), hostile);
		await page.getByRole('button', { name: hostile, exact: false }).first().click();
		await until(page, 'the notice', (name) =>
			document.querySelector('[data-notice="peer"] strong')?.textContent === name, hostile);
		assert.equal(await page.locator('tbody img, tbody script, .notices img, .notices script').count(), 0);
		await until(page, 'numbers of the hostile peer', () => document.querySelector('[data-headline="open"]')?.dataset.value);
	}));

test('after a restart of the server the page says so, comes back and fills the gap',
	{ skip: skip || (restart === undefined && 'NETSONDE_RESTART_CMD is not set'), timeout: 120000 }, async () => {
		const { page, complaints } = await openPage(browser.context, new URL('#range=5m', url).href);
		await until(page, 'live data', isLive);
		await page.evaluate(() => {
			const pill = document.querySelector('[data-link]');
			window.states = [];
			new MutationObserver(() => window.states.push([pill.dataset.link, pill.textContent]))
				.observe(pill, { attributes: true, characterData: true, subtree: true, childList: true });
		});
		const lastBefore = Number(await page.evaluate(() => document.querySelector('main').dataset.frame));
		await new Promise((resolve, reject) => exec(restart, (error) => (error ? reject(error) : resolve())));
		await until(page, 'the words that it reconnects', () =>
			window.states.some(([state, text]) => state === 'reconnecting' && /^reconnecting, \d+ s$/.test(text)));
		await until(page, 'live data again', () => document.querySelector('[data-link]').dataset.link === 'live', null, 60000);
		const firstAfter = Number(await page.evaluate(() => document.querySelector('main').dataset.frame));
		assert.ok(firstAfter > lastBefore);
		const query = new URLSearchParams({
			// History reaches to the greeting of the new stream, which comes at most an interval before the first frame.
			query: 'sum (netsonde_tcp_open_connections)', start: Math.floor(lastBefore) - 1, end: Math.floor(firstAfter - 1.5), step: 1,
		});
		const answer = JSON.parse(await fetchText(new URL(`/api/v1/query_range?${query}`, url)));
		const stored = answer.data.result[0].values.map(([t]) => t);
		assert.ok(stored.length > 0, 'the server has nothing of the time in question');
		await until(page, `every second the server knows between ${lastBefore} and ${firstAfter}`, (times) => {
			const drawn = new Set(document.querySelector('.plot').plot.data[0].map((t) => Math.round(t)));
			return times.every((t) => drawn.has(Math.round(t)));
		}, stored);
		const unexpected = complaints.filter((text) => !/ERR_(CONNECTION|INCOMPLETE|EMPTY|NETWORK)/.test(text));
		assert.deepEqual(unexpected, []);
		await page.close();
	});

async function fetchText(target) {
	const { headers, body } = await get(target);
	return (headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body).toString();
}
