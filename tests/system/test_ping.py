# SPDX-License-Identifier: Apache-2.0
"""`netsonde ping` as people and scripts use it: what it prints, how it ends, and what it needs. That its numbers are
true is in test_probe_truth.py; here they only have to be those that happened on the link.
"""
import collections
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import termios

import pytest

import netsonde
import stamp_peer
from netlab import die_with_parent, wait_for
from probelab import known_neighbours

OFF = "--attach=off"  # no BPF where it makes no difference: it takes half a second to load
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", "-all", "--bounding-set", "-all")
Result = collections.namedtuple("Result", "status out err")


def ping(host, *arguments, seconds=30, wrapper=(), **options):
    with host:
        done = subprocess.run([*wrapper, netsonde.BINARY, "ping", *map(str, arguments)], capture_output=True, text=True,
                              check=False, timeout=seconds * netsonde.PATIENCE, preexec_fn=die_with_parent, **options)
    return Result(done.returncode, done.stdout, done.stderr)


def documents(result):
    """(probes, the summary) of --json: every line is a document, the last one the summary."""
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [line["type"] for line in lines] == ["probe"] * (len(lines) - 1) + ["summary"], result
    return lines[:-1], lines[-1]


@pytest.fixture
def pair(lab):
    one, two = lab.host("one"), lab.host("two")
    return lab.link(one, two)


def test_one_host(pair):
    near, far = pair
    for address in (far.v4, far.v6):
        result = ping(near.host, "-c", 3, "-i", "0.05", address)
        assert (result.status, result.err) == (0, "")
        lines = result.out.splitlines()
        assert lines[0] == f"PING {address}: 56 bytes of data, timed by tc on {near.device}"
        for n, line in enumerate(lines[1:4], 1):
            assert re.fullmatch(rf"64 bytes from {re.escape(address)}: seq={n} time=[0-9.]+ ms", line), line
        assert lines[4:6] == ["", f"--- {address} ---"]
        assert re.fullmatch(r"3 packets transmitted, 3 received, 0% packet loss, time \d+ms", lines[6])
        assert lines[7].split() == ["milliseconds", "min", "p50", "p90", "p99", "max", "mean", "sd"]
        times = [float(cell) for cell in lines[8].removeprefix("round trip").split()]
        assert times[:5] == sorted(times[:5]) and times[0] <= times[5] <= times[4]
        assert re.fullmatch(rf"jitter [0-9.]+ ms, timed by tc on {near.device}", lines[9])
        assert len(lines) == 10, "no picture unless it is asked for, or there is a terminal"


def test_lines_that_are_no_answers(lab):
    """Lost, doubled and late ones, in words and numbers, as the relay made them."""
    one, two = lab.host("one"), lab.host("two")
    near, far = lab.link(one, two, relay={})
    known_neighbours(near, far)  # nothing else is counted by the relay
    near.relay.set("b->a", duplicate="1/4")
    result = ping(one, "-c", 12, "-i", "0.02", "-W", "0.2", far.v4)
    assert result.status == 0
    doubled = re.findall(rf"^(?:(\d+) )?duplicate answers? from {re.escape(far.v4)}$", result.out, re.MULTILINE)
    assert sum(int(n or 1) for n in doubled) == 3
    assert "\n3 duplicates\n" in result.out
    near.relay.set("b->a", duplicate="0", loss="1/3")
    result = ping(one, OFF, "-c", 12, "-i", "0.02", "-W", "0.2", "-D", far.v4)
    assert result.status == 0
    lost = re.findall(rf"^\[\d+\.\d{{6}}\] no answer from {re.escape(far.v4)}: seq=(\d+) within 200ms$", result.out, re.MULTILINE)
    assert len(lost) == 4 and all(int(b) - int(a) == 3 for a, b in zip(lost, lost[1:]))
    assert "12 packets transmitted, 8 received, 33.3% packet loss" in result.out
    near.relay.set("b->a", loss="0", delay="300ms")
    result = ping(one, "-c", 8, "-i", "0.1", "-W", "0.2", far.v4)
    assert result.status == 1
    assert re.search(rf"^(\d+ )?late answers? from {re.escape(far.v4)}: counted as lost$", result.out, re.MULTILINE)
    assert "8 packets transmitted, 0 received, 100% packet loss" in result.out


