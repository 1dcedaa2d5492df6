# SPDX-License-Identifier: Apache-2.0
"""Who is probed when: targets that are up and down, loss by the relay's own count, reloads, budget and speed-ups, passive
data that takes the place of probes, peers, plans, names, and who may not probe. How exact the times are is another
file's affair (test_probe_truth.py).
"""
import bisect
import contextlib
import http.server
import json
import os
import subprocess
import tempfile
import threading
import time

import pytest

import netlab
import netsonde
from netlab import wait_for
from netsonde import PATIENCE
from probelab import config, counts, target, wait_counts
from traffic import Books, Pair, Side, listen

ICMP = (1, 58)
ECHO_REQUEST = {1: "08", 58: "80"}
ECHO = {1: ("08", "00"), 58: ("80", "81")}


def gauge(metrics, name, target_name):
    """A gauge of a target; None when it is not there."""
    values = metrics.select("netsonde_probe_" + name, target=target_name)
    return values[0][1] if values else None


def echo_requests(relay, address):
    """Times in seconds (time.monotonic) at which echo requests to an address came to the relay."""
    return [packet["in_ns"] / 1e9 for packet in relay.packets() if packet["direction"] == "a->b" and
            packet["destination"] == address and packet["protocol"] in ICMP and
            packet["head"][:2] == ECHO_REQUEST[packet["protocol"]]]


def most_per_second(times):
    times = sorted(times)
    return max((bisect.bisect_left(times, start + 1) - i for i, start in enumerate(times)), default=0)


def reload(agent, text, refused=None):
    agent.configure(text)
    connection = netsonde._Connection(agent.host, *agent.address)
    try:
        connection.request("POST", "/-/reload")
        response = connection.getresponse()
        body = response.read().decode()
    finally:
        connection.close()
    if refused:
        assert response.status != 200 and refused in body, body
    else:
        assert response.status == 200, body


def with_tcp(targets, **probe):
    """The same, with the collector of TCP connections."""
    settings = json.loads(config(targets, **probe))
    settings["collect"]["tcp"] = "on"
    return json.dumps(settings)


def probe_programs(pid):
    """Names of the probe's BPF programs that a process holds."""
    present = netsonde.KernelObjects.present()
    return {present[o] for o in netsonde.KernelObjects.held_by(pid) if o[0] == "prog" and str(present.get(o)).startswith("probe_")}


def test_up_down_and_loss(lab, start_agent):
    """Both families and all protocols; loss is what the relay says, to the packet."""
    one, two = lab.link(lab.host("a"), lab.host("b"), delay="2ms")
    one.host.run("ip", "route", "add", "unreachable", "203.0.113.0/24")
    with two.host:
        listener = netlab.socket.create_server((two.v4, 0))
    targets = [target("v4", two.v4, interval="20ms"), target("v6", two.v6, interval="20ms", paths=2),
               target("web", two.v4, "tcp", port=listener.getsockname()[1]), target("closed", two.v4, "tcp", port=1),
               target("silent", str(one.network4[77])), target("unroutable", "203.0.113.1"), target("deaf", two.v4, "stamp")]
    agent = start_agent(one.host, config(targets))
    for name in ("v4", "v6", "web", "closed"):
        wait_counts(agent, name, lambda c: c["received"] > 5 and not c["lost"], "answered")
    wait_for(lambda: [gauge(agent.metrics(), "up", name) for name in ("silent", "unroutable", "deaf")] == [0] * 3, 10, "down")
    metrics = agent.metrics()
    assert [gauge(metrics, "up", name) for name in ("v4", "v6", "web", "closed")] == [1] * 4
    assert metrics.sum("netsonde_probe_unreachable_total", target="deaf", reason="port") > 0
    assert metrics.sum("netsonde_probe_unreachable_total", target="unroutable", reason="host") > 0
    assert {int(labels["path"]) for labels, _ in metrics.select("netsonde_probe_path_rtt_seconds", target="v6")} == {1, 2}
    assert not metrics.select("netsonde_probe_path_rtt_seconds", target="v4")

    begun = time.monotonic_ns()
    one.relay.set("a->b", loss="1/7")
    one.relay.set("b->a", loss="1/9")
    time.sleep(2)
    one.relay.set("both", loss="0%")

    def lost_in_relay(address):
        # A request or its answer: never both, since what is lost is not answered. ICMP errors are for another target.
        return sum(packet["fate"] == "lost" and packet["protocol"] in ICMP and packet["head"][:2] in ECHO[packet["protocol"]] and
                   address in (packet["source"], packet["destination"])
                   for packet in one.relay.packets() if packet["in_ns"] >= begun)

    def never_answered(name):
        # An answer that this busy machine delivered after the time-out is late, and was not lost by the relay.
        count = counts(agent.metrics(), name)
        return count["lost"] - count["late"]

    for name, address in (("v4", two.v4), ("v6", two.v6)):
        wait_for(lambda n=name, a=address: never_answered(n) == lost_in_relay(a), 5 * PATIENCE,
                 lambda n=name, a=address: f"{n}: {counts(agent.metrics(), n)} and {lost_in_relay(a)} in the relay")
        assert lost_in_relay(address) > 10
        final = counts(agent.settle(), name)
        assert final["lost"] - final["late"] == lost_in_relay(address)
        assert 0 <= final["sent"] - final["received"] - final["lost"] < 60
    assert agent.metrics().sum("netsonde_probe_skipped_total", reason="ring_full") == 0
    # Nothing runs with privileges.
    with open(f"/proc/{agent.pid}/status", encoding="ascii") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    assert int(status["CapEff"], 16) == 0 and int(status["Uid"].split()[0]) != 0 or netsonde.SANITIZED
    listener.close()


