# SPDX-License-Identifier: Apache-2.0
"""The lab's own link: what it says it did to packets is what the hosts at its ends saw.

A datagram's number is told by its length, which both the receiver and the relay's log know.
"""
import random
import re
import socket
import statistics
import struct
import subprocess
import threading
import time

import pytest

import netlab
from netlab import wait_for
from traffic import FAMILIES

SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
SOL_PACKET, PACKET_AUXDATA, TP_STATUS_VLAN_VALID, ETH_P_ALL = 263, 8, 1 << 4, 3
UDP_OVERHEAD = {4: 42, 6: 62}  # Ethernet, IP and UDP headers
FATES = {"sent": "out", "lost": "lost", "queue": "queue_dropped", "memory": "memory_dropped", "failed": "send_failed"}


def check_books(relay):
    """Every packet is accounted for, and the log has the same packets as the counters. Returns the counters."""
    def undisturbed():
        counts, packets = relay.settle(), relay.packets()
        return (counts, packets) if relay.counts() == counts else None

    counts, packets = wait_for(undisturbed, 10, "nothing passes between counting and reading the log")
    for direction, count in counts.items():
        assert count["in"] + count["duplicated"] == sum(count[key] for key in FATES.values()), (direction, count)
        assert not count["overrun"] and not count["unfinished"] and not count["send_failed"], (direction, count)
        mine = [packet for packet in packets if packet["direction"] == direction]
        for fate, key in FATES.items():
            assert sum(packet["fate"] == fate for packet in mine) == count[key], (direction, fate)
        sent = [packet for packet in mine if packet["fate"] == "sent"]
        assert sum(packet["length"] for packet in sent) == count["out_bytes"]
        assert all(packet["in_ns"] <= packet["due_ns"] <= packet["out_ns"] for packet in sent)
        assert late_comers(packet["number"] for packet in sent) == count["reordered"]
    return counts


def late_comers(numbers):
    """How many come after one with a higher number: reordered as RFC 4737 has it."""
    highest = late = 0
    for number in numbers:
        late += number < highest
        highest = max(highest, number)
    return late


class Datagrams:
    """UDP from one end to the other; datagram n is n bytes long. What arrives is kept in its order."""

    def __init__(self, one, two, family=4):
        self.overhead = UDP_OVERHEAD[family]
        with two.host:
            self.receiver = socket.socket(FAMILIES[family], socket.SOCK_DGRAM)
        self.receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
        self.receiver.bind((two.address(family), 0))
        self.receiver.settimeout(10)
        with one.host:
            self.sender = socket.socket(FAMILIES[family], socket.SOCK_DGRAM)
        self.sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 24)
        self.sender.connect(self.receiver.getsockname()[:2])
        # The neighbours are known afterwards: a datagram that had to wait for that could be dropped by the sender.
        self.send(1400)
        assert len(self.receiver.recv(2048)) == 1400
        self.received = 1
        self.relay = one.relay

    def send(self, number):
        self.sender.send(b"n" * number)

    def receive(self):
        """All that has come through, once the relay has nothing left and the host has what the relay sent."""
        self.relay.settle()
        self.receiver.setblocking(False)
        numbers, expected = [], len(self.logged("sent")) - self.received
        deadline = time.monotonic() + 10
        while len(numbers) < expected and time.monotonic() < deadline:
            self._drain(numbers)
        self._drain(numbers)
        self.received += len(numbers)
        return numbers

    def _drain(self, numbers):
        try:
            while True:
                numbers.append(len(self.receiver.recv(2048)))
        except BlockingIOError:
            time.sleep(0.002)

    def logged(self, fate):
        return [packet["length"] - self.overhead for packet in self.relay.packets()
                if packet["direction"] == "a->b" and packet["protocol"] == 17 and packet["fate"] == fate]


def link(lab, **settings):
    return lab.link(lab.host("a"), lab.host("b"), **settings)


def test_delay(lab):
    """ping's round trips against the time its packets spent in the relay, one by one."""
    one, two = link(lab, delay="20ms", b_to_a={"delay": "10ms"})
    for family in (4, 6):
        one.host.run("ping", "-c1", two.address(family))  # the neighbours know each other
        out = one.host.run("ping", "-c10", "-i0.03", "-e4242", two.address(family))
        measured = {int(n): float(ms) * 1e6 for n, ms in re.findall(r"icmp_seq=(\d+) .*time=([\d.]+) ms", out)}
        assert len(measured) == 10
        truth = dict.fromkeys(measured, 0)
        check_books(one.relay)
        for packet in one.relay.packets():
            head = packet["head"]
            # Identifier 4242, and of this family; the head is type, code, checksum, identifier, number.
            if packet["protocol"] == {4: 1, 6: 58}[family] and head[8:12] == f"{4242:04x}":
                truth[int(head[12:16], 16)] += packet["out_ns"] - packet["in_ns"]
        assert all(ns >= 30e6 for ns in truth.values()), truth
        # What is not in the relay is in the two hosts. A busy machine can delay some of the packets there.
        outside = [measured[n] - truth[n] for n in measured]
        assert min(outside) > -100e3, "the answer was faster than the link"  # ping prints tenths of a ms, cut off
        assert statistics.median(outside) < 2e6, (measured, truth)
    counts = one.relay.counts()
    assert counts["a->b"]["residence_ns"]["min"] >= 20e6 and counts["b->a"]["residence_ns"]["min"] >= 10e6
    assert counts["b->a"]["residence_ns"]["min"] < 20e6


