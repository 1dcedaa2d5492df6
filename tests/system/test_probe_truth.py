# SPDX-License-Identifier: Apache-2.0
"""What NetSonde's probes say, against what the relay between the hosts knows.

The relay's log has, on CLOCK_MONOTONIC, when each packet came to it and left it. A round trip is that time, forth and
back, and what was spent on the way from the probe's own timestamp to the relay, in the far host, and from the relay to
the timestamp of the answer: never less than the log's, and more by as much as two passes through a veth pair and one
through a kernel's ICMP take, a few tens of microseconds. Bounds on that are on medians and shares, since the machine
has other things to do; counts are exact.
"""
import collections
import contextlib
import json
import math
import socket
import statistics
import struct
import subprocess

import pytest

import frames
import netsonde
import stamp_peer
from netlab import Wire, wait_for
from probelab import (busy, config, counts, echo_truth, expected_counts, jitter, known_neighbours, rtt, target,
                      timestamps, wait_counts)

US, MS = 1000, 1000_000
SOURCES = {"xdp": "xdp", "xdp_generic": "xdp_generic", "tc": "tc", "socket": "tc", "off": "kernel"}
# The kernel's stamps of packets are CLOCK_REALTIME and are converted; the hooks' are CLOCK_MONOTONIC, as the relay's
# are, whose own stamps of arrivals are converted.
EARLY_NS = {"kernel": 20 * US}
ROUNDING_NS = 3 * US
# Medians seen are 5 to 14 us, idle and busy, the largest under 60; by a user's clock they would be milliseconds.
Bounds = collections.namedtuple("Bounds", "median_ns outlier_ns outliers")
BOUNDS = {"idle": Bounds(60 * US, 500 * US, 0.05), "busy": Bounds(100 * US, 1000 * US, 0.1)}
# Of means, of which a histogram's sum and count are exact, one interruption of 10 ms is a large part.
MEAN_NS = 500 * US


def relayed(lab, **settings):
    """Two hosts with a relay between them that has nothing else to log than probes."""
    one, two = lab.host("one"), lab.host("two")
    near, far = lab.link(one, two, **settings)
    known_neighbours(near, far)
    return near, far


def ping(host, *arguments, load=contextlib.nullcontext, seconds=30):
    """(probes, {address: summary}) of `netsonde ping --json`; load begins when it has begun to probe."""
    process = host.popen([netsonde.BINARY, "ping", "--json", *arguments], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, bufsize=0)
    first = process.stdout.readline()  # and not a byte more
    with load():
        out, err = process.communicate(timeout=seconds * netsonde.PATIENCE)
    assert process.returncode in (0, 1), (process.returncode, err)
    lines = [json.loads(line) for line in (first + out).splitlines()]
    summary = [line for line in lines if line["type"] == "summary"][0]
    return [line for line in lines if line["type"] == "probe"], {host["address"]: host for host in summary["hosts"]}


