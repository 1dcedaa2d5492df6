#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What each BPF program of the agent costs per run, by the kernel's run-time statistics.

The figures are the agent's own metrics (netsonde_bpf_run_seconds_total / netsonde_bpf_runs_total), read before and after
each round of an event: a retransmission, a dropped packet, a process, a lookup, a packet. An empty program hangs on the
same hook in the same rounds (bench/empty_hook.c); the statistics are part of both, so the difference is the cost of ours.
The statistics are on while the process of the empty programs lives, and no longer.

The hooks are those of the whole machine: what other processes do meanwhile runs the programs too. "runs/event" above 1
(above 2 for lookups) shows how much of that there was; what happens at both ends of a test connection counts twice. The
programs of a connection's life are in bench/lifecycle.c, those of the sweep in bench/sweep.c. Here is also what one
table of connections takes, in wall time, as it is an iterator.
"""
import argparse
import contextlib
import io
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

import measure

NS, RUNS = "netsonde_bpf_run_seconds_total", "netsonde_bpf_runs_total"
OFF = "drops: off, processes: off, lookups: off, interfaces: off"
WINDOW = 64  # datagrams on their way
DATAGRAMS, ROUND_TRIPS, DROPS, RESETS, PROCESSES, LOOKUPS = 5000, 4000, 20000, 2000, 300, 3000
LOSSY_BYTES = 8 << 20
TABLE_CONNECTIONS = 5000

# Sends every UDP datagram of a device back, as frames: no socket of IP is behind it, so the hooks of this end do not run.
MIRROR = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
s.bind((sys.argv[1], 0x0800))
print("ready", flush=True)
while True:
    f, address = s.recvfrom(2048)
    if address[2] == socket.PACKET_OUTGOING or f[23] != 17:
        continue
    data = f[42:]
    if f[36:38] == b"\\0\\x35":
        data = data[:2] + b"\\x81\\x80" + data[4:]
    s.send(f[6:12] + f[:6] + f[12:26] + f[30:34] + f[26:30] + f[36:38] + f[34:36] + f[38:40] + b"\\0\\0" + data)
"""
# One connection after the other: "echo" answers each byte, "sink" reads to the end.
SERVER = """
import socket, sys
listener = socket.create_server((sys.argv[1], 0))
print(listener.getsockname()[1], flush=True)
while True:
    sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := sock.recv(1 if sys.argv[2] == "echo" else 1 << 20):
        if sys.argv[2] == "echo":
            sock.send(data)
    sock.close()
"""


class EmptyHooks:
    """Empty programs on some hooks of the machine; the kernel's statistics are on until close. Made behind the agent's:
    of two programs on one hook the first pays for what is not in the caches, and that shall not flatter ours."""

    def __init__(self, helper, host, hooks):
        self.hooks = hooks
        self.process = host.popen([helper, *hooks], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            sys.exit("the empty programs cannot be attached")

    def read(self):
        """{hook: (runs, ns)}"""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        numbers = [int(word) for word in self.process.stdout.readline().split()]
        return dict(zip(self.hooks, zip(numbers[::2], numbers[1::2])))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)


