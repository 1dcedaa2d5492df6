#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How far measured round trips are from the truth: `netsonde ping` beside ping, fping and blackbox_exporter.

The link is a relay that logs when each packet came and went, on CLOCK_MONOTONIC, so the truth of a probe is from its
request's arrival at the relay to its answer's departure from it. What a tool says above that is the way from the relay to
the interface and its own host: the stack, the scheduler, its clock. The relay runs before all other processes. How much of
it is the way to the interface is seen beside it: a packet socket there, with the kernel's own stamps of the same packets,
which is read when the round is over.

One target idle, one with every core busy, 100 targets with every core busy, and one from a cgroup that may use a fifth of a
CPU and shares it with a process that wants all of it. Rounds of all tools take turns; each row has all its rounds' probes.
"""
import argparse
import contextlib
import json
import math
import os
import re
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

import measure

DELAY = "200us"  # below 1 ms the tools print us
INTERVAL_S = 0.01
BLACKBOX_MODULE = "modules: {icmp: {prober: icmp, timeout: 2s, icmp: {preferred_ip_protocol: ip4}}}\n"
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35
HOG = [sys.executable, "-c", "while True: pass"]


class Capture:
    """The ICMP packets of an interface and when the kernel saw them, from CLOCK_REALTIME; kept in the socket until read."""

    def __init__(self, host, device):
        with host:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))
            self.socket.bind((device, 0x0003))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setblocking(False)

    def read(self):
        """[(address of the far end, type, identifier and number, ns)]"""
        found = []
        while True:
            try:
                data, control, _, _ = self.socket.recvmsg(64, 64)
            except BlockingIOError:
                return found
            if data[0] == 0x45 and data[9] == 1 and data[20] in (0, 8):
                seconds, ns = struct.unpack("qq", control[0][2][:16])
                far = data[16:20] if data[20] == 8 else data[12:16]
                found.append((socket.inet_ntoa(far), data[20], data[24:28], seconds * 1000000000 + ns))


class Rig:
    """A host that measures and one that answers, for as many addresses as wanted."""

    def __init__(self, netlab):
        self.lab = netlab.Lab()
        self.near, far = self.lab.host("near"), self.lab.host("far")
        near_end, far_end = self.lab.link(self.near, far, delay=DELAY, relay={"realtime": True})
        self.relay, self.device = near_end.relay, near_end.device
        far.run("ip", "route", "add", "local", "198.18.0.0/16", "dev", "lo")
        self.near.run("ip", "route", "add", "198.18.0.0/16", "via", far_end.v4)
        self.near.run("ping", "-c1", "-w5", "198.18.0.1")  # the neighbours know each other
        self.seen = 0
        self.capture = Capture(self.near, near_end.device)

    def at_interface(self):
        """The same by the stamps of the near host's interface."""
        requests, answers = {}, {}
        for address, kind, number, ns in self.capture.read():
            if kind == 8:
                requests.setdefault(address, []).append((ns, number))
            else:
                answers.setdefault((address, number), ns)
        return {(address, k): answers[address, number] - ns for address, sent in requests.items()
                for k, (ns, number) in enumerate(sent) if (address, number) in answers}

    def truth(self):
        """{(address, k): ns} of the k-th request to an address since the last call; unanswered ones are left out."""
        self.relay.settle()
        packets = self.relay.packets()
        new, self.seen = packets[self.seen:], len(packets)
        requests, answers = {}, {}
        for p in new:
            kind = p["head"][:2]
            if p["type"] == "0800" and p["protocol"] == 1 and p["fate"] == "sent":
                if p["direction"] == "a->b" and kind == "08":
                    requests.setdefault(p["destination"], []).append(p)
                elif p["direction"] == "b->a" and kind == "00":
                    answers[p["source"], p["head"][8:]] = p["out_ns"]
        result = {}
        for address, sent in requests.items():
            for k, p in enumerate(sorted(sent, key=lambda p: p["in_ns"])):
                out = answers.get((address, p["head"][8:]))
                if out:
                    result[address, k] = out - p["in_ns"]
        return result


