#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""CPU and memory for probing many targets once a second: the agent beside fping and blackbox_exporter.

All targets are addresses of one host behind a veth pair, answered by its kernel. CPU time is the scheduler's, of the process;
on a veth the way there, the far kernel's answer and the way back run in the sender's system call, so a part that is
the same for all is in every figure ("the packets alone" is what a program of 20 lines takes to send as many). Slices of 5 s
give the spread. The agent runs with everything that is on by default; its cost without targets is
shown too, to be subtracted. Its ticks are in, scrapes are not: 10,000 targets are some 700,000 series. blackbox_exporter is asked by four connections that stay open, which is cheaper than Prometheus.
"""
import argparse
import http.client
import os
import subprocess
import sys
import tempfile
import threading
import time

import measure

SLICE_S = 5
BLACKBOX_MODULE = "modules: {icmp: {prober: icmp, timeout: 2s, icmp: {preferred_ip_protocol: ip4}}}\n"

# Sends echo requests to so many addresses once a second, 8 at a time, and never looks at the answers.
SENDER = """
import socket, struct, sys, time
count = int(sys.argv[1])
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.setsockopt(255, 1, struct.pack("I", 0xffffffff))
packet = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + bytes(56)
words = sum(struct.unpack("!32H", packet))
words = (words & 0xffff) + (words >> 16)
packet = packet[:2] + struct.pack("!H", ~words & 0xffff) + packet[4:]
to = [(f"198.{18 + i // 62500}.{i // 250 % 250}.{1 + i % 250}", 0) for i in range(count)]
print("ready", flush=True)
next_ = time.monotonic()
while True:
    for i in range(0, count, 8):
        for address in to[i:i + 8]:
            s.sendto(packet, address)
        next_ += 8 / count
        time.sleep(max(0, next_ - time.monotonic()))
"""


def addresses(count):
    return [f"198.{18 + i // 62500}.{i // 250 % 250}.{1 + i % 250}" for i in range(count)]


def seconds_of(pid, seconds):
    """Shares of a core in slices of SLICE_S."""
    shares = []
    last, used = time.monotonic(), measure.cpu_seconds(pid)
    while len(shares) * SLICE_S < seconds:
        time.sleep(SLICE_S)
        now, total = time.monotonic(), measure.cpu_seconds(pid)
        shares.append(100 * (total - used) / (now - last))
        last, used = now, total
    return shares


def row_of(pid, tool, targets, shares, **more):
    maps = measure.map_bytes(pid)
    return {"tool": tool, "targets": targets, "cpu_percent": measure.spread(shares),
            "us_per_probe": measure.spread([1e4 * s / targets for s in shares]) if targets else None,
            "resident_mb": measure.resident_bytes(pid) / 1e6, "kernel_maps_mb": sum(maps.values()) / 1e6, **more}


def measure_agent(netsonde, programs, host, targets, seconds):
    lines = "".join(f"    - {{name: t{i}, address: {a}, passive: off}}\n" for i, a in enumerate(addresses(targets)))
    config = f"""
