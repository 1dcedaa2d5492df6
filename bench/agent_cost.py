#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The agent's CPU, memory and scrape time beside Debian's prometheus-node-exporter.

Both run at the same time, are scraped once a second for the same minutes, and the
figures come from /proc: CPU time of the process, resident memory. First idle, then with
10,000 established connections held by helper processes in a network namespace.

  bench/agent_cost.py [--seconds 60] [--connections 10000] [--json FILE]

Needs root, and build/netsonde.
"""
import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TICKS = os.sysconf("SC_CLK_TCK")
PER_HOLDER = 9000  # a process may hold 20,000 descriptors here, and each connection has two ends

HOLDER = """
import socket, sys, time, resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
n, address = int(sys.argv[1]), sys.argv[2]
listener = socket.create_server((address, 0), backlog=4096)
ends = []
for i in range(n):
    a = socket.create_connection(listener.getsockname())
    ends += [a, listener.accept()[0]]
print("ready", flush=True)
time.sleep(1e6)
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def schedstat_seconds(pid):
    """On-CPU time of all threads in ns resolution; /proc/PID/stat has 10 ms only."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        total += int(open(f"/proc/{pid}/task/{task}/schedstat").read().split()[0])
    return total / 1e9


def resident_bytes(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


class Scraped:
    def __init__(self, name, command, port):
        self.name, self.port = name, port
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.connection = None
        deadline = time.monotonic() + 20
        while True:
            try:
                self.scrape()
                break
            except (OSError, http.client.HTTPException):
                self.connection = None
                if time.monotonic() > deadline or self.process.poll() is not None:
                    sys.exit(f"{name} does not answer")
                time.sleep(0.05)

    def scrape(self):
        start = time.perf_counter()
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        self.connection.request("GET", "/metrics", headers={"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "gzip"})
        response = self.connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise http.client.HTTPException(f"status {response.status}")
        return time.perf_counter() - start, len(body)

    def cpu(self):
        try:
            return schedstat_seconds(self.process.pid)
        except OSError:
            return cpu_seconds(self.process.pid)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


def series_count(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    return sum(1 for line in text.splitlines() if line and line[0] != "#")


def measure(subjects, seconds, label, rows):
    """CPU in slices of 10 s, so that there is a spread; the scrapes of one second go to all subjects in turn."""
    cpu = {s.name: [] for s in subjects}
    scrape = {s.name: [] for s in subjects}
    size = {}
    slice_start = {s.name: (time.monotonic(), s.cpu()) for s in subjects}
    start = time.monotonic()
    for second in range(seconds):
        for s in subjects:
            took, size[s.name] = s.scrape()
            scrape[s.name].append(took)
        if (second + 1) % 10 == 0:
            for s in subjects:
                then, used = slice_start[s.name]
                now, total = time.monotonic(), s.cpu()
                cpu[s.name].append(100 * (total - used) / (now - then))
                slice_start[s.name] = (now, total)
        time.sleep(max(0, start + second + 1 - time.monotonic()))
    for s in subjects:
        rows.append({
            "case": label, "subject": s.name, "series": series_count(s.port),
            "cpu_percent": {"median": statistics.median(cpu[s.name]), "min": min(cpu[s.name]), "max": max(cpu[s.name])},
            "scrape_ms": {"median": 1e3 * statistics.median(scrape[s.name]), "min": 1e3 * min(scrape[s.name]),
                          "max": 1e3 * max(scrape[s.name])},
            "resident_mb": resident_bytes(s.process.pid) / 1e6, "body_bytes": size[s.name],
        })


def hold(connections):
    holders, left = [], connections
    while left:
        n = min(left, PER_HOLDER)
        holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(n), f"127.89.0.{len(holders) + 1}"], stdout=subprocess.PIPE)
        holder.stdout.readline()
        holders.append(holder)
        left -= n
    return holders


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--connections", type=int, default=10000)
    parser.add_argument("--json")
    args = parser.parse_args()
    ports = free_port(), free_port()
    subjects = [
        Scraped("netsonde agent", [f"{ROOT}/build/netsonde", "agent", f"--web.listen-address=127.0.0.1:{ports[0]}"], ports[0]),
        Scraped("node_exporter", ["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{ports[1]}"], ports[1]),
    ]
    rows, holders = [], []
    try:
        measure(subjects, args.seconds, "idle", rows)
        holders = hold(args.connections)
        measure(subjects, args.seconds, f"{args.connections} established connections", rows)
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()
        for s in subjects:
            s.stop()
    print(f"{'case':34} {'subject':16} {'series':>7} {'CPU % of a core':>26} {'scrape ms':>24} {'RSS MB':>7} {'body kB':>8}")
    for r in rows:
        c, t = r["cpu_percent"], r["scrape_ms"]
        print(f"{r['case']:34} {r['subject']:16} {r['series']:7} {c['median']:10.3f} ({c['min']:.3f}..{c['max']:.3f}) "
              f"{t['median']:10.2f} ({t['min']:.2f}..{t['max']:.2f}) {r['resident_mb']:7.1f} {r['body_bytes'] / 1e3:8.1f}")
    if args.json:
        json.dump({"bench": "agent_cost", "rows": rows}, open(args.json, "w"), indent=1)


if __name__ == "__main__":
    main()
