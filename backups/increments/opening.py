"""Opening the chain of before, and what a chain may begin with: only what is whole."""

from __future__ import annotations

import logging

from backups.format.chain_keys import head_key, set_of
from backups.increments.chain import sha256_of
from backups.increments.follow_folder import ChainState
from backups.increments.parts import Parts
from backups.increments.shadow import Shadow
from backups.increments.step import OpenChain
from backups.model import BackupSet
from backups.sets.chains import table
from shared.process.lasting_work import beat

_log = logging.getLogger("backups.follow")


def open_chain(parts: Parts, name: str, state: ChainState) -> OpenChain | None:
    """A chain whose state was `state`, with its shadows; None where it cannot be gone on with."""
    with parts.steps.known.reading() as connection:
        known = table.chain(connection, name)
    if known is None or not parts.catalogue.has(set_of(name)):
        _log.warning("chain %s is not known here any more, or its set is not", name)
        return None
    marks = parts.steps.marks.since_rotation(parts.catalogue.rotated())
    if marks.check(head_key(parts.steps.prefix, name), known.head).outcome != "valid":
        _log.warning("chain %s was marked with a key that does not count any more", name)
        return None
    shadows: dict[str, Shadow] = {}
    try:
        for source in state.sources:
            shadows[source] = parts.folder.shadow(name, source)
            beat()
    except OSError as error:
        _log.warning("a shadow of chain %s cannot be read: %s", name, error)
        for shadow in shadows.values():
            shadow.close()
        return None
    return OpenChain(name, state, shadows)


def is_known(parts: Parts, name: str) -> bool:
    """Whether a chain was begun already, and cannot be begun from its full again."""
    if name in parts.folder.begun():
        return False
    with parts.steps.known.reading() as connection:
        row = table.chain(connection, name)
        if table.has_numbers(connection, name):
            return True  # only its own folder could go on from them
    return row is not None and (row.end is not None or name in parts.folder.ended())


def copies_are_whole(parts: Parts, full: BackupSet) -> bool:
    """Whether the local copies of a full are what it says of them; raises `OSError`."""
    for one in full.objects:
        path = parts.copy_of(full.id, one.source)
        beat()
        if not path.is_file() or sha256_of(path) != one.snapshot_sha256:
            return False
    return True