class Rig:
    """A host, one it talks to, one behind a lossy link, and one that sends datagrams back."""

    def __init__(self, netlab):
        self.lab = netlab.Lab()
        self.watcher, self.near, self.far, self.lossy, self.mirror = map(
            self.lab.host, ("watcher", "near", "far", "lossy", "mirror"))
        self.near_end, self.far_end = self.lab.link(self.near, self.far)
        self.lossy_end = self.lab.link(self.near, self.lossy, delay="1ms", a_to_b={"loss": "5%"})[1]
        self.here_end, self.mirror_end = self.lab.link(self.near, self.mirror)
        self.far.nft("chain input { type filter hook input priority 0; udp dport 9 drop; }")
        self.echo, self.echo_port = self._server(self.far, self.far_end.v4, "echo")
        self.sink, self.sink_port = self._server(self.lossy, self.lossy_end.v4, "sink")
        self._start_mirror()

    @staticmethod
    def _server(host, address, kind):
        process = host.popen([sys.executable, "-c", SERVER, address, kind], stdout=subprocess.PIPE)
        return process, int(process.stdout.readline())

    def _start_mirror(self):
        device = self.mirror_end.device
        link = json.loads(self.mirror.run("ip", "-j", "link", "show", device))[0]["address"]
        self.mirror.run("ip", "address", "flush", "dev", device)
        self.near.run("ip", "neighbour", "replace", self.mirror_end.v4, "lladdr", link, "dev", self.here_end.device,
                      "nud", "permanent")
        self.frames = self.mirror.popen([sys.executable, "-c", MIRROR, device], stdout=subprocess.PIPE)
        self.frames.stdout.readline()

    def close(self):
        for process in (self.echo, self.sink, self.frames):
            process.kill()
            process.wait()
        self.lab.close()

    # The rounds: each returns how many events there were.

    def datagrams(self, port=7777, payload=bytes(100)):
        """To the mirror and back; each has an ID of its own in front."""
        with self.near, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((self.mirror_end.v4, port))
            sock.settimeout(10)
            sent = got = 0
            while got < DATAGRAMS:
                while sent < DATAGRAMS and sent - got < WINDOW:
                    sock.send(struct.pack(">H", sent) + payload)
                    sent += 1
                sock.recv(2048)
                got += 1
        return DATAGRAMS

    def queries(self):
        question = b"\7example\4test\0" + struct.pack(">HH", 1, 1)
        return self.datagrams(53, struct.pack(">5H", 0x0100, 1, 0, 0, 0) + question)

    def round_trips(self):
        with self.near, socket.create_connection((self.far_end.v4, self.echo_port)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(ROUND_TRIPS):
                sock.send(b"q")
                sock.recv(1)
        return ROUND_TRIPS

    def packets_of_both_ends(self):
        return 2 * self.round_trips()  # an end sends one packet and receives one per round trip, and so does the other

    def retransmissions(self):
        before = int(self.near.counters("Tcp")["RetransSegs"])
        with self.near, socket.create_connection((self.lossy_end.v4, self.sink_port)) as sock:
            sock.sendall(bytes(LOSSY_BYTES))
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1)
        return int(self.near.counters("Tcp")["RetransSegs"]) - before

    def drops(self, count=DROPS, pause=0):
        with self.near, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(count):
                sock.sendto(b"discard", (self.far_end.v4, 9))
                time.sleep(pause)
        return count

    def slow_drops(self):
        return self.drops(40, 0.02)  # 50/s: fewer than the default of events_per_second

    def resets(self):
        with self.near:
            for _ in range(RESETS):
                with socket.socket() as sock:
                    sock.connect_ex((self.far_end.v4, 1))
        return RESETS

    @staticmethod
    def processes():
        program = shutil.which("true")
        for _ in range(PROCESSES):
            os.waitpid(os.posix_spawn(program, [program], {}), 0)
        return PROCESSES

    @staticmethod
    def lookups():
        for _ in range(LOOKUPS):
            socket.getaddrinfo("localhost", 80, socket.AF_INET)
        return LOOKUPS


class Case:
    """event: what a run of a program is about. programs: {name: hook}. together: what `runs` runs of each make. least: so
    many runs there are at least per event."""

    def __init__(self, event, work, programs, together=None, runs=1, least=0.99):
        self.event, self.work, self.programs, self.together = event, work, programs, together
        self.runs, self.least = runs, least


def libc_path():
    with open("/proc/self/maps", encoding="ascii") as file:
        return re.search(r"/\S*/libc[.-]\S*so\S*", file.read()).group(0)


