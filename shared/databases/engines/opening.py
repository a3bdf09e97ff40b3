"""Opening a PostgreSQL at the start: what must not be used is refused by name, before any write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from shared.databases.engines.address import DatabaseAddress
from shared.databases.engines.connections import Connections, Raw, connect
from shared.databases.engines.faults import translated
from shared.databases.engines.tables import migrate
from shared.errors import DatabaseRefused

OLDEST_SERVER = 14
_PROBE = 7_101_992_002
# Of two hosts that start at once with different new keys, the second sees what the first notes. In
# `key` are all that were ever first, the newest before the others: none comes back by itself.
_NOTED = "SELECT instance, store, prefix, key FROM installation FOR UPDATE"


@dataclass(frozen=True)
class InstallationFacts:
    """What all hosts of one installation have in common: where backups go, and the token keys.

    All of it may be shown; `keys` are fingerprints, that in use first. A command without keys in
    its environment has none.
    """

    store: str
    prefix: str
    keys: tuple[str, ...]


@contextmanager
def open_postgres(address: DatabaseAddress, most: int = 3) -> Iterator[Connections]:
    """Prepare the database, and keep connections for a block; raises what `prepare` raises."""
    prepare(address)
    with closing(Connections(address, most=most)) as connections:
        yield connections


def prepare(address: DatabaseAddress) -> None:
    """Check the server, and make or migrate our tables.

    Raises `DatabaseRefused`, `DatabaseSchemaMismatch`, and other `DatabaseError`s.
    """
    what = f"the database {address.place}"
    with (
        translated(what),
        closing(connect(address, "sales-bot start")) as first,
        closing(connect(address, "sales-bot start")) as second,
    ):
        refuse_old_server(first.info.server_version, what)
        refuse_server_that_counts_nothing(first, what)
        refuse_lock_that_does_not_lock(first, second, what)
        migrate(first, what)


def refuse_old_server(version: int, what: str) -> None:
    """Raise `DatabaseRefused` for a server before `OLDEST_SERVER`; `version` as libpq has it."""
    if version // 10_000 < OLDEST_SERVER:
        raise DatabaseRefused(
            f"{what} is PostgreSQL {version // 10_000}, which does not end idle sessions",
            f"Use PostgreSQL {OLDEST_SERVER} or newer.",
        )


def refuse_server_that_counts_nothing(session: Raw, what: str) -> None:
    """Raise `DatabaseRefused` where writes are not counted: no change would ever be noticed."""
    row = session.execute("SHOW track_counts").fetchone()
    if row is None or row[0] != "on":
        raise DatabaseRefused(
            f"{what} does not count what is written (track_counts is off), so no change would "
            "start a backup",
            "Set track_counts=on in the settings of the server, of the database and of the user of "
            "DATABASE_URL, then start again.",
        )


def refuse_lock_that_does_not_lock(first: Raw, second: Raw, what: str) -> None:
    """Raise `DatabaseRefused` where two sessions get one advisory lock at the same time.

    So it is with CockroachDB, and with a pooler that shares one session among its clients.
    """
    if not _try_lock(first):
        return  # another host probes now; it would not be kept out by a lock that does not lock
    try:
        both = _try_lock(second)
        if both:
            _unlock(second)
    finally:
        _unlock(first)
    if both:
        raise DatabaseRefused(
            f"{what} gives one advisory lock to two sessions, so two hosts could lead at once",
            "Use PostgreSQL itself, by its direct port: not CockroachDB, and no pooler in "
            "transaction mode (PgBouncer).",
        )


def is_moved(connections: Connections) -> bool:
    """Whether a migration has brought the data from here to SQLite."""
    query = "SELECT EXISTS (SELECT 1 FROM versions WHERE source = 'moved')"
    with connections.begin(f"BEGIN READ ONLY; {query}") as (_, row):
        return bool(row[0])


def note_moved(connections: Connections, *, moved: bool) -> None:
    """Remember that; or that the data is here again."""
    note = "INSERT INTO versions(source, version) VALUES ('moved', 1) ON CONFLICT DO NOTHING"
    forget = "DELETE FROM versions WHERE source = 'moved'"
    with connections.begin("BEGIN") as (raw, _):
        raw.execute((note if moved else forget).encode())
        raw.execute("COMMIT")


def claim_installation(connections: Connections, facts: InstallationFacts, instance: str) -> str:
    """Be a host of the installation that this database has, or begin one; its instance.

    `instance` is that of a new one. A host that has the key that is noted, and a new one first,
    notes that: the key was rotated. Raises `DatabaseRefused` when the database belongs to an
    installation with another store or prefix, or with a key that this host does not have.
    """
    claim = (
        "INSERT INTO installation(one, instance, store, prefix, key) VALUES (1, %s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING"
    )
    first = facts.keys[0] if facts.keys else ""
    with connections.begin("BEGIN") as (raw, _):
        raw.execute(claim, (instance, facts.store, facts.prefix, first))
        row = raw.execute(_NOTED).fetchall()[0]
        there, store, prefix, noted = (str(value) for value in row)
        _refuse_other_key(connections.what, noted, facts.keys)
        wrong = [
            f"{name} {value!r} there, {here!r} here"
            for name, value, here in (
                ("store", store, facts.store),
                ("BACKUP_PREFIX", prefix, facts.prefix),
            )
            if value != here
        ]
        if not wrong and first not in ("", *noted.split()):
            raw.execute("UPDATE installation SET key = %s", (f"{first} {noted}".strip(),))
        raw.execute("COMMIT")
    if wrong:
        raise DatabaseRefused(
            f"{connections.what} belongs to an installation elsewhere: {'; '.join(wrong)}",
            "Give all hosts of an installation the same settings, and each installation a database "
            "of its own. If this one moves to another store: stop the app on all hosts, then "
            "./bot backups migrate --to store",
        )
    return there


def move_installation(connections: Connections, facts: InstallationFacts) -> tuple[str, str] | None:
    """Note that the installation has another store or prefix from now on; those that it had.

    None where the database has no installation. Raises `DatabaseRefused` when its key is not one of
    this host's.
    """
    with connections.begin("BEGIN") as (raw, _):
        row = raw.execute(_NOTED).fetchone()
        if row is None:
            return None
        _, store, prefix, noted = (str(value) for value in row)
        _refuse_other_key(connections.what, noted, facts.keys)
        raw.execute("UPDATE installation SET store = %s, prefix = %s", (facts.store, facts.prefix))
        raw.execute("COMMIT")
    return store, prefix


def _refuse_other_key(what: str, noted: str, keys: tuple[str, ...]) -> None:
    newest = noted.partition(" ")[0]
    if newest and keys and newest not in keys:
        raise DatabaseRefused(
            f"{what} belongs to an installation whose token key {newest} is not in "
            "TOKEN_ENCRYPTION_KEYS here",
            "Give all hosts of an installation the same TOKEN_ENCRYPTION_KEYS, the new key first "
            "after a rotation, and each installation a database of its own.",
        )


def _try_lock(session: Raw) -> bool:
    row = session.execute("SELECT pg_try_advisory_lock(%s)", (_PROBE,)).fetchone()
    return bool(row and row[0])


def _unlock(session: Raw) -> None:
    session.execute("SELECT pg_advisory_unlock(%s)", (_PROBE,))
