# SPDX-License-Identifier: Apache-2.0
"""A network for tests: hosts are network namespaces, links are veth pairs with addresses of both families.

A host is an open file descriptor of its namespace and nothing else: no name, no holder process, no mount. Whatever ends
the test program, even kill -9, also ends its hosts, their links and their rules. `with host:` makes the calling thread
a member of the host, so that sockets opened and programs started inside belong to it; a socket stays where it was made.

The machine's own interfaces are never touched: pytest itself moves into fresh network and mount namespaces first
(enter_private_namespaces, from conftest.py), and every link is between two namespaces made here.

Addresses are random: 10.x.y.0/24 and fd..::/64 per link, so that an agent that sees all namespaces of the machine cannot
mistake somebody else's traffic for the test's.

A link may go through a relay (lab/README.md), which delays, loses, duplicates, reorders and paces packets as told and
knows exactly what it did to which.
"""
import csv
import ctypes
import fcntl
import ipaddress
import json
import os
import random
import select
import socket
import struct
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RELAY = os.path.join(os.path.dirname(os.environ.get("NETSONDE_BINARY", os.path.join(ROOT, "build", "netsonde"))),
                     "lab", "lab-relay")
SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17

CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000
MS_REC_PRIVATE = 0x4000 | 0x40000
PR_SET_PDEATHSIG = 1
SIGKILL = 9

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def enter_private_namespaces():
    _check(_libc.unshare(CLONE_NEWNET | CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None), "mount --make-rprivate /")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def die_with_parent():
    """For preexec_fn: a program started by a test does not outlive it."""
    _libc.prctl(PR_SET_PDEATHSIG, SIGKILL)


def wait_for(condition, seconds, what):
    """The first true value of condition(), asked every 20 ms; AssertionError with its last value after the deadline.

    what: a sentence, or a function that makes one when it is needed.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s still not: {what() if callable(what) else what}; last: {value!r}")
        time.sleep(0.02)


class Host:
    """One network namespace, with its loopback up."""

    def __init__(self, name):
        self.name = name
        self._outside = []
        with open("/proc/thread-self/ns/net", "rb") as here:
            _check(_libc.unshare(CLONE_NEWNET), "unshare")
            try:
                self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                _check(_libc.setns(here.fileno(), CLONE_NEWNET), "setns")
        self.run("ip", "link", "set", "lo", "up")

    @property
    def path(self):
        """Where other programs find the namespace."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def __enter__(self):
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _check(_libc.setns(self.fd, CLONE_NEWNET), "setns")
        self._outside.append(outside)
        return self

    def __exit__(self, *_):
        outside = self._outside.pop()
        try:
            _check(_libc.setns(outside, CLONE_NEWNET), "setns")
        finally:
            os.close(outside)

    def run(self, *command, **options):
        with self:
            result = subprocess.run(command, check=False, capture_output=True, text=True, **options)
        assert result.returncode == 0, f"{self.name}: {' '.join(command)}: {result.stderr}{result.stdout}"
        return result.stdout

    def popen(self, command, **options):
        with self:
            return subprocess.Popen(command, preexec_fn=die_with_parent, process_group=0, **options)

    def finish_packets(self, device):
        """Packets leave the device complete: with their checksums, and (no TSO without) not longer than its MTU."""
        off = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_STXCSUM, 0))
        request = struct.pack("16sP16x", device.encode(), ctypes.addressof(off))
        with self, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, SIOCETHTOOL, request)

    def sysctl(self, name, value):
        with self, open("/proc/sys/" + name.replace(".", "/"), "w", encoding="ascii") as file:
            file.write(str(value))

    def nft(self, rules):
        """Replaces the host's rules: `rules` is the body of one table of family inet."""
        self.run("nft", "-f", "-", input=f"flush ruleset\ntable inet lab {{\n{rules}\n}}\n")

    def counters(self, protocol):
        """The kernel's own counters of the namespace, e.g. counters("Tcp")["RetransSegs"]."""
        with self, open("/proc/thread-self/net/snmp", encoding="ascii") as file:
            names, values = [line.split()[1:] for line in file if line.startswith(protocol + ":")]
        return dict(zip(names, map(int, values)))

    def close(self):
        os.close(self.fd)


class Router(Host):
    """A host that forwards. Hosts linked to it reach everything else through it; a link between two routers needs
    routes of its own (`router.run("ip", "route", "add", ...)`)."""

    def __init__(self, name):
        super().__init__(name)
        self.sysctl("net.ipv4.ip_forward", 1)
        self.sysctl("net.ipv6.conf.all.forwarding", 1)


