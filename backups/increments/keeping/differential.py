"""A differential: all that changed since the full, in one object, so that a restore of a late point
takes few. It is proven by being applied to a copy of the full, from the bytes that were read back.
"""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from backups.errors import IncrementBroken, ProofFailed
from backups.format import chain, increment
from backups.format.chain import Head
from backups.format.chain_keys import differential_key, head_key
from backups.format.increment import MOST_CHANGED_BYTES, Increment, SourceChange
from backups.format.mark import Marks
from backups.host.removal import remove_file
from backups.increments.bodies import fold, unfold
from backups.increments.shadow import Delta, Shadow, same_first_page
from backups.sets.chains import objects_table, table
from backups.sets.chains.objects_table import ObjectRow
from backups.sets.chains.table import PointRow
from shared.databases.sqlite import Database
from shared.errors import ObjectExists, ObjectMissing, ObjectTooLarge
from shared.files import open_private
from shared.store.object_store import ObjectStore, get_document

_log = logging.getLogger("backups.follow")

# A change that is never worth a full.
_FEW_BYTES = 1024 * 1024
_HINT = "Do not use this store; see the status page of its provider, then run again."


@dataclass(frozen=True)
class ChainTools:
    """What checks of a chain work with: the store and its keys, what this host knows of it, and a
    scratch folder with room for a copy of the largest source. `recipients` and `identity_file` are
    those of the backups; `instance` is this installation."""

    store: ObjectStore
    known: Database
    marks: Marks
    instance: str
    scratch: Path
    recipients: tuple[str, ...] = ()
    identity_file: Path | None = None


@dataclass(frozen=True)
class FollowedSource:
    """A source of a chain at one instant: its shadow, and where a local copy of its full is, if
    there is one.

    `copy` is SQLite's own copy of the live database at that instant; None, when it was not copied.
    """

    source: str
    shadow: Shadow
    full: Path
    copy: Path | None = None


@dataclass(frozen=True)
class FullNeeded:
    """Why there is no differential: a new full takes no more."""

    source: str
    changed_bytes: int


def changes_since(one: FollowedSource) -> Delta | FullNeeded:
    """What leads from the full, which is here, to the state of the shadow; raises `OSError`.

    More than half of the pages, or than one object may have, is `FullNeeded`; a mebibyte never is.
    """
    shadow = one.shadow
    with closing(Shadow(one.full, shadow.page_size)) as base:
        most = min(MOST_CHANGED_BYTES, max(_FEW_BYTES, shadow.pages * shadow.page_size // 2))
        pages: dict[int, bytes] = {}
        for number, page in shadow.all_pages():
            old = base.page(number)
            if old == page or (number == 1 and old and same_first_page(old, bytes(page))):
                continue
            pages[number] = bytes(page)
            if len(pages) * shadow.page_size > most:
                return FullNeeded(one.source, len(pages) * shadow.page_size)
        return base.delta(pages, shadow.pages)


def put_differential(
    tools: ChainTools, point: PointRow, sources: Sequence[FollowedSource]
) -> str | FullNeeded | None:
    """Put the differential of the newest `point`, whose state the shadows have; its key.

    None where nothing changed since the full, or no copy of it is here as the head of the chain
    describes it. Raises `StoreError`, `OSError`, `IncrementBroken`,
    and `ProofFailed` where other bytes were read back; then its number stays free of one.
    """
    sums = _sums(tools, point.chain)
    deltas: dict[str, Delta] = {}
    for one in sources:
        if not one.full.is_file():
            return None
        found = changes_since(one)
        if isinstance(found, FullNeeded):
            return found
        if found.before != sums.get(one.source):
            _log.warning("%s is not the full that chain %s hangs on", one.full, point.chain)
            return None
        if found.after != one.shadow.sum:
            raise IncrementBroken(
                f"the differential of {one.source} does not lead to its shadow",
                "Make a new full: ./bot backups run",
            )
        if not found.is_empty:
            deltas[one.source] = found
    if not deltas:
        return None
    bodies = {source: fold(delta.raw, tools.recipients) for source, delta in deltas.items()}
    key = differential_key(
        tools.marks.prefix, point.chain, point.number, sealed=bool(tools.recipients)
    )
    changes = tuple(_change(source, deltas[source], body) for source, body in bodies.items())
    line = Increment(
        format=increment.FORMAT,
        kind="differential",
        chain=point.chain,
        seq=point.number,
        sequence=point.sequence,
        instant=point.instant,
        prev=point.sha256,
        base_seq=0,
        trigger="self-check",
        how="compare",
        instance=tools.instance,
        same_instant=True,
        sources=changes,
    )
    signed = tools.marks.sign_line(key, increment.dump_line(line))
    stored = increment.assemble(signed, list(bodies.values()))
    digest = sha256(stored).hexdigest()
    metadata = {"chain": point.chain, "instance": tools.instance, "sha256": digest}
    try:
        tools.store.put(key, io.BytesIO(stored), metadata)
    except ObjectExists:
        return None  # an earlier check has made it; whether it is right, its reader finds out
    _prove(tools, key, stored, changes, sources)
    row = ObjectRow(
        key,
        point.chain,
        "differential",
        point.number,
        point.number,
        len(stored),
        "valid",
        first_instant=point.instant,
        last_instant=point.instant,
        points=1,
        sha256=digest,
    )
    with tools.known.transaction() as connection:
        objects_table.note_object(connection, row)
    return key


def _sums(tools: ChainTools, chain_id: str) -> dict[str, str]:
    """The sum of each source of the full, as the head of its chain has it."""
    with tools.known.reading() as connection:
        row = table.chain(connection, chain_id)
    if row is None:
        return {}
    key = head_key(tools.marks.prefix, chain_id)
    head = chain.load(Head, row.head, key=key, chain=chain_id)
    return {one.source: one.sum for one in head.sources}


def _change(source: str, delta: Delta, body: bytes) -> SourceChange:
    return SourceChange(
        source,
        delta.page_size,
        delta.pages_before,
        delta.pages_after,
        delta.changed,
        delta.before,
        delta.after,
        len(body),
        sha256(body).hexdigest(),
    )


def _prove(
    tools: ChainTools,
    key: str,
    stored: bytes,
    changes: Sequence[SourceChange],
    sources: Sequence[FollowedSource],
) -> None:
    """Read a differential back, and apply it to a copy of each full, as a restore does.

    What cannot be opened here, for want of the identity, is compared by its bytes only.
    """
    try:
        found = get_document(tools.store, key, len(stored))
    except (ObjectMissing, ObjectTooLarge):
        found = b""
    if found != stored:
        raise ProofFailed(f"{key} was accepted by the store, but other bytes were read back", _HINT)
    if tools.recipients and tools.identity_file is None:
        return
    line = increment.line_of(found, key)
    by_source = {one.source: one for one in sources}
    start = len(line) + 1
    for change in changes:
        raw = unfold(found[start : start + change.bytes], change, key, tools.identity_file)
        start += change.bytes
        _apply(tools, change, raw, by_source[change.source])


def _apply(tools: ChainTools, change: SourceChange, raw: bytes, source: FollowedSource) -> None:
    path = tools.scratch / f"{source.source}.differential"
    remove_file(path)  # of a process that died
    try:
        with open_private(path) as file, source.full.open("rb") as full:
            shutil.copyfileobj(full, file, 1024 * 1024)
        with closing(Shadow(path, change.page_size)) as restored:
            restored.apply(change, raw)
            if restored.sum != source.shadow.sum:
                raise IncrementBroken(
                    f"the differential of {source.source} does not restore its shadow", _HINT
                )
    finally:
        remove_file(path)