def addresses(count):
    return [f"198.18.{i // 250}.{1 + i % 250}" for i in range(count)]


# Each of these runs one round and returns {(address, k): ns} of what the tool measured.

def run_ping(rig, targets, count, wrap, _):
    processes = {a: rig.near.popen([*wrap, "ping", "-n", "-i", str(INTERVAL_S * len(targets)), "-c", str(count), a],
                                   stdout=subprocess.PIPE, text=True) for a in targets}
    result = {}
    for address, process in processes.items():
        for seq, ms in re.findall(r"icmp_seq=(\d+) .*time=([\d.]+) ms", process.communicate()[0]):
            result[address, int(seq) - 1] = float(ms) * 1e6
    return result


def run_fping(rig, targets, count, wrap, _):
    gap = 1 if len(targets) == 1 else max(1, int(INTERVAL_S * 1000))
    process = rig.near.popen([*wrap, "fping", "-C", str(count), "-i", str(gap), "-p", str(max(10, int(INTERVAL_S * 1000 * len(targets)))),
                              *targets], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return {(address, int(k)): float(ms) * 1e6 for address, k, ms in
            re.findall(r"^(\S+)\s+: \[(\d+)\], \d+ bytes, ([\d.]+) ms", process.communicate()[0], re.MULTILINE)}


def run_netsonde(rig, targets, count, wrap, args):
    process = rig.near.popen([*wrap, args.netsonde, "ping", "--json", "-c", str(count), "-i", str(INTERVAL_S * len(targets)), *targets],
                             stdout=subprocess.PIPE, text=True)
    result = {}
    for line in process.communicate()[0].splitlines():
        probe = json.loads(line)
        if probe["type"] == "probe" and probe["outcome"] == "answered":
            result[probe["address"], probe["sequence"] - 1] = probe["rtt_seconds"] * 1e9
    return result


def run_blackbox(rig, targets, count, wrap, _):
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as config:
        config.write(BLACKBOX_MODULE)
        config.flush()
        port = measure.free_port()
        process = rig.near.popen([*wrap, "prometheus-blackbox-exporter", f"--config.file={config.name}",
                                  f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        result = {}
        try:
            with rig.near:
                wait_for_port(port)
                for k in range(count):
                    for address in targets:
                        with urllib.request.urlopen(f"http://127.0.0.1:{port}/probe?module=icmp&target={address}", timeout=30) as answer:
                            rtt = re.search(r'^probe_icmp_duration_seconds\{phase="rtt"\} (\S+)', answer.read().decode(), re.MULTILINE)
                        if rtt:
                            result[address, k] = float(rtt[1]) * 1e9
                        time.sleep(INTERVAL_S / 2)
        finally:
            measure.stop(process)
    return result


def wait_for_port(port):
    deadline = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                sys.exit("blackbox_exporter does not answer")
            time.sleep(0.05)


TOOLS = {"netsonde": run_netsonde, "ping": run_ping, "fping": run_fping, "blackbox": run_blackbox}


@contextlib.contextmanager
def busy(_):
    """Every core has more to do than it can."""
    hogs = [measure.start(HOG) for _ in range(2 * os.cpu_count())]
    try:
        yield []
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


@contextlib.contextmanager
def idle(_):
    yield []


@contextlib.contextmanager
def starved(cgroup):
    """The words that put a program into the cgroup, where a hog is already."""
    wrap = cgroup.wrapper
    hog = measure.start([*wrap, *HOG])
    try:
        yield wrap
    finally:
        hog.kill()
        hog.wait()


class CpuCgroup:
    """A fifth of a CPU, 20 ms of each 100; version 2 or 1."""

    def __init__(self):
        self.path = None
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            mounts = [(f[4], f[f.index("-") + 1], f[-1].split(",")) for f in map(str.split, file)]
        for point, kind, options in mounts:
            path = os.path.join(point, f"netsonde-bench-{os.getpid()}")
            first = kind == "cgroup" and "cpu" in options
            if not first and kind != "cgroup2":
                continue
            try:
                os.mkdir(path)
            except OSError:
                continue
            try:
                for name, value in (("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "20000")) if first else (("cpu.max", "20000 100000"),):
                    with open(os.path.join(path, name), "w", encoding="ascii") as file:
                        file.write(value)
                self.path = path
                break
            except OSError:
                os.rmdir(path)
        self.wrapper = ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', self.path]

    def close(self):
        if self.path:
            os.rmdir(self.path)


# What, targets, probes per target and round, how the machine is, which tools.
CASES = (
    ("1 target, idle", 1, 500, idle, ("netsonde", "ping", "fping", "blackbox")),
    ("1 target, all cores busy", 1, 500, busy, ("netsonde", "ping", "fping", "blackbox")),
    ("100 targets, all cores busy", 100, 20, busy, ("netsonde", "ping", "fping")),
    ("1 target, starved cgroup", 1, 200, starved, ("netsonde", "ping", "fping", "blackbox")),
)


def errors(rig, tool, targets, count, wrap, args):
    measured = TOOLS[tool](rig, targets, count, wrap, args)
    truth, interface = rig.truth(), rig.at_interface()
    return ([(measured[key] - truth[key]) / 1e3 for key in measured if key in truth],
            [(measured[key] - interface[key]) / 1e3 for key in measured if key in interface],
            len(truth) - len(measured.keys() & truth.keys()))


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, math.ceil(q * len(values)) - 1)]


def summary(case, tool, values, interface, missing, medians):
    return {"interface_mean_us": statistics.fmean(interface), "interface_p50_us": quantile(interface, 0.5),
            "interface_p99_us": quantile(interface, 0.99), "case": case, "tool": tool, "n": len(values), "not_measured": missing, "mean_us": statistics.fmean(values),
            "sd_us": statistics.pstdev(values), "p50_us": quantile(values, 0.5), "p99_us": quantile(values, 0.99),
            "max_us": max(values), "p50_of_rounds_us": measure.spread(medians)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--netsonde", default=os.path.join(measure.ROOT, "build", "netsonde"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json")
    args = parser.parse_args()
    args.netsonde = os.path.abspath(args.netsonde)
    netlab, _ = measure.system_tests(args.netsonde)
    measure.own_namespace()
    rig, cgroup, rows = Rig(netlab), CpuCgroup(), []
    print(f"error of the round trip above the truth, us\n{'case':28} {'tool':9} {'probes':>6} {'mean':>9} {'sd':>9} {'p50':>8}"
          f" {'(rounds)':>18} {'p99':>9} {'max':>9} {'lacking':>7} | interface: {'mean':>8} {'p50':>7} {'p99':>8}")
    try:
        for case, n_targets, count, condition, tools in CASES:
            if condition is starved and not cgroup.path:
                print(f"{case:28} left out: no cgroup here can limit the CPU")
                continue
            values, above, missing, medians = ({tool: [] for tool in tools} for _ in range(4))
            with condition(cgroup) as wrap:
                rig.truth()
                rig.at_interface()
                for i in range(args.rounds):
                    for tool in tools[i % len(tools):] + tools[:i % len(tools)]:
                        found, interface, lacking = errors(rig, tool, addresses(n_targets), count, wrap, args)
                        values[tool] += found
                        above[tool] += interface
                        missing[tool].append(lacking)
                        medians[tool].append(quantile(found, 0.5))
            for tool in tools:
                row = summary(case, tool, values[tool], above[tool], sum(missing[tool]), medians[tool])
                rows.append(row)
                p = row["p50_of_rounds_us"]
                rounds = f"({p['min']:.1f}..{p['max']:.1f})"
                print(f"{case:28} {tool:9} {row['n']:6} {row['mean_us']:9.2f} {row['sd_us']:9.2f} {row['p50_us']:8.2f} {rounds:>18}"
                      f" {row['p99_us']:9.2f} {row['max_us']:9.1f} {row['not_measured']:7} | {row['interface_mean_us']:19.2f} {row['interface_p50_us']:7.2f}"
                      f" {row['interface_p99_us']:8.2f}", flush=True)
    finally:
        cgroup.close()
        rig.lab.close()
    measure.write_json(args.json, "probe_accuracy", rows)


if __name__ == "__main__":
    main()
