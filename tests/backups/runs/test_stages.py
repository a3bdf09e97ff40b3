"""A run enters only the stages that its operation has; a signal is no fault of it."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Lock

import pytest

from backups.host import directory
from backups.host.records import open_records
from backups.host.removal import remove_folder
from backups.host.run_log import RunLog
from backups.runs.run import Recorder
from backups.vocabulary.stages import STAGES
from tests.support.bench import Bench
from tests.support.records import a_run


def test_a_stage_that_the_operation_does_not_have_is_refused(tmp_path: Path) -> None:
    """A fault of the program is named, and the run log keeps the stage that the run is in."""
    records = open_records(tmp_path)
    run_log = RunLog(records)
    run = a_run(operation="drill", status="running", finished_at=None, stage=None)
    run_log.start(run)
    recorder = Recorder(run, run_log, lambda _progress: None, Event())
    for stage in STAGES["drill"]:
        recorder.stage(stage.name)

    with pytest.raises(ValueError, match="the operation drill has no stage 'manifest' in STAGES"):
        recorder.stage("manifest")

    assert run_log.get(run.id).stage == recorder.run.stage == "open"
    records.close()


@pytest.mark.parametrize("fails", [False, True])
def test_the_outcome_is_known_before_the_scratch_is_removed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    """Large files go in small steps, which are no part of the answer; nothing stays."""
    known: list[tuple[str, int]] = []

    def watched(folder: Path, *, ignore_errors: bool = False) -> None:
        (run,) = bench.service.run_log.page(1)
        known.append((run.status, len(list(folder.iterdir()))))
        remove_folder(folder, ignore_errors=ignore_errors)

    monkeypatch.setattr(directory, "remove_folder", watched)
    if fails:
        bench.watched.break_at("get", 1)
    run = bench.run()
    assert run.status == ("failed" if fails else "succeeded")
    assert known == [(run.status, 2 if fails else 0)]  # the snapshots of a good run are kept
    assert bench.staged() == []


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(143)])
def test_an_error_in_place_of_a_signal_is_no_bug_of_a_run(
    bench: Bench, raised: BaseException
) -> None:
    """The interpreter raised another error in its place: the run ends as the signal wants it."""

    def work(*_: object) -> str:
        try:
            raise raised
        finally:
            Lock().release()

    run = bench.service.undo.starter.begin("backup", "manual", work)
    with pytest.raises(type(raised)):
        run.execute()
    assert bench.is_free()
