"""Tests of what follows when the data about to be protected is already damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from backups.model import ContentReport
from shared.clock import SystemClock
from shared.databases.checks import sample_tokens
from shared.databases.cipher import TokenCipher
from shared.databases.sessions import SessionStorage
from shared.databases.tokens import TokenStorage
from shared.store.directory import DirectoryStore
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import add_rows, count_rows, write
from tests.support.records import INSTANT


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(INSTANT)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def bench(tmp_path: Path, store: DirectoryStore, clock: FixedClock) -> Iterator[Bench]:
    with open_bench(tmp_path, store, clock=clock) as bench:
        yield bench


def lose_rows(bench: Bench, left: int = 10) -> None:
    """Delete all tokens but a few."""
    write(bench.tokens, "DELETE FROM tokens WHERE rowid > ?", left)


def test_a_mass_delete_is_stored_suspect_and_told(bench: Bench, clock: FixedClock) -> None:
    """The set is stored and proven, and is not what `latest` means; somebody hears of it once."""
    good = bench.made("scheduled")
    lose_rows(bench)
    clock.advance(days=1)

    bad = bench.made("scheduled")

    assert bad.suspect == ("tokens.tokens has 10 rows, 60 before",)
    assert bad.proof == "full"
    assert not bad.protects
    assert bench.stored_ids() == [good.id, bad.id]
    assert bench.json_of(f"backups/sets/{bad.id}/manifest.json")["suspect"] == list(bad.suspect)
    assert bench.service.own_sets.latest() == good
    assert bench.service.restore.plan().backup_set.id == good.id
    assert bench.problems() == ["suspect"]
    assert bench.notes.titles() == ["suspect"]
    assert bad.id in bench.notes.messages[0].body
    assert f"accept {bad.id}" in bench.notes.messages[0].body
    bench.service.alerts.send_alerts()
    assert bench.notes.titles() == ["suspect"]


def test_nothing_is_pruned_while_the_newest_set_is_suspect(bench: Bench, clock: FixedClock) -> None:
    """Sets that are out of date stay until the suspicion is cleared, and go afterwards."""
    for _ in range(3):
        bench.made("manual")
        clock.advance(minutes=1)
    lose_rows(bench)
    clock.advance(days=2000)
    before = bench.everything()

    bad = bench.made("scheduled")
    assert bench.prune().status == "succeeded"

    assert before.items() <= bench.everything().items()
    assert bench.service.own_sets.plan_prune().drop == ()
    assert "suspect" in bench.service.own_sets.plan_prune().keep[0].reasons[0]
    bench.service.acceptance.accept(bad.id)
    assert bench.prune().status == "succeeded"
    assert bench.stored_ids() == [bad.id]


def test_a_set_can_be_accepted_again_at_once(bench: Bench, clock: FixedClock) -> None:
    """Twice in one second: who clicks twice is told the same, and not that the store failed."""
    made = bench.made("scheduled")

    first = bench.service.acceptance.accept(made.id)
    clock.advance(seconds=0.25)

    assert bench.service.acceptance.accept(made.id) == first


def test_accept_clears_the_set_the_alarm_and_the_guard(bench: Bench, clock: FixedClock) -> None:
    """The accepted set protects, one message tells it is over, and it is the new measure."""
    bench.made("scheduled")
    lose_rows(bench)
    clock.advance(days=1)
    bad = bench.made("scheduled")

    accepted = bench.service.acceptance.accept(bad.id)

    assert accepted.protects
    assert bench.service.own_sets.latest() == accepted
    assert bench.problems() == []
    assert bench.notes.titles() == ["suspect", "well"]
    clock.advance(days=1)
    assert bench.made("scheduled").suspect is None
    assert bench.notes.titles() == ["suspect", "well"]


def test_every_further_set_is_suspect_until_somebody_looks(bench: Bench, clock: FixedClock) -> None:
    """Damage does not become the measure by being backed up twice."""
    good = bench.made("scheduled")
    lose_rows(bench)
    for _ in range(3):
        clock.advance(days=1)
        assert bench.made("scheduled").suspect

    assert bench.service.own_sets.latest() == good
    assert bench.notes.titles()[0] == "suspect"
    assert bench.notes.titles().count("suspect") == 1


def test_data_that_comes_back_ends_the_suspicion_by_itself(bench: Bench, clock: FixedClock) -> None:
    """When the rows are there again the next set is good, and one message says so."""
    bench.made("scheduled")
    lose_rows(bench)
    clock.advance(hours=1)
    bench.made()
    add_rows(bench.tokens, 50)
    clock.advance(hours=1)

    assert bench.made().protects
    assert bench.problems() == []
    assert bench.notes.titles() == ["suspect", "well"]


def test_a_suspect_set_is_the_set_of_its_due_instant(bench: Bench, clock: FixedClock) -> None:
    """The catch-up of every minute does not make one suspect set after the other."""
    assert bench.service.backup.run_if_owed("scheduled") is not None
    lose_rows(bench)
    clock.advance(days=1)
    run = bench.service.backup.run_if_owed("scheduled")
    assert run is not None
    assert run.status == "succeeded"

    for _ in range(30):
        clock.advance(minutes=1)
        assert bench.service.backup.run_if_owed("catch-up") is None
    assert len(bench.stored_ids()) == 2
    clock.advance(days=1)
    assert bench.service.backup.run_if_owed("scheduled") is not None


def test_a_change_set_is_not_the_set_of_a_due_instant(bench: Bench, clock: FixedClock) -> None:
    """A change set is gone after a day, so the night's set is made all the same."""
    clock.advance(seconds=1)
    bench.made("change")

    run = bench.service.backup.run_if_owed("catch-up")

    assert run is not None
    assert run.status == "succeeded"
    assert bench.service.backup.run_if_owed("catch-up") is None


