"""The steps of a run, in the words of the page. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from backups.model import OperationName, Run

StepState = Literal["done", "current", "failed", "open"]

_STAGES: Mapping[OperationName, tuple[tuple[str, str], ...]] = {
    "backup": (
        ("check", "Ask the store"),
        ("snapshot", "Copy all databases at one instant"),
        ("seal", "Compress and encrypt, where that is set"),
        ("store", "Send to the store"),
        ("proof", "Read back and prove"),
        ("manifest", "Publish"),
    ),
    "verify": (("proof", "Read back and prove"),),
    "drill": (("get", "Fetch from the store"), ("open", "Restore into a scratch folder and open")),
    "restore": (
        ("check", "Check the files in place"),
        ("get", "Fetch and check"),
        ("install", "Replace the live data"),
        ("keep", "Keep what was replaced"),
    ),
    "prune": (
        ("finish", "Finish what an earlier prune began"),
        ("drop", "Drop what no rule keeps"),
        ("sweep", "Sweep what no backup claims"),
    ),
}


@dataclass(frozen=True)
class Step:
    """One step: its stage in the run log, its words, and whether it is behind us."""

    stage: str
    words: str
    state: StepState


def steps_of(run: Run) -> tuple[Step, ...]:
    """The steps of a run's operation; a stage that is not known here stands alone."""
    known = _STAGES.get(run.operation, ())
    names = [stage for stage, _ in known]
    if run.stage is not None and run.stage not in names:
        known, names = ((run.stage, run.stage),), [run.stage]
    place = names.index(run.stage) if run.stage is not None else -1
    return tuple(
        Step(stage, words, _state(number, place, run))
        for number, (stage, words) in enumerate(known)
    )


def _state(number: int, place: int, run: Run) -> StepState:
    if run.status == "succeeded" or number < place:
        return "done"
    if number > place:
        return "open"
    return "current" if run.status == "running" else "failed"
