"""Unsealing a file that is here, as a restore unseals one that is on its way."""

from __future__ import annotations

from pathlib import Path

from backups.sets.seal import unseal_into
from backups.sets.seal_streams import HashingWriter
from shared.files import open_private
from shared.store.object_store import ByteProgress, ignore_bytes


def unseal(
    sealed: Path,
    suffix: str,
    target: Path,
    identity_file: Path | None,
    *,
    most: int | None,
    tick: ByteProgress = ignore_bytes,
) -> str:
    """Write the snapshot inside `sealed` to the new 0600 file `target`; its SHA-256."""
    with sealed.open("rb") as source, open_private(target) as file:
        sink = HashingWriter(file, most, tick)
        unseal_into(sink, source, suffix, sealed.name, identity_file)
    return sink.hexdigest()
