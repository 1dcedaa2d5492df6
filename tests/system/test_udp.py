# SPDX-License-Identifier: Apache-2.0
"""The agent's UDP numbers against what the sockets sent and got, and against the hosts' own counters (/proc/net/snmp).

The agent sees the sockets of all hosts: what `near` sends is under far's address as sent, and under near's as received.
"""
import collections
import json
import random
import socket

import pytest

from netlab import wait_for
from netsonde import PATIENCE

PREFIX = "netsonde_udp_"
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
UDP_SEGMENT = 103
SEED = 9435
CONFIG = "collect: {tick: 50ms, udp: true, top_peers: 1000"


class Net:
    """Two hosts and the books: what must be counted, by (metric, peer)."""

    def __init__(self, lab):
        self.watcher = lab.host("watcher")
        self.near_host, self.far_host = lab.host("near"), lab.host("far")
        self.near, self.far = lab.link(self.near_host, self.far_host)
        self.books = collections.Counter()
        self.peers = {end.address(family) for end in (self.near, self.far) for family in FAMILIES}

    def socket(self, end, family, port=0):
        with end.host:
            sock = socket.socket(FAMILIES[family], socket.SOCK_DGRAM)
        sock.bind((end.address(family), port))
        sock.settimeout(10 * PATIENCE)
        return sock

    def sent(self, peer, length, datagrams=1):
        self.books["sent_bytes", peer] += length
        self.books["sent_datagrams", peer] += datagrams

    def received(self, peer, length, datagrams=1):
        self.books["received_bytes", peer] += length
        self.books["received_datagrams", peer] += datagrams

    def shown(self, metrics):
        return {(name[len(PREFIX):-len("_total")], labels["peer"]): value for name, labels, value in metrics.samples
                if name.startswith(PREFIX) and labels["peer"] in self.peers and value}

    def check(self, agent):
        agent.wait_metrics(self.shown, {key: value for key, value in self.books.items() if value})


@pytest.fixture
def net(lab):
    return Net(lab)


def exchange(net, generator, family, count, connected):
    """Datagrams of all sizes both ways, larger ones in fragments; each is received before the next is sent."""
    one, two = net.socket(net.near, family), net.socket(net.far, family)
    if connected:
        one.connect(two.getsockname()[:2])
        two.connect(one.getsockname()[:2])
    for _ in range(count):
        ends = [(one, net.near), (two, net.far)]
        generator.shuffle(ends)
        (sender, from_end), (receiver, to_end) = ends
        length = generator.choice((0, 1, generator.randrange(1500), generator.randrange(60000)))
        if connected:
            sender.send(bytes(length))
        else:
            sender.sendto(bytes(length), receiver.getsockname()[:2])
        assert len(receiver.recv(65535)) == length
        net.sent(to_end.address(family), length)
        net.received(from_end.address(family), length)
    one.close()
    two.close()


def test_bytes_and_datagrams(net, start_agent):
    before = {host: host.counters("Udp") for host in (net.near_host, net.far_host)}
    agent = start_agent(net.watcher, CONFIG + "}")
    generator = random.Random(SEED)
    for family in FAMILIES:
        for connected in (False, True):
            exchange(net, generator, family, 100, connected)
    net.check(agent)
    # The hosts' own counters know only IPv4 here, and no peers.
    for host, end, other in ((net.near_host, net.near, net.far), (net.far_host, net.far, net.near)):
        after = host.counters("Udp")
        assert after["OutDatagrams"] - before[host]["OutDatagrams"] == net.books["sent_datagrams", other.v4], end
        assert after["InDatagrams"] - before[host]["InDatagrams"] == net.books["received_datagrams", other.v4], end
    assert net.near_host.counters("Ip")["FragCreates"] > 100
    metrics = agent.metrics()
    assert metrics.sum("netsonde_lost_events_total", source="udp_datagram") == 0
    # TCP and ping between the same hosts change nothing.
    net.near_host.run("ping", "-c", "3", "-i", "0.01", net.far.v4)
    with net.far_host, socket.create_server((net.far.v4, 0)) as listener, net.near_host:
        socket.create_connection(listener.getsockname()).sendall(bytes(100000))
    net.check(agent)


