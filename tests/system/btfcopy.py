# SPDX-License-Identifier: Apache-2.0
"""Another kernel, as far as an agent can see: it gets a copy of this kernel's BTF in which something is changed, mounted over
the real one in a mount namespace of its own. What the kernel itself does is not changed.
"""
import os
import stat
import struct

import netsonde

BTF = "/sys/kernel/btf/vmlinux"


class BtfCopy:
    """The kernel's BTF with something changed, for an agent of its own."""

    def __init__(self, directory):
        self.directory = directory
        with open(BTF, "rb") as file:
            self.data = bytearray(file.read())
        header = struct.unpack_from("=HBBIIIII", self.data)
        assert header[0] == 0xeb9f
        self.types, self.strings = header[3] + header[4], header[3] + header[6]
        self.types_end = self.types + header[5]
        self.strings_end = self.strings + header[7]

    def string(self, offset):
        start = self.strings + offset
        return bytes(self.data[start:self.data.index(b"\0", start)]).decode()

    def rename(self, old, new):
        """Each whole string that reads so."""
        assert len(old) == len(new)
        at = self.data.find(b"\0" + old.encode() + b"\0", self.strings, self.strings_end)
        assert at >= 0
        self.data[at + 1:at + 1 + len(old)] = new.encode()

    def members(self, enum):
        """{name: where its value is} of an enum. Sizes of what follows a type: linux/btf.h."""
        extra = {1: 4, 3: 12, 14: 4, 17: 4}                          # int, array, var, declaration tag
        each = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}           # struct, union, enum, prototype, section, enum64
        at = self.types
        while at < self.types_end:
            name, info, _ = struct.unpack_from("=III", self.data, at)
            kind, count = info >> 24 & 0x1f, info & 0xffff
            body = at + 12
            if kind == 6 and self.string(name) == enum:
                return {self.string(struct.unpack_from("=I", self.data, body + 8 * i)[0]): body + 8 * i + 4
                        for i in range(count)}
            at = body + extra.get(kind, 0) + count * each.get(kind, 0)
        raise AssertionError(f"no enum {enum}")

    def swap(self, enum, one, other):
        members = self.members(enum)
        a, b = members[one], members[other]
        self.data[a:a + 4], self.data[b:b + 4] = self.data[b:b + 4], self.data[a:a + 4]

    def binary(self):
        """A program that starts the agent with this BTF in the place of the kernel's."""
        copy, wrapper = os.path.join(self.directory, "vmlinux"), os.path.join(self.directory, "netsonde")
        with open(copy, "wb") as file:
            file.write(self.data)
        with open(wrapper, "w", encoding="utf-8") as file:
            file.write(f"""#!/bin/sh
exec unshare -m sh -c 'mount --bind "{copy}" {BTF} && exec "{netsonde.BINARY}" "$@"' sh "$@"
""")
        os.chmod(wrapper, os.stat(wrapper).st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        return wrapper
