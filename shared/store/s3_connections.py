"""The connections of an S3 client, so that a wait can be ended that the SDK would not end.

The SDK's time limits are for each single wait on a socket. An answer that trickles never meets
one, and at a shutdown a minute for each of five attempts is too long.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from botocore.exceptions import HTTPClientError

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


class OpenConnections:
    """Watches the connections of one client, from all threads; make it before the first request.

    The classes of the connections are replaced inside botocore's session, because nothing public
    ends a request that is under way: `client.close()` closes idle connections only, the limits of
    `Config` are for each wait, and a handler of `before-send` could only take the whole transport
    over, with TLS, proxies and `Expect: 100-continue`
    (https://docs.aws.amazon.com/botocore/latest/topics/events.html).
    """

    def __init__(self, client: S3Client, answer_timeout: float) -> None:
        self._answer_timeout = answer_timeout
        self._lock = threading.Lock()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._closed = False
        self._here = threading.local()
        endpoint: Any = client._endpoint  # type: ignore[attr-defined]
        classes = endpoint.http_session._pool_classes_by_scheme
        classes.update({scheme: self._watched(pool) for scheme, pool in classes.items()})
        client.meta.events.register_first("before-send.s3", self._refuse)
        client.meta.events.register_first("needs-retry.s3", self._refuse)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Inside, each answer has to be there, whole, in time; else its connection is cut.

        The time runs from the end of the request. What is read later, as a stream, is not of it.
        """
        before = getattr(self._here, "wait", None)
        wait = self._here.wait = _Wait(self._answer_timeout)
        try:
            yield
        finally:
            wait.end()
            self._here.wait = before

    def close_after(self, seconds: float) -> None:
        """Let no request begin any more after that time, and cut those that are not over."""
        timer = threading.Timer(seconds, self._close)
        timer.daemon = True
        timer.start()

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            found = list(self._sockets)
        for one in found:
            _cut(one)

    def _add(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.add(connection)
            closed = self._closed
        if closed:
            _cut(connection)

    def _refuse(self, **_: Any) -> None:
        """Before each request, and before each new attempt."""
        wait = getattr(self._here, "wait", None)
        if self._closed or (wait is not None and wait.is_over):
            raise HTTPClientError(error="the connection was cut")

    def _watched(self, pool: type[Any]) -> type[Any]:
        outer = self

        class Connection(pool.ConnectionCls):  # type: ignore[misc,name-defined]
            def _new_conn(self) -> socket.socket:
                connected: socket.socket = super()._new_conn()
                self._in_handshake.append(connected.dup())  # TLS takes the other one over
                outer._add(self._in_handshake[0])
                return connected

            def connect(self) -> None:
                self._in_handshake: list[socket.socket] = []
                try:
                    super().connect()
                finally:
                    for one in self._in_handshake:
                        one.close()
                outer._add(self.sock)

            def getresponse(self) -> Any:
                wait = getattr(outer._here, "wait", None)
                if wait is not None:
                    wait.begin(self.sock)
                return super().getresponse()

        return type(pool.__name__, (pool,), {"ConnectionCls": Connection})


class _Wait:
    """One thread's wait for an answer; a later request of it begins anew."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: threading.Timer | None = None
        self.is_over = False

    def begin(self, connection: socket.socket) -> None:
        self.end()
        self._timer = threading.Timer(self._seconds, self._expire, (connection,))
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self, connection: socket.socket) -> None:
        self.is_over = True
        _cut(connection)


def _cut(connection: socket.socket) -> None:
    """End both directions: whoever waits on it wakes up. A TLS object is left as it is."""
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
