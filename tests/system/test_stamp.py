# SPDX-License-Identifier: Apache-2.0
"""STAMP between NetSonde and an implementation that was written from the RFCs alone (stamp_peer.py), each as sender and
as reflector. First that one's own packets, against what the RFCs say.
"""
import collections
import math
import struct
import time

import pytest

import frames
import netsonde
import stamp_peer
from netlab import Wire
from probelab import config, counts, known_neighbours, rtt, take_xdp, target, wait_counts
from stamp_peer import Reflector, Sender

KEY = bytes(range(32))
MODES = {"open": None, "key": KEY}
FAMILIES = (4, 6)
HOOKS = ("xdp", "xdp_generic", "tc")
MS = 1e-3


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return str(path)


def linked(lab):
    one, two = lab.host("one"), lab.host("two")
    near, far = lab.link(one, two)
    for end in (near, far):
        end.host.finish_packets(end.device)
    known_neighbours(near, far)
    return near, far


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_peer_with_itself_through_a_router(lab, family, mode):
    """Every field of a reply is what its request and its way say, and the hop limit is counted down by the router."""
    key = MODES[mode]
    one, router, two = lab.host("one"), lab.router("router"), lab.host("two")
    near, near_router = lab.link(one, router)
    far_router, far = lab.link(router, two)
    known_neighbours(near, near_router)
    known_neighbours(far_router, far)
    with Reflector(two, far.address(family), family, key=key, residence=0.002, error=3e-5) as reflector, \
            Sender(one, near.address(family), far.address(family), family, key=key, ssid=0xabcd, error=1e-3) as sender:
        replies = sender.exchange(20, rest=b"tail")
        assert len(replies) == 20 and not sender.invalid and not reflector.invalid
        for number, (arrival, reply) in enumerate(replies):
            request = stamp_peer.read_request(sender.sent[number], key)
            assert (reply.sequence, reply.sender_sequence, reply.ssid) == (number, number, 0xabcd)
            assert (reply.sender_timestamp, reply.sender_error) == (request.timestamp, request.error)
            assert reply.sender_ttl == arrival.ttl == 63
            assert len(arrival.data) == len(sender.sent[number]) and arrival.data.endswith(b"tail")
            assert not any(stamp_peer.must_be_zero(arrival.data, stamp_peer.REPLY, key))
            assert not any(stamp_peer.must_be_zero(sender.sent[number], stamp_peer.REQUEST, key))
            times = [stamp_peer.from_timestamp(at) for at in (reply.sender_timestamp, reply.received, reply.timestamp)]
            assert times[0] <= times[1] <= times[2] - 2_000_000 <= times[2] <= arrival.at + 1
            seconds, synchronized, ptp = stamp_peer.error_seconds(reply.error)
            assert 3e-5 <= seconds <= 3e-5 * 1.02 and synchronized and not ptp
        assert all(arrival.source[0] == near.address(family) for arrival in reflector.requests)


def test_the_peer_rejects_what_the_rfc_rejects(lab):
    one, two = lab.host("one"), lab.host("two")
    near, far = lab.link(one, two)
    with Reflector(two, far.v4, key=KEY, stateful=True) as reflector, \
            Sender(one, near.v4, far.v4, key=KEY) as sender, Sender(one, near.v4, far.v4, key=KEY[::-1]) as stranger:
        assert not stranger.exchange(1, seconds=0.2)
        sender.socket.sendto(stamp_peer.make_request(stamp_peer.Request(0, 0, 0x8000, 0), KEY), (far.v4, 862))
        sender.socket.sendto(bytes(111), (far.v4, 862))
        assert [reply.sequence for _, reply in sender.exchange(3)] == [0, 1, 2]
        reasons = [reason for _, reason in reflector.invalid]
        assert reasons == ["HMAC", "an error estimate with multiplier 0", "111 bytes"]