def test_reload(lab, programs, start_agent):
    """What a reload does not touch goes on; what needs privileges is refused as a whole."""
    one, two = lab.link(lab.host("a"), lab.host("b"), relay={})
    three, four = lab.link(one.host, lab.host("c"), relay={})
    stays, changes, goes = target("stays", two.v4), target("changes", two.v6), target("goes", two.v4, "tcp", port=1)
    # Only root may read the key, which the agent is not any more after its start.
    key = os.path.join(programs.directory, "key")
    with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
        file.write("a shared secret\n")
    keyed = target("keyed", two.v4, "stamp", key_file=key)
    agent = start_agent(one.host, config([stays, changes, goes, keyed]))
    for name in ("stays", "changes", "goes"):
        wait_counts(agent, name, lambda c: c["received"] >= 20, "answered")
    before = counts(agent.metrics(), "stays")
    # Its interface was not attached to before, and the agent has no rights any more.
    comes = target("comes", four.v4)
    sent = counts(agent.metrics(), "keyed")["sent"]
    reload(agent, config([comes, {**changes, "interval": "100ms"}, stays, keyed]))
    wait_counts(agent, "comes", lambda c: c["received"] >= 5, "answered")
    metrics = agent.settle()
    assert counts(metrics, "stays")["received"] >= before["received"]
    assert counts(metrics, "stays")["lost"] == 0
    assert counts(metrics, "changes")["sent"] < 20
    assert counts(metrics, "keyed")["sent"] > sent > 0
    assert not metrics.select("netsonde_probe_sent_total", target="goes")
    assert metrics.sum("netsonde_probe_targets", source="configuration") == 4
    assert {labels["device"] for labels, _ in metrics.select("netsonde_probe_device_info")} == {one.device, three.device}
    assert metrics.sum("netsonde_probe_rtt_seconds_count", target="comes", timestamp="tc") > 0

    gaps = echo_requests(one.relay, two.v4)
    gaps = [later - earlier for earlier, later in zip(gaps, gaps[1:])]
    assert max(gaps) < 0.5, "the target that stays was not probed for a while"
    for refused, change in (("probe.attach", {"attach": "socket"}), ("probe.reflect", {"reflect": [one.device]}),
                            ("probe.max_targets", {"max_targets": 5}), ("probe.clock_error", {"clock_error": "1ms"})):
        reload(agent, config([stays], **change), refused + " needs a restart")
    reload(agent, config([{**stays, "address": "10.0.0.300"}]), "expected an address")
    reload(agent, config([{**stays, "protocol": "stamp", "key_file": "/nonexistent/key"}]), "/nonexistent/key")
    assert counts(agent.settle(), "comes")["received"] >= 5, "a refused reload changed something"
    # No targets at all is fine, and then nothing is sent.
    reload(agent, config([]))
    agent.settle()
    sent = one.relay.counts()["a->b"]["in"]
    assert not agent.settle(5).select("netsonde_probe_sent_total")
    assert one.relay.counts()["a->b"]["in"] - sent <= 1


def test_nothing_by_default(lab, start_agent):
    """No probe key: no programs, no packets; and probing cannot begin without a restart."""
    one, two = lab.link(lab.host("a"), lab.host("b"), relay={})
    agent = start_agent(one.host, with_tcp([]))
    agent.settle(5)
    assert not probe_programs(agent.pid)
    assert not echo_requests(one.relay, two.v4)
    metrics = agent.metrics()
    assert "netsonde_probe_targets{" not in metrics.text and "netsonde_xdp_packets" not in metrics.text.replace("# ", "")
    reload(agent, with_tcp([target("b", two.v4)]), "probe needs a restart")