def check_errors(errors, bounds, early_ns):
    """errors: measured - truth, in ns."""
    shown = {q: round(statistics.quantiles(errors, n=20)[q // 5 - 1] / US, 1) for q in (5, 50, 95)}
    print(f"errors in us: {len(errors)}, min {min(errors) / US:.1f}, {shown}, max {max(errors) / US:.1f}")
    assert min(errors) >= -early_ns, "shorter than the truth"
    assert statistics.median(errors) <= bounds.median_ns, shown
    assert sum(error > bounds.outlier_ns for error in errors) <= bounds.outliers * len(errors), shown


@pytest.mark.parametrize("attach", SOURCES)
def test_round_trips_idle_and_busy(lab, attach):
    """Each probe's round trip, for each source of timestamps, with nothing else to do and with more than enough."""
    near, far = relayed(lab, delay="3ms", jitter="1ms")
    count, seen = 40, 0
    for load, bounds in BOUNDS.items():
        probes, summaries = ping(near.host, "-c", str(count), "-i", "0.01", "--attach", attach, far.v4, far.v6,
                                 load=busy if load == "busy" else contextlib.nullcontext)
        near.relay.settle()
        packets = near.relay.packets()
        packets, seen = packets[seen:], len(packets)
        for address in (far.v4, far.v6):
            truth = echo_truth(packets, address)
            mine = [probe for probe in probes if probe["address"] == address]
            assert len(truth) == len(mine) == count and all(probe["outcome"] == "answered" for probe in mine)
            assert {probe["timestamp"] for probe in mine} == {SOURCES[attach]}
            times = [probe.answers[0] - probe.sent for _, probe in sorted(truth.items())]
            print(attach, load, address, end=": ")
            check_errors([probe["rtt_seconds"] * 1e9 - times[probe["sequence"] - 1] for probe in mine], bounds,
                         EARLY_NS.get(SOURCES[attach], ROUNDING_NS))
            assert summaries[address]["received"] == count and not summaries[address]["lost"]
            assert summaries[address]["jitter_seconds"] * 1e9 == pytest.approx(jitter(times), rel=0.05,
                                                                               abs=bounds.outlier_ns / 4)


FAULTS = {"delay": "10ms", "jitter": "3ms", "a_to_b": {"loss": "15%", "duplicate": "20%"},
          "b_to_a": {"loss": "15%", "reorder": "25%", "hold": "30ms"}}


@pytest.mark.parametrize("attach", ("xdp", "off"))
def test_ping_counts_what_happened(lab, attach):
    """Loss, duplicates and reordering are as in the log, exactly."""
    near, far = relayed(lab, **FAULTS)
    count = 160
    probes, summaries = ping(near.host, "-c", str(count), "-i", "0.015", "-W", "0.5", "--attach", attach,
                             far.v4, far.v6)
    near.relay.settle()
    for address in (far.v4, far.v6):
        truth = echo_truth(near.relay.packets(), address)
        expected, round_trips = expected_counts(truth, 500 * MS)
        got = summaries[address]
        assert min(expected[key] for key in ("received", "lost", "duplicate", "reordered")) > 3, expected
        assert {key: got[key] for key in ("sent", "received", "lost", "reordered")} == \
            {key: expected[key] for key in ("sent", "received", "lost", "reordered")}
        assert (got["duplicates"], got["late"], got["rejected"]) == (expected["duplicate"], 0, 0)
        lost = {probe["sequence"] - 1 for probe in probes
                if probe["address"] == address and probe["outcome"] == "timed_out"}
        assert lost == {sequence for sequence, probe in truth.items() if not probe.answers}


def test_agent_counts_what_happened(lab, start_agent):
    """The agent's counters, histogram and jitter against the log; late answers are lost, and counted as late too."""
    near, far = relayed(lab, **FAULTS)
    names = {"v4": far.v4, "v6": far.v6}
    targets = [target(name, address, interval="20ms", timeout="500ms") for name, address in names.items()]
    agent = start_agent(near.host, config(targets))
    for name in names:
        wait_counts(agent, name, lambda c: c["received"] >= 80, "80 answers")
    # Answers that need longer than the time-out, but not so long that their place is somebody else's.
    near.relay.set("b->a", loss="0", reorder="0", duplicate="0", delay="550ms", jitter="0s")
    for name in names:
        wait_counts(agent, name, lambda c: c["late"] >= 10, "late answers")
    near.relay.set("a->b", loss="100%")  # nothing more is answered

    def all_counted():
        near.relay.settle()
        packets, metrics = near.relay.packets(), agent.settle()
        return all(dict(expected_counts(echo_truth(packets, address), 500 * MS)[0],
                        sent=0, lost=0) == dict(counts(metrics, name), sent=0, lost=0)
                   for name, address in names.items()) and metrics

    metrics = wait_for(all_counted, 10 * netsonde.PATIENCE, lambda: f"{agent.metrics().text}")
    for name, address in names.items():
        expected, round_trips = expected_counts(echo_truth(near.relay.packets(), address), 500 * MS)
        got = counts(metrics, name)
        assert min(expected[key] for key in ("received", "duplicate", "reordered", "late")) > 3, expected
        # Those that are on their way are neither: up to a time-out and a tick of them.
        assert 0 <= got["sent"] - got["received"] - got["lost"] <= 0.7 / 0.02
        answered, total, _ = rtt(metrics, name)
        assert answered == got["received"]
        error = total * 1e9 / answered - statistics.fmean(round_trips)
        assert -ROUNDING_NS <= error <= MEAN_NS, f"mean error {error / US} us"
        assert timestamps(metrics, name) == {"tc": answered}, "the best on a veth pair, unless told otherwise"


def mean_of(metrics, family, **labels):
    """(count, mean in ns) of a histogram."""
    count = metrics.sum(family + "_count", **labels)
    return int(count), metrics.sum(family + "_sum", **labels) * 1e9 / count if count else math.nan


def test_jitter_of_the_agent(lab, start_agent):
    """The gauge is RFC 3550's jitter of the round trips in the log."""
    near, far = relayed(lab, delay="5ms", jitter="4ms")
    agent = start_agent(near.host, config([target("v4", far.v4, interval="20ms")]))
    wait_counts(agent, "v4", lambda c: c["received"] >= 60, "60 answers")
    near.relay.set("a->b", loss="100%")
    near.relay.settle()
    metrics = agent.settle(ticks=4)
    _, times = expected_counts(echo_truth(near.relay.packets(), far.v4), 500 * MS)
    assert rtt(metrics, "v4")[0] == len(times)
    got = metrics.sum("netsonde_probe_jitter_seconds", target="v4", protocol="icmp") * 1e9
    assert got == pytest.approx(jitter(times), rel=0.05, abs=BOUNDS["idle"].outlier_ns / 4)


def one_way_truth(packets, family, protocol=frames.UDP):
    """{direction: times in the relay in ns} of the datagrams of a family."""
    kind = {4: "0800", 6: "86dd"}[family]
    return {name: [packet["out_ns"] - packet["in_ns"] for packet in packets
                   if packet["direction"] == direction and packet["type"] == kind and packet["protocol"] == protocol]
            for name, direction in (("forward", "a->b"), ("backward", "b->a"))}


# What XDP sends back by a veth needs NAPI at the other end, which the relay's ends have not: generic XDP does not.
REFLECT_BY = {"tc": "tc", "xdp": "xdp_generic"}


@pytest.mark.parametrize("attach", REFLECT_BY)
def test_one_way_delays(lab, start_agent, attach):
    """Delays that differ by direction are told apart, by a reflector that is another agent's kernel; its own time is no
    part of the round trip."""
    near, far = relayed(lab, a_to_b={"delay": "2ms", "jitter": "1ms"}, b_to_a={"delay": "9ms", "jitter": "1ms"})
    start_agent(far.host, config([], attach=REFLECT_BY[attach], reflect=[far.device], clock_error="1us"))
    targets = [target(f"v{family}", far.address(family), "stamp", interval="20ms") for family in (4, 6)]
    agent = start_agent(near.host, config(targets, attach=attach, clock_error="1us"))
    for family in (4, 6):
        wait_counts(agent, f"v{family}", lambda c: c["received"] >= 40, "40 answers")
    near.relay.set("a->b", loss="100%")
    near.relay.settle()
    metrics = agent.settle(ticks=4)
    packets = [packet for packet in near.relay.packets() if packet["fate"] == "sent"]
    for family in (4, 6):
        name = f"v{family}"
        truth = one_way_truth(packets, family)
        count, total, _ = rtt(metrics, name)
        assert count == len(truth["forward"]) == len(truth["backward"])
        for direction in ("forward", "backward"):
            n, mean = mean_of(metrics, "netsonde_probe_one_way_delay_seconds", target=name, direction=direction)
            error = mean - statistics.fmean(truth[direction])
            print(f"{attach} {name} {direction}: mean error {error / US:.1f} us of {n}")
            assert n == count and -ROUNDING_NS <= error <= MEAN_NS, f"{direction}: {error / US} us"
        error = total * 1e9 / count - statistics.fmean(truth["forward"]) - statistics.fmean(truth["backward"])
        assert -ROUNDING_NS <= error <= MEAN_NS
        n, mean = mean_of(metrics, "netsonde_probe_reflector_seconds", target=name)
        assert n == count and 0 <= mean <= 1 * MS
        assert metrics.sum("netsonde_probe_clock_error_seconds", target=name) == pytest.approx(2e-6, rel=0.05)


def tcp_truth(packets, address, port):
    """Times in ns from a SYN's arrival at the relay to its answer's departure from it, none of which was lost. A reset
    of ours has the SYN's sequence number plus one."""
    flows, seen = collections.defaultdict(lambda: ([], [])), set()
    for packet in packets:
        source_port, destination_port, sequence = struct.unpack("!HHI", bytes.fromhex(packet["head"][:16]))
        if packet["destination"] == address and destination_port == port and (source_port, sequence - 1) not in seen:
            seen.add((source_port, sequence))
            flows[source_port][0].append(packet["in_ns"])
        elif packet["source"] == address and source_port == port:
            flows[destination_port][1].append(packet["out_ns"])
    return [out - sent for asked, answered in flows.values() for sent, out in zip(asked, answered)]


def test_tcp_probes_leave_no_connection(lab, start_agent):
    """A SYN to an open and to a closed port: measured, and nobody has a connection: not the far application, not the
    far kernel, not the near one, which sees no answer at all."""
    near, far = relayed(lab, delay="2ms")
    listeners = {}
    for family in (4, 6):
        with far.host:
            listeners[family] = socket.create_server((far.address(family), 8080), family=stamp_peer.FAMILIES[family])
        listeners[family].setblocking(False)
    targets = [target(f"{what}{family}", far.address(family), "tcp", port=port, interval="200ms", timeout="150ms")
               for family in (4, 6) for what, port in (("open", 8080), ("closed", 8081))]
    before = near.host.counters("Tcp")
    agent = start_agent(near.host, config(targets))
    received = {one["name"]: wait_counts(agent, one["name"], lambda c: c["received"] >= 10, "ten answers")["received"]
                for one in targets}
    # Both ways: a SYN-ACK that the far kernel repeats, since its reset was lost, is late and goes to the near stack.
    near.relay.set("both", loss="100%")
    near.relay.settle()
    metrics = agent.settle(ticks=4)
    packets = [packet for packet in near.relay.packets()
               if packet["protocol"] == frames.TCP and packet["fate"] == "sent"]
    for one in targets:
        got, (count, total, _) = counts(metrics, one["name"]), rtt(metrics, one["name"])
        assert got["received"] == count >= received[one["name"]] and got["rejected"] == got["duplicate"] == 0
        truth = tcp_truth(packets, one["address"], one["port"])
        assert len(truth) == count, (one["name"], got, len(truth))
        error = total * 1e9 / count - statistics.fmean(truth)
        assert -ROUNDING_NS <= error <= MEAN_NS, (one["name"], error)
        # Until the link was cut.
        assert metrics.sum("netsonde_probe_up", target=one["name"]) == 1 or got["lost"]
    assert near.host.counters("Tcp")["OutRsts"] == before["OutRsts"], "the near stack answered what it never asked"
    near.relay.set("both", loss="0")
    wait_for(lambda: not far.host.run("ss", "-Hatn", "state", "syn-recv", "state", "established"), 5,
             "nothing half-open")
    for listener in listeners.values():
        with pytest.raises(BlockingIOError):
            listener.accept()
        listener.close()
    assert far.host.counters("Tcp")["EstabResets"] == 0


@pytest.mark.parametrize("settings", ({"delay": "60ms"}, {"delay": "1ms", "b_to_a": {"loss": "20%"}}),
                         ids=("slow", "lossy"))
def test_tcp_loses_only_what_was_lost(lab, start_agent, settings):
    """Where a round trip takes longer than the interval, and where answers are lost."""
    near, far = relayed(lab, **settings)
    with far.host:
        listener = socket.create_server((far.v4, 8080))
    with listener:
        agent = start_agent(near.host, config([target("v4", far.v4, "tcp", port=8080, interval="30ms")]))
        got = wait_counts(agent, "v4", lambda c: c["received"] + c["lost"] >= 60, "60 probes")
    lost = sum(packet["fate"] == "lost" and packet["protocol"] == frames.TCP for packet in near.relay.packets())
    # The relay may have lost those whose time-out is still to come.
    assert lost - 0.6 / 0.03 <= got["lost"] <= lost
    # A SYN-ACK that the far kernel repeats after the time-out is a replay, which the stack gets.
    assert "b_to_a" in settings or near.host.counters("Tcp")["OutRsts"] == 0


@pytest.mark.parametrize("protocol", ("icmp", "stamp", "tcp"))
def test_paths(lab, start_agent, protocol):
    """Eight paths of a target differ in what routers choose by, and each stays what it is."""
    one, two = lab.host("one"), lab.host("two")
    near, far = lab.link(one, two)
    known_neighbours(near, far)
    targets = [target(f"v{family}", far.address(family), protocol, interval="100ms", paths=8, dscp=46,
                      **({} if protocol == "icmp" else {"port": 8080})) for family in (4, 6)]

    def is_probe(data):
        frame = frames.parse(data)
        if protocol == "icmp":
            return frames.is_echo_request(frame)
        number = frames.UDP if protocol == "stamp" else frames.TCP
        return bool(frame) and frame.protocol == number and frames.ports(frame)[1] == 8080

    with Wire(one, near.device, (Wire.OUTGOING,), is_probe) as wire, two:
        agent = start_agent(one, config(targets))
        for name in ("v4", "v6"):
            wait_counts(agent, name, lambda c: c["sent"] >= 8 * 6, "six probes of each path")
        seen = wire.drain()
    for family in (4, 6):
        mine = [data for data in seen if frames.parse(data).family == family]
        flows = collections.Counter()
        for data in mine:
            frame = frames.parse(data)
            assert frame.dscp == 46
            label = struct.unpack_from("!I", data, 14)[0] & 0xfffff if family == 6 else 0
            # What a router may look at: the first four bytes of the transport, and IPv6's label.
            flows[frame.transport[:4] if protocol != "icmp" else frame.transport[:6], label] += 1
        assert len(flows) == 8, flows
        assert max(flows.values()) - min(flows.values()) <= 2, "all are probed alike"
        if protocol != "icmp":
            assert len({ports for ports, _ in flows}) == 8, "source ports"


@pytest.mark.parametrize("attach", REFLECT_BY)
def test_probes_as_long_as_the_mtu_and_longer(lab, start_agent, attach):
    """What fills a packet is timed as others are; what has to be taken apart is measured without the hooks."""
    near, far = relayed(lab, delay="1ms")
    start_agent(far.host, config([], attach=REFLECT_BY[attach], reflect=[far.device], clock_error="1us"))
    targets = [target(f"{protocol}{family}", far.address(family), protocol, interval="30ms",
                      size=1500 - (48 if family == 6 else 28)) for family in (4, 6) for protocol in ("icmp", "stamp")]
    longer = [target(f"longer{family}", far.address(family), interval="30ms", size=4000) for family in (4, 6)]
    agent = start_agent(near.host, config(targets + longer, attach=attach, clock_error="1us"))
    for one in targets + longer:
        wait_counts(agent, one["name"], lambda c: c["received"] >= 10, "10 answers")
    metrics = agent.settle()
    for one in targets + longer:
        stamps = timestamps(metrics, one["name"])
        assert set(stamps) <= ({SOURCES[attach]} if one in targets else {"kernel", "user"}), (one, stamps)
        got = counts(metrics, one["name"])
        assert got["lost"] == got["rejected"] == got["duplicate"] == 0, (one, got)
    lengths = collections.Counter(packet["length"] for packet in near.relay.packets())
    assert max(lengths) == 1514 and lengths[1514] >= 2 * 10 * (len(targets) + 2 * len(longer)), lengths