def groups(rig):
    """(configuration, host of the agent, cases) of each run of an agent. The tick is short to have short rounds."""
    trace, libc = "tracepoint:", f"function:{libc_path()}:getaddrinfo:"
    dns = {"dns_egress": "cgroup:egress", "dns_ingress": "cgroup:ingress"}
    udp = {"udp_egress": "cgroup:egress", "udp_ingress": "cgroup:ingress"}

    def flows(end):
        return {f"flow_{word}": f"device:{end.device}:{way}"
                for word, way in (("transmit", "egress"), ("receive", "ingress"))}

    yield "", rig.watcher, [
        # The kernel's counter of retransmitted segments is the events; what it sends again at once may be several.
        Case("retransmission", rig.retransmissions, {"tcp_retransmit": trace + "tcp_retransmit_skb"}, least=0.1),
        Case("reset", rig.resets, {"tcp_send_reset": trace + "tcp_send_reset",
                                   "tcp_receive_reset": trace + "tcp_receive_reset"}),
        Case("dropped packet, in a flood", rig.drops, {"drop_packet": trace + "kfree_skb"}),
        Case("dropped packet, each with its event", rig.slow_drops, {"drop_packet": trace + "kfree_skb"}),
        Case("process", rig.processes, {"process_exec": trace + "sched_process_exec",
                                        "process_exit": trace + "sched_process_exit"}, "one process"),
        # libc's getaddrinfo calls its gethostbyname2_r, which is probed too.
        Case("host lookup", rig.lookups, {"lookup_enter": libc + "enter", "lookup_return": libc + "return"},
             "one lookup", 2),
    ]
    yield f"dns: on, {OFF}", rig.watcher, [
        Case("DNS message, dns on", rig.queries, dns, "query and answer"),
        Case("other UDP datagram, dns on", rig.datagrams, dns),
        Case("other TCP packet, dns on", rig.packets_of_both_ends, dns),
    ]
    yield f"udp: on, {OFF}", rig.watcher, [
        Case("UDP datagram, udp on", rig.datagrams, udp),
        Case("TCP packet, udp on", rig.packets_of_both_ends, udp),
    ]
    yield f"flows: [{rig.near_end.device}, {rig.here_end.device}], {OFF}", rig.near, [
        Case("UDP packet, flows on", rig.datagrams, flows(rig.here_end)),
        Case("TCP packet, flows on", rig.round_trips, flows(rig.near_end)),
    ]
    yield f"tcp: {{rtt: every_ack}}, {OFF}", rig.watcher, [
        Case("acknowledgement, rtt every_ack", rig.packets_of_both_ends, {"tcp_rtt": "cgroup:sockops"}),
    ]


def ns_per_run(before, after, what):
    if after[0] == before[0]:
        sys.exit(f"{what} did not run")
    return (after[1] - before[1]) / (after[0] - before[0])


def read_programs(agent, names):
    metrics = agent.settle(1)
    return {name: (metrics.sum(RUNS, program=name), 1e9 * metrics.sum(NS, program=name)) for name in names}


def one_round(case, agent, empty):
    """{program: {column: value}}, and how many times as often as expected the programs ran at most."""
    before, nothing_before = read_programs(agent, case.programs), empty.read()
    events = case.work()
    after, nothing_after = read_programs(agent, case.programs), empty.read()
    result = {}
    for name, hook in case.programs.items():
        ours = ns_per_run(before[name], after[name], name)
        nothing = ns_per_run(nothing_before[hook], nothing_after[hook], f"the empty program on {hook}")
        runs = (after[name][0] - before[name][0]) / events
        if runs < case.least:
            sys.exit(f"{case.event}: {events} events, but {name} ran {runs * events:.0f} times")
        result[name] = {"empty_ns": nothing, "ns": ours, "above_ns": ours - nothing, "runs_per_event": runs}
    return result, max(values["runs_per_event"] for values in result.values()) / case.runs


def run_case(case, agent, empty, rounds):
    """Rows of a case: one per program, and one for all together. Rounds in which other processes' events were more than a
    tenth are repeated, up to twice as many; those that were disturbed least count."""
    case.work()  # warms up
    done = []
    while len(done) < 3 * rounds and sum(1 for _, extra in done if extra < 1.1) < rounds:
        done.append(one_round(case, agent, empty))
    best = [result for result, _ in sorted(done, key=lambda item: item[1])[:rounds]]
    rows = [{"event": case.event, "program": name, "hook": hook.partition(":/")[0],
             **{column: measure.spread([result[name][column] for result in best]) for column in best[0][name]}}
            for name, hook in case.programs.items()]
    if case.together:
        sums = [case.runs * sum(values["above_ns"] for values in result.values()) for result in best]
        rows.append({"event": case.event, "program": case.together, "above_ns": measure.spread(sums)})
    return rows


def show(row):
    def cells(key):
        if key not in row:
            return " " * 24
        value = row[key]
        return f"{value['median']:8.1f} ({value['min']:.0f}..{value['max']:.0f})".ljust(24)
    runs = f"{row['runs_per_event']['median']:6.2f}" if "runs_per_event" in row else ""
    print(f"{row['event']:36} {row['program']:18}{cells('empty_ns')}{cells('ns')}{cells('above_ns')}{runs}", flush=True)


