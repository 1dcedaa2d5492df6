# SPDX-License-Identifier: Apache-2.0
"""
Tools of test_server.py: the real `netsonde server` as an ordinary process on a
free loopback port, exporters whose behaviour a test controls, and a reader of
server-sent events. Whatever waits, waits for a condition with a deadline.
"""
import contextlib
import http.client
import http.server
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

NETSONDE = os.environ.get("NETSONDE") or os.environ.get("NETSONDE_BINARY") or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "../../build/netsonde")
DEADLINE = 60 if "asan" in NETSONDE else 20  # how long a test waits before it gives up; no verdict depends on it
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def wait_for(condition, what, deadline=DEADLINE):
    """Returns the first true value of condition(); fails with `what` and the last value after the deadline."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what} (last: {value!r})")
        time.sleep(0.02)


def server_user():
    """(uid, gid) the server runs as when these tests start it."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    uid, gid = os.environ.get("SUDO_UID", "0"), os.environ.get("SUDO_GID")
    if uid != "0" and gid:
        return int(uid), int(gid)
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


class StateDir:
    """A directory the server's user owns and can reach."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="netsonde-test-", dir="/tmp")
        os.chmod(self.path, 0o755)
        if os.geteuid() == 0:
            os.chown(self.path, *server_user())

    def file(self, name):
        return os.path.join(self.path, name)

    def write(self, name, text):
        """Replaced in one step, so that a server that reloads never sees half of it."""
        with open(self.file(name + ".new"), "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(f.name, 0o644)
        os.rename(f.name, self.file(name))
        return self.file(name)

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


class Exporter:
    """
    Serves `content` at /metrics. `mode` changes what happens: "ok"; "hang" (the
    request is read, nothing is answered); "redirect" (to itself, for ever); "huge"
    (1 GB of valid lines); "close" (the connection ends without an answer);
    "noise" (bytes that are no HTTP).
    """

    def __init__(self, content="x 1\n", content_type="text/plain; version=0.0.4"):
        self.content, self.content_type, self.status, self.mode = content, content_type, 200, "ok"
        self.headers, self.requests, self.before = {}, [], None
        self.stopped = threading.Event()
        exporter = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                exporter.requests.append((time.monotonic(), dict(self.headers)))
                with contextlib.suppress(OSError):
                    exporter.answer(self)

            def log_message(self, *args):
                pass

        class Threading(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *args):
                pass

        self.httpd = Threading(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_address[1]}/metrics"
        threading.Thread(target=self.httpd.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def answer(self, request):
        mode = self.mode
        if mode == "hang":
            self.stopped.wait(60)
            request.close_connection = True
        elif mode == "close":
            request.close_connection = True
        elif mode == "noise":
            request.wfile.write(bytes(range(256)) * 4)
            request.close_connection = True
        elif mode == "redirect":
            request.send_response(302)
            request.send_header("Location", self.url)
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif mode == "huge":
            request.send_response(200)
            request.send_header("Content-Type", "text/plain")
            request.end_headers()
            block = b"x 1\n" * 65536
            request.close_connection = True
            for _ in range(4096):
                request.wfile.write(block)
        else:
            if self.before:
                self.before()
            body = self.content if isinstance(self.content, bytes) else self.content.encode()
            request.send_response(self.status)
            if self.content_type:
                request.send_header("Content-Type", self.content_type)
            request.send_header("Content-Length", str(len(body)))
            for name, value in self.headers.items():
                request.send_header(name, value)
            request.end_headers()
            request.wfile.write(body)

    def stop(self):
        self.stopped.set()
        self.httpd.shutdown()
        self.httpd.server_close()


class Committing(Exporter):
    """An exporter with an agent's header: a new snapshot every tick; `ages`: how old it was when it was asked for."""

    def __init__(self, tick):
        super().__init__()
        self.tick, self.start, self.ages, self.frozen = tick, time.monotonic(), [], False
        self.before = self.commit
        self.generation = 0

    def commit(self):
        since = time.monotonic() - self.start
        if not self.frozen:
            self.generation = int(since / self.tick)
        age = since - self.generation * self.tick
        self.ages.append(age)
        self.content = f"# TYPE commits_total counter\ncommits_total {self.generation}\n"
        self.headers = {"Netsonde-Snapshot": f"generation={self.generation}; age={age:.3f}; tick={self.tick:.3f}"}