def test_the_peer_s_numbers():
    """RFC 8762 4.2 (lengths), RFC 5905 (1970 in NTP's era 0, the era after 2036), RFC 4656 4.1.2 (errors)."""
    for key in (None, KEY):
        assert len(stamp_peer.make_request(stamp_peer.Request(1, 2, 3, 4), key)) == stamp_peer.BASE_LENGTH[bool(key)]
    assert stamp_peer.to_timestamp(0) == 2208988800 << 32
    assert stamp_peer.to_timestamp(500_000_000) == 2208988800 << 32 | 1 << 31
    for year_2038 in (2**31 * 10**9, 2**31 * 10**9 + 999_999_999):
        for ptp in (False, True):
            assert abs(stamp_peer.from_timestamp(stamp_peer.to_timestamp(year_2038, ptp), ptp) - year_2038) <= 1
    assert stamp_peer.error_estimate(2.0**-32) == 0x8001
    assert stamp_peer.error_estimate(255 * 2.0**-32, False, True) == 0x40ff
    assert stamp_peer.error_estimate(256 * 2.0**-32) == 0x8180
    for seconds in (1e-9, 1e-6, 1e-3, 0.5, 16):
        value, synchronized, ptp = stamp_peer.error_seconds(stamp_peer.error_estimate(seconds))
        assert seconds <= value <= max(seconds * 1.01, 2.0**-32 * (seconds * 2**32 + 1)) and synchronized and not ptp
    with pytest.raises(stamp_peer.Invalid):
        stamp_peer.error_seconds(struct.unpack("!H", b"\x81\x00")[0])


def mean_of(metrics, family, **labels):
    """(count, mean in seconds) of a histogram."""
    count = metrics.sum(family + "_count", **labels)
    return int(count), metrics.sum(family + "_sum", **labels) / count if count else math.nan


@pytest.mark.parametrize("attach", ("xdp", "tc", "off"))
def test_netsonde_sends_the_peer_reflects(lab, start_agent, key_file, attach):
    """Requests are as the RFC has them; replies in either format and numbering are measured; the peer's time is no part
    of the round trip; what the peer loses and doubles is counted."""
    near, far = linked(lab)
    residence = 4 * MS
    turns = {}

    def faults(name):
        numbers, done = collections.Counter(), collections.Counter()
        turns[name] = done

        def change(reply, _):
            numbers["all"] += 1
            copies = 0 if numbers["all"] % 5 == 0 else 2 if numbers["all"] % 7 == 0 else 1
            done["received"] += copies > 0
            done["duplicate"] += copies == 2
            return [reply] * copies
        return change

    targets, reflectors = [], {}
    for family in FAMILIES:
        for mode, key in MODES.items():
            name = f"{mode}{family}"
            reflectors[name] = Reflector(far.host, far.address(family), family, port=862 if mode == "open" else 8862,
                                         key=key, stateful=family == 6, ptp=family == 6, error=1 * MS,
                                         residence=residence, change=faults(name))
            targets.append(target(name, far.address(family), "stamp", interval="30ms", timeout="200ms",
                                  **({} if key is None else {"port": 8862, "key_file": key_file})))
    for reflector in reflectors.values():
        reflector.__enter__()
    try:
        agent = start_agent(near.host, config(targets, attach=attach, clock_error="1us"))
        for name in reflectors:
            wait_counts(agent, name, lambda c: c["received"] >= 30, "30 answers")
    finally:
        for reflector in reflectors.values():
            reflector.__exit__()
    for name in reflectors:
        wait_counts(agent, name, lambda c, n=name: all(c[key] == turns[n][key] for key in turns[n]),
                    lambda n=name: f"{turns[n]}")
    metrics = agent.settle()
    for name, reflector in reflectors.items():
        key = reflector.key
        got = counts(metrics, name)
        assert (got["received"], got["duplicate"]) == (turns[name]["received"], turns[name]["duplicate"])
        assert got["rejected"] == got["reordered"] == got["late"] == 0, got
        assert not reflector.invalid, reflector.invalid
        requests = [stamp_peer.read_request(arrival.data, key) for arrival in reflector.requests]
        assert [request.sequence for request in requests] == list(range(len(requests)))
        for arrival, request in zip(reflector.requests, requests):
            seconds, synchronized, ptp = stamp_peer.error_seconds(request.error)
            assert abs(stamp_peer.from_timestamp(request.timestamp, ptp) - arrival.at) < 0.5e9
            assert synchronized and 1e-6 <= seconds < 1.1e-6
            assert not any(stamp_peer.must_be_zero(arrival.data, stamp_peer.REQUEST, key))
            assert arrival.ttl == 64
        assert len({request.timestamp for request in requests}) == len(requests)
        count, total, _ = rtt(metrics, name)
        assert count == got["received"] and 0 < total / count < residence / 2, (name, total / count)
        n, mean = mean_of(metrics, "netsonde_probe_reflector_seconds", target=name)
        assert n == count and residence <= mean < 3 * residence
        # PTP's timestamps are TAI: who does not know how far that is from UTC knows no delay.
        known = not reflector.ptp or stamp_peer.tai_offset()
        for direction in ("forward", "backward"):
            n, mean = mean_of(metrics, "netsonde_probe_one_way_delay_seconds", target=name, direction=direction)
            assert n == (count if known else 0), (name, direction, n)
            assert not n or -50e-6 < mean < residence / 2, (name, direction, mean)
        error = metrics.sum("netsonde_probe_clock_error_seconds", target=name)
        assert not known or 1 * MS + 1e-6 <= error <= 1.02 * MS, error