def measure_programs(netlab, netsonde, programs, helper, rounds):
    rows, rig = [], Rig(netlab)
    print(f"{'event':36} {'program':18}{'    empty, ns per run':24}{'    ns per run':24}{'    above the empty':24}runs/event")
    try:
        for config, host, cases in groups(rig):
            hooks = list(dict.fromkeys(hook for case in cases for hook in case.programs.values()))
            full = f"collect: {{tick: 100ms{', ' if config else ''}{config}}}\n"
            with measure.running_agent(netsonde, programs, host, full) as agent, EmptyHooks(helper, host, hooks) as empty:
                for case in cases:
                    rows += run_case(case, agent, empty, rounds)
                    for row in rows[-len(case.programs) - bool(case.together):]:
                        show(row)
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            rig.close()
    return rows


def show_other(event, what, unit, values):
    row = {"event": event, "what": what, "unit": unit, **measure.spread(values)}
    print(f"{what:64} {row['median']:8.2f} ({row['min']:.2f}..{row['max']:.2f}) {unit}", flush=True)
    return row


def one_table(agent, last):
    """Asks until there is a table newer than `last`: its number, its rows, the ms that this request took, and the ms of
    each request before, which got the one there was."""
    again = []
    while True:
        begin = time.perf_counter()
        status, _, body = agent.get("/api/v1/connections?limit=1")
        took = 1e3 * (time.perf_counter() - begin)
        data = json.loads(body)["data"] if status == 200 else sys.exit(f"no table of connections: {body}")
        if data["table"] != last:
            return data["table"], data["total"], took, again
        again.append(took)
        time.sleep(0.1)


def measure_table(netlab, netsonde, programs, helper, rounds):
    lab = netlab.Lab()
    host = lab.host("watcher")
    name, holders, fresh, again, per_file = "connection_list", [], [], [], []
    try:
        with measure.running_agent(netsonde, programs, host, "collect: {tick: 100ms}\n") as agent:
            holders = measure.hold(TABLE_CONNECTIONS, 50)
            table = one_table(agent, 0)[0]
            for _ in range(rounds):
                table, total, took, before = one_table(agent, table)
                fresh.append(took)
                again += before
            with EmptyHooks(helper, host, []):  # for the statistics
                for _ in range(rounds):
                    before = read_programs(agent, [name])[name]
                    table = one_table(agent, table)[0]
                    per_file.append(ns_per_run(before, read_programs(agent, [name])[name], name))
    finally:
        for holder in holders:
            measure.stop(holder)
        lab.close()
    event = "table of connections"
    print(f"\n{event}: GET /api/v1/connections?limit=1, {total} rows")
    return [show_other(event, "a new table, request to answer", "ms", fresh),
            show_other(event, "  the same per row", "us", [1e3 * ms / total for ms in fresh]),
            show_other(event, "the table there is, request to answer", "ms", again),
            show_other(event, f"program {name}, per file of any task, with the statistics", "ns", per_file)]


def measure_lookups(netlab, netsonde, programs, rounds):
    """The traps of the probes are no part of a program's run time, so here is what a caller pays, in CPU time."""
    lab = netlab.Lab()
    host = lab.host("watcher")

    def once():
        begin = time.thread_time()
        Rig.lookups()
        return 1e6 * (time.thread_time() - begin) / LOOKUPS

    without, with_agent = [], []
    try:
        for _ in range(rounds):
            without.append(once())
            with measure.running_agent(netsonde, programs, host, ""):
                with_agent.append(once())
    finally:
        lab.close()
    event = "host lookup"
    print(f"\n{event}: getaddrinfo of a name in /etc/hosts, CPU time of the caller")
    return [show_other(event, "without an agent", "us", without), show_other(event, "with an agent", "us", with_agent),
            show_other(event, "  more, pair by pair", "us", [b - a for a, b in zip(without, with_agent)])]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--netsonde", default=os.path.join(measure.ROOT, "build", "netsonde"))
    parser.add_argument("--rounds", type=int, default=9, help="of each event, behind one that warms up")
    parser.add_argument("--json")
    args = parser.parse_args()
    measure.own_namespace()
    netlab, netsonde = measure.system_tests(args.netsonde)
    helper = os.path.join(os.path.dirname(os.path.abspath(args.netsonde)), "bench", "empty_hook")
    with tempfile.TemporaryDirectory() as directory:
        programs = netsonde.Programs(directory)
        rows = measure_programs(netlab, netsonde, programs, helper, args.rounds)
        rows += measure_lookups(netlab, netsonde, programs, args.rounds)
        rows += measure_table(netlab, netsonde, programs, helper, args.rounds)
    measure.write_json(args.json, "hooks", rows)


if __name__ == "__main__":
    main()
