"""`StoredChain`: a real chain in a store, that hangs on a set which a `Bench` has made.

    made = bench.made()
    with stored_chain(bench, made) as chain:
        bench.write("second")         # or any other change of the live databases
        chain.step()                  # point 1, a second after the set
        chain.step(at=…, noted=True)  # with the row that this host's follower would keep
        chain.end("new_chain")

The objects are written with the functions of `format/` and `increments/` from the live databases,
copied as SQLite copies them. `rows(n)` is what each source held at point n. Without `noted` this
host has to learn of all from the store, as a new host does.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from backups.format import chain, chain_keys, increment, pack
from backups.format.chain import Check, End, EndReason, Head, HeadSource, RestoredTo
from backups.format.increment import Increment, IncrementKind, Proven, SourceChange
from backups.format.mark import Marks
from backups.format.pack import Member
from backups.increments.bodies import fold
from backups.increments.shadow import Delta, Shadow
from backups.model import BackupSet
from backups.sets.chains import table
from backups.sets.chains.table import PointRow
from tests.support.bench import PREFIX, Bench
from tests.support.marks import MARKS

Rows = dict[str, list[str]]


class StoredChain:
    """A chain whose shadows are in `folder`; see the module. Close it at the end."""

    def __init__(
        self,
        bench: Bench,
        full: BackupSet,
        folder: Path,
        *,
        recipients: Sequence[str] = (),
        marks: Marks = MARKS,
    ) -> None:
        self.bench, self.full, self.marks = bench, full, marks
        self.id = chain_keys.chain_id(full.id, full.instance)
        self.number, self.sequence = 0, full.sequence or 1
        self.at = full.created_at
        self._folder = folder
        self._recipients = tuple(recipients)
        self._shadows: dict[str, Shadow] = {}
        self._states: list[Rows] = []
        self._fulls: dict[str, Path] = {}
        for stored in full.objects:
            shadow = folder / f"{stored.source}.db"
            copy = bench.directory.copy_of(full.id, stored.source)
            shutil.copyfile(copy, shadow)
            self._fulls[stored.source] = folder / f"{stored.source}.full"
            shutil.copyfile(copy, self._fulls[stored.source])
            self._shadows[stored.source] = Shadow(shadow, stored.page_size)
        self._states.append(self._rows_now())
        self.prev = ""
        self.prevs: list[str] = []
        self._put_head()

    def close(self) -> None:
        """Close the shadows."""
        for shadow in self._shadows.values():
            shadow.close()

    # --- writing it ---------------------------------------------------------------------

    def step(
        self,
        *,
        at: datetime | None = None,
        sequence: int | None = None,
        noted: bool = False,
        proven: bool = True,
        suspect: tuple[str, ...] | None = None,
        sources: Sequence[str] | None = None,
    ) -> str:
        """Put the next increment, from what the databases hold now; the id of its point."""
        self.number += 1
        self.sequence = sequence or self.sequence + 1
        self.at = at or self.at + timedelta(seconds=1)
        deltas = {
            source: delta
            for source, delta in self._deltas(self._shadows, sources).items()
            if not delta.is_empty
        }
        key, stored, changes = self._object("increment", deltas, self.prev, suspect, proven=proven)
        for change in changes:
            self._shadows[change.source].apply(change, deltas[change.source].raw)
        self.prev = self.put(key, stored)
        self.prevs.append(self.prev)
        self._states.append(self._rows_now())
        if noted:
            row = PointRow(
                self.id,
                self.number,
                self.sequence,
                self.instant,
                key,
                len(stored),
                self.prev,
                "valid",
                proven,
                "; ".join(suspect) if suspect else None,
            )
            with self.bench.known.transaction() as connection:
                table.note_point(connection, row)
        return self.point(self.number)

    def differential(self, suspect: tuple[str, ...] | None = None) -> str:
        """Put a differential of the state after the newest increment; its key."""
        fulls = {
            source: Shadow(path, self._shadows[source].page_size)
            for source, path in self._fulls.items()
        }
        try:
            deltas = self._deltas(fulls, None, live=False)
        finally:
            for shadow in fulls.values():
                shadow.close()
        key, stored, _ = self._object("differential", deltas, self.prev, suspect, proven=True)
        self.put(key, stored)
        return key

    def end(self, reason: EndReason = "new_chain", restored_to: RestoredTo | None = None) -> None:
        """Put the document that ends it."""
        document = End(chain.FORMAT, self.id, self.at, reason, self.number, restored_to)
        self._put_document(chain_keys.end_key(PREFIX, self.id), document)

    def check(self, good: int, reason: str | None = None) -> None:
        """Put a verdict on it."""
        document = Check(chain.FORMAT, self.id, self.at, good, reason)
        self._put_document(chain_keys.check_key(PREFIX, self.id, self.at), document)

    def pack(self, first: int, last: int, *, drop: bool = True) -> str:
        """Put the increments `first` to `last` as a pack, and delete them; its key."""
        members, bodies = [], []
        for number in range(first, last + 1):
            body = self.bench.bytes_of(self.key(number))
            line = json.loads(body.partition(b"\n")[0])
            sha256 = hashlib.sha256(body).hexdigest()
            sealed = bool(self._recipients)
            members.append(
                Member(number, len(body), sha256, line["instant"], line["sequence"], sealed)
            )
            bodies.append(body)
        key = chain_keys.pack_key(PREFIX, self.id, first, last)
        line_ = pack.dump_line(pack.index_of(self.id, members))
        self.put(key, b"".join((self.marks.sign_line(key, line_), b"\n", *bodies)))
        for number in range(first, last + 1) if drop else ():
            self.bench.store.delete(self.key(number))
        return key

    def put(self, key: str, stored: bytes) -> str:
        """Put an object of this chain; its SHA-256."""
        sha256 = hashlib.sha256(stored).hexdigest()
        named = {"chain": self.id, "instance": self.full.instance, "sha256": sha256}
        self.bench.store.put(key, io.BytesIO(stored), named)
        return sha256

    # --- what it has --------------------------------------------------------------------

    @property
    def instant(self) -> int:
        """That of the newest point, in milliseconds since 1970."""
        return round(self.at.timestamp() * 1000)

    @property
    def head_key(self) -> str:
        """The key of its head."""
        return chain_keys.head_key(PREFIX, self.id)

    def key(self, number: int) -> str:
        """The key of an increment."""
        sealed = bool(self._recipients)
        return chain_keys.increment_key(PREFIX, self.id, number, sealed=sealed)

    def point(self, number: int) -> str:
        """The id of a point; of the set itself for 0."""
        return chain_keys.point_id(self.id, number) if number else self.full.id

    def rows(self, number: int) -> Rows:
        """What each source held at a point."""
        return self._states[number]

    # --- parts --------------------------------------------------------------------------

    def _put_head(self) -> None:
        sources = tuple(
            HeadSource(
                stored.source,
                stored.page_size,
                self._shadows[stored.source].pages,
                self._shadows[stored.source].sum,
                stored.snapshot_sha256,
            )
            for stored in self.full.objects
        )
        head = Head(
            chain.FORMAT,
            self.id,
            self.full.id,
            self.full.instance,
            self.full.created_at,
            self.sequence,
            sources,
        )
        self.prev = self._put_document(self.head_key, head)

    def _put_document(self, key: str, document: Head | End | Check) -> str:
        return self.put(key, self.marks.sign(key, chain.dump(document)))

    def _deltas(
        self, shadows: dict[str, Shadow], sources: Sequence[str] | None, *, live: bool = True
    ) -> dict[str, Delta]:
        found = {}
        for source, shadow in shadows.items():
            if sources is not None and source not in sources:
                continue
            path = self._copied(source) if live else self._shadows[source].path
            pages, count = pages_of(path, shadow.page_size)
            found[source] = shadow.delta(pages, count)
        return found

    def _copied(self, source: str) -> Path:
        copy = self._folder / f"{source}.copy"
        copy.unlink(missing_ok=True)
        with (
            closing(sqlite3.connect(self.bench.live(source))) as live,
            closing(sqlite3.connect(copy)) as copied,
        ):
            live.backup(copied)
        return copy

    def _object(
        self,
        kind: IncrementKind,
        deltas: dict[str, Delta],
        prev: str,
        suspect: tuple[str, ...] | None,
        *,
        proven: bool,
    ) -> tuple[str, bytes, tuple[SourceChange, ...]]:
        bodies = {one: fold(delta.raw, self._recipients) for one, delta in deltas.items()}
        changes = tuple(
            SourceChange(
                source,
                delta.page_size,
                delta.pages_before,
                delta.pages_after,
                delta.changed,
                delta.before,
                delta.after,
                len(bodies[source]),
                hashlib.sha256(bodies[source]).hexdigest(),
            )
            for source, delta in deltas.items()
        )
        sealed = bool(self._recipients)
        make = chain_keys.increment_key if kind == "increment" else chain_keys.differential_key
        key = make(PREFIX, self.id, self.number, sealed=sealed)
        before = self.number - 1
        line = Increment(
            format=increment.FORMAT,
            kind=kind,
            chain=self.id,
            seq=self.number,
            sequence=self.sequence,
            instant=self.instant,
            prev=prev,
            base_seq=before if kind == "increment" else 0,
            trigger="change",
            how="compare",
            instance=self.full.instance,
            same_instant=True,
            sources=changes,
            suspect=suspect,
            proven=Proven(before, self.instant) if before and proven else None,
        )
        signed = self.marks.sign_line(key, increment.dump_line(line))
        return key, increment.assemble(signed, list(bodies.values())), changes

    def _rows_now(self) -> Rows:
        return {source: all_rows(self.bench.live(source)) for source in self._shadows}


@contextmanager
def stored_chain(
    bench: Bench, full: BackupSet, *, recipients: Sequence[str] = (), marks: Marks = MARKS
) -> Iterator[StoredChain]:
    """The chain on `full`, for the length of a block; its files are below the bench's folder."""
    folder = bench.folder / f"chain-{full.id}"
    folder.mkdir()
    found = StoredChain(bench, full, folder, recipients=recipients, marks=marks)
    with closing(found):
        yield found


def all_rows(path: Path) -> list[str]:
    """All that a database holds, as SQL."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def pages_of(path: Path, page_size: int) -> tuple[dict[int, bytes], int]:
    """All pages of a file by number, and how many there are."""
    content = path.read_bytes()
    count = len(content) // page_size
    each = ((one, content[one * page_size : (one + 1) * page_size]) for one in range(count))
    return {one + 1: page for one, page in each}, count
