# SPDX-License-Identifier: Apache-2.0
"""What a compiler does not check: who may include whom, licences, sizes, and nothing of one machine in the tree.

lint.py ROOT prints TAP: one line per rule, and below a broken rule one comment per place. The files are those git
knows or would add; without git, all outside build trees and node_modules.
"""
import fnmatch
import json
import os
import re
import subprocess
import sys

# Layer -> what its quoted includes may start with. Generated headers and bpf/abi.h have rules of their own.
LAYERS = {
    "src/lib/": ("lib/",),
    "src/agent/": ("lib/", "agent/"),
    "src/server/": ("lib/", "server/"),
    "src/cli/": ("lib/", "agent/", "server/", "cli/", "lab/"),
    "lab/": ("lib/", "lab/"),
}
GENERATED = {"*.pb-c.h": "src/lib/exposition*", "*.skel.h": "src/agent/*"}
# What user space shares of bpf/: abi.h and abi_NAME.h, and what is compiled on both sides from one source.
ABI = re.compile(r"(bpf/)?(abi(_\w+)?|parse|probe_match|sha256|stamp|probe_card)\.h")
ABI_HOME = "src/agent/"

# Foreign header -> the files that are its home.
HOMES = {
    "sqlite3.h": ("src/server/store*",),
    "microhttpd.h": ("src/lib/http*.c", "src/lib/http_internal.h"),
    "curl/*": ("src/lib/fetch*.c",),
    "uv.h": ("src/lib/loop*.c",),
    "jansson.h": ("src/lib/json.h",),
    "libfyaml.h": ("src/lib/config*",),
    "curses.h": ("src/cli/top_screen.c",),
    "seccomp.h": ("src/agent/privileges*.c",),
    "cap-ng.h": ("src/agent/privileges*.c", "src/agent/kernel_checks.c"),
    "bpf/*": ("src/agent/*", "src/cli/*", "bpf/*", "lab/port.c"),
}

SOURCE = (".c", ".h", ".py", ".ts", ".tsx", ".mjs", ".css", ".proto")
SIZE_MAX_LINES = 800
MAKEFILE_MAX_LINES = 40


def list_files(root):
    try:
        out = subprocess.run(["git", "-c", f"safe.directory={root}", "-C", root, "ls-files", "-co",
                              "--exclude-standard", "-z"], check=True, capture_output=True).stdout
        return sorted(p for p in out.decode().split("\0") if p and os.path.isfile(os.path.join(root, p)))
    except (OSError, subprocess.CalledProcessError):
        found = []
        for folder, folders, files in os.walk(root):
            folders[:] = [f for f in folders if f not in ("node_modules", ".git", "__pycache__")
                          and not f.startswith("build")]
            found += [os.path.relpath(os.path.join(folder, f), root) for f in files]
        return sorted(found)


class Tree:
    """The files of the project and their lines."""

    def __init__(self, root):
        self.root = root
        self.files = list_files(root)
        self.lines = {}
        for path in self.files:
            try:
                with open(os.path.join(root, path), encoding="utf-8") as file:
                    self.lines[path] = file.read().splitlines()
            except UnicodeDecodeError:
                continue  # pictures, fuzz seeds

    def source(self, *suffixes):
        return [p for p in self.lines if p.endswith(suffixes or SOURCE) and "/seeds/" not in p]


def includes(tree):
    """Yields (path, line number, name, quoted)."""
    for path in tree.source(".c", ".h"):
        for number, line in enumerate(tree.lines[path], 1):
            match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
            if match:
                yield path, number, match.group(2), match.group(1) == '"'


def check_layers(tree):
    """every layer includes only what it may"""
    for path, number, name, quoted in includes(tree):
        layer = next((prefix for prefix in LAYERS if path.startswith(prefix)), None)
        if path.startswith("bpf/"):
            if quoted and os.path.join("bpf", name) not in tree.lines and name not in tree.lines:
                yield f"{path}:{number}: bpf/ includes only bpf/, not {name}"
            elif not quoted and not name.startswith(("bpf/", "linux/", "asm/", "stdint.h", "stdbool.h", "stddef.h")):
                yield f"{path}:{number}: bpf/ includes only bpf/, libbpf and kernel headers, not <{name}>"
            continue
        if not layer or not quoted:
            continue
        generated = next((home for pattern, home in GENERATED.items() if fnmatch.fnmatch(name, pattern)), None)
        if generated:
            if not fnmatch.fnmatch(path, generated):
                yield f"{path}:{number}: {name} belongs to {generated}"
        elif ABI.fullmatch(name):
            if not path.startswith(ABI_HOME):
                yield f"{path}:{number}: {name} belongs to {ABI_HOME}"
        elif not name.startswith(LAYERS[layer]):
            yield f"{path}:{number}: {layer} may include {' '.join(LAYERS[layer])}, not {name}"
        elif os.path.join("src", name) not in tree.lines and name not in tree.lines:
            yield f"{path}:{number}: there is no src/{name}"


