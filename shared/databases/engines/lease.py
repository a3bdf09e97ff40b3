"""A lease for several hosts: an advisory lock of PostgreSQL, with an epoch that fences late writes.

Whoever has the lock has raised the epoch. What the holder writes it writes `fenced`: a transaction
that begins under an older epoch is refused, and one that has begun is over before the epoch rises.
A holder beats each second. The server ends the session of one that does not, frozen or cut off, and
with it the lock; so another host holds it within seconds.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg

from shared.databases.engines.address import DatabaseAddress
from shared.databases.engines.connections import Connections, Raw, connect
from shared.databases.engines.faults import translated
from shared.databases.engines.holder import Holder
from shared.databases.engines.postgres import PostgresDatabase, Transaction
from shared.errors import LeadershipLost

BEAT_SECONDS = 1.0
SILENCE_SECONDS = 5  # after which the server ends the session of a holder
_LOCKS = 7_101_993  # of the advisory locks, with the place of the name
_NAMES = ("scheduler", "run", "copy", "follow")
_SECONDS_BETWEEN_TRIES = 0.05

_log = logging.getLogger(__name__)

# The epoch rises, which waits for fenced transactions of the holder before.
_TAKE = """
    INSERT INTO leases(name, epoch, host, pid, since, beat) VALUES (%s, 1, %s, %s, now(), now())
    ON CONFLICT(name) DO UPDATE SET epoch = leases.epoch + 1, host = excluded.host,
        pid = excluded.pid, since = excluded.since, beat = excluded.beat, signs = NULL
    RETURNING epoch
    """


class HeldSharedLease:
    """A lease in this process's hands until `release`, or until the server ends its session."""

    def __init__(self, raw: Raw, name: str, epoch: int) -> None:
        self.epoch = epoch
        self._raw = raw
        self._name = name
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"{name} lease", daemon=True)
        self._thread.start()

    def keep(self) -> bool:
        """Whether it is still held; False for good once another holder was there, or may be."""
        if self._ended.is_set():
            return False
        try:
            kept = self._raw.execute(
                "UPDATE leases SET beat = now() WHERE name = %s AND epoch = %s",
                (self._name, self.epoch),
            ).rowcount
        except psycopg.Error:
            kept = 0
        except Exception:  # whatever it is, the server gets no beat any more
            _log.exception("the beat of the %s lease failed: the lease counts as lost", self._name)
            kept = 0
        if kept != 1:
            self._ended.set()
            self._raw.close()
        return kept == 1

    def tell(self, text: str) -> None:
        """Let all hosts know how this holder is; of one that was another meanwhile, nobody."""
        try:
            self._raw.execute(
                "UPDATE leases SET signs = %s, signs_at = now() WHERE name = %s AND epoch = %s",
                (text, self._name, self.epoch),
            )
        except psycopg.Error as error:  # `keep` says what that means
            _log.warning("the %s lease does not take what its holder says: %s", self._name, error)

    def fenced(self, connections: Connections, source: str) -> PostgresDatabase:
        """A source of which each write is refused, by `LeadershipLost`, once this is not held."""
        return PostgresDatabase(connections, source, fence=(self._name, self.epoch))

    def release(self) -> None:
        """Let another holder in; releasing twice is allowed."""
        self._ended.set()
        self._raw.close()  # which frees the lock
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self.keep()


class SharedLease:
    """A lease that at most one process of all hosts has at a time; raises `DatabaseError`."""

    def __init__(
        self,
        address: DatabaseAddress,
        name: str,
        *,
        host: Callable[[], str] = socket.gethostname,
    ) -> None:
        self._address = address
        self._what = f"the database {address.place}"
        self._name = name
        self._number = _NAMES.index(name)
        self._host = host
        self.held: HeldSharedLease | None = None

    def try_acquire(self, timeout: float = 0) -> HeldSharedLease | None:
        """The lease, or None when another holder keeps it for `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (held := self._try()) is None and time.monotonic() < deadline:
            time.sleep(_SECONDS_BETWEEN_TRIES)
        self.held = held or self.held
        return held

    def is_free(self) -> bool:
        """Whether nobody holds it now."""
        return self.announced() is None

    def announce(self) -> None:
        """Nothing: whoever takes it is in the database at once."""

    def holder(self) -> tuple[str, int] | None:
        """`(host, pid)` of who holds it, or None when it is free."""
        found = self.announced()
        return None if found is None else (found.host, found.pid)

    def announced(self) -> Holder | None:
        """Who holds it now, and since when; None when it is free."""
        query = (
            "SELECT host, pid, now() - since, coalesce(signs, ''),"
            " coalesce(now() - signs_at, interval '0') FROM leases WHERE name = %s AND EXISTS ("
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s"
            " AND objid = %s AND objsubid = 2 AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database()))"
        )
        with translated(self._what):
            raw = connect(self._address, f"sales-bot {self._name}")
            try:
                row = raw.execute(query, (self._name, _LOCKS, self._number)).fetchone()
            finally:
                raw.close()
        if row is None:
            return None
        host, pid, held_for, signs, age = row
        return Holder(host, pid, held_for, signs=signs, signs_age=age)

    def is_kept(self) -> bool:
        """Whether somebody holds it."""
        return not self.is_free()

    def _try(self) -> HeldSharedLease | None:
        with translated(self._what):
            raw = connect(
                self._address,
                f"sales-bot {self._name}",
                f"-c idle_session_timeout={SILENCE_SECONDS}s",
            )
            try:
                lock = "SELECT pg_try_advisory_lock(%s, %s)"
                if not raw.execute(lock, (_LOCKS, self._number)).fetchall()[0][0]:
                    raw.close()
                    return None
                values = (self._name, self._host(), os.getpid())
                epoch = raw.execute(_TAKE, values).fetchall()[0][0]
            except BaseException:
                with suppress(psycopg.Error):
                    raw.close()
                raise
        return HeldSharedLease(raw, self._name, epoch)


class LeaderDatabase(PostgresDatabase):
    """A source, for the process that holds a lease: `LeadershipLost` once it does not."""

    def __init__(self, connections: Connections, source: str, lease: SharedLease) -> None:
        super().__init__(connections, source)
        self._lease = lease
        self._name = source

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A write transaction that is fenced by the epoch of the lease as it is held now."""
        held = self._lease.held
        if held is None:
            raise LeadershipLost(
                f"this process does not lead, and may not write to {self.connections.what}",
                "Nothing to do: the process that leads does the work.",
            )
        with held.fenced(self.connections, self._name).transaction() as connection:
            yield connection
