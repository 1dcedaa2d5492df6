# SPDX-License-Identifier: Apache-2.0
"""
The server as a process, from scrape to API, live stream and restart, against
exporters whose behaviour the tests control and Debian's prometheus-node-exporter.
"""
import gzip
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

import pytest
import servertool
from servertool import Committing, Exporter, Server, StateDir, fails, server_user, wait_for


@pytest.fixture
def exporter():
    made = Exporter()
    yield made
    made.stop()


@pytest.fixture
def state():
    made = StateDir()
    yield made
    made.remove()


@pytest.fixture
def start(request):
    """start(...) makes a Server that ends with the test, and must then end well."""
    def make(*args, **kwargs):
        server = Server(*args, **kwargs)
        request.addfinalizer(server.stop)
        return server
    return make


@pytest.fixture
def node_exporter():
    if not shutil.which("prometheus-node-exporter"):
        pytest.skip("prometheus-node-exporter is not installed")
    process, url = servertool.start_node_exporter()
    yield url
    process.terminate()
    process.wait()


def config_of(targets, interval="200ms", **more):
    rows = ", ".join(f"{{name: {name}, url: \"{url}\"}}" for name, url in targets.items())
    extra = "".join(f", {k}: {v}" for k, v in more.items())
    return f"server: {{scrape: {{interval: {interval}, targets: [{rows}]}}{extra}}}\n"


def labels(instance, **more):
    return frozenset({"instance": instance, "job": "netsonde", **more}.items())


def test_scrape_to_query(start, exporter):
    exporter.content = ("# TYPE x gauge\nx{a=\"1\"} 4.25\nx{instance=\"own\"} NaN\n# TYPE c_total counter\nc_total 7\n"
                        "# TYPE l histogram\nl_bucket{le=\"0.5\"} 1\nl_bucket{le=\"+Inf\"} 2\nl_sum 3\nl_count 2\n")
    server = start("--target", f"e={exporter.url}")
    wait_for(lambda: server.value("up") == 1, "the target is up")
    x = {r["metric"].get("a", r["metric"].get("exported_instance")): r["value"][1]
         for r in server.api("query", query="x")["result"]}
    assert x == {"1": "4.25", "own": "NaN"}
    assert server.query("c_total") == {labels("e", __name__="c_total"): 7}
    assert server.query('l_bucket{le="0.5"}') == {labels("e", __name__="l_bucket", le="0.5"): 1}
    assert server.value("scrape_samples_scraped") == 7
    assert 0 < server.value("scrape_duration_seconds") < 5
    accept = exporter.requests[0][1]["Accept"]
    assert (accept.index("application/vnd.google.protobuf") < accept.index("application/openmetrics-text")
            < accept.index("text/plain"))
    # The time of a sample is the start of its scrape.
    point = server.api("query_range", query='x{a="1"}', start=time.time() - 1, end=time.time(), step="1")
    assert abs(float(point["result"][0]["values"][-1][0]) - time.time()) < 3
    target = server.target("e")
    assert target["health"] == "up" and target["lastError"] == "" and target["scrapeUrl"] == exporter.url
    assert target["scrapeInterval"] == "1s"
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", target["lastScrape"])


def test_range_rate_and_series(start, exporter):
    count = [0]

    def more():
        count[0] += 10
        exporter.content = f"# TYPE c_total counter\nc_total{{a=\"x\"}} {count[0]}\nc_total{{a=\"y\"}} {2 * count[0]}\n"
    exporter.before = more
    server = start("--target", f"e={exporter.url}")
    begin = time.time()
    wait_for(lambda: len(server.query("rate(c_total[10s])")) == 2 and count[0] >= 50, "five scrapes")
    rates = server.query("sum by (a) (rate(c_total[4s]))")
    assert rates[frozenset({("a", "x")})] == pytest.approx(10, rel=0.25)
    assert rates[frozenset({("a", "y")})] == pytest.approx(2 * rates[frozenset({("a", "x")})])
    data = server.api("query_range", query="c_total", start=begin, end=time.time(), step=0.5)
    assert data["resultType"] == "matrix" and len(data["result"]) == 2
    for series in data["result"]:
        values = [float(v) for _, v in series["values"]]
        times = [t for t, _ in series["values"]]
        assert values == sorted(values) and times == sorted(times) and len(values) >= 3
    everything = {"start": begin, "end": time.time()}
    assert server.api("series", **{"match[]": "c_total", **everything}) == [
        {"__name__": "c_total", "a": a, "instance": "e", "job": "netsonde"} for a in "xy"]
    twice = server.api("series", **{"match[]": ["c_total", "{__name__=\"c_total\"}"]})
    assert twice == server.api("series", **{"match[]": "c_total"})
    assert server.api("labels") == ["__name__", "a", "instance", "job"]
    assert server.api("label/a/values") == ["x", "y"]
    assert server.api("label/__name__/values", **{"match[]": "{a=\"x\"}"}) == ["c_total"]
    assert server.api("series", **{"match[]": "c_total", "start": 1, "end": 2}) == []
    assert server.api("metadata", metric="c_total")["c_total"][0]["type"] == "counter"


