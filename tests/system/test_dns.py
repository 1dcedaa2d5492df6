# SPDX-License-Identifier: Apache-2.0
"""The agent's DNS numbers against the truth: what the server and the clients of dnslab.py did, and how long it took."""
import os
import socket
import struct
import threading

import pytest

from dnslab import RCODES, Client, Lookup, Server, Stub, TunServer, take_messages
from netlab import wait_for
from netsonde import KernelObjects, difference

LOOKUPS = "netsonde_dns_lookup_duration_seconds"
COUNTERS = {"timeouts": "netsonde_dns_timeouts_total", "late": "netsonde_dns_late_answers_total",
            "retransmits": "netsonde_dns_retransmits_total", "truncated": "netsonde_dns_truncated_total"}
DISCARDED = "netsonde_dns_discarded_messages_total"
CONFIG = "collect: {dns: on, tick: 100ms}\n"
DELAYS = (0, 0.003, 0.012, 0.05, 0.13)
STUB = "127.0.0.53"


def counts_of(servers):
    """{(server, rcode): lookups} and {(server, counter): n}, of what is not zero."""
    def read(metrics):
        found = {key: n for key, n in metrics.by(LOOKUPS + "_count", "server", "rcode").items() if key[0] in servers}
        for short, name in COUNTERS.items():
            found.update({(server, short): n for (server,), n in metrics.by(name, "server").items()
                          if server in servers})
        return found
    return read


def expected_counts(lookups):
    wanted = {}

    def count(lookup, what, n=1):
        key = (lookup.server[1], what)
        wanted[key] = wanted.get(key, 0) + n

    for lookup in lookups:
        if lookup.ignored is None:
            count(lookup, "timeouts")
        elif lookup.delay > 10:
            count(lookup, "timeouts")
            count(lookup, "late")
        else:
            count(lookup, RCODES.get(lookup.rcode, "other"))
        if lookup.seen > 1:
            count(lookup, "retransmits", lookup.seen - 1)
        if lookup.cut:
            count(lookup, "truncated")
    return wanted


def check_durations(metrics, lookups):
    """Each bucket holds at least what the clients saw within its bound, and at most what the server was as fast with."""
    groups = {}
    for lookup in lookups:
        if lookup.ignored is not None and lookup.delay < 10:
            groups.setdefault((lookup.server[1], RCODES.get(lookup.rcode, "other")), []).append(
                (lookup.answered - lookup.received, lookup.got - lookup.asked))
    for (server, rcode), bounds in groups.items():
        assert all(0 <= low <= high for low, high in bounds)
        for labels, below in metrics.select(LOOKUPS + "_bucket", server=server, rcode=rcode):
            bound = float(labels["le"])
            least, most = (sum(pair[i] <= bound for pair in bounds) for i in (1, 0))
            assert least <= below <= most, f"{server} {rcode}: {below} lookups within {bound} s, not {least}..{most}"
        total = metrics.sum(LOOKUPS + "_sum", server=server, rcode=rcode)
        assert sum(low for low, _ in bounds) <= total <= sum(high for _, high in bounds), (server, rcode)
    return groups


def plan_lookups(servers):
    """All kinds to all servers; the slow ones first, so that fast ones overtake them."""
    slow, fast = [], []
    for server in servers:
        for transport in ("udp", "connected", "tcp"):
            for number in range(30):
                fast.append(Lookup(server, transport, rcode=number % 8, delay=DELAYS[number % 5], extra=number % 4 * 50))
        fast.append(Lookup(server, "udp", extra=3000))  # comes in fragments
        fast.append(Lookup(server, "tcp", extra=40000))
        fast.append(Lookup(server, "udp", cut=True))
        for transport in ("udp", "connected"):
            fast.append(Lookup(server, transport, rcode=3, delay=0.02, ignored=2, resend=0.1))
            fast.append(Lookup(server, transport, delay=0.15, ignored=0, resend=0.1))  # sent again, answered twice
            fast.append(Lookup(server, transport, rcode=5, twice=True))
            fast.append(Lookup(server, transport, nonsense=True, delay=0.01))
            slow.append(Lookup(server, transport, ignored=None))
        slow.append(Lookup(server, "tcp", ignored=None))
        slow.append(Lookup(server, "udp", delay=10.6))
    return slow, fast


def ask_through_stub(host, server):
    """Lookups through a resolver of the host itself: each is one of the stub and one upstream. Returns them all."""
    local = [Lookup((4, STUB), "connected", rcode=number % 4, delay=0) for number in range(12)]
    upstream = [Lookup(server, "connected", rcode=number % 4, delay=0.004) for number in range(12)]
    return local, upstream


