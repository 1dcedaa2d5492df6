# SPDX-License-Identifier: Apache-2.0
"""A scripted DNS server and its clients, byte by byte, which keep the truth about each lookup.

Every lookup has a number, which is in the question's name, so the server knows what it shall do with it, and a record of
four instants of one clock (CLOCK_MONOTONIC): asked <= received <= answered <= got. What the kernel sees as its duration,
packet out to packet in, lies between answered - received and got - asked, whatever the scheduler does.
"""
import contextlib
import fcntl
import heapq
import itertools
import os
import random
import selectors
import socket
import struct
import threading
import time

from netlab import wait_for
from traffic import FAMILIES

RCODES = {0: "noerror", 1: "formerr", 2: "servfail", 3: "nxdomain", 4: "notimp", 5: "refused"}
TUNSETIFF, IFF_TUN_NO_PI = 0x400454CA, 0x1001


class Lookup:
    """delay: seconds the server takes. extra: bytes its answer is longer. ignored: so many transmissions get no answer
    (None: none ever does); the client sends again after resend seconds. cut: with TC. twice: answered twice. nonsense:
    before the answer comes something with its id that is none."""

    numbers = itertools.count(1)

    def __init__(self, server, transport, rcode=0, delay=0.0, extra=0, ignored=0, resend=None, cut=False, twice=False,
                 nonsense=False):
        self.number = next(self.numbers)
        self.server, self.transport, self.rcode, self.delay, self.extra = server, transport, rcode, delay, extra
        self.ignored, self.resend, self.cut, self.twice, self.nonsense = ignored, resend, cut, twice, nonsense
        self.asked = self.received = self.answered = self.got = None
        self.seen = 0

    def query(self):
        name = b"q%08d" % self.number
        question = bytes([len(name)]) + name + b"\4test\0" + struct.pack(">HH", 1, 1)
        edns = b"\0" + struct.pack(">HHIH", 41, 4096, 0, 0)
        return struct.pack(">6H", self.number & 0xffff, 0x0100, 1, 0, 0, 1) + question + edns

    def answer(self, query):
        """The question again, then one record of type TXT as long as it takes."""
        question = query[12:query.index(b"\4test\0") + 10]
        flags = 0x8180 | self.rcode | (0x0200 if self.cut else 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH", 16, 1, 60, self.extra) + bytes(self.extra) if self.extra else b""
        return query[:2] + struct.pack(">5H", flags, 1, 1 if record else 0, 0, 0) + question + record


def number_of(message):
    assert message[12] == 9 and message[13:14] == b"q", message
    return int(message[14:22])


class Server:
    """Answers the lookups as they say, on UDP and TCP port 53 of some addresses of a host."""

    def __init__(self, host, addresses, lookups):
        self.lookups = {lookup.number: lookup for lookup in lookups}
        self.selector = selectors.DefaultSelector()
        self.waiting = []
        self.order = itertools.count()
        for family, address in addresses:
            with host:
                datagrams = socket.socket(FAMILIES[family], socket.SOCK_DGRAM)
                datagrams.bind((address, 53))
                listener = socket.create_server((address, 53), family=FAMILIES[family])
            self.selector.register(datagrams, selectors.EVENT_READ, self._on_datagram)
            self.selector.register(listener, selectors.EVENT_READ, self._on_connection)
        self.stopping = False
        self.error = None
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self):
        try:
            while not self.stopping:
                timeout = max(0, self.waiting[0][0] - time.monotonic()) if self.waiting else 0.05
                for key, _ in self.selector.select(min(timeout, 0.05)):
                    key.data(key.fileobj)
                while self.waiting and self.waiting[0][0] <= time.monotonic():
                    heapq.heappop(self.waiting)[2]()
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def _on_query(self, query, send):
        lookup = self.lookups[number_of(query)]
        lookup.seen += 1
        if lookup.received is None:
            lookup.received = time.monotonic()
        if lookup.ignored is None or lookup.seen <= lookup.ignored:
            return

        def answer():
            if lookup.nonsense:
                send(query[:2] + b"\x81\x80" + b"\xff" * 40)
            if lookup.answered is None:
                lookup.answered = time.monotonic()
            for _ in range(2 if lookup.twice else 1):
                send(lookup.answer(query))

        heapq.heappush(self.waiting, (time.monotonic() + lookup.delay, next(self.order), answer))

    def _on_datagram(self, sock):
        query, client = sock.recvfrom(65536)
        self._on_query(query, lambda message: sock.sendto(message, client))

    def _on_connection(self, listener):
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = bytearray()

        def send(message):
            """In two pieces, cut anywhere: in the prefix, in the header, in the body."""
            data = struct.pack(">H", len(message)) + message
            cut = 1 + number_of(message) % min(30, len(data) - 1)
            sock.sendall(data[:cut])
            sock.sendall(data[cut:])

        def on_data(_):
            data = sock.recv(65536)
            if not data:
                self.selector.unregister(sock)
                sock.close()
                return
            stream.extend(data)
            for message in take_messages(stream):
                self._on_query(message, send)

        self.selector.register(sock, selectors.EVENT_READ, on_data)

    def stop(self):
        self.stopping = True
        self.thread.join()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        if self.error:
            raise self.error


