# SPDX-License-Identifier: Apache-2.0
"""TCP's durations, jitter, limits, segments and kinds of retransmissions, each against a truth of its own: what the
application measured, TCP_INFO of the same socket, the counters of the network namespace, what the link did.
"""
import socket
import struct
import threading
import time

import pytest

from netlab import wait_for
from netsonde import PATIENCE

QUIET = "drops: off, processes: off, lookups: off, interfaces: off"
# Offsets in struct tcp_info (include/uapi/linux/tcp.h).
RTTVAR, BUSY, RWND_LIMITED, SNDBUF_LIMITED = ("I", 72), ("Q", 168), ("Q", 176), ("Q", 184)


def tcp_info(sock, field):
    form, offset = field
    return struct.unpack_from(form, sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), offset)[0] / 1e6


def pair(near, far, buffer=None):
    """A connection from near to far; buffer: of what the client may have unsent."""
    with far.host:
        listener = socket.create_server((far.v4, 0))
    with near.host:
        client = socket.socket()
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    client.settimeout(30)
    client.connect(listener.getsockname())
    server, _ = listener.accept()
    server.settimeout(30)
    listener.close()
    return client, server


@pytest.fixture
def net(lab, start_agent):
    """near, far, and an agent that knows them by these names; the watcher's own traffic is in neither."""
    watcher, near_host, far_host = lab.host("watcher"), lab.host("near"), lab.host("far")

    def make(tick="100ms", **link):
        near, far = lab.link(near_host, far_host, relay={}, **link)
        agent = start_agent(watcher, f"""
networks: {{near: [{near.v4}/32], far: [{far.v4}/32]}}
collect: {{tick: {tick}, {QUIET}}}
""")
        return near, far, agent
    return make


def test_connection_duration(net):
    near, far, agent = net()
    shortest = longest = 0
    for seconds in (0.05, 0.2, 0.5):
        before = time.monotonic()
        client, server = pair(near, far)
        made = time.monotonic()
        wait_for(lambda s=seconds, m=made: time.monotonic() - m >= s, 5, "the connection's time")
        closing = time.monotonic()
        client.close()
        assert server.recv(1) == b""
        server.close()
        shortest += closing - made
        longest += time.monotonic() - before
    name = "netsonde_tcp_connection_duration_seconds"
    for labels in ({"peer": "far", "role": "client"}, {"peer": "near", "role": "server"}):
        agent.wait_metrics(lambda m, l=labels: m.sum(name + "_count", **l), 3)
        total = agent.metrics().sum(name + "_sum", **labels)
        # The last state changes come with acknowledgements that may be on their way when the application has closed.
        assert shortest - 0.002 <= total <= longest + 0.1 * PATIENCE, (shortest, total, longest)


def test_segments_are_those_of_the_namespace(net):
    near, far, agent = net()
    before = near.host.counters("Tcp")
    for _ in range(20):
        client, server = pair(near, far)
        client.sendall(b"q" * 5000)
        left = 5000
        while left:
            left -= len(server.recv(left))
        server.sendall(b"a" * 3000)
        server.close()  # first, so that the client's last segment is of a whole socket
        while client.recv(65536):
            pass
        client.close()
    labels = {"peer": "far", "role": "client"}
    agent.wait_metrics(lambda m: m.sum("netsonde_tcp_connection_duration_seconds_count", **labels), 20)
    after, metrics = near.host.counters("Tcp"), agent.metrics()
    assert after["RetransSegs"] == before["RetransSegs"], "the link is not busy; repeat the test"
    for name, counter in (("sent", "OutSegs"), ("received", "InSegs")):
        assert metrics.sum(f"netsonde_tcp_{name}_segments_total", **labels) == after[counter] - before[counter], name


@pytest.mark.parametrize("cause", ("receive_window", "send_buffer"))
def test_limited_seconds_are_those_of_tcp_info(net, cause):
    near, far, agent = net(delay="10ms")
    client, server = pair(near, far, buffer=8192 if cause == "send_buffer" else None)
    end = time.monotonic() + 2
    stop = threading.Event()

    def read():
        """All at once, or so slowly that the window stays full."""
        while not stop.is_set():
            try:
                if not server.recv(1 << 20 if cause == "send_buffer" else 4096):
                    return
            except OSError:
                return
            if cause == "receive_window":
                time.sleep(0.01)
    reader = threading.Thread(target=read)
    reader.start()
    client.settimeout(0.2)
    while time.monotonic() < end:
        try:
            client.send(bytes(200_000))
        except TimeoutError:
            pass
    field = RWND_LIMITED if cause == "receive_window" else SNDBUF_LIMITED
    low = {"busy": tcp_info(client, BUSY), cause: tcp_info(client, field)}
    metrics = agent.settle(2)
    high = {"busy": tcp_info(client, BUSY), cause: tcp_info(client, field)}
    stop.set()
    client.close()
    server.close()
    reader.join()
    assert low[cause] > 0.5, "the case was not built"
    for name in low:
        value = metrics.sum("netsonde_tcp_limited_seconds_total", peer="far", cause=name)
        # Jiffies: up to 10 ms each at the beginning and the end.
        assert low[name] - 0.02 <= value <= high[name] + 0.02, (name, low, value, high)
    assert metrics.sum("netsonde_tcp_limited_seconds_total", peer="far", cause="busy") >= metrics.sum(
        "netsonde_tcp_limited_seconds_total", peer="far", cause=cause)


