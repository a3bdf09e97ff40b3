"""Restoring a set into a folder, or in place of live databases.

    check -> get (local copy or store, unsealed, compared) -> install -> keep

Nothing live is touched before every file of the restore has been compared with its manifest. Each
database changes in one step: a crash leaves it with the old or the new content, and the same
command again finishes the rest.

One file, because what a restore would do and how it is done have to agree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backups.config import BackupConfig
from backups.decisions.marks import MarkFacts
from backups.decisions.order import end_of_present, is_future, newer
from backups.decisions.restore_plan import (
    KeyFacts,
    LiveState,
    RestorePlan,
    choose,
    newer_schemas,
    plan_restore,
)
from backups.errors import NoRestorePoint, RestoreBlocked, SetNotFound, SetNotNamed, SourceUnknown
from backups.host.removal import remove_file
from backups.host.state import HostState
from backups.increments.lease import LetGo
from backups.model import BackupSet, Baseline, Finding, ProgressSink, Source, StoredObject
from backups.operations.adopt import Adopt
from backups.operations.aside import Asides
from backups.operations.own_sets import OwnSets
from backups.operations.planning.readable import refuse_unreadable
from backups.operations.replace import Replacer
from backups.operations.writers import Writers
from backups.runs.log_files import source_log
from backups.runs.run import Recorder, RunStarter, StartedRun, ignore_progress
from backups.sets.catalogue import Catalogue
from backups.sets.fetch import Fetcher
from backups.sets.proof import size_of
from backups.sets.seal import identities_fit
from backups.sources.engine.live_data import LiveData
from backups.sources.install import install_new
from backups.sources.live import look_at
from backups.sources.room import Need, Room, room_for_restore
from backups.sources.target_folder import (
    beside,
    occupied,
    refuse_occupied,
    refuse_unwritable,
    target_errors,
)
from shared.clock import Clock, format_utc
from shared.errors import StoreError
from shared.logs import fields
from shared.words import counted

_LIST = "./bot backups list"


@dataclass(frozen=True, kw_only=True)
class Restore:
    """Plans restores, and starts them."""

    config: BackupConfig
    catalogue: Catalogue
    own_sets: OwnSets
    adoption: Adopt
    writers: Writers
    facts: HostState
    clock: Clock
    starter: RunStarter
    fetcher: Fetcher
    replacer: Replacer
    live: LiveData
    asides: Asides
    let_go: LetGo

    def plan(
        self,
        target: str = "latest",
        *,
        at: datetime | None = None,
        only: str | None = None,
        in_place: bool = True,
        accept_unsigned: bool = False,
    ) -> RestorePlan:
        """What a restore would do; changes nothing.

        With `accept_unsigned` a set without a valid mark may be restored, if `target` is its id.

        Only the live databases that it would replace are looked at: none, unless `in_place`. On a
        bad day the store may be away too: then local records and copies serve, and where they have
        nothing, its `StoreError` says why. Raises `SetNotFound`, `NoRestorePoint`,
        `SeveralInstallations`, `SourceUnknown`, `ManifestInvalid`, `SetNotNamed`.
        """
        if accept_unsigned and (target == "latest" or at is not None):
            raise SetNotNamed(
                "--accept-unsigned takes the id of a set, neither `latest` nor --at",
                "List the ids (./bot backups list), then: "
                "./bot backups restore SET --accept-unsigned",
            )
        refused = self.own_sets.refresh()
        chosen = self._choose(target, at, refused)
        uncovered = self._uncovered(chosen, at) if at and target == "latest" else None
        keys = KeyFacts(
            self._identity_fits(chosen), self.config.token_keys, self.config.schema_versions
        )
        stored = {one.source for one in chosen.objects if only in (None, one.source)}
        if in_place and self.live.is_shared:
            self._copy_live_data()
        live = [
            look_at(source, self.config.busy_timeout)
            if in_place
            else LiveState(source.name, source.path, "unknown")
            for source in self.config.sources
            if source.name in stored
        ]
        elsewhere = bool(chosen.instance) and not self.own_sets.made(chosen)
        if elsewhere and target != "latest":
            self.writers.try_to_look()  # whose it is, and what that one succeeds
        unread = self.catalogue.unread.sets() if target == "latest" and at is None else []
        return plan_restore(
            chosen,
            live,
            only,
            keys,
            self.clock.now(),
            unread=unread,
            others=self._others(chosen),
            made_elsewhere=elsewhere,
            host=self.writers.host_of(chosen.instance),
            marks=MarkFacts(
                accepted=accept_unsigned,
                is_marking=self.catalogue.is_marking(),
                marking_since=self.writers.marking_since(chosen.instance),
                checked=bool(self.config.mark_keys),
            ),
            not_asked=self._not_asked(refused) if refused else None,
            uncovered=uncovered,
        )

    def _copy_live_data(self) -> None:
        """Of several hosts, let the files be what is live now; a run of any of them makes them so,
        too. Raises `DatabaseError`."""
        held = self.replacer.directory.run_lease.try_acquire()
        if held is not None:
            try:
                self.live.bring_up_to_date()
            finally:
                held.release()

    def begin(
        self,
        plan: RestorePlan,
        *,
        to: Path | None = None,
        check: bool | None = None,
        progress: ProgressSink = ignore_progress,
    ) -> StartedRun:
        """Start the restore of a plan into the folder `to`, or else in place.

        SQLite is to `check` what comes; by default where no valid mark vouches for it.

        Raises the plan's first blocker as an error, and `LeaseHeld`.
        """
        chosen = plan.backup_set
        for one in plan.blocking(in_place=to is None):
            raise RestoreBlocked(chosen.id, one.code, one.message, one.hint)
        wanted = {item.stored.source for item in plan.items}
        if to is not None:
            wanted |= set(plan.foreign)
        objects = tuple(stored for stored in chosen.objects if stored.source in wanted)
        if not objects:
            raise SourceUnknown(
                f"this installation has no source named {', '.join(plan.foreign)}",
                "Add it to BACKUP_EXTRA_SOURCES, or use --to DIR.",
            )

        def work(recorder: Recorder, staging: Path) -> str:
            if to is not None:
                return self._restore_to(recorder, chosen, objects, to, staging, check=check)
            return self.restore_in_place(
                recorder,
                chosen,
                objects,
                staging,
                passes_over=True,
                only=plan.only,
                check=check,
                seen=[item.live for item in plan.items],
            )

        return self.starter.begin("restore", "manual", work, progress)

    def restore_in_place(
        self,
        recorder: Recorder,
        backup_set: BackupSet,
        objects: Sequence[StoredObject],
        staging: Path,
        *,
        passes_over: bool,
        only: str | None = None,
        check: bool | None = None,
        seen: Sequence[LiveState] = (),
    ) -> str:
        """Replace the live data of the sources in `objects`, just `seen`; what it replaces is kept.

        The work of a run. With `passes_over`, newer sets are set aside: a person has chosen
        this one. Restored whole where there was no data, and not `only` one source of it, the set
        makes this installation the successor of the one that made it. Returns the id of the set.
        """
        recorder.stage("check")
        self._refuse_newer(backup_set, {one.source: one.user_version for one in objects})
        sources = self.replacer.replaceable([stored.source for stored in objects])
        recorder.keep_room(self.room(objects, sources, staging))
        recorder.stage("get")
        files = self.fetcher.fetch_to_install(
            backup_set, objects, staging, recorder.progress, check=check
        )
        refuse_unreadable(files, dict(self.config.readability_checks))
        self.replacer.carried.from_newest(recorder, backup_set, sources, files, staging)
        recorder.stage("install")
        if self.live.bring_up_to_date() is not None:
            seen = ()  # the files are new
        heir = only is None and self._takes_over(backup_set, sources)
        with self.let_go.held(backup_set):
            replacement = self.replacer.begin(recorder, backup_set.id)
            for source in sources:
                live = next((one for one in seen if one.source == source.name), None)
                replacement.install(source, files[source.name], live)
                remove_file(files[source.name])  # storing what was replaced needs the room
            self.live.replaced(recorder.run.id, sources)
        for source in sources:
            self.facts.forget_started_empty(source.name)
            self.facts.set_baseline(source.name, Baseline(backup_set.id, self.clock.now()))
        if heir:
            self.adoption.inherit(backup_set.instance)
        recorder.stage("keep")
        if passes_over:
            self.asides.pass_over(recorder, backup_set)
        self.replacer.store_kept(replacement, staging)
        return backup_set.id

    def room(
        self, objects: Sequence[StoredObject], sources: Sequence[Source], staging: Path
    ) -> Room:
        """The room that a restore of `objects` over the live `sources` needs on this host."""
        sizes = {stored.source: size_of(stored) for stored in objects}
        kept = self.replacer.directory.pre_restore_folder
        return room_for_restore(sizes, sources, staging=staging, kept=kept)

    def _restore_to(
        self,
        recorder: Recorder,
        backup_set: BackupSet,
        objects: Sequence[StoredObject],
        folder: Path,
        staging: Path,
        *,
        check: bool | None,
    ) -> str:
        """Write `<source>.db` files into `folder`, and overwrite nothing there."""
        recorder.stage("check")
        targets = {stored.source: folder / f"{stored.source}.db" for stored in objects}
        with target_errors(folder):
            refuse_unwritable(folder)
            for path in targets.values():
                refuse_occupied(path)
        with beside(folder, staging) as place:
            need = Need(place, sum(map(size_of, objects)))
            recorder.keep_room(Room("a restore", [[need]], self.config.sources))
            recorder.stage("get")
            files = self.fetcher.fetch(backup_set, objects, place, recorder.progress, check=check)
            recorder.stage("install")
            for source, path in targets.items():
                try:
                    with target_errors(folder):
                        install_new(files[source], path)
                except FileExistsError:
                    raise occupied(path) from None
                source_log(source).info("restored", extra=fields(path=path))
        return backup_set.id

    def _choose(self, target: str, at: datetime | None, refused: StoreError | None) -> BackupSet:
        """The restore point that is meant; of the reasons why there is none, the store's first."""
        try:
            if target == "latest":
                return self.newest(at, ask=refused is None)
            return self.catalogue.get(target)  # it says why, if a manifest cannot be read
        except (NoRestorePoint, SetNotFound) as error:
            if refused is not None:
                raise refused from error
            if isinstance(error, NoRestorePoint):
                self.own_sets.refuse_unmarked()
                if unread := self.catalogue.unread.sets():
                    error.message += (
                        f"; the store has {counted(len(unread), 'set')} whose manifest cannot be "
                        f"read, the newest {unread[0]}"
                    )
                    error.hint = f"Find out why: ./bot backups list. {error.hint}"
            error.hint = f"{self.own_sets.in_other_places()}{error.hint}"
            raise

    def _not_asked(self, refused: StoreError) -> Finding:
        known = self.catalogue.listed_at()
        since = f"at {format_utc(known)}" if known else "from its own runs"
        return Finding(
            "store_not_asked",
            f"the store could not be asked: {refused.message}. This is what this host knew {since}",
            refused.hint,
        )

    def newest(self, at: datetime | None, *, ask: bool) -> BackupSet:
        """The newest set or point of a chain up to a time; raises `NoRestorePoint`.

        Unless the store may be asked, only what this host knows is one.
        """
        instances, now = self.own_sets.chosen_from(), self.clock.now()
        point = self.catalogue.chains.newest(
            instances, at or end_of_present(now), ask=ask, passed_over=at is not None
        )
        try:
            newest = choose(self._present(at), "latest", at)
        except NoRestorePoint as error:
            if point is None:
                if at is not None and (oldest := self._oldest()) is not None:
                    error.hint = (
                        f"The oldest one is {oldest.id}, of {format_utc(oldest.created_at)}: "
                        f"./bot backups restore {oldest.id}. {error.hint}"
                    )
                raise
            return point
        return newer(newest, point) or newest

    def _oldest(self) -> BackupSet | None:
        instances = self.own_sets.chosen_from()
        found = (one for one in self.catalogue.sets() if one.protects)
        return next(iter(deque((one for one in found if one.instance in instances), 1)), None)

    def _uncovered(self, chosen: BackupSet, at: datetime) -> Finding | None:
        """Say so where nothing is known of the time between a point of a chain and `at`."""
        if chosen.point is None or self.catalogue.chains.next_of(chosen.point):
            return None
        return Finding(
            "time_not_covered",
            f"nothing is stored of the time from {format_utc(chosen.created_at)} to "
            f"{format_utc(at)}: what was written in it is not in this restore point",
            f"It is the nearest good second before it. Look for others: {_LIST}",
        )

    def _present(self, at: datetime | None) -> Iterator[BackupSet]:
        """The sets that `latest` and `at` choose from; a person may name a time in the future."""
        now, instances = self.clock.now(), self.own_sets.chosen_from()
        return (
            one
            for one in self.catalogue.sets()
            if (at is not None or not is_future(one.created_at, now)) and one.instance in instances
        )

    def _others(self, chosen: BackupSet) -> Iterator[BackupSet]:
        """The other sets of the line that a set belongs to, newest first."""
        line = self.own_sets.ours() | {chosen.instance}
        return (
            one
            for one in self.catalogue.sets()
            if one.kind == "set" and one.id != chosen.id and one.instance in line
        )

    def _takes_over(self, backup_set: BackupSet, restored: Sequence[Source]) -> bool:
        """Whether the set is restored whole, now or with what an earlier try has filled, onto a
        host without data of its own; asked before anything is replaced."""
        if not (backup_set.complete and backup_set.instance and backup_set.mark == "valid"):
            return False
        stored = {one.source for one in backup_set.objects}
        whole = {source.name for source in self.config.sources} & stored
        filled = self.own_sets.filled_from(backup_set.id)
        is_whole = whole <= {*filled, *(source.name for source in restored)}
        return is_whole and not self.own_sets.has_data(whole, filled)

    def _identity_fits(self, chosen: BackupSet) -> bool | None:
        if self.config.identity_file is None:
            return None
        if not chosen.recipients:
            return True
        return identities_fit(self.config.identity_file, chosen.recipients)

    def _refuse_newer(self, backup_set: BackupSet, found: Mapping[str, int]) -> None:
        """The app would refuse it, and serve nothing: `DatabaseSchemaMismatch`."""
        for one in newer_schemas(found, self.config.schema_versions):
            raise RestoreBlocked(backup_set.id, one.code, one.message, one.hint)