def test_one_way_delays_need_two_good_clocks(lab, start_agent):
    """Where the reflector says that its clock is not synchronised, or its error estimate is one that the RFC forbids,
    there are round trips and no one-way delays, and the metrics say so."""
    near, far = linked(lab)

    def forbid(reply, _):
        return [reply[:12] + struct.pack("!H", 0x8000) + reply[14:]]

    with Reflector(far.host, far.v4, synchronized=False), Reflector(far.host, far.v4, port=8862), \
            Reflector(far.host, far.v4, port=8863, change=forbid):
        targets = [target("wild", far.v4, "stamp"), target("good", far.v4, "stamp", port=8862),
                   target("forbidden", far.v4, "stamp", port=8863)]
        agent = start_agent(near.host, config(targets, clock_error="1us"))
        for name in ("wild", "good", "forbidden"):
            wait_counts(agent, name, lambda c: c["received"] + c["rejected"] >= 10, "ten answers")
        metrics = agent.settle()
    assert rtt(metrics, "good")[0] and rtt(metrics, "wild")[0]
    for name, good in (("good", 1), ("wild", 0), ("forbidden", 0)):
        assert bool(metrics.sum("netsonde_probe_one_way_delay_seconds_count", target=name)) == bool(good), name
        if rtt(metrics, name)[0]:
            assert metrics.select("netsonde_probe_clock_synchronized", target=name)[0][1] == good, name


