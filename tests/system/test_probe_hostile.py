# SPDX-License-Identifier: Apache-2.0
"""Answers that are not what they seem, and traffic that is not ours.

The far end of the link is the test itself, frame by frame (probelab.Responder), so every spoiled answer is one that its
author could have made who saw the request. What a wrong answer must do: count as rejected, change no measurement, and
reach the stack, where a raw socket of the test sees it. A right one must be measured and be seen by nobody.
"""
import collections
import random
import socket
import struct

import pytest

import frames
import stamp_peer
from netlab import Wire, wait_for
from probelab import (Responder, below, config, counts, hush, known_neighbours, rtt, take_xdp, target, timestamps,
                      wait_counts)

HOOKS = ("xdp", "xdp_generic", "tc")
KEY = b"a key of both ends"
STAMP_PORT, KEY_PORT, TCP_PORT = 8620, 8621, 8080
ELSEWHERE = 100  # from these ports to those that answer in their place
GENUINE_AFTER_S = 0.02  # spoiled answers come at once: the shortest round trip that may be measured is this
TOO_QUICK_S = 0.016


class Kinds:
    """The targets of a test: every protocol over both families, by name, all at the far end's two addresses."""

    def __init__(self, end, key_file, tcp=True, **options):
        self.by_name = {}
        for family in (4, 6):
            address = end.address(family)
            self._add(f"icmp{family}", address, "icmp", options)
            self._add(f"stamp{family}", address, "stamp", dict(options, port=STAMP_PORT))
            self._add(f"key{family}", address, "stamp", dict(options, port=KEY_PORT, key_file=key_file))
            if tcp:
                self._add(f"tcp{family}", address, "tcp", dict(options, port=TCP_PORT))
        self.targets = list(self.by_name.values())

    def _add(self, name, address, protocol, options):
        self.by_name[name] = target(name, address, protocol, **options)


def name_of(frame):
    """Which target's request it is; None for others."""
    if frames.is_echo_request(frame):
        return f"icmp{frame.family}"
    if frame.protocol == frames.UDP:
        return {STAMP_PORT: f"stamp{frame.family}", KEY_PORT: f"key{frame.family}"}.get(frames.ports(frame)[1])
    is_ours = frame.protocol == frames.TCP and frames.ports(frame)[1] == TCP_PORT
    return f"tcp{frame.family}" if is_ours and frames.tcp_fields(frame)[2] == frames.SYN else None


def key_of(name):
    return KEY if name.startswith("key") else None


def stamp_reply(frame, key, **spoiled):
    """The reply to a STAMP request as a frame. spoiled: fields of it that are wrong."""
    payload = frame.transport[8:]
    request = stamp_peer.read_request(payload, key)
    at = stamp_peer.to_timestamp(stamp_peer.now())
    reply = stamp_peer.Reply(request.sequence, at, 0x8001, request.ssid, at, request.sequence, request.timestamp,
                             request.error, frame.ttl)._replace(**spoiled)
    source_port, destination_port = frames.ports(frame)
    return frames.udp(frame.reply(), destination_port, source_port, stamp_peer.make_reply(reply, payload, key))


def tcp_reply(frame, flags=frames.SYN | frames.ACK, off=0):
    source_port, destination_port = frames.ports(frame)
    sequence = frames.tcp_fields(frame)[0]
    return frames.tcp(frame.reply(), destination_port, source_port, 0x1000, sequence + 1 + off, flags)


def genuine(frame):
    name = name_of(frame)
    if name.startswith("icmp"):
        return frames.echo_reply(frame)
    return tcp_reply(frame) if name.startswith("tcp") else stamp_reply(frame, key_of(name))


def flip(data, at, bits=1):
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1:]


