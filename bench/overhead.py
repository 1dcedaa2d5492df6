#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What an agent costs the traffic of its host: throughput and connections per second with and without one.

iperf3 over a veth pair between two network namespaces, and bench/connect_rate on loopback; both ends of each are on
this host, so a connection pays twice what it would between two hosts. Rounds with and without an agent alternate, and the
ratio is taken within each pair; the spread of pairs without an agent in either round says how much of it is noise.
First with the default configuration, then with what is off by default.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request

import measure

CASES = {
    "default": "",
    "dns and udp on": "collect: {dns: on, udp: on}",
    "rtt every_ack": "collect: {tcp: {rtt: every_ack}}",
}
ADDRESS = "192.0.2.1"


class Far:
    """A second network namespace at the other end of a veth pair."""

    def __init__(self):
        self.holder = measure.start(["unshare", "-n", "sleep", "infinity"])
        deadline = time.monotonic() + 5
        while os.readlink(f"/proc/{self.holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            if time.monotonic() > deadline:
                sys.exit("no second network namespace")
            time.sleep(0.01)
        inside = ["nsenter", "-n", "-t", str(self.holder.pid)]
        for command in (
                ["ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(self.holder.pid)],
                ["ip", "address", "add", "192.0.2.2/24", "dev", "near"], ["ip", "link", "set", "near", "up"],
                [*inside, "ip", "link", "set", "lo", "up"], [*inside, "ip", "address", "add", ADDRESS + "/24", "dev", "far"],
                [*inside, "ip", "link", "set", "far", "up"]):
            subprocess.run(command, check=True)
        self.inside = inside

    def throughput(self, seconds):
        server = measure.start([*self.inside, "iperf3", "-s", "-1", "-p", "5202"], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 5
        while True:
            done = subprocess.run(["iperf3", "-c", ADDRESS, "-p", "5202", "-t", str(seconds), "-O", "0.5", "-J"],
                                  capture_output=True, text=True, check=False)
            result = json.loads(done.stdout or "{}")
            if "error" not in result and done.returncode == 0:
                break
            if time.monotonic() > deadline + seconds:
                sys.exit(f"iperf3: {result.get('error')}")
            time.sleep(0.05)
        server.wait()
        return result["end"]["sum_received"]["bits_per_second"] / 1e9

    def end(self):
        measure.stop(self.holder)


def connections(program):
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run([program, "--json", file.name], check=True, stdout=subprocess.DEVNULL)
        with open(file.name, encoding="utf-8") as result:
            return json.load(result)["rows"][0]["median"]


class Agent:
    def __init__(self, binary, config):
        self.file = tempfile.NamedTemporaryFile("w", suffix=".yaml")
        self.file.write(config + "\n")
        self.file.flush()
        port = measure.free_port()
        self.process = measure.start([binary, "agent", "--config.file", self.file.name,
                                      f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self.ready(port):
            if time.monotonic() > deadline or self.process.poll() is not None:
                sys.exit("the agent does not start")
            time.sleep(0.05)

    @staticmethod
    def ready(port):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def end(self):
        measure.stop(self.process)
        self.file.close()


def pairs(measure_once, binary, config, rounds):
    """Ratios with an agent to without, in pairs whose order alternates; config None: without in both."""
    ratios, without = [], []
    for i in range(rounds):
        values = {}
        for with_agent in (True, False) if i % 2 else (False, True):
            agent = Agent(binary, config) if with_agent and config is not None else None
            values[with_agent] = measure_once()
            if agent:
                agent.end()
        ratios.append(values[True] / values[False])
        without.append(values[False])
    return ratios, without


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--netsonde", default=os.path.join(measure.ROOT, "build", "netsonde"))
    parser.add_argument("--rounds", type=int, default=8, help="pairs of each case")
    parser.add_argument("--seconds", type=float, default=2, help="of each iperf3 run")
    parser.add_argument("--json")
    args = parser.parse_args()
    program = os.path.join(os.path.dirname(args.netsonde), "bench", "connect_rate")
    measure.own_namespace()
    far, rows = Far(), []
    try:
        for what, unit, once in (("throughput", "Gbit/s", lambda: far.throughput(args.seconds)),
                                 ("connections", "per CPU second", lambda: connections(program))):
            for case, config in [("no agent in either (noise)", None), *CASES.items()]:
                ratios, without = pairs(once, args.netsonde, config, args.rounds)
                row = {"what": what, "case": case, "unit": unit, "without": measure.spread(without),
                       "ratio": measure.spread(ratios)}
                rows.append(row)
                w, r = row["without"], row["ratio"]
                print(f"{what:12} {case:28} without {w['median']:10.2f} ({w['min']:.2f}..{w['max']:.2f}) {unit:16}"
                      f" ratio {r['median']:.3f} ({r['min']:.3f}..{r['max']:.3f})", flush=True)
    finally:
        far.end()
    measure.write_json(args.json, "overhead", rows)


if __name__ == "__main__":
    main()
