# SPDX-License-Identifier: Apache-2.0
"""What the tests of probes share: configurations, counters by target, a far end that answers frame by frame, hosts
that are kept busy, and the truth of a relay's log.
"""
import collections
import contextlib
import heapq
import json
import os
import select
import subprocess
import sys
import threading
import time

import frames
import netsonde
from netlab import Wire, die_with_parent, wait_for

COUNTERS = ("sent", "received", "lost", "duplicate", "reordered", "late", "rejected")


def config(targets, **probe):
    """A configuration (JSON is YAML). The passive collectors that cost something are off, and probes are at the pace
    that the test says."""
    quiet = {name: "off" for name in ("tcp", "drops", "interfaces", "lookups")}
    return json.dumps({"collect": {"tick": "100ms", **quiet},
                       "probe": {"passive": "off", "adapt": "off", "targets": targets, **probe}})


def target(name, address, protocol="icmp", interval="50ms", timeout="500ms", **more):
    return {"name": name, "address": address, "protocol": protocol, "interval": interval, "timeout": timeout, **more}


def counts(metrics, name):
    return {counter: int(metrics.sum(f"netsonde_probe_{counter}_total", target=name)) for counter in COUNTERS}


def rtt(metrics, name, **labels):
    """(count, sum in seconds, {upper bound: cumulative count}) of a target's round trips."""
    family = "netsonde_probe_rtt_seconds"
    buckets = {}
    for label, value in metrics.select(family + "_bucket", target=name, **labels):
        buckets[float(label["le"])] = buckets.get(float(label["le"]), 0) + int(value)
    return (int(metrics.sum(family + "_count", target=name, **labels)),
            metrics.sum(family + "_sum", target=name, **labels), buckets)


def below(buckets, seconds):
    """How many are in buckets that end at or below so much: surely that quick."""
    return max((count for bound, count in buckets.items() if bound <= seconds), default=0)


def timestamps(metrics, name):
    """{timestamp label: answers}"""
    return {key[0]: int(value) for key, value in
            metrics.by("netsonde_probe_rtt_seconds_count", "timestamp", target=name).items()}


def wait_counts(agent, name, condition, what, seconds=15):
    """The counters of a target as soon as condition(counters) holds."""
    last = {}

    def done():
        last.update(counts(agent.metrics(), name))
        return condition(last)

    wait_for(done, seconds * netsonde.PATIENCE, lambda: f"{name}: {what() if callable(what) else what}: {last}")
    return dict(last)


class Responder:
    """The far end of a link, in place of its kernel. answer(Frame) -> [(seconds from now, frame as bytes)].

    The host itself must be silent: hush().
    """

    def __init__(self, end, answer):
        self.wire = Wire(end.host, end.device)
        self.answer = answer
        self.sent = 0
        self.failure = None
        self._waiting, self._ended = [], False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def stop(self):
        self._ended = True
        if self._thread.is_alive():
            self._thread.join()
        assert self.failure is None, self.failure

    def __exit__(self, *_):
        self.stop()
        self.wire.socket.close()

    def _run(self):
        try:
            while not self._ended:
                self._turn()
        except Exception as failure:  # pylint: disable=broad-except
            self.failure = repr(failure)

    def _turn(self):
        pause = min(0.05, max(0, self._waiting[0][0] - time.monotonic()) if self._waiting else 0.05)
        if select.select([self.wire.socket], [], [], pause)[0]:
            data = self.wire.receive(0)
            frame = frames.parse(data) if data else None
            now = time.monotonic()
            for delay, answer in (self.answer(frame) if frame else ()):
                heapq.heappush(self._waiting, (now + delay, self.sent + len(self._waiting), answer))
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            self.wire.send(heapq.heappop(self._waiting)[2])
            self.sent += 1


def take_xdp(start_agent, end):
    """A veth device gets what XDP sends back at its other end only while it has an XDP program itself."""
    start_agent(end.host, config([], attach="xdp", reflect=[end.device]))


def hush(host):
    """The host answers no echo, and no packet to its ports; the neighbours still find it."""
    host.sysctl("net.ipv4.icmp_echo_ignore_all", 1)
    host.sysctl("net.ipv6.icmp.echo_ignore_all", 1)
    host.nft('chain input { type filter hook input priority 0; iifname != "lo" meta l4proto { tcp, udp } drop; }')


def known_neighbours(one, two):
    """Both ends know each other's link addresses for good: no probe waits for that, and few frames are not probes."""
    for here, there in ((one, two), (two, one)):
        here.host.sysctl(f"net.ipv6.conf.{here.device}.router_solicitations", 0)  # else a frame every 4 s
        address = frames.mac_address(there.host, there.device).hex(":")
        for ip in (there.v4, there.v6):
            here.host.run("ip", "neighbour", "replace", ip, "lladdr", address, "nud", "permanent", "dev", here.device)


@contextlib.contextmanager
def busy(processes=None):
    """Every core has more to do than it can."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=die_with_parent)
            for _ in range(processes or 2 * os.cpu_count())]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


Probe = collections.namedtuple("Probe", "sent answers")  # ns: when the request came to the relay, when answers left it


def echo_truth(packets, address):
    """{sequence number on the wire: Probe} of the echo requests to an address, from rows of a relay's log."""
    echoes = [packet for packet in packets if packet["protocol"] in (frames.ICMP, frames.ICMP6)]
    probes = {}
    for packet in echoes:
        if packet["direction"] == "a->b" and packet["destination"] == address and packet["head"][:2] in ("08", "80"):
            sequence = int(packet["head"][12:16], 16)
            assert packet["copy"] or sequence not in probes, "sequence numbers repeat"
            probes.setdefault(sequence, Probe(packet["in_ns"], []))
    for packet in echoes:
        if packet["direction"] == "b->a" and packet["source"] == address and packet["head"][:2] in ("00", "81") \
                and packet["fate"] == "sent":
            probes[int(packet["head"][12:16], 16)].answers.append(packet["out_ns"])
    for probe in probes.values():
        probe.answers.sort()
    return probes


def expected_counts(probes, timeout_ns):
    """What must be counted of these, and the round trips in the order of their answers."""
    found = collections.Counter(sent=len(probes))
    arrivals = sorted((out, sequence, n) for sequence, probe in probes.items() for n, out in enumerate(probe.answers))
    highest, round_trips = -1, []
    for out, sequence, n in arrivals:
        in_time = out - probes[sequence].sent <= timeout_ns
        if n:
            found["duplicate" if in_time else "rejected"] += 1
        elif not in_time:
            found["late"] += 1
        else:
            found["received"] += 1
            round_trips.append(out - probes[sequence].sent)
            found["reordered"] += sequence < highest
            highest = max(highest, sequence)
    found["lost"] = found["sent"] - found["received"]
    return found, round_trips


def jitter(times):
    """RFC 3550, section 6.4.1, of round trips in their order."""
    value = 0.0
    for former, this in zip(times, times[1:]):
        value += (abs(this - former) - value) / 16
    return value
