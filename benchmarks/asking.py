"""`python -m benchmarks.asking PORT RATE`: asks a server, at a steady rate, until its input ends.

The first line of input is a JSON document: `head` is a list of header lines, the first of them
the request line, and `bodies` are sent in turn. Each request is sent when it is due, however
long others take. Prints `asking`, and in the end when each was sent (monotonic) and took, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

_MOST_SECONDS_IDLE = 2.0  # uvicorn waits for five


class Asker:
    """Keeps connections open, and opens another when all of them wait for an answer."""

    def __init__(self, port: int, requests: list[bytes]) -> None:
        self._port = port
        self._requests = requests
        self._free: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.told: list[tuple[float, float]] = []

    async def ask(self, number: int) -> None:
        """One request and its answer."""
        reader, writer = await self._connection()
        sent = time.monotonic()
        writer.write(self._requests[number % len(self._requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        if not lines[0].startswith(b"http/1.1 200"):
            raise RuntimeError(f"the server answered {lines[0]!r}")
        length = next(line for line in lines if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        self.told.append((sent, time.monotonic() - sent))
        self._free.append((time.monotonic(), reader, writer))

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The one that was used last; those that have been idle for long the server closes."""
        while self._free:
            used, reader, writer = self._free.pop()
            if time.monotonic() - used < _MOST_SECONDS_IDLE:
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)


async def ask_until_told(port: int, rate: float, requests: list[bytes]) -> None:
    """Ask; print what was found."""
    asker = Asker(port, requests)
    loop = asyncio.get_running_loop()
    stop = loop.run_in_executor(None, sys.stdin.read)
    print("asking", flush=True)
    number, due, asked = 0, loop.time(), set[asyncio.Task[None]]()
    while not stop.done():
        task = asyncio.create_task(asker.ask(number))
        asked.add(task)
        number, due = number + 1, max(due + 1 / rate, loop.time() - 1)
        await asyncio.sleep(max(0.0, due - loop.time()))
        for done in [task for task in asked if task.done()]:
            done.result()
            asked.remove(done)
    await asyncio.gather(*asked)
    print(json.dumps(asker.told), flush=True)


if __name__ == "__main__":
    given = json.loads(sys.stdin.readline())
    texts = [
        "\r\n".join([*given["head"], *more, "", body]).encode() for body, more in given["bodies"]
    ]
    asyncio.run(ask_until_told(int(sys.argv[1]), float(sys.argv[2]), texts))