def test_api_forms_and_errors(start, exporter):
    server = start("--target", f"e={exporter.url}")
    wait_for(lambda: server.value("up") == 1, "the target is up")
    for path, params in (
            ("query", {}), ("query", {"query": "sum("}), ("query", {"query": "up", "time": "yesterday"}),
            ("query_range", {"query": "up", "start": 1, "end": 2}),
            ("query_range", {"query": "up", "start": 2, "end": 1, "step": 1}),
            ("query_range", {"query": "up", "start": 1, "end": 2, "step": 0}),
            ("query_range", {"query": "up", "start": 1, "end": 2, "step": "-1s"}),
            ("query_range", {"query": "up", "start": "1e999", "end": 2, "step": "1"}),
            ("query_range", {"query": "up", "start": 0, "end": 1e6, "step": 1}),
            ("series", {}), ("series", {"match[]": "rate(up[5s])"}), ("label/a-b/values", {}), ("label//values", {})):
        status, answer = server.api(path, **params)
        assert (status, answer["status"], answer["errorType"]) == (400, "error", "bad_data"), (path, params)
        assert answer["error"]
    assert server.api("query", query="rat(up[5s])")[1]["error"].find("rate") > 0
    scalar = server.api("query", query="1 + 1", time="2024-02-03T04:05:06.5Z")
    assert scalar == {"resultType": "scalar", "result": [1706933106.5, "2"]}
    for text in ("2024-02-03T05:05:06.500+01:00", "2024-02-02T23:35:06.5-04:30", "1706933106.5"):
        assert server.api("query", query="1 + 1", time=text) == scalar
    body = b"query=up%7Binstance%3D%22e%22%7D&start=%s&end=%s&step=1s"
    body = body.replace(b"%s", str(time.time() - 1).encode(), 1).replace(b"%s", str(time.time()).encode(), 1)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    status, _, answer = server.request("/api/v1/query_range", "POST", body, form)
    assert status == 200 and json.loads(answer)["data"]["result"][0]["metric"]["instance"] == "e"
    # A page of another site must not be able to ask.
    assert server.request("/api/v1/query", "POST", b"query=up", {**form, "Origin": "http://evil.example"})[0] == 403
    assert server.request("/api/v1/query", "DELETE")[0] == 405
    assert server.request("/api/v1/nothing")[0] == 404
    assert server.request("/-/healthy")[0] == server.request("/-/ready")[0] == 200
    for i in range(200):  # more than 4 KiB: compressed for who wants it
        exporter.content += f"y{{i=\"{i}\"}} 1\n"
    wait_for(lambda: len(server.query("y")) == 200, "200 series")
    status, headers, answer = server.request("/api/v1/query?query=y", headers={"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip" and len(json.loads(gzip.decompress(answer))["data"]["result"]) == 200


def test_node_exporter(start, node_exporter):
    server = start("--target", f"node={node_exporter}")
    wait_for(lambda: server.value("up") == 1, "node_exporter is up")
    names = set(server.api("label/__name__/values"))
    with servertool._opener.open(node_exporter) as response:
        text = response.read().decode()
    expected = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    # It is free to add a series between our scrape and this one.
    assert len(expected - names) <= 5 and len(names) > 100
    boot = re.search(r"^node_boot_time_seconds (\S+)", text, re.M)[1]
    assert server.value("node_boot_time_seconds") == float(boot)
    assert server.value("scrape_samples_scraped") > 200
    assert server.api("metadata")["node_cpu_seconds_total"][0]["type"] == "counter"
    assert wait_for(lambda: server.query('rate(node_cpu_seconds_total{mode="idle"}[10s])'), "a rate of real counters")


BAD = {
    "html": ({"content": "<!doctype html><title>x</title>", "content_type": "text/html; charset=utf-8"}, "content",
             "html"),
    "garbage": ({"content": b"x 1\n\x00\xff{{{}}}\xfe 7 7 7\n" * 50}, "content", ""),
    "protobuf": ({"content": bytes(range(1, 256)) * 20,
                  "content_type": "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; "
                                  "encoding=delimited"}, "content", ""),
    "status": ({"status": 500}, "http_status", "500"),
    "hang": ({"mode": "hang"}, "timeout", ""),
    "redirect": ({"mode": "redirect"}, None, ""),
    "huge": ({"mode": "huge"}, None, ""),
    "close": ({"mode": "close"}, "connection", ""),
    "noise": ({"mode": "noise"}, "connection", ""),
    "many": ({"content": "".join(f"m{{i=\"{i}\"}} 1\n" for i in range(100001))}, None, ""),
}


def outcomes(server, name):
    text = server.request("/metrics")[2].decode()
    return {o: float(v) for o, v in
            re.findall(r'netsonde_server_scrapes_total\{outcome="(\w+)",target="%s"\} (\S+)' % name, text)}


@pytest.mark.parametrize("kind", BAD)
def test_bad_target(start, state, kind):
    change, outcome, word = BAD[kind]
    exporter, other = Exporter("# TYPE x gauge\nx 5\n"), Exporter("z 1\n")
    config = state.write("c.yaml", config_of({"e": exporter.url, "other": other.url}, interval="300ms"))
    server = start("--config.file", config, state=state)
    try:
        wait_for(lambda: server.value("x") == 5, "the good answer is stored")
        before = {k: getattr(exporter, k) for k in change}
        for k, v in change.items():
            setattr(exporter, k, v)
        wait_for(lambda: server.value('up{instance="e"}') == 0, "up is 0")
        # Its series end at once, not after the lookback; nobody else's do.
        assert server.query("x") == {}
        assert server.value("z") == 1
        down = wait_for(lambda: (t := server.target("e"))["health"] == "down" and t, "the target is down")
        assert down["lastError"] and "\n" not in down["lastError"] and word in down["lastError"].lower()

        def failures():
            counts = outcomes(server, "e")
            return sum(v for o, v in counts.items() if o not in ("ok", "unchanged")) >= 3 and counts
        counts = wait_for(failures, "three failures")
        kinds = {o for o, v in counts.items() if v and o not in ("ok", "unchanged")}
        assert outcome is None or kinds == {outcome}
        # One line for the change of state, however many scrapes fail; another only for another reason.
        assert len(server.log_lines("target is down", "target=e")) <= len(kinds)
        assert len(server.log_lines("target is down", "target=e")) >= 1
        for k, v in before.items():
            setattr(exporter, k, v)
        wait_for(lambda: server.value("x") == 5 and server.value('up{instance="e"}') == 1, "it is up again")
        assert server.target("e")["lastError"] == ""
        assert not server.log_lines("target is down", "target=other")
        assert server.process.poll() is None
    finally:
        server.stop()
        exporter.stop()
        other.stop()


def test_nothing_listens_and_unknown_host(start):
    server = start("--target", f"nobody=http://127.0.0.1:{servertool.free_port()}/metrics",
                   "--target", "nowhere=http://host.invalid/metrics")
    for name in ("nobody", "nowhere"):
        wait_for(lambda name=name: (server.target(name) or {})["health"] == "down", f"{name} is down")
        assert outcomes(server, name)["connection"] + outcomes(server, name)["timeout"] >= 1
    wait_for(lambda: set(server.query("up").values()) == {0} and len(server.query("up")) == 2, "up is 0 for both")


def test_vanished_series(start, exporter):
    exporter.content = "a 1\nb 1\n"
    server = start("--target", f"e={exporter.url}")
    wait_for(lambda: server.value("b") == 1, "b is there")
    exporter.content = "a 2\n"
    wait_for(lambda: server.value("a") == 2, "the next scrape is in")
    assert server.query("b") == {}
    exporter.content = "a 3\nb 3\n"
    wait_for(lambda: server.value("b") == 3, "b is back")


def test_live(start, exporter):
    exporter.content = "a{q=\"\\\"\\\\\\n\xe4\"} 1.5\nb +Inf\n"
    server = start("--target", f"e={exporter.url}")
    streams = [server.live("a", "b", "up"), server.live("a", "b", "up"), server.live("up")]
    for stream in streams:
        event, hello = stream.next()
        assert event == "hello" and hello["interval_ms"] == 1000 and hello["version"]
        assert abs(hello["now"] - time.time()) < 60
    frames = [[stream.next() for _ in range(3)] for stream in streams]
    for stream in frames:
        times = [data["t"] for _, data in stream]
        assert {event for event, _ in stream} == {"frame"} and times == sorted(set(times))
        assert stream[-1][1]["targets"] == [{"name": "e", "up": True, "age_s": pytest.approx(0, abs=1)}]
    last = frames[0][-1][1]
    assert [r["query"] for r in last["results"]] == [0, 1, 2]
    assert last["results"][0]["result"] == [{"metric": dict(labels("e", __name__="a", q="\"\\\n\xe4")), "value": "1.5"}]
    assert last["results"][1]["result"][0]["value"] == "+Inf"
    # The same time, the same frame; the text is evaluated once for all three.
    by_time = {data["t"]: data for _, data in frames[0]}
    assert any(by_time.get(data["t"]) == data for _, data in frames[1])
    assert server.metric("netsonde_server_live_streams") == 3
    assert server.metric("netsonde_server_live_queries") == 3
    # What is in a frame is what a query says for that time.
    assert server.value('up{instance="e"}', time=last["t"]) == 1
    for stream in streams[:2]:
        stream.close()
    wait_for(lambda: server.metric("netsonde_server_live_streams") == 1, "closed streams are noticed")
    assert server.metric("netsonde_server_live_queries") == 1
    status, answer = server.api("live", query=["up", "sum("])
    assert status == 400 and answer["errorType"] == "bad_data"
    assert server.api("live", query=["up"] * 65)[0] == 400
    assert server.metric("netsonde_server_live_queries") == 1
    # A query that cannot be evaluated is an error of its own, not of the stream.
    streams[0] = server.live("up", "up / 0", "count(up)")
    assert streams[0].next()[0] == "hello" and len(streams[0].next()[1]["results"]) == 3
    # Fresh: the frame is there soon after the scrape that is in it.
    event, frame = streams[2].next()
    while time.time() - frame["t"] > 0.9:  # frames that waited while this test was busy
        event, frame = streams[2].next()
    assert frame["targets"][0]["age_s"] < 0.5
    streams[0].close()
    assert server.kill(signal.SIGTERM) == 0
    while event:
        event = streams[2].next()
    streams[2].close()


def test_slow_browser_loses_frames_not_the_others(start):
    exporter = Exporter("".join(f"y{{i=\"{i}\",long=\"{'x' * 200}\"}} 1\n" for i in range(4000)))
    state = StateDir()
    config = state.write("c.yaml", config_of({"e": exporter.url}, interval="100ms"))
    server = start("--config.file", config, state=state)
    slow, quick = server.live("y"), server.live("up")
    try:
        assert slow.next()[0] == "hello"
        wait_for(lambda: quick.next() and server.metric("netsonde_server_live_frames_dropped_total") > 3,
                 "frames of a stream nobody reads are dropped", 60)
        assert server.process.poll() is None and server.value("up") == 1
    finally:
        slow.close()
        quick.close()
        server.stop()
        exporter.stop()
        state.remove()


def test_own_metrics(start, exporter):
    server = start("--target", f"e={exporter.url}", "--web.telemetry-path", "/own")
    wait_for(lambda: server.value("up") == 1, "the target is up")
    status, headers, body = server.request("/own")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    text = body.decode()
    for name in ("netsonde_build_info", "netsonde_server_store_bytes", "netsonde_server_ticks_failed_total",
                 "netsonde_server_commit_duration_seconds_count", "process_cpu_seconds_total",
                 "process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds",
                 "netsonde_server_http_requests_total"):
        assert re.search(rf"^{name}(\{{.*\}})? \S+$", text, re.M), name
    start_time = float(re.search(r"^process_start_time_seconds (\S+)", text, re.M)[1])
    assert abs(start_time - time.time()) < 60
    openmetrics = server.request("/own", headers={"Accept": "application/openmetrics-text;version=1.0.0"})[2]
    assert openmetrics.endswith(b"# EOF\n")
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed; everything else here passed")
    check = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")


def test_scrapes_itself(start):
    """Its own exposition through its own parser, protobuf with native histograms."""
    port = servertool.free_port()
    state = StateDir()
    server = start("--web.listen-address", f"127.0.0.1:{port}", "--target", f"self=http://127.0.0.1:{port}/metrics",
                   state=state)
    try:
        wait_for(lambda: (server.value("netsonde_server_ticks_total") or 0) >= 2, "it stores its own ticks")
        p99 = wait_for(lambda: server.value("histogram_quantile(0.99, rate("
                                            "netsonde_server_commit_duration_seconds[10s]))"), "a quantile")
        assert 0 < p99 < 5
    finally:
        server.stop()
        state.remove()


def test_phase_lock(start, state):
    agent = Committing(0.3)
    config = state.write("c.yaml", config_of({"a": agent.url}, interval="300ms"))
    server = start("--config.file", config, state=state)
    try:
        wait_for(lambda: len(agent.ages) >= 20, "20 scrapes")
        ages = sorted(agent.ages[8:])
        # Unsynchronised scrapes would meet ages all over 0 .. 300 ms. The host may be busy: the median, not the worst.
        assert 0.001 < ages[len(ages) // 2] < 0.1, agent.ages
        assert server.metric('netsonde_server_target_phase_locked{target="a"}') == 1
        assert server.target("a")["locked"] is True

        agent.frozen = True
        wait_for(lambda: outcomes(server, "a")["unchanged"] >= 3, "the same snapshot again")
        begin = time.time()
        stored = server.query("commits_total")
        wait_for(lambda: outcomes(server, "a")["unchanged"] >= 8, "and again")
        # `up` goes on; the counter gets no flat piece and does not end either.
        rows = server.api("query_range", query="up", start=begin, end=time.time(), step="100ms")["result"]
        assert {v for _, v in rows[0]["values"]} == {"1"}
        assert server.query("commits_total") == stored
        live = server.live("up")
        assert live.next()[0] == "hello"
        assert live.next()[1]["targets"][0]["age_s"] > 0.3
        live.close()
        with sqlite3.connect(f"file:{state.file('test.db')}?mode=ro", uri=True) as db:
            times = [t for t, in db.execute(
                "SELECT t FROM sample JOIN series ON series.id = sample.series "
                "WHERE name = 'commits_total' ORDER BY t")]
        assert times and times[-1] < begin * 1000
        agent.frozen = False
        wait_for(lambda: server.value("commits_total") > list(stored.values())[0], "new snapshots are stored")
    finally:
        server.stop()
        agent.stop()


def test_phase_lock_with_short_tick(start):
    agent = Committing(0.05)
    server = start("--target", f"a={agent.url}")
    try:
        wait_for(lambda: len(agent.requests) >= 8, "8 scrapes")
        times = [t for t, _ in agent.requests[2:]]
        gaps = sorted(b - a for a, b in zip(times, times[1:]))
        assert 0.95 < gaps[len(gaps) // 2] < 1.05
    finally:
        server.stop()
        agent.stop()


def test_reload(start, state):
    kept, gone, new = Exporter("k 1\n"), Exporter("g 1\n"), Exporter("n 1\n")
    config = state.write("c.yaml", config_of({"kept": kept.url, "gone": gone.url}))
    server = start("--config.file", config, state=state)
    try:
        wait_for(lambda: server.value("k") == 1 and server.value("g") == 1, "both targets are up")
        scrapes = outcomes(server, "kept")["ok"]
        state.write("c.yaml", config_of({"kept": kept.url, "new": new.url}))
        status, _, body = server.request("/-/reload", "POST")
        assert status == 200, body
        # Everything of the one that went has ended, in this very moment.
        assert server.query("g") == {} and server.query('up{instance="gone"}') == {}
        wait_for(lambda: server.value("n") == 1, "the new target is up")
        # The other was not disturbed: its counters go on, and it was asked all the time.
        assert outcomes(server, "kept")["ok"] >= scrapes
        assert [t["labels"]["instance"] for t in server.api("targets")["activeTargets"]] == ["kept", "new"]
        wait_for(lambda: len(kept.requests) >= 5, "five requests")
        asked = [t for t, _ in kept.requests]
        assert max(b - a for a, b in zip(asked, asked[1:])) < 2
        served = len(gone.requests)

        for bad, word in (("server: {scrape: {intervall: 1s}}\n", "intervall"), ("server: [\n", ""),
                          (config_of({"kept": "ftp://x/"}), "http")):
            state.write("c.yaml", bad)
            status, _, body = server.request("/-/reload", "POST")
            assert status == 400 and word in body.decode(), body
            assert server.log_lines("cannot reload")
        assert len(server.api("targets")["activeTargets"]) == 2 and server.value("n") == 1
        assert server.metric("netsonde_server_reload_successful") == 0
        assert server.request("/-/reload", "GET")[0] == 405

        state.write("c.yaml", config_of({"kept": kept.url, "gone": gone.url, "new": new.url}))
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: server.value("g") == 1, "SIGHUP reloads too")
        assert len(gone.requests) > served
        assert server.metric("netsonde_server_reload_successful") == 1
        # The same target at another address is another target.
        state.write("c.yaml", config_of({"kept": new.url}))
        assert server.request("/-/reload", "POST")[0] == 200
        wait_for(lambda: server.query("n") == {labels("kept", __name__="n"): 1}, "the other address is asked")
        assert server.query("k") == {}
    finally:
        server.stop()
        for e in (kept, gone, new):
            e.stop()


def test_reload_of_store_path(start, state, exporter):
    config = state.write("c.yaml", config_of({"e": exporter.url}))
    server = start("--config.file", config, state=state, store=None, env={"STATE_DIRECTORY": state.path})
    wait_for(lambda: os.path.exists(state.file("netsonde.db")), "the database is in the state directory")
    state.write("c.yaml", config_of({}, store="{path: other.db}"))
    status, _, body = server.request("/-/reload", "POST")
    assert status == 400 and b"restart" in body
    assert len(server.api("targets")["activeTargets"]) == 1
    server.stop()


def all_samples(path):
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return set(db.execute("SELECT name, labels, t, value FROM sample JOIN series ON series.id = sample.series"))


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_graceful_end(start, state, exporter, sig):
    server = start("--target", f"e={exporter.url}", state=state)
    wait_for(lambda: server.value("x") == 1, "a tick is stored")
    assert server.kill(sig) == 0
    # The log is folded in, the lock is gone.
    assert os.listdir(state.path) == ["test.db"]
    assert len(all_samples(state.file("test.db"))) >= 4


def test_kill_and_restart(start, state, exporter):
    server = start("--target", f"e={exporter.url}", state=state)
    wait_for(lambda: server.metric("netsonde_server_ticks_total") >= 3, "three ticks")
    end = time.time()
    before = server.api("query_range", query="x", start=end - 10, end=end, step=0.25)["result"]
    assert before[0]["values"]
    assert server.kill(signal.SIGKILL) == -signal.SIGKILL
    exporter.content = "other 1\n"
    server = start("--target", f"e={exporter.url}", state=state)
    after = server.api("query_range", query="x", start=end - 10, end=end, step=0.25)["result"]
    assert after == before
    wait_for(lambda: server.value("other") == 1, "it goes on")
    server.stop()
    all_samples(state.file("test.db"))


def test_port_in_use(state):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        address = "127.0.0.1:%d" % s.getsockname()[1]
        status, said = fails("--web.listen-address", address, "--store.path", state.file("t.db"))
    assert status == 1 and said.count("\n") == 0 and address in said and "in use" in said
    assert os.listdir(state.path) == []


def test_refused_databases(state):
    garbage = state.file("garbage.db")
    with open(garbage, "wb") as f:
        f.write(b"this is no database\n" * 500)
    newer = state.file("newer.db")
    server = Server(state=state, store="newer.db")
    server.stop()
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 999")
    db.close()
    foreign = state.file("foreign.db")
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE t (a)")
    db.close()
    secret = state.file("secret.db")
    shutil.copy(newer, secret)
    os.chmod(secret, 0)
    for name in os.listdir(state.path):
        os.chown(state.file(name), *(server_user() if name != "secret.db" else (os.geteuid(), os.getegid())))
    port = servertool.free_port()
    for path, word in ((garbage, "not"), (newer, "newer"), (foreign, "not"), (secret, "ermission"),
                       (state.file("no/such/dir.db"), "does not exist")):
        with open(path, "rb") if os.path.exists(path) and os.geteuid() == 0 else open(os.devnull, "rb") as f:
            content = f.read()
        status, said = fails("--web.listen-address", f"127.0.0.1:{port}", "--store.path", path, state=state)
        assert status == 1 and said.count("\n") == 0 and path in said and word in said, said
        if content:
            with open(path, "rb") as f:
                assert f.read() == content
    # Nothing is left listening.
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", port))
    assert not [name for name in os.listdir(state.path) if name.endswith("-lock")]


def test_database_in_use(start, state, exporter):
    start("--target", f"e={exporter.url}", state=state)
    status, said = fails("--web.listen-address", "127.0.0.1:0", "--store.path", state.file("test.db"), state=state)
    assert status == 1 and said.count("\n") == 0 and "in use" in said


def test_mistakes_on_the_command_line(state):
    for args, status, word in (
            (["--web.listen-adress", "x"], 2, "did you mean --web.listen-address"),
            (["--log.level", "loud"], 2, "loud"),
            (["--target", "no-url"], 1, "NAME=URL"),
            (["--target", "a=ftp://x/"], 1, "http://"),
            (["--target", "a=http://x/", "--target", "a=http://y/"], 1, "unique"),
            (["--web.telemetry-path", "metrics"], 1, "must start with /"),
            (["--web.listen-address", "nonsense"], 1, "nonsense"),
            (["--user", "no-such-user"], 1, "no-such-user"),
            (["--config.file", "/no/such/file.yaml"], 1, "/no/such/file.yaml")):
        got, said = fails("--store.path", state.file("t.db"), "--web.listen-address", "127.0.0.1:0", *args, state=state)
        assert got == status and word in said and said.count("\n") == 0, (args, got, said)
    config = state.write("c.yaml", "server:\n  scrape:\n    intervall: 1s\n")
    got, said = fails("--config.file", config, "--web.listen-address", "127.0.0.1:0", state=state)
    assert got == 1 and f"{config}:3:" in said and "did you mean `interval`" in said, said
    # Nothing half-started: no database, no lock.
    assert not [name for name in os.listdir(state.path) if "t.db" in name]


@pytest.mark.skipif(os.geteuid() != 0, reason="started as an ordinary user, there is no privilege to drop")
def test_privileges_are_dropped(start, state, exporter):
    server = start("--target", f"e={exporter.url}", state=state)
    uid, gid = server_user()
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    assert status["Uid"].split() == [str(uid)] * 4 and status["Gid"].split() == [str(gid)] * 4
    assert status["Groups"].strip() == "" and status["NoNewPrivs"] == "1"
    for caps in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
        assert int(status[caps], 16) == 0
    assert os.stat(state.file("test.db")).st_uid == uid
    wait_for(lambda: server.value("up") == 1, "and it works")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can choose the user")
def test_user_by_name_number_and_sudo(start, exporter):
    for args, env, uid in ((["--user", "daemon"], {}, 1), (["--user", "4242"], {}, 4242), (["--user", "root"], {}, 0),
                           ([], {"SUDO_UID": "4711", "SUDO_GID": "4712"}, 4711)):
        state = StateDir()
        os.chown(state.path, uid, -1)
        try:
            server = start("--target", f"e={exporter.url}", *args, state=state, env=env)
            with open(f"/proc/{server.process.pid}/status", encoding="ascii") as f:
                assert re.search(r"^Uid:\s+(\d+)\s", f.read(), re.M)[1] == str(uid)
            server.stop()
        finally:
            state.remove()


@pytest.mark.skipif(os.geteuid() != 0, reason="/var/lib is root's")
def test_new_state_directory_belongs_to_the_user(start, state, exporter):
    directory = state.file("a/b/netsonde")
    server = start("--target", f"e={exporter.url}", state=state, store=None,
                   env={"STATE_DIRECTORY": directory + "/:/other"})
    made = os.stat(directory)
    assert (made.st_uid, made.st_gid, made.st_mode & 0o7777) == (*server_user(), 0o750)
    assert os.path.exists(directory + "/netsonde.db")
    assert os.stat(state.file("a")).st_uid == 0
    server.stop()


def test_web_page(start, exporter):
    server = start("--target", f"e={exporter.url}")
    status, headers, body = server.request("/")
    assert status == 200 and headers["Content-Type"].startswith("text/html") and b"<" in body
    assert "default-src 'self'" in headers["Content-Security-Policy"] and headers["X-Content-Type-Options"] == "nosniff"
    etag = headers["ETag"]
    for tag in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
        status, headers, empty = server.request("/", headers={"If-None-Match": tag})
        assert status == 304 and empty == b"" and headers["ETag"] == etag
        assert headers["Content-Length"] == str(len(body))
    assert server.request("/", headers={"If-None-Match": '"other"'})[0] == 200
    status, headers, packed = server.request("/", headers={"Accept-Encoding": "gzip"})
    if headers["Content-Encoding"] == "gzip":
        assert gzip.decompress(packed) == body and headers["Vary"] == "Accept-Encoding"
    status, headers, nothing = server.request("/", "HEAD")
    assert status == 200 and nothing == b"" and int(headers["Content-Length"]) == len(body)
    # What the page loads is there, and may be kept.
    for path in re.findall(rb'(?:src|href)="(/assets/[^"]+)"', body):
        status, headers, _ = server.request(path.decode())
        assert status == 200 and "immutable" in headers["Cache-Control"]
    assert server.request("/../../etc/passwd")[0] == 404


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_prometheus_client_reads_it(start, exporter):
    """promtool uses Prometheus' own client library, the one that Grafana has."""
    server = start("--target", f"e={exporter.url}")
    wait_for(lambda: server.value("x") == 1, "the target is up")

    def promtool(*args):
        done = subprocess.run(["promtool", "query", *args], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert re.match(r'x\{instance="e", job="netsonde"\} => 1 @\[', promtool("instant", server.base, "x"))
    assert promtool("instant", server.base, "1 + 1").startswith("scalar: 2 @")
    now = int(time.time())
    ranged = promtool("range", f"--start={now - 5}", f"--end={now + 5}", "--step=1s", server.base, "up")
    assert ranged.startswith('up{instance="e", job="netsonde"} =>\n1 @[')
    assert promtool("series", "--match=x", server.base) == '{__name__="x", instance="e", job="netsonde"}\n'
    assert promtool("labels", server.base, "instance") == "e\n"
    refused = subprocess.run(["promtool", "query", "instant", server.base, "sum("], capture_output=True, text=True,
                             check=False, timeout=60)
    assert refused.returncode != 0 and "bad_data" in refused.stderr + refused.stdout


def test_old_samples_expire(start, state, exporter):
    server = start("--target", f"e={exporter.url}", state=state)
    wait_for(lambda: server.value("x") == 1, "the series exists")
    server.stop()
    old = int((time.time() - 3 * 86400) * 1000)
    with sqlite3.connect(state.file("test.db")) as db:
        (series,) = db.execute("SELECT id FROM series WHERE name = 'x'").fetchone()
        db.executemany("INSERT INTO sample (series, t, value) VALUES (?, ?, 1)",
                       [(series, old + i) for i in range(9000)])
    db.close()
    server = start("--target", f"e={exporter.url}", state=state)
    wait_for(lambda: server.metric("netsonde_server_samples_expired_total") == 9000, "all old samples are deleted")
    server.stop()
    assert min(t for name, _, t, _ in all_samples(state.file("test.db")) if name == "x") > old + 9000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_full_disk(start, state):
    small = state.file("small")
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], check=True)
    exporter = Exporter("".join(f"y{{i=\"{i}\"}} 1\n" for i in range(3000)))
    try:
        os.chown(small, *server_user())
        config = state.write("c.yaml", config_of({"e": exporter.url}, interval="100ms"))
        server = start("--config.file", config, state=state, store="small/test.db")
        wait_for(lambda: server.metric("netsonde_server_ticks_failed_total") >= 3, "ticks are lost")
        # Said once, counted each time; everything else goes on.
        said = server.log_lines("cannot store a tick")
        assert len(said) == 1 and "full" in said[0]
        assert server.metric('netsonde_server_samples_dropped_total{reason="tick_failed"}') >= 9000
        assert server.target("e")["health"] == "up"
        stored = server.metric("netsonde_server_ticks_total")
        subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
        wait_for(lambda: server.metric("netsonde_server_ticks_total") > stored, "ticks are stored again")
        assert len(server.log_lines("ticks are stored again")) == 1
        wait_for(lambda: server.value("count(y)") == 3000, "and can be read")
        assert server.kill(signal.SIGTERM) == 0
        all_samples(state.file("small/test.db"))
    finally:
        exporter.stop()
        subprocess.run(["umount", "-l", small], check=True)