def spoiled(frame):
    """{what is wrong: frame} of answers that are from the right host and port to the right port, and still wrong."""
    name, right = name_of(frame), genuine(frame)
    if name.startswith("icmp"):
        return {"cookie": right.but(transport=flip(right.transport, 8)),
                "cookie's end": right.but(transport=flip(right.transport, 15)),
                "number": right.but(transport=flip(right.transport, 7)),
                "number, a turn of the ring away": right.but(transport=flip(right.transport, 6, 0x80)),
                "cut in the cookie": right.but(transport=right.transport[:15]),
                "no payload": right.but(transport=right.transport[:8]),
                "longer": right.but(transport=right.transport + b"x")}
    source_port, destination_port = frames.ports(right)
    elsewhere = right.but(transport=struct.pack("!H", source_port + ELSEWHERE) + right.transport[2:])
    if name.startswith("tcp"):
        return {"from another port": elsewhere, "acknowledges another": tcp_reply(frame, off=256),
                "acknowledges nothing": tcp_reply(frame, off=-1),
                "reset of another": tcp_reply(frame, frames.RST | frames.ACK, off=65536)}
    key = key_of(name)
    request = stamp_peer.read_request(frame.transport[8:], key)
    base_length = stamp_peer.BASE_LENGTH[bool(key)]
    cut = frames.udp(right, source_port, destination_port, right.transport[8:8 + base_length - 1])
    found = {"from another port": elsewhere,
             "timestamp": stamp_reply(frame, key, sender_timestamp=request.timestamp ^ 1),
             "timestamp's start": stamp_reply(frame, key, sender_timestamp=request.timestamp ^ 1 << 63),
             "number": stamp_reply(frame, key, sender_sequence=request.sequence ^ 1), "cut": cut,
             "number, a turn of the ring away": stamp_reply(frame, key, sender_sequence=request.sequence ^ 1 << 31),
             "empty": frames.udp(right, source_port, destination_port, b"")}
    if key:
        found["HMAC"] = right.but(transport=flip(right.transport, 8 + 111))
        found["t2 changed by somebody without the key"] = right.but(transport=flip(right.transport, 8 + 35))
        found["another key"] = right.but(transport=right.transport[:8] +
                                         stamp_peer.sign(right.transport[8:104], KEY + b"!"))
    return found


PORTS = {STAMP_PORT, KEY_PORT, TCP_PORT}


class StackView:
    """Raw sockets in a host: what its stack gets of a protocol, told apart by the answer's kind."""

    def __init__(self, host):
        self.sockets = {}
        for family in (4, 6):
            icmp = frames.ICMP6 if family == 6 else frames.ICMP
            for name, protocol in (("icmp", icmp), ("udp", frames.UDP), ("tcp", frames.TCP)):
                with host:
                    sock = socket.socket(stamp_peer.FAMILIES[family], socket.SOCK_RAW, protocol)
                sock.setsockopt(socket.SOL_SOCKET, stamp_peer.SO_RCVBUFFORCE, 1 << 24)
                sock.setblocking(False)
                self.sockets[name, family] = sock

    def read(self, kind, family):
        """The answers that arrived since the last call, without the stack's own affairs and the agent's HTTP."""
        found = []
        while True:
            try:
                data = self.sockets[kind, family].recv(65536)
            except BlockingIOError:
                return found
            transport = data[(data[0] & 15) * 4:] if family == 4 else data
            if kind == "icmp" and transport[0] == frames.ECHO_REPLY[family] or \
                    kind != "icmp" and {struct.unpack("!H", transport[:2])[0] - off for off in (0, ELSEWHERE)} & PORTS:
                found.append(transport)

    def close(self):
        for sock in self.sockets.values():
            sock.close()


@pytest.fixture
def view():
    views = []
    yield lambda host: views.append(StackView(host)) or views[-1]
    for made in views:
        made.close()


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return str(path)


def quiet_link(lab):
    """Two hosts and nothing between them; the far one says only what the test says."""
    one, two = lab.host("one"), lab.host("two")
    near, far = lab.link(one, two)
    for end in (near, far):
        end.host.finish_packets(end.device)
    hush(two)
    known_neighbours(near, far)
    return near, far


def kind_of(name):
    return "udp" if name[:-1] in ("stamp", "key") else name[:-1]


