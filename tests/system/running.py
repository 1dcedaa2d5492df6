# SPDX-License-Identifier: Apache-2.0
"""A `netsonde run` under test: its processes, its page, its API."""
import json
import os
import time
import urllib.parse

import netsonde
from netlab import wait_for
from netsonde import PATIENCE, KernelObjects

# The defaults: every port is free in a network namespace of the test's own.
AGENT, SERVER = ("127.0.0.1", 9435), ("127.0.0.1", 9436)


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def descendants(pid):
    found = []
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        for child in file.read().split():
            found += [int(child), *descendants(int(child))]
    return found


def listens(pid, port):
    """Whether a process holds the listening socket of a port (in the network namespace of that process)."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{pid}/net/{table}", encoding="ascii") as file:
            for line in file:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    folder = f"/proc/{pid}/fd"
    return any(os.readlink(os.path.join(folder, fd)) in inodes for fd in os.listdir(folder))


class Run:
    """A `netsonde run`, its two working processes and what they hold in the kernel."""

    def __init__(self, programs, host, *arguments):
        self.host = host
        self.started = time.monotonic()
        self.program = programs.start(host, [netsonde.BINARY, "run", *arguments], "run")
        # The address is printed when there is something to see.
        wait_for(lambda: self._running() and f"http://{SERVER[0]}:{SERVER[1]}/" in self.program.out, netsonde.READY_S,
                 "the dashboard's address")
        assert self.page_is_there()
        self.pids = [self.program.pid, *descendants(self.program.pid)]
        (self.agent_pid,) = [pid for pid in self.pids if listens(pid, AGENT[1])]
        (self.server_pid,) = [pid for pid in self.pids if listens(pid, SERVER[1])]
        self.kernel_objects = KernelObjects.held_by(self.agent_pid)

    def _running(self):
        assert self.program.process.poll() is None, self.program.out + self.program.err
        return True

    def page_is_there(self):
        status, headers, body = netsonde.get(self.host, SERVER, "/")
        return status == 200 and headers["Content-Type"].startswith("text/html") and b"<html" in body.lower()

    def query(self, text):
        status, _, body = netsonde.get(self.host, SERVER, "/api/v1/query?" + urllib.parse.urlencode({"query": text}))
        assert status == 200, body
        return json.loads(body)["data"]["result"]

    def has(self, text):
        """Whether a query for one number has one that is not zero."""
        rows = self.query(text)
        return bool(rows) and float(rows[0]["value"][1]) > 0

    def assert_nothing_left(self):
        for pid in self.pids:
            wait_for(lambda p=pid: not os.path.exists(f"/proc/{p}") or status_of(p)["State"].startswith("Z"),
                     5 * PATIENCE, f"process {pid} gone")
        KernelObjects.wait_gone(self.kernel_objects)
