# SPDX-License-Identifier: Apache-2.0
"""`netsonde top`: its tables as JSON and text, of this host's kernel and of an agent, beside `ss` and what the
applications did; and its screen, in tmux as the terminal, with keys, another size, signals, and an agent that goes away.
"""
import ctypes
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

import netlab
import netsonde
from netlab import wait_for
from netsonde import PATIENCE

PR_SET_NAME = 15
# Accepts one connection after the other and reads: all at once, or (slow) 100 kB/s at most.
WORKER = """
import ctypes, socket, sys, threading, time
ctypes.CDLL(None).prctl(15, bytes.fromhex(sys.argv[1]), 0, 0, 0)
listener = socket.create_server((sys.argv[2], 0), backlog=100)
print(listener.getsockname()[1], flush=True)
def read(peer):
    while peer.recv(5000 if sys.argv[3] == "slow" else 1 << 20):
        time.sleep(0.05 if sys.argv[3] == "slow" else 0)
while True:
    threading.Thread(target=read, args=(listener.accept()[0],), daemon=True).start()
"""
PIECE, PIECES_A_SECOND = 10_000, 20


class Traffic:
    """From this process in `near` to two in `far`: to `reader` a steady stream over a lossless 20 ms, and connections at
    rest; to `sloth` more than it reads."""

    RESTING = 5

    def __init__(self, lab):
        self.near, self.far, self.watcher = lab.host("near"), lab.host("far"), lab.host("watcher")
        self.near_end, self.far_end = lab.link(self.near, self.far, delay="10ms")
        self.ours = f"peer:{self.near_end.network4}"  # a filter: nothing of what else is on this machine
        self.workers = [self._worker(name, pace) for name, pace in ((b"reader", "fast"), (b"sloth", "slow"))]
        self.reader_port, self.sloth_port = (int(worker.stdout.readline()) for worker in self.workers)
        self.reader_pid, self.sloth_pid = (worker.pid for worker in self.workers)
        self.resting = [self._connect(self.reader_port) for _ in range(self.RESTING)]
        self.steady, self.pushing = self._connect(self.reader_port), self._connect(self.sloth_port)
        self.sent = 0  # by the steady stream
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self._stream, self._push)]
        for thread in self.threads:
            thread.start()

    def _worker(self, name, pace):
        return self.far.popen(["/usr/bin/python3", "-c", WORKER, name.hex(), self.far_end.v4, pace], stdout=subprocess.PIPE)

    def _connect(self, port):
        with self.near:
            return socket.create_connection((self.far_end.v4, port), timeout=10)

    def _stream(self):
        due = time.monotonic()
        while not self.stopping.wait(max(0, due - time.monotonic())):
            self.steady.sendall(b"n" * PIECE)
            self.sent += PIECE
            due += 1 / PIECES_A_SECOND

    def _push(self):
        self.pushing.settimeout(None)
        try:
            while True:
                self.pushing.sendall(b"n" * 65536)
        except OSError:
            pass

    def ss(self):
        """{cookie: (local port, remote port, PIDs)} of both ends."""
        found = {}
        for host in (self.near, self.far):
            for line in host.run("ss", "-tnpeOH", "state", "established").splitlines():
                ports = re.findall(r"\d+\.\d+\.\d+\.\d+:(\d+)", line)
                found[re.search(r"\bsk:([0-9a-f]+)", line)[1]] = (int(ports[0]), int(ports[1]), {
                    int(pid) for pid in re.findall(r"pid=(\d+)", line)})
        return found

    def retransmits(self):
        """Of the steady stream."""
        line = self.near.run("ss", "-tinOH", "sport", "=", f":{self.steady.getsockname()[1]}")
        return int((re.search(r" retrans:\d+/(\d+)", line) or [0, 0])[1])

    def sloth_is_slow(self):
        line = self.near.run("ss", "-tinOH", "dport", "=", f":{self.sloth_port}")
        return re.search(r"rwnd_limited:\d{3,}ms", line)

    def close(self):
        self.stopping.set()
        for worker in self.workers:
            worker.kill()
            worker.wait()
        for sock in (*self.resting, self.steady, self.pushing):
            sock.close()
        for thread in self.threads:
            thread.join(5)


