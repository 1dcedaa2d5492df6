#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The agent's CPU under a steady rate of connections, and its memory with many sockets.

Rate: another process makes so many connections per second (bench/paced.c; both ends are on this host, so the agent
follows two sockets for each). The agent has its default configuration and is asked for its metrics once per tick, as a
server does. Its CPU time comes from the scheduler, in slices of 5 s; the time of each tick is the difference that it
makes in the agent's own histogram of them.

Memory: other processes hold connections to 100 peers. The agent's memory is its resident size, its maps, and its records
of sockets: the kernel memory that its memory cgroup is charged more with all sockets there than before. The sockets
themselves, and the records of other agents, are charged to others; but so is the half of a record that all programs with
records on one socket share, when another was there first. So it says when there are such. "others" are the sockets on the
machine before, which it follows too.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import measure

RATES = (0, 1000, 10000)
SLICE_S = 5
PEERS = 100
TICK, LOST = "netsonde_tick_duration_seconds", "netsonde_lost_events_total"
TICKS = 12  # looked at when all sockets are there


class Ticks:
    """The duration of every tick, from a scrape per tick."""

    def __init__(self, agent):
        self.agent, self.times, self.metrics = agent, [], agent.metrics()

    def look(self):
        before, self.metrics = self.metrics, self.agent.metrics()
        count, seconds = (self.metrics.sum(TICK + end) - before.sum(TICK + end) for end in ("_count", "_sum"))
        self.times += [1e3 * seconds / max(1, count)] * int(count)  # one; more when a scrape came late


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def measure_rate(agent, paced, rate, seconds):
    """A row: the agent's share of a core and its ticks while connections come at a rate."""
    load = measure.start([paced, str(rate), str(seconds + 4)], stdout=subprocess.PIPE) if rate else None
    time.sleep(2)  # the load and the agent's view of it are steady
    ticks, shares = Ticks(agent), []
    begin = last = time.monotonic()
    used = measure.cpu_seconds(agent.pid)
    lost = ticks.metrics.sum(LOST, source="tcp_socket")
    counted = ticks.metrics.sum("netsonde_tcp_connections_total", role="client", outcome="established")
    for second in range(1, seconds + 1):
        time.sleep(max(0, begin + second - time.monotonic()))
        ticks.look()
        if second % SLICE_S == 0:
            now, total = time.monotonic(), measure.cpu_seconds(agent.pid)
            shares.append(100 * (total - used) / (now - last))
            last, used = now, total
    counted = ticks.metrics.sum("netsonde_tcp_connections_total", role="client", outcome="established") - counted
    row = {"rate": rate, "cpu_percent": measure.spread(shares), "counted_per_second": counted / (last - begin),
           "tick_ms": {**measure.spread(ticks.times), "p99": quantile(ticks.times, 0.99)},
           "tick_interval_s": ticks.metrics.sum("netsonde_tick_interval_seconds"),
           "lost": ticks.metrics.sum(LOST, source="tcp_socket") - lost,
           "resident_mb": measure.resident_bytes(agent.pid) / 1e6}
    if load:
        made, share = load.communicate(timeout=60)[0].split()
        row.update(made_per_second=float(made), load_cpu_percent=100 * float(share))
    return row


def show_rate(row):
    c, t = row["cpu_percent"], row["tick_ms"]
    print(f"{row['rate']:6} {row.get('made_per_second', 0):8.0f} {row['counted_per_second']:8.0f}"
          f" {c['median']:8.2f} ({c['min']:.2f}..{c['max']:.2f})".ljust(51)
          + f" {t['median']:7.2f} {t['p99']:7.2f} {t['max']:7.2f} {row['lost']:6.0f} {row['resident_mb']:7.1f}"
          f" {row.get('load_cpu_percent', 0):8.0f}", flush=True)


def rates(netlab, netsonde, programs, paced, seconds):
    lab, rows = netlab.Lab(), []
    print(f"{'':24} {'agent, % of a core':26} {'tick, ms':23}\n{'rate/s':>6} {'made/s':>8} {'counted':>8}"
          f" {'median':>8} (min..max)           {'p50':>7} {'p99':>7} {'max':>7} {'lost':>6} {'RSS MB':>7} {'load, %':>8}")
    try:
        with measure.running_agent(netsonde, programs, lab.host("watcher"), "") as agent:
            for rate in RATES:
                rows.append(measure_rate(agent, paced, rate, seconds))
                show_rate(rows[-1])
    finally:
        lab.close()
    return rows


class MemoryCgroup:
    """A memory cgroup of our own, version 2 or 1, for a program that a wrapper moves into it."""

    def __init__(self):
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            mounts = [(fields[4], fields[fields.index("-") + 1], fields[-1]) for fields in map(str.split, file)]
        first = [point for point, kind, options in mounts if kind == "cgroup" and "memory" in options.split(",")]
        second = [point for point, kind, _ in mounts if kind == "cgroup2" and self._controls(point)]
        if not first + second:
            sys.exit("there is no memory cgroup here, which tells the agent's memory in the kernel from others'")
        self.second = bool(second)
        self.path = os.path.join((second or first)[0], f"netsonde-bench-{os.getpid()}")
        os.mkdir(self.path)
        self.wrapper = ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', self.path]

    @staticmethod
    def _controls(point):
        with open(os.path.join(point, "cgroup.subtree_control"), encoding="ascii") as file:
            return "memory" in file.read().split()

    def kernel_bytes(self):
        with open(os.path.join(self.path, "memory.stat" if self.second else "memory.kmem.usage_in_bytes"),
                  encoding="ascii") as file:
            text = file.read()
        return int(re.search(r"^kernel (\d+)$", text, re.MULTILINE).group(1) if self.second else text)

    def close(self):
        os.rmdir(self.path)


