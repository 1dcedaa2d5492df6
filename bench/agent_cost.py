#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The agent's CPU, memory and scrape time beside Debian's prometheus-node-exporter.

Both run at the same time in one network namespace and are scraped once a second for the same minutes: as Prometheus
does it (text, gzip), and as NetSonde's server does it (protobuf). First with nothing to see but the scrapes, then with
10,000 established connections (20,000 sockets, 100 peers). CPU time comes from the scheduler and is taken in slices of
10 s, which gives the spread. Shown per second, as a share of a core, and per series and scrape; the agent's includes
its tick of 1 s, which is where it reads the kernel.
"""
import argparse
import http.client
import os
import subprocess
import sys
import time

import measure

TEXT = "text/plain;version=0.0.4"
PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
FORMATS = {"text": TEXT, "protobuf": PROTOBUF}
SLICE_S = 10
SETTLE_S = 3  # seconds of scraping before a measurement counts
PEERS = 100


class Subject:
    def __init__(self, name, command, port):
        self.name, self.port = name, port
        self.process = measure.start(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.connection = None
        deadline = time.monotonic() + 20
        while True:
            try:
                self.scrape(TEXT)
                return
            except (OSError, http.client.HTTPException):
                self.connection = None
                if time.monotonic() > deadline or self.process.poll() is not None:
                    sys.exit(f"{name} does not answer")
                time.sleep(0.05)

    def get(self, accept, encoding):
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        self.connection.request("GET", "/metrics", headers={"Accept": accept, "Accept-Encoding": encoding})
        response = self.connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise http.client.HTTPException(f"status {response.status}")
        if not response.headers["Content-Type"].startswith(accept.split(";")[0]):
            raise http.client.HTTPException(f"{self.name} answered {response.headers['Content-Type']}, not {accept}")
        return body

    def scrape(self, accept):
        begin = time.perf_counter()
        body = self.get(accept, "gzip")
        return time.perf_counter() - begin, len(body)

    def series(self):
        text = self.get(TEXT, "identity").decode()
        return sum(1 for line in text.splitlines() if line and line[0] != "#")


def take_turns(subjects, accept, seconds, each_slice=None):
    """Scrapes all once a second; the scrapes of one second come in turn. Returns {name: scrape times}, {name: size}."""
    times, sizes = {s.name: [] for s in subjects}, {}
    begin = time.monotonic()
    for second in range(seconds):
        for s in subjects:
            took, sizes[s.name] = s.scrape(accept)
            times[s.name].append(took)
        time.sleep(max(0, begin + second + 1 - time.monotonic()))
        if each_slice and (second + 1) % SLICE_S == 0:
            each_slice()
    return times, sizes


def run_case(subjects, seconds, case, form):
    """One minute of one kind of scrape; a row for each subject."""
    cpu = {s.name: [] for s in subjects}
    last = {}

    def take_slice():
        for s in subjects:
            now, used = time.monotonic(), measure.cpu_seconds(s.process.pid)
            if s.name in last:
                then, before = last[s.name]
                cpu[s.name].append((used - before) / (now - then))
            last[s.name] = now, used

    take_turns(subjects, FORMATS[form], SETTLE_S)
    take_slice()
    times, sizes = take_turns(subjects, FORMATS[form], seconds, take_slice)
    rows = []
    for s in subjects:
        series, maps = s.series(), measure.map_bytes(s.process.pid)
        rows.append({
            "case": case, "format": form, "subject": s.name, "series": series, "body_bytes": sizes[s.name],
            "cpu_percent": measure.spread([100 * share for share in cpu[s.name]]),
            "cpu_us_per_series": measure.spread([1e6 * share / series for share in cpu[s.name]]),
            "scrape_ms": measure.spread([1e3 * t for t in times[s.name]]),
            "resident_mb": measure.resident_bytes(s.process.pid) / 1e6, "kernel_maps_mb": sum(maps.values()) / 1e6,
        })
    return rows


def print_rows(rows):
    print(f"{'case':26} {'format':9} {'subject':14} {'series':>6} {'% of a core':>22} {'us per series':>22}"
          f" {'scrape, ms':>20} {'body kB':>8} {'RSS MB':>7} {'maps MB':>8}")
    for r in rows:
        c, p, t = (r[key] for key in ("cpu_percent", "cpu_us_per_series", "scrape_ms"))
        print(f"{r['case']:26} {r['format']:9} {r['subject']:14} {r['series']:6}"
              f" {c['median']:7.3f} ({c['min']:5.3f}..{c['max']:5.3f})"
              f" {p['median']:7.2f} ({p['min']:5.2f}..{p['max']:5.2f})"
              f" {t['median']:6.2f} ({t['min']:4.2f}..{t['max']:5.2f}) {r['body_bytes'] / 1e3:8.1f}"
              f" {r['resident_mb']:7.1f} {r['kernel_maps_mb']:8.2f}")


def ratios(rows):
    """The agent beside node_exporter, case by case."""
    result = []
    for ours in rows:
        if ours["subject"] == "netsonde agent":
            theirs = next(r for r in rows if r["subject"] == "node_exporter"
                          and (r["case"], r["format"]) == (ours["case"], ours["format"]))
            result.append({"case": ours["case"], "format": ours["format"], "ratio": "node_exporter / netsonde agent",
                           **{key: theirs[key]["median"] / ours[key]["median"]
                              for key in ("cpu_percent", "cpu_us_per_series", "scrape_ms")}})
    for r in result:
        print(f"{r['case']:26} {r['format']:9} node_exporter takes {r['cpu_percent']:.2f} times the CPU,"
              f" {r['cpu_us_per_series']:.1f} times per series, {r['scrape_ms']:.1f} times the scrape time")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--netsonde", default=os.path.join(measure.ROOT, "build", "netsonde"))
    parser.add_argument("--seconds", type=int, default=60, help=f"of each case, in slices of {SLICE_S}")
    parser.add_argument("--connections", type=int, default=10000)
    parser.add_argument("--json")
    args = parser.parse_args()
    if args.seconds < SLICE_S:
        parser.error(f"--seconds must be at least {SLICE_S}")
    measure.own_namespace()
    ports = measure.free_port(), measure.free_port()
    subjects, holders, rows = [], [], []
    try:
        for name, port, command in (("netsonde agent", ports[0], [args.netsonde, "agent"]),
                                    ("node_exporter", ports[1], ["prometheus-node-exporter"])):
            subjects.append(Subject(name, [*command, f"--web.listen-address=127.0.0.1:{port}"], port))
        for form in FORMATS:
            rows += run_case(subjects, args.seconds, "idle", form)
        holders = measure.hold(args.connections, PEERS)
        for form in FORMATS:
            rows += run_case(subjects, args.seconds, f"{args.connections} connections", form)
    finally:
        for process in [*holders, *(s.process for s in subjects)]:
            measure.stop(process)
    print_rows(rows)
    measure.write_json(args.json, "agent_cost", rows + ratios(rows))


if __name__ == "__main__":
    main()
