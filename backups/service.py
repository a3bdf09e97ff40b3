"""What all interfaces call: the operations, and what there is and how protected it is.

One file, because the objects of a service are made from each other, in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import islice

from backups.alerts.dispatch import Alerts
from backups.alerts.notifier import Notifier
from backups.decisions.chains.points import PointRange
from backups.decisions.evidence import Evidence
from backups.decisions.health import Status
from backups.decisions.period import start_of_period
from backups.errors import DirectoryUnusable, SetNotFound, no_second_place
from backups.format import naming
from backups.host.period import PeriodRecords
from backups.host.records import find_faults, records_unusable
from backups.host.state import HostState
from backups.increments.lease import LetGo
from backups.increments.replay import Replay
from backups.model import BackupSet, Run
from backups.operations.accept import Acceptance, ChainAcceptance, Pins
from backups.operations.adopt import Adopt
from backups.operations.aside import Asides
from backups.operations.backup import Backup
from backups.operations.carrying.rows import CarriedRows
from backups.operations.drill import Drill
from backups.operations.installation import Installation
from backups.operations.keeping.delete import Delete
from backups.operations.marking.accept_unsigned import UnsignedSets
from backups.operations.marking.chain_marks import ChainMarks
from backups.operations.marking.later_marks import LaterMarks
from backups.operations.marking.rotation import Rotation
from backups.operations.marking.upgrade import UpgradeMarks
from backups.operations.own_sets import OwnSets
from backups.operations.planning.detail import PlanDetail
from backups.operations.planning.in_hand import Given
from backups.operations.prune import Prune
from backups.operations.replace import Replacer
from backups.operations.restore import Restore
from backups.operations.restore_on_empty import RestoreOnEmpty
from backups.operations.second.place import SecondPlace
from backups.operations.undo import Undo
from backups.operations.verify import Verify
from backups.operations.writers import Writers
from backups.report import read_report
from backups.runs.log_files import open_log_files
from backups.runs.run import RunStarter, ignore_progress
from backups.sets.fetch import Fetcher
from backups.sets.publish import Publisher
from backups.sets.puts import Instants
from backups.sets.verdicts import Verdicts
from backups.sources.restore_history import RestoreHistory
from backups.status import (
    cannot_begin,
    drill_is_possible,
    read_status,
    status_without_records,
)
from backups.vocabulary.second import FIRST, SECOND
from shared.databases.sqlite import Database
from shared.errors import DatabaseError, SettingsError, StoreError
from shared.store.append_only import AppendOnlyStore
from shared.store.object_store import Interruptible

GRACE_AT_SHUTDOWN_SECONDS = 3.0

__all__ = ["BackupService", "ignore_progress"]


class BackupService:
    """The operations of an installation, each an object, and what it knows of its backups.

    `backup`, `verify`, `prune` and `acceptance` are operations; `own_sets` answers what counts
    as this installation's; `runs` starts runs; `alerts` sends messages. What it offers raises
    `AppError`s; a run that was started has its failure in its `Run`.
    """

    def __init__(
        self,
        installation: Installation,
        facts: HostState,
        known: Database,
        notifier: Notifier,
        *,
        notify_success: bool = False,
        typed: str = "",
    ) -> None:
        self._installation = installation
        self.config = config = installation.config
        self.catalogue = catalogue = installation.catalogue
        self.run_log = installation.run_log
        self.directory = directory = installation.directory
        self.store, self.clock = store, clock = installation.store, installation.clock
        self.facts, self.known, self.live = facts, known, installation.live
        names = [source.name for source in config.sources]
        self.runs = starter = RunStarter(
            installation.run_log,
            directory,
            clock,
            log_files=lambda: open_log_files(config.log_directory, names),
            seconds=config.timeout.total_seconds(),
        )
        self.writers = writers = Writers(installation, facts)
        self.later_marks = later_marks = LaterMarks(installation, known)
        self.upgrade_marks = UpgradeMarks(installation, facts, known, later_marks)
        self.own_sets = own_sets = OwnSets(installation, facts, writers, known)
        self.alerts = alerts = Alerts(
            self.status, facts, notifier, clock, of_success=notify_success
        )
        instants = Instants(catalogue, clock)
        self._publisher = publisher = Publisher(
            config, store, directory=directory, catalogue=catalogue, clock=clock
        )
        self.verdicts = verdicts = Verdicts(
            config.prefix,
            store,
            marks=config.marks,
            directory=directory,
            catalogue=catalogue,
            clock=clock,
        )
        self.adoption = Adopt(installation, facts, own_sets, writers)
        asides = Asides(
            config.prefix,
            store,
            marks=config.marks,
            directory=directory,
            catalogue=catalogue,
            own_sets=own_sets,
            facts=facts,
            clock=clock,
        )
        self.prune = Prune(installation, starter, own_sets, facts=facts, known=known)

        def store_owed() -> None:
            asides.finish()
            later_marks.finish()

        self.backup = Backup(
            installation,
            starter,
            own_sets,
            instants=instants,
            publisher=publisher,
            store_owed=store_owed,
            prune=self.prune,
            adopt=self.adoption,
            alerts=alerts,
        )
        self.unsigned_sets = UnsignedSets(
            installation,
            starter,
            publisher=publisher,
            adopt=self.adoption,
            later_marks=later_marks,
        )
        self.rotation = Rotation(
            installation,
            own_sets,
            adopt=self.adoption,
            writers=writers,
            later_marks=later_marks,
            chain_marks=ChainMarks(installation, known),
            facts=facts,
        )
        self.acceptance = Acceptance(
            catalogue,
            verdicts,
            facts,
            chains=ChainAcceptance(store, known, config.marks, clock.now),
            own_sets=own_sets,
            alerts=alerts,
        )
        self.pins = Pins(catalogue, verdicts, own_sets)
        self.delete = Delete(installation, starter, own_sets, verdicts=verdicts, prune=self.prune)
        replay = Replay(store, catalogue.chains)
        fetcher = Fetcher(
            store,
            directory,
            config.identity_file,
            schemas=dict(config.schemas),
            schema_versions=config.schema_versions,
            replay=replay.to,
            point_of=catalogue.get,
        )
        self.verify = Verify(
            catalogue,
            starter,
            own_sets,
            publisher=publisher,
            verdicts=verdicts,
            fetcher=fetcher,
            replay=replay,
        )
        replacer = Replacer(
            sources=config.sources,
            busy_timeout=config.busy_timeout,
            directory=directory,
            facts=facts,
            history=RestoreHistory(
                sources=config.sources,
                busy_timeout=config.busy_timeout,
                directory=directory,
                facts=facts,
                run_log=self.run_log,
            ),
            clock=clock,
            publisher=publisher,
            instants=instants,
            carried=CarriedRows(config=config, own_sets=own_sets, facts=facts, fetcher=fetcher),
        )
        self.restore = Restore(
            config=config,
            catalogue=catalogue,
            own_sets=own_sets,
            adoption=self.adoption,
            writers=writers,
            facts=facts,
            clock=clock,
            starter=starter,
            fetcher=fetcher,
            replacer=replacer,
            live=self.live,
            asides=asides,
            let_go=(let_go := LetGo(directory, facts)),
        )
        self.plan_detail = PlanDetail(
            config=config,
            catalogue=catalogue,
            own_sets=own_sets,
            facts=facts,
            clock=clock,
            fetcher=fetcher,
            directory=directory,
        )
        self.given = Given(installation, self.restore, self.plan_detail, typed)
        self.second: SecondPlace | None = None
        self.undo = Undo(starter, replacer, asides, let_go, self.live)
        self.restore_on_empty = RestoreOnEmpty(
            catalogue=catalogue,
            own_sets=own_sets,
            facts=facts,
            clock=clock,
            starter=starter,
            restore=self.restore,
        )
        self.drill = Drill(
            config=config,
            catalogue=catalogue,
            own_sets=own_sets,
            facts=facts,
            clock=clock,
            starter=starter,
            fetcher=fetcher,
            verdicts=verdicts,
        )

    def open_second(
        self,
        store: AppendOnlyStore,
        known: Database,
        reading: Callable[[], AbstractContextManager[BackupService]],
    ) -> None:
        """Copy to the second place `store`, of which this host knows what is in `known`.

        `reading` opens a service that takes it for the store.
        """
        self._reading_second = reading
        self._publisher.second_known = known
        if self.config.second is not None:
            self.second = SecondPlace(
                self.config.second,
                store,
                place_known=known,
                first=self._installation,
                known=self.known,
                facts=self.facts,
            )

    @contextmanager
    def drilling(self) -> Iterator[BackupService]:
        """The service whose turn a scheduled drill is: of the two places, the other one each time.

        It is not that of a second place that does not answer.
        """
        with ExitStack() as stack:
            place, service = FIRST, self
            if self.second is not None and self.facts.second.drilled_last() != SECOND:
                with suppress(StoreError):
                    second = stack.enter_context(self._reading_second())
                    second.catalogue.refresh()
                    place, service = SECOND, second
            yield service
            self.facts.second.note_drill(place)

    def need_second(self) -> SecondPlace:
        """The second place; raises `NoSecondPlace`."""
        if self.second is None:
            raise no_second_place()
        return self.second

    def drill_is_possible(self) -> bool:
        """Whether this host can open what it seals, and so can rehearse by itself."""
        return drill_is_possible(self.config)

    def refuse_another_key(self) -> None:
        """Raise `SettingsError` where the first token key is not that of the app on this host.

        The app would not believe what is made with another one. It says its key when it begins to
        schedule, and is asked only while it does.
        """
        running = self.facts.leader_key() if self.directory.scheduler_lease.holder() else None
        own = self.config.mark_keys[0].fingerprint
        if running is not None and running != own:
            raise SettingsError(
                (
                    f"TOKEN_ENCRYPTION_KEYS begins with key {own}, and that of the running app "
                    f"with key {running}: run the command with the settings of the app, or restart "
                    "the app",
                )
            )

    # --- what there is ------------------------------------------------------------------

    def list_sets(self, limit: int, before: str | None = None) -> tuple[list[BackupSet], bool]:
        """At most `limit` restore points, newest first; whether there are more; no network.

        Raises `SetNotFound` for a `before` that is no id.
        """
        if before is not None and not (naming.is_set_id(before) or naming.is_legacy_id(before)):
            raise SetNotFound(f"{before!r} is no id of a restore point", "See: ./bot backups list")
        found = list(islice(self.catalogue.sets(before), limit + 1))
        return found[:limit], len(found) > limit

    def list_ranges(self) -> list[PointRange]:
        """The points of chains that can be restored, newest first; no network."""
        return self.catalogue.chains.ranges(None)

    def get_run(self, run_id: str) -> Run:
        """One run; raises `RunNotFound`."""
        self.runs.close_dead_runs()
        return self.run_log.get(run_id)

    def list_runs(self, limit: int, before: str | None = None) -> tuple[list[Run], bool]:
        """At most `limit` runs, newest first; whether there are more."""
        self.runs.close_dead_runs()
        found = self.run_log.page(limit + 1, before)
        return found[:limit], len(found) > limit

    def report(self, since: str) -> Evidence:
        """The evidence of a period, without the network; raises `PeriodInvalid`."""
        now = self.clock.now()
        start = start_of_period(since, now)
        with suppress(DatabaseError, DirectoryUnusable):  # what cannot be written can be read
            self.runs.close_dead_runs()
        return read_report(
            self._installation,
            self.facts,
            self.own_sets,
            records=PeriodRecords(self.run_log, now),
            since=start,
            now=now,
        )

    def status(self) -> Status:
        """The state of the backups, without the network; also while the records are unusable."""
        faults = find_faults(self.directory.path)
        try:
            self.runs.close_dead_runs()
        except (DatabaseError, DirectoryUnusable) as error:
            faults = faults or (records_unusable(error),)
        self.runs.look_again()
        faults += cannot_begin(self.runs.failed_beginning)
        try:
            return read_status(
                self._installation,
                self.facts,
                self.own_sets,
                self.adoption,
                self.later_marks,
                faults=faults,
            )
        except (DatabaseError, DirectoryUnusable) as error:
            return status_without_records(self._installation, faults or (records_unusable(error),))

    def stop(self) -> None:
        """Ask the work of this process to stop at the next safe place; for shutting down.

        What it then asks of the store, to take back what it put, has a few seconds.
        """
        self.runs.stop()
        if self.second is not None:
            self.second.stop()
        if isinstance(self.store, Interruptible):
            self.store.give_up(GRACE_AT_SHUTDOWN_SECONDS)
