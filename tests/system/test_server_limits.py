# SPDX-License-Identifier: Apache-2.0
"""
What must not bring the server down or stall it: expensive queries, foreign pages, clocks that step, hostile targets;
and what must not leak: passwords of targets.
"""
import ctypes
import mmap
import os
import shutil
import struct
import subprocess
import time

import pytest
import servertool
from servertool import Exporter, wait_for
from test_server import config_of, exporter, labels, start, state  # noqa: F401: fixtures


def test_passwords_are_not_shown(start, exporter):  # noqa: F811
    url = exporter.url.replace("http://", "http://user:hidden-word@")
    server = start("--target", f"e={url}", "--target", f"down=http://user:hidden-word@127.0.0.1:{servertool.free_port()}/m")
    wait_for(lambda: server.value('up{instance="e"}') == 1 and server.value('up{instance="down"}') == 0, "both were asked")
    assert exporter.requests[0][1]["Authorization"].startswith("Basic ")
    assert server.target("e")["scrapeUrl"] == server.target("e")["globalUrl"] == exporter.url
    assert server.log_lines("target is up", exporter.url) and server.log_lines("target is down")
    for text in (server.log(), server.request("/metrics")[2].decode(), str(server.api("targets"))):
        assert "hidden-word" not in text
    status, said = servertool.fails("--target", "a=ftp://user:hidden-word@x/", "--web.listen-address", "127.0.0.1:0")
    assert status == 1 and "ftp://x/" in said and "hidden-word" not in said


def test_lookback_follows_the_interval(start, state, exporter):  # noqa: F811
    config = state.write("c.yaml", config_of({"e": exporter.url}, interval="20s"))
    server = start("--config.file", config, state=state)
    wait_for(lambda: server.value("x") == 1, "the first scrape")
    scraped = float(server.api("query_range", query="x", start=time.time() - 10, end=time.time(), step="1")
                    ["result"][0]["values"][0][0])
    assert server.value("x", time=scraped + 47) == 1  # 2.5 intervals; scraped is up to 1 s after the sample
    assert server.value("x", time=scraped + 52) is None


def test_reload_shortens_the_interval_at_once(start, state):  # noqa: F811
    some = [Exporter() for _ in range(3)]
    urls = {f"e{i}": e.url for i, e in enumerate(some)}
    config = state.write("c.yaml", config_of(urls, interval="1h"))
    server = start("--config.file", config, state=state)
    try:
        wait_for(lambda: some[0].requests, "the first target is asked")
        state.write("c.yaml", config_of(urls, interval="300ms"))
        assert server.request("/-/reload", "POST")[0] == 200
        wait_for(lambda: all(len(e.requests) >= 3 for e in some), "all of them are asked again and again")
    finally:
        server.stop()
        for e in some:
            e.stop()


def test_foreign_pages(start, exporter):  # noqa: F811
    server = start("--target", f"e={exporter.url}")
    picture = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for path in ("/api/v1/query?query=up", "/api/v1/live?query=up", "/api/v1/labels"):
        assert server.request(path, headers=picture)[0] == 403
    assert server.request("/api/v1/query?query=up", headers=link)[0] == 200
    assert server.request("/", headers=link)[0] == server.request("/api/v1/query?query=up")[0] == 200


def test_live_frames_have_a_time(start):  # noqa: F811
    """Queries that together take longer than a frame may: the cheap one comes first, the others take turns."""
    big = Exporter("".join(f"y{{i=\"{i}\"}} 1\n" for i in range(9000)))
    server = start("--target", f"e={big.url}")
    try:
        wait_for(lambda: server.value("count(y)") == 9000, "all series are stored")
        texts = [f"sum(rate(y[10s])) + {i}" for i in range(40)] + ["up"]
        live = server.live(*texts)
        assert live.next()[0] == "hello"
        wait_for(lambda: "result" in live.next()[1]["results"][40], "the cheap one has had its first turn")
        answered = [0] * len(texts)
        for _ in range(8):
            results = live.next()[1]["results"]
            missing = [r for r in results if "error" in r]
            assert missing and all("no time" in r["error"] for r in missing)
            for r in results:
                answered[r["query"]] += "result" in r
            if "result" in results[40]:
                assert results[40]["result"][0]["value"] == "1"
        # Costs are measured, so a disturbed evaluation can cost the cheap query a turn, but never its rank.
        assert answered[40] == max(answered) and answered[40] >= 4, answered
        assert sum(n > 0 for n in answered) > 1, answered
        assert server.metric("netsonde_server_live_results_dropped_total") > 0
        live.close()
    finally:
        server.stop()
        big.stop()