def test_batches(net, start_agent):
    """UDP_SEGMENT over a veth, to a receiver that gets each datagram by itself."""
    agent = start_agent(net.watcher, CONFIG + "}")
    for family in FAMILIES:
        one, two = net.socket(net.near, family), net.socket(net.far, family)
        one.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
        for length in (1200, 1201, 12000, 50000):
            one.sendto(bytes(length), two.getsockname()[:2])
            got = []
            while sum(got) < length:
                got.append(len(two.recv(65535)))
            net.sent(net.far.address(family), length, len(got))
            net.received(net.near.address(family), length, len(got))
            assert len(got) == -(-length // 1200)
        one.close()
        two.close()
    net.check(agent)


def test_receive_drops(net, start_agent):
    """A full receive buffer: the kernel's RcvbufErrors, at the peer who sent."""
    agent = start_agent(net.watcher, CONFIG + "}")
    features = {f["feature"]: f for f in json.loads(agent.get("/api/v1/features")[2])["data"]["features"]}
    mode = features["udp_receive_drops"]["mode"]
    before = net.far_host.counters("Udp")["RcvbufErrors"]
    one, two = net.socket(net.near, 4), net.socket(net.far, 4)
    two.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 10000)
    if mode == "tp_btf_connected":
        two.connect(one.getsockname()[:2])
    for _ in range(2000):
        one.sendto(bytes(300), two.getsockname()[:2])

    def arrived():
        # InErrors has the dropped ones; what waits in the buffer is not counted before it is read.
        two.setblocking(False)
        try:
            while True:
                two.recv(65535)
        except BlockingIOError:
            pass
        counters = net.far_host.counters("Udp")
        return counters["InDatagrams"] + counters["RcvbufErrors"] - before >= 2000

    wait_for(arrived, 10 * PATIENCE, "all arrived")
    dropped = net.far_host.counters("Udp")["RcvbufErrors"] - before
    assert 1000 < dropped < 2000
    net.sent(net.far.v4, 2000 * 300, 2000)
    net.received(net.near.v4, 2000 * 300, 2000)
    net.books["receive_drops", net.near.v4] = dropped
    net.check(agent)


def test_translated_destination(net, start_agent):
    """A connected socket whose packets are sent elsewhere on their way (as to the address of a service): the peer is whom the
    application talks to, in both directions."""
    service = "10.255.78.9"
    net.near_host.run("ip", "route", "add", service + "/32", "via", net.far.v4)
    try:
        net.near_host.nft(f"""chain out {{
            type nat hook output priority -100
            ip daddr {service} dnat ip to {net.far.v4}
        }}""")
    except AssertionError as error:
        pytest.skip(f"this kernel has no address translation: {error}")
    net.peers.add(service)
    agent = start_agent(net.watcher, CONFIG + "}")
    two = net.socket(net.far, 4)
    with net.near_host:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.settimeout(10 * PATIENCE)
    one.connect((service, two.getsockname()[1]))
    one.send(bytes(111))
    data, client = two.recvfrom(1000)
    assert len(data) == 111 and client[0] == net.near.v4
    two.sendto(bytes(222), client)
    assert len(one.recv(1000)) == 222
    net.sent(service, 111)
    net.received(service, 222)
    net.received(net.near.v4, 111)
    net.sent(net.near.v4, 222)
    net.check(agent)
    one.close()
    two.close()


def test_off_by_default(net, start_agent):
    """No program on any packet unless it is asked for."""
    agent = start_agent(net.watcher, "collect: {tick: 50ms}")
    exchange(net, random.Random(SEED), 4, 5, False)
    metrics = agent.settle()
    assert not [name for name, _, _ in metrics.samples if name.startswith(PREFIX)]
    features = json.loads(agent.get("/api/v1/features")[2])["data"]["features"]
    assert not next(f for f in features if f["feature"] == "udp")["enabled"]
