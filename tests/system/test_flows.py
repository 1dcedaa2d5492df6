# SPDX-License-Identifier: Apache-2.0
"""Flows on the interfaces of a gateway, against packets captured at the far end, what the test sent, and the lab's relay.

The gateway forwards between a client and a server, and its agent watches both of its interfaces. The packets of the server's
link leave their devices complete, so what is captured there is what is on the wire; on the client's link the kernels hand
over many segments at once (TSO), which the agent must count as the wire does.
"""
import collections
import contextlib
import fcntl
import ipaddress
import json
import os
import select
import signal
import socket
import struct
import threading

import pytest

import netsonde
from netlab import wait_for
from netsonde import PATIENCE, KernelObjects, difference

BYTES, PACKETS, RTT = "netsonde_flow_bytes_total", "netsonde_flow_packets_total", "netsonde_flow_rtt_seconds"
SOL_PACKET, PACKET_OUTGOING, PACKET_STATISTICS, SO_RCVBUFFORCE, SO_TIMESTAMPNS = 263, 4, 6, 33, 35
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 1, 0x1000
ETH_P_ALL, IPPROTO_EXPERIMENT = 3, 253
PROTOCOLS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp", socket.IPPROTO_ICMP: "icmp", socket.IPPROTO_ICMPV6: "icmp"}
EXTENSIONS = (0, 43, 60)
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def describe(frame):
    """(source, destination, protocol, bytes) of the IP packet in an Ethernet frame; None for any other frame."""
    offset, (kind,) = 14, struct.unpack_from("!H", frame, 12)
    while kind in (0x8100, 0x88a8):
        (kind,) = struct.unpack_from("!H", frame, offset + 2)
        offset += 4
    ip = frame[offset:]
    if kind == 0x0800:
        return (socket.inet_ntop(socket.AF_INET, ip[12:16]), socket.inet_ntop(socket.AF_INET, ip[16:20]),
                PROTOCOLS.get(ip[9], "other"), struct.unpack_from("!H", ip, 2)[0])
    if kind != 0x86dd:
        return None
    following, at = ip[6], 40
    while following in EXTENSIONS or following == 44:
        length = 8 if following == 44 else 8 + 8 * ip[at + 1]
        following, at = ip[at], at + length
    return (socket.inet_ntop(socket.AF_INET6, ip[8:24]), socket.inet_ntop(socket.AF_INET6, ip[24:40]),
            PROTOCOLS.get(following, "other"), 40 + struct.unpack_from("!H", ip, 4)[0])


