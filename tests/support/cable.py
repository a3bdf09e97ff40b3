"""`Cable`: the network between a client and a server on this machine, which a test can cut.

While it is cut, the kernel drops each packet that the client sends, as a router that is gone would:
nothing is refused and nothing is acknowledged. The server sees a client that is silent.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.support.waiting import eventually

# socket(7), SO_ATTACH_FILTER: a classic BPF program of one instruction, which returns 0: "drop".
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_DROP = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
_PROGRAM = struct.pack("HxxxxxxP", 1, ctypes.addressof(_DROP))


class Cable:
    """Leads to a port on 127.0.0.1 for the length of a `with` block."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._marker: bytes | None = None
        self._lock = threading.Lock()
        self._whole = threading.Event()
        self._whole.set()
        self._clients: set[socket.socket] = set()
        self._servers: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    @property
    def port(self) -> int:
        """Where the client finds the server."""
        return int(self._listener.getsockname()[1])

    def cut(self) -> None:
        """Let nothing through from now on."""
        with self._lock:
            self._whole.clear()
            for end in (self._listener, *self._clients):
                _drop(end)

    def cut_after(self, marker: bytes) -> None:
        """Cut it as soon as the client has sent these bytes, in one piece, and nothing more."""
        self._marker = marker

    def wait_until_cut(self) -> None:
        """Return when it is cut."""
        eventually(lambda: not self._whole.is_set(), "the cut")

    def mend(self) -> None:
        """Let everything through again, also what was on its way."""
        with self._lock:
            for end in (self._listener, *self._clients):
                with suppress(OSError):  # it has none
                    end.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            self._whole.set()

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._whole.is_set():
            self.mend()
        with self._lock:
            self._stopped = True
            for end in (self._listener, *self._clients, *self._servers):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._clients, *self._servers):
            end.close()

    def _begin(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="cable")  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # stopped
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # nobody listens there: the client learns it
                client.close()
                continue
            with self._lock:
                if self._stopped:
                    client.close()
                    server.close()
                    return
                self._clients.add(client)
                self._servers.add(server)
                if not self._whole.is_set():
                    _drop(client)
                self._begin(self._pass_on, client, server)
                self._begin(self._pass_on, server, client)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while True:
                data = source.recv(65536)
                self._whole.wait()  # what ends while it is cut, the other side does not see
                if not data:
                    break
                if self._marker is not None and self._marker in data:
                    through = data.partition(self._marker)[0] + self._marker
                    self._marker = None
                    self.cut()
                    target.sendall(through)
                    data = data.removeprefix(through)
                    self._whole.wait()
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _drop(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM)
