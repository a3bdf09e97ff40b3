"""How a chain begins, and how it ends.

A chain begins with its head in the store; then with its state on this host, from where on it is the
one that is written; then the chain before gets its end. An end is written on this host first, and
owed to the store until that has it.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC
from pathlib import Path

from backups.format.chain import FORMAT, End, EndReason, Head, HeadSource, RestoredTo, dump
from backups.format.chain_keys import end_key, head_key
from backups.increments.follow_folder import ChainState
from backups.increments.shadow import Shadow
from backups.increments.step import OpenChain, Steps, states_of
from backups.model import BackupSet
from backups.sets.chains import table
from backups.sets.puts import put_document
from shared.clock import Clock
from shared.errors import ObjectExists
from shared.logs import fields
from shared.process.lasting_work import beat

_log = logging.getLogger("backups.follow")


def begin_chain(steps: Steps, name: str, full: BackupSet, now: int) -> OpenChain | None:
    """Begin the chain of a full, whose snapshots were handed over; `now` in milliseconds.

    None where they are not those of the full: what was handed over is dropped. Raises `StoreError`.
    """
    shadows: dict[str, Shadow] = {}
    try:
        sources = _head_sources(steps, name, full, shadows)
        if sources is None or full.sequence is None:
            steps.folder.drop(name)
            _close(shadows)
            return None
        # The same bytes at each try: a head that is there is that of a try before.
        at = full.created_at.replace(microsecond=0)
        head = Head(FORMAT, name, full.id, full.instance, at, full.sequence, sources)
        key = head_key(steps.prefix, name)
        document = steps.marks.sign(key, dump(head))
        metadata = {"chain": name, "instance": full.instance}
        put_document(steps.store, key, document, metadata)
        with steps.known.transaction() as connection:
            table.note_head(connection, name, full.instance, document, "valid")
        state = ChainState(
            number=0,
            prev=hashlib.sha256(document).hexdigest(),
            instant=int(full.created_at.timestamp() * 1000),
            sequence=full.sequence,
            proven_at=now,
            sources=states_of(shadows),
        )
        steps.folder.set_state(name, state)
    except BaseException:
        _close(shadows)
        raise
    _log.info("a chain begins", extra=fields(chain=name))
    return OpenChain(name, state, shadows)


def _head_sources(
    steps: Steps, name: str, full: BackupSet, shadows: dict[str, Shadow]
) -> tuple[HeadSource, ...] | None:
    sources = []
    for stored in full.objects:
        try:
            shadow = steps.folder.shadow(name, stored.source)
            shadows[stored.source] = shadow
            beat()
            if sha256_of(shadow.path) != stored.snapshot_sha256:
                raise OSError(f"{shadow.path} is not the snapshot of set {full.id}")
        except OSError as error:
            _log.warning("no chain begins with set %s: %s", full.id, error)
            return None
        sources.append(
            HeadSource(
                source=stored.source,
                page_size=shadow.page_size,
                pages=shadow.pages,
                sum=shadow.sum,
                snapshot_sha256=stored.snapshot_sha256,
            )
        )
    return tuple(sources)


class Ends:
    """Ends chains, on this host at once, and in the store as soon as it answers."""

    def __init__(self, steps: Steps, clock: Clock) -> None:
        self._steps = steps
        self._folder = steps.folder
        self._clock = clock

    def note(
        self, name: str, last: int, reason: EndReason, restored_to: RestoredTo | None = None
    ) -> None:
        """End a chain after the number `last`, or the highest one that is known to be stored;
        `send` brings the end to the store."""
        with self._steps.known.reading() as connection:
            last = max(last, table.highest_number(connection, name))
        at = self._clock.now().astimezone(UTC).replace(microsecond=0)
        key = end_key(self._steps.prefix, name)
        end = End(FORMAT, name, at, reason, last, restored_to)
        document = self._steps.marks.sign(key, dump(end))
        self._folder.set_end(name, document)
        with self._steps.known.transaction() as connection:
            table.note_end(connection, name, document, "valid")

    def note_of_other(self, name: str, reason: EndReason) -> None:
        """The same for a chain that is not open, after the last number that is known of it."""
        state = self._folder.state(name)
        self.note(name, state.number if state else 0, reason)

    def send(self) -> None:
        """Store the ends that the store has yet to get. Raises `StoreError`, `ProofFailed`."""
        for name in self._folder.ended():
            key = end_key(self._steps.prefix, name)
            metadata = {"chain": name, "instance": self._steps.instance}
            try:
                put_document(self._steps.store, key, self._folder.end(name), metadata)
            except ObjectExists:
                _log.warning("chain %s has an end already", name)
            self._folder.drop(name)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file. Raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _close(shadows: dict[str, Shadow]) -> None:
    for shadow in shadows.values():
        shadow.close()
