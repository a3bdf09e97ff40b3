"""Where the log of a live database ends, as SQLite's index of it says.

The index is the `-shm`, which SQLite has mapped into this process while a connection is open. It
is read in that mapping, through `/proc/self/mem`: opening the file, and closing it, would drop
SQLite's locks. Its layout is in https://www.sqlite.org/walformat.html#walidxfmt; that its two
copies are equal and their checksum is right shows that it was not read while it was written.
"""

from __future__ import annotations

import os
import re
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from backups.increments.wal.file import LogEnd, is_page_size, running_checksum

_COPY_BYTES = 48
_INDEX = struct.Struct("=3I2BH4I8s2I")
_VERSION = 3007000
_NATIVE = "<" if sys.byteorder == "little" else ">"
# Addresses, permissions, offset, device, inode, path; proc(5) writes a line feed as \012. On an
# overlay the device and inode are not those of `stat`.
_MAPPING = re.compile(rb"([0-9a-f]+)-[0-9a-f]+ \S+ 0+ \S+ \d+ +(/.*)")


@dataclass(frozen=True)
class WalIndex:
    """The mapping of one `-shm` in this process; it stays while a connection is open."""

    address: int

    @classmethod
    def find(cls, shm: Path) -> Self | None:
        """The index of an open database; None on a host that does not show it."""
        path = os.fsencode(shm).replace(b"\n", b"\\012")
        try:
            lines = Path("/proc/self/maps").read_bytes().split(b"\n")
        except OSError:
            return None
        for line in lines:
            mapping = _MAPPING.fullmatch(line)
            if mapping and mapping[2] == path:
                return cls(int(mapping[1], 16))
        return None

    def end(self) -> LogEnd | None:
        """Where the log ends now; None where that cannot be read, or is just being written."""
        try:
            with open("/proc/self/mem", "rb", buffering=0) as memory:
                raw = os.pread(memory.fileno(), 2 * _COPY_BYTES, self.address)
        except OSError:
            return None
        return parse_index(raw)


def parse_index(raw: bytes) -> LogEnd | None:
    """What the first 96 bytes of an index say; None unless they are whole and right."""
    copy = raw[:_COPY_BYTES]
    if len(raw) != 2 * _COPY_BYTES or raw[_COPY_BYTES:] != copy:
        return None
    version, _, _, initialized, _, size, frame, pages, first, second, salts, *own = _INDEX.unpack(
        copy
    )
    page_size = 65536 if size == 1 else size
    if version != _VERSION or initialized != 1:
        return None
    if frame and not is_page_size(page_size):  # a log in which nothing was yet has none
        return None
    if running_checksum((0, 0), copy[:40], _NATIVE) != tuple(own):
        return None
    return LogEnd(salts, frame, pages, (first, second), page_size)
