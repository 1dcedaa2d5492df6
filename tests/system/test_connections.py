# SPDX-License-Identifier: Apache-2.0
"""The table of connections that the agent serves, beside `ss -tinpe` for the same sockets: every field that both show must
be equal. And `netsonde why` with that agent, with this host's kernel, and where there is nothing to find."""
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time

import pytest

import netsonde
from netlab import wait_for
from netsonde import PATIENCE

WORKER = """
import socket, sys, time
listener = socket.create_server((sys.argv[1], 0))
print(listener.getsockname()[1], flush=True)
peer, _ = listener.accept()
while True:  # reads too slowly
    peer.recv(20000)
    time.sleep(0.02)
"""


def receive(sock, length):
    while length:
        chunk = sock.recv(min(length, 65536))
        assert chunk
        length -= len(chunk)


class Pair:
    def __init__(self, client_end, server_end, family, protocol=0):
        kind = {4: socket.AF_INET, 6: socket.AF_INET6}[family]
        with server_end.host:
            self.listener = socket.socket(kind, socket.SOCK_STREAM, protocol)
        self.listener.bind((server_end.address(family), 0))
        self.listener.listen()
        with client_end.host:
            self.client = socket.socket(kind, socket.SOCK_STREAM, protocol)
        self.client.connect(self.listener.getsockname())
        self.server, _ = self.listener.accept()
        self.client.settimeout(30)
        self.server.settimeout(30)

    def exchange(self, request, response):
        for one, other, length in ((self.client, self.server, request), (self.server, self.client, response)):
            reader = threading.Thread(target=receive, args=(other, length))
            reader.start()
            one.sendall(b"n" * length)
            reader.join()

    def close(self):
        for sock in (self.client, self.server, self.listener):
            sock.close()


STATES = {"ESTAB": "established", "CLOSE-WAIT": "close_wait", "FIN-WAIT-1": "fin_wait1", "FIN-WAIT-2": "fin_wait2"}
SECONDS = {"ms": 1e-3, "us": 1e-6, "s": 1}


def duration(text):
    """Of ss: "120ms", "1.5ms"; a bare number is milliseconds."""
    match = re.fullmatch(r"([0-9.]+)(ms|us|s)?", text)
    return float(match[1]) * SECONDS[match[2] or "ms"]


def ss(host):
    """{cookie: what ss shows of the socket}, of the network namespace."""
    found = {}
    for line in host.run("ss", "-tinpeOH").splitlines():
        words = line.split()
        row = {"state": words[0], "recv_q": int(words[1]), "send_q": int(words[2]), "local": words[3], "remote": words[4],
               "users": re.findall(r'\("([^"]*)",pid=(\d+)', line)}
        row.update((key, value) for key, value in re.findall(r"\b([a-z_]+):([^ ]+)", line[line.index("sk:"):]))
        row["delivery_rate"] = (re.search(r" delivery_rate ([0-9]+)bps", line) or [None, "0"])[1]
        for key in ("busy", "rwnd_limited", "sndbuf_limited"):
            row[key] = duration(row[key].split("(")[0]) if key in row else 0.0
        found[row["sk"]] = row
    return found


