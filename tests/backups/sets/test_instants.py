"""Tests of `backups.sets.puts`: a second is the id of one set."""

from __future__ import annotations

from datetime import timedelta

from backups.sets.puts import Instants, wait_for_next_second
from tests.support.bench import Bench
from tests.support.clock import FixedClock


def test_the_present_instant_is_free_when_no_set_has_its_second(
    bench: Bench, clock: FixedClock
) -> None:
    """Nobody waits for a second that has no set."""
    before = clock.now()

    assert Instants(bench.service.catalogue, clock).free() == before


def test_a_second_that_has_a_set_is_waited_out(bench: Bench, clock: FixedClock) -> None:
    """After a set, the next free instant begins with the next second, and not later."""
    clock.advance(seconds=0.25)
    made = bench.made()

    free = Instants(bench.service.catalogue, clock).free()

    assert free == made.created_at.replace(microsecond=0) + timedelta(seconds=1)


def test_the_wait_ends_with_the_second(clock: FixedClock) -> None:
    """From the beginning of a second the wait is a whole one, from its middle the rest of it."""
    start = clock.now().replace(microsecond=0)

    wait_for_next_second(clock)
    assert clock.now() == start + timedelta(seconds=1)
    clock.advance(seconds=0.7)
    wait_for_next_second(clock)
    assert clock.now() == start + timedelta(seconds=2)
