// SPDX-License-Identifier: Apache-2.0
// A Chromium of our own: Debian's, with a profile in a new directory, which
// talks to nobody but the dashboard.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { requireTools } from './modules.mjs';

const { chromium } = requireTools('playwright-core');

export async function startBrowser() {
	const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'netsonde-chromium-'));
	const context = await chromium.launchPersistentContext(profile, {
		executablePath: process.env.NETSONDE_CHROMIUM ?? '/usr/bin/chromium',
		headless: true,
		timezoneId: 'UTC',
		args: ['--no-sandbox', '--headless', '--disable-gpu', '--disable-background-networking',
			'--disable-component-update', '--disable-sync', '--no-first-run'],
	});
	context.setDefaultTimeout(30000);
	return {
		context,
		async stop() {
			await context.close();
			fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
		},
	};
}

/** A page, and the list of everything it complained about. */
export async function openPage(context, url) {
	const page = await context.newPage();
	const complaints = [];
	page.on('console', (message) => {
		if (['error', 'warning', 'assert'].includes(message.type()))
			complaints.push(`console ${message.type()}: ${message.text()}`);
	});
	page.on('pageerror', (error) => complaints.push(`exception: ${error.message}`));
	page.on('response', (response) => {
		if (response.status() >= 400)
			complaints.push(`${response.status()} ${response.url()}`);
	});
	await page.goto(url, { waitUntil: 'domcontentloaded' });
	return { page, complaints };
}

/** Waits until a function in the page returns something true; returns that. */
export async function until(page, what, fn, arg, timeout = 30000) {
	try {
		return await (await page.waitForFunction(fn, arg, { timeout, polling: 100 })).jsonValue();
	} catch (error) {
		const state = await page.evaluate(() => document.body.innerText.slice(0, 1500)).catch(() => '');
		throw new Error(`waited ${timeout} ms for: ${what}\n${error.message}\nThe page says:\n${state}`);
	}
}

export const isLive = () => document.querySelector('[data-link="live"]') !== null
	&& document.querySelector('main').dataset.frame !== '';
