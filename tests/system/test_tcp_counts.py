# SPDX-License-Identifier: Apache-2.0
"""The agent's TCP numbers against the truth: what the applications did, and what the kernel's own counters say.

The agent sees every network namespace of the machine, so both ends of each connection are in its numbers: the client's
under the server's address with role=client, the server's under the client's address with role=server.
"""
import threading

import pytest

import traffic
from netlab import wait_for
from netsonde import PATIENCE

OUTCOMES = "netsonde_tcp_connections_total"
SENT, RECEIVED = "netsonde_tcp_sent_bytes_total", "netsonde_tcp_received_bytes_total"

# What the far hosts do with connections to these ports.
PORT_SILENT, PORT_HOST_UNREACHABLE, PORT_NET_UNREACHABLE = 7, 8, 9
FAR_RULES = f"""
chain input {{
	type filter hook input priority filter
	tcp dport {PORT_SILENT} drop
	tcp dport {PORT_HOST_UNREACHABLE} meta nfproto ipv4 reject with icmp type host-unreachable
	tcp dport {PORT_HOST_UNREACHABLE} meta nfproto ipv6 reject with icmpv6 type addr-unreachable
	tcp dport {PORT_NET_UNREACHABLE} meta nfproto ipv4 reject with icmp type net-unreachable
	tcp dport {PORT_NET_UNREACHABLE} meta nfproto ipv6 reject with icmpv6 type no-route
}}
"""
LOSS = """
chain lossy {
	type filter hook prerouting priority raw
	meta l4proto tcp numgen random mod 100 < 5 drop
}
"""
DEAD = """
chain dead {
	type filter hook prerouting priority raw
	meta l4proto tcp drop
}
"""


class Net:
    """A host in the middle and three far hosts. `near`, `db` and `wide` are configured networks (db as a longer prefix
    within wide), `plain` goes by its addresses. The agent has a host of its own, so that the fetching of its metrics is
    not in the other hosts' counters."""

    def __init__(self, lab):
        self.watcher = lab.host("watcher")
        self.near_host = lab.host("near")
        self.near_host.sysctl("net.ipv4.tcp_syn_retries", 1)
        self.near, self.far = {}, {}
        for name in ("db", "plain", "wide"):
            host = lab.host(name)
            host.sysctl("net.ipv4.tcp_syn_retries", 1)
            # Each refused attempt gets its own answer.
            host.sysctl("net.ipv4.icmp_ratelimit", 0)
            host.sysctl("net.ipv6.icmp.ratelimit", 0)
            near_end, far_end = lab.link(self.near_host, host)
            self.near[name] = traffic.Side(near_end, "near")
            self.far[name] = traffic.Side(far_end, None if name == "plain" else name)

    def config(self):
        def cidrs(*ends):
            return ", ".join(f'"{end.v4}/32", "{end.v6}/128"' for end in ends)

        wide, db = self.far["wide"].end, self.far["db"].end
        return f"""
networks:
  near: [{cidrs(*(side.end for side in self.near.values()))}]
  db: [{cidrs(db)}]
  wide: ["{wide.network4}", "{wide.network6}", "{db.network4}", "{db.network6}"]
collect:
  tick: 100ms
  top_peers: 1000
"""

    def peers(self):
        return {"near", "db", "wide", self.far["plain"].end.v4, self.far["plain"].end.v6}


@pytest.fixture
def net(lab):
    return Net(lab)


def outcomes_of(net):
    peers = net.peers()
    return lambda metrics: {key: value for key, value in metrics.by(OUTCOMES, "peer", "role", "outcome").items()
                            if key[0] in peers}


def bytes_of(net):
    peers = net.peers()
    return lambda metrics: {(name, *key): value for name in (SENT, RECEIVED)
                            for key, value in metrics.by(name, "peer", "role").items() if key[0] in peers}


def expected_bytes(books):
    wanted = {(SENT, *key): value for key, value in books.sent.items() if value}
    wanted.update({(RECEIVED, *key): value for key, value in books.received.items() if value})
    return wanted


def open_of(net):
    peers = net.peers()
    return lambda metrics: {key: value for key, value in metrics.by("netsonde_tcp_open_connections", "peer", "role"
                                                                    ).items() if key[0] in peers}


def make_pairs(net, books, plan):
    """plan: rows of (far host, near is the client?, family, how many). Yields each established pair."""
    for name, near_is_client, family, count in plan:
        client, server = net.near[name], net.far[name]
        if not near_is_client:
            client, server = server, client
        with traffic.listen(server, family) as listener:
            for _ in range(count):
                yield traffic.Pair(books, client, server, family, listener)


