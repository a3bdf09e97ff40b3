"""`Trickle`: a TCP server that takes any request, and answers it a byte at a time, or never."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

_SECONDS_A_BYTE = 0.05


class Trickle:
    """Serves for the length of a `with` block: `at_once` whole, then dots without an end.

    With `silent`, it says nothing at all.
    """

    def __init__(self, at_once: bytes = b"", *, silent: bool = False) -> None:
        self._at_once = at_once
        self._silent = silent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self.connections = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

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
            self.connections += 1
            thread = threading.Thread(target=self._answer, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _answer(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.recv(65536)
            if not self._silent:
                client.sendall(self._at_once)
            while not self._stopping.wait(_SECONDS_A_BYTE):
                if not self._silent:
                    client.sendall(b".")
