# SPDX-License-Identifier: Apache-2.0
"""`netsonde lab` as a user has it: it comes up, its dashboard shows the traffic and each fault in time, and it goes away
without a trace, also when it is killed.

The test's own network namespace stands for the user's machine, so what the lab adds to it can be seen.
"""
import json
import os
import signal
import subprocess
import time
import urllib.parse

import pytest

import netsonde
from netlab import die_with_parent, wait_for
from netsonde import PATIENCE
from running import SERVER, descendants, status_of

READY_S = 60 * PATIENCE
SEEN_S = 5 * PATIENCE  # from a fault to the number on the dashboard
AGENTS = ("client-a", "web", "site-b")


class Here:
    """The network namespace of the test itself, in place of a netlab.Host."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class DemoLab:
    """A running `netsonde lab`, told what to do through its standard input."""

    def __init__(self, directory, *arguments):
        self.out_path = os.path.join(directory, "lab.out")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SUDO_")}
        with open(self.out_path, "wb") as out:
            self.process = subprocess.Popen([netsonde.BINARY, "lab", *arguments], stdin=subprocess.PIPE, stdout=out,
                                            stderr=subprocess.STDOUT, text=True, env=environment, process_group=0,
                                            preexec_fn=die_with_parent)
        wait_for(lambda: self.runs() and "Ctrl-C ends everything" in self.out, READY_S, lambda: f"ready: {self.out}")

    @property
    def out(self):
        with open(self.out_path, encoding="utf-8") as file:
            return file.read()

    def runs(self):
        assert self.process.poll() is None, self.out
        return True

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def get(self, path):
        status, _, body = netsonde.get(Here(), SERVER, path)
        assert status == 200, body
        return json.loads(body)

    def query(self, text):
        """{(value of each label that is left): number}"""
        rows = self.get("/api/v1/query?" + urllib.parse.urlencode({"query": text}))["data"]["result"]
        return {tuple(row["metric"].values()): float(row["value"][1]) for row in rows if row["value"][1] != "NaN"}

    def number(self, text):
        return next(iter(self.query(text).values()), 0.0)

    def wait_number(self, text, good, what, seconds=SEEN_S):
        return wait_for(lambda: good(self.number(text)), seconds, lambda: f"{what}: {text} is {self.query(text)}")

    def inside(self, host, *command):
        return subprocess.run([netsonde.BINARY, "lab", "exec", host, *command], check=False, capture_output=True,
                              text=True, timeout=30 * PATIENCE)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()


def namespaces_of(pids):
    """The network namespaces that processes are in or hold open."""
    found = set()
    for pid in pids:
        try:
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
            folder = f"/proc/{pid}/fd"
            for fd in os.listdir(folder):
                target = os.readlink(os.path.join(folder, fd))
                if target.startswith("net:["):
                    found.add(target)
        except (FileNotFoundError, PermissionError):
            continue
    return found


def namespaces_of_all():
    return namespaces_of(pid for pid in os.listdir("/proc") if pid.isdigit())


def gone(pid):
    try:
        return status_of(pid)["State"].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def devices():
    return sorted(os.listdir("/proc/self/net/dev_snmp6"))


def end_and_look(lab, agents, end):
    """Everything that the lab has made is gone after end()."""
    pids = [lab.process.pid, *descendants(lab.process.pid)]
    objects = set().union(*(netsonde.KernelObjects.held_by(pid) for pid in pids))
    namespaces = namespaces_of(pids) - namespaces_of([os.getpid()])
    # A router, a namespace for each host, and one for each link.
    assert len(namespaces) == 13, namespaces
    # The lab, a relay for each link, the programs, the server and the agents.
    assert len(pids) == 1 + 6 + 11 + 1 + agents and len(objects) > 50 * agents, (pids, len(objects))
    end()
    for pid in pids:
        wait_for(lambda p=pid: gone(p), 10 * PATIENCE, lambda p=pid: f"process {p} gone: {status_of(p)['Name']}")
    wait_for(lambda: not namespaces & namespaces_of_all(), 5, "no process in a namespace of the lab")
    netsonde.KernelObjects.wait_gone(objects)


@pytest.fixture
def demo(tmp_path):
    started = []

    def start(*arguments):
        started.append(DemoLab(str(tmp_path), *arguments))
        return started[-1]

    yield start
    for lab in started:
        lab.kill()
        print(lab.out)


def test_list_needs_no_lab():
    done = subprocess.run([netsonde.BINARY, "lab", "--list"], check=True, capture_output=True, text=True)
    for word in ("client-a", "198.18.6.2", "2001:db8:6::2", "slow-dns", "bottleneck", "refused"):
        assert word in done.stdout
    for arguments, message in ((["--fault", "los"], "did you mean `loss`?"), (["--agent", "webb"], "did you mean `web`?"),
                               (["exec"], "exec HOST"), (["--web.listen-address", "9436"], "address and a port")):
        done = subprocess.run([netsonde.BINARY, "lab", *arguments], check=False, capture_output=True, text=True)
        assert done.returncode == 2 and message in done.stderr, done


def test_demonstration(demo):
    before = devices()
    lab = demo("--scenario", "none")
    assert devices() == before, "the machine's own network has new devices"

    wait_for(lambda: sorted(t["labels"]["instance"] for t in lab.get("/api/v1/targets")["data"]["activeTargets"]
                            if t["health"] == "up") == sorted(AGENTS), 5 * PATIENCE, "all agents up")
    # Traffic of every kind, by names; the links have the delays of the list.
    for text in ("sum(rate(netsonde_tcp_connections_total{instance='web',peer='db',outcome='established'}[5s]))",
                 "sum(rate(netsonde_tcp_received_bytes_total{instance='client-a',peer='web'}[5s]))",
                 "histogram_count(sum(rate(netsonde_dns_lookup_duration_seconds{instance='client-a'}[5s])))",
                 "sum(rate(netsonde_udp_received_datagrams_total{instance='site-b',peer='client-b'}[5s]))"):
        lab.wait_number(text, lambda value: value > 0, "traffic", 10 * PATIENCE)
    assert 0.020 <= lab.number("min(netsonde_tcp_min_rtt_seconds{instance='site-b',peer='db'})") < 0.030

    # Probes: both ways to site-b by STAMP, everybody else by ICMP.
    wait_for(lambda: set(lab.query("netsonde_probe_up").values()) == {1.0}, 10 * PATIENCE, "all targets of probes up")
    assert len(lab.query("netsonde_probe_up")) == len(AGENTS) * 5
    for way in ("forward", "backward"):
        delay = f"histogram_quantile(0.5, sum(netsonde_probe_one_way_delay_seconds{{instance='web',target='site-b',direction='{way}'}}))"
        lab.wait_number(delay, lambda value: 0.010 <= value < 0.015, "one-way delay")

    # What a person does inside.
    done = lab.inside("client-a", "ping", "-c", "3", "-i", "0.2", "web")
    assert done.returncode == 0 and " 0% packet loss" in done.stdout, done
    assert lab.inside("client-b", "hostname").stdout == "client-b\n"
    assert lab.inside("client-a", "cat", "/etc/hostname").returncode == subprocess.run(
        ["cat", "/etc/hostname"], check=False, capture_output=True).returncode, "the files of the machine are there"
    done = lab.inside("nowhere", "true")
    assert done.returncode == 1 and "there is no host `nowhere`" in done.stderr

    # Faults, and that they end.
    lost = "sum(rate(netsonde_probe_lost_total{instance='client-a',target='web'}[3s]))"
    retransmits = "sum(rate(netsonde_tcp_retransmits_total{instance='web'}[3s]))"
    assert lab.number(retransmits) < 1 and lab.number(lost) == 0
    lab.say("loss")
    lab.wait_number(retransmits, lambda value: value > 3, "retransmissions of a link with 5 % loss")
    lab.say("stop")
    lab.say("loss web 40%")
    lab.wait_number(lost, lambda value: value > 0.5, "lost probes")
    lab.say("stop web")
    lab.wait_number(retransmits, lambda value: value < 1, "no more of them", 10 * PATIENCE)

    lab.say("refused")
    lab.wait_number("sum(rate(netsonde_tcp_connections_total{instance='web',peer='db',outcome='refused'}[3s]))",
                    lambda value: value > 3, "refused connections")
    lab.say("stop")
    lab.say("nonsense")
    wait_for(lambda: "unknown command `nonsense`" in lab.out, 5, "an answer")

    lab.say("slow-dns")
    lab.wait_number("histogram_quantile(0.5, sum(rate(netsonde_dns_lookup_duration_seconds{instance='client-a'}[2s])))",
                    lambda value: value > 0.35, "slow look-ups")
    assert lab.out.count("named takes 400 ms") == 1

    def end():
        lab.process.send_signal(signal.SIGTERM)
        assert lab.process.wait(15 * PATIENCE) == 0, lab.out

    end_and_look(lab, len(AGENTS), end)
    assert devices() == before
    assert "level=error" not in lab.out and "netsonde lab:" not in lab.out, lab.out


def test_nothing_is_left_of_a_killed_lab(demo):
    lab = demo("--scenario", "none", "--agent", "web")

    def kill():
        lab.process.kill()
        lab.process.wait()

    end_and_look(lab, 1, kill)


def test_end_by_duration(demo):
    started = time.monotonic()
    lab = demo("--duration", "1s", "--agent", "db")
    assert lab.process.wait(20 * PATIENCE) == 0, lab.out
    assert time.monotonic() - started >= 1