def test_a_thousand_connections_of_every_kind(net, start_agent):
    for side in net.far.values():
        side.host.nft(FAR_RULES)
    agent = start_agent(net.watcher, net.config())
    books = traffic.Books()

    # Long-lived: open through many sweeps.
    kept = list(make_pairs(net, books, [("db", True, 4, 20), ("db", True, 6, 20), ("plain", True, 4, 15),
                                        ("plain", True, 6, 15), ("wide", False, 4, 15), ("wide", False, 6, 15)]))
    agent.wait_metrics(open_of(net), {("db", "client"): 40, ("near", "server"): 70, ("near", "client"): 30,
                                      ("wide", "server"): 30, (net.far["plain"].end.v4, "client"): 15,
                                      (net.far["plain"].end.v6, "client"): 15})
    for number, pair in enumerate(kept):
        pair.exchange(100 + number, 20000 + number)

    # Short-lived: most live and die between two sweeps.
    short = [(name, near_is_client, family, 50) for name in net.far for near_is_client in (True, False)
             for family in (4, 6)]
    for number, pair in enumerate(make_pairs(net, books, short)):
        pair.exchange(number, 3 * number)
        pair.close()

    # Ended by a reset, either way.
    for pair in make_pairs(net, books, [("db", True, 4, 30), ("plain", True, 6, 30), ("wide", False, 4, 30)]):
        pair.exchange(10, 0)
        pair.reset_by_server()
    for pair in make_pairs(net, books, [("db", True, 6, 20), ("plain", False, 4, 20)]):
        pair.exchange(0, 10)
        pair.reset_by_client()

    # Never established.
    for name in net.far:
        near, far = net.near[name], net.far[name]
        for family in (4, 6):
            traffic.fail(books, near, far, family, traffic.free_port(far, family), 20, "refused")
            traffic.give_up(books, near, far, family, PORT_SILENT, 5)
    for family in (4, 6):
        near, far = net.near["db"], net.far["db"]
        traffic.fail(books, near, far, family, PORT_SILENT, 10, "timed_out")
        traffic.fail(books, near, far, family, PORT_HOST_UNREACHABLE, 10, "host_unreachable")
        traffic.fail(books, near, far, family, PORT_NET_UNREACHABLE, 10, "net_unreachable")
        traffic.fail(books, net.far["wide"], net.near["wide"], family,
                     traffic.free_port(net.near["wide"], family), 10, "refused")

    for pair in kept:
        pair.close()

    assert books.attempts >= 1000
    agent.wait_metrics(outcomes_of(net), dict(books.outcomes))
    agent.wait_metrics(bytes_of(net), expected_bytes(books))
    agent.wait_metrics(open_of(net), {})
    metrics = agent.metrics()
    # A handshake of a duration each, no more and no fewer: as many as were established.
    for (peer, role, outcome), count in books.outcomes.items():
        if outcome == "established":
            assert metrics.sum("netsonde_tcp_handshake_duration_seconds_count", peer=peer, role=role) == count
    # Nothing of it was lost on the way.
    assert metrics.by("netsonde_lost_events_total", "source") == {}


def test_a_connection_whose_link_dies_times_out(net, start_agent):
    agent = start_agent(net.watcher, net.config())
    books = traffic.Books()
    pairs = list(make_pairs(net, books, [("db", True, 4, 3), ("plain", True, 6, 3)]))
    for name in ("db", "plain"):
        net.far[name].host.nft(DEAD)
    left = [pair.abandon(700) for pair in pairs]
    agent.wait_metrics(outcomes_of(net), dict(books.outcomes))
    agent.wait_metrics(bytes_of(net), expected_bytes(books))
    for sock in left:
        sock.close()


def test_connections_older_than_the_agent(net, start_agent):
    """What was there before is seen as open, counts what it does from now on, and was not established by us. The
    server's side of such a connection is known by its port, on which somebody still listens."""
    books, before = traffic.Books(), traffic.Books()
    db_listener, near_listener = traffic.listen(net.far["db"], 4), traffic.listen(net.near["plain"], 6)
    pairs = [traffic.Pair(before, net.near["db"], net.far["db"], 4, db_listener) for _ in range(5)]
    pairs += [traffic.Pair(before, net.far["plain"], net.near["plain"], 6, near_listener) for _ in range(5)]
    for pair in pairs:
        pair.exchange(5000, 7000)
    agent = start_agent(net.watcher, net.config())
    plain6 = net.far["plain"].end.v6
    agent.wait_metrics(open_of(net), {("db", "client"): 5, ("near", "server"): 5, (plain6, "server"): 5,
                                      ("near", "client"): 5})
    for pair in pairs:
        pair.books = books
        pair.exchange(300, 200)
    agent.wait_metrics(bytes_of(net), expected_bytes(books))
    for pair in pairs:
        pair.close()
    agent.wait_metrics(open_of(net), {})
    assert outcomes_of(net)(agent.metrics()) == {}
    agent.wait_metrics(bytes_of(net), expected_bytes(books))
    db_listener.close()
    near_listener.close()


