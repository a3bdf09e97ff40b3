"""The timeline of the last 24 hours, from this host's records without the network."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from backups.decisions.health import Status
from backups.increments.follow_folder import FollowFolder
from backups.increments.outages import read_outages
from backups.model import BackupSet
from backups.service import BackupService
from backups.view.headline import stores_every_change
from backups.view.stretches import Stretch
from backups.view.timeline import LENGTH, Mark, Timeline, timeline

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read(service: BackupService, now: datetime) -> Timeline:
    """The same as the overview shows; raises `DatabaseError`."""
    sets = service.catalogue.sets_since(now - 2 * LENGTH)
    return last_day(service, service.status(), sets, now)


def last_day(
    service: BackupService, status: Status, sets: Iterable[BackupSet], now: datetime
) -> Timeline:
    """What of the last 24 hours can be restored by its time; `sets` are those of the last days.

    Raises `DatabaseError`.
    """
    ours = service.own_sets.ours()
    stretches = [
        Stretch(
            one.chain,
            _EPOCH + timedelta(milliseconds=one.first_instant),
            _EPOCH + timedelta(milliseconds=one.last_instant),
            follows=one.follows,
            proven=one.good,
            ended=one.ended,
        )
        for one in service.catalogue.chains.stretches(ours)
    ]
    marks = [Mark(one.created_at, one.id) for one in sets if one.protects and one.instance in ours]
    delay = status.stored_within or timedelta(0)
    until = now - delay if stores_every_change(status) else None
    outages = read_outages(FollowFolder(service.directory))
    return timeline(stretches, marks, now, followed_until=until, outages=outages)
