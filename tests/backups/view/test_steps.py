"""The steps of a run's page."""

from __future__ import annotations

from backups.model import OperationName, Run
from backups.view.steps import steps_of
from backups.vocabulary.stages import STAGES
from tests.support.records import a_run


def states(run: Run) -> list[str]:
    """How the steps of a run are marked."""
    return [one.state for one in steps_of(run)]


def test_steps() -> None:
    """Behind the current step all is done, before it all is open; a failure stays where it is."""
    backup: OperationName = "backup"
    running = a_run(operation=backup, status="running", stage="store")
    assert states(running) == ["done", "done", "done", "current", "open", "open"]
    failed = a_run(operation=backup, status="failed", stage="snapshot")
    assert states(failed) == ["done", "failed", "open", "open", "open", "open"]
    assert states(a_run(operation=backup)) == ["done"] * 6
    assert states(a_run(status="running", stage=None)) == ["open"] * 6
    assert states(a_run(status="running", stage="something new")) == ["current"]


def test_a_run_that_succeeded_shows_the_steps_that_it_needed() -> None:
    """A restore into a folder keeps nothing, so its steps end where the files are in place."""
    steps = steps_of(a_run(operation="restore", stage="install"))
    assert [step.stage for step in steps] == ["check", "get", "install"]
    assert {step.state for step in steps} == {"done"}


def test_steps_are_the_stages_in_the_words_of_the_model() -> None:
    """The page says what the table of stages says."""
    for operation, stages in STAGES.items():
        steps = steps_of(a_run(operation=operation, stage=stages[-1].name))
        assert [(step.stage, step.words) for step in steps] == [(s.name, s.does) for s in stages]
