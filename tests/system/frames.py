# SPDX-License-Identifier: Apache-2.0
"""Ethernet frames taken apart and put together, for tests that speak on the wire themselves.

A Frame is what a probe or an answer has; `build()` makes the bytes with right lengths and checksums, after which a test
may spoil them. Written against RFC 791, 8200, 792, 4443, 768, 9293, not with the project's parser.
"""
import dataclasses
import json
import socket
import struct

ICMP, TCP, UDP, ICMP6, FRAGMENT, DESTINATION_OPTIONS, HOP_BY_HOP = 1, 6, 17, 58, 44, 60, 0
ECHO_REQUEST, ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
IPV4, IPV6, VLAN = 0x0800, 0x86dd, 0x8100


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


@dataclasses.dataclass
class Frame:
    """transport: the bytes behind the IP header, its checksum field at `checksum_at`."""
    to: bytes
    sender: bytes
    source: str
    destination: str
    protocol: int
    transport: bytes
    tags: tuple = ()        # 16 bit tag control informations, outermost first
    ttl: int = 64
    dscp: int = 0
    options: bytes = b""    # IPv4 options, or IPv6 extension headers already in order
    first_header: int = -1  # of IPv6, when there are extension headers
    fragment: int = 0       # IPv4: flags and offset, as in the header

    @property
    def family(self):
        return 6 if ":" in self.source else 4

    def reply(self, **changes):
        """The same the other way."""
        return dataclasses.replace(self, to=self.sender, sender=self.to, source=self.destination,
                                   destination=self.source, ttl=64, **changes)

    def but(self, **changes):
        return dataclasses.replace(self, **changes)

    def _addresses(self):
        return tuple(socket.inet_pton(socket.AF_INET6 if self.family == 6 else socket.AF_INET, address)
                     for address in (self.source, self.destination))

    @property
    def sound(self):
        """Its transport's checksum is right."""
        return self._checked_transport() == self.transport

    def _checked_transport(self):
        at = {ICMP: 2, ICMP6: 2, UDP: 6, TCP: 16}.get(self.protocol)
        if at is None or len(self.transport) < at + 2:
            return self.transport
        body = self.transport[:at] + b"\0\0" + self.transport[at + 2:]
        pseudo = b"" if self.protocol == ICMP else b"".join(self._addresses()) + struct.pack(
            "!II", len(body), self.protocol)
        value = checksum(pseudo + body)
        if self.protocol == UDP and not value:
            value = 0xffff
        return body[:at] + struct.pack("!H", value) + body[at + 2:]

    def build(self, check=True):
        """check: with a new checksum of the transport; else as it is."""
        transport = self._checked_transport() if check else self.transport
        source, destination = self._addresses()
        if self.family == 4:
            words = 5 + len(self.options) // 4
            header = struct.pack("!BBHHHBBH4s4s", 0x40 | words, self.dscp << 2, words * 4 + len(transport), 0x1234,
                                 self.fragment, self.ttl, self.protocol, 0, source, destination) + self.options
            header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
        else:
            first = self.protocol if self.first_header < 0 else self.first_header
            header = struct.pack("!IHBB16s16s", 6 << 28 | self.dscp << 22, len(self.options) + len(transport), first,
                                 self.ttl, source, destination) + self.options
        tags = b"".join(struct.pack("!HH", VLAN, tag) for tag in self.tags)
        kind = IPV6 if self.family == 6 else IPV4
        return self.to + self.sender + tags + struct.pack("!H", kind) + header + transport


def parse(data):
    """A Frame, or None when it is no IP. Extension headers but a fragment's are passed over, fragments not joined."""
    at, tags = 12, []
    while data[at:at + 2] == b"\x81\0":
        tags.append(struct.unpack_from("!H", data, at + 2)[0])
        at += 4
    kind = struct.unpack_from("!H", data, at)[0]
    at += 2
    common = dict(to=data[:6], sender=data[6:12], tags=tuple(tags))
    if kind == IPV4:
        (first, tos, length, _, fragment, ttl, protocol, _, source,
         destination) = struct.unpack_from("!BBHHHBBH4s4s", data, at)
        header = (first & 15) * 4
        return Frame(source=socket.inet_ntop(socket.AF_INET, source),
                     destination=socket.inet_ntop(socket.AF_INET, destination),
                     protocol=protocol, transport=data[at + header:at + length], ttl=ttl, dscp=tos >> 2,
                     options=data[at + 20:at + header], fragment=fragment, **common)
    if kind == IPV6:
        first, length, header, ttl, source, destination = struct.unpack_from("!IHBB16s16s", data, at)
        start = end = at + 40
        protocol = header
        while protocol in (HOP_BY_HOP, DESTINATION_OPTIONS) and end + 8 <= len(data):
            protocol, end = data[end], end + 8 + data[end + 1] * 8
        return Frame(source=socket.inet_ntop(socket.AF_INET6, source),
                     destination=socket.inet_ntop(socket.AF_INET6, destination),
                     protocol=protocol, transport=data[end:start + length], ttl=ttl, dscp=first >> 22 & 63,
                     options=data[start:end], first_header=header, **common)
    return None


def echo_reply(request):
    """The answer to an echo request."""
    kind = bytes([ECHO_REPLY[request.family]])
    return request.reply(transport=kind + request.transport[1:])


def is_echo_request(frame):
    return frame and frame.protocol in (ICMP, ICMP6) and frame.transport[:1] == bytes([ECHO_REQUEST[frame.family]])


def udp(frame, source_port, destination_port, payload):
    """The frame with a datagram in it."""
    header = struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0)
    return frame.but(protocol=UDP, transport=header + payload)


def tcp(frame, source_port, destination_port, sequence, acknowledgement, flags, options=b""):
    header = struct.pack("!HHIIBBHHH", source_port, destination_port, sequence & 0xffffffff,
                         acknowledgement & 0xffffffff, 80 + len(options) * 4, flags, 64240, 0, 0)
    return frame.but(protocol=TCP, transport=header + options)


def ports(frame):
    return struct.unpack_from("!HH", frame.transport)


def tcp_fields(frame):
    """(sequence, acknowledgement, flags)"""
    sequence, acknowledgement, _, flags = struct.unpack_from("!IIBB", frame.transport, 4)
    return sequence, acknowledgement, flags


def mac_address(host, device):
    return bytes.fromhex(json.loads(host.run("ip", "-j", "link", "show", device))[0]["address"].replace(":", ""))


def with_extension(frame, kinds):
    """IPv6 with extension headers of these kinds, of 8 bytes of padding, in front of the transport."""
    headers, following = b"", frame.protocol
    for kind in reversed(kinds):
        headers = bytes([following, 0, 1, 4, 0, 0, 0, 0]) + headers
        following = kind
    return frame.but(options=headers, first_header=following)


