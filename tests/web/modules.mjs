// SPDX-License-Identifier: Apache-2.0
// Where the tests find what the build made. Modules live in the build directory
// and never beside these files, so they are required from there by path.
//   NETSONDE_BINARY        the program under test; the build directory is its own (default build/netsonde)
//   NETSONDE_WEB_WORK      work directory of web/build.py (default web/work in the build directory)
//   NETSONDE_WEB_TOOLS     modules of tests/web/package.json (default tests/web in the build directory), made by
//                          web/build.py modules --source tests/web --work build/tests/web
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const top = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const buildDir = path.dirname(path.resolve(process.env.NETSONDE_BINARY ?? path.join(top, 'build/netsonde')));

export const workDir = path.resolve(process.env.NETSONDE_WEB_WORK ?? path.join(buildDir, 'web/work'));
const toolsDirs = [process.env.NETSONDE_WEB_TOOLS, path.join(buildDir, 'tests/web'), path.join(top, 'build/tests/web')];
const toolsDir = toolsDirs.find((dir) => dir !== undefined && fs.existsSync(path.join(dir, 'node_modules')));
if (toolsDir === undefined)
	throw new Error('the modules of the tests are not installed; run web/build.py modules --source tests/web --work build/tests/web');

export const requireWork = createRequire(path.join(workDir, 'package.json'));
export const requireTools = createRequire(path.join(path.resolve(toolsDir), 'package.json'));
