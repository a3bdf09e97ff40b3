"""The evidence of a period, put together from the records of an installation."""

from __future__ import annotations

import socket
from datetime import datetime, timedelta
from typing import cast

from backups.config import APPLICATION
from backups.decisions.evidence import (
    Alert,
    Evidence,
    EvidenceFacts,
    Producer,
    RunCount,
    reach,
    report_on,
)
from backups.decisions.gaps import MadeSet, points_of
from backups.host.period import PeriodRecords
from backups.host.state import HostState
from backups.model import Trigger
from backups.operations.installation import Installation
from backups.operations.own_sets import OwnSets
from backups.status import drill_is_possible


def read_report(
    installation: Installation,
    state: HostState,
    own_sets: OwnSets,
    *,
    records: PeriodRecords,
    since: datetime,
    now: datetime,
) -> Evidence:
    """The report on the time from `since` to `now`, without the network; changes nothing.

    Raises `DatabaseError`.
    """
    config, catalogue, store = installation.config, installation.catalogue, installation.store
    # A set without a valid mark is no evidence.
    kept = [one for one in catalogue.points() if one.kind == "legacy" or one.mark == "valid"]
    ours, missing = own_sets.ours(), catalogue.lost_points()
    made = [MadeSet(set_id, cast(Trigger, trigger)) for set_id, trigger in records.made()]
    points = points_of(kept, made, missing, ours, now)
    # A clock that was ahead at the first start is no reason to know nothing since.
    begun = [at for at in (state.begun_at(), records.begin()) if at is not None and at <= now]
    begin = min(begun, default=None)
    last_drill = state.last_drill()
    reports = catalogue.drill_reports()
    return report_on(
        EvidenceFacts(
            producer=Producer(
                installation=installation.directory.instance(),
                host=socket.gethostname(),
                program=APPLICATION,
                store=store.location,
                offsite=store.offsite,
                last_contact_at=catalogue.last_contact_at(),
            ),
            now=now,
            since=since,
            begin=begin,
            schedule=config.schedule,
            change_delay=config.change_delay if config.run_by == "app" else timedelta(0),
            drill_schedule=config.drill_schedule,
            drill_possible=drill_is_possible(config),
            points=points,
            kept=kept,
            ours=ours,
            proofs=catalogue.proofs(),
            counts=[
                RunCount(kind.operation, kind.trigger, kind.status, count)
                for kind, count in records.counts(since).items()
            ],
            from_future=records.from_future(),
            failed=records.failed(reach(begin, since, points)),
            drills=records.of("drill", since),
            drill_reports=[*reports, last_drill] if last_drill else reports,
            restores=records.of("restore", since),
            undos=state.undos(),
            alerts=[Alert(**vars(message)) for message in records.messages(since)],
            missing=missing,
        )
    )
