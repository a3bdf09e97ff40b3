"""The status of an installation, put together from its records."""

from __future__ import annotations

from datetime import UTC

from backups.config import BackupConfig
from backups.decisions.health import HealthFacts, Status, assess
from backups.host.lease_faults import lease_faults
from backups.host.state import HostState
from backups.operations.installation import Installation
from backups.operations.own_sets import OwnSets
from backups.sources.faults import source_faults


def drill_is_possible(config: BackupConfig) -> bool:
    """Whether this host can open what it seals, and so can rehearse by itself."""
    return not config.seal.recipients or config.identity_file is not None


def read_status(installation: Installation, state: HostState, own_sets: OwnSets) -> Status:
    """The state of the backups, without the network; changes nothing. Raises `DatabaseError`."""
    config, store, run_log = installation.config, installation.store, installation.run_log
    now = installation.clock.now()
    last_run = run_log.last("backup", "succeeded", "failed", "interrupted")
    owner = installation.directory.scheduler_lease.holder()
    heartbeat = installation.directory.heartbeats.read() if owner is not None else None
    latest = own_sets.latest()
    # Before the first start there are no databases yet, and nothing is lost.
    expected = config.sources if owner is not None or latest is not None else ()
    last_drill = state.last_drill()
    # A scheduler says when it begins; on a host with cron alone the first run says it.
    begun = [at for at in (state.begun_at(), run_log.began_at()) if at is not None]
    has_budget = config.retention.max_bytes is not None
    health = assess(
        HealthFacts(
            now=now,
            schedule=config.schedule,
            offsite=store.offsite,
            location=store.location,
            scheduled=owner is not None,
            newest=installation.catalogue.newest_protecting(own_sets.ours()),
            last_run=last_run,
            begun_at=min(begun, default=None),
            latest=latest,
            token_keys=config.token_keys,
            last_drill=last_drill,
            drill_possible=drill_is_possible(config),
            started_empty=tuple(own_sets.started_empty()) if latest else (),
            newest_made=own_sets.newest_made(),
            other_writer=own_sets.other_writer(now),
            retention_warning=own_sets.plan_prune().warning if has_budget else None,
            beats=heartbeat.beats if heartbeat is not None else (),
            found_faults=(
                *source_faults(expected, now),
                *lease_faults(installation.directory, heartbeat, config.timeout, now),
            ),
        )
    )
    return Status(
        health=health,
        cron=config.schedule.expression,
        next_run_at=config.schedule.next_after(now).astimezone(UTC),
        owner=owner,
        kind=store.kind,
        offsite=store.offsite,
        location=store.location,
        last_contact_at=installation.catalogue.last_contact_at(),
        running=run_log.running(),
        last_run=last_run,
        last_success=run_log.last("backup", "succeeded"),
        newest_restore_point=latest,
        last_drill=last_drill,
        restore_points=installation.catalogue.count(),
    )