def test_an_empty_database_is_suspect(bench: Bench, clock: FixedClock) -> None:
    """One row that was there and is not is enough when nothing is left."""
    write(bench.tokens, "DELETE FROM tokens WHERE rowid > 1")
    bench.made()
    write(bench.tokens, "DELETE FROM tokens")
    clock.advance(days=1)

    assert bench.made().suspect == ("tokens is empty, and had 1 row before",)


def test_a_schema_that_changed_is_suspect(bench: Bench, clock: FixedClock) -> None:
    """A column that appeared without a migration is noticed in the real database."""
    bench.made()
    write(bench.tokens, "ALTER TABLE tokens ADD COLUMN backdoor TEXT")
    clock.advance(days=1)
    assert "schema of tokens" in str(bench.made().suspect)

    write(bench.tokens, "PRAGMA user_version=2")
    clock.advance(days=1)
    assert bench.made().suspect is None


def test_ordinary_nights_raise_nothing(tmp_path: Path, store: DirectoryStore) -> None:
    """Sessions come by day and have expired by 01:00; ten nights of that say nothing."""
    clock = FixedClock(INSTANT)
    with (
        open_bench(tmp_path, store, clock=clock) as bench,
        closing(SessionStorage(bench.sessions, clock)) as sessions,
    ):
        for night in range(10):
            made = bench.made("scheduled")
            assert made.suspect is None
            assert made.objects[1].rows == {"sessions": 1 if night else 60}
            clock.advance(hours=12)
            for number in range(100):
                sessions.create(f"user-{number}")
            add_rows(bench.tokens, 3)
            bench.made("change")
            clock.advance(hours=11)
            sessions.create("the last of the evening")
            clock.advance(hours=1)

        assert bench.problems() == []
        assert bench.notes.messages == []


def test_keys_that_were_swapped_are_suspect(tmp_path: Path, store: DirectoryStore) -> None:
    """Tokens that none of today's keys opens make the set suspect, and are counted."""
    old, new = (TokenCipher((Fernet.generate_key().decode(),)) for _ in range(2))
    clock = FixedClock(INSTANT)
    with open_bench(
        tmp_path,
        store,
        clock=clock,
        readability_checks=(("tokens", lambda p: ContentReport(*sample_tokens(p, old))),),
    ) as bench:
        write(bench.tokens, "DELETE FROM tokens")
        with closing(TokenStorage(bench.tokens, old)) as tokens:
            for number in range(300):
                tokens.put(f"SHOP_{number}", "shpat")
        good = bench.made("scheduled")
        assert good.protects
        sources = bench.sources
    clock.advance(days=1)
    with open_bench(
        tmp_path,
        store,
        clock=clock,
        sources=sources,
        readability_checks=(("tokens", lambda p: ContentReport(*sample_tokens(p, new))),),
    ) as bench:
        bad = bench.made("scheduled")

        assert bad.suspect == (
            "200 of the checked values of tokens cannot be read with the current keys "
            "(0 in the previous backup)",
        )
        assert bad.objects[0].unreadable == 200
        assert bench.service.own_sets.latest() == good
        assert bench.notes.titles() == ["suspect"]
        bench.service.acceptance.accept(bad.id)
        clock.advance(days=1)
        assert bench.made("scheduled").suspect is None  # known by now
        assert count_rows(bench.tokens) == 300