def test_new_series_are_limited(start, exporter):  # noqa: F811
    """A label that changes all the time does not fill the database; what is known goes on."""
    turn = [0]

    def change():
        turn[0] += 1
        exporter.content = "known 1\n" + "".join(f"y{{t=\"{turn[0]}\",i=\"{i}\"}} 1\n" for i in range(30000))
    exporter.before = change
    server = start("--target", f"e={exporter.url}")
    wait_for(lambda: (server.metric('netsonde_server_samples_dropped_total{reason="new_series"}') or 0) > 25000,
             "new series are left out", 60)
    assert server.value("known") == 1 and server.value("up") == 1
    assert server.metric("netsonde_server_store_series") < 100000 + 5000 * turn[0]


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
static int (*real)(clockid_t, struct timespec *);
static volatile int64_t *offset;
int clock_gettime(clockid_t id, struct timespec *t)
{
	int r;
	if (!real) {
		int fd = open(getenv("TEST_CLOCK_OFFSET"), O_RDONLY);
		void *at = mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
		offset = at == MAP_FAILED ? NULL : at;
		real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	}
	r = real(id, t);
	if (id == CLOCK_REALTIME && offset)
		t->tv_sec += *offset;
	return r;
}
"""


class Clock:
    """The wall clock of a server that is started with `env`: seconds off the true one."""

    def __init__(self, state):
        source, library, self.path = state.file("clock.c"), state.file("clock.so"), state.file("offset")
        with open(source, "w", encoding="ascii") as f:
            f.write(SHIM)
        subprocess.run(["cc", "-shared", "-fPIC", "-w", "-o", library, source, "-ldl"], check=True, timeout=60)
        with open(self.path, "wb") as f:
            f.write(struct.pack("q", 0))
        for path in (library, self.path):
            os.chmod(path, 0o755)
        self.env = {"LD_PRELOAD": library, "TEST_CLOCK_OFFSET": self.path}
        self.file = open(self.path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), 8)

    def set(self, seconds):
        ctypes.c_int64.from_buffer(self.map).value = seconds


needs_shim = pytest.mark.skipif("asan" in servertool.NETSONDE or not shutil.which("cc"),
                                reason="needs a C compiler, and a binary without sanitizers to put a library before")


@needs_shim
def test_clock_goes_back(start, state, exporter):  # noqa: F811
    clock = Clock(state)
    config = state.write("c.yaml", config_of({"e": exporter.url}, interval="200ms"))
    server = start("--config.file", config, state=state, env=clock.env)
    live = server.live("x")
    assert live.next()[0] == "hello" and abs(live.next()[1]["t"] - time.time()) < 60
    exporter.content = "x 2\n"
    clock.set(-7200)
    # The next frame or the one after it has the new time, and the values of now.
    wait_for(lambda: (frame := live.next()[1]) and abs(frame["t"] - (time.time() - 7200)) < 60 and
             frame["results"][0]["result"][0]["value"] == "2", "the live view goes on")
    assert server.log_lines("the clock of this host went back", "new time")
    assert server.value("up", time=time.time() - 7200) == 1
    # A small step is waited for.
    clock.set(-7202)
    wait_for(lambda: (server.metric('netsonde_server_scrapes_total{outcome="clock",target="e"}') or 0) >= 1, "it waits")
    wait_for(lambda: server.target("e")["health"] == "up", "and goes on")
    live.close()


@needs_shim
def test_clock_goes_forward(start, state, exporter):  # noqa: F811
    clock = Clock(state)
    config = state.write("c.yaml", config_of({"e": exporter.url}, interval="200ms", store="{retention: {raw: 1h}}"))
    server = start("--config.file", config, state=state, env=clock.env)
    wait_for(lambda: server.value("x") == 1, "there is history")
    begin = time.time()
    clock.set(365 * 86400)
    wait_for(lambda: server.value("x", time=begin + 365 * 86400 + 2) == 1, "samples with the new time")
    wait_for(lambda: time.time() - begin > 13 and server.metric("netsonde_server_ticks_total") > 20, "a pass of expiry")
    assert server.metric("netsonde_server_samples_expired_total") == 0
    clock.set(0)
    assert server.value("x", time=begin) == 1
    # The same after a restart with the wrong clock.
    server.stop()
    clock.set(365 * 86400)
    exporter.content = "z 1\n"
    server = start("--config.file", config, state=state, env=clock.env)
    wait_for(lambda: server.value("z", time=time.time() + 365 * 86400) == 1, "it runs")
    assert server.value("x", time=begin) == 1
    assert server.metric("netsonde_server_samples_expired_total") == 0
