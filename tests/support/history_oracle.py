"""What histories are judged by: sqlite3, json and the dictionary of a `ModelStore`, no program.

`content_of` says what is at the place of a database, `SafeRows` where rows that are not live are,
`StoreJudge` what may be deleted in the store.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from tests.support.model_store import Kept

PREFIX = "backups/"
PRE_RESTORE_AGE = timedelta(days=7)

# The rows of a sound database; or the hash of what is there, which is none; or None: nothing.
Content = frozenset[str] | bytes | None


class Broken(AssertionError):
    """A promise is broken."""


def connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    """A connection that waits for nobody, for `closing`."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.Connection(uri, uri=True, isolation_level=None, timeout=0)


def content_of(path: Path, table: str) -> Content:
    """What is at a place where nobody has a database open."""
    sides = [path.with_name(path.name + end) for end in ("-wal", "-journal")]
    if not any(file.exists() for file in (path, *sides)):
        return None
    if path.exists() and path.stat().st_size:
        try:
            with closing(connect(path)) as connection:
                return _rows(connection, table)
        except sqlite3.DatabaseError:
            pass
    found = hashlib.sha256()
    for file in (path, *sides):
        found.update(file.read_bytes() if file.exists() else b"-")
    return found.digest()


def _rows(connection: sqlite3.Connection, table: str) -> frozenset[str]:
    return frozenset(str(row[0]) for row in connection.execute(f'SELECT key FROM "{table}"'))


class SafeRows:
    """The rows of one source in the safety copies and quarantine folders of an installation."""

    def __init__(self, live: Path, directory: Path, now: Callable[[], datetime]) -> None:
        self._live = live
        self._directory = directory
        self._now = now
        self._known: dict[tuple[Path, int], tuple[datetime, frozenset[str]]] = {}

    def look(self) -> tuple[frozenset[str], frozenset[str]]:
        """The rows that are safe now, and those that were safe for their week, and went."""
        table, found = self._live.stem, set()
        for path in (
            *self._directory.glob(f"pre-restore/*/{self._live.name}"),
            *self._live.parent.glob(f"{self._live.name}.quarantine-*/{self._live.name}"),
        ):
            one = path, path.stat().st_mtime_ns
            found.add(one)
            if one not in self._known:
                content = content_of(path, table)
                rows = content if isinstance(content, frozenset) else frozenset()
                # Looking at it may have brought its `-wal` into it.
                one = path, path.stat().st_mtime_ns
                found.add(one)
                self._known[one] = self._now(), rows
        past: set[str] = set()
        for gone in self._known.keys() - found:
            since, rows = self._known.pop(gone)
            if self._now() - since >= PRE_RESTORE_AGE:
                past |= rows
        return frozenset().union(*(rows for _, rows in self._known.values())), frozenset(past)

    def holds_bytes(self, digest: bytes) -> bool:
        """Whether a damaged main file with this hash is at its place, or in quarantine."""
        places = (
            self._live,
            *self._live.parent.glob(f"{self._live.name}.quarantine-*/{self._live.name}"),
        )
        return any(
            hashlib.sha256(path.read_bytes()).digest() == digest for path in places if path.exists()
        )


@dataclass(frozen=True)
class StoredSet:
    """A set, by its manifest in the dictionary."""

    id: str
    kind: str
    instance: str
    at: datetime
    good: bool
    objects: Mapping[str, tuple[str, str]]  # by source: key and SHA-256


class StoreJudge:
    """Watches what is deleted; `actor` is the id of the installation that acts now."""

    def __init__(self, objects: Mapping[str, Kept], now: Callable[[], datetime]) -> None:
        self._objects = objects
        self._now = now
        self.actor = ""
        # What is found in the middle of a run, where the program would catch it.
        self.broken: list[str] = []
        # When an installation (the first) took over another's sets, as the store says.
        self._successions: dict[tuple[str, str], datetime] = {}

    def sets(self) -> list[StoredSet]:
        """All sets, newest first."""
        found = [
            self._set(json.loads(kept.body))
            for key, kept in self._objects.items()
            if key.endswith("/manifest.json")
        ]
        return sorted(found, key=lambda one: one.at, reverse=True)

    def _set(self, document: dict[str, Any]) -> StoredSet:
        return StoredSet(
            id=document["id"],
            kind=document["kind"],
            instance=document["instance"],
            at=datetime.fromisoformat(document["instant"]),
            good=bool(
                document["kind"] == "set"
                and document["complete"]
                and document["proven_at"]
                and not document["suspect"]
            ),
            objects={one["source"]: (one["key"], one["sha256"]) for one in document["objects"]},
        )

    def rows(self, one: StoredSet, source: str) -> frozenset[str]:
        """The rows of a source in a set."""
        with closing(sqlite3.Connection(":memory:")) as connection:
            connection.deserialize(self._objects[one.objects[source][0]].body)
            return _rows(connection, source)

    def line(self, instance: str) -> set[str]:
        """An installation, and those whose sets are its own: by its documents in the store.

        What publishes again after it was taken over is another installation.
        """
        self._read_documents()
        newest: dict[str, datetime] = {}
        for one in self.sets():
            newest.setdefault(one.instance, one.at)
        return {instance} | {
            former
            for (successor, former), since in self._successions.items()
            if successor == instance and newest.get(former, since) <= since
        }

    def _read_documents(self) -> None:
        for key in self._objects:
            if key.startswith(f"{PREFIX}instances/") and key.endswith(".json"):
                document = json.loads(self._objects[key].body)
                for former in document.get("succeeds", ()):
                    pair = document["instance"], former
                    self._successions.setdefault(pair, datetime.fromisoformat(document["at"]))

    def note_delete(self, key: str) -> None:
        """For `ModelStore.before_delete`."""
        sets = self.sets()
        if key.endswith("/manifest.json"):
            self._judge_prune(next(one for one in sets if one.id == key.split("/")[-2]), sets)
            return
        digest = hashlib.sha256(self._objects[key].body).hexdigest()
        for one in sets:
            if (key, digest) in one.objects.values():
                self.broken.append(f"{key} is deleted, and listed set {one.id} claims it")
            elif key.startswith(f"{PREFIX}sets/{one.id}/"):
                self.broken.append(f"{key} is deleted, and set {one.id} is listed")

    def _judge_prune(self, gone: StoredSet, sets: Collection[StoredSet]) -> None:
        line = self.line(self.actor)
        if gone.instance not in line:
            self.broken.append(f"{self.actor} prunes {gone.id} of {gone.instance}, not of {line}")
        if gone.kind == "pre-restore" and self._now() - gone.at < PRE_RESTORE_AGE:
            self.broken.append(f"{gone.id} is pruned before its week is over")
        good = [one for one in sets if one.good and one.instance in line]
        if gone in good and len(good) == 1:
            self.broken.append(f"{gone.id} is pruned, the last good set of {line}")

    def judge(self) -> None:
        """Raise `Broken` for what was deleted, and for a listed set that lacks an object."""
        for one in self.sets():
            for key, sha256 in one.objects.values():
                kept = self._objects.get(key)
                if kept is None or hashlib.sha256(kept.body).hexdigest() != sha256:
                    self.broken.append(f"set {one.id} is listed without {key}")
        if self.broken:
            raise Broken("; ".join(self.broken))


def refuse(message: str) -> NoReturn:
    """Raise `Broken`."""
    raise Broken(message)
