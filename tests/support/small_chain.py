"""`SmallChain`: a real chain in a store, with the rows that its follower keeps of it.

It is written with the functions of `format/` and `increments/` from a real database, so that what
packs, prunes and checks chains can be tried without a follower. `grow(3)` makes three points;
`state(n)` is the database file after number n, to compare a restored one with.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from backups.format import chain, chain_keys, increment
from backups.format.chain import Head, HeadSource
from backups.format.chain_keys import chain_id
from backups.format.increment import Increment, SourceChange
from backups.host.catalogues import ADDITIONS, MIGRATIONS
from backups.increments.bodies import fold
from backups.increments.shadow import Shadow
from backups.sets.chains import table
from backups.sets.chains.table import PointRow
from shared.clock import format_utc
from shared.databases.sqlite import Database
from shared.store.object_store import ObjectStore
from tests.support.marks import MARKS, PREFIX

INSTANCE = "0123456789abcdef"
BEGUN = datetime(2026, 11, 22, 1, tzinfo=UTC)
PAGE_SIZE = 4096


def open_known(folder: Path) -> Database:
    """What a host knows of a store, in a file of its own."""
    return Database(folder / "known.db", MIGRATIONS, additions=ADDITIONS)


class SmallChain:
    """A chain of one source, `tokens`, whose points are a second apart; close it at the end."""

    def __init__(
        self,
        folder: Path,
        store: ObjectStore,
        known: Database,
        *,
        begun: datetime = BEGUN,
        instance: str = INSTANCE,
        recipients: Sequence[str] = (),
        first_sequence: int = 1,
    ) -> None:
        self.set_id = begun.strftime("%Y%m%dT%H%M%SZ")
        self.id = chain_id(self.set_id, instance)
        self.store, self.known, self.instance = store, known, instance
        self._folder = folder / f"work-{self.id}"
        self._folder.mkdir(parents=True)
        self._recipients = tuple(recipients)
        self._live = self._folder / "live.db"
        with closing(sqlite3.connect(self._live)) as connection:
            connection.execute(f"PRAGMA page_size={PAGE_SIZE}")
            connection.execute("CREATE TABLE rows(id INTEGER PRIMARY KEY, text TEXT)")
            connection.executemany(
                "INSERT INTO rows(text) VALUES (?)", [(f"row {one:05}" * 20,) for one in range(200)]
            )
            connection.commit()
        self.full = self._folder / "full.db"
        self.shadow_path = self._folder / "shadow.db"
        for copy in (self.full, self.shadow_path):
            shutil.copyfile(self._live, copy)
        self.shadow = Shadow(self.shadow_path, PAGE_SIZE)
        self.full_sum = self.shadow.sum
        self.number, self.sequence = 0, first_sequence
        self.instant = round(begun.timestamp() * 1000)
        self._states = {0: self.full.read_bytes()}
        self.head = self._put_head(begun)
        self._prev = hashlib.sha256(self.head).hexdigest()

    def close(self) -> None:
        """Close the shadow."""
        self.shadow.close()

    @property
    def live(self) -> Path:
        """The database; nobody has it open between two points."""
        return self._live

    def state(self, number: int) -> bytes:
        """The database file after the point `number`."""
        return self._states[number]

    def grow(self, points: int, *, every: int = 1000) -> list[PointRow]:
        """Make some points, so many milliseconds apart; their rows."""
        return [self._step(every) for _ in range(points)]

    def wait(self, milliseconds: int) -> None:
        """Let time pass before the next point."""
        self.instant += milliseconds

    def write(self) -> None:
        """Change the database as an application does."""
        with closing(sqlite3.connect(self._live)) as connection:
            connection.execute(
                "UPDATE rows SET text = ? WHERE id = ?",
                (f"changed {self.number + 1:06}" * 18, self.number % 200 + 1),
            )
            connection.execute("INSERT INTO rows(text) VALUES (?)", (f"new {self.number}" * 10,))
            connection.commit()

    def _step(self, every: int) -> PointRow:
        self.write()
        self.number += 1
        self.sequence += 1
        self.instant += every
        live = self._live.read_bytes()
        pages = {
            place // PAGE_SIZE + 1: live[place : place + PAGE_SIZE]
            for place in range(0, len(live), PAGE_SIZE)
        }
        delta = self.shadow.delta(pages, len(pages))
        body = fold(delta.raw, self._recipients)
        change = SourceChange(
            "tokens",
            delta.page_size,
            delta.pages_before,
            delta.pages_after,
            delta.changed,
            delta.before,
            delta.after,
            len(body),
            hashlib.sha256(body).hexdigest(),
        )
        sealed = bool(self._recipients)
        key = chain_keys.increment_key(PREFIX, self.id, self.number, sealed=sealed)
        line = increment.dump_line(
            Increment(
                format=increment.FORMAT,
                kind="increment",
                chain=self.id,
                seq=self.number,
                sequence=self.sequence,
                instant=self.instant,
                prev=self._prev,
                base_seq=self.number - 1,
                trigger="change",
                how="compare",
                instance=self.instance,
                same_instant=True,
                sources=(change,),
            )
        )
        stored = increment.assemble(MARKS.sign_line(key, line), [body])
        self.shadow.apply(change, delta.raw)
        self._states[self.number] = self.shadow_path.read_bytes()
        self._prev = hashlib.sha256(stored).hexdigest()
        self.put(key, stored, number=str(self.number))
        row = PointRow(
            self.id,
            self.number,
            self.sequence,
            self.instant,
            key,
            len(stored),
            self._prev,
            "valid",
            proven=True,
        )
        with self.known.transaction() as connection:
            table.note_point(connection, row)
        return row

    def put(self, key: str, stored: bytes, **metadata: str) -> None:
        """Store an object of this chain."""
        sha256 = hashlib.sha256(stored).hexdigest()
        named = {"chain": self.id, "instance": self.instance, "sha256": sha256, **metadata}
        self.store.put(key, io.BytesIO(stored), named)

    def _put_head(self, begun: datetime) -> bytes:
        source = HeadSource(
            "tokens",
            PAGE_SIZE,
            self.shadow.pages,
            self.full_sum,
            hashlib.sha256(self.full.read_bytes()).hexdigest(),
        )
        head = Head(chain.FORMAT, self.id, self.set_id, self.instance, begun, 1, (source,))
        key = chain_keys.head_key(PREFIX, self.id)
        stored = MARKS.sign(key, chain.dump(head))
        self.put(key, stored)
        with self.known.transaction() as connection:
            table.note_head(connection, self.id, self.instance, stored, "valid")
        assert format_utc(begun)
        return stored
