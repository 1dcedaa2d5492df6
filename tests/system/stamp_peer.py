# SPDX-License-Identifier: Apache-2.0
"""A STAMP Session-Sender and Session-Reflector, to test NetSonde's against something that shares nothing with it.

Written from the RFCs only: 8762 (packets, modes, integrity), 8972 section 3 (session identifier), 4656 section 4.1.2
(error estimate), 8186 section 2.3 (PTP format). A socket is made inside a host (netlab.py) and stays there, so both
ends of a session can be parts of one test program.

Times are nanoseconds of CLOCK_REALTIME: of arrivals by the kernel (SO_TIMESTAMPNS), of departures by this program.
"""
import collections
import hashlib
import hmac
import select
import socket
import struct
import threading
import time

PORT = 862
BASE_LENGTH = {False: 44, True: 112}  # of both kinds of packets, by "is authenticated" (RFC 8762, section 4.2)
HMAC_COVERS, HMAC_LENGTH = 96, 16     # section 4.4: over the first six blocks; HMAC-SHA-256 cut to 128 bits
REQUEST = {False: "!IQHH28x", True: "!I12xQHH68x"}
REPLY = {False: "!IQHHQIQH2xB3x", True: "!I12xQHH4xQ8xI12xQH6xB15x"}
ALL_ONES = {"B": 0xff, "H": 0xffff, "I": 0xffffffff, "Q": 0xffffffffffffffff}
NTP_EPOCH_S = 2208988800              # 1900 to 1970

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
SO_RCVBUFFORCE, SO_TIMESTAMPNS, IP_RECVTTL = 33, 35, 12
POLL_S = 0.1

Request = collections.namedtuple("Request", "sequence timestamp error ssid")
Reply = collections.namedtuple("Reply", "sequence timestamp error ssid received sender_sequence sender_timestamp "
                                        "sender_error sender_ttl")
Arrival = collections.namedtuple("Arrival", "data source at ttl")  # at: ns; source: as of recvfrom


class Invalid(Exception):
    """A packet to discard, and why."""


def now():
    return time.clock_gettime_ns(time.CLOCK_REALTIME)


def tai_offset():
    return round((time.clock_gettime_ns(time.CLOCK_TAI) - now()) / 1e9) * 10**9


def to_timestamp(ns, ptp=False):
    """NTP: seconds since 1900 and a fraction. PTP, truncated: seconds since 1970 and nanoseconds, both of TAI."""
    seconds, rest = divmod(ns + tai_offset() if ptp else ns, 10**9)
    if not ptp:
        seconds, rest = seconds + NTP_EPOCH_S, (rest << 32) // 10**9
    return (seconds & 0xffffffff) << 32 | rest


def from_timestamp(value, ptp=False):
    seconds, rest = value >> 32, value & 0xffffffff
    if ptp:
        return seconds * 10**9 + rest - tai_offset()
    seconds += 0 if seconds >> 31 else 1 << 32  # the next era, from 2036 on (RFC 5905, section 6)
    return (seconds - NTP_EPOCH_S) * 10**9 + round(rest * 10**9 / (1 << 32))


