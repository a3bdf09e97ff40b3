"""A step that is asked for: it comes at once, and is answered only with a proven point."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from backups.increments.follower import Follower, Outcome
from backups.scheduling.asked_steps import AskedSteps
from backups.scheduling.change_follower import ChangeFollower
from backups.sources.change_watch import ChangeWatch
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import connect
from tests.support.following import rotate

HOUR = timedelta(hours=1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An installation that stores its changes once an hour."""
    with open_bench(tmp_path, follow="compare", change_delay=HOUR, run_by="app") as bench:
        yield bench


@pytest.fixture
def follower(bench: Bench) -> Iterator[ChangeFollower]:
    """As the leader has it."""
    with closing(ChangeFollower(bench.service, HOUR)) as follower:
        yield follower


def increments(bench: Bench) -> int:
    """How many are in the store."""
    return len([key for key in bench.all_keys() if "/i/" in key])


def step(bench: Bench, follower: ChangeFollower, seconds: int = 1) -> None:
    """A step, some time later."""
    assert isinstance(bench.service.clock, FixedClock)
    bench.service.clock.advance(seconds=seconds)
    follower.step()


def follow(bench: Bench, follower: ChangeFollower) -> None:
    """Begin a chain, whose newest point has all that was written."""
    bench.made()
    step(bench, follower)
    rotate(bench, "the first of an hour")
    step(bench, follower, seconds=7200)
    assert increments(bench) == 1


def test_it_comes_before_the_delay_is_over(bench: Bench, follower: ChangeFollower) -> None:
    """A change waits for an hour, and no longer once somebody waits for it."""
    asked = AskedSteps(bench.service)
    follow(bench, follower)
    rotate(bench, "a change")
    step(bench, follower)
    assert increments(bench) == 1
    question = asked.ask()
    assert question is not None
    assert not asked.is_given(question)
    step(bench, follower)
    assert asked.is_given(question)
    assert increments(bench) == 2


def test_where_nothing_changed_it_is_answered_without_a_point(
    bench: Bench, follower: ChangeFollower
) -> None:
    """All that was written is in a proven point already."""
    asked = AskedSteps(bench.service)
    follow(bench, follower)
    question = asked.ask()
    assert question is not None
    step(bench, follower)
    assert asked.is_given(question)
    assert increments(bench) == 1


def test_without_a_chain_it_waits_for_the_full(bench: Bench, follower: ChangeFollower) -> None:
    """No point has what was written, so nothing is said of it."""
    asked = AskedSteps(bench.service)
    step(bench, follower)
    rotate(bench, "a change")
    question = asked.ask()
    assert question is not None
    assert bench.service.own_sets.latest() is None
    step(bench, follower)
    assert bench.service.own_sets.latest() is not None, "the full"
    assert not asked.is_given(question)
    step(bench, follower)
    assert asked.is_given(question)


def test_what_is_asked_during_a_step_waits_for_the_next(
    bench: Bench, follower: ChangeFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step in hand may have read the databases before."""
    asked = AskedSteps(bench.service)
    follow(bench, follower)
    during: list[str | None] = []
    original = Follower.step

    def step_and_ask(self: Follower, *, hurry: bool = False) -> Outcome:
        outcome = original(self, hurry=hurry)
        if not during:
            rotate(bench, "after the step has read it")
            during.append(asked.ask())
        return outcome

    monkeypatch.setattr(Follower, "step", step_and_ask)
    before = asked.ask()
    assert before is not None
    step(bench, follower)
    (question,) = during
    assert question is not None
    assert (asked.is_given(before), asked.is_given(question)) == (True, False)
    step(bench, follower)
    assert asked.is_given(question)
    assert increments(bench) == 2


def test_nobody_waits_where_nothing_follows(tmp_path: Path, bench: Bench) -> None:
    """By the settings, and while a database that was begun empty waits for a person."""
    with open_bench(tmp_path / "off", follow="off", change_delay=HOUR, run_by="app") as off:
        assert AskedSteps(off.service).ask() is None
    bench.made()
    assert isinstance(bench.service.clock, FixedClock)
    bench.service.facts.note_started_empty("tokens", bench.service.clock.advance(seconds=60))
    assert AskedSteps(bench.service).ask() is None


def test_what_is_withdrawn_asks_for_nothing(bench: Bench, follower: ChangeFollower) -> None:
    """Nobody waits any more: the change waits for its hour."""
    asked = AskedSteps(bench.service)
    follow(bench, follower)
    rotate(bench, "a change")
    question = asked.ask()
    assert question is not None
    asked.withdraw(question)
    asked.withdraw(question)
    step(bench, follower)
    assert increments(bench) == 1


def test_a_source_that_cannot_be_asked_is_no_proof(bench: Bench) -> None:
    """Whether it was written nobody knows: in a hurry it counts as written."""
    source = bench.service.config.sources[0]
    with closing(connect(source.path)) as owner:
        owner.execute("PRAGMA locking_mode=EXCLUSIVE")
        owner.execute("UPDATE tokens SET value = value")
        with closing(ChangeWatch([source])) as watch:
            assert not watch.poll()
            assert watch.unsure == {source.name}
            owner.close()
            assert watch.poll()
            assert watch.unsure == set()


def test_the_next_look_is_when_a_step_is_due(bench: Bench, follower: ChangeFollower) -> None:
    """Not a turn of the loop later: a change would wait for twice as long as it has to."""
    follow(bench, follower)
    assert follower.wait(1.0) == 1.0
    assert isinstance(bench.service.clock, FixedClock)
    bench.service.clock.advance(seconds=HOUR.total_seconds() - 0.25)
    assert 0.25 < follower.wait(1.0) < 0.3
    bench.service.clock.advance(seconds=0.25)
    assert follower.wait(1.0) == 1.0
