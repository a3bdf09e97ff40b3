"""Backup: a new set of all sources, or of one.

    check the store -> snapshot (all sources, one instant) -> look for damage -> publish

`sets/publish.py` has the rest of the order. A backup that fails before its manifest has
published nothing.

One file, because each step of a backup needs what the steps before it have found.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from backups.alerts.dispatch import Alerts
from backups.decisions.suspicion import suspicions
from backups.errors import SnapshotDamaged, SourceUnknown
from backups.format import naming
from backups.format.chain_keys import chain_id
from backups.host.removal import remove_file
from backups.increments.follow_folder import FollowFolder
from backups.model import BackupSet, ProgressSink, Run, Snapshots, Source, Trigger
from backups.operations.adopt import Adopt
from backups.operations.installation import Installation
from backups.operations.own_sets import OwnSets
from backups.operations.prune import Prune
from backups.runs.log_files import source_log
from backups.runs.run import Recorder, RunStarter, StartedRun, ignore_progress
from backups.sets.publish import Publisher, SetFacts
from backups.sets.puts import Instants, wait_for_next_second
from backups.sources.checking.soundness import foreign_schemas
from backups.sources.checking.soundness_checks import SoundnessChecks, open_checks
from backups.sources.live import look_at
from backups.sources.room import Room, room_for_snapshots
from backups.sources.snapshot import take_snapshots
from shared.clock import AsOf
from shared.databases.sqlite import restore_remedy
from shared.errors import AppError, DatabaseCorrupt, DatabaseError, ObjectExists
from shared.logs import fields

_log = logging.getLogger("backups.run")

# How many seconds in a row a run tries to have for its set, where other installations are faster.
_MOST_SECONDS = 2


class Backup:
    """Makes sets, and prunes after a good one."""

    def __init__(
        self,
        installation: Installation,
        starter: RunStarter,
        own_sets: OwnSets,
        *,
        instants: Instants,
        publisher: Publisher,
        store_owed: Callable[[], None],
        prune: Prune,
        adopt: Adopt,
        alerts: Alerts,
    ) -> None:
        self._config = installation.config
        self._directory, self._live = installation.directory, installation.live
        self._follow_folder = FollowFolder(installation.directory)
        self._catalogue = installation.catalogue
        self._clock = installation.clock
        self._run_log = installation.run_log
        self._starter = starter
        self._own_sets = own_sets
        self._instants = instants
        self._publisher = publisher
        self._store_owed = store_owed
        self._prune = prune
        self._adopt = adopt
        self._alerts = alerts

    def begin(
        self,
        trigger: Trigger = "manual",
        *,
        only: str | None = None,
        progress: ProgressSink = ignore_progress,
    ) -> StartedRun:
        """Start a backup run of all sources, or of `only` one; the caller executes it.

        Raises `LeaseHeld` when another run is in progress, `SourceUnknown` for a bad `only`.
        """
        work = partial(self._make, trigger, self._chosen(only))
        started = self._starter.begin("backup", trigger, work, progress)
        started.afterwards = self._after
        return started

    def begin_unless(self, needless: Callable[[], bool], trigger: Trigger) -> StartedRun | None:
        """Start a backup run of all sources; None where it is `needless`, as asked under the lease.

        Raises `LeaseHeld` when another run is in progress.
        """
        work = partial(self._make, trigger, self._config.sources)
        started = self._starter.begin_unless(needless, "backup", trigger, work)
        if started is not None:
            started.afterwards = self._after
        return started

    def begin_if_changed(self) -> StartedRun | None:
        """Start a change run, unless all that is not volatile is as in the newest set; None then.

        A source that cannot be copied is no reason not to: the run stores the others and names it.
        Raises `LeaseHeld`, and `DiskFull`.
        """
        started = self._starter.begin_unless(
            self._is_as_in_the_newest_set,
            "backup",
            "change",
            partial(self._make, "change", self._config.sources),
        )
        if started is not None:
            started.afterwards = self._after
        return started

    def _is_as_in_the_newest_set(self) -> bool:
        """Compares the bytes of new snapshots; asked under the lease."""
        newest = self._catalogue.newest_protecting(self._own_sets.ours())
        known = {one.source: one.snapshot_sha256 for one in newest.objects} if newest else {}
        lasting = [source for source in self._config.sources if not source.volatile]
        failures: dict[str, AppError] = {}
        with self._directory.staging("comparison") as folder:
            room = room_for_snapshots(lasting, folder)
            self._live.bring_up_to_date(begin=True)
            snapshots = take_snapshots(
                lasting,
                folder,
                self._clock,
                lambda _: room.refuse_taken_reserve(),
                busy_timeout=self._config.busy_timeout,
                failures=failures,
            )
        return not failures and all(
            known.get(file.source) == file.sha256 for file in snapshots.files
        )

    def room(self, sources: Sequence[Source], staging: Path) -> Room:
        """The room that a backup needs on the disks of this host."""
        return self._publisher.room_for_backup(sources, staging)

    def ask_store(self) -> None:
        """One small request; raises `StoreError`, `ObjectMissing` for one that was answered."""
        self._publisher.ask_store()

    def run_if_owed(self, trigger: Trigger, *, at_once: bool = False) -> Run | None:
        """Run a backup unless a lasting set is as young as the last due instant.

        With `at_once` also before the delay after a failure is over.
        Asked again under the lease, so that however many ask, one due instant gets one set.
        Raises `LeaseHeld` when another run is in progress.
        """
        with self._starter.asking("backup"):
            shared = self._live.is_shared  # another host may have led
            if shared or trigger == "scheduled" or self._catalogue.last_contact_at() is None:
                # Another host may have begun to write here by mistake; records that were made
                # anew know of nothing.
                self._own_sets.refresh()
            if not self._own_sets.is_owed(trigger, at_once=at_once):
                return None
        started = self.begin_unless(
            lambda: not self._own_sets.is_owed(trigger, at_once=at_once), trigger
        )
        if started is None:
            return None
        return started.execute()

    def _chosen(self, only: str | None) -> tuple[Source, ...]:
        if only is None:
            return self._config.sources
        chosen = tuple(source for source in self._config.sources if source.name == only)
        if not chosen:
            names = ", ".join(source.name for source in self._config.sources)
            raise SourceUnknown(f"there is no source {only!r}", f"The sources are: {names}.")
        return chosen

    def _make(
        self, trigger: Trigger, sources: tuple[Source, ...], recorder: Recorder, staging: Path
    ) -> str:
        """A new set of `sources`, stored, proven and published; its id.

        It is suspect when it looks damaged beside the good sets before it.
        """
        if self._live.is_shared:  # another host may have restored, or made sets
            self._own_sets.refresh()
        suspect = list(self._own_sets.suspicions())
        recorder.stage("check")
        recorder.keep_room(self.room(sources, staging))
        if not self._is_known_to_take():
            self._publisher.check_store()
        self._adopt.say_who_this_is()
        tries, spoiled = 0, dict[str, AppError]()
        while True:
            recorder.stage("snapshot")
            failures = dict(spoiled)
            left = [source for source in sources if source.name not in spoiled]
            with open_checks() as checks:
                snapshots = self._take(left, staging, recorder, failures, checks)
                if failures and (stored := self._stored_incomplete(snapshots)):
                    _raise_failures(failures, stored)  # a retry adds nothing to what is there
                unreadable = self._unreadable(snapshots)
                reasons = [*suspect, *foreign_schemas(snapshots, dict(self._config.schemas))]
                reasons += self._suspicions(snapshots, unreadable)
                about = SetFacts(
                    kind="set",
                    trigger=trigger,
                    complete=sources == self._config.sources and not failures,
                    suspect=tuple(reasons) or None,
                    unreadable=unreadable,
                )
                try:
                    made = self._publisher.store_set(recorder, snapshots, staging, about, checks)
                    break
                except SnapshotDamaged as error:
                    spoiled[error.source] = self._explained(error)
                except ObjectExists as error:
                    tries += 1
                    if tries == _MOST_SECONDS:
                        raise
                    _log.warning("another installation has this second: %s", error.message)
                    wait_for_next_second(self._clock)
            for file in snapshots.files:
                remove_file(file.path)
            recorder.keep_room(self.room(sources, staging))
        if made.complete:
            if self._config.follows and made.proof != "none" and not made.suspect:
                self._hand_over(made, snapshots)
            if not self._config.is_stand_in:  # the copies here are of what the first place has
                self._directory.keep_copies(
                    made.id, [file.path for file in snapshots.files], self._config.local_copies
                )
        if failures:
            recorder.stage("snapshot")  # where it failed
            _raise_failures(failures, made.id)
        return made.id

    def _explained(self, error: SnapshotDamaged) -> AppError:
        """What is damaged: a source, or only its copy."""
        source = next(one for one in self._config.sources if one.name == error.source)
        live = look_at(source, self._config.busy_timeout)
        if live.state != "corrupt" or live.fault is None:
            return error
        hint = f"Nothing of it was stored. {restore_remedy(source.name)}"
        return DatabaseCorrupt(live.fault.message, hint)

    def _hand_over(self, made: BackupSet, snapshots: Snapshots) -> None:
        """Give the follower the snapshots of a set that a chain may begin with."""
        try:
            self._follow_folder.hand_over(
                chain_id(made.id, made.instance),
                {file.source: file.path for file in snapshots.files},
            )
        except AppError as error:
            _log.warning("no chain of increments begins with it: %s", error.message)

    def _take(
        self,
        sources: Sequence[Source],
        staging: Path,
        recorder: Recorder,
        failures: dict[str, AppError],
        checks: SoundnessChecks,
    ) -> Snapshots:
        """Take the snapshots in a second without a set of ours; `failures` has what failed."""
        self._directory.prepare_sequence(self._publisher.known_sequence())
        self._instants.free()
        at = self._live.bring_up_to_date(begin=True)
        snapshots = take_snapshots(
            sources,
            staging,
            self._clock if at is None else AsOf(self._clock, at),
            recorder.progress,
            busy_timeout=self._config.busy_timeout,
            failures=failures,
            number=self._directory.next_sequence,
            checked=self._has_failed(),
            copied=checks.begin,
        )
        for file in snapshots.files:
            source_log(file.source).info(
                "snapshot",
                extra=fields(
                    instant=naming.set_id(snapshots.instant),
                    bytes=file.bytes,
                    rows=sum(file.facts.rows.values()),
                    same_instant=file.same_instant,
                ),
            )
        return snapshots

    def _is_known_to_take(self) -> bool:
        """Whether this store took a set of ours today, and no run has failed since.

        Each put says by itself whether it still does: the question before all is only there so that
        nothing is copied for a store that takes nothing, or would overwrite what it has.
        """
        newest = self._catalogue.newest_protecting(self._own_sets.ours())
        today = self._clock.now().date()
        return newest is not None and newest.created_at.date() == today and not self._has_failed()

    def _has_failed(self) -> bool:
        """Whether the last run has: what may be damaged is not sent each time to be taken back."""
        last = self._run_log.last("backup", "succeeded", "failed")
        return last is not None and last.status == "failed"

    def _stored_incomplete(self, snapshots: Snapshots) -> str | None:
        """The incomplete set that already holds what is not volatile of `snapshots`, if any."""
        volatile = {source.name for source in self._config.sources if source.volatile}
        now = {file.source: file.sha256 for file in snapshots.files if file.source not in volatile}
        if not now:
            return None
        ours = self._own_sets.ours()
        newest = next(
            (
                one
                for one in self._catalogue.sets()
                if one.kind == "set" and one.mark == "valid" and one.instance in ours
            ),
            None,
        )
        if newest is None or newest.complete or newest.proof == "none":
            return None
        known = {stored.source: stored.snapshot_sha256 for stored in newest.objects}
        return newest.id if now.items() <= known.items() else None

    def _unreadable(self, snapshots: Snapshots) -> dict[str, int]:
        """How many sampled values of each source cannot be decrypted with the current keys."""
        unreadable = {}
        for file in snapshots.files:
            check = dict(self._config.readability_checks).get(file.source)
            with suppress(DatabaseCorrupt):  # SQLite's check, which is to come, says it by name
                unreadable[file.source] = check(file.path).unreadable if check else 0
        return unreadable

    def _suspicions(self, snapshots: Snapshots, unreadable: dict[str, int]) -> tuple[str, ...]:
        volatile = frozenset(source.name for source in self._config.sources if source.volatile)
        reasons = suspicions(snapshots.files, self._own_sets.measures(), volatile, unreadable)
        for reason in reasons:
            _log.warning("suspect: %s", reason)
        return tuple(reasons)

    def _after(self, run: Run) -> None:
        """What follows a backup: what a restore or the upgrade owes, prune, heartbeat, messages.

        None of it changes the run.
        """
        try:
            self._own_sets.attempts.note(run)
        except DatabaseError as error:
            _log.warning("the other hosts do not know of this run: %s", error.message)
        self._store_owed()
        if run.status == "succeeded" and run.set_id is not None:
            made = self._catalogue.get(run.set_id)
            if made.protects and not self._config.is_stand_in:
                self._prune.run_if_needed(run.trigger)
                self._alerts.send_success(made.id)
        self._alerts.send_alerts()


def _raise_failures(failures: dict[str, AppError], set_id: str) -> None:
    """Fail the run by the first source that could not be copied, after the others were stored."""
    for name, error in failures.items():
        source_log(name).error("not in the set: %s", error.message)
    first = next(iter(failures.values()))
    others = ", ".join(list(failures)[1:])
    first.message += f" (nor could {others} be copied)" if others else ""
    first.message += f". The other sources are stored as the incomplete set {set_id}"
    raise first