@pytest.mark.parametrize("attach", (*HOOKS, "off"))
def test_spoiled_answers_change_nothing(lab, start_agent, view, key_file, attach):
    """Each request gets all kinds of spoiled answers at once and the genuine one 20 ms later."""
    near, far = quiet_link(lab)
    stack = view(near.host)
    kinds = Kinds(far, key_file, tcp=attach in HOOKS, interval="60ms", timeout="1s")
    spoils, right, resets = collections.Counter(), collections.Counter(), collections.Counter()
    answering = True

    def answer(frame):
        name = name_of(frame)
        if name is None:
            if frame.protocol == frames.TCP and frames.ports(frame)[1] == TCP_PORT and \
                    frames.tcp_fields(frame)[2] & frames.RST:
                assert frame.sound, "the checksum of a reset"
                resets[frame.family, frames.tcp_fields(frame)[0]] += 1
            return
        if not answering:
            return
        for wrong in spoiled(frame).values():
            spoils[name] += 1
            yield 0, wrong.build()
        right[name] += 1
        if name.startswith("tcp"):
            isns.add((frame.family, frames.tcp_fields(frame)[0] + 1 & 0xffffffff))
        yield GENUINE_AFTER_S, genuine(frame).build()

    isns = set()
    if attach == "xdp":
        take_xdp(start_agent, far)
    with Responder(far, answer):
        agent = start_agent(near.host, config(kinds.targets, attach=attach))
        for name in kinds.by_name:
            wait_counts(agent, name, lambda c: c["received"] >= 10, "ten answers")
        answering = False
        for name in kinds.by_name:
            wait_counts(agent, name, lambda c, n=name: c["received"] == right[n] and c["rejected"] == spoils[n],
                        lambda: f"{right} received, {spoils} rejected")
        metrics = agent.settle()
        for name in kinds.by_name:
            got = counts(metrics, name)
            assert (got["received"], got["rejected"]) == (right[name], spoils[name]), name
            assert got["duplicate"] == got["late"] == got["reordered"] == 0, (name, got)
            count, _, buckets = rtt(metrics, name)
            assert count == right[name] and not below(buckets, TOO_QUICK_S), (name, buckets)
        if attach == "off":
            return
        for family in (4, 6):
            for kind in ("icmp", "udp", "tcp"):
                expected = sum(number for name, number in spoils.items()
                               if kind_of(name) == kind and name.endswith(str(family)))
                assert len(stack.read(kind, family)) == expected, (kind, family)
        # Each SYN-ACK of ours is answered by one reset, in its sequence; those of the stack answer spoiled ones.
        assert {key: n for key, n in resets.items() if key in isns} == dict.fromkeys(isns, 1)


@pytest.mark.parametrize("attach", ("tc", "off"))
def test_duplicates_replays_and_late_answers(lab, start_agent, key_file, attach):
    """In turns: one answer, one and two copies, one after the time-out, one and copies of it after that, of which the
    first finds its place in the ring still its own."""
    near, far = quiet_link(lab)
    timeout, interval = 0.2, 0.05
    kinds = Kinds(far, key_file, tcp=attach in HOOKS, interval=f"{interval * 1000:.0f}ms",
                  timeout=f"{timeout * 1000:.0f}ms")
    turns = {"received": collections.Counter(), "duplicate": collections.Counter(), "late": collections.Counter(),
             "rejected": collections.Counter()}
    numbers = collections.Counter()
    answering = True

    def answer(frame):
        name = name_of(frame)
        if name is None or not answering:
            return
        turn, data = numbers[name] % 4, genuine(frame).build()
        late = timeout * (1.2 if numbers[name] % 8 < 4 else 1.65)  # before and after the agent has given it up
        numbers[name] += 1
        turns["late" if turn == 2 else "received"][name] += 1
        yield late if turn == 2 else 0.001, data
        if turn == 1:
            turns["duplicate"][name] += 2
            yield 0.002, data
            yield timeout / 2, data
        elif turn == 3:
            turns["rejected"][name] += 2
            yield timeout * 1.25, data
            yield timeout * 4, data

    with Responder(far, answer):
        agent = start_agent(near.host, config(kinds.targets, attach=attach))
        for name in kinds.by_name:
            wait_counts(agent, name, lambda c: c["late"] >= 4, "four late answers")
        answering = False

        def expected(name):
            return {key: counter[name] for key, counter in turns.items()}

        for name in kinds.by_name:
            wait_counts(agent, name, lambda c, n=name: all(c[k] == v for k, v in expected(n).items()),
                        lambda n=name: f"expected {expected(n)}")
        metrics = agent.settle()
        for name in kinds.by_name:
            got = counts(metrics, name)
            assert {key: got[key] for key in turns} == expected(name), name
            assert rtt(metrics, name)[0] == turns["received"][name], name
            assert got["lost"] >= turns["late"][name] and got["received"] + got["lost"] <= got["sent"], (name, got)
            assert got["reordered"] == 0, (name, got)


SIZES = {"fragments": 60, "extensions": 40, "tagged": 48}  # of echo payloads, by which the far end tells them apart


