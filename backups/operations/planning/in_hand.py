"""Begins restores from what a person gives: files in hand, and an age identity for this once.

A folder or file in hand is laid out as a store that can only be read, with a catalogue of its own
in a scratch folder. So the ordinary restore plans from it, fetches from it and checks it; what it
replaces, notes and undoes is this installation's as ever. Without files in hand, it is the store's.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from backups.config import BackupConfig
from backups.format.mark import Marks
from backups.host.catalogues import open_catalogue
from backups.host.records import open_records
from backups.host.state import HostState
from backups.increments.replay import Replay
from backups.model import Finding
from backups.operations.installation import Installation
from backups.operations.own_sets import OwnSets
from backups.operations.planning.detail import PlanDetail
from backups.operations.planning.given import GivenRestore
from backups.operations.planning.scratch import scratch_folder
from backups.operations.restore import Restore
from backups.operations.writers import Writers
from backups.sets.catalogue import Catalogue
from backups.sets.hand.files import live_files
from backups.sets.hand.folder import lay_out
from backups.sets.hand.loose import Judge
from backups.sets.hand.store import FilesInHand
from backups.sets.seal import load_identities


class Given:
    """Begins restores from what a person gives."""

    def __init__(
        self, installation: Installation, restore: Restore, detail: PlanDetail, typed: str = ""
    ) -> None:
        """`typed` are the options that a command needs to mean the store of this installation."""
        self._installation = installation
        self._typed = typed
        self._restore = restore
        self._detail = detail

    @contextmanager
    def open(
        self,
        path: Path | None = None,
        *,
        at: datetime | None = None,
        only: str | None = None,
        identity_file: Path | None = None,
    ) -> Iterator[GivenRestore]:
        """A restore from the file or folder `path`, or else from the store, within a block.

        Nothing at `path` is written. An `identity_file` is read at once, encrypted or not. Raises
        `FileUnusable`, `NoRestorePoint`, `DatabaseError`, `DirectoryUnusable`, `IdentityMissing`,
        `KeyMalformed`.
        """
        options = f" --from {shlex.quote(str(path))}" if path else self._typed
        config, exposed = self._installation.config, tuple[Finding, ...]()
        if identity_file is not None:
            load_identities(identity_file)
            exposed = _exposed(identity_file)
            options += f" --identity {shlex.quote(str(identity_file))}"
            config = replace(config, identity_file=identity_file)
        if path is None:
            found = self._from_store(config, options, at)
            yield replace(found, only=only, exposed=exposed)
            return
        with ExitStack() as stack:
            scratch = stack.enter_context(scratch_folder())
            found = self._from_files(
                stack, scratch, path, config, options=options, at=at, only=only
            )
            yield replace(found, only=only, exposed=exposed)

    def _from_store(self, config: BackupConfig, options: str, at: datetime | None) -> GivenRestore:
        fetcher = replace(self._restore.fetcher, identity_file=config.identity_file)
        restore = replace(self._restore, config=config, fetcher=fetcher)
        detail = replace(self._detail, config=config, fetcher=fetcher)
        return GivenRestore(restore, restore, detail, options, at=at)

    def _from_files(
        self,
        stack: ExitStack,
        scratch: Path,
        path: Path,
        config: BackupConfig,
        *,
        options: str,
        at: datetime | None,
        only: str | None,
    ) -> GivenRestore:
        judge = Judge(
            [source.name for source in config.sources], dict(config.schemas), only, scratch
        )
        layout = lay_out(path, judge, live_files(config.sources), prefix=config.prefix, at=at)
        own = self._installation
        store = FilesInHand(path, layout.files)
        records = open_records(scratch)
        stack.callback(records.close)
        known = open_catalogue(scratch, store, layout.prefix, records)
        stack.callback(known.close)
        marks = Marks(config.mark_keys, layout.prefix)
        in_hand = replace(
            own,
            config=replace(config, prefix=layout.prefix),
            store=store,
            catalogue=Catalogue(known, store, layout.prefix, own.clock, marks=marks),
        )
        # What the folder says of installations must not become what this host knows of the store.
        facts = HostState(records)
        writers = Writers(in_hand, facts)
        own_sets = OwnSets(in_hand, facts, writers, known)
        fetcher = replace(
            self._restore.fetcher,
            store=store,
            directory=None,
            identity_file=config.identity_file,
            replay=Replay(store, in_hand.catalogue.chains).to,
        )
        actor = replace(self._restore, config=config, fetcher=fetcher)
        chooser = replace(actor, catalogue=in_hand.catalogue, own_sets=own_sets, writers=writers)
        detail = replace(
            self._detail,
            config=config,
            catalogue=in_hand.catalogue,
            own_sets=own_sets,
            fetcher=fetcher,
        )
        return GivenRestore(chooser, actor, detail, options, at=at, path=path, layout=layout)


def _exposed(identity_file: Path) -> tuple[Finding, ...]:
    mode = identity_file.stat().st_mode & 0o777
    if not mode & 0o077:
        return ()
    return (
        Finding(
            "identity_exposed",
            f"the identity file {identity_file} can be read by other users (mode {mode:o})",
            f"chmod 600 {shlex.quote(str(identity_file))}",
        ),
    )