class Capture:
    """Every frame of a device, both directions."""

    def __init__(self, host, device):
        with host:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        self.socket.bind((device, ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setblocking(False)
        self.frames = []
        self.times = []  # of each, in seconds, the kernel's

    def read(self):
        """All frames so far: (is it outgoing, frame)."""
        while True:
            try:
                frame, ancillary, _, address = self.socket.recvmsg(65536 + 100, 100)
            except BlockingIOError:
                break
            self.frames.append((address[2] == PACKET_OUTGOING, frame))
            self.times += [seconds + ns / 1e9 for level, kind, data in ancillary if kind == SO_TIMESTAMPNS
                           for seconds, ns in [struct.unpack("qq", data)]]
        _, drops = struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        assert not drops, "the capture is not complete"
        return self.frames

    def count(self, of_peer, outgoing):
        """{protocol: (packets, bytes)} that a gateway on the way must count for a peer, sent by it or sent to it."""
        result = collections.defaultdict(lambda: [0, 0])
        for is_outgoing, frame in self.read():
            packet = describe(frame)
            if is_outgoing != outgoing or not packet or packet[0 if of_peer[1] == "source" else 1] != of_peer[0]:
                continue
            result[packet[2]][0] += 1
            result[packet[2]][1] += packet[3]
        return {protocol: tuple(values) for protocol, values in result.items()}

    def close(self):
        self.socket.close()


def flows(metrics, device, peer, direction):
    """{protocol: (packets, bytes)} as the agent has them."""
    labels = {"device": device, "peer": peer, "direction": direction}
    packets, octets = (metrics.by(name, "protocol", **labels) for name in (PACKETS, BYTES))
    return {protocol: (packets[protocol,], octets[protocol,]) for protocol, in packets}


class Rtt:
    """The RTT histogram of a peer on a device."""

    def __init__(self, metrics, device, peer):
        labels = {"device": device, "peer": peer}
        self.count = metrics.sum(RTT + "_count", **labels)
        self.mean = metrics.sum(RTT + "_sum", **labels) / self.count if self.count else None
        self._below = {float(sample["le"]): value for sample, value in metrics.select(RTT + "_bucket", **labels)}

    def below(self, bound):
        """How many samples are at most bound, a power of two, in seconds."""
        return self._below.get(bound, 0)


def config(*devices):
    return f"""collect:
  tick: 100ms
  flows: [{', '.join(devices)}]
  lookups: off
  drops: off
  processes: off
  interfaces: off
"""


class Net:
    """client - gateway - server. The server's link has a relay; names of ends: where they are, and what they lead to."""

    def __init__(self, lab, **relay):
        self.client, self.gateway, self.server = (lab.host(name) for name in ("client", "gateway", "server"))
        self.client_end, self.near = lab.link(self.client, self.gateway)
        self.far, self.server_end = lab.link(self.gateway, self.server, relay={}, **relay)
        self.relay = self.far.relay
        self.gateway.sysctl("net.ipv4.ip_forward", 1)
        self.gateway.sysctl("net.ipv6.conf.all.forwarding", 1)
        for host, via in ((self.client, self.near), (self.server, self.far)):
            host.run("ip", "route", "add", "default", "via", via.v4)
            host.run("ip", "route", "add", "default", "via", via.v6)
            host.sysctl("net.ipv4.icmp_ratelimit", 0)

    def config(self, *more):
        return config(self.near.device, self.far.device, *more)

    def udp(self, family, length, count):
        with self.server:
            receiver = socket.socket(FAMILIES[family], socket.SOCK_DGRAM)
        receiver.bind((self.server_end.address(family), 0))
        receiver.settimeout(10)
        with self.client, socket.socket(FAMILIES[family], socket.SOCK_DGRAM) as sender:
            for _ in range(count):
                sender.sendto(b"u" * length, receiver.getsockname()[:2])
                assert len(receiver.recv(65536)) == length
        receiver.close()

    @contextlib.contextmanager
    def connection(self, family):
        """A TCP connection of the client to the server: both sockets."""
        with self.server:
            listener = socket.create_server((self.server_end.address(family), 0), family=FAMILIES[family])
        with listener, self.client:
            client = socket.create_connection(listener.getsockname()[:2], timeout=20)
            server, _ = listener.accept()
        server.settimeout(20)
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client, server:
            yield client, server


def exchange(client, server, rounds):
    """Requests and answers, one at a time: no acknowledgement waits for more data."""
    for _ in range(rounds):
        client.sendall(b"q" * 100)
        receive(server, 100)
        server.sendall(b"a" * 100)
        receive(client, 100)


def receive(sock, length):
    while length:
        chunk = sock.recv(min(length, 65536))
        assert chunk, f"ended {length} bytes early"
        length -= len(chunk)


def transfer(sender, receiver, length):
    thread = threading.Thread(target=sender.sendall, args=(b"d" * length,))
    thread.start()
    receive(receiver, length)
    thread.join()


def ping(host, family, address, count):
    protocol, request = (socket.IPPROTO_ICMP, 8) if family == 4 else (socket.IPPROTO_ICMPV6, 128)
    with host, socket.socket(FAMILIES[family], socket.SOCK_RAW, protocol) as sock:
        for number in range(count):
            header = struct.pack("!BBHHH", request, 0, 0, 77, number)
            if family == 4:
                total = sum(struct.unpack("!4H", header))
                header = struct.pack("!BBHHH", request, 0, ~(total + (total >> 16)) & 0xffff, 77, number)
            sock.sendto(header, (address, 0))


def extended_datagram(net):
    """An Ethernet frame: IPv6 with hop-by-hop, destination options and an atomic fragment, then UDP to nobody."""
    source, destination = (ipaddress.ip_address(end.v6).packed for end in (net.client_end, net.server_end))
    payload = struct.pack("!HHHH", 1000, 9, 8 + 20, 1) + b"x" * 20
    headers = bytes((60, 0, 1, 4, 0, 0, 0, 0)) + bytes((44, 0, 1, 4, 0, 0, 0, 0)) + bytes((17, 0, 0, 0, 0, 0, 0, 9))
    return struct.pack("!IHBB", 6 << 28, len(headers + payload), 0, 64) + source + destination + headers + payload


def link(host, device):
    return json.loads(host.run("ip", "-json", "-statistics", "link", "show", device))[0]


def mac(host, device):
    return bytes.fromhex(link(host, device)["address"].replace(":", ""))


def send_frames(host, device, frames):
    with host, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((device, 0))
        for frame in frames:
            sock.send(frame)


def test_counts_are_those_of_a_capture(lab, start_agent):
    net = Net(lab)
    agent = start_agent(net.gateway, net.config())
    captures = [Capture(end.host, end.device) for end in (net.client_end, net.server_end)]
    for family in (4, 6):
        net.udp(family, 700, 20)
        net.udp(family, 4000, 5)  # in fragments
        ping(net.client, family, net.server_end.address(family), 7)
        with net.connection(family) as (client, server):
            transfer(client, server, 1 << 20)
            transfer(server, client, 1 << 20)
        with net.client, socket.socket(FAMILIES[family], socket.SOCK_RAW, IPPROTO_EXPERIMENT) as sock:
            sock.sendto(b"o" * 50, (net.server_end.address(family), 0))
    header = mac(net.gateway, net.near.device) + mac(net.client, net.client_end.device)
    send_frames(net.client, net.client_end.device, [header + b"\x86\xdd" + extended_datagram(net)] * 11)
    # Counted, but not forwarded: the gateway has no such devices. It keeps the outer tag beside the packet, the inner ones stay.
    send_frames(net.client, net.client_end.device, [header + tags + b"\x86\xdd" + extended_datagram(net) for tags in (
        b"\x81\x00\x00\x64", b"\x88\xa8\x00\x0a\x81\x00\x00\x64", b"\x88\xa8\x00\x0a\x81\x00\x00\x64\x81\x00\x00\x65")])
    send_frames(net.client, net.client_end.device, [header + b"\x81\x00\x00\x64\x08\x06" + b"\0" * 28])  # ARP: no IP

    def expected():
        """Each device's by what is captured at the far end of its link; but TCP, which is whole segments only at the
        server's, and forwarded one by one, by that alone."""
        result = {}
        for family in (4, 6):
            client, server = net.client_end.address(family), net.server_end.address(family)
            to_server = captures[1].count((client, "source"), outgoing=False)
            to_client = captures[1].count((client, "destination"), outgoing=True)
            result[net.near.device, client, "receive"] = {**captures[0].count((client, "source"), True), "tcp": to_server["tcp"]}
            result[net.near.device, client, "transmit"] = {**captures[0].count((client, "destination"), False), "tcp": to_client["tcp"]}
            result[net.far.device, server, "transmit"] = captures[1].count((server, "destination"), False)
            result[net.far.device, server, "receive"] = captures[1].count((server, "source"), True)
        return result

    def equal():
        wanted, metrics = expected(), agent.metrics()
        return wanted if {key: flows(metrics, *key) for key in wanted} == wanted else None

    net.relay.settle()
    wanted = wait_for(equal, 10 * PATIENCE, lambda: difference(
        expected(), {key: flows(agent.metrics(), *key) for key in expected()}))
    # What the test itself sent is in it: a capture that misses things would agree with an agent that does.
    assert wanted[net.near.device, net.client_end.v4, "receive"]["udp"] == (20 + 5 * 3, 20 * 728 + 5 * (4008 + 3 * 20))
    assert wanted[net.near.device, net.client_end.v6, "receive"]["udp"][0] == 20 + 5 * 3 + 11 + 3
    for family, header in ((4, 52), (6, 72)):
        packets, octets = wanted[net.far.device, net.server_end.address(family), "transmit"]["tcp"]
        assert packets > (1 << 20) / 1500 and octets >= (1 << 20) + header * (1 << 20) / 1500
        assert all(wanted[key]["icmp"][0] >= 7 for key in wanted)
    # The client's kernel did hand over many segments at once, and they were counted one by one.
    segments = sum(wanted[net.near.device, net.client_end.address(family), "receive"]["tcp"][0] for family in (4, 6))
    assert link(net.gateway, net.near.device)["stats64"]["rx"]["packets"] < segments
    assert agent.metrics().sum("netsonde_lost_events_total", source="flow_conversation") == 0
    for capture in captures:
        capture.close()


def tun(host):
    """A device without a link header, and the descriptor that packets go through."""
    with host:
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"tunnel", IFF_TUN | IFF_NO_PI))
    host.run("ip", "address", "add", "10.77.9.1/24", "dev", "tunnel")
    host.run("ip", "link", "set", "tunnel", "up")
    return fd


