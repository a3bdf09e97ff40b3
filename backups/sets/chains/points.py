"""Points of chains as restore points: by their id, the newest, the newest at a time, and ranges.

A point is restored from the full of its chain, and so is as good as that at most.

One file, because all of it is asked of the same chains, with the same marks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from backups.decisions.chains.points import (
    PointFacts,
    PointRange,
    SetAside,
    is_set_aside,
    is_usable,
    newest_before,
)
from backups.errors import ManifestInvalid, SetDeleted, SetNotFound
from backups.format import chain_keys
from backups.format.chain_keys import point_id, set_of
from backups.format.mark import Marks
from backups.host.catalogues import rotated_keys
from backups.model import BackupSet, ChainPoint, Finding
from backups.sets.chains import table
from backups.sets.chains.learn import ChainListing, Known, known_chains, learn_chains
from backups.sets.chains.lost import end_missing, note_lost
from backups.sets.chains.objects_table import refused
from backups.sets.chains.reading import ChainReader, open_chain
from backups.sets.chains.stretches import ChainStretch, stretches_of
from shared.databases.sqlite import Database
from shared.store.object_store import ObjectStore
from shared.words import counted

_LIST = "List what can be restored: ./bot backups list"
_MOST_NAMED = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ChainPoints:
    """What this host knows of the points of chains; `get_set` returns a set by its id.

    Raises `DatabaseError`; where the store is asked, `StoreError`.
    """

    def __init__(
        self,
        known: Database,
        store: ObjectStore,
        marks: Marks,
        get_set: Callable[[str], BackupSet],
    ) -> None:
        self._known = known
        self._store = store
        self._all_marks = marks
        self._get_set = get_set
        # What a restore passes over whose chain has not ended yet: the app may be stopped.
        self.passed_over_after: Callable[[], int | None] = lambda: None

    # --- learning -----------------------------------------------------------------------

    def before(self) -> tuple[ChainListing, Mapping[str, Known]]:
        """What is asked before the store is listed: an empty listing, and what is known now."""
        return ChainListing(self._all_marks.prefix), known_chains(self._known)

    def learn(
        self,
        listing: ChainListing,
        before: Mapping[str, Known],
        ours: Collection[str] | None,
        now: datetime,
    ) -> None:
        """Take in a listing that went to the end, and read the newest point of each chain.

        Of those of `ours` alone; None: of all. What the store lost of them is noted as missing.
        """
        lost = learn_chains(self._known, self._store, self._marks, listing, before)
        with self._known.transaction() as connection:
            note_lost(connection, lost, ours, now)
            end_missing(connection)
        for chain in self._chains(ours, ask=True):
            self._read_edges(chain)

    def _read_edges(self, chain: ChainReader) -> None:
        """Read the first and the last point of each stretch; what is not ours ends it before."""
        asked: set[int] = set()
        while True:
            edges = {edge for one in chain.stretches() for edge in (one.first, one.last)}
            unread = edges - asked
            if not unread:
                return
            for number in unread:
                chain.instant(number)
            asked |= unread

    # --- answers ------------------------------------------------------------------------

    def get(self, full_id: str, number: int) -> BackupSet:
        """The point `number` of the chain on a set; raises `SetNotFound` where it cannot be
        restored, with the nearest one before it; what `get_set` raises, `StoreError`."""
        try:
            full = self._get_set(full_id)
        except SetNotFound as error:
            if full_id not in self._without_set():
                raise
            raise SetNotFound(
                f"restore point {full_id}.{number} cannot be restored: the set that it is made "
                "from is not in the store any more",
                _LIST,
            ) from error
        chain_id = chain_keys.chain_id(full.id, full.instance)
        chain = self._open(chain_id, ask=True) if full.kind == "set" else None
        if chain is None:
            raise SetNotFound(
                f"set {full_id} has no chain of points that is marked with a key of this host",
                f"{_LIST}. The set itself: ./bot backups restore {full_id}",
            )
        usable = chain.stretches()
        facts = chain.facts(number) if is_usable(number, usable) else None
        if facts is None or chain.way_to(number) is None:
            raise self._no_such_point(chain, number)
        return self._as_set(full, chain, facts, self._asides({full.instance}, ask=True))

    def has(self, full_id: str, number: int) -> bool:
        """Whether the point is known to be restorable, without the network."""
        try:
            full = self._get_set(full_id)
        except (SetNotFound, ManifestInvalid):
            return False
        chain = self._open(chain_keys.chain_id(full.id, full.instance), ask=False)
        return chain is not None and is_usable(number, chain.stretches())

    def warnings(self) -> tuple[Finding, ...]:
        """The objects of chains that are not used: their mark is not ours, or they are broken; and
        the chains whose set is gone."""
        with self._known.reading() as connection:
            found = refused(connection)
        findings = []
        if found:
            findings.append(
                Finding(
                    "chain_object_refused",
                    f"{counted(len(found), 'object')} of chains in the store are not used, because "
                    f"they are not marked with a key of this host, or are broken: {_few(found)}",
                    "Look who wrote them (they may be planted), then delete them in the bucket. "
                    "What can be restored: ./bot backups list",
                )
            )
        if lost := self._without_set():
            findings.append(
                Finding(
                    "points_without_set",
                    "the points after these sets cannot be restored, because the sets are not in "
                    f"the store any more: {_few(lost)}",
                    "A version before chains drops sets that points need. The next prune deletes "
                    "the points. To see them: ./bot backups prune --dry-run",
                )
            )
        return tuple(findings)

    def _without_set(self) -> list[str]:
        """The ids of the sets that chains with a marked head hang on, and that are gone."""
        with self._known.reading() as connection:
            ids = [set_of(row.id) for row in table.chains(connection) if row.head_mark == "valid"]
        return [one for one in ids if self._is_gone(one)]

    def _is_gone(self, set_id: str) -> bool:
        try:
            self._get_set(set_id)
        except (ManifestInvalid, SetDeleted):  # its points go with a set that a person deletes
            return False
        except SetNotFound:
            return True
        return False

    def newest(
        self,
        instances: Collection[str] | None,
        at: datetime,
        *,
        ask: bool,
        passed_over: bool,
    ) -> BackupSet | None:
        """The newest good point up to `at`; with `passed_over` also one that a restore set aside.

        Unless the store may be asked (`ask`), what this host does not know is no point.
        """
        asides = self._asides(instances, ask=ask)
        instant = milliseconds(at)
        for chain in self._chains(instances, ask=ask):
            full = self._full_of(chain)
            if full is None or not full.protects or (full.set_aside and not passed_over):
                continue

            def facts_of(number: int, chain: ChainReader = chain) -> PointFacts | None:
                facts = chain.facts(number)
                if facts and not passed_over and is_set_aside(facts.sequence, asides):
                    return replace(facts, good=False)
                return facts

            usable, before = chain.stretches(), None
            while usable != before:  # a way that is not ours leaves fewer points
                found = newest_before(usable, instant, chain.instant, facts_of)
                if found is not None and chain.way_to(found.number) is not None:
                    return self._as_set(full, chain, found, asides)
                usable, before = chain.stretches(), usable
        return None

    def next_of(self, point: ChainPoint) -> bool:
        """Whether the point after this one can be restored, too: nothing is unknown between."""
        chain = self._open(point.chain, ask=False)
        return chain is not None and is_usable(point.number + 1, chain.stretches())

    def ranges(self, instances: Collection[str] | None) -> list[PointRange]:
        """The points that can be restored, without the network, newest first."""
        return [
            found
            for chain in self._chains(instances, ask=False)
            if (full := self._full_of(chain)) is not None
            for found in reversed(list(_ranges(chain, full)))
        ]

    def stretches(self, instances: Collection[str] | None) -> list[ChainStretch]:
        """The points whose full protects, without a break each, without the network."""
        chains = self._chains(instances, ask=False)
        fulls = ((chain, self._full_of(chain)) for chain in chains)
        good = (chain for chain, full in fulls if full is not None and full.protects)
        return [found for chain in good for found in stretches_of(chain)]

    # --- parts --------------------------------------------------------------------------

    @property
    def _marks(self) -> Marks:
        with self._known.reading() as connection:
            return self._all_marks.since_rotation(rotated_keys(connection))

    def _open(self, chain_id: str, *, ask: bool) -> ChainReader | None:
        return open_chain(self._known, self._store, self._marks, chain_id, ask=ask)

    def open(self, chain_id: str) -> ChainReader:
        """A chain to be read; raises `SetNotFound`."""
        chain = self._open(chain_id, ask=True)
        if chain is None:
            raise SetNotFound(f"there is no chain {chain_id}", _LIST)
        return chain

    def _chains(self, instances: Collection[str] | None, *, ask: bool) -> Iterator[ChainReader]:
        """Those of some installations, the newest first: all of its points are newer."""
        with self._known.reading() as connection:
            ids = [
                row.id
                for row in table.chains(connection)
                if instances is None or row.instance in instances
            ]
        found = [chain for one in ids if (chain := self._open(one, ask=ask)) is not None]
        yield from sorted(found, key=lambda one: (one.head.sequence, one.id), reverse=True)

    def _full_of(self, chain: ChainReader) -> BackupSet | None:
        try:
            full = self._get_set(set_of(chain.id))
        except (SetNotFound, ManifestInvalid):
            return None
        return full if full.kind == "set" and full.instance == chain.row.instance else None

    def _asides(self, instances: Collection[str] | None, *, ask: bool) -> list[SetAside]:
        found, after = [], self.passed_over_after()
        if after is not None:
            found.append(SetAside(after, sys.maxsize))
        for chain in self._chains(instances, ask=ask):
            to = chain.end.restored_to if chain.end else None
            if chain.end is None or to is None or to.sequence is None:
                continue
            last = chain.facts(chain.end.last) if chain.end.last else None
            newest = last.sequence if last else chain.head.sequence + chain.end.last
            found.append(SetAside(to.sequence, newest))
        return found

    def _as_set(
        self, full: BackupSet, chain: ChainReader, facts: PointFacts, asides: list[SetAside]
    ) -> BackupSet:
        """The point as a restore point: its full, with what is its own."""
        at = instant_of(facts.instant)
        row = chain.points.get(facts.number)
        reasons = [said] if row and (said := chain.suspicion(row)) else []
        if chain.doubt is not None and facts.number > chain.doubt.good:
            reasons.append(chain.doubt.reason or "a check of its chain failed")
        if not facts.good and not reasons:
            reasons.append("its data looked damaged when it was made")
        aside = is_set_aside(facts.sequence, asides) or full.set_aside is not None
        ended = chain.end.at if chain.end else at
        proven = full.proof != "none" and (row is None or row.proven)
        usable = chain.stretches()
        return replace(
            full,
            id=point_id(chain.id, facts.number),
            created_at=at,
            trigger="change",
            proven_at=at if proven else None,
            proof=full.proof if proven else "none",
            suspect=(*(full.suspect or ()), *reasons) or None,
            sequence=facts.sequence,
            set_aside=(full.set_aside or ended) if aside else None,
            point=ChainPoint(chain.id, facts.number, usable[-1].last if usable else 0),
        )

    def _no_such_point(self, chain: ChainReader, number: int) -> SetNotFound:
        before = [one for one in chain.stretches() if one.first <= number]
        nearest = min(before[-1].last, number - 1) if before else 0
        name = point_id(chain.id, number)
        near = point_id(chain.id, nearest) if nearest else set_of(chain.id)
        newest = max((one.last for one in chain.stretches()), default=0)
        why = (
            f"the newest point of this chain is {newest}"
            if number > newest
            else f"the store lacks what leads from point {nearest} to it, or it is not ours"
        )
        return SetNotFound(
            f"restore point {name} cannot be restored: {why}",
            f"The newest good second before it: ./bot backups restore {near}",
        )


def _ranges(chain: ChainReader, full: BackupSet) -> Iterator[PointRange]:
    for one in chain.stretches():
        last, first = chain.facts(one.last), chain.facts(one.first)
        begin = instant_of(first.instant) if first else None
        yield PointRange(
            chain.id,
            full.created_at if one.first == 1 else begin,
            instant_of(last.instant) if last else None,
            one.last - one.first + 1,
            one.last,
            proven=bool(last and last.good) and full.proof != "none",
        )


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def milliseconds(at: datetime) -> int:
    """An instant as increments have it."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def instant_of(at: int) -> datetime:
    """Milliseconds since 1970 as an instant; of a time that no clock shows, the last there is."""
    try:
        return _EPOCH + timedelta(milliseconds=at)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
