"""Tests of `backups.decisions.succession`: a table of who is an earlier installation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from backups.decisions.succession import (
    InstanceSets,
    SuccessionFacts,
    earlier_finding,
    earlier_installation,
    to_adopt,
    with_predecessors,
)
from backups.format.instance import InstanceDocument

ME, E, F = "a" * 32, "e" * 32, "f" * 32
MACHINE, PATH = "1" * 64, "/opt/bot/data/backups"


def day(number: int) -> datetime:
    return datetime(2026, 11, number, 1, tzinfo=UTC)


def a_document(instance: str, **other: Any) -> InstanceDocument:
    values: dict[str, Any] = {
        "format": 1,
        "instance": instance,
        "host": "bot-1",
        "machine": MACHINE,
        "directory": PATH,
        "succeeds": (),
        "at": day(1),
    }
    return InstanceDocument(**{**values, **other})


def of(instance: str, first: int, newest: int) -> InstanceSets:
    return InstanceSets(instance, newest - first + 1, day(first), day(newest))


def facts(*sets: InstanceSets, others: tuple[InstanceDocument, ...] = (), **mine: Any) -> Any:
    """On the 22nd, with a daily schedule: who made nothing since the 21st is quiet."""
    return SuccessionFacts(
        me=a_document(ME, **mine),
        ours={ME},
        sets=sets,
        others={one.instance: one for one in others},
        quiet_since=day(21),
    )


HERE = a_document(E)


@pytest.mark.parametrize(
    ("case", "adopted", "named"),
    [
        (facts(), [], None),
        (facts(of(ME, 1, 22)), [], None),
        (facts(of(E, 1, 20), others=(HERE,)), [E], E),
        (facts(of(E, 1, 20), of(ME, 21, 22), others=(HERE,)), [E], E),
        # It may still work: its newest set is as young as the last but one due instant.
        (facts(of(E, 1, 21), others=(HERE,)), [], E),
        (facts(of(E, 1, 21)), [], None),
        # Its sets go on beside ours: another line, which is not followed by itself.
        (facts(of(E, 1, 20), of(ME, 10, 22), others=(HERE,)), [], E),
        (facts(of(E, 1, 20), of(ME, 10, 22)), [], None),
        # Elsewhere, or not known where: a person may want it.
        (facts(of(E, 1, 20)), [], E),
        (facts(of(E, 1, 20), others=(a_document(E, directory="/else"),)), [], E),
        (facts(of(E, 1, 20), others=(a_document(E, machine="2" * 64),)), [], E),
        (facts(of(E, 1, 20), others=(a_document(E, machine=None),), machine=None), [], E),
        # The newest of several is named; all that were here are adopted.
        (facts(of(E, 1, 5), of(F, 6, 20)), [], F),
        (facts(of(E, 1, 5), of(F, 6, 20), others=(HERE, a_document(F))), [E, F], F),
        # Without a set there is nothing to adopt.
        (facts(others=(HERE,)), [], None),
    ],
)
def test_who_is_an_earlier_installation(
    case: SuccessionFacts, adopted: list[str], named: str | None
) -> None:
    """Only what was in this very folder, and has ended, is adopted without a person."""
    assert to_adopt(case) == adopted
    found = earlier_installation(case)
    assert (found.instance if found else None) == named


def test_what_it_succeeds_comes_along_unless_it_still_works() -> None:
    """A document may name any installation: one that makes sets is never adopted by it."""
    document = a_document(E, succeeds=(F, ME))
    ended = facts(of(E, 6, 20), of(F, 1, 5), others=(document,))
    working = facts(of(E, 6, 20), of(F, 1, 22), others=(document,))

    assert with_predecessors(ended, E) == [E, F, ME]
    assert with_predecessors(working, E) == [E, ME]
    assert with_predecessors(facts(of(E, 6, 20)), E) == [E]


def test_the_warning_names_it_with_the_command() -> None:
    """Whose sets, how many, since when, and what to type."""
    here = earlier_installation(facts(of(E, 1, 20), others=(HERE,)))
    unknown = earlier_installation(facts(of(E, 1, 20)))
    assert here is not None
    assert unknown is not None

    finding = earlier_finding(here)

    assert finding.code == "earlier_installation"
    assert f"this host's earlier installation {E} (host bot-1, " in finding.message
    assert "has 20 set(s)" in finding.message
    assert finding.hint.endswith(f"python -m backups adopt {E}")
    assert f"an earlier installation, {E} (last set 2026-11-20T" in earlier_finding(unknown).message