def test_a_device_without_a_link_header(lab, start_agent):
    gateway = lab.host("gateway")
    fd = tun(gateway)
    agent = start_agent(gateway, config("tunnel"))
    source, destination = (ipaddress.ip_address(text).packed for text in ("10.77.9.2", "10.77.9.1"))
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + 8 + 30, 1, 0, 64, socket.IPPROTO_UDP, 0) + source + destination
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xffff) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~total & 0xffff) + header[12:]
    for _ in range(5):
        os.write(fd, header + struct.pack("!HHHH", 1000, 9, 38, 0) + b"t" * 30)
    # Nobody listens on the port: the gateway answers, and its answer comes out of the tunnel.
    answers = []

    def answered():
        while select.select([fd], [], [], 0)[0]:
            packet = os.read(fd, 2000)
            if packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_ICMP:
                answers.append(len(packet))
        return answers

    wait_for(answered, 5, "an answer through the tunnel")
    agent.wait_metrics(lambda metrics: (flows(metrics, "tunnel", "10.77.9.2", "receive"),
                                        flows(metrics, "tunnel", "10.77.9.2", "transmit")),
                       ({"udp": (5, 5 * 58)}, {"icmp": (len(answered()), sum(answers))}))
    os.close(fd)


def segment(frame):
    """(family, sequence number, acknowledgement, how many numbers it occupies) of a TCP segment; None for any other frame."""
    packet = describe(frame)
    if not packet or packet[2] != "tcp":
        return None
    at, header = (14 + 20, 20) if frame[12:14] == b"\x08\x00" else (14 + 40, 40)
    sequence, acknowledgement, words, flags = struct.unpack_from("!IIBB", frame, at + 4)
    return 4 if header == 20 else 6, sequence, acknowledgement, packet[3] - header - 4 * (words >> 4) + (flags & 1) + (flags >> 1 & 1)


