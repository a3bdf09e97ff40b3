"""The connections of one process to one PostgreSQL: few, kept, and made anew when they break."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from shared.databases.engines.address import DatabaseAddress
from shared.databases.engines.faults import translate, translated
from shared.errors import DatabaseUnreachable

SCHEMA = "sales_bot"
MOST_CONNECTIONS = 3
CONNECT_SECONDS = 3
PATIENCE_SECONDS = 5.0
# The server ends what stands still, so that a frozen host keeps nobody waiting for longer.
_OPTIONS = (
    f"-c search_path={SCHEMA} -c statement_timeout=30s -c lock_timeout=10s"
    " -c idle_in_transaction_session_timeout=5s -c client_encoding=UTF8 -c TimeZone=UTC"
    " -c synchronous_commit=on"
    # The server, too, notices what a cut network swallows.
    " -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
)

Raw = psycopg.Connection[tuple[Any, ...]]


def connect(address: DatabaseAddress, name: str, options: str = "") -> Raw:
    """A new connection in autocommit mode; raises `psycopg.Error`."""
    return psycopg.connect(
        address.url,
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
        # Each statement is one message. None of the server's timeouts ends a session that has got
        # some of the messages of a statement, and waits for the others with all its locks.
        cursor_factory=psycopg.ClientCursor,
        application_name=name,
        options=f"{_OPTIONS} {options}",
        # What a cut network swallows is noticed within seconds.
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,
    )


class Connections:
    """At most `most` connections, shared by all threads; raises `DatabaseError`."""

    def __init__(
        self,
        address: DatabaseAddress,
        *,
        most: int = MOST_CONNECTIONS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.address = address
        self.what = f"the database {address.place}"
        self._patience = patience
        self._most = most
        self._free = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._idle: list[Raw] = []
        self._closed = False

    @contextmanager
    def begin(self, statements: str) -> Iterator[tuple[Raw, tuple[Any, ...]]]:
        """A connection on which `statements`, which begin a transaction, have run.

        With the first row of the last of them. The transaction is rolled back unless the block has
        committed it. A kept connection that broke meanwhile is replaced by a new one. Raises
        `DatabaseUnreachable` when all are in use for longer than the patience.
        """
        if not self._free.acquire(timeout=self._patience):
            raise DatabaseUnreachable(
                f"all {self._most} connections to {self.what} are in use",
                "Try again. If it happens often, see what keeps them (pg_stat_activity).",
            )
        try:
            with translated(self.what):
                connection, row = self._begun(statements)
            try:
                yield connection, row
            except psycopg.Error as error:
                raise translate(error, self.what) from None
            finally:
                self._give_back(connection)
        finally:
            self._free.release()

    def close(self) -> None:
        """Close what is idle, and what is in use as soon as it is given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _begun(self, statements: str) -> tuple[Raw, tuple[Any, ...]]:
        while (connection := self._take()) is not None:
            try:
                return connection, _run(connection, statements)
            except psycopg.Error:
                broken = connection.closed
                self._give_back(connection)
                if not broken:
                    raise
        connection = connect(self.address, "sales-bot")
        try:
            return connection, _run(connection, statements)
        except BaseException:
            connection.close()
            raise

    def _take(self) -> Raw | None:
        with self._lock:
            if self._closed:
                raise DatabaseUnreachable(f"{self.what} is closed here", "The app is stopping.")
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: Raw) -> None:
        with suppress(psycopg.Error):
            if connection.info.transaction_status != TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
        usable = connection.info.transaction_status == TransactionStatus.IDLE
        with self._lock:
            if usable and not self._closed:
                self._idle.append(connection)
                return
        connection.close()


def _run(connection: Raw, statements: str) -> tuple[Any, ...]:
    cursor = connection.execute(statements.encode())  # without values: all in one round trip
    while cursor.nextset():
        pass
    return (cursor.fetchone() or ()) if cursor.description else ()