def test_an_acceptance_is_in_the_store(
    tmp_path: Path, bench: Bench, store: DirectoryStore, clock: FixedClock
) -> None:
    """A new host, with a catalogue of its own, knows which set was accepted and which was not."""
    bench.made("scheduled")
    lose_rows(bench, 29)
    clock.advance(days=1)
    accepted = bench.made("scheduled")
    bench.service.acceptance.accept(accepted.id)
    lose_rows(bench, 2)
    clock.advance(days=1)
    refused = bench.made("scheduled")

    with open_bench(
        tmp_path, store, clock=clock, sources=bench.sources, directory="new-host"
    ) as other:
        assert other.service.own_sets.refresh() is None
        catalogue = other.service.catalogue

        assert catalogue.get(accepted.id).protects
        assert catalogue.get(refused.id).suspect == ("tokens.tokens has 2 rows, 29 before",)
        assert other.service.own_sets.latest() == catalogue.get(accepted.id)


def test_accepting_does_not_make_bad_bytes_good(
    tmp_path: Path, bench: Bench, clock: FixedClock
) -> None:
    """A set whose proof failed is not proven by a person's word."""
    made = bench.made()
    stored = tmp_path / "store" / made.objects[0].key
    stored.write_bytes(stored.read_bytes()[:-1] + b"!")
    clock.advance(minutes=1)
    assert bench.service.verify.begin(made.id).execute().status == "failed"

    accepted = bench.service.acceptance.accept(made.id)

    assert accepted.proof == "none"
    assert not accepted.protects


def test_a_proof_that_fails_after_an_acceptance_counts(
    tmp_path: Path, bench: Bench, clock: FixedClock
) -> None:
    """The later of acceptance and failed proof is what the set is judged by."""
    made = bench.made()
    clock.advance(minutes=1)
    bench.service.acceptance.accept(made.id)
    stored = tmp_path / "store" / made.objects[0].key
    stored.write_bytes(stored.read_bytes()[:-1] + b"!")
    clock.advance(minutes=1)
    bench.service.verify.begin(made.id).execute()

    assert bench.service.catalogue.get(made.id).suspect
    assert "suspect" in bench.problems()


def test_nothing_is_pruned_after_a_failed_run(bench: Bench, clock: FixedClock) -> None:
    """A prune by hand after a failed run drops nothing, and drops again after a good one."""
    made = [bench.made().id]
    clock.advance(days=2000)
    moved = bench.tokens.rename(bench.tokens.with_name("elsewhere.db"))
    assert bench.run("scheduled").status == "failed"
    assert bench.prune().status == "succeeded"
    assert made[0] in bench.stored_ids()

    moved.rename(bench.tokens)
    made.append(bench.made("scheduled").id)

    assert made[0] not in bench.stored_ids()
    assert made[1] in bench.stored_ids()


def test_the_default_clock_is_the_hosts(tmp_path: Path, store: DirectoryStore) -> None:
    """On the real clock too, a set that was just made is neither overdue nor suspect."""
    with open_bench(tmp_path, store, clock=SystemClock()) as bench:
        made = bench.made()

        assert SystemClock().now() - made.created_at < timedelta(minutes=1)
        assert bench.problems() == []


def test_an_acceptance_that_is_deleted_from_the_store_counts_no_more(bench: Bench) -> None:
    """The store is the truth: the next look at it makes the set suspect again."""
    bench.made()
    lose_rows(bench)
    bad = bench.made()
    bench.service.acceptance.accept(bad.id)
    assert bench.service.catalogue.get(bad.id).suspect is None

    (key,) = (key for key in bench.all_keys() if "/accept-" in key)
    bench.store.delete(key)
    assert bench.service.own_sets.refresh() is None

    assert bench.service.catalogue.get(bad.id).suspect
