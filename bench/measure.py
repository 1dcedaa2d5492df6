# SPDX-License-Identifier: Apache-2.0
"""What the measuring programs in Python share: a network namespace, processes, connections, and figures from /proc."""
import contextlib
import ctypes
import importlib
import io
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000
MS_REC_PRIVATE = 0x4000 | 0x40000
PR_SET_PDEATHSIG = 1
PER_HOLDER = 9000  # a process gets 20,000 descriptors in some containers, and each connection has two ends

_libc = ctypes.CDLL(None, use_errno=True)

HOLDER = """
import resource, socket, struct, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
count, net, peers = map(int, sys.argv[1:])
listener = socket.create_server(("0.0.0.0", 0), backlog=4096)
port, ends = listener.getsockname()[1], []
for i in range(count):
    a = socket.create_connection((f"127.{net}.0.{1 + i % peers}", port))
    a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ends += [a, listener.accept()[0]]
listener.close()
print("ready", flush=True)
sys.stdin.read()
"""


def own_namespace():
    """A network namespace of our own with lo up. The machine's interfaces and ports are out of reach in there."""
    if os.geteuid():
        sys.exit("loading BPF programs needs root")
    if _libc.unshare(CLONE_NEWNET | CLONE_NEWNS) or _libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None):
        sys.exit(f"no network namespace of its own: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def system_tests(binary):
    """The modules of tests/system that make a network (netlab) and run the agent in it (netsonde)."""
    os.environ["NETSONDE_BINARY"] = os.path.abspath(binary)  # they look for it when they are imported
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    sys.path.insert(0, os.path.join(ROOT, "tests", "system"))
    netlab, netsonde = importlib.import_module("netlab"), importlib.import_module("netsonde")
    netsonde.READY_S = 60  # a machine under load is slow, not broken
    return netlab, netsonde


@contextlib.contextmanager
def running_agent(netsonde, programs, host, config, **options):
    """An agent in a host of tests/system; its log is shown when what is measured fails."""
    agent = netsonde.Agent(programs, host, config, **options)
    try:
        agent.wait_ready()
        yield agent
        agent.stop()
    except BaseException:
        sys.stderr.write(agent.program.err)
        raise
    finally:
        with contextlib.redirect_stdout(io.StringIO()):  # what it says there is for pytest
            programs.end()
        programs.running.clear()


def start(command, **options):
    """A process that does not outlive us."""
    return subprocess.Popen(command, preexec_fn=lambda: _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), **options)


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def hold(connections, peers):
    """Processes that hold established connections, both ends, to so many addresses (at most 250)."""
    holders = []
    while connections:
        count = min(connections, PER_HOLDER)
        # Another net for each, as the ports towards one address are few; together they still are `peers` addresses.
        share = max(1, peers * count // (connections + sum(h.count for h in holders)))
        holder = start([sys.executable, "-c", HOLDER, str(count), str(89 + len(holders)), str(share)],
                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        holder.count = count
        if holder.stdout.readline() != b"ready\n":
            sys.exit("cannot make the connections")
        holders.append(holder)
        connections -= count
    return holders


def cpu_seconds(pid):
    """On-CPU time of all threads, in ns resolution; /proc/PID/stat has 10 ms only."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def resident_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"^VmRSS:\s+(\d+) kB", file.read(), re.MULTILINE).group(1)) * 1024


def map_bytes(pid):
    """{BPF map id: bytes in the kernel} of the maps that a process holds: what bpftool calls memlock."""
    maps = {}
    for fd in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii", errors="replace") as file:
                fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        except OSError:
            continue
        if "map_id" in fields and "memlock" in fields:  # an iterator names its map too
            maps[int(fields["map_id"])] = int(fields["memlock"])
    return maps


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def write_json(path, name, rows):
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"bench": name, "rows": rows}, file, indent=1)
            file.write("\n")
