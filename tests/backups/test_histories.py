"""Random histories of two installations on one store, judged from outside the program."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast, get_args

import pytest
from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis import strategies as st

from backups.operations import aside
from backups.runs.parallel import in_parallel
from backups.sets import publish
from tests.support.histories import Act, Fault, Step, World
from tests.support.model_store import LISTINGS
from tests.support.moments import Moments

HISTORIES = int(os.environ.get("HISTORIES", "10000"))
SEED = int(os.environ.get("HISTORIES_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
_SHORT = 40

# What comes more often, and with it everything else once.
_ACTS: list[Act] = [
    *(cast("list[Act]", ["run", "restore", "undo"]) * 3),
    "pass",
    *get_args(Act),
]
_FAULTS: list[Fault] = [
    *(cast("list[Fault]", ["none", "kill"]) * 4),
    *get_args(Fault),
]
_STEPS = st.builds(
    Step,
    act=st.sampled_from(_ACTS),
    who=st.sampled_from([0, 0, 0, 1]),
    pick=st.integers(0, 5),
    only=st.sampled_from([None, None, "tokens", "sessions"]),
    fault=st.sampled_from(_FAULTS),
    # The second are those in which a restore switches.
    at=st.one_of(st.integers(0, 160), st.integers(38, 80)),
    listing=st.sampled_from([*["whole"] * 6, *LISTINGS]),
)


@pytest.fixture(scope="module")
def moments() -> Iterator[Moments]:
    """The moments of this process, in which nothing is done side by side."""
    found = Moments()
    with pytest.MonkeyPatch.context() as patch:
        for module in (publish, aside):
            patch.setattr(
                module,
                "in_parallel",
                lambda work, items, progress, workers=1: in_parallel(
                    work, items, progress, workers=1
                ),
            )
        found.watch(patch)
        yield found


def live_through(steps: list[Step], moments: Moments) -> None:
    folder = Path(tempfile.mkdtemp(prefix="history-"))
    try:
        world = World(folder, moments)
        try:
            for step in steps:
                try:
                    world.happen(step)
                except BaseException:
                    print(f"The history {steps} breaks at {step}")
                    raise
        finally:
            world.close()
    finally:
        shutil.rmtree(folder)


@settings(
    max_examples=_SHORT,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@example(steps=[Step("restore"), Step("undo"), Step("undo"), Step("undo")])
@example(steps=[Step("damage"), Step("restore"), Step("undo"), Step("undo")])
@example(steps=[*([Step("run", fault="lost", at=number) for number in range(16)]), Step("prune")])
@example(steps=[*([Step("run"), Step("pass", pick=2)] * 3), Step("prune"), Step("restore")])
# What an undo that was killed had put back is damaged before the undo is finished.
@example(
    steps=[
        Step("restore", pick=1, fault="write", at=49),
        Step("damage", only="sessions"),
        Step("damage"),
        Step("undo", fault="kill", at=70),
        Step("zero"),
        Step("undo"),
    ]
)
# What a restore was about to switch when it was killed is gone before anybody could look.
@example(
    steps=[
        Step("restore", pick=1, only="tokens", fault="kill", at=61),
        Step("remove"),
        Step("undo"),
    ]
)
# An undo that puts back what is there already can be undone once that is damaged.
@example(
    steps=[
        Step("restore", only="tokens"),
        Step("undo"),
        Step("undo"),
        Step("damage"),
        Step("undo"),
    ]
)
# An undo that puts a damaged file back is killed while it does.
@example(
    steps=[
        Step("damage"),
        Step("restore", only="tokens"),
        Step("undo", fault="kill", at=47),
        Step("undo"),
    ]
)
# What is written after an undo that was killed had put a database back stays when it is finished.
@example(
    steps=[
        Step("restore", pick=3, only="sessions"),
        Step("undo", fault="kill", at=100),
        Step("write"),
        Step("undo"),
    ]
)
# A row comes while an undo puts back what is the same but for it: the next undo brings it back.
@example(
    steps=[
        Step("restore", pick=2),
        Step("restore", pick=2),
        Step("undo", fault="write", at=80),
        Step("undo"),
    ]
)
# A restore that is killed after it had switched a database for the same is what undo undoes.
@example(
    steps=[
        Step("restore", only="sessions"),
        Step("run"),
        Step("restore", pick=1, only="tokens", fault="kill", at=134),
        Step("undo"),
    ]
)
@given(steps=st.lists(_STEPS, min_size=2, max_size=12))
def test_no_history_loses_anything(moments: Moments, steps: list[Step]) -> None:
    """Whatever happens in which order, and ends at which moment: all three promises hold."""
    live_through(steps, moments)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_soak_no_history_loses_anything(moments: Moments) -> None:
    """The same for ten thousand; `HISTORIES` says how many, `HISTORIES_SEED` with which seed."""
    print(f"\n{HISTORIES} histories, HISTORIES_SEED={SEED}")

    @seed(SEED)
    @settings(
        max_examples=HISTORIES,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(steps=st.lists(_STEPS, min_size=2, max_size=14))
    def look(steps: list[Step]) -> None:
        live_through(steps, moments)

    look()
