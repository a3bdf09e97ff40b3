"""One chain as this host knows it, and what is in its objects, read from the store when needed.

Whatever is read is checked first (`objects.py`), and then noted: nothing is fetched twice.
One file, because what a point is depends on all kinds of objects of its chain at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

from backups.decisions.chains.closure import ChainObject, Steps
from backups.decisions.chains.points import PointFacts, Stretch, stretches
from backups.decisions.chains.verdicts import Verdicts
from backups.errors import IncrementBroken, ManifestInvalid
from backups.format import chain as chain_format
from backups.format import increment
from backups.format.chain import Check, End, Head
from backups.format.chain_keys import DOCUMENTS, end_key, head_key
from backups.format.document import read_object
from backups.format.mark import Marks
from backups.format.pack import PackIndex
from backups.sets.chains import objects_table, table
from backups.sets.chains.checks import verdicts_of
from backups.sets.chains.objects import ReadIncrement, fetch_increment
from backups.sets.chains.objects_table import ObjectRow
from backups.sets.chains.pack_reader import read_index, read_pack
from backups.sets.chains.table import ChainRow, PointRow
from backups.sets.chains.vouched import vouched
from shared.databases.sqlite import Database
from shared.logs import fields
from shared.store.object_store import ObjectStore

_log = logging.getLogger(__name__)
_INDEXES_KEPT = 4


@dataclass
class ChainReader:
    """A chain with a head that is marked with a key of ours.

    `points` and `objects` are what is known of it. Where `ask` is false the store is not asked, and
    what is not known stays so.
    """

    known: Database
    store: ObjectStore
    marks: Marks
    row: ChainRow
    points: dict[int, PointRow]
    objects: dict[str, ObjectRow]
    ask: bool = True
    _indexes: dict[str, PackIndex] = field(default_factory=dict)
    _suspects: dict[str, set[int]] = field(default_factory=dict)
    _by_number: dict[int, list[str]] | None = None
    _packs: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Its id."""
        return self.row.id

    @cached_property
    def head(self) -> Head:
        """Its head."""
        key = head_key(self.marks.prefix, self.id)
        return chain_format.load(Head, self.row.head, key=key, chain=self.id)

    @cached_property
    def end(self) -> End | None:
        """Why nothing follows, if that is marked."""
        key = end_key(self.marks.prefix, self.id)
        if self.row.end is None or self.marks.check(key, self.row.end).outcome != "valid":
            return None
        return chain_format.load(End, self.row.end, key=key, chain=self.id)

    @cached_property
    def verdicts(self) -> Verdicts:
        """What is said of its points later."""
        return verdicts_of(self.objects.values(), self.marks)

    @property
    def doubt(self) -> Check | None:
        """The verdict that leaves the fewest good points, if there is one."""
        return self.verdicts.worst

    def chain_objects(self) -> Iterator[ChainObject]:
        """What its points can need: without what was read, and is not ours."""
        last = self.end.last if self.end else None
        for one in self.objects.values():
            beyond = last is not None and one.last > last
            is_used = one.mark in (None, "valid") and one.kind not in DOCUMENTS
            if is_used and not beyond:
                yield ChainObject(
                    one.key, one.kind, one.first, one.last, one.bytes, one.last_instant
                )
        for point in self.points.values():
            if point.mark == "valid" and (last is None or point.number <= last):
                number = point.number
                yield ChainObject(
                    point.key, "increment", number, number, point.bytes, point.instant
                )

    def stretches(self) -> list[Stretch]:
        """Its points that can be restored, as far as is known."""
        return stretches(self.chain_objects())

    def way_to(self, number: int) -> Sequence[ChainObject] | None:
        """What has to be applied to the full, in order; None where there is a gap.

        What could be taken in place of increments, or twice, is read before: a planted one must
        not hide those that are there.
        """
        while True:
            way = Steps(self.chain_objects()).to(number)
            if way is None or not self.ask or not self._refused_any(way):
                return way

    def _refused_any(self, way: Sequence[ChainObject]) -> bool:
        before = {one.key for one in self.chain_objects()}
        for one in way:
            row = self.objects.get(one.key)
            if row is None or row.mark is not None:
                continue
            if one.kind == "pack":
                self.index_of(row)
            elif one.kind == "differential":
                self.line_of(row)
            elif len(self._with(one.last)) > 1:
                self._read_increment(row)
        return before != {one.key for one in self.chain_objects()}

    def facts(self, number: int) -> PointFacts | None:
        """What decides about a point; None where that is not known, and cannot be read.

        Raises `StoreError`.
        """
        if (point := self.points.get(number)) is not None:
            good = point.mark == "valid" and point.proven and not self.suspicion(point)
            good = good and not self._is_doubted(number)
            return PointFacts(number, point.sequence, point.instant, good)
        for one in self._with(number):
            if one.kind == "increment":
                if self.ask and self._read_increment(one):
                    return self.facts(number)
            elif one.kind == "pack" and (facts := self._facts_in_pack(one, number)):
                return facts
            elif one.kind == "differential" and (line := self.line_of(one)) is not None:
                good = not line.suspect or number <= self.verdicts.accepted
                good = good and not self._is_doubted(number)
                return PointFacts(number, line.sequence, line.instant, good)
        return None

    def instant(self, number: int) -> int | None:
        """When a point was made, in milliseconds since 1970; None where that is not known."""
        if (point := self.points.get(number)) is not None:
            return point.instant
        for one in self._with(number):
            if one.kind == "pack" and (index := self.index_of(one)) is not None:
                return index.members[number - index.first].instant
        facts = self.facts(number)
        return facts.instant if facts else None

    def line_of(self, row: ObjectRow) -> increment.Increment | None:
        """The line of a differential; None where it is not ours, or the store was not asked."""
        key = row.key
        if row.document is not None:
            try:
                return increment.load_line(
                    row.document, key=key, chain=self.id, number=row.last, kind="differential"
                )
            except ManifestInvalid:
                return None
        if not self.ask:
            return None
        read = self._fetch(row)
        if read is None:
            return None
        line = increment.line_of(read.stored, key)
        instant = read.line.instant
        self._note(
            replace(row, mark="valid", document=line, first_instant=instant, last_instant=instant)
        )
        return read.line

    def index_of(self, row: ObjectRow) -> PackIndex | None:
        """The index of a pack; None where it is not ours, or the store was not asked."""
        if row.key in self._indexes:
            return self._indexes[row.key]
        if not self.ask:
            return None
        try:
            index = read_index(self.store, self.marks, row.key)
        except (ManifestInvalid, IncrementBroken) as error:
            self.refuse(row, error)
            return None
        while len(self._indexes) >= _INDEXES_KEPT:
            self._indexes.pop(next(iter(self._indexes)))
        self._indexes[row.key] = index
        if row.mark is None:
            self._note(
                replace(
                    row,
                    mark="valid",
                    first_instant=index.members[0].instant,
                    last_instant=index.members[-1].instant,
                    points=len(index.members),
                )
            )
        return index

    def refuse(self, row: ObjectRow, error: ManifestInvalid | IncrementBroken) -> None:
        """Use an object no more, and say so: it is not what its key says."""
        _log.warning("%s. It is not used", error.message, extra=fields(chain=self.id))
        self._note(replace(row, mark="wrong"))

    def _with(self, number: int) -> list[ObjectRow]:
        """The objects that have a point, and may be used."""
        if self._by_number is None:
            self._by_number, self._packs = {}, []
            for one in self.objects.values():
                if one.kind == "pack":
                    self._packs.append(one.key)
                elif one.last:
                    self._by_number.setdefault(one.last, []).append(one.key)
        keys = [*self._by_number.get(number, ()), *self._packs]
        rows = [self.objects[key] for key in keys if key in self.objects]
        return [
            row for row in rows if row.first <= number <= row.last and row.mark in (None, "valid")
        ]

    def _facts_in_pack(self, row: ObjectRow, number: int) -> PointFacts | None:
        good = not self._is_doubted(number)
        if not self.ask and number == row.last and row.last_instant is not None:
            # In the order of all points it stands there, or later.
            return PointFacts(number, self.head.sequence + number, row.last_instant, good)
        index = self.index_of(row)
        if index is None:
            return None
        member = index.members[number - index.first]
        if number > self.verdicts.accepted:
            good = good and number not in self._suspects_in(row, index)
        return PointFacts(number, member.sequence, member.instant, good)

    def _suspects_in(self, row: ObjectRow, index: PackIndex) -> set[int]:
        """The members of a pack whose data looked damaged; it is read through once."""
        if row.key not in self._suspects:
            lines = _MemberLines(index)
            try:
                read_pack(self.store, self.marks, row.key, lines.take)
            except (ManifestInvalid, IncrementBroken) as error:
                self.refuse(row, error)
            self._suspects[row.key] = lines.suspects
        return self._suspects[row.key]

    def _read_increment(self, row: ObjectRow) -> bool:
        read = self._fetch(row)
        if read is None:
            return False
        self.take(row, read)
        return True

    def take(self, row: ObjectRow, read: ReadIncrement) -> None:
        """Note what is in an increment that was read."""
        line = read.line
        point = PointRow(
            self.id,
            line.seq,
            line.sequence,
            line.instant,
            read.key,
            len(read.stored),
            read.sha256,
            "valid",
            proven=True,  # all of its bytes were read back, and have the right SHA-256
            suspect="; ".join(line.suspect) if line.suspect else None,
        )
        with self.known.transaction() as connection:
            objects_table.forget_objects(connection, [row.key])
            table.note_point(connection, point)
        self.objects.pop(row.key, None)
        self.points[line.seq] = point

    def _fetch(self, row: ObjectRow) -> ReadIncrement | None:
        try:
            return fetch_increment(self.store, self.marks, row.key, row.bytes)
        except (ManifestInvalid, IncrementBroken) as error:
            self.refuse(row, error)
            return None

    def _note(self, row: ObjectRow) -> None:
        with self.known.transaction() as connection:
            objects_table.note_object(connection, row)
        self.objects[row.key] = row

    def suspicion(self, point: PointRow) -> str | None:
        """What an increment says against itself, unless a person has accepted it."""
        return point.suspect if point.number > self.verdicts.accepted else None

    def _is_doubted(self, number: int) -> bool:
        return self.doubt is not None and number > self.doubt.good


