"""Restores from what a person gives: files in hand, and an age identity for this once.

A folder or file in hand is laid out as a store that can only be read, with a catalogue of its own
in a scratch folder. So the ordinary restore plans from it, fetches from it and checks it; what it
replaces, notes and undoes is this installation's as ever. Without files in hand, it is the store's.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from backups.config import BackupConfig
from backups.decisions.restore_plan import RestorePlan
from backups.errors import FileUnusable, NoRestorePoint, SeveralInstallations
from backups.format import naming
from backups.format.mark import Marks
from backups.host.catalogues import open_catalogue
from backups.host.records import open_records
from backups.host.state import HostState
from backups.increments.replay import Replay
from backups.model import BackupSet, Finding, ProgressSink, RunError, StoredObject
from backups.operations.installation import Installation
from backups.operations.own_sets import LATEST, OwnSets
from backups.operations.planning.detail import PlanDetail
from backups.operations.restore import Restore
from backups.operations.writers import Writers
from backups.runs.run import StartedRun, ignore_progress
from backups.sets.catalogue import Catalogue
from backups.sets.hand.files import live_files
from backups.sets.hand.folder import Layout, lay_out
from backups.sets.hand.loose import Judge
from backups.sets.hand.store import FilesInHand
from backups.sets.seal import load_identities
from shared.clock import format_utc

_RESTORE = "./bot backups restore"
_SET = r"(?:\d{8}T\d{6}Z(?:\.\d+)?|legacy-\d{4}-\d{2}-\d{2})"
_RESTORE_SET = rf"{re.escape(_RESTORE)} {_SET}"

_Told = TypeVar("_Told", Finding, RunError)


@dataclass(frozen=True)
class GivenRestore:
    """One restore, from the store or from files in hand.

    `chooser` plans it, `actor` does it; they differ only in which catalogue they know. `options`
    are what each command for the same restore needs again.
    """

    chooser: Restore
    actor: Restore
    detail: PlanDetail
    options: str = ""
    at: datetime | None = None
    path: Path | None = None
    layout: Layout | None = None
    exposed: tuple[Finding, ...] = ()

    def plan(
        self,
        target: str,
        *,
        only: str | None,
        in_place: bool,
        accept_unsigned: bool,
        compares: bool,
    ) -> RestorePlan:
        """See `Restore.plan`, with its detail. Of files in hand `latest` is the newest good set,
        or where there is none, the newest of any kind: a person has named the files.

        Raises also `FileUnusable` where an object that the set needs is not in hand.
        """
        at = self.at
        if self.layout is not None:
            target, at = self._chosen(target), None
        plan = self.chooser.plan(
            target, at=at, only=only, in_place=in_place, accept_unsigned=accept_unsigned
        )
        if self.layout is not None:
            self._refuse_missing(plan.backup_set, self.layout, only)
        plan = self.detail.of(plan, compares=compares, fetches=True)
        if not self.options:
            return plan
        named = self._named(plan.backup_set)
        return replace(
            plan,
            named=named,
            from_path=self.path,
            has_copies=plan.has_copies and self.path is None,
            items=tuple(replace(one, file=self._file_of(one.stored)) for one in plan.items),
            blockers=tuple(self.told(one, named) for one in plan.blockers),
            in_place=tuple(self.told(one, named) for one in plan.in_place),
            warnings=tuple(self.told(one, named) for one in (*plan.warnings, *self.exposed)),
        )

    def begin(
        self, plan: RestorePlan, *, to: Path | None, progress: ProgressSink = ignore_progress
    ) -> StartedRun:
        """See `Restore.begin`."""
        return self.actor.begin(plan, to=to, progress=progress)

    def told(self, one: _Told, named: str) -> _Told:
        """A finding or error in terms of what was given: files by their own names, and commands
        for the same files."""
        message, hint = self._files_named(one.message), one.hint
        if self.path is not None:
            hint = self._files_named(hint)
            hint = re.sub(rf"\./bot backups verify {_SET}", lambda _: f"{named} --to DIR", hint)
            hint = hint.replace("Prove it first", "Look at it first")
        return replace(one, message=message, hint=re.sub(_RESTORE_SET, lambda _: named, hint))

    def explained(self, plan: RestorePlan, error: RunError) -> RunError:
        """The same of what ended a run; it names the files in hand."""
        told = self.told(error, self._named(plan.backup_set))
        if self.path is None or str(self.path) in told.message:
            return told
        return replace(told, message=f"{self.path}: {told.message}")

    def _named(self, chosen: BackupSet) -> str:
        if self.layout is None or not self.layout.is_loose:
            return f"{_RESTORE} {chosen.id}{self.options}"
        at = f" --at {format_utc(self.at)}" if self.at else ""
        return f"{_RESTORE}{self.options}{at}"

    def _file_of(self, stored: StoredObject) -> str:
        file = self.layout.files.get(stored.key) if self.layout else None
        return str(file.given) if file else ""

    def _files_named(self, text: str) -> str:
        """A text of the store's, which names objects by their keys, and what was fetched of them
        by its source."""
        for key, file in (self.layout.files if self.layout else {}).items():
            if key in text:
                return text.replace(key, str(file.given))
            parsed = naming.parse_data_key(self.layout.prefix if self.layout else "", key)
            if parsed is not None and f"{parsed.source}.sealed" in text:
                return text.replace(f"{parsed.source}.sealed", str(file.given))
        return text

    def _chosen(self, target: str) -> str:
        catalogue = self.chooser.catalogue
        catalogue.refresh()
        if target != LATEST:
            return target
        try:
            return self.chooser.newest(self.at, ask=True).id
        except SeveralInstallations as error:
            error.hint = re.sub(
                rf"({re.escape(_RESTORE)} {_SET})", rf"\1{self.options}", error.hint
            )
            raise
        except NoRestorePoint:
            for one in catalogue.sets():
                if self.at is None or one.created_at <= self.at:
                    return one.id
            for set_id in catalogue.unread.sets():
                catalogue.get(set_id)  # says why it cannot be read
            when = f" of {format_utc(self.at)} or before" if self.at else ""
            raise NoRestorePoint(
                f"{self.path} has no restore point{when}",
                "Name another file or folder, or an earlier or later time.",
            ) from None

    def _refuse_missing(self, chosen: BackupSet, layout: Layout, only: str | None) -> None:
        for one in chosen.objects:
            if only in (None, one.source) and one.key not in layout.files:
                raise FileUnusable(
                    f"{self.path} has the manifest of set {chosen.id}, but not {one.key}",
                    "Put that object into the folder, under its name, or choose a source that is "
                    "there: --only SOURCE.",
                )


class Given:
    """Begins restores from what a person gives."""

    def __init__(self, installation: Installation, restore: Restore, detail: PlanDetail) -> None:
        self._installation = installation
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
        `FileUnusable`, `NoRestorePoint`, `DatabaseError`, `IdentityMissing`, `KeyMalformed`.
        """
        options = f" --from {shlex.quote(str(path))}" if path else ""
        config, exposed = self._installation.config, tuple[Finding, ...]()
        if identity_file is not None:
            load_identities(identity_file)
            exposed = _exposed(identity_file)
            options += f" --identity {shlex.quote(str(identity_file))}"
            config = replace(config, identity_file=identity_file)
        if path is None:
            yield replace(self._from_store(config, options, at), exposed=exposed)
            return
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="from-")))
            found = self._from_files(
                stack, scratch, path, config, options=options, at=at, only=only
            )
            yield replace(found, exposed=exposed)

    def _from_store(self, config: BackupConfig, options: str, at: datetime | None) -> GivenRestore:
        fetcher = replace(self._restore.fetcher, identity_file=config.identity_file)
        restore = replace(self._restore, config=config, fetcher=fetcher)
        detail = replace(self._detail, config=config, fetcher=fetcher)
        return GivenRestore(restore, restore, detail, options, at)

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
        return GivenRestore(chooser, actor, detail, options, at, path, layout)


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
