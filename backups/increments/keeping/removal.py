"""Removing objects of chains that nothing needs any more, and what no chain claims.

The head of a chain goes first, so that a chain is either there or not listed. Before each delete
the object itself says, in its metadata, of which chain and installation it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence

from backups.decisions.chains.retention import ChainPlan, DroppedObject
from backups.errors import IncrementBroken, ManifestInvalid
from backups.format import chain_keys
from backups.format.mark import Marks
from backups.increments.keeping.own_objects import is_of_chain
from backups.model import Mark
from backups.sets.chains import objects_table, table
from backups.sets.chains.objects_table import ObjectRow
from backups.sets.chains.pack_reader import read_index
from backups.sets.chains.vouched import vouched
from shared.databases.sqlite import Database
from shared.errors import ObjectMissing, StoreAccessDenied, StoreError, StoreFailing
from shared.logs import fields
from shared.store.object_store import ObjectStore
from shared.words import counted

_log = logging.getLogger("backups.run")
_HEAD_FIRST = {"head": 0, "end": 2, "check": 2, "mark": 2}


class ChainRemoval:
    """Deletes objects of chains; what the store refuses is left to the next prune."""

    def __init__(self, store: ObjectStore, known: Database, marks: Marks) -> None:
        self._store = store
        self._known = known
        self._marks = marks

    def describe_packs(self, ours: Collection[str], ask: Callable[[], None]) -> None:
        """Read the indexes of packs of ours that this host only knows by name.

        Until then nothing is known of the times of their points, and all are kept. `ask` is called
        between two, and may raise. Raises `StoreError`, `DatabaseError`.
        """
        with self._known.reading() as connection:
            unread = []
            for chain in table.chains(connection):
                if chain.head_mark == "valid" and chain.instance in ours:
                    objects = objects_table.objects(connection, chain.id, "pack", "mark")
                    marks = vouched(self._marks, chain.id, objects)
                    packs = (row for row in objects if row.kind == "pack")
                    unread += [(row, marks) for row in packs if row.mark is None]
        for row, marks in unread:
            ask()
            described = self._described(row, marks)
            with self._known.transaction() as connection:
                objects_table.note_object(connection, described)

    def _described(self, row: ObjectRow, marks: Marks) -> ObjectRow:
        mark: Mark = "valid"
        try:
            index = read_index(self._store, marks, row.key)
        except (ManifestInvalid, IncrementBroken) as error:
            _log.warning("a pack is not used: %s", error.message)
            mark = "wrong"
            return ObjectRow(row.key, row.chain, "pack", row.first, row.last, row.bytes, mark)
        return ObjectRow(
            row.key,
            row.chain,
            "pack",
            row.first,
            row.last,
            row.bytes,
            mark,
            first_instant=index.members[0].instant,
            last_instant=index.members[-1].instant,
            points=len(index.members),
        )

    def drop(
        self,
        plan: ChainPlan,
        ours: Collection[str],
        *,
        has_manifest: Callable[[str], bool],
        refused: list[StoreError],
    ) -> list[str]:
        """Delete what the plan drops; the keys of what does not say that it is of its chain.

        A chain goes as a whole only where `has_manifest` says of its full that it is gone, too.
        What the store refuses is added to `refused`.
        """
        kept: list[str] = []
        for chain in dict.fromkeys(one.chain for one in plan.drop):
            going = [one for one in plan.drop if one.chain == chain]
            if going[0].with_full and has_manifest(chain_keys.set_of(chain)):
                continue
            kept += self._drop(chain, going, ours, refused)
        return kept

    def _drop(
        self,
        chain: str,
        going: Sequence[DroppedObject],
        ours: Collection[str],
        refused: list[StoreError],
    ) -> list[str]:
        kept, gone = [], []
        size = 0
        keys = [one.object.key for one in going]
        with self._known.transaction() as connection:
            # Before the first delete: what this host knows, and the store lacks, was lost.
            objects_table.forget_objects(connection, keys)
            if chain_keys.head_key(self._marks.prefix, chain) in keys:
                objects_table.forget_chain(connection, chain)
        for one in sorted(
            going, key=lambda one: (_HEAD_FIRST.get(one.object.kind, 1), one.object.last)
        ):
            key = one.object.key
            try:
                if self._remove(key, chain, ours):
                    gone.append(key)
                    size += one.object.bytes
                else:
                    kept.append(key)
            except (StoreAccessDenied, StoreFailing) as error:
                _log.warning("%s", error.message, extra=fields(key=key))
                refused.append(error)
                if one.object.kind == "head":
                    break  # the chain is there as long as its head is
        if gone:
            _log.info(
                "dropped %s of a chain",
                counted(len(gone), "object"),
                extra=fields(chain=chain, bytes=size, reason=going[0].reason),
            )
        return kept

    def _remove(self, key: str, chain: str, ours: Collection[str]) -> bool:
        """Delete an object that says that it is of this chain of ours; one that is gone is fine."""
        try:
            metadata = self._store.head(key).metadata
        except ObjectMissing:
            return True
        is_theirs = is_of_chain(self._store, self._marks.prefix, key, metadata, chain)
        if not is_theirs or metadata["instance"] not in ours:
            _log.warning(
                "kept an object whose metadata does not name chain %s: copy it there again with "
                "its metadata, or delete it by hand",
                chain,
                extra=fields(key=key),
            )
            return False
        self._store.delete(key)
        return True

    def sweep(self, ours: Collection[str]) -> list[str]:
        """Delete what an interrupted prune left of chains of ours: it has no head any more, which
        is put before all else. What else is below `chains/` is left alone; its number is logged.

        The keys that were deleted. Raises `StoreError` when the store cannot be listed.
        """
        listed = list(self._store.list(chain_keys.chains_prefix(self._marks.prefix)))
        parsed = {
            one.key: chain_keys.parse_chain_key(self._marks.prefix, one.key) for one in listed
        }
        headed = {found.chain for found in parsed.values() if found and found.kind == "head"}
        removed, foreign = [], []
        for one in listed:
            found = parsed[one.key]
            if found is not None and found.chain in headed:
                continue
            if found is None or chain_keys.instance_of(found.chain) not in ours:
                foreign.append(one.key)
                continue
            try:
                if self._is_without_head(found.chain) and self._remove(one.key, found.chain, ours):
                    removed.append(one.key)
                    _log.info("swept", extra=fields(key=one.key))
            except (StoreAccessDenied, StoreFailing) as error:
                _log.warning("%s", error.message, extra=fields(key=one.key))
        if foreign:
            _log.warning(
                "%s below %s not of a chain of this installation, and left alone: %s%s",
                counted(len(foreign), "object"),
                f"{chain_keys.chains_prefix(self._marks.prefix)} "
                f"{'is' if len(foreign) == 1 else 'are'}",
                ", ".join(foreign[:5]),
                " and others" if foreign[5:] else "",
            )
        return removed

    def _is_without_head(self, chain: str) -> bool:
        """Whether the store, asked by name, has no head: a listing only names candidates."""
        try:
            self._store.head(chain_keys.head_key(self._marks.prefix, chain))
        except ObjectMissing:
            return True
        return False
