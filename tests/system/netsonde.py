# SPDX-License-Identifier: Apache-2.0
"""netsonde's processes as the tests see them: start, ready, metrics, stop, and what is left in the kernel.

A process listens on a port the kernel picks; the test learns it from the log line "listening". Logs are JSON, kept in
the test's directory, and printed when the test fails.
"""
import http.client
import json
import os
import re
import signal
import socket
import subprocess

from netlab import wait_for

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.environ.get("NETSONDE_BINARY", os.path.join(ROOT, "build", "netsonde"))
# Sanitized binaries are slower; no verdict depends on it, only how long a test waits before it gives up.
SANITIZED = "asan" in BINARY
PATIENCE = 4 if SANITIZED else 1
READY_S = 10 * PATIENCE


class Metrics:
    """The samples of one text exposition (0.0.4), read by rules of our own and not by the project's parser."""

    _SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)(?: -?\d+)?$')
    _LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)",?')

    def __init__(self, text):
        self.text = text
        self.samples = []
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            match = self._SAMPLE.match(line)
            assert match, f"not a sample: {line!r}"
            name, labels, value = match.groups()
            pairs = self._LABEL.findall(labels or "")
            assert "".join(f'{k}="{v}",' for k, v in pairs).rstrip(",") == (labels or "").rstrip(","), line
            self.samples.append((name, {k: re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), v)
                                        for k, v in pairs}, float(value)))

    def select(self, name, **labels):
        return [(sample_labels, value) for sample_name, sample_labels, value in self.samples
                if sample_name == name and all(sample_labels.get(k) == v for k, v in labels.items())]

    def sum(self, name, **labels):
        return sum(value for _, value in self.select(name, **labels))

    def by(self, name, *keys, **labels):
        """{(value of each key): sum} of the samples that are not zero."""
        result = {}
        for sample_labels, value in self.select(name, **labels):
            key = tuple(sample_labels.get(k) for k in keys)
            result[key] = result.get(key, 0) + value
        return {key: value for key, value in result.items() if value}


class _Connection(http.client.HTTPConnection):
    """Connects inside a host's network namespace."""

    def __init__(self, host, address, port):
        super().__init__(address, port, timeout=10)
        self._host = host

    def connect(self):
        with self._host:
            self.sock = socket.create_connection((self.host, self.port), self.timeout)


def get(host, address, path, headers=None):
    """(status, headers, body) of one GET made in a host."""
    connection = _Connection(host, *address)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def split_address(text):
    """"127.0.0.1:9435", "[::1]:9435", "http://127.0.0.1:9435/" -> (address, port)."""
    match = re.search(r"(?:\[([0-9a-fA-F:]+)\]|([0-9.]+)):(\d+)", text)
    assert match, f"no address and port in {text!r}"
    return match.group(1) or match.group(2), int(match.group(3))


class KernelObjects:
    """BPF programs, maps and links, by id. Ids are not reused before they have all been used once."""

    KINDS = ("prog", "map", "link")

    @staticmethod
    def held_by(pid):
        """What a process holds, from its file descriptors."""
        held = set()
        folder = f"/proc/{pid}/fdinfo"
        for fd in os.listdir(folder):
            try:
                with open(os.path.join(folder, fd), encoding="ascii", errors="replace") as file:
                    for kind, number in re.findall(r"^(prog|map|link)_id:\s*(\d+)$", file.read(), re.MULTILINE):
                        held.add((kind, int(number)))
            except FileNotFoundError:
                continue
        return held

    @staticmethod
    def _shown(kind):
        """bpftool gives up when an object goes away while it is listing them; somebody else's may at any time."""
        for _ in range(10):
            done = subprocess.run(["bpftool", "-j", kind, "show"], capture_output=True, text=True, check=False)
            if not done.returncode:
                return json.loads(done.stdout or "[]")
        raise AssertionError(f"bpftool {kind} show: {done.stderr}")

    @classmethod
    def present(cls):
        """{(kind, id): name} of the whole kernel."""
        found = {}
        for kind in cls.KINDS:
            for entry in cls._shown(kind):
                if "id" in entry:
                    found[kind, entry["id"]] = entry.get("name", entry.get("type"))
        return found

    @classmethod
    def held_by_anyone(cls):
        held = set()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                held |= cls.held_by(pid)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return held

    @classmethod
    def wait_gone(cls, objects):
        """The kernel frees them some time after the last reference is gone."""
        def left():
            present = cls.present()
            return {o: present[o] for o in objects if o in present}

        wait_for(lambda: not left(), 10 * PATIENCE, lambda: f"all BPF objects gone: {left()}")


class Programs:
    """Every process a test starts, with a state directory that is the test's and not the machine's."""

    def __init__(self, directory):
        self.directory = str(directory)
        self.running = []
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("SUDO_")}
        self.environment["STATE_DIRECTORY"] = os.path.join(self.directory, "state")

    def start(self, host, command, name):
        program = Program(host, command, os.path.join(self.directory, f"{len(self.running)}-{name}"),
                          cwd=self.directory, env=self.environment)
        self.running.append(program)
        return program

    def end(self):
        for program in self.running:
            program.kill()