@pytest.mark.parametrize("attach", ("xdp", "tc", "off"))
def test_fragments_and_extension_headers(lab, start_agent, attach):
    """Answers in fragments are put together by the stack and measured by the socket's stamp, once; IP options,
    extension headers or a tag in front of an answer change nothing."""
    near, far = quiet_link(lab)

    def in_fragments(frame):
        transport = frame.build()[34:]  # with its checksum
        return [frame.but(transport=transport[:24], fragment=0x2000).build(check=False),
                frame.but(transport=transport[24:], fragment=3).build(check=False)]

    def in_fragments6(frame):
        transport = frame.build()[54:]
        header = struct.pack("!BBHI", frames.ICMP6, 0, 1, 0x5678)
        last = struct.pack("!BBHI", frames.ICMP6, 0, 24, 0x5678)
        return [frame.but(transport=transport[:24], options=header, first_header=frames.FRAGMENT).build(check=False),
                frame.but(transport=transport[24:], options=last, first_header=frames.FRAGMENT).build(check=False)]

    def answer(frame):
        if not frames.is_echo_request(frame):
            return
        reply = frames.echo_reply(frame)
        size = len(frame.transport) - 8
        if size == SIZES["fragments"]:
            built = (in_fragments if frame.family == 4 else in_fragments6)(reply)
        elif size == SIZES["tagged"]:
            built = [reply.but(tags=(5 << 13,)).build()]  # a priority and no VLAN
        elif frame.family == 6:
            built = [frames.with_extension(reply, (frames.HOP_BY_HOP, frames.DESTINATION_OPTIONS)).build()]
        else:
            built = [reply.but(options=bytes([1, 1, 1, 0])).build()]  # NOP, NOP, NOP, end of options
        yield from ((0.001, data) for data in built)

    targets = [target(f"{what}{family}", far.address(family), size=size, interval="30ms")
               for family in (4, 6) for what, size in SIZES.items()]
    with Responder(far, answer):
        agent = start_agent(near.host, config(targets, attach=attach))
        for one in targets:
            wait_counts(agent, one["name"], lambda c: c["received"] >= 15, "15 answers")
        metrics = agent.settle()
    for one in targets:
        got = counts(metrics, one["name"])
        assert got["duplicate"] == got["rejected"] == got["late"] == got["reordered"] == got["lost"] == 0, (one, got)
        stamps = timestamps(metrics, one["name"])
        assert sum(stamps.values()) == got["received"]
        if one["name"].startswith("fragments"):
            # The socket's stamps are asked for when the first such answer has come.
            assert set(stamps) <= {"kernel", "user"} and stamps["kernel"] >= 12, (one, stamps)


def test_frames_of_chance(lab, start_agent, key_file):
    """Answers with random damage, many at a time, do no harm: what is genuine is measured, and nothing is lost."""
    near, far = quiet_link(lab)
    rng = random.Random(4)
    kinds = Kinds(far, key_file, interval="50ms", timeout="1s")

    def damage(data):
        data = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            what = rng.randrange(4)
            if what == 0 and len(data) > 14:
                del data[rng.randrange(14, len(data)):]
            elif what == 1:
                data[12:12] = struct.pack("!HH", rng.choice((0x8100, 0x88a8)), rng.randrange(1 << 16))
            elif what == 2 and len(data) > 20:
                at = rng.randrange(12, len(data))
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            elif len(data) > 14:
                data[rng.randrange(12, len(data))] = rng.randrange(256)
        return bytes(data).ljust(14, b"\0")

    def answer(frame):
        if name_of(frame):
            data = genuine(frame).build()
            yield from ((0, damage(data)[:1514]) for _ in range(30))
            yield 0.001, data

    with Responder(far, answer) as responder:
        agent = start_agent(near.host, config(kinds.targets, attach="xdp"))
        for name in kinds.by_name:
            wait_counts(agent, name, lambda c: c["received"] >= 20, "20 answers")
        metrics = agent.settle()
        assert responder.sent >= 20 * 31
    for name in kinds.by_name:
        got = counts(metrics, name)
        assert got["lost"] == 0 and got["received"] <= got["sent"], (name, got)
        assert rtt(metrics, name)[0] == got["received"], (name, got)


def exchange_random_data(near, far, family, rng):
    """TCP, UDP and ICMP with random contents between the ends, from both sides; all must come back as it went."""
    kind = stamp_peer.FAMILIES[family]
    with far.host:
        listener = socket.create_server((far.address(family), 0), family=kind)
        echo = socket.socket(kind, socket.SOCK_DGRAM)
        echo.bind((far.address(family), 0))
    with near.host:
        client = socket.create_connection(listener.getsockname()[:2], 5)
        datagrams = socket.socket(kind, socket.SOCK_DGRAM)
    server = listener.accept()[0]
    datagrams.connect(echo.getsockname()[:2])
    with client, server, listener, echo, datagrams:
        for sock in (client, server, echo, datagrams):
            sock.settimeout(5)
        for size in (1, 1000, 40000):
            data = rng.randbytes(size)
            for sender, receiver in ((client, server), (server, client)):
                sender.sendall(data)
                got = b""
                while len(got) < size:
                    got += receiver.recv(65536)
                assert got == data
        for size in (0, 1, 44, 112, 1400):
            data = rng.randbytes(size)
            datagrams.send(data)
            got, source = echo.recvfrom(65536)
            echo.sendto(got[::-1], source)
            assert datagrams.recv(65536) == data[::-1]
    near.host.run("ping", "-c", "5", "-i", "0.02", "-s", "200", "-W", "2", far.address(family))
    far.host.run("ping", "-c", "5", "-i", "0.02", "-s", "1400", "-W", "2", near.address(family))


