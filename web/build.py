#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Builds the dashboard: npm ci, esbuild, and one C file with everything in it.

  build.py assets  --source web --work DIR --output assets.c --depfile assets.c.d
  build.py modules --source DIR --work DIR

The source tree is never written to. Modules are installed in the work
directory, anew only when package.json or the lock file changed, so a second
build needs no network. "modules" does only that, for the tests' own packages.
No install script of any package is run.
"""
import argparse
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

GOAL_GZIP_BYTES = 80_000
# Without a network npm would try for minutes before it says so.
NPM_PATIENCE = ("--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")
PACKAGE_FILES = ("package.json", "package-lock.json", ".npmrc")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class BuildError(Exception):
    """A sentence for the person who runs the build."""


def run(command, cwd):
    try:
        return subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BuildError(f"{command[0]} is needed to build the dashboard and is not installed"
                         " (Debian: apt install nodejs npm)") from None


def check_node():
    found = run(["node", "--version"], None).stdout.strip()
    major = re.match(r"v(\d+)\.", found)
    if not major or int(major.group(1)) < 18:
        raise BuildError(f"the dashboard needs Node.js 18 or newer; `node --version` says {found or 'nothing'}")


def install_modules(source, work):
    """Leaves work/node_modules as the lock file wants it."""
    check_node()
    work.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    for name in PACKAGE_FILES:
        digest.update((source / name).read_bytes())
    stamp = work / "modules.sha256"
    if stamp.exists() and stamp.read_text() == digest.hexdigest() and (work / "node_modules").is_dir():
        return
    stamp.unlink(missing_ok=True)
    for name in PACKAGE_FILES:
        shutil.copyfile(source / name, work / name)
    print(f"dashboard: installing the packages of {source / 'package-lock.json'}", flush=True)
    done = run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", *NPM_PATIENCE], work)
    if done.returncode != 0:
        detail = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise BuildError(
            f"`npm ci` in {work} failed (exit status {done.returncode}): the packages of {source / 'package-lock.json'}"
            " could not be installed; the first build needs a package registry (npm config get registry)\n  "
            + "\n  ".join(detail[-8:]))
    stamp.write_text(digest.hexdigest())


def link_source(source, work):
    """The sources beside node_modules, so that every tool finds the packages."""
    for name in ("src", "tsconfig.json"):
        link = work / name
        target = os.path.relpath(source / name, work)
        if link.is_symlink() and os.readlink(link) == target:
            continue
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def bundle(work):
    """Runs esbuild; returns {path: bytes} of what it made."""
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    done = run([str(work / "node_modules/.bin/esbuild"), "src/main.tsx", "--bundle", "--minify", "--format=esm",
                "--target=es2022", "--jsx=automatic", "--jsx-import-source=preact", "--preserve-symlinks",
                "--charset=utf8", "--legal-comments=none", "--entry-names=assets/app-[hash]", f"--outdir={out}",
                "--log-level=warning", "--log-override:unsupported-css-property=error"], work)
    sys.stderr.write(done.stderr)
    if done.returncode != 0:
        raise BuildError("esbuild could not bundle the dashboard; its messages are above")
    files = {f"/{path.relative_to(out)}": path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    kinds = sorted(Path(name).suffix for name in files)
    if kinds != [".css", ".js"]:
        raise BuildError(f"esbuild made {kinds}, expected one .css and one .js file")
    return files


def collect(source, work):
    files = bundle(work)
    page = (source / "index.html").read_text(encoding="utf-8")
    for mark, suffix in (("@CSS@", ".css"), ("@JS@", ".js")):
        page = page.replace(mark, next(name for name in files if name.endswith(suffix)))
    files["/index.html"] = page.encode()
    files["/favicon.svg"] = (source / "favicon.svg").read_bytes()
    return dict(sorted(files.items()))


def c_bytes(name, data):
    lines = [f"static const unsigned char {name}[] = {{"]
    for at in range(0, len(data), 24):
        lines.append("\t" + ",".join(map(str, data[at:at + 24])) + ",")
    lines.append("};")
    return "\n".join(lines)


def c_file(files):
    parts = ["/* SPDX-License-Identifier: Apache-2.0 */",
             "/* Made by web/build.py from web/. Do not edit. */",
             '#include "server/assets.h"', ""]
    table = []
    total = 0
    for i, (path, data) in enumerate(files.items()):
        packed = gzip.compress(data, 9, mtime=0)
        total += len(packed)
        etag = hashlib.sha256(data).hexdigest()[:20]
        content_type = TYPES[Path(path).suffix]
        parts += [c_bytes(f"data_{i}", data), c_bytes(f"gzip_{i}", packed), ""]
        table.append(f'\t{{ "{path}", "{content_type}", "\\"{etag}\\"",'
                     f" data_{i}, sizeof(data_{i}), gzip_{i}, sizeof(gzip_{i}) }},")
    parts += ["const struct asset web_assets[] = {", *table, "};",
              "const size_t web_assets_n = sizeof(web_assets) / sizeof(web_assets[0]);", ""]
    return "\n".join(parts), total


def write_depfile(path, output, source):
    names = [source / "index.html", source / "favicon.svg", source / "tsconfig.json"]
    names += [source / name for name in PACKAGE_FILES]
    names += [name for name in sorted((source / "src").rglob("*"))]  # directories too: a new file changes its own
    quoted = " ".join(str(name).replace(" ", "\\ ") for name in [*names, source / "src"])
    path.write_text(f"{output}: {quoted}\n")


def assets(args):
    install_modules(args.source, args.work)
    link_source(args.source, args.work)
    files = collect(args.source, args.work)
    text, total = c_file(files)
    args.output.write_text(text)
    write_depfile(args.depfile, args.output, args.source)
    (args.work / "out/size.json").write_text(json.dumps({"gzip_bytes": total, "goal_bytes": GOAL_GZIP_BYTES}))
    print(f"dashboard: {len(files)} files, {total / 1000:.1f} kB with gzip (goal: {GOAL_GZIP_BYTES / 1000:.0f} kB)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("assets", "modules"):
        command = commands.add_parser(name)
        command.add_argument("--source", type=lambda text: Path(text).resolve(), required=True)
        command.add_argument("--work", type=lambda text: Path(text).resolve(), required=True)
        if name == "assets":
            command.add_argument("--output", type=Path, required=True)
            command.add_argument("--depfile", type=Path, required=True)
    args = parser.parse_args()
    try:
        if args.command == "assets":
            assets(args)
        else:
            install_modules(args.source, args.work)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
