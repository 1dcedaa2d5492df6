# SPDX-License-Identifier: Apache-2.0
"""A network for tests: hosts are network namespaces, links are veth pairs with addresses of both families.

A host is an open file descriptor of its namespace and nothing else: no name, no holder process, no mount. Whatever ends
the test program, even kill -9, also ends its hosts, their links and their rules. `with host:` makes the calling thread
a member of the host, so that sockets opened and programs started inside belong to it; a socket stays where it was made.

The machine's own interfaces are never touched: pytest itself moves into fresh network and mount namespaces first
(enter_private_namespaces, from conftest.py), and every link is between two namespaces made here.

Addresses are random: 10.x.y.0/24 and fd..::/64 per link, so that an agent that sees all namespaces of the machine cannot
mistake somebody else's traffic for the test's.
"""
import ctypes
import ipaddress
import os
import random
import subprocess
import time

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


class End:
    """One end of a link: a device of a host, its addresses, and the prefixes of the link."""

    def __init__(self, host, device, network4, network6, number):
        self.host = host
        self.device = device
        self.network4, self.network6 = network4, network6
        self.v4, self.v6 = str(network4[number]), str(network6[number])

    def address(self, family):
        return self.v4 if family == 4 else self.v6


class Lab:
    """The hosts and links of one test."""

    def __init__(self):
        self._random = random.SystemRandom()
        self.hosts = []
        self._networks = set()

    def host(self, name):
        host = Host(name)
        self.hosts.append(host)
        return host

    def _network4(self):
        while True:
            network = ipaddress.ip_network(f"10.{self._random.randrange(256)}.{self._random.randrange(256)}.0/24")
            if network not in self._networks:
                self._networks.add(network)
                return network

    def link(self, one, two):
        """A veth pair between two hosts. Returns its two ends."""
        network4 = self._network4()
        network6 = ipaddress.ip_network((0xfd << 120 | self._random.getrandbits(56) << 64, 64))
        names = [f"{host.name[:6]}{self._random.getrandbits(24):06x}" for host in (one, two)]
        one.run("ip", "link", "add", names[0], "type", "veth", "peer", "name", names[1], "netns", two.path)
        ends = []
        for number, (host, device) in enumerate(zip((one, two), names), 1):
            end = End(host, device, network4, network6, number)
            host.run("ip", "address", "add", f"{end.v4}/24", "dev", device)
            host.run("ip", "address", "add", f"{end.v6}/64", "dev", device, "nodad")
            host.run("ip", "link", "set", device, "up")
            ends.append(end)
        for end in ends:
            wait_for(lambda e=end: "LOWER_UP" in e.host.run("ip", "link", "show", e.device), 5, "link up")
        return ends

    def close(self):
        for host in self.hosts:
            host.close()