class End:
    """One end of a link: a device of a host, its addresses, and the prefixes of the link."""

    def __init__(self, host, device, network4, network6, number):
        self.host = host
        self.device = device
        self.relay = None
        self.network4, self.network6 = network4, network6
        self.v4, self.v6 = str(network4[number]), str(network6[number])

    def address(self, family):
        return self.v4 if family == 4 else self.v6


class Wire:
    """A packet socket at a host's device: whole frames in and out as they are on the wire, VLAN tags included.

    What is sent here leaves by the device without passing its host's stack; what is received was seen before the stack
    (and after XDP). `directions`: of the frames to receive, see packet(7).
    """

    HOST, ENTERING, OUTGOING = 0, (0, 1, 2), 4  # entering: to the host, to all, to many
    ETH_P_ALL, SOL_PACKET, PACKET_AUXDATA = 3, 263, 8
    TP_STATUS_VLAN_VALID = 1 << 4

    def __init__(self, host, device, directions=(HOST,), keep=lambda frame: True):
        self.directions, self.keep = directions, keep
        with host:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # no frames before it is bound
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        self.socket.setsockopt(self.SOL_PACKET, self.PACKET_AUXDATA, 1)
        with host:
            self.socket.bind((device, self.ETH_P_ALL))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, frame):
        assert self.socket.send(frame) == len(frame)

    def receive(self, seconds=5):
        """The next frame, or None when there is none in time."""
        deadline = time.monotonic() + seconds
        while select.select([self.socket], [], [], max(0, deadline - time.monotonic()))[0]:
            frame, ancillary, _, (_, _, direction, *_) = self.socket.recvmsg(65536, 128)
            for level, kind, value in ancillary:
                if (level, kind) == (self.SOL_PACKET, self.PACKET_AUXDATA):
                    status, _, _, _, _, tci, protocol = struct.unpack("IIIHHHH", value[:20])
                    if status & self.TP_STATUS_VLAN_VALID:  # the kernel has taken the tag out
                        frame = frame[:12] + struct.pack("!HH", protocol, tci) + frame[12:]
            if direction in self.directions and self.keep(frame):
                return frame
        return None

    def drain(self):
        """All frames that are there by now."""
        return list(iter(lambda: self.receive(0), None))


