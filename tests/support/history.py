"""A past for an installation: sets and runs of the last days, as its own store and records."""

from __future__ import annotations

import io
from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from backups.decisions.retention import RetentionFacts, RetentionPolicy, plan_retention
from backups.format import naming
from backups.host.records import open_records
from backups.host.run_log import RunLog
from backups.host.state import HostState
from backups.model import BackupSet, DrillReport, RunError
from shared.clock import SystemClock
from shared.crontab import Crontab
from shared.databases.cipher import key_fingerprint
from shared.store.directory import DirectoryStore
from shared.store.object_store import ObjectStore
from tests.support.installation import QUIET_SCHEDULE, TOKEN_ENCRYPTION_KEY, Installation
from tests.support.records import a_manifest, a_run, a_set, a_stored_object

FAILURE = RunError(
    "store_unreachable",
    "put backups/tokens.db in https://nyc3.digitaloceanspaces.com/shop-backups: no answer",
    "Check the network and the status page of the provider; it is tried again by itself.",
)
# One that an answer of the store does not make up for at once.
FULL_DISK = RunError(
    "disk_full",
    "the disk of data/backups/staging is full",
    "Make room on that disk, or set BACKUP_DIR to a larger one.",
)
# What an installation with this past must have, or its next set looks damaged.
TOKENS, SESSIONS = 150, 40
SUSPICION = f"tokens has 61 rows, the last proven set has {TOKENS}"


def quiet_settings() -> dict[str, str]:
    """Settings under which an app makes no backup by itself beside this past."""
    return {"BACKUP_SCHEDULE": QUIET_SCHEDULE, "BACKUP_CHANGE_DELAY": "0"}


def give_history(
    installation: Installation,
    *,
    days: int = 90,
    failed: Collection[int] = (),
    missed: Collection[int] = (),
    suspect: Collection[int] = (),
    smaller: int = 1,
    store: ObjectStore | None = None,
) -> list[BackupSet]:
    """Write what `days` days have left; the sets that retention still keeps, newest first.

    The others say for which days, counted back from the last due instant (0), there is none. The
    objects, `smaller` by a factor, are in the embedded store, or in `store`.
    """
    schedule = Crontab(installation.environment["BACKUP_SCHEDULE"])
    due = schedule.last_until(datetime.now(UTC))
    instance = installation.backup_dir.instance()
    sets = []
    with closing(open_records(installation.backup_dir.path)) as records:
        log = RunLog(records)
        for back in reversed(range(days)):
            at = due - timedelta(days=back)
            if back in missed:
                continue
            took = timedelta(seconds=4 + (back * 7 % 5) / 3 + (90 - back) / 60)
            run_id = f"{naming.stamp(at)}-{back:04x}"
            run = a_run(run_id, started_at=at, finished_at=at + took, set_id=naming.set_id(at))
            if back in failed:
                run = replace(run, status="failed", set_id=None, stage="store", error=FAILURE)
            else:
                sets.append(_set_of(at, back, instance, suspect=back in suspect, smaller=smaller))
            log.start(run)
            log.finish(run)
        drilled = sets[-2]
        HostState(records).set_last_drill(
            DrillReport(
                drilled.id,
                drilled.created_at + timedelta(hours=2),
                6.24,
                TOKENS + SESSIONS,
                0,
                None,
            )
        )
    return _store(installation, sets, instance, store)


def fail_now(installation: Installation, times: int = 4) -> None:
    """Failed runs of the last minutes: so many that the next one comes in about an hour."""
    with closing(open_records(installation.backup_dir.path)) as records:
        log = RunLog(records)
        for number in reversed(range(times)):
            at = SystemClock().now() - timedelta(minutes=2 + number)
            run = a_run(
                f"{naming.stamp(at)}-{number:04x}",
                trigger="catch-up",
                started_at=at,
                finished_at=at + timedelta(seconds=31),
                status="failed",
                set_id=None,
                stage="store",
                error=FULL_DISK,
            )
            log.start(run)
            log.finish(run)


def _set_of(at: datetime, back: int, instance: str, *, suspect: bool, smaller: int) -> BackupSet:
    tokens = 61 if suspect else TOKENS - back // 2
    sizes: dict[str, tuple[int, int]] = {
        "tokens": (16_400_000 + 90_000 * tokens, tokens),
        "sessions": (2_100_000 + (back * 37 % 11) * 60_000, SESSIONS + back * 37 % 20),
    }
    objects = tuple(
        a_stored_object(source, at, bytes=size, snapshot_bytes=size, rows={source: rows})
        for source, (size, rows) in (
            (source, (size // smaller, rows)) for source, (size, rows) in sizes.items()
        )
    )
    more: dict[str, Any] = {"suspect": (SUSPICION,)} if suspect else {}
    key = key_fingerprint(TOKEN_ENCRYPTION_KEY)
    return a_set(at, instance=instance, objects=objects, token_key=key, **more)


def _store(
    installation: Installation,
    sets: list[BackupSet],
    instance: str,
    given: ObjectStore | None,
) -> list[BackupSet]:
    """Leave the sets that retention would have kept in the store, without content."""
    facts = RetentionFacts(now=datetime.now(UTC), ours=frozenset({instance}))
    keep = {one.backup_set.id for one in plan_retention(sets, RetentionPolicy(), facts).keep}
    kept = [one for one in reversed(sets) if one.id in keep]
    store = given or DirectoryStore(installation.folder / "data" / "spaces")
    for one in kept:
        for stored in one.objects:
            if given is not None:
                metadata = {"set-id": one.id, "instance": instance}
                given.put(stored.key, io.BytesIO(bytes(stored.bytes)), metadata)
                continue
            path = installation.stored(stored.key)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.truncate(stored.bytes)  # takes no room on the disk
        key = naming.manifest_key("backups/", one.id)
        store.put(key, io.BytesIO(a_manifest(one)), {"set-id": one.id, "instance": instance})
    return kept


def days_ago(count: int) -> date:
    """The day of the set that many days before the last due instant of `QUIET_SCHEDULE`."""
    due = Crontab(QUIET_SCHEDULE).last_until(datetime.now(UTC))
    return (due - timedelta(days=count)).date()