def test_bytes_and_retransmissions_on_a_lossy_link(net, start_agent):
    """5 % of the packets are lost on arrival, both ways. Bytes still are what the applications sent, and the
    retransmissions, summed over their types, are what the kernel counted in both hosts."""
    agent = start_agent(net.watcher, net.config())
    books = traffic.Books()
    near, far = net.near["db"], net.far["db"]
    hosts = (near.host, far.host)
    for host in hosts:
        host.nft(LOSS)
    before = sum(host.counters("Tcp")["RetransSegs"] for host in hosts)
    assert before == 0

    length = 400_000
    with traffic.listen(far, 4) as listener4, traffic.listen(far, 6) as listener6:
        for family, listener, rounds in ((4, listener4, 12), (6, listener6, 12)):
            for _ in range(rounds):
                pair = traffic.Pair(books, near, far, family, listener)
                reader = threading.Thread(target=traffic.drain, args=(pair.server, length, 60))
                reader.start()
                pair.client.settimeout(60)
                pair.client.sendall(b"n" * length)
                reader.join()
                books.sent[pair.to_server] += length
                books.received[pair.to_client] += length
                pair.exchange(0, 1000)
                traffic.wait_acknowledged(pair.server, 30)
                pair.close()
    # Closing handshakes go on by themselves; without losses they end soon.
    for host in hosts:
        host.nft("")

    def kernel():
        return sum(host.counters("Tcp")["RetransSegs"] for host in hosts)

    agent.wait_metrics(bytes_of(net), expected_bytes(books))

    def equal():
        counted = kernel()
        metrics = agent.settle()
        # The kernel's number must not have moved while the agent's was read.
        return kernel() == counted and sum(metrics.sum("netsonde_tcp_retransmits_total", peer=peer)
                                           for peer in net.peers()) == counted and counted

    retransmitted = wait_for(equal, 30 * PATIENCE, lambda: f"{kernel()} retransmissions by the kernel, " + str(
        agent.metrics().by("netsonde_tcp_retransmits_total", "peer", "type")))
    types = {kind for _, kind in agent.metrics().by("netsonde_tcp_retransmits_total", "peer", "type")}
    assert retransmitted > 50, "the link was to lose packets"
    assert "fast" in types, types
    agent.wait_metrics(outcomes_of(net), dict(books.outcomes))


def test_resets_sent_and_received(net, start_agent):
    """As many as the applications provoked, by direction, seen from both ends."""
    agent = start_agent(net.watcher, net.config())
    books = traffic.Books()
    for pair in make_pairs(net, books, [("db", True, 4, 15), ("wide", True, 6, 15)]):
        pair.reset_by_server()

    def resets(metrics):
        return {key: value for key, value in metrics.by("netsonde_tcp_resets_total", "peer", "direction").items()
                if key[0] in net.peers()}

    agent.wait_metrics(resets, {("db", "received"): 15, ("wide", "received"): 15, ("near", "sent"): 30})


def test_rtt_is_measured_and_sane(net, start_agent):
    """A known delay would need a delaying link; here the bounds are what no RTT over veth can leave."""
    agent = start_agent(net.watcher, net.config())
    books = traffic.Books()
    pairs = list(make_pairs(net, books, [("db", True, 4, 5)]))
    for pair in pairs:
        pair.exchange(50_000, 50_000)

    def measured(metrics):
        return metrics.sum("netsonde_tcp_rtt_seconds_count", peer="db", role="client") >= 5

    wait_for(lambda: measured(agent.metrics()), 10 * PATIENCE, "an RTT of each connection")
    metrics = agent.metrics()
    mean = (metrics.sum("netsonde_tcp_rtt_seconds_sum", peer="db", role="client")
            / metrics.sum("netsonde_tcp_rtt_seconds_count", peer="db", role="client"))
    least = metrics.sum("netsonde_tcp_min_rtt_seconds", peer="db", role="client")
    assert 0 < least <= mean < 0.5
    for pair in pairs:
        pair.close()