def error_estimate(seconds, synchronized=True, ptp=False):
    """S, Z, a 6 bit scale and an 8 bit multiplier, never 0: multiplier * 2**(scale - 32) seconds, rounded up."""
    scale, multiplier = 0, max(1, -int(-seconds * (1 << 32) // 1))
    while multiplier > 255:
        scale, multiplier = scale + 1, (multiplier + 1) // 2
    return synchronized << 15 | ptp << 14 | scale << 8 | multiplier


def error_seconds(field):
    """(seconds, is synchronised, is PTP) of an error estimate."""
    if not field & 0xff:
        raise Invalid("an error estimate with multiplier 0")
    return (field & 0xff) * 2.0 ** ((field >> 8 & 0x3f) - 32), bool(field >> 15), bool(field >> 14 & 1)


def sign(base, key):
    return base + hmac.new(key, base[:HMAC_COVERS], hashlib.sha256).digest()[:HMAC_LENGTH] if key else base


def verify(data, key):
    """A packet that is long enough and, with a key, authentic."""
    if len(data) < BASE_LENGTH[bool(key)]:
        raise Invalid(f"{len(data)} bytes")
    if key and not hmac.compare_digest(sign(data[:HMAC_COVERS], key), data[:BASE_LENGTH[True]]):
        raise Invalid("HMAC")


def make_request(request, key=None, length=0, rest=b""):
    """rest: what follows the base packet; zeros up to length when there is less."""
    return (sign(struct.pack(REQUEST[bool(key)], *request), key) + rest).ljust(length, b"\0")


def read_request(data, key=None):
    verify(data, key)
    return Request(*struct.unpack_from(REQUEST[bool(key)], data))


def make_reply(reply, request_data, key=None):
    """As long as the request, whose end it copies (sections 4.3 and 4.6)."""
    return sign(struct.pack(REPLY[bool(key)], *reply), key) + request_data[BASE_LENGTH[bool(key)]:]


def read_reply(data, key=None):
    verify(data, key)
    return Reply(*struct.unpack_from(REPLY[bool(key)], data))


def must_be_zero(data, kind, key=None):
    """The bytes of a base packet (REQUEST or REPLY) that carry nothing: zeros when sent, ignored when received."""
    form = kind[bool(key)]
    carrying = struct.pack(form, *(ALL_ONES[size] for size in form if size in ALL_ONES))
    return bytes(byte for byte, carries in zip(data, carrying) if not carries)


def open_socket(host, address, port, family):
    with host:
        sock = socket.socket(FAMILIES[family], socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
    if family == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
    sock.bind((address, port))
    return sock


def receive(sock, seconds):
    """The next Arrival, or None when there is none in time."""
    if not select.select([sock], [], [], max(0, seconds))[0]:
        return None
    data, ancillary, _, source = sock.recvmsg(65536, 256)
    at, ttl = now(), None
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, rest = struct.unpack("qq", value[:16])
            at = seconds * 10**9 + rest
        elif (level, kind) in ((socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)):
            ttl = struct.unpack("i", value[:4])[0]
    return Arrival(data, source, at, ttl)


class Reflector:
    """Answers as long as the `with` block lasts.

    stateful: numbers its replies itself, per source (section 4). residence: seconds between arrival and answer.
    change(reply bytes, Request): the packets to send in the reply's place.
    """

    def __init__(self, host, address, family=4, port=PORT, key=None, stateful=False, error=1e-6, synchronized=True,
                 ptp=False, residence=0, change=None):
        self.socket = open_socket(host, address, port, family)
        self.port = self.socket.getsockname()[1]
        self.key, self.stateful, self.ptp = key, stateful, ptp
        self.error = error_estimate(error, synchronized, ptp)
        self.residence, self.change = residence, change
        self.requests, self.replies, self.invalid = [], [], []
        self.failure = None
        self._counters = collections.Counter()
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended = True
        self._thread.join()
        self.socket.close()
        assert self.failure is None, self.failure

    def _run(self):
        try:
            while not self._ended:
                arrival = receive(self.socket, POLL_S)
                if arrival:
                    self._answer(arrival)
        except Exception as failure:  # pylint: disable=broad-except
            self.failure = repr(failure)  # told where the test can see it

    def _answer(self, arrival):
        try:
            request = read_request(arrival.data, self.key)
            error_seconds(request.error)
        except Invalid as reason:
            self.invalid.append((arrival, str(reason)))
            return
        self.requests.append(arrival)
        sequence = request.sequence
        if self.stateful:
            sequence = self._counters[arrival.source]
            self._counters[arrival.source] += 1
        time.sleep(self.residence)
        reply = make_reply(Reply(sequence, to_timestamp(now(), self.ptp), self.error, request.ssid,
                                 to_timestamp(arrival.at, self.ptp), request.sequence, request.timestamp, request.error,
                                 arrival.ttl), arrival.data, self.key)
        for data in self.change(reply, request) if self.change else [reply]:
            self.replies.append(data)
            self.socket.sendto(data, arrival.source)


class Sender:
    """One session. exchange() sends requests and gives the replies to them in the order of arrival."""

    def __init__(self, host, source, destination, family=4, port=PORT, key=None, ssid=0, error=1e-6, ptp=False):
        self.socket = open_socket(host, source, 0, family)
        self.destination, self.key, self.ssid, self.ptp = (destination, port), key, ssid, ptp
        self.error = error_estimate(error, True, ptp)
        self.sent = []  # the packets, by sequence number
        self.invalid = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, length=0, rest=b""):
        request = Request(len(self.sent), to_timestamp(now(), self.ptp), self.error, self.ssid)
        self.sent.append(make_request(request, self.key, length, rest))
        self.socket.sendto(self.sent[-1], self.destination)

    def receive(self, count, seconds):
        """Up to so many (Arrival, Reply), waiting at most so long."""
        deadline = time.monotonic() + seconds
        replies = []
        while len(replies) < count:
            arrival = receive(self.socket, deadline - time.monotonic())
            if not arrival:
                break
            try:
                replies.append((arrival, read_reply(arrival.data, self.key)))
            except Invalid as reason:
                self.invalid.append((arrival, str(reason)))
        return replies

    def exchange(self, count, seconds=5, length=0, rest=b""):
        """One request after the other, each when the former's reply is there; ends when there is none."""
        replies = []
        for number in range(count):
            self.send(length, rest)
            replies += self.receive(1, seconds)
            if len(replies) <= number:
                break
        return replies
