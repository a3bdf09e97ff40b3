"""Which of several hosts sends messages: the leader, or each while nobody can lead."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from backups.scheduling.scheduler import BackupScheduler
from shared.errors import DatabaseUnreachable
from tests.support.bench import Bench, open_bench


class Lease:
    """The lease of the scheduler as a host that does not lead sees it, in a shared database."""

    def __init__(self) -> None:
        self.away = False

    def holder(self) -> tuple[str, int] | None:
        if self.away:
            raise DatabaseUnreachable("the database bot at db does not answer", "Look at it.")
        return "other", 7

    def announced(self) -> None:
        self.holder()


def turn(scheduler: BackupScheduler, bench: Bench) -> list[str]:
    """The topics of the messages that this host sends in one turn."""
    before = len(bench.notes.titles())
    scheduler._alert()
    return bench.notes.titles()[before:]


def test_a_host_that_does_not_lead_sends_only_that_the_database_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And that it is back; of all else the leader sends messages."""
    with open_bench(tmp_path) as bench:
        bench.service.backup.begin().execute()
        lease = Lease()
        monkeypatch.setattr(bench.service, "live", SimpleNamespace(is_shared=True))
        monkeypatch.setattr(bench.service.directory, "scheduler_lease", lease)
        scheduler = BackupScheduler(bench.service)
        assert turn(scheduler, bench) == []
        lease.away = True
        turn(scheduler, bench)  # not at the start of a process
        assert turn(scheduler, bench) == ["database_unreachable"]
        assert turn(scheduler, bench) == []
        lease.away = False
        assert turn(scheduler, bench) == ["well"]
        bench.service.config.sources[0].path.unlink()
        assert turn(scheduler, bench) == []