@pytest.mark.parametrize("attach", HOOKS)
def test_other_traffic_passes_untouched(lab, start_agent, attach):
    """Every frame of TCP, UDP and ICMP that is not the agent's reaches the stack, in its order and with its bytes,
    while the same interface is probed through and reflects: as they left one host they entered the other."""
    one, two = lab.host("one"), lab.host("two")
    near, far = lab.link(one, two)
    for end in (near, far):
        end.host.finish_packets(end.device)
    known_neighbours(near, far)
    if attach == "xdp":
        take_xdp(start_agent, far)
    agent = start_agent(one, config([target("v4", far.v4, interval="20ms"), target("v6", far.v6, interval="20ms")],
                                    attach=attach, reflect=[near.device], reflector={"icmp": True}))
    wait_counts(agent, "v6", lambda c: c["received"] >= 3, "answers")

    def is_other(data):
        """Not a probe of the agent, its answer, a request that is reflected, its answer, or for a group at any time."""
        frame = frames.parse(data)
        return bool(frame) and not frame.to[0] & 1 and not (frame.protocol in (frames.ICMP, frames.ICMP6) and
                                    frame.transport[:1] in (b"\x00", b"\x08", b"\x80", b"\x81"))

    def pings(data):
        """Answers to ping of the near host, which the agent's hook must leave alone: with ping's size of 200."""
        frame = frames.parse(data)
        return bool(frame) and frame.transport[:1] in (b"\x00", b"\x81") and len(frame.transport) == 208

    wires = {}
    for name, keep in (("other", is_other), ("pings", pings)):
        wires[name] = [Wire(far.host, far.device, (Wire.OUTGOING,), keep),
                       Wire(near.host, near.device, Wire.ENTERING, keep)]
    exchange_random_data(near, far, 4, random.Random(1))
    exchange_random_data(near, far, 6, random.Random(2))
    for name, (left, entered) in wires.items():
        sent = left.drain()
        got = []
        wait_for(lambda e=entered, g=got, s=sent: g.extend(e.drain()) or len(g) >= len(s), 5, "all frames to enter")
        assert len(sent) >= (10 if name == "pings" else 80), name
        assert got == sent, name
        for wire in (left, entered):
            wire.socket.close()
    got = counts(agent.settle(), "v4")
    assert got["lost"] == got["rejected"] == got["duplicate"] == 0, got


def test_reflectors_do_not_answer_each_other(lab, start_agent):
    """A request that seems to come from another reflector's port, and an answer sent to a reflector, are answered by
    nobody; a request from any other port once."""
    one, two = lab.host("one"), lab.host("two")
    near, far = lab.link(one, two)
    known_neighbours(near, far)
    for end in (near, far):
        start_agent(end.host, config([], attach="tc", reflect=[end.device], reflector={"icmp": True}))
    near_mac, far_mac = (frames.mac_address(end.host, end.device) for end in (near, far))

    def may_go_round(data):
        frame = frames.parse(data)
        if not frame or frame.protocol not in (frames.UDP, frames.ICMP, frames.ICMP6):
            return False
        return frame.protocol == frames.UDP or frame.transport[0] in (0, 8, 128, 129)

    # A packet socket does not see what it sends itself.
    with Wire(near.host, near.device, (*Wire.ENTERING, Wire.OUTGOING), may_go_round) as wire:
        for family in (4, 6):
            base = frames.Frame(far_mac, near_mac, near.address(family), far.address(family), frames.UDP, b"")
            at = stamp_peer.to_timestamp(stamp_peer.now())
            payload = stamp_peer.make_request(stamp_peer.Request(1, at, 0x8001, 0))
            echo = base.but(protocol=frames.ICMP6 if family == 6 else frames.ICMP,
                            transport=bytes([frames.ECHO_REPLY[family], 0, 0, 0]) + b"whatever")
            for frame in (frames.udp(base, 862, 862, payload), frames.udp(base, 862, 862, payload + bytes(1300)), echo):
                wire.send(frame.build())
            assert wire.receive(0.2) is None
            wire.send(frames.udp(base, 40000, 862, payload).build())
            assert frames.ports(frames.parse(wire.receive(2))) == (862, 40000)
        assert wire.receive(0.2) is None
