"""A suspect chain and the person who looks at it: increments say so, `accept` clears it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backups.format.chain import Check, load
from backups.format.chain_keys import parse_chain_key, point_id, set_of
from backups.increments.follower import Follower
from backups.sets.chains import table
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.chains import stored_chain
from tests.support.databases import add_rows, write
from tests.support.following import (
    begun,
    clock_of,
    following,
    following_bench,
    increment_of,
    rotate,
    step,
)

MINUTE = 60.0
REASON = "tokens.tokens has 2 rows, 60 before"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An installation that follows changes."""
    with following_bench(tmp_path) as found:
        yield found


def damaged(bench: Bench, follower: Follower) -> str:
    """A chain with a good point, and one after a mass deletion; its id."""
    chain = begun(bench, follower)
    rotate(bench, "good")
    assert step(bench, follower) == "stored"
    write(bench.tokens, "DELETE FROM tokens WHERE rowid > 2")
    assert step(bench, follower) == "stored"
    return chain


def changed(bench: Bench, follower: Follower, value: str) -> None:
    """The next point, a minute later."""
    rotate(bench, value)
    assert step(bench, follower, MINUTE) == "stored"


def suspects(bench: Bench, chain: str) -> list[int]:
    """The numbers of the points that this host holds for suspect."""
    with bench.known.reading() as connection:
        return [one.number for one in table.points(connection, chain) if one.suspect]


def elsewhere(tmp_path: Path, bench: Bench) -> str:
    """The id of what `latest` means on a host that has nothing but the store."""
    clock_of(bench).advance(seconds=60)
    with open_bench(
        tmp_path, bench.store, directory="next", sources=bench.sources, clock=clock_of(bench)
    ) as host:
        return host.service.restore.plan().backup_set.id


def checks(bench: Bench, chain: str) -> list[Check]:
    """The verdicts on a chain in the store, oldest first."""
    found = []
    for key in bench.all_keys():
        parsed = parse_chain_key(PREFIX, key)
        if parsed is not None and parsed.kind == "check" and parsed.chain == chain:
            found.append(load(Check, bench.bytes_of(key), key=key, chain=chain))
    return sorted(found, key=lambda one: one.at)


def test_an_increment_says_that_its_chain_is_suspect(bench: Bench) -> None:
    """From the one on that follows the verdict, in its line and on this host."""
    with following(bench) as follower:
        chain = damaged(bench, follower)
        changed(bench, follower, "late")

    assert increment_of(bench, chain, 2).suspect is None  # it was stored before it was looked at
    assert increment_of(bench, chain, 3).suspect == (REASON,)
    assert suspects(bench, chain) == [2, 3]


