"""Marking chains again: one later mark, made with the first key, of what older keys have marked.

    each chain of ours -> what of it is valid, but not by the first key -> its SHA-256 -> the mark

What an older key has marked is read with that key before it goes. A chain has some thousand objects
at most, and its mark names each: nothing else that the older key marks counts from then on.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from backups.errors import IncrementBroken, ManifestInvalid
from backups.format.chain import FORMAT, MOST_MARKED, ChainMark, dump
from backups.format.chain_keys import (
    DOCUMENTS,
    chain_prefix,
    end_key,
    head_key,
    instance_of,
    mark_key,
)
from backups.format.mark import sha256_of
from backups.operations.installation import Installation
from backups.sets.chains import objects_table, table
from backups.sets.chains.lines import fetch_line
from backups.sets.chains.objects_table import ObjectRow
from backups.sets.chains.vouched import judge_again, vouched
from backups.sets.puts import put_document
from shared.databases.sqlite import Database
from shared.errors import ObjectExists
from shared.logs import fields
from shared.words import counted

_log = logging.getLogger("backups.run")
_WORKERS = 8
_BATCH = 16
_SECOND = timedelta(seconds=1)
_MOST_TRIES = 60


class ChainMarks:
    """Marks chains again that are in the store already. Raises `DatabaseError`."""

    def __init__(self, installation: Installation, known: Database) -> None:
        self._known = known
        self._store = installation.store
        self._prefix = installation.config.prefix
        self._marks = installation.config.marks
        self._catalogue = installation.catalogue
        self._clock = installation.clock

    def mark_again(self, ours: Collection[str]) -> int:
        """Mark the chains of these installations with the first key; how many had to be.

        The catalogue was refreshed before. Raises `StoreError`, `ProofFailed`; repeated, it marks
        what is left.
        """
        with self._known.reading() as connection:
            chains = [one.id for one in table.chains(connection) if one.instance in ours]
        marked = 0
        for chain in chains:
            older = self._by_older_keys(chain)
            names = sorted(older)
            for at in range(0, len(names), MOST_MARKED):
                self._put(chain, {name: older[name] for name in names[at : at + MOST_MARKED]})
            marked += bool(older)
        if marked:
            _log.info("marked %s again", counted(marked, "chain"))
        return marked

    def _by_older_keys(self, chain: str) -> dict[str, str]:
        """What of a chain is valid, but not by the first key: its SHA-256, by keys below it."""
        with self._known.reading() as connection:
            row = table.chain(connection, chain)
            objects = objects_table.objects(connection, chain)
            points = list(table.points(connection, chain))
        if row is None:
            return {}
        valid = vouched(self._marks.since_rotation(self._catalogue.rotated()), chain, objects)
        first = vouched(self._marks.of_first(), chain, objects)
        head = head_key(self._prefix, chain)
        if valid.check(head, row.head).outcome != "valid":
            return {}
        documents = {head: row.head}
        if row.end is not None:
            documents[end_key(self._prefix, chain)] = row.end
        documents |= {
            one.key: one.document for one in objects if one.kind == "check" and one.document
        }
        keys = [one.key for one in points]
        keys += [one.key for one in objects if one.kind not in DOCUMENTS]
        below = chain_prefix(self._prefix, chain)
        return {
            key.removeprefix(below): sha256_of(text)
            for text_of in (documents.items(), self._lines(keys))
            for key, text in text_of
            if valid.check(key, text).outcome == "valid"
            and first.check(key, text).outcome != "valid"
        }

    def _lines(self, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        def line(key: str) -> bytes:
            try:
                return fetch_line(self._store, self._prefix, key)
            except (IncrementBroken, ManifestInvalid) as error:  # packed meanwhile, or broken
                _log.warning("%s. It is not marked", error.message)
                return b""

        with ThreadPoolExecutor(_WORKERS, "mark") as workers:
            for at in range(0, len(keys), _BATCH):  # the line of a pack may have megabytes
                some = keys[at : at + _BATCH]
                yield from zip(some, workers.map(line, some), strict=True)

    def _put(self, chain: str, documents: Mapping[str, str]) -> None:
        at = self._clock.now().replace(microsecond=0)
        for seconds in range(_MOST_TRIES):
            try:
                return self._put_at(chain, at + seconds * _SECOND, documents)
            except ObjectExists:
                if seconds == _MOST_TRIES - 1:
                    raise
        raise AssertionError  # pragma: no cover

    def _put_at(self, chain: str, at: datetime, documents: Mapping[str, str]) -> None:
        key = mark_key(self._prefix, chain, at)
        document = self._marks.sign(key, dump(ChainMark(FORMAT, chain, at, documents)))
        put_document(self._store, key, document, {"chain": chain, "instance": instance_of(chain)})
        digest = hashlib.sha256(document).hexdigest()
        size = len(document)
        row = ObjectRow(key, chain, "mark", 0, 0, size, "valid", document=document, sha256=digest)
        with self._known.transaction() as connection:
            objects_table.note_object(connection, row)
            judge_again(connection, chain, self._marks.of_first(), refused_too=True)
        _log.info("marked again", extra=fields(chain=chain, objects=len(documents)))
