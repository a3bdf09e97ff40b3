"""A server and a client of it in a network of their own, so that both may have fixed ports.

`python -m tests.support.own_network HEALTH_URL SERVER... -- CLIENT...`, under `unshare --net`:
runs the client when the server is healthy, and ends as it does.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import subprocess
import sys
import urllib.request
from contextlib import suppress

from tests.support.waiting import eventually

# netdevice(7): set the flags of an interface; up and running.
_SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x8914, 0x41


def main(health: str, *arguments: str) -> int:
    """Run both; the exit code of the client."""
    _raise_loopback()
    between = arguments.index("--")
    with subprocess.Popen(arguments[:between], stdout=sys.stderr, stderr=sys.stderr) as server:
        try:
            eventually(lambda: _is_healthy(health), f"{health} answers", seconds=60)
            return subprocess.run(arguments[between + 1 :], check=False, timeout=60).returncode
        finally:
            server.kill()


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP_RUNNING))


def _is_healthy(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return bool(answer.status == 200)
    return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
