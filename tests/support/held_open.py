"""`held_open`: strangers who hold requests to the bot open, and send a byte now and then."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

# Of the right form, and of nothing.
_SIGNATURE = b"sha256=" + b"0" * 64
_SECONDS_BETWEEN_BYTES = 1.0


@dataclass
class HeldOpen:
    """What came of the connections so far: `ended` has the seconds after which each was closed."""

    wanted: int
    answers: Counter[str] = field(default_factory=Counter)  # the first line of each
    texts: set[str] = field(default_factory=set)
    ended: list[float] = field(default_factory=list)

    @property
    def has_ended(self) -> bool:
        """Whether the server has closed all of them."""
        return len(self.ended) == self.wanted


@contextmanager
def held_open(
    port: int, *, bodies: int, heads: int = 0, forms: int = 0, size: int = 100_000
) -> Iterator[HeldOpen]:
    """For the length of a block: webhooks with half a body, of `size` bytes, half heads, and logins
    to the page."""
    held = HeldOpen(bodies + heads + forms)
    ending = threading.Event()

    async def hold() -> None:
        head = (
            b"POST /facebook/webhook HTTP/1.1\r\nHost: bot\r\nContent-Type: application/json\r\n"
            b"X-Hub-Signature-256: %b\r\n" % _SIGNATURE
        )
        form = (
            b"POST /admin/login HTTP/1.1\r\nHost: bot\r\nContent-Length: 10000\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\ntoken="
        )
        body = b"%bContent-Length: %d\r\n\r\n%b" % (head, 2 * size, b"x" * size)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_hold(held, port, sent))
                for sent in (*[body] * bodies, *[head] * heads, *[form] * forms)
            ]
            while not (ending.is_set() or all(task.done() for task in tasks)):
                await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(hold()), name="held-open")
    thread.start()
    try:
        yield held
    finally:
        ending.set()
        thread.join()


async def _hold(held: HeldOpen, port: int, sent: bytes) -> None:
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        sending = asyncio.create_task(_send(writer, sent))
        try:
            received = b""
            with suppress(ConnectionError):
                while chunk := await reader.read(65536):
                    if not received:
                        held.answers[chunk.split(b"\r\n")[0].decode()] += 1
                    received += chunk
                    held.texts.add(received.partition(b"\r\n\r\n")[2].decode())
            held.ended.append(time.monotonic() - began)
        finally:
            sending.cancel()
            await asyncio.wait([sending])
    finally:
        writer.close()


async def _send(writer: asyncio.StreamWriter, sent: bytes) -> None:
    with suppress(ConnectionError):
        while True:
            writer.write(sent)
            await writer.drain()
            await asyncio.sleep(_SECONDS_BETWEEN_BYTES)
            sent = b"x"


def resident_bytes(pid: int, name: str = "VmRSS") -> int:
    """`VmRSS` of a process, or `VmHWM`, the most of it so far, in bytes (proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{pid} has no {name}")