@pytest.mark.parametrize("attach", HOOKS)
def test_the_peer_sends_netsonde_reflects(lab, start_agent, key_file, attach):
    """Replies are what the RFC says of requests in both modes and of any length, never longer than these."""
    near, far = linked(lab)
    if attach == "xdp":
        take_xdp(start_agent, near)
    agent = start_agent(far.host, config([], attach=attach, reflect=[far.device], clock_error="1us",
                                         reflector={"key_file": key_file}))
    answers = 0
    for family in FAMILIES:
        for mode, key in MODES.items():
            ends = near.host, near.address(family), far.address(family), family
            with Sender(*ends, key=key, ssid=0x1234, error=5e-6) as sender:
                base = stamp_peer.BASE_LENGTH[bool(key)]
                replies = []
                for rest in (b"", b"x", b"\x80\x01\0\x04rest", b"0123456789" * 30, b"y" * (1400 - base)):
                    replies += sender.exchange(4, rest=rest)
                assert len(replies) == len(sender.sent) == 20 and not sender.invalid, (family, mode, sender.invalid)
                for number, (arrival, reply) in enumerate(replies):
                    request = stamp_peer.read_request(sender.sent[number], key)
                    assert arrival.source[:2] == (far.address(family), 862)
                    assert len(arrival.data) == len(sender.sent[number])
                    assert arrival.data[base:] == sender.sent[number][base:], "what follows is copied"
                    assert (reply.sequence, reply.sender_sequence, reply.ssid) == (number, number, 0x1234)
                    assert (reply.sender_timestamp, reply.sender_error) == (request.timestamp, request.error)
                    assert reply.sender_ttl == 64
                    assert not any(stamp_peer.must_be_zero(arrival.data, stamp_peer.REPLY, key))
                    seconds, synchronized, ptp = stamp_peer.error_seconds(reply.error)
                    assert synchronized and not ptp and 1e-6 <= seconds < 1.1e-6
                    t1, t2, t3 = (stamp_peer.from_timestamp(at)
                                  for at in (reply.sender_timestamp, reply.received, reply.timestamp))
                    # One clock, but user space and the kernel's hooks do not read it in quite the same way.
                    times = (t2 - t1, t3 - t2, arrival.at - t3)
                    assert -2000 <= times[0] and 0 <= times[1] < 1_000_000 and -2000 <= times[2], times
                    assert 32 <= arrival.ttl
                answers += len(replies)
                if key:
                    with Sender(*ends, key=KEY[::-1]) as stranger:
                        stranger.send()
                        assert not stranger.receive(1, 0.2) and len(stranger.invalid) <= 1
                        # Without the key it may be an open request that is longer, which is answered as one.
                        answers += len(stranger.invalid)
                else:
                    sender.socket.sendto(sender.sent[0][:43], sender.destination)
                    assert not sender.receive(1, 0.1) and not sender.invalid, "a reply would be longer than the request"
    metrics = agent.settle()
    assert metrics.sum("netsonde_xdp_packets_total", action="reflect", device=far.device) == answers


def test_authenticated_only(lab, start_agent, key_file):
    near, far = linked(lab)
    reflector = {"key_file": key_file, "authenticated_only": True, "port": 8862}
    start_agent(far.host, config([], attach="tc", reflect=[far.device], reflector=reflector))
    for family in FAMILIES:
        ends = near.host, near.address(family), far.address(family), family, 8862
        with Sender(*ends, key=KEY) as friend, Sender(*ends) as anyone, Sender(*ends, key=KEY[::-1]) as stranger:
            for sender in (anyone, stranger):
                sender.send(length=300)
            assert len(friend.exchange(3)) == 3
            for sender in (anyone, stranger):
                assert not sender.receive(1, 0.1) and not sender.invalid


def test_rate_of_a_source(lab, start_agent):
    """A source that asks too often is answered as often as it may; another is not affected."""
    near, far = linked(lab)
    start_agent(far.host, config([], attach="tc", reflect=[far.device], reflector={"rate": "20/s"}))
    with Sender(near.host, near.v4, far.v4) as greedy, Sender(near.host, near.v6, far.v6, 6) as modest:
        began = time.monotonic()
        for _ in range(300):
            greedy.send()
        answered = len(greedy.receive(300, 0.3))
        took = time.monotonic() - began
        assert 1 <= answered <= 20 + 20 * took + 1, f"{answered} in {took} s"
        assert len(modest.exchange(2)) == 2