def test_second_agent(lab, start_agent):
    """One prober per network namespace: the second one measures all else, and says why not this."""
    one, two = lab.link(lab.host("a"), lab.host("b"), relay={})
    text = with_tcp([target("b", two.v4)])
    first = start_agent(one.host, config([target("b", two.v4)]))
    assert probe_programs(first.pid)
    second = start_agent(one.host, text)
    features = {f["feature"]: f for f in json.loads(second.get("/api/v1/features")[2])["data"]["features"]}
    assert not features["probe"]["enabled"] and str(first.pid) in features["probe"]["reason"], features["probe"]
    assert not second.metrics().select("netsonde_probe_sent_total")
    assert wait_counts(first, "b", lambda c: c["received"] > 3, "answered")
    # In another namespace it may.
    third = start_agent(two.host, config([target("a", one.v4)]))
    wait_counts(third, "a", lambda c: c["received"] > 3, "answered")


@contextlib.contextmanager
def traffic(one, two, seconds=0.05):
    """A TCP connection whose ends exchange something all the time."""
    books = Books()
    sides = Side(one), Side(two)
    listener = listen(sides[1], 4)
    pair = Pair(books, *sides, 4, listener)
    stop = threading.Event()

    def work():
        while not stop.wait(seconds):
            pair.exchange(2000, 2000)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        pair.close()
        listener.close()


def test_passive(lab, start_agent):
    """While TCP measures the way, nothing is sent there, but for STAMP, for TCP and where it is not wanted."""
    one, two = lab.link(lab.host("a"), lab.host("b"), delay="1ms")
    # Probes of the target that stays are told by their family.
    targets = [target("fresh", two.v4), target("web", two.v4, "tcp", port=1), target("stamp", two.v4, "stamp"),
               target("stays", two.v6)]
    agent = start_agent(one.host, with_tcp(targets, passive="on"))
    wait_counts(agent, "fresh", lambda c: c["received"] > 3, "answered")
    assert gauge(agent.metrics(), "passive", "fresh") == 0
    assert gauge(agent.metrics(), "passive", "stamp") is None
    with traffic(one, two):
        wait_for(lambda: gauge(agent.metrics(), "passive", "fresh") == 1, 10, "passive")
        assert gauge(agent.metrics(), "passive", "web") is None
        agent.settle(1)
        before = {name: counts(agent.metrics(), name)["sent"] for name in ("fresh", "web", "stamp", "stays")}
        begun = time.monotonic()
        metrics = agent.settle(15)
        after = {name: counts(metrics, name)["sent"] for name in before}
        assert after["fresh"] == before["fresh"] and after["web"] > before["web"]
        assert after["stamp"] > before["stamp"] and after["stays"] > before["stays"]
        assert not [t for t in echo_requests(one.relay, two.v4) if t > begun]
        assert gauge(metrics, "up", "fresh") == 1 and gauge(metrics, "interval_seconds", "fresh") is None
    wait_for(lambda: gauge(agent.metrics(), "passive", "fresh") == 0, 10 * PATIENCE, "probed again")
    sent = counts(agent.metrics(), "fresh")["sent"]
    wait_counts(agent, "fresh", lambda c: c["sent"] > sent + 3, "sent again")