def test_loss(lab):
    one, two = link(lab, relay={"seed": 3})
    flow = Datagrams(one, two)
    one.relay.set("a->b", loss="10%")
    for number in range(1, 1001):
        flow.send(number)
    first, counts = flow.receive(), check_books(one.relay)
    lost = set(flow.logged("lost"))
    assert first == [n for n in range(1, 1001) if n not in lost]
    assert 50 < len(lost) < 150  # five standard deviations: 47
    assert counts["b->a"]["lost"] == 0 and counts["a->b"]["reordered"] == 0

    one.relay.set("a->b", loss="1/4")
    for number in range(1, 401):
        flow.send(number)
    received, later = flow.receive(), check_books(one.relay)
    # Whatever else the hosts say to each other meanwhile counts too, so it need not be every fourth datagram.
    assert later["a->b"]["lost"] - counts["a->b"]["lost"] == (later["a->b"]["in"] - counts["a->b"]["in"]) // 4 >= 100
    assert len(received) == 400 - (len(flow.logged("lost")) - (1000 - len(first)))


@pytest.mark.parametrize("family", (4, 6))
def test_duplicates_and_order(lab, family):
    one, two = link(lab, delay="2ms")
    flow = Datagrams(one, two, family)
    before = one.relay.counts()["a->b"]
    one.relay.set("a->b", duplicate="1/5", reorder="10%", hold="4ms")
    for number in range(1, 501):
        flow.send(number)
        if number % 10 == 0:
            time.sleep(0.001)  # spread over more than the time a packet is held back
    received, counts = flow.receive(), check_books(one.relay)["a->b"]
    assert received == flow.logged("sent")[1:]  # the log is in the order of leaving; the first was before
    copies = [packet["length"] - flow.overhead for packet in one.relay.packets() if packet["copy"]]
    assert sorted(received) == sorted([*range(1, 501), *copies])
    # The hosts' own packets (neighbour discovery, multicast reports) meet the same fates; there are few.
    others = counts["in"] - before["in"] - 500
    assert counts["duplicated"] == (500 + others) // 5 and others < 20
    assert 20 < late_comers(received) <= counts["reordered"] <= late_comers(received) + 2 * others


def test_rate(lab):
    """A burst leaves at the configured rate, and what does not fit the queue is dropped from its end."""
    one, two = link(lab, relay={})
    flow = Datagrams(one, two)
    size = 1000 + flow.overhead
    one.relay.set("a->b", rate="8Mbit", queue=f"{100 * size}B")
    for _ in range(300):
        flow.send(1000)
    received = flow.receive()
    check_books(one.relay)
    assert len(received) == 300 - len(flow.logged("queue"))
    # The queue holds 100; some left while the burst was still coming in.
    assert 100 <= len(received) < 300
    sent = [packet for packet in one.relay.packets() if packet["direction"] == "a->b" and packet["fate"] == "sent"]
    sent = sent[[packet["length"] for packet in sent].index(size):]
    for last, packet in zip(sent, sent[1:]):
        begin = max(last["due_ns"], packet["in_ns"])
        assert abs(packet["due_ns"] - begin - packet["length"] * 1000) <= 1  # 8 Mbit/s: 1 us for a byte
    # And really, not only by plan.
    assert sent[-1]["out_ns"] - sent[0]["in_ns"] >= sum(packet["length"] for packet in sent) * 1000


