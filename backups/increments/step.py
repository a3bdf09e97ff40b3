"""One step of a chain: what was captured becomes a proven point.

    delta -> fold -> sign -> PUT (a free key) -> GET -> SHA-256, unfold -> apply to the shadow,
    where `before` and `after` have to come out -> the local row -> how far the chain is

Killed at any arrow: before the PUT there is nothing; after it the next start finds the object,
which is its own successor, and does the rest. Where the store does not answer, the attempt is kept,
and put again as it is: a lost answer is no other writer.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from backups.errors import ChainTaken, IncrementBroken, ManifestInvalid, ProofFailed
from backups.format.chain_keys import increment_key
from backups.format.increment import (
    FORMAT,
    MOST_BYTES,
    Increment,
    Proven,
    SourceChange,
    assemble,
    dump_line,
    load_line,
    split,
)
from backups.format.mark import Marks
from backups.increments.bodies import fold, unfold
from backups.increments.capture import Captured
from backups.increments.follow_folder import ChainState, FollowFolder, SourceState
from backups.increments.shadow import Shadow
from backups.sets.chains.objects import get_increment
from backups.sets.chains.table import PointRow, note_point
from shared.databases.sqlite import Database
from shared.errors import ObjectExists, ObjectMissing, ObjectTooLarge
from shared.store.object_store import ObjectStore, get_document

_HINT = "The follower begins a new chain with a full backup. See: ./bot backups status"


@dataclass(frozen=True)
class Attempt:
    """An object that was, or is about to be, put: with its bodies as they are unfolded."""

    key: str
    stored: bytes
    increment: Increment
    raws: tuple[bytes, ...]


class OpenChain:
    """A chain that is being written: how far it is, with its shadows open; close it at the end."""

    def __init__(self, chain: str, state: ChainState, shadows: Mapping[str, Shadow]) -> None:
        self.id = chain
        self.state = state
        self.shadows = dict(shadows)
        self.attempt: Attempt | None = None

    def close(self) -> None:
        """Close the shadows."""
        for shadow in self.shadows.values():
            shadow.close()


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Makes points of chains. `recipients` and `identity_file` seal and open the bodies."""

    store: ObjectStore
    known: Database
    folder: FollowFolder
    prefix: str
    marks: Marks
    instance: str
    recipients: tuple[str, ...] = ()
    identity_file: Path | None = None

    def prepare(
        self, chain: OpenChain, captured: Captured, trigger: str, suspect: Sequence[str] = ()
    ) -> None:
        """Make the next object of a chain, and keep it as the attempt; `suspect` is why it should
        not be trusted."""
        number = chain.state.number + 1
        key = increment_key(self.prefix, chain.id, number, sealed=bool(self.recipients))
        bodies, changes = [], []
        for source, delta in sorted(captured.deltas.items()):
            body = fold(delta.raw, self.recipients)
            bodies.append(body)
            changes.append(
                SourceChange(
                    source=source,
                    page_size=delta.page_size,
                    pages_before=delta.pages_before,
                    pages_after=delta.pages_after,
                    changed=delta.changed,
                    before=delta.before,
                    after=delta.after,
                    bytes=len(body),
                    sha256=hashlib.sha256(body).hexdigest(),
                )
            )
        increment = Increment(
            format=FORMAT,
            kind="increment",
            chain=chain.id,
            seq=number,
            # Another host with the id of this one counts for itself; within a chain it grows.
            sequence=max(captured.sequence, chain.state.sequence + 1),
            instant=max(_milliseconds(captured), chain.state.instant),
            prev=chain.state.prev,
            base_seq=number - 1,
            trigger=trigger,
            how=captured.how,
            instance=self.instance,
            same_instant=captured.same_instant,
            sources=tuple(changes),
            suspect=tuple(suspect) or None,
            proven=Proven(chain.state.number, chain.state.proven_at)
            if chain.state.number
            else None,
        )
        stored = assemble(self.marks.sign_line(key, dump_line(increment)), bodies)
        raws = tuple(delta.raw for _, delta in sorted(captured.deltas.items()))
        chain.attempt = Attempt(key, stored, increment, raws)

    def finish(self, chain: OpenChain, now: int) -> PointRow:
        """Put the attempt of a chain, prove it, apply it and note it; `now` in milliseconds.

        Raises `StoreError`, and then the attempt stays; `ChainTaken` where another object is at
        its key; `ProofFailed`, `IncrementBroken`, `SealBroken` where the chain has to end.
        """
        attempt = chain.attempt
        assert attempt is not None  # noqa: S101 - prepare comes first
        sha256 = hashlib.sha256(attempt.stored).hexdigest()
        try:
            metadata = {"chain": chain.id, "sha256": sha256, "instance": self.instance}
            self.store.put(attempt.key, io.BytesIO(attempt.stored), metadata)
        except ObjectExists:
            theirs = get_document(self.store, attempt.key, MOST_BYTES)
            if hashlib.sha256(theirs).hexdigest() != sha256:
                raise ChainTaken(
                    f"{attempt.key} was written by another process: two hosts write as one "
                    "installation",
                    f"Give each host a BACKUP_PREFIX and a BACKUP_DIR of its own. {_HINT}",
                ) from None
        try:
            back = get_document(self.store, attempt.key, len(attempt.stored))
        except ObjectMissing:
            back = b""
        if hashlib.sha256(back).hexdigest() != sha256:
            raise ProofFailed(
                f"{attempt.key} was accepted by the store, but other bytes were read back",
                "Do not use this store; see the status page of its provider, then run again.",
            )
        if self.recipients and self.identity_file is None:
            raws = attempt.raws  # nobody here can open the body: its bytes are what was sent
        else:
            raws = self._unfolded(attempt.key, back, attempt.increment)
        for change, raw in zip(attempt.increment.sources, raws, strict=True):
            shadow = chain.shadows[change.source]
            if not _is_after(shadow, change):  # an earlier try may have come as far as this one
                shadow.apply(change, raw)
        return self._note(chain, attempt.key, back, attempt.increment, now)

    def catch_up(self, chain: OpenChain, now: int) -> int:
        """Apply the objects of a chain that were put and not noted; how many.

        Raises `StoreError`, `ChainTaken` for an object that is not our own successor, and what
        `finish` raises for a chain that has to end.
        """
        caught = 0
        while (found := self._successor(chain)) is not None:
            key, stored, increment = found
            self._apply_found(chain, key, stored, increment)
            self._note(chain, key, stored, increment, now)
            caught += 1
        _refuse_torn(chain, ())
        return caught

    def _successor(self, chain: OpenChain) -> tuple[str, bytes, Increment] | None:
        number = chain.state.number + 1
        for sealed in (bool(self.recipients), not self.recipients):
            key = increment_key(self.prefix, chain.id, number, sealed=sealed)
            read_line = partial(self._own_line, chain, key, number)
            try:
                return key, *get_increment(self.store, key, MOST_BYTES, read_line)
            except ObjectMissing:
                continue
            except ObjectTooLarge as error:
                raise ManifestInvalid(f"{key} cannot be read: {error.message}", _HINT) from error
        return None

    def _own_line(self, chain: OpenChain, key: str, number: int, line: bytes) -> Increment:
        """The line of our own successor; raises `ChainTaken` for any other."""
        increment = load_line(line, key=key, chain=chain.id, number=number, kind="increment")
        is_ours = self.marks.check(key, line).outcome == "valid"
        follows = (increment.prev, increment.instance) == (chain.state.prev, self.instance)
        if not is_ours or not follows:
            raise ChainTaken(f"{key} does not follow what this host has stored", _HINT)
        return increment

    def _apply_found(self, chain: OpenChain, key: str, stored: bytes, increment: Increment) -> None:
        """Apply what a process that died may have applied to some of the shadows."""
        _refuse_torn(chain, [change.source for change in increment.sources])
        for change, body in zip(increment.sources, split(stored, increment, key), strict=True):
            shadow = chain.shadows.get(change.source)
            if shadow is None:
                raise IncrementBroken(f"there is no shadow of {change.source}", _HINT)
            if _is_after(shadow, change):
                continue
            if key.endswith(".age") and self.identity_file is None:
                raise IncrementBroken(f"{key} cannot be opened on this host", _HINT)
            shadow.apply(change, unfold(body, change, key, self.identity_file))

    def _unfolded(self, key: str, stored: bytes, increment: Increment) -> tuple[bytes, ...]:
        bodies = split(stored, increment, key)
        return tuple(
            unfold(body, change, key, self.identity_file)
            for change, body in zip(increment.sources, bodies, strict=True)
        )

    def _note(
        self, chain: OpenChain, key: str, stored: bytes, increment: Increment, now: int
    ) -> PointRow:
        row = PointRow(
            chain=chain.id,
            number=increment.seq,
            sequence=increment.sequence,
            instant=increment.instant,
            key=key,
            bytes=len(stored),
            sha256=hashlib.sha256(stored).hexdigest(),
            mark="valid",
            proven=True,
            suspect="; ".join(increment.suspect) if increment.suspect else None,
        )
        with self.known.transaction() as connection:
            note_point(connection, row)
        state = ChainState(
            number=row.number,
            prev=row.sha256,
            instant=row.instant,
            sequence=row.sequence,
            proven_at=now,
            sources=states_of(chain.shadows),
        )
        self.folder.set_state(chain.id, state)
        chain.state, chain.attempt = state, None
        return row


def states_of(shadows: Mapping[str, Shadow]) -> dict[str, SourceState]:
    """How the shadows are now."""
    return {
        source: SourceState(shadow.page_size, shadow.pages, shadow.sum)
        for source, shadow in shadows.items()
    }


def _refuse_torn(chain: OpenChain, changing: Collection[str]) -> None:
    """Raise `IncrementBroken` for a shadow that is not what it was, but for those in `changing`."""
    for source, state in states_of(chain.shadows).items():
        if source not in changing and chain.state.sources.get(source) != state:
            raise IncrementBroken(f"the shadow of {source} is not what it was", _HINT)


def _is_after(shadow: Shadow, change: SourceChange) -> bool:
    return (shadow.sum, shadow.pages) == (change.after, change.pages_after)


def _milliseconds(captured: Captured) -> int:
    return int(captured.instant.timestamp() * 1000)