def test_exit_status(pair):
    near, far = pair
    silent = str(far.network4[77])
    cases = {(far.v4,): 0, (far.v4, far.v6): 0, (silent,): 1, (far.v4, silent): 1, (far.v4, "nobody.invalid"): 2, ("nobody.invalid",): 2,
             (far.v4, "-w", "5"): 0, (silent, "-w", "0.1"): 1}
    for arguments, status in cases.items():
        result = ping(near.host, OFF, "-q", "-c", 1, "-i", "0.01", "-W", "0.2", *arguments)
        assert result.status == status, result
    # With both, all answers are wanted; and the deadline comes first.
    result = ping(near.host, OFF, "-q", "-c", 100, "-i", "0.1", "-w", "0.35", far.v4)
    assert result.status == 1
    assert int(re.search(r"^(\d+) packets transmitted", result.out, re.MULTILINE)[1]) in range(2, 6)


def test_quiet_tells_only_what_came_of_it(pair):
    near, far = pair
    result = ping(near.host, OFF, "-q", "-c", 5, "-i", "0.02", far.v4)
    assert "seq=" not in result.out and "\n\n--- " in result.out and "5 packets transmitted" in result.out
    result = ping(near.host, OFF, "-q", "-c", 5, "-i", "0.02", far.v4, far.v6)
    assert "seq=" not in result.out
    rows = [line.split() for line in result.out.splitlines() if line.startswith((far.v4, far.v6))]
    assert [row[:4] for row in rows] == [[address, "5", "5", "0%"] for address in (far.v4, far.v6)]


def test_json(pair):
    near, far = pair
    silent = str(far.network4[77])
    result = ping(near.host, "--json", "-c", 4, "-i", "0.05", "-W", "0.3", "--paths", 2, far.v4, silent)
    assert (result.status, result.err) == (1, "")
    probes, summary = documents(result)
    assert collections.Counter((p["host"], p["path"], p["outcome"]) for p in probes) == \
        {(far.v4, 1, "answered"): 4, (far.v4, 2, "answered"): 4, (silent, 1, "timed_out"): 4, (silent, 2, "timed_out"): 4}
    for host in (far.v4, silent):
        assert sorted(p["sequence"] for p in probes if p["host"] == host and p["path"] == 1) == [1, 2, 3, 4]
    assert {p["timestamp"] for p in probes if p["host"] == far.v4} == {"tc"}
    # Spread over the interval: four paths, 12.5 ms from one to the next.
    sent = sorted(p["sent"] for p in probes)
    assert sent[-1] - sent[0] >= 0.15 and sum(b - a < 0.004 for a, b in zip(sent, sent[1:])) <= 3, sent
    up, down = summary["hosts"]
    assert (up["sent"], up["received"], up["lost"], up["pending"], up["loss_ratio"]) == (8, 8, 0, 0, 0)
    assert (down["sent"], down["received"], down["lost"], down["loss_ratio"]) == (8, 0, 8, 1)
    assert "rtt_seconds" not in down and up["device"] == near.device and up["timestamps"] == {"tc": 8}
    mine = sorted(p["rtt_seconds"] for p in probes if p["host"] == far.v4)
    rtt = up["rtt_seconds"]
    assert (rtt["min"], rtt["p50"], rtt["p90"], rtt["max"], rtt["quantile_error"]) == (mine[0], mine[3], mine[7], mine[7], 0)
    assert abs(rtt["mean"] - sum(mine) / 8) < 1e-9
    assert [path["sent"] for path in up["paths"]] == [4, 4] and sum(path["received"] for path in up["paths"]) == 8
    probes, summary = documents(ping(near.host, OFF, "--json", "-q", "-c", 2, "-i", "0.05", far.v4))
    assert not probes and summary["hosts"][0]["received"] == 2


