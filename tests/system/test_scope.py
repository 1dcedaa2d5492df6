# SPDX-License-Identifier: Apache-2.0
"""collect.scope: namespace. Two hosts talk; an agent in each tells exactly its own side, and nothing of the other.

No number here can be disturbed by what else happens on the machine, since that is in other namespaces.
"""
import json
import socket
import struct

import pytest

from netlab import wait_for
from netsonde import PATIENCE, difference
from traffic import FAMILIES

CONFIG = "collect: {scope: namespace, tick: 50ms, udp: on, dns: on, interfaces: off}"
N = 20
LINGER_0 = struct.pack("ii", 1, 0)


class Sides:
    def __init__(self, lab, start_agent):
        self.hosts = [lab.host("near"), lab.host("far")]
        self.near, self.far = lab.link(*self.hosts)
        self.agents = [start_agent(host, CONFIG) for host in self.hosts]
        self.begin()

    def begin(self):
        self.before = [agent.settle(1) for agent in self.agents]

    def bound(self, end, family, kind, port=0):
        with end.host:
            sock = socket.socket(FAMILIES[family], kind)
        sock.bind((end.address(family), port))
        sock.settimeout(10 * PATIENCE)
        return sock

    def rise(self, name, *labels):
        """Of each side: {(value of each label): how much more than at first}, without zeroes and our own questions."""
        sides = []
        for agent, before in zip(self.agents, self.before):
            old, new = before.by(name, *labels), agent.metrics().by(name, *labels)
            sides.append({key: value - old.get(key, 0) for key, value in new.items()
                          if value != old.get(key, 0) and "127.0.0.1" not in key})
        return sides

    def wait(self, near, far, name, *labels):
        """Until each side has risen by just this, and it stays so."""
        def good():
            return self.rise(name, *labels) == [near, far]

        wait_for(good, 10 * PATIENCE, lambda: f"{name}: " + " / ".join(
            difference(*pair) for pair in zip((near, far), self.rise(name, *labels))))
        for agent in self.agents:
            agent.settle(1)
        assert good(), (name, self.rise(name, *labels))


@pytest.fixture
def sides(lab, start_agent):
    return Sides(lab, start_agent)


def test_tcp(sides):
    for family in FAMILIES:
        tell_tcp(sides, family)
        sides.begin()


def tell_tcp(sides, family):
    near, far = sides.near.address(family), sides.far.address(family)
    listener = sides.bound(sides.far, family, socket.SOCK_STREAM)
    listener.listen()
    kept = []
    for number in range(N):
        client = sides.bound(sides.near, family, socket.SOCK_STREAM)
        client.connect(listener.getsockname()[:2])
        server, _ = listener.accept()
        client.sendall(b"n" * 1000)
        assert len(server.recv(1000, socket.MSG_WAITALL)) == 1000
        if number < N // 2:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
            server.close()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            client.close()
        else:
            kept += [client, server]
    closed = sides.bound(sides.far, family, socket.SOCK_STREAM)
    for _ in range(N):
        client = sides.bound(sides.near, family, socket.SOCK_STREAM)
        with pytest.raises(ConnectionRefusedError):
            client.connect(closed.getsockname()[:2])
        client.close()

    sides.wait({(far, "client", "established"): N, (far, "client", "reset"): N // 2, (far, "client", "refused"): N},
               {(near, "server", "established"): N}, "netsonde_tcp_connections_total", "peer", "role", "outcome")
    sides.wait({(far, "client"): N * 1000}, {}, "netsonde_tcp_sent_bytes_total", "peer", "role")
    sides.wait({}, {(near, "server"): N * 1000}, "netsonde_tcp_received_bytes_total", "peer", "role")
    sides.wait({(far, "client"): N // 2}, {(near, "server"): N // 2}, "netsonde_tcp_open_connections", "peer", "role")
    resets = sides.rise("netsonde_tcp_resets_total", "peer", "direction")
    assert resets[0] == {(far, "received"): N // 2 + N}, resets
    # For a closed port the kernel tells since Linux 6.10.
    assert resets[1] in ({(near, "sent"): N // 2}, {(near, "sent"): N // 2 + N}), resets

    for agent, own in zip(sides.agents, (near, far)):
        status, _, body = agent.get(f"/api/v1/connections?limit=1000&peer={near}&peer={far}")
        rows = json.loads(body)["data"]["connections"]
        assert status == 200 and len(rows) == N // 2 and {row["local"] for row in rows} == {own}, rows
    for sock in (*kept, listener, closed):
        sock.close()
    sides.wait({}, {}, "netsonde_tcp_open_connections", "peer", "role")


def test_datagrams_and_names(sides):
    for family in FAMILIES:
        tell_datagrams_and_names(sides, family)
        sides.begin()


def tell_datagrams_and_names(sides, family):
    near, far = sides.near.address(family), sides.far.address(family)
    client = sides.bound(sides.near, family, socket.SOCK_DGRAM)
    server = sides.bound(sides.far, family, socket.SOCK_DGRAM, 53)
    for number in range(N):
        query = struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + b"\1n\4test\0" + struct.pack(">HH", 1, 1)
        client.sendto(query, server.getsockname())
        server.sendto(query[:2] + b"\x81\x80" + query[4:], server.recvfrom(512)[1])
        client.recv(512)
    for _ in range(N):  # nobody listens
        client.sendto(b"n", (far, 9))
    sides.wait({(far,): 2 * N}, {(near,): N}, "netsonde_udp_sent_datagrams_total", "peer")
    sides.wait({(far,): N}, {(near,): N}, "netsonde_udp_received_datagrams_total", "peer")
    sides.wait({(far, "noerror"): N}, {}, "netsonde_dns_lookup_duration_seconds_count", "server", "rcode")
    drops = [sum(value for (reason, protocol), value in side.items() if protocol == "udp")
             for side in sides.rise("netsonde_packet_drops_total", "reason", "protocol")]
    assert drops == [0, N], sides.rise("netsonde_packet_drops_total", "reason", "protocol")
    client.close()
    server.close()


def test_nothing_is_missing(sides, lab, start_agent):
    """Every program that the kernel takes without the limit it takes with it."""
    everything = start_agent(lab.host("watcher"), CONFIG.replace("namespace", "machine"))
    features = [agent.metrics().by("netsonde_feature_enabled", "feature", "mode") for agent in (*sides.agents, everything)]
    assert features[0] == features[1] == features[2]


def test_processes_and_lookups(sides):
    near = sides.hosts[0]
    for _ in range(N):
        near.run("true")
    with near:
        for _ in range(N):
            socket.getaddrinfo("localhost", 80)
    sides.wait({(): N}, {}, "netsonde_process_execs_total")
    sides.wait({(): N}, {}, "netsonde_process_exits_total")
    sides.wait({("success",): N}, {}, "netsonde_host_lookup_duration_seconds_count", "outcome")
    # What other agents and their hosts do is not of this scope either.
    with sides.hosts[1]:
        socket.getaddrinfo("localhost", 80)
    sides.wait({("success",): N}, {("success",): 1}, "netsonde_host_lookup_duration_seconds_count", "outcome")