class Relay:
    """The process in the middle of a link, in a network namespace of its own. Direction a->b is away from the link's
    first host. Settings are those of `lab-relay --help`, as keywords: loss="1%", delay="20ms", rate="10Mbit"."""

    ANSWER_S = 10

    def __init__(self, host, devices, both, a_to_b, b_to_a, seed=1, memory=256, realtime=False, spin="0s"):
        self.log = os.memfd_create("relay-log", 0)  # read by packets(); gone with the test
        command = [RELAY, *devices, f"--seed={seed}", f"--memory={memory}", f"--spin={spin}",
                   f"--log=/proc/self/fd/{self.log}"]
        command += [f"--{name}={self._words(settings)}" for name, settings in
                    (("both", both), ("a-to-b", a_to_b), ("b-to-a", b_to_a)) if settings]
        if realtime:
            command.append("--realtime")
        self.process = host.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  pass_fds=(self.log,))
        self._lines = b""
        self.result = None
        assert self._answer() == "ready"

    @staticmethod
    def _words(settings):
        return " ".join(f"{key}={value}" for key, value in settings.items())

    def _answer(self):
        deadline = time.monotonic() + self.ANSWER_S
        while b"\n" not in self._lines:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                self.process.kill()
                raise AssertionError(f"the relay does not answer: {self.process.communicate()[1].decode()}")
            self._lines += chunk
        line, _, self._lines = self._lines.partition(b"\n")
        return line.decode()

    def ask(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return self._answer()

    def set(self, direction="both", **settings):
        """Changes settings ("a->b", "b->a" or "both"); packets that already wait keep their times."""
        answer = self.ask(f"{direction} {self._words(settings)}")
        assert answer == "ok", answer

    def counts(self):
        """{"a->b": {"in": ..., "out": ..., "lost": ..., ...}, "b->a": {...}}, of now. Keys: lab/README.md."""
        return json.loads(self.ask("counts"))

    def settle(self, seconds=10):
        """Waits until no packet is inside the relay; returns the counts."""
        def empty():
            counts = self.counts()
            return counts if not any(direction["queued"] for direction in counts.values()) else None
        return wait_for(empty, seconds, "the relay empty")

    def packets(self):
        """The log: a dict per packet or copy with the columns of lab/README.md, numbers as int."""
        if self.result is None:
            self.counts()  # writes what is buffered
        with open(os.dup(self.log), encoding="ascii") as file:
            file.seek(0)
            # The relay may be in the middle of a line.
            rows = list(csv.DictReader(file.read().rpartition("\n")[0].splitlines()))
        for row in rows:
            for key in ("number", "copy", "length", "in_ns", "due_ns", "out_ns", "protocol"):
                row[key] = int(row[key])
        return rows

    def end(self):
        """Ends the relay; its last counts."""
        if self.result is None:
            self.process.stdin.close()
            self.result = json.loads(self._answer())
            status = self.process.wait(self.ANSWER_S)
            errors = self.process.stderr.read().decode()
            self.process.stdout.close()
            self.process.stderr.close()
            assert status == 0, errors
            print(f"---- relay: {self.result}")  # shown by pytest when the test failed
        return self.result

    def close(self):
        try:
            self.end()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            os.close(self.log)


class Lab:
    """The hosts and links of one test."""

    def __init__(self):
        self._random = random.SystemRandom()
        self.hosts = []
        self.relays = []
        self._networks = set()

    def host(self, name, kind=Host):
        host = kind(name)
        self.hosts.append(host)
        return host

    def router(self, name):
        return self.host(name, Router)

    def _network4(self):
        while True:
            network = ipaddress.ip_network(f"10.{self._random.randrange(256)}.{self._random.randrange(256)}.0/24")
            if network not in self._networks:
                self._networks.add(network)
                return network

    def _pair(self, one, two):
        """A veth pair between two hosts; the names of its devices."""
        names = [f"{host.name[:6]}{self._random.getrandbits(24):06x}" for host in (one, two)]
        one.run("ip", "link", "add", names[0], "type", "veth", "peer", "name", names[1], "netns", two.path)
        return names

    def _relayed_pairs(self, one, two, both, a_to_b, b_to_a, options):
        """Each host's pair ends at a relay between them; the names of the hosts' devices, and the relay."""
        between = self.host("relay")
        for scope in ("all", "default"):
            between.sysctl(f"net.ipv6.conf.{scope}.disable_ipv6", 1)
        pairs = [self._pair(host, between) for host in (one, two)]
        for host, (device, _) in zip((one, two), pairs):
            host.finish_packets(device)
        relay = Relay(between, [inner for _, inner in pairs], both, a_to_b, b_to_a, **options)
        self.relays.append(relay)
        return [device for device, _ in pairs], relay

    def link(self, one, two, a_to_b=None, b_to_a=None, relay=None, **both):
        """A link between two hosts. Returns its two ends.

        A plain veth pair, unless there are settings for a relay: keywords for both directions (delay="20ms",
        loss="1%", jitter, rate, queue, duplicate, reorder, hold), a_to_b and b_to_a dicts of the same for one, and
        relay, a dict of options (seed, memory, realtime, spin), which may be empty. Both ends then have the Relay as
        `.relay`.
        """
        network4 = self._network4()
        network6 = ipaddress.ip_network((0xfd << 120 | self._random.getrandbits(56) << 64, 64))
        middle = None
        if both or a_to_b or b_to_a or relay is not None:
            names, middle = self._relayed_pairs(one, two, both, a_to_b, b_to_a, relay or {})
        else:
            names = self._pair(one, two)
        ends = []
        for number, (host, device) in enumerate(zip((one, two), names), 1):
            end = End(host, device, network4, network6, number)
            end.relay = middle
            host.run("ip", "address", "add", f"{end.v4}/24", "dev", device)
            host.run("ip", "address", "add", f"{end.v6}/64", "dev", device, "nodad")
            host.run("ip", "link", "set", device, "up")
            ends.append(end)
        for end in ends:
            wait_for(lambda e=end: "LOWER_UP" in e.host.run("ip", "link", "show", e.device), 5, "link up")
        for end, other in (ends, ends[::-1]):
            if isinstance(other.host, Router) and not isinstance(end.host, Router):
                # The first router has the smallest metric and is used.
                metric = str(100 + len(end.host.run("ip", "route", "show", "default").splitlines()))
                for address in (other.v4, other.v6):
                    end.host.run("ip", "route", "add", "default", "via", address, "dev", end.device, "metric", metric)
        return ends

    def close(self):
        try:
            for relay in self.relays:
                relay.close()
        finally:
            for host in self.hosts:
                host.close()