def test_thousand_hosts(pair):
    """All of a file, at once: none is lost by us, they are spread over the interval, and the table has them all."""
    near, far = pair
    far.host.run("ip", "route", "add", "local", "172.20.0.0/20", "dev", "lo")
    near.host.run("ip", "route", "add", "172.20.0.0/20", "via", far.v4)
    hosts = [f"172.20.{i // 250}.{i % 250 + 1}" for i in range(1000)]
    text = "# a list\n" + "\n".join(" ".join(hosts[i:i + 5]) for i in range(0, 1000, 5)) + f" # the end\n{far.network4[77]}\n"
    result = ping(near.host, "--json", "-c", 2, "-i", "0.5", "-W", 1, "--file", "-", input=text)
    probes, summary = documents(result)
    assert result.status == 1 and len(summary["hosts"]) == 1001
    assert [host["received"] for host in summary["hosts"]] == [2] * 1000 + [0]
    sent = sorted(p["sent"] for p in probes)
    slots = collections.Counter(int((at - sent[0]) / 0.05) for at in sent)
    assert max(slots.values()) < 600, "of 200 that are due in 50 ms"
    result = ping(near.host, OFF, "-q", "-c", 1, "-i", "0.5", "-W", 1, "--file", "-", input=text)
    assert sum(line.startswith("172.20.") and line.split()[1:4] == ["1", "1", "0%"] for line in result.out.splitlines()) == 1000
    assert f"1001 hosts: 1000 answered, 1 did not: {far.network4[77]}\n" in result.out


def test_unreachable_in_words(lab):
    """What routers say, and what this host itself does."""
    one, router, two = lab.host("one"), lab.host("router"), lab.host("two")
    near, hop = lab.link(one, router)
    middle, far = lab.link(router, two)
    for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        router.sysctl(name, 1)
    for command in (("route", "add", "default", "via", hop.v4), ("-6", "route", "add", "default", "via", hop.v6)):
        one.run("ip", *command)
    for command in (("route", "add", "default", "via", middle.v4), ("-6", "route", "add", "default", "via", middle.v6)):
        two.run("ip", *command)
    router.run("ip", "route", "add", "unreachable", "192.0.2.0/24")
    router.run("ip", "route", "add", "prohibit", "198.51.100.0/24")
    for end in (middle, far):
        end.host.run("ip", "link", "set", end.device, "mtu", "1400")
    cases = [(("192.0.2.1",), "host_unreachable", "Destination host unreachable"),
             (("203.0.113.1",), "net_unreachable", "Destination network unreachable"),
             (("198.51.100.1",), "prohibited", "Prohibited"),
             (("-t", 1, far.v4), "ttl_exceeded", "Time to live exceeded"),
             (("-M", "do", "-s", 1420, far.v4), "packet_too_big", "Packet too big"),
             (("-p", "stamp", far.v4), "port_unreachable", "Destination port unreachable")]
    for n, (arguments, error, words) in enumerate(cases, 10):
        # To one address a router sends only a few of these in a second: another one for each.
        one.run("ip", "address", "add", f"{near.network4[n]}/24", "dev", near.device)
        result = ping(one, OFF, "--json", "-c", 1, "-W", 1, "-I", near.network4[n], *arguments)
        probes, summary = documents(result)
        assert result.status == 1, result
        assert [(p["outcome"], p.get("error")) for p in probes] == [("unreachable", error)], (arguments, result)
        assert probes[0]["reason"].startswith(words) and summary["hosts"][0]["errors"] == {error: 1}
    assert '"error":"ttl_exceeded"' in ping(one, OFF, "--json", "-c", 1, "-W", 1, "-t", 1, far.v6).out
    result = ping(one, "-c", 1, "192.0.2.1")  # and where a hook sees the packets first
    assert "no answer from 192.0.2.1: seq=1 Destination host unreachable\n" in result.out
    assert "\n1 unreachable (Destination host unreachable)\n" in result.out
    result = ping(one, "-q", "-c", 2, "-i", "0.05", "-s", 1420, far.v4)
    assert result.status == 0 and f"2 answers did not pass the hook on {near.device}" in result.out, "they came in pieces"


