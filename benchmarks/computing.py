"""`python -m benchmarks.computing SECONDS`: keeps one processor busy for so long, then ends."""

from __future__ import annotations

import hashlib
import sys
import time

_BYTES = bytes(1024 * 1024)


def main(seconds: str) -> None:
    """Hash until the time is over."""
    ends = time.monotonic() + float(seconds)
    while time.monotonic() < ends:
        hashlib.sha256(_BYTES).digest()


if __name__ == "__main__":
    main(*sys.argv[1:])