def round_trips(capture, wanted):
    """Seconds from each segment that goes out and occupies sequence numbers to the first that comes in and acknowledges them."""
    segments = [(time, outgoing, segment(frame)) for time, (outgoing, frame) in zip(capture.times, capture.frames)
                if segment(frame) and segment(frame)[0] == wanted]
    result = []
    for index, (sent, outgoing, (_, sequence, _, occupied)) in enumerate(segments):
        if outgoing and occupied:
            result.append(next(time for time, out, (_, _, acknowledged, _) in segments[index:]
                               if not out and (acknowledged - sequence - occupied) % 2**32 < 2**31) - sent)
    return result


@pytest.mark.parametrize("timestamps", [1, 0])
def test_rtt_of_forwarded_connections(lab, start_agent, timestamps):
    net = Net(lab, delay="20ms")
    net.client.sysctl("net.ipv4.tcp_timestamps", timestamps)
    agent = start_agent(net.gateway, net.config())
    capture = Capture(net.gateway, net.far.device)
    for family in (4, 6):
        net.udp(family, 100, 1)  # no SYN waits in the gateway until it knows its neighbour
        with net.connection(family) as (client, server):
            exchange(client, server, 12)
    net.relay.settle()
    metrics = agent.settle()
    assert len(capture.read()) == len(capture.times)
    for family in (4, 6):
        truth = round_trips(capture, family)
        assert len(truth) >= 14 and min(truth) >= 0.04, truth  # the SYN, the requests, the FIN
        for device in (net.near.device, net.far.device):
            rtt = Rtt(metrics, device, net.server_end.address(family))
            if not timestamps:
                assert rtt.count == len(truth)
            assert len(truth) / 2 <= rtt.count <= len(truth), (rtt.count, truth)  # a timestamp that was seen before tells nothing
            assert min(truth) <= rtt.mean <= max(truth) + 0.005 * PATIENCE, (rtt.mean, truth)
            if rtt.count == len(truth):
                assert abs(rtt.mean - sum(truth) / len(truth)) < 0.005 * PATIENCE, (rtt.mean, truth)
            assert not rtt.below(2**-5), "faster than the link"
        # The client is next to the gateway; it answers at once, as the kernel or with its next request.
        rtt = Rtt(metrics, net.near.device, net.client_end.address(family))
        assert rtt.count >= 6 and rtt.mean < min(truth) / 2, vars(rtt)
    assert metrics.sum("netsonde_map_entries", map="flow_conversations") == 0, "all of them ended"
    capture.close()