def test_lookups(lab, start_agent):
    watcher, near, far = (lab.host(name) for name in ("watcher", "near", "far"))
    _, end = lab.link(near, far)
    servers = [(4, end.v4), (6, end.v6)]
    slow, fast = plan_lookups(servers)
    local, upstream = ask_through_stub(near, servers[0])
    agent = start_agent(watcher, CONFIG)
    before = agent.metrics()
    assert not counts_of({end.v4, end.v6})(before)
    server = Server(far, servers, slow + fast + upstream)
    client = Client(near)
    for lookup in slow:
        client.ask(lookup)
    for number, lookup in enumerate(fast):
        client.ask(lookup)
        if number % 20 == 0:
            client.pump(0)
    client.finish(fast, 10)

    stub_client, asker = Client(near), Client(near)
    stub = Stub(near, STUB, stub_client, local, upstream)
    thread = threading.Thread(target=stub.work)
    thread.start()
    for lookup in local:
        asker.ask(lookup)
        asker.finish([lookup], 5)
    thread.join()

    late = [lookup for lookup in slow if lookup.ignored is not None]
    client.finish(late, 15)
    assert all(lookup.got - lookup.asked > 10.6 for lookup in late)
    expected = expected_counts(slow + fast + upstream)
    agent.wait_metrics(counts_of({end.v4, end.v6}), expected)
    metrics = agent.metrics()
    groups = check_durations(metrics, fast + upstream)
    assert {key[0] for key in groups} == {end.v4, end.v6} and len(groups) == 14
    # The machine may have a stub of its own at this address, so its row may hold more.
    stub_rows = counts_of({STUB})(metrics)
    for key, n in expected_counts(local).items():
        assert stub_rows[key] >= n, difference(expected_counts(local), stub_rows)
    gone = {reason: metrics.sum(DISCARDED, reason=reason) - before.sum(DISCARDED, reason=reason)
            for reason in ("unsolicited", "duplicate", "malformed")}
    assert gone["malformed"] >= 4 and gone["unsolicited"] >= 4, gone  # nonsense; the second one of "twice"
    assert gone["duplicate"] >= 4, gone  # both transmissions answered
    server.stop()
    for each in (client, stub_client, asker):
        each.close()


def test_tcp_segments_in_disorder(lab, start_agent):
    """Answers in segments that come early, late, twice and overlapping: each is found, once."""
    if not os.path.exists("/dev/net/tun"):
        pytest.skip("there is no /dev/net/tun")
    watcher, near = lab.host("watcher"), lab.host("near")
    agent = start_agent(watcher, CONFIG)
    server = TunServer(near)
    with near:
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.setblocking(False)
    client.connect_ex((server.address, 53))
    lookups = [Lookup((4, server.address), "tcp", rcode=number % 3, extra=1900 if number == 8 else number % 5)
               for number in range(20)]
    queries = b"".join(struct.pack(">H", len(lookup.query())) + lookup.query() for lookup in lookups)

    def sent():
        server.pump()
        try:
            return client.send(queries)
        except (BlockingIOError, OSError):
            return None

    assert wait_for(sent, 5, "the connection stands") == len(queries)
    wait_for(lambda: server.pump() or len(server.received) == len(queries), 5, "all queries")
    assert list(take_messages(bytearray(queries))) == list(take_messages(server.received))

    stream, starts = bytearray(), []
    for lookup in lookups:
        starts.append(len(stream))
        stream += struct.pack(">H", len(lookup.answer(lookup.query()))) + lookup.answer(lookup.query())
    starts.append(len(stream))

    def send(first, last, skip=0, cut=0):
        server.send(starts[first] + skip, bytes(stream[starts[first] + skip:starts[last] - cut]))

    send(1, 2)              # before the first
    send(0, 1)
    send(0, 2)              # both again
    send(3, 4)
    send(4, 5)
    send(3, 4)
    send(2, 6)              # fills the hole, repeats what is behind it, and goes on
    send(6, 7, cut=20)      # in three pieces: inside of the header, the middle of the name
    send(6, 7, skip=9)
    send(7, 8, skip=1)      # a message without its first byte: not to be told before that comes
    send(7, 8, cut=5)
    middle = starts[8] + 700
    server.send(starts[8], bytes(stream[starts[8]:middle]))
    server.send(middle + 700, bytes(stream[middle + 700:starts[9]]))  # a hole in one long answer
    send(9, 10)
    server.send(middle, bytes(stream[middle:middle + 700]))
    for number in range(10, 20, 2):
        send(number + 1, number + 2)
        send(number, number + 1)
    got = bytearray()

    def complete():
        server.pump()
        try:
            got.extend(client.recv(65536))
        except BlockingIOError:
            pass
        return len(got) >= len(stream)

    wait_for(complete, 5, "the whole stream")
    assert got == stream  # the kernel agrees that these segments were a stream
    for lookup in lookups:
        lookup.seen = 1
    agent.wait_metrics(counts_of({server.address}), expected_counts(lookups))
    client.close()
    server.close()


def test_off_by_default(lab, start_agent):
    """No program of the default set runs per packet."""
    agent = start_agent(lab.host("watcher"))
    held = KernelObjects.held_by(agent.pid)
    names = {name for key, name in KernelObjects.present().items() if key in held and key[0] == "prog"}
    assert names and not any(name.startswith("dns_") for name in names), names
    assert not agent.metrics().select(DISCARDED)
    on = start_agent(agent.host, CONFIG)
    assert on.metrics().sum("netsonde_feature_enabled", feature="dns", mode="cgroup_skb") == 1
