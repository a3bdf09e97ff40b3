"""`BACKUP_DIR/catalogues/`: what this host knows of each store it has used, a file for each.

A store is known by its kind, its place and the prefix of the keys. So other settings begin with
a file that knows nothing: what another store holds protects nothing in this one.

One file, because its tables, its facts and the way to both are one format on the disk.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

from backups.host.state import note_sets_moved, sets_moved
from backups.model import Refusal
from shared.clock import format_utc, parse_utc
from shared.databases.sqlite import Database
from shared.errors import DatabaseError
from shared.files import make_private_directory
from shared.store.object_store import ObjectStore

FOLDER = "catalogues"
_SEEN_AHEAD = "seen ahead "  # a fact about the set whose id follows
_ROTATED = "rotated "
_UPGRADE_MARKED = "upgrade marked"
_OWED_MARK = "owed mark "

_log = logging.getLogger(__name__)

_REMEDY = "It is made anew. Then run: ./bot backups list"

# Instants of `points` are in microseconds since the year 1. `stamped` is the latest instant that
# a document of the set names, and `ahead` whether it lay in the future when that was noted.
MIGRATIONS = (
    """
    CREATE TABLE facts(name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE sets(id TEXT PRIMARY KEY, manifest BLOB NOT NULL, learned_at TEXT);
    CREATE TABLE verdicts(
        set_id TEXT NOT NULL, name TEXT NOT NULL, document BLOB NOT NULL,
        PRIMARY KEY (set_id, name)
    );
    CREATE TABLE dated_objects(
        key TEXT PRIMARY KEY, bytes INTEGER NOT NULL, modified_at TEXT NOT NULL,
        legacy INTEGER NOT NULL, day TEXT
    );
    CREATE INDEX dated_objects_by_day ON dated_objects(day);
    CREATE TABLE doomed(key TEXT PRIMARY KEY, set_id TEXT NOT NULL);
    CREATE TABLE seen(set_id TEXT PRIMARY KEY, at TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE missing_points(
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, created_at TEXT NOT NULL,
        noticed_at TEXT NOT NULL, accepted_at TEXT, keys TEXT NOT NULL DEFAULT '[]'
    );
    CREATE TABLE objects(
        set_id TEXT NOT NULL, key TEXT NOT NULL, bytes INTEGER NOT NULL,
        PRIMARY KEY (set_id, key)
    ) WITHOUT ROWID;
    CREATE TABLE points(
        id TEXT PRIMARY KEY, place TEXT NOT NULL DEFAULT '', readable INTEGER NOT NULL, kind TEXT,
        created_at INTEGER NOT NULL, trigger TEXT, instance TEXT, sequence INTEGER,
        protects INTEGER NOT NULL DEFAULT 0, usable_legacy INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER, stamped INTEGER NOT NULL, ahead INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE INDEX points_by_place ON points(place, id);
    CREATE INDEX points_by_instant ON points(created_at);
    CREATE INDEX points_by_stamp ON points(stamped);
    CREATE INDEX points_ahead ON points(stamped) WHERE ahead;
    CREATE INDEX points_that_protect ON points(place, id, instance, created_at) WHERE protects;
    CREATE INDEX legacy_points ON points(place, id, created_at) WHERE usable_legacy
    """,
)

# Documents that the store has and nobody can read. `version` is that of the object that was read in
# vain; of one that the store did not return there is none, and it is asked for again. And how each
# document is marked, with the key that its mark names. Of a second place: what was copied there and
# compared. Of chains: each with its head and its end;
# the points that are in no pack yet (`instant` in milliseconds since 1970, `sha256` of the object
# as stored); and differentials, packs and checks, an object each.
ADDITIONS = """
    CREATE TABLE IF NOT EXISTS unread_documents(
        key TEXT PRIMARY KEY, set_id TEXT NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL,
        version TEXT
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS marks(
        set_id TEXT NOT NULL, name TEXT NOT NULL, mark TEXT NOT NULL, key TEXT,
        PRIMARY KEY (set_id, name)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS copied(
        key TEXT PRIMARY KEY, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS copied_documents(
        key TEXT PRIMARY KEY, first_tag TEXT NOT NULL, second_tag TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS chains(
        id TEXT PRIMARY KEY, instance TEXT NOT NULL, head BLOB NOT NULL, head_mark TEXT NOT NULL,
        end BLOB, end_mark TEXT, bytes INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS chain_points(
        chain TEXT NOT NULL, number INTEGER NOT NULL, sequence INTEGER NOT NULL,
        instant INTEGER NOT NULL, key TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
        mark TEXT NOT NULL, proven INTEGER NOT NULL, suspect TEXT,
        PRIMARY KEY (chain, number)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS chain_points_by_sequence ON chain_points(sequence);
    CREATE TABLE IF NOT EXISTS chain_objects(
        key TEXT PRIMARY KEY, chain TEXT NOT NULL, kind TEXT NOT NULL, first INTEGER NOT NULL,
        last INTEGER NOT NULL, bytes INTEGER NOT NULL, mark TEXT, document BLOB,
        first_instant INTEGER, last_instant INTEGER, points INTEGER, sha256 TEXT
    ) WITHOUT ROWID
    """

# What `runs.db` had of "the store of the day" until each store had a file of its own.
_MOVED = (
    ("sets", "id, manifest"),
    ("verdicts", "set_id, name, document"),
    ("dated_objects", "key, bytes, modified_at, legacy, day"),
    ("doomed", "key, set_id"),
)


def identity_of(store: ObjectStore, prefix: str) -> str:
    """What a store is known by: the same for two settings that mean the same objects."""
    place = store.location
    if store.kind == "directory":
        place = os.path.realpath(place)
    return json.dumps([store.kind, place, prefix])


def catalogue_path(directory: Path, identity: str) -> Path:
    """The file of the store with this identity, in the `BACKUP_DIR` `directory`."""
    return directory / FOLDER / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.db"


def open_catalogue(directory: Path, store: ObjectStore, prefix: str, records: Database) -> Database:
    """What this host knows of `store`, below `prefix`; made when it is not there.

    The first file takes over, once, what `runs.db` (`records`) had before there were files for
    each store; the next refresh corrects it. Raises `DatabaseError`; records that cannot be used
    now are taken over at another start.
    """
    identity = identity_of(store, prefix)
    path = catalogue_path(directory, identity)
    with suppress(OSError):  # opening the file says why
        make_private_directory(path.parent)
    known = Database(path, MIGRATIONS, additions=ADDITIONS, remedy=_REMEDY, renewed=_report_renewal)
    try:
        _take_over(known, records, identity, prefix)
    except DatabaseError as error:
        _log.warning("the sets of earlier records could not be taken over: %s", error.message)
    except BaseException:
        known.close()
        raise
    with suppress(DatabaseError):  # only a hint says it
        _note_place(known, store.location)
    return known


def _report_renewal(error: DatabaseError, aside: Path | None) -> None:
    _log.warning(
        "what this host knew of the store was made anew, because %s%s. Gone with it: the list of "
        "objects that a prune had still to delete, and which points are missing. The rest is read "
        "from the store again",
        error.message,
        f" (moved to {aside})" if aside else "",
    )


def _take_over(known: Database, records: Database, identity: str, prefix: str) -> None:
    with records.reading() as connection:
        if sets_moved(connection):
            return
        rows = _rows(connection, prefix)
    if rows is None:
        return
    with known.transaction() as connection:
        # Else another process was quicker, or the store was asked already.
        if read_fact(connection, "identity") is None and not read_fact(connection, "listed_at"):
            for table, columns in _MOVED:
                marks = ", ".join("?" * len(columns.split(",")))
                connection.executemany(
                    f"INSERT INTO {table}({columns}) VALUES ({marks})",  # noqa: S608
                    rows[table],
                )
        write_fact(connection, "identity", identity)
    with records.transaction() as connection:
        note_sets_moved(connection, identity)


def _note_place(known: Database, place: str) -> None:
    with known.reading() as connection:
        if read_fact(connection, "place") == place:
            return
    with known.transaction() as connection:
        write_fact(connection, "place", place)


def hint_of_other_places(directory: Path, place: str, second: str | None = None) -> str:
    """In which stores other than that at `place` this host has known restore points, if in any;
    those at `second` need no other settings."""
    found = set()
    for path in (directory / FOLDER).glob("*.db"):
        # What cannot be read names no place.
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as known,
        ):
            if known.execute("SELECT 1 FROM sets LIMIT 1").fetchone():
                found.add(read_fact(known, "place"))
    others = sorted(one for one in found if one and one not in (place, second))
    hint = ""
    if second in found and second != place:
        hint = "The second place has restore points: ./bot backups list --place second. "
    if not others:
        return hint
    return hint + (
        f"This host has known restore points in {' and '.join(others)}: to restore one of them, "
        "set the SPACES_ settings or BACKUP_LOCAL_STORE back to that. "
    )


def _rows(records: sqlite3.Connection, prefix: str) -> dict[str, list[tuple[object, ...]]] | None:
    """What `runs.db` has; None when it was last read for another prefix."""
    row = records.execute("SELECT value FROM facts WHERE name = 'points'").fetchone()
    if row is not None and row[0].partition(" ")[2] != prefix:
        return None
    return {
        table: records.execute(f"SELECT {columns} FROM {table}").fetchall()  # noqa: S608
        for table, columns in _MOVED
    }


# --- facts about the store ------------------------------------------------------------------
#
# last_contact_at   when it last answered, as `format_utc` writes it
# listed_at         when it was last listed to the end
# identity          whose file this is, where it took over what `runs.db` had
# place             where that store is, for a person
# refused           why it could not be listed the last time, as JSON; absent once it was listed
# points            for which program the points were noted, and with which keys their marks were
# order             for whom they were put in order; absent when they are not in order
# seen ahead ID     when a set was first seen here while its time lay in the future
# rotated KEY       all was marked again with this key
# upgrade marked    the sets of the version before were marked, as far as this host knew them
# owed mark ID/NAME a mark of a later time that the store has yet to get


def read_fact(connection: sqlite3.Connection, name: str) -> str | None:
    """One fact about the store, as text."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return str(row[0]) if row else None


def write_fact(connection: sqlite3.Connection, name: str, value: str | None) -> None:
    """Replace a fact, or remove it; within a transaction."""
    connection.execute("DELETE FROM facts WHERE name = ?", (name,))
    if value is not None:
        connection.execute("INSERT INTO facts(name, value) VALUES (?, ?)", (name, value))


def seen_ahead_at(connection: sqlite3.Connection, set_id: str) -> datetime | None:
    """When a set was first seen here while its time lay in the future."""
    text = read_fact(connection, _SEEN_AHEAD + set_id)
    with suppress(ValueError):
        return parse_utc(text) if text else None
    return None


def note_seen_ahead(connection: sqlite3.Connection, set_id: str, at: datetime) -> None:
    """Remember that a set was seen in the future: once its time is past, nothing else tells."""
    if seen_ahead_at(connection, set_id) is None:
        write_fact(connection, _SEEN_AHEAD + set_id, format_utc(at))


def forget_seen_ahead(connection: sqlite3.Connection, set_id: str) -> None:
    """Drop it, with the set."""
    write_fact(connection, _SEEN_AHEAD + set_id, None)


def recorded_at(known: Database) -> dict[str, datetime]:
    """When the manifest of each set was taken in; not of those that `runs.db` had."""
    with known.reading() as connection:
        rows = connection.execute("SELECT id, learned_at FROM sets WHERE learned_at IS NOT NULL")
        return {str(row[0]): parse_utc(row[1]) for row in rows}


def rotated_keys(connection: sqlite3.Connection) -> frozenset[str]:
    """The keys with which all was marked again."""
    return frozenset(_names(connection, _ROTATED))


def note_rotated_key(known: Database, fingerprint: str) -> None:
    """Remember that all was marked again with a key."""
    with known.transaction() as connection:
        write_fact(connection, _ROTATED + fingerprint, "1")


def upgrade_is_marked(known: Database) -> bool:
    """Whether what the version before had made was marked on this host."""
    with known.reading() as connection:
        return read_fact(connection, _UPGRADE_MARKED) is not None


def note_upgrade_marked(known: Database, at: datetime) -> None:
    """Remember that it was, for good: what comes later is never marked for that reason."""
    with known.transaction() as connection:
        write_fact(connection, _UPGRADE_MARKED, format_utc(at))


def owed_marks(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """The marks of a later time that the store has yet to get: pairs of a set's id and a name."""
    found = (name.partition("/") for name in _names(connection, _OWED_MARK))
    return [(set_id, name) for set_id, _, name in found]


def note_owed_marks(known: Database, owed: Iterable[tuple[str, str]]) -> None:
    """Remember which marks the store has yet to get."""
    with known.transaction() as connection:
        for set_id, name in owed:
            write_fact(connection, f"{_OWED_MARK}{set_id}/{name}", "1")


def forget_owed_marks(known: Database, paid: Iterable[tuple[str, str]]) -> None:
    """The store has them, or their sets are gone."""
    with known.transaction() as connection:
        for set_id, name in paid:
            write_fact(connection, f"{_OWED_MARK}{set_id}/{name}", None)


def _names(connection: sqlite3.Connection, beginning: str) -> list[str]:
    """The rest of the name of each fact that begins so, in order."""
    rows = connection.execute(
        "SELECT substr(name, ?2) FROM facts WHERE substr(name, 1, ?2 - 1) = ?1 ORDER BY name",
        (beginning, len(beginning) + 1),
    )
    return [str(row[0]) for row in rows]


def last_contact_at(known: Database) -> datetime | None:
    """When the store last answered."""
    with known.reading() as connection:
        text = read_fact(connection, "last_contact_at")
    with suppress(ValueError):  # what cannot be read counts as absent
        return parse_utc(text) if text else None
    return None


def refusal(known: Database) -> Refusal | None:
    """Why the store could not be listed the last time; None when it was."""
    with known.reading() as connection:
        text = read_fact(connection, "refused")
    with suppress(ValueError, TypeError, KeyError):  # what cannot be read counts as absent
        stored = json.loads(text) if text else None
        if stored:
            return Refusal(
                parse_utc(stored["at"]), stored["code"], stored["message"], stored["hint"]
            )
    return None


def note_refusal(known: Database, found: Refusal | None) -> None:
    """Remember why the store could not be listed, or that it was; writes only what is new."""
    text = None
    if found is not None:
        members = (found.code, found.message, found.hint)
        stored = dict(zip(("code", "message", "hint"), members, strict=True))
        text = json.dumps({"at": format_utc(found.at), **stored})
    with known.reading() as connection:
        if read_fact(connection, "refused") == text:
            return
    with known.transaction() as connection:
        write_fact(connection, "refused", text)


def listed_at(known: Database) -> datetime | None:
    """When the store was last listed to the end."""
    with known.reading() as connection:
        text = read_fact(connection, "listed_at")
    with suppress(ValueError):
        return parse_utc(text) if text else None
    return None


def note_contact(known: Database, at: datetime) -> None:
    """Remember that the store has answered."""
    with known.transaction() as connection:
        write_fact(connection, "last_contact_at", format_utc(at))