def test_an_increment_says_that_the_full_is_suspect(bench: Bench) -> None:
    """A full that became suspect later is what its points are made from."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        changed(bench, follower, "one")
        bench.service.verdicts.note_proof(set_of(chain), "none", "a page is damaged")
        reasons = bench.service.catalogue.get(set_of(chain)).suspect
        assert reasons
        changed(bench, follower, "two")
        changed(bench, follower, "three")

    assert increment_of(bench, chain, 1).suspect is None
    assert increment_of(bench, chain, 3).suspect == reasons


@pytest.mark.parametrize("what", ["set", "point"])
def test_what_a_person_accepts_is_good_everywhere(bench: Bench, tmp_path: Path, what: str) -> None:
    """The set of the chain, or a point of it: its points protect here and on the next host."""
    with following(bench) as follower:
        chain = damaged(bench, follower)
        changed(bench, follower, "late")
        good = point_id(chain, 1)
        assert elsewhere(tmp_path, bench) == good
        assert bench.service.own_sets.frozen() is not None

        target = set_of(chain) if what == "set" else point_id(chain, 3)
        accepted = bench.service.acceptance.accept(target)

        assert accepted.suspect is None
        assert "points_suspect" not in bench.problems()
        assert bench.service.own_sets.frozen() is None
        assert suspects(bench, chain) == []
        last = checks(bench, chain)[-1]
        assert (last.good, last.reason, len(last.accepts or ())) == (3, None, 1)
        for value in ("after", "and after that", "and later"):
            changed(bench, follower, value)
        assert suspects(bench, chain) == []
        assert increment_of(bench, chain, 4).suspect is None

    assert len(checks(bench, chain)) == 2  # nothing new is said against it
    newest = point_id(chain, 6)
    assert bench.service.own_sets.required_latest().id == newest
    assert elsewhere(tmp_path, bench) == newest


def test_the_newer_set_that_is_accepted_clears_the_chain_that_went_on(
    bench: Bench, tmp_path: Path
) -> None:
    """As the hint of the problem says: back up, then accept that set."""
    with following(bench) as follower:
        chain = damaged(bench, follower)
        clock_of(bench).advance(seconds=60)
        made = bench.made()
        assert made.suspect
        bench.service.acceptance.accept(made.id)
        changed(bench, follower, "after")
        assert follower.chain == chain
        newest = point_id(chain, 3)

    assert "points_suspect" not in bench.problems()
    assert elsewhere(tmp_path, bench) == newest


def test_an_older_set_that_is_accepted_says_nothing_of_the_chain(
    bench: Bench, tmp_path: Path
) -> None:
    """What was right before the chain began is no word on its points."""
    older = bench.made()
    clock_of(bench).advance(seconds=60)
    with following(bench) as follower:
        chain = damaged(bench, follower)
    bench.service.acceptance.accept(older.id)

    assert elsewhere(tmp_path, bench) == point_id(chain, 1)


def test_what_is_found_after_the_acceptance_is_suspect_again(bench: Bench) -> None:
    """What was accepted is what later points are compared with, and where they begin to differ."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        changed(bench, follower, "good")
        write(bench.tokens, "DELETE FROM tokens WHERE rowid > 25")
        assert step(bench, follower) == "stored"
        bench.service.acceptance.accept(set_of(chain))
        changed(bench, follower, "as it should be")
        write(bench.tokens, "DELETE FROM tokens WHERE rowid > 2")
        assert step(bench, follower) == "stored"

    last = checks(bench, chain)[-1]
    assert (last.good, last.reason) == (3, "tokens.tokens has 2 rows, 25 before")
    assert suspects(bench, chain) == [4]


def test_an_acceptance_of_what_is_fine_leaves_nothing(bench: Bench) -> None:
    """Nothing speaks against the chain: there is nothing to clear."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        changed(bench, follower, "good")
    bench.service.acceptance.accept(set_of(chain))
    assert checks(bench, chain) == []


@pytest.mark.parametrize("form", ["increment", "pack", "differential"])
def test_what_increments_say_against_themselves_is_cleared_up_to_the_number(
    tmp_path: Path, form: str
) -> None:
    """In each form in which a point lies in the store, on a host that reads it afterwards."""
    with open_bench(tmp_path) as bench:
        made = bench.made()
        with stored_chain(bench, made) as chain:
            for number in range(1, 5):
                add_rows(bench.tokens, 5)
                chain.step(suspect=("looks damaged",) if number > 1 else None)
            if form == "pack":
                chain.pack(1, 4)
            if form == "differential":
                chain.differential(suspect=("looks damaged",))
                for number in (2, 3, 4):
                    bench.store.delete(chain.key(number))
            clock_of(bench).advance(minutes=1)
            assert bench.service.restore.plan().backup_set.id == chain.point(1)

            bench.service.acceptance.accept(chain.point(4))
            clock_of(bench).advance(minutes=1)
            assert bench.service.restore.plan().backup_set.id == chain.point(4)
            with open_bench(
                tmp_path,
                bench.store,
                directory="next",
                sources=bench.sources,
                clock=clock_of(bench),
            ) as host:
                assert host.service.restore.plan().backup_set.id == chain.point(4)
                add_rows(bench.tokens, 5)
                chain.step(suspect=("looks damaged again",))
                assert host.service.restore.plan().backup_set.id == chain.point(4)


def test_a_verdict_has_a_place(bench: Bench) -> None:
    """The verdict of a person is marked as all others are."""
    with following(bench) as follower:
        chain = damaged(bench, follower)
    bench.service.acceptance.accept(set_of(chain))
    keys = [key for key in bench.all_keys() if "/check-" in key]
    assert len(keys) == 2
    for key in keys:
        assert bench.service.config.marks.check(key, bench.bytes_of(key)).outcome == "valid"
        assert bench.store.head(key).metadata["chain"] == chain
