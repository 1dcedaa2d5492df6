# SPDX-License-Identifier: Apache-2.0
"""The agent's events against what the test did: interfaces that change, programs that start and end.

The agent sees the programs of the whole machine, so the test's own go by names that nobody else has. Streams are read
over plain sockets by a reader of the test's own.
"""
import json
import os
import random
import shutil
import signal
import subprocess
import threading

import pytest

import netsonde
from netlab import wait_for
from netsonde import PATIENCE

PATH = "/api/v1/events"
CONFIG = "collect: {tick: 50ms, processes: on, interfaces: on}\n"


class Stream:
    """One reader of server-sent events. A frame is (id, event, data) of it; comments are counted."""

    def __init__(self, agent, query="", headers=None):
        # Parted by ends of line as the standard (HTML, section 9.2.6) says, from the body that http.client unchunks.
        self.frames = []
        self.comments = 0
        self._connection = netsonde._Connection(agent.host, *agent.address)
        self._connection.request("GET", PATH + query, headers=headers or {})
        self._response = self._connection.getresponse()
        assert self._response.status == 200, self._response.read()
        assert self._response.headers["Content-Type"] == "text/event-stream"
        self._connection.sock.settimeout(None)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        fields = {}
        try:
            for raw in self._response:
                line = raw.decode().rstrip("\n")
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "data" in fields:
                    self.frames.append((fields.get("id"), fields.get("event"), json.loads(fields["data"])))
                    fields = {}
                else:
                    fields = {}
        except (OSError, ValueError, AttributeError):
            pass  # closed

    def events(self, **wanted):
        return [data for _, kind, data in list(self.frames) if kind not in ("hello", "lost") and
                all(data.get(key) == value for key, value in wanted.items())]

    def wait(self, count, **wanted):
        wait_for(lambda: len(self.events(**wanted)) >= count, 10 * PATIENCE,
                 lambda: f"{count} events {wanted}, only {self.events(**wanted)}")
        return self.events(**wanted)

    def close(self):
        self._connection.sock.shutdown(2)
        self._thread.join()
        self._connection.close()


@pytest.fixture
def open_stream():
    opened = []

    def start(*arguments, **options):
        stream = Stream(*arguments, **options)
        opened.append(stream)
        return stream

    yield start
    for stream in opened:
        if stream._connection.sock:
            stream.close()


def document(agent, query=""):
    status, headers, body = agent.get(PATH + query, {"Accept": "application/json"})
    assert status == 200 and headers["Content-Type"] == "application/json", body
    answer = json.loads(body)
    assert answer["status"] == "success"
    return answer["data"]


class Tool:
    """A copy of the shell, under a name of its own."""

    def __init__(self, programs):
        self.name = f"ev{random.SystemRandom().getrandbits(40):x}"
        self.path = os.path.join(programs.directory, self.name)
        shutil.copy(os.path.realpath("/bin/sh"), self.path)

    def run(self, script):
        process = subprocess.Popen([self.path, "-c", script], stdin=subprocess.DEVNULL)
        return process.pid, process.wait()


def test_changes_of_an_interface(lab, start_agent, open_stream):
    host = lab.host("watched")
    agent = start_agent(host, CONFIG)
    stream = open_stream(agent, "?kind=link")
    one, other, renamed = (f"e{random.getrandbits(32):08x}{letter}" for letter in "abc")
    host.run("ip", "link", "add", one, "type", "veth", "peer", "name", other)
    stream.wait(1, device=one, code="added")
    host.run("ip", "link", "set", other, "up")
    host.run("ip", "link", "set", one, "up")
    stream.wait(1, device=one, code="up")
    host.run("ip", "link", "set", other, "down")
    stream.wait(1, device=one, code="down")
    host.run("ip", "link", "set", one, "name", renamed)
    stream.wait(1, device=renamed, text=one, code="renamed")
    host.run("ip", "link", "del", renamed)
    stream.wait(1, device=renamed, code="removed")

    def story(events):
        return [event["code"] for event in events if event.get("device") in (one, renamed)]

    assert story(stream.events()) == ["added", "up", "down", "renamed", "removed"]
    assert story(document(agent, "?kind=link")["events"]) == story(stream.events())
    assert {event["netns"] for event in stream.events()} == {os.fstat(host.fd).st_ino}
    assert {event["kind"] for event in stream.events()} == {"link"}


def test_programs_that_start_and_end(lab, programs, start_agent, open_stream):
    tool = Tool(programs)
    agent = start_agent(lab.host("watched"), CONFIG)
    stream = open_stream(agent)
    before = subprocess.run(["date", "-u", "+%FT%T"], check=True, capture_output=True, text=True).stdout.strip()
    pid, status = tool.run("exit 7")
    assert status == 7
    killed, status = tool.run("kill -9 $$")
    assert status == -signal.SIGKILL
    (started,) = stream.wait(1, kind="exec", pid=pid)
    assert started["process"] == tool.name[:15] and started["text"].endswith(tool.name)
    assert before <= started["time"][:19] and started["time"].endswith("Z")
    (ended,) = stream.wait(1, kind="exit", pid=pid)
    assert (ended["code"], ended["status"]) == ("exited", 7)
    (ended,) = stream.wait(1, kind="exit", pid=killed)
    assert (ended["code"], ended["signal"]) == ("killed", "KILL")
    own = [(event["kind"], event["pid"]) for event in stream.events() if event.get("pid") in (pid, killed)]
    assert own == [("exec", pid), ("exit", pid), ("exec", killed), ("exit", killed)]
    wait_for(lambda: stream.comments, 10, "a comment")