def test_unknown_hosts_are_all_named(pair):
    near, far = pair
    result = ping(near.host, OFF, "-c", 1, "10.0.0.999", far.v4, "224.0.0.1", "fe80::1", "-q")
    assert result.status == 2
    errors = result.err.splitlines()
    assert [line.split(": ")[1] for line in errors] == ["10.0.0.999", "224.0.0.1", "fe80::1"]
    assert "multicast" in errors[1] and "interface" in errors[2]
    assert "1 packets transmitted, 1 received" in result.out, "the others are asked all the same"
    result = ping(near.host, "-6", far.v4)
    assert (result.status, result.out) == (2, "")


@pytest.mark.parametrize("arguments, message", [
    ((), "missing argument: HOST..."),
    (("--cuont", "1", "x"), "unknown flag --cuont; did you mean --count?"),
    (("-c", "many", "x"), "expects a whole number, not `many`"),
    (("-i", "soon", "x"), "-i expects a duration such as 1s or 250ms, not `soon`"),
    (("-i", "0.0001", "x"), "--interval must be from 1ms to 1h"),
    (("-W", "10m", "x"), "--timeout must be from 1ms to 5m"),
    (("-s", "70000", "x"), "--size expects a number from 0 to 65507, not `70000`"),
    (("-t", "0", "x"), "--ttl expects a number from 1 to 255, not `0`"),
    (("--dscp", "64", "x"), "--dscp expects a number from 0 to 63"),
    (("-Q", "0xb9", "x"), "ECN"),
    (("-4", "-6", "x"), "-4 and -6 exclude each other"),
    (("-f", "x"), "it does not flood"),
    (("-I", "eth77", "x"), "`eth77` is no interface of this host"),
    (("-P", "80", "x"), "ICMP has no ports"),
    (("--protocol", "tpc", "x"), "did you mean `tcp`?"),
    (("--protocol", "tcp", "-i", "0.001", "x"), "must be 12ms or more"),
    (("--key-file", "/nonexistent", "-p", "stamp", "x"), "/nonexistent"),
    (("--file", "/nonexistent"), "cannot read /nonexistent: No such file or directory"),
    (("--file", "/dev/null"), "there is no host in /dev/null"),
])
def test_wrong_flags(arguments, message):
    done = subprocess.run([netsonde.BINARY, "ping", *arguments], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_packets_are_as_asked_for(pair):
    """Size, TTL, class, source, and that nothing but the flags' packets leaves."""
    near, far = pair
    near.host.run("ip", "address", "add", f"{near.network4[55]}/24", "dev", near.device)
    with far.host:
        seen = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    seen.settimeout(5)
    result = ping(near.host, "-c", 2, "-i", "0.02", "-s", 100, "-t", 17, "--dscp", "ef", "-M", "do", OFF, "-I", near.network4[55], far.v4)
    assert result.status == 0 and "108 bytes from" in result.out
    for _ in range(2):
        packet = seen.recv(65536)
        assert (packet[1] >> 2, packet[6] & 0x40, packet[8], packet[12:16]) == (46, 0x40, 17, near.network4[55].packed)
        assert (len(packet), packet[20]) == (20 + 8 + 100, 8)
    assert ping(near.host, OFF, "-q", "-c", 1, "-I", near.device, "-Q", "0xb8", far.v4).status == 0
    assert seen.recv(65536)[1] == 0xb8
    seen.close()


def test_interfaces_of_link_local_hosts(pair):
    near, far = pair
    address = next(a["local"] for a in json.loads(far.host.run("ip", "-j", "-6", "address", "show", "dev", far.device))[0]["addr_info"]
                   if a["scope"] == "link")
    wait_for(lambda: "tentative" not in near.host.run("ip", "-6", "address", "show", "dev", near.device) +
             far.host.run("ip", "-6", "address", "show", "dev", far.device), 10, "link-local addresses in use")
    for arguments in ((f"{address}%{near.device}",), (address, "-I", near.device)):
        result = ping(near.host, OFF, "-c", 2, "-i", "0.02", *arguments)
        assert result.status == 0 and f"{address}%{near.device}: seq=2" in result.out, result


def test_tcp(pair):
    """Open and closed ports; what listens sees no connection, and this host's own TCP no answer."""
    near, far = pair
    with far.host:
        listener = socket.create_server((far.v4, 0))
    listener.setblocking(False)
    port = listener.getsockname()[1]
    resets = near.host.counters("Tcp")["OutRsts"]
    result = ping(near.host, "-p", "tcp", "-c", 3, "-i", "0.05", f"{far.v4}:{port}")
    assert result.status == 0 and result.out.count(" ms (open)\n") == 3
    result = ping(near.host, "-p", "tcp", "-P", "9", "-c", 3, "-i", "0.05", far.v4, f"[{far.v6}]:10")
    assert result.status == 0 and result.out.count(" ms (closed)\n") == 6
    assert result.out.count("  3 answered by a reset: the port is closed\n") == 2
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.close()
    assert near.host.counters("Tcp")["OutRsts"] == resets


def test_stamp(pair, tmp_path):
    """A reflector that takes 20 ms: these are not the network's, and are told apart."""
    near, far = pair
    key = tmp_path / "key"
    key.write_bytes(b"secret of this test\n")
    key.chmod(0o600)
    for secret in (None, b"secret of this test"):
        flags = ("--key-file", key) if secret else ()
        with stamp_peer.Reflector(far.host, far.v4, key=secret, residence=0.02):
            result = ping(near.host, "-p", "stamp", "-c", 4, "-i", "0.05", *flags, far.v4)
            probes, _ = documents(ping(near.host, OFF, "--json", "-p", "stamp", "-c", 4, "-i", "0.05", *flags, far.v4))
        assert result.status == 0, result
        assert f"{120 if secret else 52} bytes from {far.v4}:862: seq=4 time=" in result.out
        reflector = [float(cell) for cell in re.search(r"^reflector +(.*)$", result.out, re.MULTILINE)[1].split()]
        assert reflector[0] >= 20
        assert all(p["rtt_seconds"] < 0.01 and p["residence_seconds"] >= 0.02 for p in probes), probes


def interrupted(programs, host, number, *arguments):
    """A running ping that has had three answers, then the signal; the program."""
    program = programs.start(host, [netsonde.BINARY, "ping", *arguments], "ping")
    wait_for(lambda: "seq=3 " in program.out or program.process.poll() is not None, netsonde.READY_S, "three answers")
    program.signal(number)
    return program


def test_signals(pair, programs):
    """Ctrl-\\ tells how it stands, Ctrl-C ends with the summary; SIGTERM does too. What is on its way is not lost."""
    near, far = pair
    program = interrupted(programs, near.host, signal.SIGQUIT, OFF, "-i", "0.05", far.v4)
    wait_for(lambda: re.search(r"\d+/\d+ packets, 0% loss, min/p50/p99/max = [0-9./]+ ms\n", program.err), netsonde.READY_S,
             lambda: f"an interim line in {program.err!r}")
    program.signal(signal.SIGINT)
    assert program.wait(10) == 0
    assert re.search(r"^\d+ packets transmitted, \d+ received, 0% packet loss, time \d+ms$", program.out, re.MULTILINE)
    program = interrupted(programs, near.host, signal.SIGTERM, OFF, "-i", "0.05", "-W", "10", far.v4, str(far.network4[77]))
    assert program.wait(10) == 1
    assert re.search(r", 0% packet loss, [2-9]\d* on the way, ", program.out), program.out


def attached_to(pid):
    """Indices of the interfaces to which a process holds a link."""
    indices = set()
    for fd in os.listdir(f"/proc/{pid}/fdinfo"):
        with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii", errors="replace") as file:
            info = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        if "link_type" in info and "ifindex" in info:
            indices.add(int(info["ifindex"].split()[0]))
    return indices


@pytest.mark.parametrize("end, status", ((signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)))
def test_what_it_holds(pair, programs, end, status):
    """While it runs: one interface with hooks, and no privileges. Whatever ends it, its programs end with it."""
    near, far = pair
    program = programs.start(near.host, [netsonde.BINARY, "ping", "-i", "0.05", far.v4], "ping")
    wait_for(lambda: "seq=1 " in program.out, netsonde.READY_S, "an answer")
    with open(f"/proc/{program.pid}/status", encoding="ascii") as file:
        process = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    assert all(int(process[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"))
    assert (process["NoNewPrivs"], process["Seccomp"]) == ("1", "2") and "0" not in process["Uid"].split()
    with near.host:
        assert attached_to(program.pid) == {socket.if_nametoindex(near.device)}
    held = netsonde.KernelObjects.held_by(program.pid)
    program.signal(end)
    assert program.wait(10) == status
    netsonde.KernelObjects.wait_gone(held)


def test_beside_an_agent_and_another(pair, programs, start_agent):
    """None takes the others' answers."""
    near, far = pair
    target = {"name": "far", "address": far.v4, "interval": "50ms"}
    agent = start_agent(near.host, json.dumps({"collect": {"tick": "100ms"}, "probe": {"passive": "off", "targets": [target]}}))
    both = [programs.start(near.host, [netsonde.BINARY, "ping", "--json", "-c", "20", "-i", "0.03", far.v4], "ping") for _ in range(2)]
    for program in both:
        assert program.wait(20) == 0
        summary = json.loads(program.out.splitlines()[-1])["hosts"][0]
        assert (summary["sent"], summary["received"], summary["duplicates"], summary["rejected"]) == (20, 20, 0, 0)
    metrics = agent.settle()
    assert metrics.sum("netsonde_probe_received_total", target="far") > 5
    assert metrics.sum("netsonde_probe_lost_total", target="far") == 0


def test_unprivileged(pair):
    near, far = pair
    near.host.sysctl("net.ipv4.ping_group_range", "1 0")
    result = ping(near.host, "-c", 2, far.v4, wrapper=NOBODY)
    assert (result.status, result.out) == (2, "")
    assert all(word in result.err for word in ("root", "CAP_NET_RAW", "ping_group_range", "setcap")), result.err
    near.host.sysctl("net.ipv4.ping_group_range", "0 65534")
    for address in (far.v4, far.v6):
        result = ping(near.host, "-c", 3, "-i", "0.05", address, wrapper=NOBODY)
        assert result.status == 0 and "3 packets transmitted, 3 received" in result.out, result
        assert "without CAP_NET_RAW" in result.err and "timed by this program's own clock" in result.out
    result = ping(near.host, "-c", 1, "-p", "tcp", far.v4, wrapper=NOBODY)
    assert result.status == 2 and "CAP_NET_RAW" in result.err


def on_terminal(host, columns, *arguments):
    """What a terminal of so many columns shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    process = host.popen([netsonde.BINARY, "ping", *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    process.wait(10)
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", (60, 80, 120))
def test_terminal(pair, columns):
    """Nothing is wider than the terminal; one host gets a picture; what is bad is red."""
    near, far = pair
    silent = str(far.network4[77])
    shown = on_terminal(near.host, columns, OFF, "-c", "20", "-i", "0.01", far.v4)
    picture = shown[shown.index("from ms"):].splitlines()
    assert sum(int(line.split()[-1]) for line in picture if "\u2588" in line or line.split()[1:] and "\u258f" in line) <= 20
    assert any("\u2588" in line for line in picture) and max(map(len, picture)) <= columns
    assert "\033" not in shown
    shown = on_terminal(near.host, columns, OFF, "-c", "2", "-i", "0.01", "-W", "0.1", far.v4, far.v6, silent)
    assert "\033[31m" in shown and "\u2588" not in shown
    table = re.sub(r"\033\[\d+m", "", shown).split("\n\n")[1].splitlines()
    assert len(table) == 4 and table[0].startswith("host ") and max(map(len, table)) <= columns
    assert table[3].startswith(silent) and "100%" in table[3]


def test_help_and_manual_name_every_flag():
    text = subprocess.run([netsonde.BINARY, "ping", "--help"], capture_output=True, text=True, check=True).stdout
    manual = subprocess.run([netsonde.BINARY, "help", "--man"], capture_output=True, text=True, check=True).stdout
    for letter in "ciWwsq46ItQMpPDj":
        assert re.search(rf"^  -{letter}, --", text, re.MULTILINE), letter
    assert "flood" not in text
    part = manual[manual.index('.SS "netsonde ping'):]
    part = part[:part.index(".SS", 5)]
    probe_keys = ("sequence", "outcome", "rtt_seconds", "residence_seconds", "clock_error_seconds", "pending", "quantile_error", "one_way_unknown")
    assert all(key in part for key in probe_keys) and not any(key in text for key in probe_keys)