class Program:
    """One process with its output in files."""

    def __init__(self, host, command, path, **options):
        self.host = host
        self.command = command
        self.out_path, self.err_path = path + ".out", path + ".err"
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.process = host.popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, **options)
        self.pid = self.process.pid

    @property
    def out(self):
        with open(self.out_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    @property
    def err(self):
        with open(self.err_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait(self, seconds):
        try:
            return self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.command} still runs after {seconds * PATIENCE} s:\n{self.err}") from None

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        # Shown by pytest when the test failed.
        print(f"---- {' '.join(self.command)}: exit status {self.process.returncode}\n{self.out}{self.err}")


class Daemon:
    """An agent or a server."""

    subcommand = ""

    def __init__(self, programs, host, config="", arguments=(), wrapper=()):
        """wrapper: a command that runs the words behind it."""
        self.host = host
        self.config_path = os.path.join(programs.directory, f"{len(programs.running)}.yaml")
        self.configure(config)
        self.program = programs.start(host, [
            *wrapper, BINARY, self.subcommand, "--web.listen-address", "127.0.0.1:0", "--config.file", self.config_path,
            "--log.format", "json", *arguments], self.subcommand)
        self.address = None

    @property
    def pid(self):
        return self.program.pid

    def configure(self, config):
        with open(self.config_path, "w", encoding="utf-8") as file:
            file.write(config)

    def log(self):
        """The log's lines; what is no JSON (a sanitizer's report) is not one of them."""
        lines = []
        for line in self.program.err.splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return lines

    def wait_ready(self):
        def listening():
            assert self.program.process.poll() is None, f"it ended: {self.program.err}"
            return next((line for line in self.log() if line.get("msg") == "listening"), None)

        self.address = split_address(wait_for(listening, READY_S, "listening")["address"])

        def ready():
            assert self.program.process.poll() is None, f"it ended: {self.program.err}"
            return self.get("/-/ready")[0] == 200

        wait_for(ready, READY_S, "ready")

    def get(self, path, headers=None):
        return get(self.host, self.address, path, headers)

    def metrics(self):
        status, _, body = self.get("/metrics")
        assert status == 200, body
        return Metrics(body.decode())

    def stop(self):
        """SIGTERM, and a clean end."""
        if self.program.process.poll() is None:
            self.program.signal(signal.SIGTERM)
        status = self.program.wait(10)
        assert status == 0, f"{self.subcommand} ended with {status}:\n{self.program.err}"


class Server(Daemon):
    subcommand = "server"

    def __init__(self, programs, host, config="", arguments=()):
        if SANITIZED:
            # LeakSanitizer looks into its own process with ptrace(2), which the kernel denies to one that has changed
            # its user, and an agent's seccomp filter always. A server that stays root can be checked.
            arguments = (*arguments, "--user", "root")
            programs.environment["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=1"
        super().__init__(programs, host, config, arguments)
        programs.environment["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "")


class Agent(Daemon):
    subcommand = "agent"

    def __init__(self, *arguments, **options):
        self.kernel_objects = set()
        super().__init__(*arguments, **options)

    def wait_ready(self):
        super().wait_ready()
        self.kernel_objects = KernelObjects.held_by(self.pid)
        kinds = {kind for kind, _ in self.kernel_objects}
        assert kinds == set(KernelObjects.KINDS), f"an agent holds programs, maps and links, not {kinds}"

    def settle(self, ticks=2):
        """Waits until so many whole ticks have begun and ended from now on; returns the metrics then."""
        name = "netsonde_tick_duration_seconds_count"
        wanted = self.metrics().sum(name) + ticks + 1
        wait_for(lambda: self.metrics().sum(name) >= wanted, READY_S, f"{ticks} more ticks")
        return self.metrics()

    def wait_metrics(self, read, expected, seconds=10):
        """Until read(metrics) is what is expected, and still is two ticks later: nothing counted twice, nothing late."""
        last = None

        def equal():
            nonlocal last
            last = read(self.metrics())
            return last == expected

        wait_for(equal, seconds * PATIENCE, lambda: difference(expected, last))
        last = read(self.settle())
        assert last == expected, "changed afterwards: " + difference(expected, last)

    def stop(self):
        super().stop()
        KernelObjects.wait_gone(self.kernel_objects)


def difference(expected, actual):
    if not isinstance(expected, dict) or not isinstance(actual, dict):
        return f"expected {expected!r}, got {actual!r}"
    keys = sorted(set(expected) | set(actual), key=str)
    return "\n".join(f"{key}: expected {expected.get(key)}, got {actual.get(key)}" for key in keys
                     if expected.get(key) != actual.get(key))