def take_messages(stream):
    """Removes the whole messages at the head of a TCP stream."""
    while len(stream) >= 2:
        end = 2 + struct.unpack_from(">H", stream)[0]
        if len(stream) < end:
            return
        message = bytes(stream[2:end])
        del stream[:end]
        yield message


class Client:
    """Asks lookups from one host over three kinds of sockets, each kept for all lookups to a server: "udp" (one socket
    for all servers), "connected", "tcp"."""

    def __init__(self, host):
        self.host = host
        self.selector = selectors.DefaultSelector()
        self.sockets = {}
        self.waiting = {}
        self.resends = []

    def _socket(self, lookup):
        family, address = lookup.server
        key = (lookup.transport, family, None if lookup.transport == "udp" else address)
        if key not in self.sockets:
            with self.host:
                kind = socket.SOCK_STREAM if lookup.transport == "tcp" else socket.SOCK_DGRAM
                sock = socket.socket(FAMILIES[family], kind)
                if lookup.transport != "udp":
                    sock.connect((address, 53))
            if lookup.transport == "tcp":
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.selector.register(sock, selectors.EVENT_READ, (lookup.transport, bytearray()))
            self.sockets[key] = sock
        return self.sockets[key]

    def _send(self, lookup):
        sock, query = self._socket(lookup), lookup.query()
        if lookup.asked is None:
            lookup.asked = time.monotonic()
        if lookup.transport == "udp":
            sock.sendto(query, (lookup.server[1], 53))
        elif lookup.transport == "connected":
            sock.send(query)
        else:
            sock.sendall(struct.pack(">H", len(query)) + query)

    def ask(self, lookup):
        self.waiting[lookup.number] = lookup
        self._send(lookup)
        if lookup.resend:
            heapq.heappush(self.resends, (time.monotonic() + lookup.resend, lookup.number))

    def _receive(self, sock, transport, stream):
        data = sock.recv(65536)
        now = time.monotonic()
        if transport == "tcp":
            stream.extend(data)
        for message in take_messages(stream) if transport == "tcp" else [data]:
            if message[4:6] != b"\0\1":
                continue  # nonsense
            lookup = self.waiting.pop(number_of(message), None)
            if lookup:
                assert message == lookup.answer(lookup.query())
                lookup.got = now

    def pump(self, seconds):
        """Receives, and sends again what is due: only when nothing is left to receive, as its answer may be there."""
        end = time.monotonic() + seconds
        while True:
            ready = self.selector.select(max(0, min(end - time.monotonic(), 0.01)))
            for key, _ in ready:
                self._receive(key.fileobj, *key.data)
            if ready:
                continue
            now = time.monotonic()
            while self.resends and self.resends[0][0] <= now:
                _, number = heapq.heappop(self.resends)
                if number in self.waiting:
                    self._send(self.waiting[number])
                    heapq.heappush(self.resends, (now + self.waiting[number].resend, number))
            if now >= end:
                return

    def finish(self, lookups, seconds):
        deadline = time.monotonic() + seconds
        while any(lookup.number in self.waiting for lookup in lookups):
            assert time.monotonic() < deadline, f"no answer to {sorted(self.waiting)}"
            self.pump(0.01)

    def close(self):
        for sock in self.sockets.values():
            sock.close()


