"""Which machine this is."""

from __future__ import annotations

import socket
from pathlib import Path

from backups.format.instance import machine_hash

MACHINE_ID = Path("/etc/machine-id")


def this_machine() -> str | None:
    """What stands for this machine in the store; None where it has no id of its own."""
    try:
        return machine_hash(MACHINE_ID.read_bytes()[:100].decode("utf-8", "replace"))
    except OSError:
        return None


def this_host() -> str:
    """The name of this host, as far as it can be printed."""
    return "".join(one for one in socket.gethostname() if one.isprintable())[:255]