def test_tcp_throughput_and_content(lab):
    """20 Mbit/s of TCP: never more, most of it used, nothing lost for want of queue, every byte as it was sent."""
    one, two = link(lab, delay="5ms", a_to_b={"rate": "20Mbit", "queue": "1s"})
    data = bytes(range(256)) * 5000
    with two.host:
        listener = socket.create_server((two.v6, 0), family=socket.AF_INET6)
    got = bytearray()

    def receive():
        connection, _ = listener.accept()
        with connection:
            while chunk := connection.recv(1 << 16):
                got.extend(chunk)

    receiver = threading.Thread(target=receive)
    receiver.start()
    with one.host:
        sender = socket.create_connection(listener.getsockname()[:2], timeout=20)
    with sender:
        sender.sendall(data)
    receiver.join(20)
    listener.close()
    assert bytes(got) == data
    count = check_books(one.relay)["a->b"]
    assert count["queue_dropped"] == count["lost"] == count["reordered"] == 0
    sent = [packet for packet in one.relay.packets() if packet["direction"] == "a->b" and packet["protocol"] == 6]
    assert max(packet["length"] for packet in sent) == 1514  # no packet larger than a wire carries
    rate = sum(packet["length"] for packet in sent[1:]) * 8 / ((sent[-1]["due_ns"] - sent[0]["due_ns"]) / 1e9)
    assert 10e6 < rate <= 20.01e6
    assert two.host.counters("Tcp")["InErrs"] == 0


def test_changes_while_running(lab):
    one, two = link(lab, delay="1ms")
    flow = Datagrams(one, two)
    one.relay.set(loss="100%")
    flow.send(1)
    assert flow.receive() == [] and flow.logged("lost") == [1]
    one.relay.set(loss="0", delay="300ms")
    flow.send(2)
    wait_for(lambda: one.relay.counts()["a->b"]["queued"], 2, "it waits")
    # The next would be there at once; it does not overtake.
    one.relay.set(delay="0")
    flow.send(3)
    assert flow.receive() == [2, 3]
    assert one.relay.ask("both los=1%") == "error: unknown setting `los`; did you mean `loss`?"
    assert one.relay.ask("c->d loss=1%") == "error: expected a->b, b->a or both and then settings, not `c->d`"
    assert one.relay.ask("a->b loss=2%% rate=x").startswith("error: loss: expected a share")
    flow.send(4)
    assert flow.receive() == [4]
    check_books(one.relay)


class Raw:
    """Whole frames at one end. The kernel takes a VLAN tag out of what it hands to a packet socket; it is put back."""

    def __init__(self, end):
        with end.host:
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.sock.bind((end.device, ETH_P_ALL))
        self.sock.settimeout(10)

    def receive(self, mark):
        """The first frame that contains these bytes."""
        while True:
            frame, ancillary, _, _ = self.sock.recvmsg(65536, 256)
            if mark not in frame:
                continue
            (level, kind, data), = ancillary
            assert (level, kind) == (SOL_PACKET, PACKET_AUXDATA)
            status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", data)
            return frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:] if status & TP_STATUS_VLAN_VALID else frame


def test_frames_pass_untouched(lab):
    """Tags, protocols nobody knows, the shortest and the longest frames: the same bytes at the other end."""
    one, two = link(lab, delay="1ms")
    for end in (one, two):
        end.host.run("ip", "link", "set", end.device, "mtu", "9000")
    sender, receiver = Raw(one), Raw(two)
    addresses = bytes.fromhex("0200000000010200000000fe")
    for number, (header, size) in enumerate((
            ("88b5", 46), ("88b5", 9000), ("8100a00788b5", 46), ("8100a0070800", 8990), ("88a8200581000006" "88b5", 60))):
        mark = b"mark%04d" % number
        frame = addresses + bytes.fromhex(header) + mark + random.Random(number).randbytes(size - len(mark))
        sender.sock.send(frame)
        assert receiver.receive(mark) == frame, header
    one.host.run("ping", "-c2", "-i0.05", "-M", "do", "-s", "8972", two.v4)
    assert sum(packet["length"] == 9014 and packet["protocol"] == 1 for packet in one.relay.packets()) == 4
    check_books(one.relay)


def test_memory_limit(lab):
    """Packets that find no room are counted, and the relay goes on."""
    one, two = link(lab, relay={"memory": 1})
    flow = Datagrams(one, two)
    one.relay.set("a->b", delay="300ms")
    for _ in range(1000):
        flow.send(1400)
    received = flow.receive()
    check_books(one.relay)
    assert len(flow.logged("memory")) == 1000 - len(received) > 200
    one.relay.set("a->b", delay="0")
    flow.send(5)
    assert flow.receive() == [5]


def test_only_veth_devices(lab):
    host = lab.host("a")
    host.run("ip", "link", "add", "d0", "type", "bridge")
    for arguments, status, message in (
            (["lo", "lo"], 1, "lo is no veth device"),
            (["d0", "d0"], 1, "d0 is no veth device"),
            (["nothing0", "lo"], 1, "there is no device nothing0 in this network namespace"),
            (["d0"], 2, "missing argument: DEVICE_A DEVICE_B"),
            (["--both=delay=1", "d0", "d0"], 1, "delay: expected a duration such as 20ms, not `1`")):
        done = host.popen([netlab.RELAY, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
        out, err = done.communicate(timeout=20)
        assert (done.returncode, out) == (status, "") and err == f"lab-relay: {message}\n", err