def test_a_reader_that_comes_back_misses_nothing(lab, programs, start_agent, open_stream):
    tool = Tool(programs)
    agent = start_agent(lab.host("watched"), CONFIG)

    def own(stream):
        return [event["pid"] for event in stream.events(process=tool.name[:15])]

    first = open_stream(agent, "?kind=exec&limit=0")
    seen = [tool.run("exit 0")[0] for _ in range(3)]
    wait_for(lambda: own(first) == seen, 10 * PATIENCE, lambda: f"{seen} in {own(first)}")
    first.close()
    last_id, _, last = first.frames[-1]
    missed = [tool.run("exit 0")[0] for _ in range(5)]
    wait_for(lambda: len([e for e in document(agent, "?kind=exec")["events"] if e["pid"] in missed]) == 5, 10 * PATIENCE, "5 in the log")

    second = open_stream(agent, "?kind=exec&limit=0", headers={"Last-Event-ID": last_id})
    later = [tool.run("exit 0")[0]]
    wait_for(lambda: own(second) == missed + later, 10 * PATIENCE, lambda: f"{missed + later} in {own(second)}")
    ids = [event["id"] for event in first.events() + second.events()]
    assert ids == sorted(set(ids)) and second.frames[0][1] == "hello" and second.frames[0][2]["complete"]
    # By `since`, and in a document, it is the same.
    assert [e["pid"] for e in document(agent, f"?kind=exec&since={last['id']}")["events"]
            if e.get("process") == tool.name[:15]] == missed + later
    assert document(agent, f"?since={last_id}")["events"][0]["id"] == last["id"] + 1
    # An ID of another run says nothing about this one.
    again = open_stream(agent, "?kind=exec", headers={"Last-Event-ID": "17-" + last_id.split("-")[1]})
    wait_for(lambda: own(again) == seen + missed + later, 10 * PATIENCE, "everything")


def test_documents_and_mistakes(lab, programs, start_agent):
    tool = Tool(programs)
    agent = start_agent(lab.host("watched"), CONFIG)
    pids = [tool.run("exit 0")[0] for _ in range(4)]
    wait_for(lambda: [e["pid"] for e in document(agent)["events"] if e.get("process") == tool.name[:15] and e["kind"] == "exec"] == pids,
             10 * PATIENCE, "the four in the log")
    assert {e["kind"] for e in document(agent, "?kind=exit&kind=link")["events"]} <= {"exit", "link"}
    assert len(document(agent, "?limit=2")["events"]) == 2
    status, _, body = agent.get(PATH + "?kind=exec&kind=earthquake", {"Accept": "application/json"})
    assert status == 400 and b"earthquake" in body and b"connect_failed, reset, retransmit_burst, drop, link, exec, exit" in body
    for wrong in ("since=yesterday", "limit=all", "limit=-1", "since="):
        status, _, body = agent.get(f"{PATH}?{wrong}")
        assert status == 400 and wrong.split("=")[0].encode() in body, body
    assert f'href="{PATH}"'.encode() in agent.get("/")[2]


def test_a_flood_of_one_kind_hides_no_other(lab, start_agent, open_stream):
    """1,500 programs in a few seconds, where 20 per second may be told, and an interface that changes its name 30 times."""
    host = lab.host("watched")
    agent = start_agent(host, "collect: {tick: 50ms, events_per_second: 20}\n")
    execs, links = open_stream(agent, "?kind=exec"), open_stream(agent, "?kind=link")
    names = [f"e{random.getrandbits(32):08x}{number}" for number in range(31)]
    host.run("ip", "link", "add", names[0], "type", "veth", "peer", "name", "peer0")
    flood = subprocess.Popen(["sh", "-c", "i=0; while [ $i -lt 1500 ]; do /bin/true; i=$((i + 1)); done"])
    for old, new in zip(names, names[1:]):
        host.run("ip", "link", "set", old, "name", new)
        links.wait(1, device=new, code="renamed")  # so each is told while the flood goes on, and as it happens
    assert flood.wait(60 * PATIENCE) == 0
    assert [(e["text"], e["device"]) for e in links.events(code="renamed")] == list(zip(names, names[1:]))
    assert not any(e["suppressed"] for e in links.events())

    def told_and_missing():
        """A program starts now and then, so that the last event tells of those suppressed before it."""
        subprocess.run(["true"], check=True)
        metrics = agent.settle()
        told = len(execs.events()), sum(e["suppressed"] for e in execs.events())
        counted = (metrics.sum("netsonde_events_total", kind="exec"), metrics.sum("netsonde_events_suppressed_total", kind="exec"))
        return told == counted and sum(told) >= 1500 and told

    told, missing = wait_for(told_and_missing, 20 * PATIENCE, "the stream and the counters say the same")
    metrics = agent.metrics()
    print(f"# {told} programs told, {missing} not")
    assert missing > 1000
    assert metrics.sum("netsonde_events_suppressed_total", kind="link") == 0
    assert [value for _, value in metrics.select("netsonde_lost_events_total", source="event_ring")] == [0]
    # The counter of programs is another one, in the same program.
    wait_for(lambda: (lambda m: m.sum("netsonde_process_execs_total") == m.sum("netsonde_events_total", kind="exec") +
                      m.sum("netsonde_events_suppressed_total", kind="exec"))(agent.metrics()), 10 * PATIENCE, "all programs accounted for")
