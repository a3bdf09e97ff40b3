"""The status of an installation, put together from its records."""

from __future__ import annotations

from datetime import UTC

from backups.config import BackupConfig
from backups.decisions.health import HealthFacts, Status, assess
from backups.host.state import HostFacts
from backups.operations.installation import Installation
from backups.operations.own_sets import Standing

_BEGUN = "begun"


def drill_is_possible(plan: BackupConfig) -> bool:
    """Whether this host can open what it seals, and so can rehearse by itself."""
    return not plan.seal.recipients or plan.identity_file is not None


def read_status(installation: Installation, facts: HostFacts, standing: Standing) -> Status:
    """The state of the backups, without the network. Raises `DatabaseError`."""
    plan, store, runlog = installation.plan, installation.store, installation.runlog
    now = installation.clock.now()
    last_run = runlog.last("backup", "succeeded", "failed", "interrupted")
    owner = installation.directory.scheduler_lease.holder()
    latest = standing.latest()
    last_drill = facts.last_drill()
    begun_at = facts.time(_BEGUN)
    if begun_at is None:
        begun_at = now
        facts.set_time(_BEGUN, now)
    has_budget = plan.retention.max_bytes is not None
    health = assess(
        HealthFacts(
            now=now,
            schedule=plan.schedule,
            offsite=store.offsite,
            location=store.location,
            scheduled=owner is not None,
            newest=installation.catalogue.newest_protecting(standing.ours()),
            last_run=last_run,
            begun_at=begun_at,
            latest=latest,
            token_keys=plan.token_keys,
            last_drill=last_drill,
            drill_possible=drill_is_possible(plan),
            started_empty=tuple(standing.started_empty()) if latest else (),
            newest_made=standing.newest_made(),
            other_writer=standing.other_writer(now),
            retention_warning=standing.plan_prune().warning if has_budget else None,
        )
    )
    return Status(
        health=health,
        cron=plan.schedule.expression,
        next_run_at=plan.schedule.next_after(now).astimezone(UTC),
        owner=owner,
        kind=store.kind,
        offsite=store.offsite,
        location=store.location,
        last_contact_at=installation.catalogue.last_contact_at(),
        running=runlog.running(),
        last_run=last_run,
        last_success=runlog.last("backup", "succeeded"),
        newest_restore_point=latest,
        last_drill=last_drill,
        restore_points=installation.catalogue.count(),
    )