def text_of(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def differences(ours, theirs):
    """What the two say differently of one socket. Times that go on may be as far apart as the two looks."""
    rtt, _, variation = theirs.get("rtt", "0/0").partition("/")
    fin = theirs["state"] == "CLOSE-WAIT"  # ss counts the far host's FIN as a byte
    users = sorted((int(pid), name) for name, pid in theirs["users"])
    exact = {
        "state": (STATES[theirs["state"]], ours["state"]),
        "local": (theirs["local"].partition("%")[0], text_of(ours["local"], ours["local_port"])),
        "remote": (theirs["remote"], text_of(ours["remote"], ours["remote_port"])),
        "pid": (users[0][0], ours["pid"]),
        "process": (users[0][1], ours["process"]),
        "holders": (len({pid for pid, _ in users}), ours["holders"]),
        "receive queue": (theirs["recv_q"] - fin, ours["receive_queue_bytes"]),
        "send queue": (theirs["send_q"], ours["not_sent_bytes"] + ours["unacked_bytes"]),
        "not sent": (int(theirs.get("notsent", 0)), ours["not_sent_bytes"]),
        "sent": (int(theirs.get("bytes_sent", 0)) - int(theirs.get("bytes_retrans", 0)), ours["sent_bytes"]),
        "received": (int(theirs.get("bytes_received", 0)) - fin, ours["received_bytes"]),
        "segments sent": (int(theirs.get("segs_out", 0)), ours["sent_segments"]),
        "segments received": (int(theirs.get("segs_in", 0)), ours["received_segments"]),
        "retransmits": (int(theirs.get("retrans", "0/0").partition("/")[2]), ours["retransmits"]),
        "lost": (int(theirs.get("lost", 0)), ours["lost"]),
        "unacked": (int(theirs.get("unacked", 0)), ours["unacked_segments"]),
        "congestion window": (int(theirs["cwnd"]), ours["congestion_window_segments"]),
        "slow start threshold": (int(theirs.get("ssthresh", 0)), ours["slow_start_threshold_segments"]),
        "mss": (int(theirs["mss"]), ours["mss_bytes"]),
        "send window": (int(theirs.get("snd_wnd", 0)), ours["send_window_bytes"]),
    }
    close = {  # what ss says, what we say, how far apart they may be
        "rtt": (float(rtt) / 1e3, ours["rtt_seconds"], 1e-6),
        "variation": (float(variation) / 1e3, ours["jitter_seconds"], 1e-6),
        "minimum rtt": (float(theirs["minrtt"]) / 1e3, ours["min_rtt_seconds"], 1e-6),
        "receive rtt": (float(theirs.get("rcv_rtt", 0)) / 1e3, ours["receive_rtt_seconds"] or 0, 1e-3),
        "busy": (theirs["busy"], ours["busy_seconds"], 2.0),
        "receive window": (theirs["rwnd_limited"], ours["receive_window_limited_seconds"], 2.0),
        "send buffer": (theirs["sndbuf_limited"], ours["send_buffer_limited_seconds"], 2.0),
        "since sent": (duration(theirs.get("lastsnd", "0")), ours["since_sent_seconds"], 2.0),
        "since received": (duration(theirs.get("lastrcv", "0")), ours["since_received_seconds"], 2.0),
        # Of ss in whole segments per microsecond.
        "delivery rate": (1, (ours["delivery_rate_bytes"] * 8 + 1) / (int(theirs["delivery_rate"]) + 1), 0.02),
    }
    wrong = {name: pair for name, pair in exact.items() if pair[0] != pair[1]}
    wrong.update({name: row for name, row in close.items() if abs(row[0] - (row[1] or 0)) > row[2] * PATIENCE})
    return wrong


def table(agent, query=""):
    status, headers, body = agent.get("/api/v1/connections" + query)
    assert status == 200, body
    assert headers["Content-Type"].startswith("application/json")
    document = json.loads(body)
    assert document["status"] == "success"
    return document["data"]


@pytest.fixture
def net(lab):
    near, far = lab.host("near"), lab.host("far")
    lab.near, lab.far = lab.link(near, far, relay={})
    lab.watcher = lab.host("watcher")
    lab.config = f'networks:\n  far: ["{lab.far.v4}/32", "{lab.far.v6}/128"]\n'
    return lab


def test_every_field_equals_ss(net, start_agent):
    """At rest, so that both look at the same: after transfers over a lossless and over a lossy link, with data that
    nobody reads, with data that the far host does not take, half closed, inherited by a child, MPTCP."""
    older = Pair(net.near, net.far, 4)
    older.exchange(300_000, 100)
    agent = start_agent(net.watcher, net.config)
    pairs = [older] + [Pair(net.near, net.far, family) for family in (4, 6, 4, 6, 4)]
    for number, pair in enumerate(pairs[1:4]):
        pair.exchange(10_000 * (number + 1), 100_000)
    net.near.relay.set(loss="3%")
    pairs[4].exchange(600_000, 100)
    net.near.relay.set(loss="0")
    pairs[5].client.setblocking(False)
    stuck = [0]

    def fills():
        before = stuck[0]
        try:
            while True:
                stuck[0] += pairs[5].client.send(b"n" * 65536)
        except BlockingIOError:
            return stuck[0] == before

    wait_for(fills, 20 * PATIENCE, "no more is taken")
    pairs[3].client.shutdown(socket.SHUT_WR)
    holder = subprocess.Popen(["sleep", "60"], pass_fds=[pairs[1].client.fileno()])
    try:
        compare(net, agent, 2 * len(pairs))
    finally:
        holder.kill()
        holder.wait()
    for pair in pairs:
        pair.close()


def compare(net, agent, expected):
    wrong = {"nothing compared": True}

    def equal():
        nonlocal wrong
        # By peer: there may be more connections on the machine than a table's limit.
        rows = {row["id"]: row for row in table(agent, f"?peer=far&peer={net.near.v4}&peer={net.near.v6}")["connections"]}
        wrong = {}
        seen = 0
        for host, peer in ((net.near.host, "far"), (net.far.host, None)):
            for cookie, theirs in ss(host).items():
                if cookie not in rows:
                    wrong[cookie] = "not in the table"
                    continue
                seen += 1
                found = differences(rows[cookie], theirs)
                if found:
                    wrong[cookie] = found
                if peer:
                    assert rows[cookie]["peer"] == peer and rows[cookie]["role"] == "client"
                else:
                    assert rows[cookie]["peer"] == rows[cookie]["remote"] and rows[cookie]["role"] == "server"
        return not wrong and seen == expected

    wait_for(equal, 15 * PATIENCE, lambda: f"the same as ss: {wrong}")


def test_subflows_of_mptcp(net, start_agent):
    try:
        pair = Pair(net.near, net.far, 4, 262)
    except OSError:
        pytest.skip("this kernel has no MPTCP")
    agent = start_agent(net.watcher, net.config)
    pair.exchange(50_000, 3_000)
    port = pair.client.getsockname()[1]

    def both():
        rows = table(agent, f"?port={port}&peer=far&peer={net.near.v4}")["connections"]
        return sorted((row["role"], row["mptcp"], row["sent_bytes"], row["received_bytes"], row["pid"]) for row in rows) == [
            ("client", True, 50_000, 3_000, os.getpid()), ("server", True, 3_000, 50_000, os.getpid())]

    wait_for(both, 5 * PATIENCE, lambda: f"both subflows: {table(agent, f'?port={port}')}")
    pair.close()


def test_ages_are_those_of_the_connections(net, start_agent):
    near, far = net.near, net.far
    old = Pair(near, far, 4)
    agent = start_agent(net.watcher)
    begin = time.monotonic()
    young = Pair(near, far, 6)
    made = time.monotonic()
    agent.settle(2)
    for pair, family in ((old, 4), (young, 6)):
        before = time.monotonic()
        rows = table(agent, f"?port={pair.client.getsockname()[1]}&peer={far.address(family)}")["connections"]
        after = time.monotonic()
        assert len(rows) == 1, rows
        age = rows[0]["age_seconds"]
        if pair is old:
            assert age is None  # it is older than the agent
        else:
            # A table may be up to half a second old.
            assert before - made - 0.6 <= age <= after - begin, (age, before - made, after - begin)
        pair.close()


def test_nobody_waits_on_a_kept_alive_connection(net, start_agent):
    """After its answer the server owes nothing and is owed nothing; a client that has not asked yet neither."""
    agent = start_agent(net.watcher)
    used, fresh = Pair(net.near, net.far, 4), Pair(net.near, net.far, 6)
    used.exchange(100, 1000)
    ports = {used.client.getsockname()[1]: "used", fresh.client.getsockname()[1]: "fresh"}

    def verdicts():
        rows = table(agent, f"?peer={net.near.v4}&peer={net.near.v6}&peer={net.far.v4}&peer={net.far.v6}")["connections"]
        return {(ports.get(row["local_port"]) or ports.get(row["remote_port"]), row["role"]): row["verdict"]["cause"]
                for row in rows if row["interval_seconds"] > 0 and row["interval"]["sent_bytes"] == 0
                and row["interval"]["received_bytes"] == 0}
    wait_for(lambda: len(verdicts()) == 4, 10 * PATIENCE, "a table without traffic")
    assert {key: cause for key, cause in verdicts().items() if key != ("used", "client")} == {
        ("used", "server"): "idle", ("fresh", "client"): "idle", ("fresh", "server"): "idle"}
    for pair in (used, fresh):
        pair.close()


def test_filters_orders_and_limits(net, start_agent):
    pairs = [Pair(net.near, net.far, 4) for _ in range(6)]
    agent = start_agent(net.watcher, net.config)
    for number, pair in enumerate(pairs):
        pair.exchange(1000 * (number + 1), 10)
    pid = os.getpid()

    def count(query):
        return table(agent, query)["matched"]

    wait_for(lambda: count("?peer=far") == 6, 5 * PATIENCE, "six connections with far")
    assert count(f"?peer={net.far.v4}") == 6
    assert count(f"?peer={net.near.v4}") == 6
    assert count("?peer=fa") == 0
    assert count(f"?pid={pid}&peer=far") == 6
    assert count("?pid=1&peer=far") == 0
    with open("/proc/self/comm", encoding="ascii") as file:
        name = file.read().strip()
    assert count(f"?process={name}&peer=far") == 6
    assert count("?container=docker:0123456789ab") == 0
    assert count(f"?peer=far&peer={net.near.v4}") == count(f"?peer={net.near.network4}") == 12
    assert count(f"?port={pairs[0].client.getsockname()[1]}&peer={net.near.network4}") == 2
    assert agent.get("/api/v1/connections?" + "peer=far&" * 17)[0] == 400

    wait_for(lambda: table(agent, "?peer=far&sort=sent")["connections"][0]["sent_bytes"] == 6000, 5 * PATIENCE, "up to date")
    data = table(agent, "?peer=far&sort=sent&limit=3")
    assert [row["sent_bytes"] for row in data["connections"]] == [6000, 5000, 4000]
    assert data["matched"] == 6 and data["total"] >= 12 and data["left_out"] == 0
    ids = [int(row["id"], 16) for row in table(agent, "?sort=id")["connections"]]
    assert len(ids) >= 12 and ids == sorted(ids)
    one = data["connections"][0]
    assert [row["id"] for row in table(agent, f"?id={one['id']}")["connections"]] == [one["id"]]
    assert table(agent, "?limit=0")["connections"] == []
    # Asked again at once, it is the same table.
    assert table(agent)["table"] == table(agent)["table"]

    for query in ("?limit=10001", "?limit=-1", "?limit=", "?sort=size", "?pid=0", "?pid=x", "?port=65536", "?id=xyz",
                  "?id=11112222333344445", "?pid=99999999999999999999"):
        status, _, body = agent.get("/api/v1/connections" + query)
        assert status == 400 and body, query
    for pair in pairs:
        pair.close()


def why(host, *arguments, status=0):
    program = host.popen([netsonde.BINARY, "why", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    out, err = program.communicate(timeout=60 * PATIENCE)
    assert program.returncode == status, err.decode() + out.decode()
    return out.decode() if status == 0 else err.decode()


@pytest.fixture
def slow(net):
    """A process in the far host that reads slowly, and this one, which sends to it."""
    worker = net.far.host.popen(["/usr/bin/python3", "-c", WORKER, net.far.v4], stdout=subprocess.PIPE)
    net.port = int(worker.stdout.readline())
    with net.near.host:
        net.sender = socket.create_connection((net.far.v4, net.port))

    def push():
        try:
            while True:
                net.sender.sendall(b"n" * 65536)
        except OSError:
            pass

    thread = threading.Thread(target=push, daemon=True)
    thread.start()
    net.worker = worker.pid
    wait_for(lambda: re.search(r"rwnd_limited:\d{3,}ms", net.near.host.run("ss", "-tinOH", "dport", "=", f":{net.port}")),
             10 * PATIENCE, "the reader slows the sender down")
    yield net
    worker.kill()
    worker.wait()
    thread.join(5)
    net.sender.close()


def test_why_asks_by_peer_process_and_connection(slow, programs):
    """Of this host's kernel: the sender waits for the far host, the reader's process is the one that is waited for."""
    config = os.path.join(programs.directory, "why.yaml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(slow.config)
    local = text_of(*slow.sender.getsockname())
    questions = {  # by which word, what it is taken for, cause
        slow.far.v4: ("address", "receive_window"),
        f"{slow.far.v4}/32": ("address", "receive_window"),
        "far": ("network", "receive_window"),
        f"{local}-{slow.far.v4}:{slow.port}": ("connection", "receive_window"),
        str(slow.worker): ("process", "local_reader"),
        slow.near.v4: ("address", "local_reader"),
    }
    answers = {}

    def ask(question):
        answers[question] = json.loads(why(slow.watcher, question, "--json", "--interval", "1s", "--config.file", config))

    threads = [threading.Thread(target=ask, args=(question,)) for question in questions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for question, (kind, cause) in questions.items():
        answer = answers[question]
        assert (answer["kind"], answer["verdict"]["cause"], answer["total"]) == (kind, cause, 1), (question, answer)
        assert answer["looks"] >= 2 and 0.5 < answer["interval_seconds"] < 60
        assert len(answer["connections"]) == 1
    assert answers[slow.far.v4]["connections"][0]["pid"] == os.getpid()
    assert answers[slow.near.v4]["connections"][0]["pid"] == slow.worker
    # By the ID, which the other questions have told; and for people.
    found = answers["far"]["connections"][0]["id"]
    text = why(slow.watcher, found, "--interval", "300ms")
    lines = text.splitlines()
    assert lines[0].startswith("The far host takes no more"), text
    assert f"{local}-{slow.far.v4}:{slow.port}" in lines and f"PID {os.getpid()}" in text and found in text


def test_why_of_a_running_agent(slow, start_agent):
    agent = start_agent(slow.watcher, slow.config)
    url = f"http://{agent.address[0]}:{agent.address[1]}"
    for question, side, cause in (("far", "far_host", "receive_window"), (str(slow.worker), "this_host", "local_reader")):
        answer = json.loads(why(slow.watcher, question, "--json", "--url", url, "--interval", "1500ms"))
        verdict = answer["verdict"]
        assert (verdict["side"], verdict["cause"]) == (side, cause), answer
        assert answer["total"] == 1 and answer["looks"] >= 2
        assert answer["connections"][0]["peer"] == ("far" if question == "far" else slow.near.v4)
    assert "did you mean far?" in why(slow.watcher, "fa", "--url", url, "--interval", "200ms", status=1)
    assert "cannot ask the agent" in why(slow.watcher, "far", "--url", "http://127.0.0.1:1", "--interval", "200ms", status=1)


def test_why_with_nothing_to_find(net):
    pair = Pair(net.near, net.far, 4)
    quick = ("--interval", "200ms")
    assert "no TCP connection with 192.0.2.77" in why(net.watcher, "192.0.2.77", *quick, status=1)
    near_miss = net.far.v4[:-1] + "9"
    assert f"no TCP connection with {near_miss}" in why(net.watcher, near_miss, *quick, status=1)
    assert "did you mean" in why(net.watcher, near_miss, *quick, status=1)
    assert "999999999" in why(net.watcher, "999999999", *quick, status=1)
    asleep = subprocess.Popen(["sleep", "60"])
    assert f"process {asleep.pid} holds no TCP connection" in why(net.watcher, str(asleep.pid), *quick, status=1)
    asleep.kill()
    asleep.wait()
    assert "there is no connection 10.0.0.1:1-10.0.0.2:2" in why(net.watcher, "10.0.0.1:1-10.0.0.2:2", *quick, status=1)
    for wrong in (["10.0.0.0/99"], [""], ["far", "--interval", "1ms"], ["far", "--interval", "2h"], [], ["one", "two"]):
        why(net.watcher, *wrong, status=2)
    pair.close()


def test_why_needs_root(net, programs):
    # A copy where an ordinary user gets at it: the checkout may lie below a directory that is closed to others.
    binary = shutil.copy(netsonde.BINARY, programs.directory)
    program = net.watcher.popen(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all",
                                 binary, "why", "127.0.0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, err = program.communicate(timeout=30)
    assert program.returncode == 1 and b"run as root, or with CAP_BPF and CAP_PERFMON" in err, err
