"""What systemd is told: that the process serves, and that it goes on.

The protocol is one datagram with `NAME=value` lines to the socket that `NOTIFY_SOCKET` names:
https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from shared.process.lasting_work import Sign
from shared.settings.load import Manager

_log = logging.getLogger(__name__)


@asynccontextmanager
async def announced(manager: Manager, signs: Callable[[], Sequence[Sign]]) -> AsyncIterator[None]:
    """Say that the process serves, for the length of a block; nothing where nobody listens.

    If systemd watches, it is pinged twice in each of its intervals, from the event loop: no ping
    comes while the loop does not answer, or while a thread of `signs` is stuck, and systemd then
    starts the app again. Threads that fail do not count: a restart would not help.
    """
    if manager.socket is None:
        yield
        return
    _send(manager.socket, "READY=1")
    pinging = asyncio.create_task(_ping(manager, manager.socket, signs))
    try:
        yield
    finally:
        pinging.cancel()
        with suppress(asyncio.CancelledError):
            await pinging
        _send(manager.socket, "STOPPING=1")


async def _ping(manager: Manager, address: str, signs: Callable[[], Sequence[Sign]]) -> None:
    if not manager.watchdog_seconds or manager.watched_pid not in (None, os.getpid()):
        return
    stuck_before: set[str] = set()
    while True:
        stuck = {sign.name for sign in signs() if sign.is_stuck}
        if stuck - stuck_before:
            _log.error("no ping to systemd: stuck threads: %s", ", ".join(sorted(stuck)))
        stuck_before = stuck
        if not stuck:
            _send(address, "WATCHDOG=1")
        await asyncio.sleep(manager.watchdog_seconds / 2)


def _send(address: str, line: str) -> None:
    """Send one line; without an answer, so a listener that is gone is only logged."""
    name = "\0" + address[1:] if address.startswith("@") else address  # an abstract socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(line.encode(), name)
    except OSError as error:
        _log.warning("%s did not reach systemd: %s", line, error.strerror)