@pytest.mark.parametrize("timestamps", [1, 0])
def test_rtt_where_packets_are_lost_and_reordered(lab, start_agent, timestamps):
    """Loss, duplication and reordering make no sample that is smaller than the path, and hardly any that is larger."""
    net = Net(lab, delay="20ms", a_to_b={"loss": "1/90", "reorder": "1/70", "hold": "3ms", "duplicate": "1/80"},
              b_to_a={"loss": "1/100", "reorder": "1/80", "hold": "3ms"})
    net.client.sysctl("net.ipv4.tcp_timestamps", timestamps)
    agent = start_agent(net.gateway, net.config())
    with net.connection(4) as (client, server):
        transfer(client, server, 1 << 19)
        transfer(server, client, 1 << 19)
    counts = net.relay.settle()
    assert all(counts[direction]["lost"] and counts[direction]["reordered"] for direction in counts)
    assert net.client.counters("Tcp")["RetransSegs"] and net.server.counters("Tcp")["RetransSegs"]
    rtt = Rtt(agent.settle(), net.far.device, net.server_end.v4)
    assert rtt.count >= 4
    assert not rtt.below(2**-5)
    # Acknowledgements that were lost behind us make some larger. One that is taken for another's would be a time-out off: 0.2 s.
    assert rtt.below(2**-3) >= 0.7 * rtt.count, vars(rtt)


class Mirror:
    """A mirror port: copies every frame of a device of the gateway, both directions, to a device that nobody answers on."""

    def __init__(self, net, lab):
        self.out, self.end = lab.link(net.gateway, lab.host("probe"))
        self.capture = Capture(net.gateway, net.far.device)
        self.capture.socket.setblocking(True)
        self.capture.socket.settimeout(0.05)
        with net.gateway:
            self.sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.sender.bind((self.out.device, 0))
        self.running = True
        self.thread = threading.Thread(target=self.copy)
        self.thread.start()

    def copy(self):
        while self.running:
            try:
                self.sender.send(self.capture.socket.recv(65536))
            except (socket.timeout, OSError):  # nothing for a while; or the end of the test took the devices away
                continue

    def close(self):
        self.running = False
        self.thread.join()
        self.capture.close()
        self.sender.close()


def test_mirrored_traffic(lab, start_agent):
    """Both directions of a connection arrive as received; so does what the agent makes of it."""
    net = Net(lab, delay="20ms")
    net.gateway.finish_packets(net.far.device)
    net.client.finish_packets(net.client_end.device)
    mirror = Mirror(net, lab)
    agent = start_agent(mirror.end.host, config(mirror.end.device))
    capture = Capture(net.server, net.server_end.device)
    with net.connection(4) as (client, server):
        exchange(client, server, 12)
    net.relay.settle()
    expected = {peer: capture.count((peer, "source"), outgoing=peer == net.server_end.v4)
                for peer in (net.client_end.v4, net.server_end.v4)}
    agent.wait_metrics(lambda metrics: {peer: flows(metrics, mirror.end.device, peer, "receive") for peer in expected}, expected)
    metrics = agent.metrics()
    rtt = Rtt(metrics, mirror.end.device, net.server_end.v4)
    assert rtt.count >= 6 and 0.035 <= rtt.mean <= 0.06 * PATIENCE, vars(rtt)
    assert not metrics.select(PACKETS, device=mirror.end.device, peer=net.server_end.v4, direction="transmit")
    mirror.close()
    capture.close()


def feature(agent, name):
    features = json.loads(agent.get("/api/v1/features")[2])["data"]["features"]
    return next(item for item in features if item["feature"] == name)