class Server:
    """`netsonde server`, ready to answer once the constructor returns."""

    def __init__(self, *args, state=None, store="test.db", env=None):
        self.state = state or StateDir()
        self.own_state = state is None
        command = [NETSONDE, "server", "--web.listen-address", "127.0.0.1:0", *args]
        if store:
            command += ["--store.path", self.state.file(store)]
        with tempfile.NamedTemporaryFile("w", prefix="netsonde-log-", suffix=".txt", delete=False) as log:
            self.log_path = log.name
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, cwd=self.state.path,
                                            env={**os.environ, **(env or {})})
        try:
            self.base = wait_for(self.address, "the server listens and is ready")
        except AssertionError as error:
            log = self.log()
            self.stop()
            raise AssertionError(f"{error}\n{log}") from None

    def address(self):
        assert self.process.poll() is None, f"the server ended with {self.process.returncode}:\n{self.log()}"
        found = re.search(r"address=\"?([^\s\"]+)", self.log())
        return found and "the server is ready" in self.log() and "http://" + found[1]

    def log(self):
        with open(self.log_path, encoding="utf-8") as f:
            return f.read()

    def log_lines(self, *words):
        return [line for line in self.log().splitlines() if all(word in line for word in words)]

    def request(self, path, method="GET", data=None, headers=None):
        """(status, headers, body)"""
        request = urllib.request.Request(self.base + path, data=data, headers=headers or {}, method=method)
        try:
            with _opener.open(request, timeout=DEADLINE) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def api(self, path, **params):
        query = "?" + urllib.parse.urlencode(params, doseq=True) if params else ""
        status, _, body = self.request("/api/v1/" + path + query)
        answer = json.loads(body)
        assert (status == 200) == (answer["status"] == "success"), (status, answer)
        return (status, answer) if status != 200 else answer["data"]

    def query(self, text, **params):
        """{frozenset of labels: value} of an instant query."""
        result = self.api("query", query=text, **params)["result"]
        return {frozenset(r["metric"].items()): float(r["value"][1]) for r in result}

    def value(self, text, **params):
        """The value of an instant query with one result, else None."""
        values = list(self.query(text, **params).values())
        return values[0] if len(values) == 1 else None

    def target(self, name):
        return next((t for t in self.api("targets")["activeTargets"] if t["labels"]["instance"] == name), None)

    def metric(self, line):
        """The value of one line of /metrics, by its name and labels as written there."""
        for text in self.request("/metrics")[2].decode().splitlines():
            if text.startswith(line + " "):
                return float(text.rpartition(" ")[2])
        return None

    def live(self, *queries):
        return Live(self.base, queries)

    def kill(self, sig):
        self.process.send_signal(sig)
        return self.process.wait(DEADLINE)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.log_path)
        if self.own_state:
            self.state.remove()


class Live:
    """Events of /api/v1/live: next() gives (event, data); None at the end of the stream."""

    def __init__(self, base, queries):
        url = urllib.parse.urlsplit(base)
        self.connection = http.client.HTTPConnection(url.hostname, url.port, timeout=DEADLINE)
        self.connection.request("GET", "/api/v1/live?" + urllib.parse.urlencode([("query", q) for q in queries]))
        self.response = self.connection.getresponse()

    def next(self):
        event, data = "message", None
        while True:
            line = self.response.readline()
            if not line:
                return None
            line = line.decode().rstrip("\n")
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: "):
                data = (data + "\n" if data else "") + line[6:]
            elif not line and data is not None:
                return event, json.loads(data)

    def close(self):
        self.response.close()
        self.connection.close()


def fails(*args, state=None, env=None):
    """Runs `netsonde server` that must not start: (exit status, what it said)."""
    done = subprocess.run([NETSONDE, "server", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False, timeout=DEADLINE, cwd=state.path if state else None,
                          env={**os.environ, **(env or {})})
    return done.returncode, (done.stdout + done.stderr).strip()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_node_exporter():
    """(process, url) of Debian's prometheus-node-exporter."""
    port = free_port()
    process = subprocess.Popen(["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/metrics"

    def answers():
        assert process.poll() is None, "prometheus-node-exporter ended"
        try:
            with _opener.open(url, timeout=5) as response:
                return response.status == 200
        except OSError:
            return False

    try:
        wait_for(answers, "prometheus-node-exporter answers")
    except AssertionError:
        process.kill()
        process.wait()
        raise
    return process, url