def test_only_where_it_is_told(lab, start_agent):
    """Not on other interfaces, not for other hosts' addresses, not for all hosts, not in pieces; inside VLAN tags, with
    the same tags."""
    near, far = linked(lab)
    other_near, other_far = lab.link(near.host, far.host)
    known_neighbours(other_near, other_far)
    start_agent(far.host, config([], attach="tc", reflect=[far.device]))
    with Sender(near.host, other_near.v4, other_far.v4) as sender:
        sender.send()
        assert not sender.receive(1, 0.2)
    near_mac, far_mac = (frames.mac_address(end.host, end.device) for end in (near, far))

    def is_answer(data):
        frame = frames.parse(data)
        return bool(frame) and frame.protocol == frames.UDP and frames.ports(frame)[0] == 862

    with Wire(near.host, near.device, keep=is_answer) as wire:
        for family in FAMILIES:
            at = stamp_peer.to_timestamp(stamp_peer.now())
            payload = stamp_peer.make_request(stamp_peer.Request(7, at, 0x8001, 0), rest=b"end")
            base = frames.Frame(far_mac, near_mac, near.address(family), far.address(family), frames.UDP, b"")
            base = frames.udp(base, 5000, 862, payload)
            for tags in ((), (100,), (0xe005, 7)):
                wire.send(base.but(tags=tags).build())
                answer = wire.receive(2)
                assert answer, f"no answer inside {tags}"
                frame = frames.parse(answer)
                assert (frame.tags, frame.to, frame.sender) == (tags, near_mac, far_mac)
                assert (frame.source, frame.destination) == (far.address(family), near.address(family))
                assert frame.build() == answer, "lengths and checksums"
                assert stamp_peer.read_reply(frame.transport[8:]).sender_sequence == 7
            broken, all_hosts = base.build(), "255.255.255.255" if family == 4 else "ff02::1"
            refused = {"another host's link address": base.but(to=b"\x02\0\0\0\0\x09"),
                       "all hosts": base.but(to=b"\xff" * 6, destination=all_hosts),
                       "from all hosts": base.but(source=all_hosts),
                       "from its own port": frames.udp(base, 862, 862, payload),
                       "to port 0": frames.udp(base, 0, 862, payload)}
            if family == 4:
                refused["a first fragment"] = base.but(fragment=0x2000)
            for what, frame in refused.items():
                wire.send(frame.build())
                assert not wire.receive(0.05), what
            wire.send(broken[:-1] + bytes([broken[-1] ^ 1]))
            assert not wire.receive(0.05), "a wrong checksum"


@pytest.mark.parametrize("attach", ("xdp", "tc"))
def test_echo_is_reflected_where_that_is_configured(lab, start_agent, attach):
    """The system's ping cannot tell; the kernel behind the hook gets no request."""
    near, far = linked(lab)
    if attach == "xdp":
        take_xdp(start_agent, near)
    agent = start_agent(far.host, config([], attach=attach, reflect=[far.device], reflector={"icmp": True}))
    before = far.host.counters("Icmp")["InEchos"]
    for family in FAMILIES:
        out = near.host.run("ping", "-c", "5", "-i", "0.02", "-W", "2", "-s", "700", far.address(family))
        assert "5 received" in out and "0% packet loss" in out, out
    assert far.host.counters("Icmp")["InEchos"] == before
    metrics = agent.settle()
    assert metrics.sum("netsonde_xdp_packets_total", action="reflect", device=far.device) == 10


def test_ping_by_stamp(lab, key_file):
    """The command line's sender against the peer, in both modes."""
    near, far = linked(lab)
    for family, key in ((4, None), (6, KEY)):
        with Reflector(far.host, far.address(family), family, key=key, residence=2 * MS) as reflector:
            out = near.host.run(netsonde.BINARY, "ping", "--json", "-c", "5", "-i", "0.03", "--protocol", "stamp",
                                *(("--key-file", key_file) if key else ()), far.address(family))
        assert len(reflector.requests) == 5 and not reflector.invalid, (family, out)
        assert out.count('"answered"') == 5, out