collect: {{series_budget: 2M}}
probe:
  max_targets: {targets}
  budget: {{packets: {max(1000, 2 * targets)}/s, bytes: 10MB/s}}
  adapt: off
  targets:
{lines}""" if targets else ""
    with measure.running_agent(netsonde, programs, host, config) as agent:
        time.sleep(4)
        before = agent.metrics()
        begin = time.monotonic()
        shares = seconds_of(agent.pid, seconds)
        after, took = agent.metrics(), time.monotonic() - begin

        def count(name):
            return after.sum(name) - before.sum(name)

        return row_of(agent.pid, "netsonde agent" if targets else "netsonde agent, no targets", targets, shares,
                      sent_per_second=count("netsonde_probe_sent_total") / took, lost=count("netsonde_probe_lost_total"))


def measure_fping(host, targets, seconds):
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("\n".join(addresses(targets)) + "\n")
        file.flush()
        process = host.popen(["fping", "-l", "-q", "-Q", "1000", "-p", "1000", "-i", f"{900 / targets:.3f}", "-f", file.name],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(4)
            return row_of(process.pid, "fping", targets, seconds_of(process.pid, seconds))
        finally:
            measure.stop(process)


def measure_sender(host, targets, seconds):
    process = host.popen([sys.executable, "-c", SENDER, str(targets)], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        return row_of(process.pid, "the packets alone", targets, seconds_of(process.pid, seconds))
    finally:
        measure.stop(process)


class Asker(threading.Thread):
    """Asks blackbox_exporter for its share of the targets, once a second each, over one connection."""

    def __init__(self, host, port, targets):
        super().__init__(daemon=True)
        self.host, self.port, self.targets, self.answers, self.ending = host, port, targets, 0, False

    def run(self):
        with self.host:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            connection.connect()
        begin, sent = time.monotonic(), 0
        while not self.ending:
            for target in self.targets:
                try:
                    connection.request("GET", f"/probe?module=icmp&target={target}")
                    self.answers += b"\nprobe_success 1" in connection.getresponse().read()
                except (OSError, http.client.HTTPException):
                    if not self.ending:
                        raise
                    return
                sent += 1
                time.sleep(max(0, begin + sent / len(self.targets) - time.monotonic()))
                if self.ending:
                    return


def measure_blackbox(host, targets, seconds):
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as config:
        config.write(BLACKBOX_MODULE)
        config.flush()
        port = measure.free_port()
        process = host.popen(["prometheus-blackbox-exporter", f"--config.file={config.name}",
                              f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        askers = []
        try:
            time.sleep(1)
            every = addresses(targets)
            askers = [Asker(host, port, every[i::4]) for i in range(4)]
            for asker in askers:
                asker.start()
            time.sleep(3)
            before, begin = sum(a.answers for a in askers), time.monotonic()
            shares = seconds_of(process.pid, seconds)
            rate = (sum(a.answers for a in askers) - before) / (time.monotonic() - begin)
            row = row_of(process.pid, "blackbox_exporter", targets, shares, sent_per_second=rate)
            row["us_per_probe"] = measure.spread([1e4 * s / rate for s in shares])  # it may not keep up
            return row
        finally:
            for asker in askers:
                asker.ending = True
            measure.stop(process)


def show(row):
    c, u = row["cpu_percent"], row["us_per_probe"]
    probe = f"{u['median']:7.2f} ({u['min']:.2f}..{u['max']:.2f})" if u else ""
    print(f"{row['tool']:27} {row['targets']:7} {row.get('sent_per_second', row['targets']):8.0f}"
          f" {c['median']:8.3f} ({c['min']:.3f}..{c['max']:.3f})".ljust(74) + f" {probe:26} {row['resident_mb']:7.1f} {row['kernel_maps_mb']:8.2f}"
          f" {row.get('lost', 0):6.0f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--netsonde", default=os.path.join(measure.ROOT, "build", "netsonde"))
    parser.add_argument("--seconds", type=int, default=20, help="of each row")
    parser.add_argument("--json")
    args = parser.parse_args()
    netlab, netsonde = measure.system_tests(args.netsonde)
    measure.own_namespace()
    lab, rows = netlab.Lab(), []
    print(f"{'':27} {'targets':>7} {'probes/s':>8} {'% of a core':>10} {'':16} {'us per probe':26} {'RSS MB':>7} {'maps MB':>8} {'lost':>6}")
    with tempfile.TemporaryDirectory(prefix="netsonde-bench-") as directory:
        os.chmod(directory, 0o755)
        programs = netsonde.Programs(directory)
        try:
            near, far = lab.host("near"), lab.host("far")
            _, far_end = lab.link(near, far)
            for net in ("198.18.0.0/16", "198.19.0.0/16"):
                far.run("ip", "route", "add", "local", net, "dev", "lo")
                near.run("ip", "route", "add", net, "via", far_end.v4)
            near.run("ping", "-c1", "-w5", "198.18.0.1")
            steps = [lambda: measure_agent(netsonde, programs, near, 0, args.seconds)]
            for targets in (1000, 10000):
                steps += [lambda t=targets: measure_agent(netsonde, programs, near, t, args.seconds),
                          lambda t=targets: measure_fping(near, t, args.seconds),
                          lambda t=targets: measure_blackbox(near, t, args.seconds),
                          lambda t=targets: measure_sender(near, t, args.seconds)]
            for step in steps:
                rows.append(step())
                show(rows[-1])
        finally:
            lab.close()
    measure.write_json(args.json, "probe_cost", rows)


if __name__ == "__main__":
    main()
