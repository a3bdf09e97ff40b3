"""The stages of a run as the steps of its page: which are done, and which is not. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backups.model import Run
from backups.vocabulary.stages import STAGES, Stage

StepState = Literal["done", "current", "failed", "open"]


@dataclass(frozen=True)
class Step:
    """One step: its stage in the run log, its words, and whether it is behind us."""

    stage: str
    words: str
    state: StepState


def steps_of(run: Run) -> tuple[Step, ...]:
    """The steps of a run's operation; of a run that succeeded, those that it needed.

    A stage that the operation does not have (of another version of this program) stands alone.
    """
    stages = STAGES.get(run.operation, ())
    names = [stage.name for stage in stages]
    if run.stage is not None and run.stage not in names:
        stages, names = (Stage(run.stage, run.stage),), [run.stage]
    place = names.index(run.stage) if run.stage is not None else -1
    shown = stages[: place + 1] if run.status == "succeeded" else stages
    return tuple(
        Step(stage.name, stage.does, _state(number, place, run))
        for number, stage in enumerate(shown)
    )


def _state(number: int, place: int, run: Run) -> StepState:
    if run.status == "succeeded" or number < place:
        return "done"
    if number > place:
        return "open"
    return "current" if run.status == "running" else "failed"