def look_at(agent):
    """What the agent says about itself, over some whole ticks with all sockets there and then at their end."""
    agent.settle(1)
    ticks = Ticks(agent)
    while len(ticks.times) < TICKS:
        time.sleep(0.2)
        ticks.look()
    maps = measure.map_bytes(agent.pid)
    return {"resident_mb": measure.resident_bytes(agent.pid) / 1e6, "maps_mb": sum(maps.values()) / 1e6,
            "followed": ticks.metrics.sum("netsonde_map_entries", map="tcp_sockets"),
            "room": ticks.metrics.sum("netsonde_map_max_entries", map="tcp_sockets"),
            "lost": ticks.metrics.sum(LOST, source="tcp_socket"),
            "tick_ms": measure.spread(ticks.times),
            "tick_interval_s": ticks.metrics.sum("netsonde_tick_interval_seconds")}


def foreign_stores():
    """How many maps with records on sockets there are on this machine."""
    done = subprocess.run(["bpftool", "-j", "map", "show"], capture_output=True, text=True, check=True)
    return sum(1 for entry in json.loads(done.stdout or "[]") if entry.get("type") == "sk_storage")


def measure_memory(netsonde, programs, host, sockets, budget):
    cgroup, holders, foreign = MemoryCgroup(), [], foreign_stores()
    try:
        with measure.running_agent(netsonde, programs, host, f"collect: {{memory_budget: {budget}M}}\n",
                                   wrapper=cgroup.wrapper) as agent:
            metrics = agent.settle(2)
            others, lost = metrics.sum("netsonde_map_entries", map="tcp_sockets"), metrics.sum(LOST, source="tcp_socket")
            before = cgroup.kernel_bytes()
            holders = measure.hold(sockets // 2, PEERS)
            seen = look_at(agent)
            records = (cgroup.kernel_bytes() - before) / 1e6
            seen["lost"] -= lost
            foreign = max(foreign, foreign_stores() - 1)
    finally:
        for holder in holders:
            measure.stop(holder)
        cgroup.close()
    return {"sockets": sockets, "others": others, "budget_mb": budget * 1048576 / 1e6, **seen, "records_mb": records, "foreign_stores": foreign,
            "sum_mb": seen["resident_mb"] + seen["maps_mb"] + records}


def memory(netlab, netsonde, programs, counts, budgets):
    rows, lab = [], netlab.Lab()
    print(f"\n{'sockets':>8} {'others':>7} {'budget':>7} {'room':>8} {'followed':>9} {'lost':>7} {'RSS MB':>7} {'maps MB':>8}"
          f" {'records MB':>11} {'sum MB':>7} {'bytes/record':>13}  tick, ms")
    try:
        for sockets in counts:
            for budget in budgets:
                rows.append(measure_memory(netsonde, programs, lab.host("watcher"), sockets, budget))
                show_memory(rows[-1])
    finally:
        lab.close()
    return rows


def show_memory(row):
    t = row["tick_ms"]
    print(f"{row['sockets']:8} {row['others']:7.0f} {row['budget_mb']:7.1f} {row['room']:8.0f} {row['followed']:9.0f} {row['lost']:7.0f} {row['resident_mb']:7.1f}"
          f" {row['maps_mb']:8.2f} {row['records_mb']:11.2f} {row['sum_mb']:7.1f}"
          f" {1e6 * row['records_mb'] / max(1, row['followed'] - row['others']):13.0f}"
          f"  {t['median']:.1f} ({t['min']:.1f}..{t['max']:.1f})"
          + ("  other programs had records on sockets" if row["foreign_stores"] else ""), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--netsonde", default=os.path.join(measure.ROOT, "build", "netsonde"))
    parser.add_argument("--seconds", type=int, default=60, help=f"of each rate, in slices of {SLICE_S}")
    parser.add_argument("--sockets", type=int, nargs="+", default=[100000, 200000])
    parser.add_argument("--budgets", type=int, nargs="+", default=[64, 256], help="memory_budget, MiB")
    parser.add_argument("--json")
    args = parser.parse_args()
    if args.seconds < SLICE_S:
        parser.error(f"--seconds must be at least {SLICE_S}")
    measure.own_namespace()
    netlab, netsonde = measure.system_tests(args.netsonde)
    paced = os.path.join(os.path.dirname(os.path.abspath(args.netsonde)), "bench", "paced")
    with tempfile.TemporaryDirectory() as directory:
        programs = netsonde.Programs(directory)
        rows = rates(netlab, netsonde, programs, paced, args.seconds)
        rows += memory(netlab, netsonde, programs, args.sockets, args.budgets)
    measure.write_json(args.json, "scale", rows)


if __name__ == "__main__":
    main()
