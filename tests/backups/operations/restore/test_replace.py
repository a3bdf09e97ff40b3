"""The state of a run: it belongs to that run, and what lasts as long as the process keeps none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backups.errors import BackupError
from backups.runs.run import Recorder
from tests.support.bench import Bench, open_bench
from tests.support.generations import SOURCES


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A set with `genset` in the embedded store, and `genlive` in the live databases."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        bench.made()
        bench.write("genlive")
        yield bench


def lasting(bench: Bench) -> list[dict[str, object]]:
    """What each part has that lives as long as the process."""
    service = bench.service
    parts = (
        service.restore,
        service.restore.replacer,
        service.restore.fetcher,
        service.undo,
        service.drill,
        service.restore_on_empty,
    )
    return [dict(vars(part)) for part in parts]


def test_what_lasts_keeps_nothing_of_a_run(bench: Bench) -> None:
    """After a restore, an undo and a drill these parts are what they were before."""
    before = lasting(bench)

    bench.restored()
    bench.undo()
    assert bench.service.drill.begin().execute().status == "succeeded"

    assert lasting(bench) == before


def test_two_replacements_do_not_share_what_they_replaced(bench: Bench) -> None:
    """What a replacement has recorded and kept is not in one that is begun beside it."""
    restore = bench.service.restore
    found = restore.plan().backup_set

    def work(recorder: Recorder, staging: Path) -> str:
        files = restore.fetcher.fetch(found, found.objects, staging, recorder.progress)
        tokens, sessions = restore.replacer.replaceable(SOURCES)
        first, second = (restore.replacer.begin(recorder, set_id) for set_id in ("1", "2"))
        first.install(tokens, files["tokens"])
        second.install(sessions, files["sessions"])
        assert [one.source for one in first.record.replaced] == ["tokens"]
        assert [one.source for one in second.record.replaced] == ["sessions"]
        assert [file.source for file in first.kept] == ["tokens"]
        assert [file.source for file in second.kept] == ["sessions"]
        assert bench.service.facts.last_restore() == second.record
        return found.id

    run = restore.starter.begin("restore", "manual", work).execute()

    assert run.status == "succeeded", run.error
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")


def test_an_unknown_source_is_refused_by_name(bench: Bench) -> None:
    """Only what is a source of this installation can be replaced."""
    with pytest.raises(BackupError, match="orders"):
        bench.service.restore.replacer.replaceable(["tokens", "orders"])
