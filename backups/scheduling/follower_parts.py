"""The follower of a service, of its parts."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from backups.errors import ManifestInvalid, RunInterrupted, SetNotFound
from backups.increments.capture import Capture
from backups.increments.follow_folder import FollowFolder
from backups.increments.follower import Follower
from backups.increments.keeping.checker import ChainChecker, CheckParts
from backups.increments.keeping.differential import ChainTools
from backups.increments.lease import FollowLease
from backups.increments.parts import Parts
from backups.increments.step import Steps
from backups.scheduling.store_probe import StoreProbe
from backups.service import BackupService
from backups.sources.change_watch import ChangeWatch
from shared.process.lasting_work import beat

# A full without a local copy is fetched for the differential of an hour, up to so many bytes.
MOST_FETCHED_BYTES = 64 * 1024 * 1024


def make_follower(
    service: BackupService, delay: timedelta, stopping: threading.Event | None = None
) -> Follower:
    """The follower of all sources of a service; raises `AppError` where it cannot begin.

    Once `stopping` is set, a step that waits for a lock raises `RunInterrupted`.
    """

    def ask() -> None:
        if stopping is not None and stopping.is_set():
            raise RunInterrupted

    config, directory = service.config, service.directory
    folder = FollowFolder(directory)
    probe = StoreProbe(service.backup.ask_store, service.clock.monotonic)
    parts = Parts(
        steps=Steps(
            store=service.store,
            known=service.known,
            folder=folder,
            prefix=config.prefix,
            marks=config.marks,
            instance=directory.instance(),
            recipients=config.seal.recipients,
            identity_file=config.identity_file,
        ),
        folder=folder,
        catalogue=service.catalogue,
        facts=service.facts,
        clock=service.clock,
        lease=FollowLease(directory.follow_lease, service.facts),
        ours=service.own_sets.ours,
        copy_of=directory.copy_of,
        lasting=frozenset(source.name for source in config.sources if not source.volatile),
        delay=delay.total_seconds(),
        store_answers=probe.answers_again,
        ask=ask,
        checker=_checker(service),
    )
    directory.prepare_sequence(service.catalogue.next_sequence() - 1)
    watch = ChangeWatch(config.sources)
    capture = Capture(
        config.sources,
        watch,
        folder.work(),
        service.clock,
        busy_timeout=config.busy_timeout,
        number=directory.next_sequence,
        follow="compare" if config.follow == "off" else config.follow,
    )
    return Follower(parts, capture)


def _checker(service: BackupService) -> ChainChecker:
    config, directory = service.config, service.directory

    def suspicions_of(set_id: str) -> tuple[str, ...]:
        try:
            return service.catalogue.get(set_id).suspect or ()
        except (ManifestInvalid, SetNotFound):
            return ()

    def fetch_full(set_id: str, folder: Path) -> Mapping[str, Path]:
        full = service.catalogue.get(set_id)
        if sum(one.bytes for one in full.objects) > MOST_FETCHED_BYTES:
            return {}
        if full.recipients and config.identity_file is None:
            return {}
        fetcher = service.restore.fetcher
        return fetcher.fetch(full, full.objects, folder, lambda _: beat(), copies=False)

    return ChainChecker(
        CheckParts(
            tools=ChainTools(
                store=service.store,
                known=service.known,
                marks=config.marks,
                instance=directory.instance(),
                scratch=directory.path / "packing" / "check",
                recipients=config.seal.recipients,
                identity_file=config.identity_file,
            ),
            monotonic=service.clock.monotonic,
            now=service.clock.now,
            copy_of=directory.copy_of,
            measures=service.own_sets.measures,
            volatile=frozenset(source.name for source in config.sources if source.volatile),
            readable=dict(config.readability_checks),
            suspicions_of=suspicions_of,
            fetch_full=fetch_full,
        )
    )
