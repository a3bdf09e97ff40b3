"""The plan of a restore says what a person decides by, and nothing that is not so."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from cryptography.fernet import Fernet

from backups.decisions.restore_plan import RestorePlan
from backups.view import documents, restore_text
from backups.vocabulary.comparison import TableDifference
from tests.support.bench import Bench
from tests.support.clock import FixedClock


def execute(bench: Bench, *statements: str) -> None:
    """Change the live tokens."""
    with closing(sqlite3.connect(bench.tokens)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def planned(bench: Bench, target: str = "latest", *, fetches: bool = True) -> RestorePlan:
    """The plan of a restore, as the command makes it."""
    plan = bench.service.restore.plan(target)
    return bench.service.plan_detail.of(plan, fetches=fetches)


def shown(bench: Bench, target: str = "latest", *, fetches: bool = True) -> str:
    """The plan as text."""
    return restore_text.plan(planned(bench, target, fetches=fetches), to=None, ask=True)


def lose_and_gain(bench: Bench) -> None:
    """After a set: two rows are new, one is gone, and one has another value."""
    columns = "SELECT key || {0}, value, type FROM tokens WHERE rowid = 1"
    execute(
        bench,
        *(f"INSERT INTO tokens {columns.format(name)}" for name in ("'x'", "'y'")),
        "DELETE FROM tokens WHERE rowid = 3",
        "UPDATE tokens SET value = 'a-secret-value' WHERE rowid = 2",
    )


@pytest.mark.parametrize("has_copy", [True, False])
def test_the_plan_counts_what_is_lost_comes_back_and_is_set_back(
    bench: Bench, has_copy: bool
) -> None:
    """By the local copy or, on the command line, by what is fetched; values are never shown."""
    bench.made()
    lose_and_gain(bench)
    if not has_copy:
        bench.forget_copies()
    (item, _) = planned(bench).items
    assert item.comparison is not None
    assert item.comparison.tables == (TableDifference("tokens", 2, 1, 1),)

    text = shown(bench)
    assert "LOST: 2 rows of tokens, only in the live data" in text
    assert "set back: 1 row of tokens, changed since then" in text
    assert "back: 1 row of tokens, only in the restore point" in text
    assert "a-secret-value" not in text
    assert bench.staged() == []


def test_a_page_does_not_fetch(bench: Bench) -> None:
    """Without a local copy it says that nothing was compared, and the command that does."""
    made = bench.made()
    bench.forget_copies()
    fetched = bench.watched.keys("get")
    (item, _) = planned(bench, fetches=False).items
    assert item.comparison is not None
    assert f"./bot backups restore {made.id}" in item.comparison.why_not
    assert bench.watched.keys("get") == fetched


def test_a_database_that_is_as_in_the_set_is_said_to_be(bench: Bench) -> None:
    """Nothing is lost, and the plan says that."""
    bench.made()
    assert shown(bench).count("the live data has the same rows") == 2


def test_a_copy_that_rotted_is_not_compared_with(bench: Bench) -> None:
    """The local copy counts only with the hash of the manifest."""
    made = bench.made()
    copy = bench.directory.copy_of(made.id, "tokens")
    copy.write_bytes(copy.read_bytes()[:-4096] + bytes(4096))
    (item, _) = planned(bench, fetches=False).items
    assert item.comparison is not None
    assert "no copy of it is on this host" in item.comparison.why_not


def test_a_damaged_live_database_cannot_be_compared_and_is_no_refusal(bench: Bench) -> None:
    """The plan says why, and the restore is offered all the same."""
    bench.made()
    size = bench.tokens.stat().st_size
    for side in bench.tokens.parent.glob("tokens.db-*"):
        side.unlink()
    bench.tokens.write_bytes(b"\x07" * size)
    text = shown(bench)
    assert "cannot be compared: the live database is corrupt" in text
    assert "--in-place --yes" in text


def test_newer_points_are_named_with_the_reason(bench: Bench, clock: FixedClock) -> None:
    """A suspect set that `latest` passes over has its reason in words; a good one says so."""
    first = bench.made()
    clock.advance(days=1)
    good = bench.made()
    clock.advance(days=1)
    execute(bench, "DELETE FROM tokens")
    suspect = bench.made()

    assert [(one.id, one.why) for one in planned(bench).passed_over] == [
        (suspect.id, "suspect (the data looks damaged): tokens is empty, and had 3 rows before")
    ]
    text = shown(bench, first.id)
    assert f"Newer: {good.id}" in text
    assert "it is good: a restore in place sets it aside" in text


def test_the_plan_says_where_from_who_made_it_and_how_long(bench: Bench) -> None:
    """Before a drill the time is guessed by the size, afterwards it is what the drill took."""
    bench.made()
    text = shown(bench)
    assert f"From {bench.store.location}, with copies on this host" in text
    assert "this installation" in text.splitlines()[0]
    assert "(by its size; no drill measured it)" in text

    assert bench.service.drill.begin().execute().status == "succeeded"
    report = bench.service.drill.last_report()
    assert report is not None
    plan = planned(bench)
    assert plan.estimate is not None
    assert (plan.estimate.basis, plan.estimate.seconds) == ("drill", report.seconds)


def test_how_new_the_newest_lost_token_is_stands_in_text_and_document(bench: Bench) -> None:
    """A token has no column of times, and its value has the time: 2023-11-14T22:13:20Z."""
    bench.made()
    value = Fernet(Fernet.generate_key()).encrypt_at_time(b"a-secret-value", 1_700_000_000)
    execute(bench, f"INSERT INTO tokens VALUES ('new', '{value.decode()}', 'token')")
    assert (
        "LOST: 1 row of tokens, only in the live data; the newest is from 2023-11-14T22:13:20Z"
        in shown(bench)
    )
    document = documents.plan_document(planned(bench))
    (table,) = document["items"][0]["comparison"]["tables"].values()
    assert table["newest_at"] == "2023-11-14T22:13:20Z"
    assert value.decode() not in f"{document}{shown(bench)}"


def test_the_document_has_the_same(bench: Bench) -> None:
    """Members are added, and values are in none of them."""
    bench.made()
    lose_and_gain(bench)
    document = documents.plan_document(planned(bench))
    assert document["items"][0]["comparison"] == {
        "why_not": None,
        "tables": {"tokens": {"only_live": 2, "only_stored": 1, "changed": 1, "newest_at": None}},
    }
    assert document["made_here"] is True
    assert document["place"] == bench.store.location
    assert document["estimate"]["basis"] == "size"
    assert "a-secret-value" not in str(document)