def check_homes(tree):
    """every foreign header has one home"""
    for path, number, name, quoted in includes(tree):
        if quoted or path.startswith(("tests/", "bench/")):
            continue
        for header, homes in HOMES.items():
            if fnmatch.fnmatch(name, header) and not any(fnmatch.fnmatch(path, home) for home in homes):
                yield f"{path}:{number}: <{name}> belongs to {' '.join(homes)}"


def check_licences(tree):
    """every source file names its licence"""
    scripts = [p for p in tree.lines if tree.lines[p] and tree.lines[p][0].startswith("#!")]
    builds = [p for p in tree.lines if os.path.basename(p) in ("meson.build", "Makefile")]
    for path in sorted(set(tree.source() + scripts + builds)):
        wanted = "(BSD-2-Clause OR GPL-2.0)" if re.match(r"(bpf/.*\.[ch]|.*\.bpf\.c)$", path) else "Apache-2.0"
        if not any(f"SPDX-License-Identifier: {wanted}" in line for line in tree.lines[path][:2]):
            yield f"{path}:1: no 'SPDX-License-Identifier: {wanted}' in the first two lines"


def check_machine(tree):
    """no path of one machine is in the tree"""
    homes = "|".join(("/ho" + "me/[a-z]", "/ro" + "ot/", "/Us" + "ers/[A-Za-z]", "/wo" + "rk/"))
    above = os.path.dirname(tree.root) + "/"
    pattern = re.compile("|".join([r"(?<![\w.}])(?:" + homes + ")"] + ([re.escape(above)] if len(above) > 6 else [])))
    for path, lines in tree.lines.items():
        for number, line in enumerate(lines, 1):
            if pattern.search(line):
                yield f"{path}:{number}: {line.strip()[:100]}"


def check_lock_files(tree):
    """no registry's address is in a lock file"""
    for path in tree.lines:
        if os.path.basename(path) != "package-lock.json":
            continue
        for name, package in json.loads("\n".join(tree.lines[path])).get("packages", {}).items():
            if "resolved" in package:
                yield f"{path}: {name} records where it came from: {package['resolved']}"
            elif name and not package.get("link") and "integrity" not in package:
                yield f"{path}: {name} has no integrity hash"


def check_sizes(tree):
    """no file has outgrown its noun"""
    for path in tree.source():
        if len(tree.lines[path]) > SIZE_MAX_LINES:
            yield f"{path}: {len(tree.lines[path])} lines, more than {SIZE_MAX_LINES}"
    if len(tree.lines["Makefile"]) > MAKEFILE_MAX_LINES:
        yield f"Makefile: {len(tree.lines['Makefile'])} lines, more than {MAKEFILE_MAX_LINES}"


def check_lines(tree):
    """lines end cleanly, and C is indented by tabs"""
    for path in tree.source():
        for number, line in enumerate(tree.lines[path], 1):
            if line != line.rstrip():
                yield f"{path}:{number}: blanks at the end"
            if path.endswith((".c", ".h")) and re.match(r" {8}", line):
                yield f"{path}:{number}: indented by blanks"


def check_left_over(tree):
    """nothing is left for later"""
    words = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
    for path in tree.source():
        for number, line in enumerate(tree.lines[path], 1):
            if words.search(line):
                yield f"{path}:{number}: {line.strip()[:100]}"


def check_scripts(tree):
    """scripts parse and can be executed"""
    for path, lines in tree.lines.items():
        if not lines or not lines[0].startswith("#!"):
            continue
        full = os.path.join(tree.root, path)
        if not os.access(full, os.X_OK):
            yield f"{path}: starts with #! and cannot be executed"
        if "bash" in lines[0]:
            result = subprocess.run(["bash", "-n", full], check=False, capture_output=True, text=True)
            if result.returncode:
                yield result.stderr.strip()
        elif "python" in lines[0]:
            try:
                compile("\n".join(lines), path, "exec")
            except SyntaxError as error:
                yield f"{path}:{error.lineno}: {error.msg}"


CHECKS = (check_layers, check_homes, check_licences, check_machine, check_lock_files, check_sizes, check_lines,
          check_left_over, check_scripts)


def main():
    tree = Tree(os.path.abspath(sys.argv[1]))
    print(f"1..{len(CHECKS)}")
    broken = False
    for number, check in enumerate(CHECKS, 1):
        places = list(check(tree))
        broken = broken or bool(places)
        print(f"{'not ' if places else ''}ok {number} - {check.__doc__}")
        for place in places:
            print(f"# {place}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
