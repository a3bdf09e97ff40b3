"""Which sets count for what, by the records of this host: the newest, the owed, the doubtful.

One file, because every answer is about the same sets, and each interface asks several of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path

from backups.decisions.chains.findings import Doubt
from backups.decisions.due import STORE_FAILURES, next_try, owed_since, two_due_before
from backups.decisions.marks import UnmarkedPoint, nothing_marked
from backups.decisions.order import end_of_present, is_future
from backups.decisions.retention import RetentionFacts, RetentionPlan, plan_with_chains
from backups.decisions.succession import busy_ones
from backups.decisions.suspicion import Measures, RestoredSource, measures
from backups.errors import ManifestInvalid, NoRestorePoint, SetNotFound, SeveralInstallations
from backups.format import naming
from backups.host import catalogues
from backups.host.remembered.attempts import Attempts
from backups.host.state import HostState
from backups.model import BackupSet, Finding, MissingPoint, Run, StoredObject, Trigger
from backups.operations.installation import Installation
from backups.operations.writers import Writers
from backups.sets.chains.known_chains import KnownChains
from shared.clock import format_utc
from shared.databases.sqlite import Database
from shared.errors import StoreError

# What a command takes in place of an id.
LATEST = "latest"


class OwnSets:
    """Answers from the catalogue, the run log and the host's facts; raises `DatabaseError`."""

    def __init__(
        self, installation: Installation, facts: HostState, writers: Writers, known: Database
    ) -> None:
        self.chains = KnownChains(known, installation.config.prefix)
        self.ours = installation.ours
        self._config = installation.config
        self._catalogue = installation.catalogue
        self._store = installation.store
        self._run_log = installation.run_log
        self._directory = installation.directory
        self._clock = installation.clock
        self._facts = facts
        self._writers = writers
        self.attempts = Attempts(
            installation.run_log,
            facts.common,
            lambda: end_of_present(installation.clock.now()),
            self._was_complete,
        )

    def refresh(self) -> StoreError | None:
        """Ask the store what is new; the error when the store cannot be asked."""
        try:
            self._catalogue.refresh()
        except StoreError as error:
            return error
        return None

    def look(self) -> StoreError | None:
        """The same; raises the error where this host knows no point: "none" would be no answer."""
        error = self.refresh()
        if error is not None and not self._catalogue.count():
            raise error
        return error

    def chosen_from(self) -> frozenset[str]:
        """The instances whose sets `latest` and `--at` mean: ours, or the one line that there is.

        Raises `SeveralInstallations`.
        """
        return self._writers.chosen_from(ask=True)

    def latest(self) -> BackupSet | None:
        """What `latest` means now, without the network; None also where a person has to choose."""
        try:
            return self._catalogue.latest(self._writers.chosen_from(ask=False))
        except SeveralInstallations:
            return None

    def asked_latest(self) -> BackupSet | None:
        """What `latest` means now; raises `SeveralInstallations`. Of chains of others, which
        `refresh` does not read, the store is asked; raises `StoreError`."""
        return self._catalogue.latest(self.chosen_from(), ask=True)

    def required_latest(self) -> BackupSet:
        """The same; raises `NoRestorePoint` when it means nothing, too."""
        newest = self.asked_latest()
        if newest is None:
            self.refuse_unmarked()
            future = self._catalogue.future()
            raise NoRestorePoint(
                "there is no complete, proven restore point"
                + (f" (the time of {future[0]} lies in the future)" if future else ""),
                "Check the clock of this host, then restore by the id: ./bot backups list"
                if future
                else self.in_other_places() + "Make one: ./bot backups run",
            )
        return newest

    def refuse_unmarked(self) -> None:
        """Raise `NoRestorePoint` where there are sets that only a person may choose, because they
        have no valid mark, or groups of the old scripts; it names the newest of each."""
        found = self.unmarked()
        if found is not None:
            raise NoRestorePoint(found.message, found.hint)

    def unmarked(self) -> Finding | None:
        """The same as a finding; None where there is no such set."""
        points = self._catalogue.newest_unmarked()
        self._writers.try_to_look()
        named = [UnmarkedPoint(one, self._writers.host_of(one.instance)) for one in points]
        if not named:
            return None
        sets = (one for one in self._catalogue.sets() if one.kind == "set")
        unusable = next((one for one in sets if one.mark == "valid"), None)
        is_marking = self._catalogue.is_marking()
        return nothing_marked(named, is_marking=is_marking, unusable=unusable)

    def in_other_places(self) -> str:
        """Where this host has known restore points under other settings, as part of a hint."""
        second = self._config.second.location if self._config.second else None
        return catalogues.hint_of_other_places(self._directory.path, self._store.location, second)

    def named(self, target: str) -> BackupSet:
        """The set with the id `target`; for `latest` what that means now.

        Raises `SetNotFound`, `ManifestInvalid`, and what `required_latest` raises.
        """
        return self.required_latest() if target == LATEST else self._catalogue.get(target)

    def is_owed(self, trigger: Trigger, *, at_once: bool = False) -> bool:
        """Whether a backup should be made now, and may be tried; with `at_once` without delay."""
        now = self._clock.now()
        failures = self._failures_of_what_is_owed(now)
        if failures is None:
            return False
        return trigger == "scheduled" or at_once or next_try(failures, now) <= now

    def retry_at(self) -> datetime | None:
        """When a backup that failed is tried again by itself; None where none is."""
        now = self._clock.now()
        failures = self._failures_of_what_is_owed(now)
        return next_try(failures, now) if failures else None

    def _failures_of_what_is_owed(self, now: datetime) -> Sequence[datetime] | None:
        due = owed_since(self._config.schedule, self._newest_lasting(), now)
        if due is not None:
            return self._run_log.automatic_failures_since(due)
        if not self.attempts.are_known():
            return ()  # the log was made anew: a complete backup shows that all is well
        failed = self.attempts.unresolved_failure()
        if failed is None or failed.trigger == "change":  # the follower tries that again
            return None
        since = failed.finished_at or failed.started_at
        return [since, *self._run_log.automatic_failures_since(since)]

    def waits_for_store(self) -> bool:
        """Whether a backup is owed that may not be tried yet, because the store failed the last."""
        last = self._run_log.last("backup", "succeeded", "failed", "interrupted")
        return (
            last is not None
            and last.error is not None
            and last.error.code in STORE_FAILURES
            and self.is_owed("catch-up", at_once=True)
            and not self.is_owed("catch-up")
        )

    def _newest_lasting(self) -> BackupSet | None:
        """The newest complete, proven set that an instant of the schedule may count as its own.

        A suspect one counts: making it again each minute would not make it better. A change
        set does not: it is gone after a day, and the day's set would be missing for good.
        """
        return self._newest(lambda found: found.proof != "none" and found.trigger != "change")

    def newest_made(self) -> BackupSet | None:
        """The newest complete set of this installation, whatever is thought of it; what a restore
        has set aside counts neither here nor for what is owed."""
        return self._newest(lambda _: True)

    def _newest(self, counts: Callable[[BackupSet], bool]) -> BackupSet | None:
        ours, now = self.ours(), self._clock.now()
        return next(
            (
                found
                for found in self._catalogue.sets()
                if found.kind == "set"
                and found.mark == "valid"
                and found.complete
                and found.set_aside is None
                and found.instance in ours
                and not is_future(found.created_at, now)
                and counts(found)
            ),
            None,
        )

    def other_writer(self, now: datetime) -> BackupSet | None:
        """The newest set of another installation, younger than the last two due instants."""
        ours = self.ours()
        recent = self._catalogue.sets_since(two_due_before(self._config.schedule, now))
        return next((one for one in recent if one.kind == "set" and one.instance not in ours), None)

    def missing_sources(self) -> list[str]:
        """The sources whose file is not there."""
        return [source.name for source in self._config.sources if not _is_there(source.path)]

    def made(self, backup_set: BackupSet) -> bool:
        """Whether this installation itself made a set."""
        return backup_set.instance == self._own()

    def has_data(self, sources: Collection[str], filled: Collection[str]) -> bool:
        """Whether this installation has data of its own, which a restore would replace.

        It has none where no set that it made protects, and each of `sources` is missing, was begun
        empty, came from a restore, or is one of those that this restore had `filled` before.
        """
        if self._catalogue.has_protecting({self._own()}):
            return True
        restored, begun = self._facts.baselines(), self._facts.started_empty()
        return not {*filled, *self.missing_sources(), *begun, *restored}.issuperset(sources)

    def filled_from(self, set_id: str) -> frozenset[str]:
        """The sources that hold what a restore of this set brought, also one that did not end."""
        last = self._facts.last_restore()
        begun = last.replaced if last and last.set_id == set_id and not last.owed else ()
        ended = self._facts.baselines().items()
        return frozenset(one.source for one in begun) | {
            source for source, baseline in ended if baseline.set_id == set_id
        }

    def started_empty(self) -> dict[str, datetime]:
        """Sources that were begun anew, and when, although there are older restore points."""
        return {
            source: at
            for source, at in self._facts.started_empty().items()
            if any(found.created_at < at for found in self._catalogue.sets())
            or any(naming.instant_of(one) < at for one in self._catalogue.unread.sets())
        }

    def suspicions(self) -> tuple[str, ...]:
        """Why what is about to be backed up may not be what should be protected.

        Raises `StoreError`: with a cause for suspicion, the store is asked for what is older.
        """
        if not self._facts.started_empty():
            return ()
        self._catalogue.refresh()
        return tuple(
            f"{source} was missing at {format_utc(at)}, and created empty beside older "
            "restore points"
            for source, at in self.started_empty().items()
        )

    def _was_complete(self, run: Run) -> bool:
        try:
            return run.set_id is not None and self._catalogue.get(run.set_id).complete
        except (SetNotFound, ManifestInvalid):
            return run.trigger != "manual"  # only a person asks for less than all

    def future_is_over(self, newest: BackupSet | None) -> bool:
        """Whether a right set was proven since this host first saw what lies in the future.

        By the sequence, where it was made here: a clock that was wrong then says nothing.
        """
        if newest is None or newest.proven_at is None:
            return False
        ours, now, proven_at = self.ours(), self._clock.now(), newest.proven_at
        return all(
            (newest.sequence or 0) > one.sequence
            if one.sequence is not None and one.instance in ours
            else one.learned_at is not None
            and not is_future(one.learned_at, now)
            and proven_at > one.learned_at
            for one in self._catalogue.future_sets()
        )

    def measures(self) -> Measures:
        """What new snapshots are compared with, to see whether they look damaged."""
        ours, restored = self.ours(), {}
        for source, baseline in self._facts.baselines().items():
            objects = self._objects(baseline.set_id)
            restored[source] = RestoredSource(objects.get(source), baseline.at)
        return measures(
            (one for one in self._catalogue.sets() if one.protects and one.instance in ours),
            self._clock.now(),
            restored=restored,
            accepted=self._catalogue.accepted(),
        )

    def restored_at(self, newest: BackupSet | None) -> datetime | None:
        """When all that is live was restored from `newest`; None if it was not."""
        baselines = self._facts.baselines()
        found = [baselines.get(source.name) for source in self._config.sources]
        if newest is None or not all(one and one.set_id == newest.id for one in found):
            return None
        return min(one.at for one in found if one is not None)

    def _objects(self, set_id: str) -> dict[str, StoredObject]:
        """Those of a set with a valid mark: any other is nobody's measure."""
        try:
            found = self._catalogue.get(set_id)
        except (ManifestInvalid, SetNotFound):
            return {}
        return {one.source: one for one in found.objects} if found.mark == "valid" else {}

    def missing_points(self) -> tuple[MissingPoint, ...]:
        """What the store lost without our prune, newest first, and is a problem still.

        It is one until a newer proven set is in the store, and a person has accepted the loss.
        """
        newest = self._catalogue.newest_protecting(self.ours())
        return tuple(
            one.point
            for one in self._catalogue.missing_points()
            if not one.accepted
            or newest is None
            # A point with a time in the future is not newer than what was there to miss it.
            or newest.created_at <= min(one.point.created_at, one.point.noticed_at)
        )

    def frozen(self) -> str | None:
        """Why nothing may be removed now, or None."""
        failed = self.attempts.unresolved_failure()
        if failed is not None:
            return f"run {failed.id} failed, and no complete backup has followed"
        made = self.newest_made()
        if made is not None and made.suspect:
            return f"the newest set, {made.id}, is suspect"
        doubt = self.doubt()
        if doubt is not None:
            return f"the points after {doubt.newest_good} are suspect"
        return None

    def doubt(self) -> Doubt | None:
        """Why the newest points should not be trusted, until a set that protects came after."""
        found = self.chains.doubt(self._own())
        newest = self._catalogue.newest_protecting(self.ours())
        over = found is None or (newest is not None and newest.created_at > found.at)
        return None if over else found

    def plan_prune(self) -> RetentionPlan:
        """What retention would keep and drop now, with reasons."""
        points, policy, own = self._catalogue.points(), self._config.retention, self._own()
        return plan_with_chains(points, self.chains.all(), policy, self.retention(), own=own)

    def retention(self) -> RetentionFacts:
        """What decides about sets, beside the sets."""
        now, ours = self._clock.now(), self.ours()
        by_instance = self._catalogue.by_instance()
        due = two_due_before(self._config.schedule, now)
        noted = self._catalogue.missing_points()
        lost = (one.point for one in noted if not one.accepted)
        return RetentionFacts(
            now=now,
            ours=ours,
            drilled=self._catalogue.newest_drilled(),
            frozen=self.frozen(),
            hollow=frozenset(one.id for one in lost if one.kind == "hollow"),
            busy=busy_ones(self._own(), ours, by_instance, due),
            unread=frozenset(one.set_id for one in self._catalogue.unread.all()),
            pinned=self._catalogue.pins(),
        )

    def _own(self) -> str:
        return self._directory.instance()


def _is_there(path: Path) -> bool:
    """Whether a file is there; one that this user cannot reach may be: the run names it."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