@pytest.fixture(scope="module")
def traffic():
    lab = netlab.Lab()
    made = Traffic(lab)
    try:
        wait_for(made.sloth_is_slow, 20 * PATIENCE, "the slow reader slows the sender down")
        # Before it is accepted, a connection is of no process, and in no table.
        wait_for(lambda: all(pids for _, _, pids in made.ss().values()), 10 * PATIENCE, "all connections accepted")
        yield made
    finally:
        made.close()
        lab.close()


@pytest.fixture
def config(traffic, programs):
    path = os.path.join(programs.directory, "top.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'networks:\n  far: ["{traffic.far_end.v4}/32"]\n')
    return path


def start_top(host, *arguments, wrapper=()):
    return host.popen([*wrapper, netsonde.BINARY, "top", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                      stderr=subprocess.PIPE)


def finish(program, status=0):
    out, err = program.communicate(timeout=30 * PATIENCE)
    assert program.returncode == status, err.decode() + out.decode()
    return out.decode() if status == 0 else err.decode()


def top(host, *arguments, status=0):
    return finish(start_top(host, *arguments), status)


def url_of(agent):
    return f"http://{agent.address[0]}:{agent.address[1]}"


@pytest.fixture(params=["kernel", "agent"])
def ask(request, traffic, config, start_agent):
    """ask(arguments, ...) -> the texts that as many `netsonde top` print, all at the same time."""
    arguments = ["--config.file", config]
    if request.param == "agent":
        with open(config, encoding="utf-8") as file:
            arguments = ["--url", url_of(start_agent(traffic.watcher, file.read()))]

    def run(*all_arguments):
        running = [start_top(traffic.watcher, *arguments, *one) for one in all_arguments]
        return [finish(program) for program in running]

    run.source = request.param
    return run


def test_tables_beside_ss_and_the_applications(traffic, ask):
    """The four views of one time."""
    started, sent_before, retransmits_before = time.monotonic(), traffic.sent, traffic.retransmits()
    stop = threading.Event()
    with traffic.near:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams = 0

    def waste():
        nonlocal datagrams
        while not stop.wait(0.02):
            udp.sendto(b"n", ("127.0.0.1", 9))
            datagrams += 1

    thread = threading.Thread(target=waste, daemon=True)
    thread.start()
    connections, peers, processes, drops = map(json.loads, ask(
        ["--json", "--filter", traffic.ours], ["--json", "--view", "peers", "--filter", traffic.ours],
        ["--json", "--view", "processes", "--filter", traffic.ours], ["--json", "--view", "drops"]))
    stop.set()
    thread.join()
    udp.close()
    sent_after, ss = traffic.sent, traffic.ss()

    # Every connection that ss shows, with the process that holds it.
    rows = {row["id"]: row for row in connections["connections"]}
    assert set(rows) == set(ss) and len(ss) == 2 * (Traffic.RESTING + 2)
    for cookie, (local_port, remote_port, pids) in ss.items():
        row = rows[cookie]
        assert (row["local_port"], row["remote_port"]) == (local_port, remote_port)
        assert row["pid"] in pids and row["state"] == "established"
    assert connections["total"] >= connections["known"] >= connections["matched"] == len(rows)
    assert 0.9 < connections["interval_seconds"] < time.monotonic() - started or ask.source == "agent"

    # The steady stream: its bytes are between what it had sent before and after, its rate is about what it was made to
    # be, and surely not more than what it sent in all the while.
    steady, = (row for row in rows.values() if row["local_port"] == traffic.steady.getsockname()[1] and row["role"] == "client")
    wanted = PIECE * PIECES_A_SECOND
    assert sent_before <= steady["sent_bytes"] <= sent_after
    assert wanted * 0.5 < steady["sent_rate_bytes"] < wanted * 2, steady
    if ask.source == "kernel":
        assert steady["sent_rate_bytes"] * steady["interval_seconds"] <= sent_after - sent_before + 1
    assert 0.02 <= steady["rtt_seconds"] < 0.06 * PATIENCE
    assert retransmits_before <= steady["retransmits"] <= traffic.retransmits()
    assert steady["peer"] == "far" and steady["pid"] == os.getpid()
    other, = (row for row in rows.values() if row["remote_port"] == steady["local_port"])
    assert (other["process"], other["pid"], other["role"]) == ("reader", traffic.reader_pid, "server")
    assert wanted * 0.5 < other["received_rate_bytes"] < wanted * 2
    # The other one waits for the far host, which does not read.
    pushing, = (row for row in rows.values() if row["local_port"] == traffic.pushing.getsockname()[1] and row["role"] == "client")
    assert (pushing["verdict"]["side"], pushing["verdict"]["cause"]) == ("far_host", "receive_window")
    assert pushing["verdict"]["causes"]["receive_window"] > 0.6
    assert connections["sent_rate_bytes"] >= steady["sent_rate_bytes"] + pushing["sent_rate_bytes"] - 1
    # The busiest first.
    rates = [row["sent_rate_bytes"] + row["received_rate_bytes"] for row in connections["connections"]]
    assert rates == sorted(rates, reverse=True)

    far, = (row for row in peers["peers"] if row["peer"] == "far")
    assert (far["connections"], far["processes"]) == (Traffic.RESTING + 2, 1)
    assert far["sent_rate_bytes"] > wanted * 0.5 and far["verdict"]["side"] in ("far_host", "this_host")
    by_pid = {row["pid"]: row for row in processes["processes"]}
    reader, sloth = by_pid[traffic.reader_pid], by_pid[traffic.sloth_pid]
    assert (reader["process"], reader["connections"], reader["peers"]) == ("reader", Traffic.RESTING + 1, 1)
    assert (sloth["process"], sloth["connections"], sloth["verdict"]["cause"]) == ("sloth", 1, "local_reader")

    lost, = (row for row in drops["drops"] if row["protocol"] == "udp" and row["reason"] in ("no_socket", "unknown", "not_specified"))
    assert lost["count"] > 0 and 15 < lost["rate"] < 500, lost  # fifty a second, and what others may lose
    assert drops["drop_rate"] >= lost["rate"]


def test_text_order_and_filter(traffic, ask):
    text, ordered, filtered, piped, bits = ask(
        ["--batch", "--filter", f"pid:{os.getpid()} peer:far"], ["--json", "--sort", "process", "--reverse", "--filter", traffic.ours],
        ["--json", "--filter", f"port:{traffic.reader_port} role:client"], ["--filter", "process:reader", "--view", "processes"],
        ["--batch", "--bits", "--filter", f"pid:{os.getpid()} rate>100k"])
    head, summary, titles, *rows = text.rstrip("\n").split("\n")
    assert head.startswith("netsonde top") and "  out " in summary and f"({Traffic.RESTING + 2})" in summary
    for word in ("PROCESS", "PID", "PEER", "REMOTE", "RTT", "JITTER", "RETR", "OUT/s", "IN/s", "WAITS FOR"):
        assert word in titles
    assert len(rows) == Traffic.RESTING + 2
    assert all(f" {os.getpid()} " in row and traffic.far_end.v4 in row and "far" in row for row in rows)
    at = titles.index("WAITS FOR")
    pushing, = (row for row in rows if f"{traffic.far_end.v4}:{traffic.sloth_port} " in row)
    assert pushing[at:].startswith("far window"), text
    names = [row["process"] for row in json.loads(ordered)["connections"]]
    assert names == sorted(names, key=lambda name: (name.lower(), name), reverse=True)
    assert {row["remote_port"] for row in json.loads(filtered)["connections"]} == {traffic.reader_port}
    assert json.loads(filtered)["matched"] == Traffic.RESTING + 1
    # A pipe gets the text without being asked for it.
    assert re.search(rf"^reader +{traffic.reader_pid} +{Traffic.RESTING + 1} ", piped, re.MULTILINE), piped
    steady, = (row for row in bits.splitlines() if f":{traffic.reader_port} " in row)
    rate = re.search(r"(\d\.\d\d)M", steady)
    assert 1.6 * 0.5 < float(rate[1]) < 1.6 * 2, steady


def test_several_tables(traffic, ask):
    lines = ask(["--json", "--count", "3", "--interval", "600ms", "--filter", "port:1"])[0].splitlines()
    tables = [json.loads(line) for line in lines]
    assert len(tables) == 3 and all(table["matched"] == 0 and table["connections"] == [] for table in tables)
    assert all(table["interval_seconds"] > 0.3 for table in tables)


def test_what_is_wrong_is_said(traffic, programs, config):
    watcher = traffic.watcher
    for arguments, sentence in ((["--filter", "proces:x"], "did you mean process?"), (["--sort", "rt"], "did you mean `rtt`?"),
                                (["--view", "drops", "--sort", "rtt"], "no column `rtt`"), (["--interval", "1ms"], "100ms to 1h"),
                                (["--view", "all"], "--view"), (["x"], "")):
        assert sentence in top(watcher, "--batch", *arguments, status=2)
    assert "no table from http://127.0.0.1:1: connection refused" in top(watcher, "--json", "--url", "http://127.0.0.1:1", status=1)
    assert "top.yaml" in top(watcher, "--batch", "--config.file", config + ".top.yaml", status=1)


NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"]


def test_without_rights(traffic, programs, start_agent):
    """Says what is needed; and takes the agent of this host where there is one."""
    # A copy where an ordinary user gets at it: the checkout may lie below a directory that is closed to others.
    binary = shutil.copy(netsonde.BINARY, programs.directory)

    def run(status):
        program = traffic.watcher.popen([*NOBODY, binary, "top", "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        return finish(program, status)

    complaint = run(1)
    assert "root" in complaint and "CAP_BPF" in complaint and "http://127.0.0.1:9435" in complaint and "--url" in complaint
    start_agent(traffic.watcher, arguments=("--web.listen-address", "127.0.0.1:9435"))
    table = json.loads(run(0))
    assert table["source"] == "http://127.0.0.1:9435" and table["known"] >= 2 * (Traffic.RESTING + 2)


class Terminal:
    """A tmux with one window, in which a shell starts the program and then says how it ended."""

    def __init__(self, host, directory, columns, rows, command, environment=()):
        self.socket = os.path.join(directory, "tmux")
        self.directory = directory
        # Not a daemon, so that it ends with the test.
        self.server = host.popen(["tmux", "-S", self.socket, "-f", "/dev/null", "-D"], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        wait_for(lambda: os.path.exists(self.socket) and self._tmux("show-options", "-s", check=False), 10 * PATIENCE, "tmux runs")
        words = shlex.join(["env", "LC_ALL=C.UTF-8", *environment, *command])
        self.script = (f"cd {directory}; stty -g >before; {words} 2>errors & echo $! >pid; fg >/dev/null; "
                       "echo $? >status; stty -g >after; sleep 1000")
        self.started = time.monotonic()
        self._tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), "bash", "-m", "-c", self.script)

    def _tmux(self, *arguments, check=True):
        result = subprocess.run(["tmux", "-S", self.socket, *arguments], check=False, capture_output=True, text=True)
        assert not check or result.returncode == 0, result.stderr
        return result.stdout

    def _read(self, name):
        try:
            with open(os.path.join(self.directory, name), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    @property
    def pid(self):
        return int(self._read("pid"))

    @property
    def screen(self):
        return self._tmux("capture-pane", "-p")

    @property
    def lines(self):
        return self.screen.rstrip("\n").split("\n")

    def press(self, *keys):
        self._tmux("send-keys", *keys)

    def type(self, text):
        self._tmux("send-keys", "-l", text)

    def resize(self, columns, rows):
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def shows(self, *texts, seconds=10):
        wait_for(lambda: all(text in self.screen for text in texts), seconds * PATIENCE,
                 lambda: f"{texts} on the screen:\n{self.screen}\n{self._read('errors')}")

    def shows_not(self, text):
        wait_for(lambda: text not in self.screen, 10 * PATIENCE, lambda: f"{text!r} gone:\n{self.screen}")

    def ended(self, status=0):
        """The exit status is right and the terminal as it was: its modes, its own screen, its cursor."""
        wait_for(lambda: self._read("after").endswith("\n"), 10 * PATIENCE, lambda: f"it ends:\n{self.screen}")
        assert self._read("status") == f"{status}\n", self._read("errors")
        assert self._read("after") == self._read("before")
        assert self._tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}") == "0 1\n"
        return self._read("errors")

    def close(self):
        self.server.kill()
        self.server.wait()


@pytest.fixture
def open_top(traffic, programs):
    """open_top(arguments..., columns=, rows=, environment=) -> a Terminal with `netsonde top` in it."""
    opened = []

    def run(*arguments, columns=120, rows=30, environment=()):
        directory = os.path.join(programs.directory, f"terminal{len(opened)}")
        os.mkdir(directory)
        terminal = Terminal(traffic.watcher, directory, columns, rows, [netsonde.BINARY, "top", *arguments], environment)
        opened.append(terminal)
        return terminal

    yield run
    for terminal in opened:
        terminal.close()


def test_keys(traffic, config, open_top):
    """Each thing that can be done, as one goes on."""
    terminal = open_top("--config.file", config, "--interval", "500ms")
    terminal.shows("  out ", "1 connections", "PROCESS", "WAITS FOR")
    assert time.monotonic() - terminal.started < 3 * PATIENCE
    terminal.shows("far window", "reader", "kB/s")
    head, summary = terminal.lines[:2]
    assert "kernel  every 500ms" in head and re.search(r"\d\.\d s old$", head)
    assert re.match(r"\d+ connections.*  out .*B/s  in .*B/s  retrans .*  drops .*/s$", summary)
    assert terminal.lines[-1].startswith("1-4 view") and re.search(r"1/\d+$", terminal.lines[-1])

    terminal.press("2")
    terminal.shows("PEER", "CONNS", "PROCS")
    terminal.press("3")
    terminal.shows("PEERS")
    terminal.press("Tab")
    terminal.shows("REASON", "DROPS/s")
    terminal.press("BTab")
    terminal.shows("PEERS")
    terminal.press("1")

    # Only ours; sorted by name, and the other way round.
    terminal.press("/")
    terminal.type("process:reader")
    terminal.shows("Filter: process:reader")
    wait_for(lambda: "sloth" not in terminal.screen, 5 * PATIENCE, "only the reader's")
    terminal.press("Enter")
    terminal.shows("filter: process:reader (6)", "1/6")
    terminal.press("Escape")
    terminal.shows_not("filter: process:reader")
    terminal.press("/")
    terminal.type("rtt>fast")
    terminal.shows("is no value of rtt")
    terminal.press("Escape")
    terminal.press("/")
    terminal.type(f"peer:{traffic.near_end.v4}")
    terminal.press("Enter")
    terminal.press("s", "Home")
    terminal.shows("Sort by")
    terminal.press("Enter")
    terminal.shows("PROCESS\u25bc")
    assert [line.split()[0] for line in terminal.lines[4:11]] == ["reader"] * 6 + ["sloth"]
    terminal.press("r")
    terminal.shows("PROCESS\u25b2")
    wait_for(lambda: terminal.lines[4].startswith("sloth"), 5 * PATIENCE, "the other way round")
    terminal.press(">")
    terminal.shows("PID\u25bc")
    terminal.press("<", "r")
    terminal.shows("1/7")

    # The cursor stays with its row; Enter says all about it.
    terminal.press("Down")
    terminal.shows("2/7")
    terminal.press("Enter")
    terminal.shows("reader (PID")
    terminal.press("Escape", "Up", "Enter")
    terminal.shows("sloth (PID", "This host's application reads too slowly", "this host   ####", "round trip", "windows", "in all")
    terminal.press("Escape")
    terminal.press("Home", "End")
    terminal.shows("7/7")
    terminal.press("PPage")
    terminal.shows("1/7")

    # Paused, nothing moves.
    terminal.press("b")
    terminal.shows("bit/s")
    terminal.press("p")
    terminal.shows("PAUSED")
    frozen = terminal.lines[1:]
    wait_for(lambda: float(re.search(r"(\d+\.\d) s old", terminal.lines[0])[1]) > 1.5, 10 * PATIENCE, "older")
    assert terminal.lines[1:] == frozen
    terminal.press("Space")
    terminal.shows_not("PAUSED")
    wait_for(lambda: float(re.search(r"(\d+\.\d) s old", terminal.lines[0])[1]) < 1, 10 * PATIENCE, "young again")

    # From a process to its connections and back.
    terminal.press("Escape", "3", "/")
    terminal.type("process:sloth")
    terminal.press("Enter", "Enter")
    terminal.shows(f"filter: pid:{traffic.sloth_pid} (1)", "REMOTE")
    terminal.press("Escape")
    terminal.shows("filter: process:sloth (1)", "CONNS")
    terminal.press("?")
    terminal.shows("Keys", "process=nginx")
    terminal.press("q")
    terminal.shows("1-4 view")
    terminal.press("q")
    assert terminal.ended() == ""


def test_sizes(open_top, traffic):
    terminal = open_top("--filter", f"process:sloth peer:{traffic.near_end.v4}", columns=80, rows=24)
    end = f"{traffic.near_end.v4}:"
    terminal.shows("own reader", end)
    for columns, rows in ((80, 24), (200, 50), (60, 10), (20, 4), (1, 1), (132, 30)):
        terminal.resize(columns, rows)
        if columns < 60:
            continue

        def redrawn(rows=rows, columns=columns):
            """The whole screen is used, and no line is beyond it."""
            lines = terminal.lines
            good = (len(lines) == rows and lines[-1].startswith("1-4 view") and lines[3].startswith("PROCESS")
                    and ("LOCAL" in lines[3]) == (columns >= 132) and all(len(line) <= columns for line in lines))
            return lines[3:5] if good else None

        titles, row = wait_for(redrawn, 10 * PATIENCE, lambda c=columns: f"redrawn for {c} columns:\n{terminal.screen}")
        assert "REMOTE" in titles and end in row
        if columns >= 80:
            for title in ("RTT", "RETR", "OUT/s", "IN/s", "WAITS FOR"):
                assert title in titles
            assert row[titles.index("WAITS FOR"):].startswith("own reader")
    terminal.press("q")
    terminal.ended()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals(open_top, number):
    terminal = open_top()
    terminal.shows("  out ")
    os.kill(terminal.pid, number)
    terminal.ended()


def test_stopped_and_continued(open_top):
    terminal = open_top()
    terminal.shows("  out ")
    os.kill(terminal.pid, signal.SIGTSTP)
    # `fg` of the shell returns with the status of a stopped job; the terminal is the shell's.
    terminal.ended(128 + signal.SIGTSTP)
    os.kill(terminal.pid, signal.SIGCONT)
    os.kill(terminal.pid, signal.SIGTERM)
    wait_for(lambda: not os.path.exists(f"/proc/{terminal.pid}") or b"Z" in open(f"/proc/{terminal.pid}/stat", "rb").read(),
             10 * PATIENCE, "it ends")


def test_a_terminal_that_cannot(open_top):
    terminal = open_top(environment=("TERM=dumb",))
    assert "--batch" in terminal.ended(1)


def test_names_of_others(traffic, open_top):
    """A process is called what it wants; the terminal does not obey it. Without colours nothing is coloured."""
    worker = traffic.far.popen(["/usr/bin/python3", "-c", WORKER, b"\033[2J\033]0;x\a\nevil".hex(), traffic.far_end.v4, "fast"],
                               stdout=subprocess.PIPE)
    try:
        with traffic.near:
            sock = socket.create_connection((traffic.far_end.v4, int(worker.stdout.readline())))
        terminal = open_top("--filter", f"pid:{worker.pid}", environment=("NO_COLOR=1",))
        terminal.shows("?[2J?]0;x??evil", "1/1", "WAITS FOR")
        coloured = terminal._tmux("capture-pane", "-p", "-e")
        assert not re.search(r"\033\[(\d+;)*3[0-7]\b", coloured), coloured
        terminal.press("q")
        terminal.ended()
        sock.close()
    finally:
        worker.kill()
        worker.wait()


def test_an_agent_goes_and_comes(traffic, programs, start_agent, open_top):
    port = 9437
    arguments = ("--web.listen-address", f"127.0.0.1:{port}")
    agent = start_agent(traffic.watcher, arguments=arguments)
    terminal = open_top("--url", f"http://127.0.0.1:{port}", "--interval", "500ms", "--filter", f"pid:{traffic.sloth_pid}")
    terminal.shows("own reader", f"http://127.0.0.1:{port}  every 500ms", "1/1", "sloth")
    agent.program.kill()
    agent.stop = lambda: None
    terminal.shows("STALE for", "connection refused; trying again", "sloth")
    start_agent(traffic.watcher, arguments=arguments)
    terminal.shows_not("STALE")
    terminal.shows("own reader")
    terminal.press("4")
    terminal.shows("REASON")
    terminal.press("q")
    terminal.ended()


def test_no_agent_at_first(open_top):
    terminal = open_top("--url", "http://127.0.0.1:1")
    terminal.shows("NO DATA from http://127.0.0.1:1: connection refused; trying again", "No table came yet")
    terminal.press("2", "q")
    terminal.ended()
