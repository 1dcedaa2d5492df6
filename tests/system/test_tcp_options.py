# SPDX-License-Identifier: Apache-2.0
"""What TCP measures by request or only on some hosts: an RTT per acknowledgement, MPTCP subflows, the memory budget."""
import os
import socket
import threading

import pytest

from netlab import wait_for
from netsonde import PATIENCE

IPPROTO_MPTCP = 262
QUIET = "drops: off, processes: off, lookups: off, interfaces: off"


def ping_pong(near, far, rounds, protocol=0):
    """One connection that carries `rounds` requests and answers of a byte, one after the other."""
    with far.host:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
        listener.bind((far.v4, 0))
        listener.listen()

    def serve():
        sock, _ = listener.accept()
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while sock.recv(1):
                sock.send(b"a")
    thread = threading.Thread(target=serve)
    thread.start()
    with near.host:
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    with client:
        client.connect(listener.getsockname())
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(rounds):
            client.send(b"q")
            assert client.recv(1) == b"a"
    thread.join(10)
    listener.close()


def test_rtt_of_every_acknowledgement(lab, start_agent):
    watcher, near_host, far_host = lab.host("watcher"), lab.host("near"), lab.host("far")
    near, far = lab.link(near_host, far_host, relay={}, a_to_b={"delay": "10ms"})
    agent = start_agent(watcher, f"collect: {{tick: 100ms, tcp: {{rtt: every_ack}}, {QUIET}}}\n")
    assert agent.metrics().sum("netsonde_feature_enabled", feature="tcp_rtt_every_ack", mode="sock_ops") == 1
    rounds = 100
    ping_pong(near, far, rounds)
    labels = {"peer": far.v4, "role": "client"}
    # Each answer acknowledges its request. One is left for the look at the close where the kernel is older.
    agent.wait_metrics(lambda m: m.sum("netsonde_tcp_rtt_seconds_count", **labels) >= rounds, True)
    metrics = agent.metrics()
    count = metrics.sum("netsonde_tcp_rtt_seconds_count", **labels)
    assert rounds <= count <= rounds + 4, count
    assert metrics.sum("netsonde_tcp_rtt_seconds_count", peer=near.v4, role="server") >= rounds
    mean = metrics.sum("netsonde_tcp_rtt_seconds_sum", **labels) / count
    assert 0.0095 < mean < 0.0095 + 0.01 * PATIENCE, mean


def test_rtt_per_tick_is_what_one_gets_without(lab, start_agent):
    watcher, near_host, far_host = lab.host("watcher"), lab.host("near"), lab.host("far")
    near, far = lab.link(near_host, far_host)
    agent = start_agent(watcher, f"collect: {{tick: 2s, tcp: on, {QUIET}}}\n")
    assert not agent.metrics().select("netsonde_feature_enabled", feature="tcp_rtt_every_ack")
    ping_pong(near, far, 200)
    agent.settle(1)
    assert 1 <= agent.metrics().sum("netsonde_tcp_rtt_seconds_count", peer=far.v4, role="client") <= 4


@pytest.mark.skipif(not os.path.exists("/proc/sys/net/mptcp/enabled"), reason="this kernel has no MPTCP")
def test_mptcp_subflows_are_connections(lab, start_agent):
    watcher, near_host, far_host = lab.host("watcher"), lab.host("near"), lab.host("far")
    near, far = lab.link(near_host, far_host)
    second_near, second_far = lab.link(near_host, far_host)
    for host in (near_host, far_host):
        host.sysctl("net.mptcp.enabled", 1)
    far_host.run("ip", "mptcp", "limits", "set", "subflows", "2", "add_addr_accepted", "2")
    near_host.run("ip", "mptcp", "limits", "set", "subflows", "2", "add_addr_accepted", "2")
    # The client opens a second subflow from its other address, over the other link.
    near_host.run("ip", "mptcp", "endpoint", "add", second_near.v4, "dev", second_near.device, "subflow")
    far_host.run("ip", "route", "add", f"{second_near.v4}/32", "dev", second_far.device)
    near_host.run("ip", "rule", "add", "from", second_near.v4, "table", "77")
    near_host.run("ip", "route", "add", f"{far.v4}/32", "via", second_far.v4, "dev", second_near.device, "table", "77")
    for host, device in ((near_host, near.device), (near_host, second_near.device), (far_host, far.device),
                         (far_host, second_far.device)):
        host.sysctl(f"net.ipv4.conf.{device}.rp_filter", 0)
    for host in (near_host, far_host):
        host.sysctl("net.ipv4.conf.all.rp_filter", 0)
    agent = start_agent(watcher, f"""
networks: {{far: [{far.v4}/32], first: [{near.v4}/32], second: [{second_near.v4}/32]}}
collect: {{tick: 100ms, {QUIET}}}
""")
    stop = threading.Event()

    def talk():
        while not stop.is_set():
            ping_pong(near, far, 50, IPPROTO_MPTCP)
    thread = threading.Thread(target=talk)
    thread.start()
    try:
        def subflows():
            metrics = agent.metrics()
            return [metrics.sum("netsonde_tcp_connections_total", peer=peer, role=role, outcome="established")
                    for peer, role in (("far", "client"), ("first", "server"), ("second", "server"))]
        # The server sees two peers, one for each address of the client; the client has both subflows to one peer.
        wait_for(lambda: all(subflows()), 10 * PATIENCE, "both subflows counted")
    finally:
        stop.set()
        thread.join()
    agent.settle(3)
    client, first, second = subflows()
    assert client == first + second and second >= 1, (client, first, second)
    assert client == near_host.counters("Tcp")["ActiveOpens"]
    assert first + second == far_host.counters("Tcp")["PassiveOpens"]


def test_memory_budget_bounds_the_records(lab, start_agent):
    watcher = lab.host("watcher")
    agent = start_agent(watcher, f"collect: {{tick: 100ms, memory_budget: 8M, {QUIET}}}\n")
    agent.settle(2)
    small = agent.metrics().sum("netsonde_map_max_entries", map="tcp_sockets")
    other = start_agent(watcher, f"collect: {{tick: 100ms, memory_budget: 640M, {QUIET}}}\n")
    other.settle(2)
    assert other.metrics().sum("netsonde_map_max_entries", map="tcp_sockets") == 262144
    # An agent that has outgrown its budget keeps a sixteenth of it for records, of 400 bytes each.
    assert small == 8_000_000 // 16 // 400


def test_memory_budget_bounds_what_is_there_at_the_start(lab, start_agent):
    watcher, host = lab.host("watcher"), lab.host("host")
    pairs = 1500
    with host:
        host.run("ip", "link", "set", "lo", "up")
        listener = socket.create_server(("127.0.0.1", 0), backlog=pairs)
        sockets = []
        for _ in range(pairs):
            sockets.append(socket.create_connection(listener.getsockname()))
            sockets.append(listener.accept()[0])
    try:
        agent = start_agent(watcher, f"collect: {{tick: 100ms, memory_budget: 8M, {QUIET}}}\n")
        metrics = agent.settle(2)
        most = metrics.sum("netsonde_map_max_entries", map="tcp_sockets")
        assert most < 2 * pairs
        assert metrics.sum("netsonde_map_entries", map="tcp_sockets") <= most
        assert metrics.sum("netsonde_lost_events_total", source="tcp_socket") >= 2 * pairs - most
    finally:
        for sock in (*sockets, listener):
            sock.close()