def test_interfaces_come_and_go(lab, start_agent):
    net = Net(lab)
    agent = start_agent(net.gateway, net.config("nosuch0"))
    assert feature(agent, "flows")["mode"] in ("tcx", "packet_socket")
    missing = feature(agent, "flow_interfaces")
    assert not missing["enabled"] and "there is no interface nosuch0" in missing["reason"]

    net.udp(4, 100, 3)
    peer, counted = net.client_end.v4, {"udp": (3, 3 * 128)}
    agent.wait_metrics(lambda metrics: flows(metrics, net.near.device, peer, "receive"), counted)
    net.gateway.run("ip", "link", "set", net.near.device, "down")
    net.gateway.run("ip", "link", "set", net.near.device, "name", "renamed0")
    net.gateway.run("ip", "link", "set", "renamed0", "up")
    wait_for(lambda: flows(agent.metrics(), "renamed0", peer, "receive") == counted, 10, "the new name")
    assert not agent.metrics().select(PACKETS, device=net.near.device)

    net.gateway.run("ip", "link", "delete", "renamed0")
    wait_for(lambda: "interface renamed0 disappeared" in feature(agent, "flow_interfaces")["reason"], 10, "the loss reported")
    assert any("disappeared" in line["msg"] and line["interface"] == "renamed0" for line in agent.log())
    # Its counters stand, and the other interface is still watched.
    assert flows(agent.metrics(), "renamed0", peer, "receive") == counted
    with net.gateway, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"u" * 100, (net.server_end.v4, 9))
    wait_for(lambda: flows(agent.metrics(), net.far.device, net.server_end.v4, "transmit")["udp"] == (4, 4 * 128), 10,
             "the other interface")


def test_no_interface_is_no_collector(lab, start_agent):
    gateway = lab.host("gateway")
    agent = start_agent(gateway, config("nosuch0"))
    missing = feature(agent, "flows")
    assert not missing["enabled"] and "there is no interface nosuch0" in missing["reason"]


def test_off_by_default(lab, start_agent):
    """What is off names the key that turns it on."""
    agent = start_agent(lab.host("gateway"))
    off = feature(agent, "flows")
    assert not off["enabled"] and off["reason"] == "not asked for: collect.flows"
    assert not agent.metrics().select(PACKETS)


def test_one_interface_with_two_names(lab, start_agent):
    """It is watched once, under the name that came first."""
    net = Net(lab)
    net.gateway.run("ip", "link", "property", "add", "dev", net.near.device, "altname", "again0")
    agent = start_agent(net.gateway, net.config("again0"))
    missing = feature(agent, "flow_interfaces")
    assert not missing["enabled"]
    assert f"again0 is another name of interface {net.near.device}" in missing["reason"]
    net.udp(4, 100, 3)
    agent.wait_metrics(lambda metrics: flows(metrics, net.near.device, net.client_end.v4, "receive"), {"udp": (3, 3 * 128)})
    assert not agent.metrics().select(PACKETS, device="again0")


def test_others_are_left_alone(lab, start_agent, programs):
    """Two agents on the same interfaces, one of them killed; a queueing discipline that somebody else made."""
    net = Net(lab)
    net.gateway.run("tc", "qdisc", "add", "dev", net.near.device, "clsact")
    agents = [start_agent(net.gateway, net.config()), netsonde.Agent(programs, net.gateway, net.config())]
    agents[1].wait_ready()
    net.udp(4, 100, 3)
    key = (net.near.device, net.client_end.v4, "receive")
    for agent in agents:
        agent.wait_metrics(lambda metrics: flows(metrics, *key), {"udp": (3, 3 * 128)})
    agents[1].program.signal(signal.SIGKILL)
    agents[1].program.process.wait()
    KernelObjects.wait_gone(agents[1].kernel_objects)
    net.udp(4, 100, 3)
    agents[0].wait_metrics(lambda metrics: flows(metrics, *key), {"udp": (6, 6 * 128)})
    agents[0].stop()
    assert "clsact" in net.gateway.run("tc", "qdisc", "show", "dev", net.near.device)


def test_more_connections_than_there_is_room_for(lab, start_agent):
    """What the map has no room for is counted, its packets all the same; it is measured once there is room."""
    net = Net(lab)
    agent = start_agent(net.gateway, net.config() + "  max_sockets: 1024\n")  # room for an eighth: 128
    with contextlib.ExitStack() as stack:
        for _ in range(70):  # on two devices
            stack.enter_context(net.connection(4))
        metrics = agent.settle()
        assert metrics.sum("netsonde_map_entries", map="flow_conversations") == 128
        assert metrics.sum("netsonde_map_max_entries", map="flow_conversations") == 128
        assert metrics.sum("netsonde_lost_events_total", source="flow_conversation") >= 2 * 70 - 128
    wait_for(lambda: agent.metrics().sum("netsonde_map_entries", map="flow_conversations") == 0, 20 * PATIENCE, "all gone")
    before = Rtt(agent.metrics(), net.far.device, net.server_end.v4).count
    with net.connection(4) as (client, server):
        exchange(client, server, 2)
        assert Rtt(agent.settle(), net.far.device, net.server_end.v4).count > before