class Stub:
    """A resolver on a host's own address, as systemd-resolved is: each query it gets is a lookup of its own upstream."""

    def __init__(self, host, address, client, lookups, upstream):
        self.lookups, self.client, self.upstream = {lookup.number: lookup for lookup in lookups}, client, upstream
        with host:
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.sock.bind((address, 53))
        self.sock.settimeout(0.05)

    def work(self):
        """Until each lookup was answered."""
        for upstream in self.upstream:
            query, client = wait_for(self._take, 5, "a query to the stub")
            lookup = self.lookups[number_of(query)]
            lookup.received = time.monotonic()
            self.client.ask(upstream)
            self.client.finish([upstream], 5)
            lookup.answered = time.monotonic()
            self.sock.sendto(lookup.answer(query), client)

    def _take(self):
        with contextlib.suppress(TimeoutError):
            return self.sock.recvfrom(65536)
        return None


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data[:len(data) & ~1])) + (data[-1] << 8 if len(data) & 1 else 0)
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


class TunServer:
    """A TCP server made of packets: it sits behind a tun device of a host and sends what segments it is told to, in what
    order it is told to. One connection."""

    def __init__(self, host):
        numbers = random.SystemRandom()
        network = f"10.{numbers.randrange(256)}.{numbers.randrange(256)}"
        self.address = f"{network}.53"
        device = f"tun{numbers.getrandbits(24):06x}"
        with host:
            self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN_NO_PI))
        host.run("ip", "address", "add", f"{network}.1/24", "dev", device)
        host.run("ip", "link", "set", device, "up")
        self.peer = None
        self.received = bytearray()
        self.next = 0            # of the client's bytes
        self.first = 0xfffffff0  # our bytes begin behind it, and the numbers wrap around
        self.acknowledged = 0    # of our bytes

    def _packet(self, sequence, flags, data=b""):
        source, (destination, port) = socket.inet_aton(self.address), self.peer
        tcp = struct.pack(">HHIIBBHHH", 53, port, sequence & 0xffffffff, self.next, 5 << 4, flags, 65535, 0, 0) + data
        pseudo = source + destination + struct.pack(">BBH", 0, 6, len(tcp))
        tcp = tcp[:16] + struct.pack(">H", checksum(pseudo + tcp)) + tcp[18:]
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + source + destination
        os.write(self.fd, ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:] + tcp)

    def pump(self):
        """Takes what the client's kernel sent. The client's bytes are acknowledged as they come."""
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = os.read(self.fd, 65536)
                if packet[0] != 0x45 or packet[9] != 6:
                    continue
                port, _, sequence, acknowledged, words, flags = struct.unpack_from(">HHIIBB", packet, 20)
                data = packet[20 + (words >> 4) * 4:]
                if flags & 2:
                    self.peer, self.next = (packet[12:16], port), sequence + 1
                    self._packet(self.first, 0x12)
                    continue
                self.acknowledged = (acknowledged - self.first - 1) & 0xffffffff
                if data and sequence == self.next:
                    self.received += data
                    self.next = (self.next + len(data)) & 0xffffffff
                    self._packet(self.first + 1 + self.acknowledged, 0x10)

    def send(self, at, data):
        """A segment of our stream, from byte `at` on."""
        self._packet(self.first + 1 + at, 0x18, data)

    def close(self):
        os.close(self.fd)
