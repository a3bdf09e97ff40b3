"""`SlowPipe`: a TCP pipe to a server: bodies come back a byte at a time, or go up slowly."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_SECONDS_A_BYTE = 0.05


class SlowPipe:
    """While `slow`, what follows the head of a long answer is sent byte by byte.

    `upload_rate` is how many bytes a second go up, None for no limit.
    """

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self.slow = False
        self.upload_rate: int | None = None

    @property
    def endpoint(self) -> str:
        """What a client is told as its endpoint."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._upstream)
            for source, target, slowly in ((client, server, False), (server, client, True)):
                thread = threading.Thread(target=self._pump, args=(source, target, slowly))
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, target: socket.socket, slowly: bool) -> None:
        source.settimeout(0.05)
        with suppress(OSError):
            while not self._stopping.is_set():
                try:
                    chunk = source.recv(65536)
                except TimeoutError:
                    continue
                if not chunk:
                    break
                if slowly and self.slow and len(chunk) > 2000:
                    self._trickle(chunk, target)
                else:
                    target.sendall(chunk)
                if not slowly and self.upload_rate:
                    self._stopping.wait(len(chunk) / self.upload_rate)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        if slowly:
            source.close()
            target.close()

    def _trickle(self, chunk: bytes, target: socket.socket) -> None:
        head = chunk.find(b"\r\n\r\n") + 4
        target.sendall(chunk[:head])
        for byte in chunk[head:]:
            if self._stopping.wait(_SECONDS_A_BYTE) or not self.slow:
                return
            target.sendall(bytes([byte]))