class PlanServer:
    """Serves one JSON text, or what it is told to, in a host."""

    def __init__(self, end):
        self.status, self.text, self.asked = 200, "", 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked += 1
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(outer.text.encode())

            def log_message(self, *_):
                pass

        with end.host:
            self.server = http.server.ThreadingHTTPServer((end.v4, 0), Handler)
        self.url = f"http://{end.v4}:{self.server.server_port}/plan"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def plan(self, *targets):
        self.text = json.dumps({"version": 1, "targets": targets})

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def test_plan(lab, start_agent):
    one, two = lab.link(lab.host("a"), lab.host("b"), relay={})
    server = PlanServer(two)
    server.plan({"name": "planned", "address": two.v4, "interval_s": 0.1}, {"name": "mine", "address": two.v4},
                {"name": "far", "address": "192.0.2.1"}, {"name": "secret", "address": two.v4, "protocol": "tcp"},
                {"name": "eager", "address": two.v6, "interval_s": 0.001}, {"name": "wrong", "address": "host-b"})
    bounds = {"url": server.url, "interval": "1s", "min_interval": "50ms", "targets": 10, "protocols": ["icmp", "stamp"],
              "networks": [str(one.network4), str(one.network6)]}
    text = config([target("mine", two.v4)], plan=bounds)
    agent = start_agent(one.host, text)
    for name in ("mine", "planned", "eager"):
        wait_counts(agent, name, lambda c: c["received"] > 5, "answered")
    metrics = agent.metrics()
    assert metrics.sum("netsonde_probe_targets", source="plan") == 2
    refused = metrics.by("netsonde_probe_plan_refused", "reason")
    assert refused == {("name",): 1, ("address",): 1, ("protocol",): 1, ("interval",): 1, ("malformed",): 1}
    assert gauge(metrics, "interval_seconds", "eager") == pytest.approx(0.05)
    assert sum(line["msg"] == "the plan asks for what is not allowed here" for line in agent.log()) == 5

    # A server that fails changes nothing, and is told once.
    server.status = 503
    asked = server.asked
    wait_for(lambda: server.asked >= asked + 2, 10, "asked again")
    metrics = agent.settle()
    assert metrics.sum("netsonde_probe_targets", source="plan") == 2
    assert metrics.sum("netsonde_probe_plan_fetches_total", outcome="failed") >= 1
    assert sum(line["msg"].startswith("no plan;") for line in agent.log()) == 1
    sent = counts(metrics, "planned")["sent"]

    # Another plan: what stays in it goes on, what is new comes, what is not in it goes.
    server.plan({"name": "planned", "address": two.v4, "interval_s": 0.1}, {"name": "new", "address": two.v4, "protocol": "stamp"})
    server.status = 200
    wait_counts(agent, "new", lambda c: c["sent"] > 1, "sent")
    metrics = agent.settle()
    assert not metrics.select("netsonde_probe_sent_total", target="eager")
    assert counts(metrics, "planned")["sent"] > sent
    assert not metrics.by("netsonde_probe_plan_refused", "reason")
    # The configuration's word is the last: a name that it takes is not the plan's any more.
    reload(agent, config([target("mine", two.v4), target("new", two.v6)], plan=bounds))
    metrics = agent.settle()
    assert metrics.by("netsonde_probe_targets", "source") == {("configuration",): 2, ("plan",): 1}
    assert metrics.by("netsonde_probe_plan_refused", "reason") == {("name",): 1}
    assert [labels["protocol"] for labels, _ in metrics.select("netsonde_probe_sent_total", target="new")] == ["icmp"]
    reload(agent, config([target("mine", two.v4)]))
    assert agent.settle().by("netsonde_probe_targets", "source") == {("configuration",): 1}
    server.close()


def test_room_and_new_paths(lab, start_agent):
    """The plan has the room that the configuration leaves; and answers count that came before a target's paths were made anew."""
    one, two = lab.link(lab.host("a"), lab.host("b"), delay="1ms")
    server = PlanServer(two)
    server.plan(*({"name": f"p{i}", "address": two.v4} for i in range(6)))

    def text(n, **probe):
        configured = [target("c0", two.v4, interval="20ms")] + [target(f"c{i}", two.v6) for i in range(1, n)]
        settings = json.loads(config(configured, plan={"url": server.url, "interval": "1s"}, max_targets=10, **probe))
        settings["collect"]["tick"] = "1s"
        return json.dumps(settings)

    def wait_targets(agent, n_configured, n_planned):
        wanted = {("configuration",): n_configured, ("plan",): n_planned}
        wait_for(lambda: agent.metrics().by("netsonde_probe_targets", "source") == wanted, 10, wanted)

    agent = start_agent(one.host, text(4))
    wait_targets(agent, 4, 6)
    reload(agent, text(8))
    wait_targets(agent, 8, 2)
    wait_counts(agent, "c7", lambda c: c["received"] > 0, "answered")
    reload(agent, text(2))
    wait_targets(agent, 2, 6)
    for adapt in ("on", "off", "on", "off"):
        time.sleep(0.4)
        reload(agent, text(2, adapt=adapt))
    final = counts(agent.settle(), "c0")
    assert final["sent"] - final["received"] - final["lost"] < 40, final
    server.close()


@contextlib.contextmanager
def hosts_file(text):
    """In place of /etc/hosts, in the test's own mount namespace; can be written anew."""
    with tempfile.NamedTemporaryFile("w", prefix="netsonde-hosts-") as file:
        os.chmod(file.name, 0o644)
        file.write(text)
        file.flush()
        subprocess.run(["mount", "--bind", file.name, "/etc/hosts"], check=True)

        def write(new):
            file.seek(0)
            file.truncate()
            file.write(new)
            file.flush()

        try:
            yield write
        finally:
            subprocess.run(["umount", "-l", "/etc/hosts"], check=True)