def open_chain(
    known: Database, store: ObjectStore, marks: Marks, chain: str, *, ask: bool = True
) -> ChainReader | None:
    """A chain whose head is marked with a key of ours, or that a later mark of it vouches for.

    None where there is none.
    """
    with known.reading() as connection:
        row = table.chain(connection, chain)
        if row is None:
            return None
        points = {one.number: one for one in table.points(connection, chain)}
        objects = {one.key: one for one in objects_table.objects(connection, chain)}
    marks = vouched(marks, chain, objects.values())
    if marks.check(head_key(marks.prefix, chain), row.head).outcome != "valid":
        return None
    return ChainReader(known, store, marks, row, points, objects, ask)


class _MemberLines:
    """Takes the members of a pack as they come, and keeps which of them say that they are suspect.

    The marks of the lines were checked when they were packed, and the pack has their SHA-256.
    """

    def __init__(self, index: PackIndex) -> None:
        self.suspects: set[int] = set()
        self._members = list(index.members)
        self._line = b""
        self._taken = 0

    def take(self, part: bytes) -> None:
        """A part of the member that is on."""
        if len(self._line) < increment.MOST_LINE_BYTES and b"\n" not in self._line:
            self._line += part[: increment.MOST_LINE_BYTES + 1]
        self._taken += len(part)
        member = self._members[0]
        if self._taken >= member.bytes:
            with suppress(ValueError):
                if read_object(self._line.partition(b"\n")[0]).get("suspect"):
                    self.suspects.add(member.number)
            self._members.pop(0)
            self._line, self._taken = b"", 0