def test_jitter_is_the_sockets_own(net):
    near, far, agent = net(tick="50ms", delay="10ms", jitter="8ms")
    client, server = pair(near, far)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    seen = []
    for _ in range(60):
        client.sendall(b"q")
        assert server.recv(1) == b"q"
        server.sendall(b"a")
        assert client.recv(1) == b"a"
        seen.append(tcp_info(client, RTTVAR))
    metrics = agent.settle(2)
    client.close()
    server.close()
    labels = {"peer": "far", "role": "client"}
    count = metrics.sum("netsonde_tcp_rtt_jitter_seconds_count", **labels)
    mean = metrics.sum("netsonde_tcp_rtt_jitter_seconds_sum", **labels) / count
    assert count >= 5
    # The first is from the handshake. tcp_info's value is smoothed once more, so only the order of it can be the same.
    assert min(seen) / 4 <= mean <= max(seen) * 1.1, (min(seen), mean, max(seen))
    assert mean > 0.001, "the link's jitter must show"


def by_type(agent):
    return {key[0]: value for key, value in agent.metrics().by("netsonde_tcp_retransmits_total", "type", peer="far").items()}


def test_retransmissions_of_a_syn(net):
    near, far, agent = net()
    near.host.sysctl("net.ipv4.tcp_syn_retries", 2)
    far.host.nft("chain silent {\n type filter hook input priority filter\n tcp dport 7 drop\n}")
    before = near.host.counters("Tcp")["RetransSegs"]
    with near.host:
        sock = socket.socket()
    sock.settimeout(30)
    with pytest.raises(TimeoutError):
        sock.connect((far.v4, 7))
    sock.close()
    sent_again = near.host.counters("Tcp")["RetransSegs"] - before
    assert sent_again >= 2  # newer kernels repeat the first few without doubling the wait, and do not count these as retries
    agent.wait_metrics(lambda m: m.sum("netsonde_tcp_retransmits_total", peer="far", type="syn"), sent_again)
    assert by_type(agent) == {"syn": sent_again}


def test_retransmissions_of_a_synack(net):
    near, far, agent = net()
    near.host.nft("chain deaf {\n type filter hook prerouting priority raw\n tcp flags & (syn | ack) == syn | ack drop\n}")
    with far.host:
        listener = socket.create_server((far.v4, 0))
    with near.host:
        client = socket.socket()
    client.settimeout(30)
    connecting = threading.Thread(target=client.connect, args=(listener.getsockname(),))
    connecting.start()

    def synacks():
        return agent.metrics().sum("netsonde_tcp_retransmits_total", peer="near", type="synack")
    wait_for(synacks, 10 * PATIENCE, "a SYN-ACK sent again")
    near.host.nft("")
    connecting.join()
    listener.accept()[0].close()
    client.close()
    listener.close()
    agent.settle(2)
    # Both sides repeat theirs, and the server also answers each repeated SYN; nobody else talks here.
    assert synacks() + agent.metrics().sum("netsonde_tcp_retransmits_total", peer="near", type="syn") <= 12
    assert by_type(agent).keys() <= {"syn"}


def test_retransmissions_of_data_by_what_caused_them(net):
    near, far, agent = net(delay="5ms")
    client, server = pair(near, far)
    client.sendall(b"x" * 20000)  # the window opens
    received = 0
    while received < 20000:
        received += len(server.recv(65536))

    # The last segment of a flight is lost: nothing behind it tells, so a probe does.
    near.relay.set("a->b", loss="100%")
    client.sendall(b"l" * 500)
    wait_for(lambda: by_type(agent).get("tail_loss_probe"), 10 * PATIENCE, "a tail loss probe")
    # As long as nothing passes, time-outs follow.
    wait_for(lambda: by_type(agent).get("timeout"), 10 * PATIENCE, "a retransmission after a time-out")
    near.relay.set("a->b", loss="0%")
    assert len(server.recv(65536)) == 500
    before = by_type(agent).get("fast", 0)

    # One of many is lost: those behind it tell.
    near.relay.set("a->b", loss="1/20")

    def push():
        client.sendall(b"f" * 100_000)
        left = 100_000
        while left:
            left -= len(server.recv(left))
        return by_type(agent).get("fast", 0) > before
    wait_for(push, 20 * PATIENCE, "a fast retransmission")
    near.relay.set("a->b", loss="0%")
    client.close()
    server.close()
    agent.wait_metrics(lambda m: m.sum("netsonde_tcp_retransmits_total", peer="far") ==
                       near.host.counters("Tcp")["RetransSegs"], True)
