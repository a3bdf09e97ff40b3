"""Tests of `backups.decisions.succession`: a table of who is an earlier installation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from backups.decisions.succession import (
    Choice,
    InstanceSets,
    Line,
    SuccessionFacts,
    busy_ones,
    earlier_finding,
    earlier_installation,
    line_of,
    lines_of,
    ours_of,
    several_installations,
    to_adopt,
)
from backups.format.instance import InstanceDocument, LastSet
from tests.support.records import a_set

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


def test_the_warning_names_it_with_the_command() -> None:
    """Whose sets, how many, since when, and what to type."""
    here = earlier_installation(facts(of(E, 1, 20), others=(HERE,)))
    unknown = earlier_installation(facts(of(E, 1, 20)))
    assert here is not None
    assert unknown is not None

    finding = earlier_finding(here)

    assert finding.code == "earlier_installation"
    assert f"this host's earlier installation {E} (host bot-1, " in finding.message
    assert "has 20 sets" in finding.message
    assert finding.hint.endswith(f"./bot backups adopt {E}")
    assert f"an earlier installation, {E} (last set 2026-11-20T" in earlier_finding(unknown).message


# --- ours -----------------------------------------------------------------------------------


def good(instance: str, first: int, newest: int, **other: Any) -> InstanceSets:
    """An installation with good sets from one day to another, numbered from 1."""
    values: dict[str, Any] = {"first_good_at": day(first), "sequence": newest - first + 1}
    return InstanceSets(
        instance, newest - first + 1, day(first), day(newest), **{**values, **other}
    )


@pytest.mark.parametrize(
    ("theirs", "mine", "last", "still"),
    [
        (good(E, 1, 5), None, LastSet(day(5), 5), True),
        (good(E, 1, 6), None, LastSet(day(5), 5), False),
        # Its clock was set back: the number of its new set is higher all the same.
        (good(E, 1, 5, sequence=6), None, LastSet(day(5), 5), False),
        (good(E, 1, 5), None, LastSet(day(5), None), True),
        # Retention removes what it had, and it is taken over still.
        (good(E, 1, 3), None, LastSet(day(5), 5), True),
        (None, good(ME, 6, 9), LastSet(day(5), 5), True),
        # An adoption may be of one whose sets were made at the same time as ours.
        (good(E, 1, 5), good(ME, 2, 9), LastSet(day(5), 5), True),
        # Noted by an older version, which did not say how far it had come.
        (good(E, 1, 5), good(ME, 6, 9), None, True),
        (good(E, 1, 5), None, None, True),
        (good(E, 1, 6), good(ME, 6, 9), None, False),
        (good(E, 1, 5), good(ME, 2, 9), None, False),
        (good(E, 1, 5), of(ME, 2, 9), None, True),  # begun empty: its own are suspect
    ],
)
def test_a_succession_ends_when_the_predecessor_publishes_again(
    theirs: InstanceSets | None, mine: InstanceSets | None, last: LastSet | None, still: bool
) -> None:
    """A newer set than it had when it was taken over is its own, and so are all others then."""
    sets = [one for one in (theirs, mine) if one is not None]

    assert (E in ours_of(ME, {E: last}, sets)) is still
    assert ME in ours_of(ME, {E: last}, sets)


def test_what_was_taken_over_is_busy_while_its_newest_set_is_young() -> None:
    """A living one has until its next set to show that it lives; we ourselves are never busy."""
    sets = [good(E, 1, 21), good(F, 1, 20), good(ME, 22, 22)]

    assert busy_ones(ME, {ME, E, F}, sets, day(21)) == {E}
    assert busy_ones(ME, {ME, F}, sets, day(21)) == frozenset()


# --- lines ----------------------------------------------------------------------------------

G = "9" * 32


def says(instance: str, *succeeds: str, at: int = 1, last: int | None = None) -> InstanceDocument:
    noted = {one: LastSet(day(last), None) for one in succeeds} if last else {}
    return a_document(instance, succeeds=succeeds, at=day(at), last_sets=noted)


@pytest.mark.parametrize(
    ("sets", "documents", "expected"),
    [
        ([], [], []),
        ([good(E, 1, 5)], [], [{E}]),
        # Older versions say nothing: what ended before another began is its predecessor.
        ([good(E, 1, 5), good(F, 6, 9)], [], [{E, F}]),
        ([good(E, 1, 5), good(F, 6, 9), good(G, 10, 12)], [], [{E, F, G}]),
        ([good(E, 1, 6), good(F, 6, 9)], [], [{F}, {E}]),
        # What is said counts, and only that.
        ([good(E, 1, 5), good(F, 6, 9)], [says(F)], [{F}, {E}]),
        ([good(E, 1, 5), good(F, 6, 9)], [says(F, E, last=5)], [{E, F}]),
        ([good(E, 1, 5), good(F, 3, 9)], [says(F, E, last=5)], [{E, F}]),
        ([good(E, 1, 7), good(F, 6, 9)], [says(F, E, last=5)], [{F}, {E}]),
        # An older version did not say how far it had come: then the time decides.
        ([good(E, 1, 5), good(F, 6, 9)], [says(F, E)], [{E, F}]),
        ([good(E, 1, 5), good(F, 3, 9)], [says(F, E)], [{F}, {E}]),
        # Nobody reaches beyond today.
        ([good(E, 1, 7), good(F, 6, 9)], [says(F, E, last=30)], [{F}, {E}]),
        # A successor of a successor; two that were restored from one; one that made no set yet.
        (
            [good(E, 1, 5), good(F, 6, 9), good(G, 10, 12)],
            [says(F, E, last=5), says(G, F, last=9)],
            [{E, F, G}],
        ),
        (
            [good(E, 1, 5), good(F, 6, 9), good(G, 7, 8)],
            [says(F, E, last=5), says(G, E, last=5)],
            [{F, E}, {G, E}],
        ),
        ([good(E, 1, 5)], [says(F, E, last=5)], [{E}]),
        # Two that name each other are one line.
        ([good(E, 1, 5), good(F, 6, 9)], [says(F, E, last=5), says(E, F, last=9)], [{E, F}]),
        # Where nothing is good there is nothing to choose.
        ([good(E, 1, 5), of(F, 3, 9)], [], [{E}]),
        ([of(F, 3, 9)], [], []),
    ],
)
def test_the_lines_of_a_store(
    sets: list[InstanceSets], documents: list[InstanceDocument], expected: list[set[str]]
) -> None:
    """What the documents say, else the time; two that made sets side by side are two lines."""
    lines = lines_of(sets, {one.instance: one for one in documents}, day(22))

    assert [line.instances for line in lines] == expected
    assert all(line.head in line.instances for line in lines)


def test_the_line_of_one_reaches_all_before_it() -> None:
    """Adopting the last one adopts those before it; one that works is never among them."""
    documents = {one.instance: one for one in (says(F, E, last=5), says(G, F, last=9))}
    ended = [good(E, 1, 5), good(F, 6, 9), good(G, 10, 12)]
    working = [good(E, 1, 12), good(F, 6, 9), good(G, 10, 12)]

    assert line_of(G, ended, documents, day(22)) == {E, F, G}
    assert line_of(F, ended, documents, day(22)) == {E, F}
    assert line_of(G, working, documents, day(22)) == {F, G}


def test_several_installations_are_listed_with_the_commands_for_each() -> None:
    """Host, installation and time of the newest set; the lines to restore it and to adopt."""
    newest = a_set()
    message, hint = several_installations(
        [
            Choice(Line(E, frozenset({E})), "bot-1", newest),
            Choice(Line(F, frozenset({F})), None, None),
        ]
    )

    assert f"host bot-1 (installation {E}), whose newest set is of 2026-11-22T01:00:00Z" in message
    assert f"an unnamed host (installation {F}), whose sets were set aside" in message
    assert f"./bot backups restore {newest.id} --in-place --yes" in hint
    assert f"./bot backups adopt {E}" in hint
    assert hint.endswith(f"./bot backups adopt {F}")