def test_adapt_names_and_peers(lab, start_agent):
    """What takes its time, side by side: the ten seconds of a speed-up, names that appear, peers that are weighed."""
    one, two = lab.link(lab.host("a"), lab.host("b"), delay="1ms")
    three, four = lab.link(one.host, lab.host("c"), relay={})
    # As on load balancers: then that an address can be bound to does not make it this host's own.
    four.host.run("sysctl", "-qw", "net.ipv4.ip_nonlocal_bind=1", "net.ipv6.ip_nonlocal_bind=1")
    budget = 20
    # Whoever answers for a name does not get a group probed.
    with hosts_file("127.0.0.1 localhost\n224.0.0.1 sampler-test.invalid\n") as write_hosts, traffic(three, four):
        pace = {"interval": "500ms", "timeout": "300ms"}
        agent = start_agent(one.host, with_tcp([target("hit", two.v4, **pace), target("calm", four.v6, **pace),
                                                target("named", "sampler-test.invalid", **pace)],
                                               budget={"packets": f"{budget}/s"}, adapt="on"))
        # An agent sees the peers of all namespaces of the machine, so others may be busy too.
        of_peers = start_agent(four.host, with_tcp([], peers="top 64", defaults=pace))
        wait_counts(agent, "hit", lambda c: c["received"] >= 4, "answered")
        assert gauge(agent.metrics(), "interval_seconds", "hit") == 0.5
        assert gauge(agent.metrics(), "up", "named") in (0, None)
        one.relay.set("a->b", loss="100%")
        wait_counts(agent, "hit", lambda c: c["lost"] >= 1, "lost")
        one.relay.set("a->b", loss="0%")
        wait_for(lambda: gauge(agent.metrics(), "interval_seconds", "hit") == pytest.approx(0.1), 5, "probed faster")
        assert gauge(agent.metrics(), "interval_seconds", "calm") == 0.5
        begun = time.monotonic()
        write_hosts(f"127.0.0.1 localhost\n{two.v6} sampler-test.invalid\n")
        wait_counts(agent, "named", lambda c: c["received"] >= 2, "resolved and answered")
        wait_counts(of_peers, three.v4, lambda c: c["received"] >= 2, "a busy peer, answered", 25)
        assert of_peers.metrics().sum("netsonde_probe_targets", source="peers") >= 1
        assert not of_peers.metrics().select("netsonde_probe_sent_total", target=four.v4), "a host is no peer of its own"
        wait_for(lambda: gauge(agent.metrics(), "interval_seconds", "hit") == 0.5, 15, "at its own pace again")
        assert 8 < time.monotonic() - begun
        fast = [t for t in echo_requests(one.relay, two.v4) if begun < t < begun + 8]
        assert 60 < len(fast) < 90, len(fast)
        everything = sum((echo_requests(*pair) for pair in ((one.relay, two.v4), (one.relay, two.v6), (three.relay, four.v4),
                                                            (three.relay, four.v6))), [])
        assert most_per_second(everything) <= budget
        assert [line for line in agent.log() if line["msg"] == "target resolved"][0]["address"] == two.v6


def test_budget(lab, start_agent):
    """More is asked for than the budget has: all intervals are longer, and no second has more."""
    one, two = lab.link(lab.host("a"), lab.host("b"), relay={})
    targets = [target(f"t{i}", two.v4 if i % 2 else two.v6, interval="20ms", timeout="100ms") for i in range(20)]
    agent = start_agent(one.host, config(targets, budget={"packets": "100/s"}))
    wait_counts(agent, "t0", lambda c: c["received"] >= 12, "answered")
    metrics = agent.metrics()
    assert metrics.sum("netsonde_probe_wanted_packets") == pytest.approx(1000)
    assert metrics.sum("netsonde_probe_budget_packets") == 100
    assert metrics.sum("netsonde_probe_stretch_ratio") == pytest.approx(1000 / 95)
    assert gauge(metrics, "interval_seconds", "t3") == pytest.approx(0.02 * 1000 / 95)
    times = echo_requests(one.relay, two.v4) + echo_requests(one.relay, two.v6)
    assert 80 <= most_per_second(times) <= 100
    # Evenly: of 20 ms with two probes on average none has many.
    times.sort()
    assert max(sum(start <= t < start + 0.02 for t in times) for start in times) <= 12
    sent = [counts(metrics, f"t{i}")["sent"] for i in range(20)]
    assert max(sent) - min(sent) <= 12
