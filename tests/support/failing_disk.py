"""The command line in a process whose disk cannot read a part of a file: a real EIO.

The kernel answers `pread(2)` from an offset on with EIO, by a seccomp filter of that process.
SQLite reads pages with this call, and Python's own files do not. So it needs no rights, no device
and no library of its own; the offset tells one large database from all other files.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import subprocess
import sys

from tests.support.installation import REPOSITORY, Installation
from tests.support.warm_python import run_warm

# prctl(2), seccomp(2), and linux/filter.h.
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER_MODE = 38, 22, 2
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
# Of `struct seccomp_data`; the offset is the fourth argument of pread64, which is below 4 GiB here.
_NUMBER_AT, _ARCHITECTURE_AT, _OFFSET_AT = 0, 4, 40
# AUDIT_ARCH_* (linux/audit.h), and the number of pread64.
_CALLS = {"x86_64": (0xC000003E, 17), "aarch64": (0xC00000B7, 67)}


def run_with_failing_disk(
    installation: Installation, offset: int, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """`./bot backups …`, which cannot read what lies at `offset` or behind it in any file."""
    return run_warm(
        [sys.executable, "-m", "tests.support.failing_disk", str(offset), *arguments],
        cwd=installation.folder,
        env=installation.environment,
        timeout=120,
    )


def _fail_reads(offset: int) -> None:
    architecture, number = _CALLS[platform.machine()]
    steps = (
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 0, 5, architecture),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_EQUAL, 0, 3, number),
        (_LOAD, 0, 0, _OFFSET_AT),
        (_AT_LEAST, 0, 1, offset),
        (_RETURN, 0, 0, _ERRNO | errno.EIO),
        (_RETURN, 0, 0, _ALLOW),
    )
    program = ctypes.create_string_buffer(
        b"".join(struct.pack("HBBI", code, yes, no, value) for code, yes, no, value in steps)
    )
    described = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    for call in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _FILTER_MODE, described, 0, 0),
    ):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    from backups.cli.main import main

    assert str(REPOSITORY) in sys.path
    _fail_reads(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
