"""Restoring points of chains: by id, the newest, at a time; on a new host; nothing near enough."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from backups.config import SealConfig
from backups.errors import SetNotFound
from backups.format.chain import RestoredTo
from backups.sets.seal import generate_key_pair
from tests.support.bench import open_bench
from tests.support.chains import all_rows, stored_chain
from tests.support.clock import FixedClock
from tests.support.databases import add_rows, connect


def test_each_point_of_a_chain_is_restored_by_its_id(tmp_path: Path) -> None:
    """The files of a point hold exactly what the databases held then."""
    with open_bench(tmp_path) as bench:
        made = bench.made()
        with stored_chain(bench, made) as chain:
            for _ in range(3):
                add_rows(bench.tokens, 5)
                add_rows(bench.sessions, 1)
                chain.step()
            bench.service.catalogue.refresh()
            for number in (1, 2, 3):
                to = tmp_path / f"to-{number}"
                bench.restored(chain.point(number), to=to)
                for source in ("tokens", "sessions"):
                    assert all_rows(to / f"{source}.db") == chain.rows(number)[source]


def test_a_new_host_restores_the_newest_point_in_place(tmp_path: Path) -> None:
    """With nothing but the settings, `latest` is the newest point of the chain in the store."""
    with open_bench(tmp_path) as bench:
        made = bench.made()
        with stored_chain(bench, made) as chain:
            for _ in range(4):
                add_rows(bench.tokens, 5)
                newest = chain.step()
            rows = chain.rows(4)
    with open_bench(tmp_path, directory="other", sources=bench.sources) as other:
        for path in (other.tokens, other.sessions):
            path.unlink()
        run = other.restored()
        assert run.set_id == newest
        for source in ("tokens", "sessions"):
            assert all_rows(other.live(source)) == rows[source]


def test_at_the_second_before_a_mass_deletion_has_all_rows(tmp_path: Path) -> None:
    """`--at` means the newest point that is not later, to the millisecond."""
    with open_bench(tmp_path) as bench:
        made = bench.made()
        with stored_chain(bench, made) as chain:
            add_rows(bench.tokens, 50)
            before = chain.step(at=chain.at + timedelta(milliseconds=1500))
            at = chain.at
            with closing(connect(bench.tokens)) as live:
                live.execute("DELETE FROM tokens")
            after = chain.step(at=at + timedelta(milliseconds=2))
            rows = chain.rows(1)
            bench.service.catalogue.refresh()
            plan = bench.service.restore.plan(at=at + timedelta(milliseconds=1))
            assert plan.backup_set.id == before
            assert bench.service.restore.plan(at=at + timedelta(milliseconds=2)).backup_set.id == (
                after
            )
            bench.restored(at=at)
            assert all_rows(bench.tokens) == rows["tokens"]


def test_a_set_made_after_the_points_is_newer_than_they_are(tmp_path: Path) -> None:
    """Points and sets are ordered by one number, whatever the clocks said."""
    clock = FixedClock()
    with open_bench(tmp_path, clock=clock) as bench:
        made = bench.made()
        with stored_chain(bench, made) as chain:
            add_rows(bench.tokens, 5)
            point = chain.step(sequence=5)
            bench.service.catalogue.refresh()
            assert bench.service.own_sets.required_latest().id == point
            clock.advance(hours=1)
            later = bench.made()
            assert later.sequence is not None
            newest = point if later.sequence < 5 else later.id
            assert bench.service.own_sets.required_latest().id == newest


def test_what_a_restore_passed_over_is_still_there_for_at_and_by_id(tmp_path: Path) -> None:
    """The points after the restored one are not `latest`; a time or an id still means them."""
    with open_bench(tmp_path) as bench:
        made = bench.made()
        with stored_chain(bench, made) as chain:
            for _ in range(3):
                add_rows(bench.tokens, 5)
                chain.step()
            to = RestoredTo(chain.point(1), chain.instant - 2000, (made.sequence or 0) + 1)
            chain.end("restore", to)
            bench.service.catalogue.refresh()
            assert bench.service.own_sets.required_latest().id == chain.point(1)
            assert bench.service.restore.plan(at=chain.at).backup_set.id == chain.point(3)
            by_id = bench.service.catalogue.get(chain.point(3))
            assert by_id.set_aside is not None
            assert by_id.protects


def test_what_a_restore_passes_over_is_not_latest_while_the_app_is_stopped(tmp_path: Path) -> None:
    """Nobody has ended the chain yet: a second restore would undo what the first has done."""
    with open_bench(tmp_path) as bench:
        made = bench.made()
        with stored_chain(bench, made) as chain:
            for _ in range(3):
                add_rows(bench.tokens, 5)
                chain.step()
            bench.service.catalogue.refresh()
            assert bench.service.own_sets.required_latest().id == chain.point(3)
            bench.restored(chain.point(1))
            assert bench.service.own_sets.required_latest().id == chain.point(1)
            assert bench.service.restore.plan(at=chain.at).backup_set.id == chain.point(3)
            bench.service.facts.forget_restored_chain()  # the follower has ended the chain
            assert bench.service.own_sets.required_latest().id == chain.point(3)
            bench.restored(made.id)
            assert bench.service.own_sets.required_latest().id == made.id
            bench.service.undo.begin().execute()
            assert bench.service.own_sets.required_latest().id == chain.point(3)


def test_a_restored_point_sets_aside_only_the_sets_after_it(tmp_path: Path) -> None:
    """The full of a point, and what was made before it, stay what `latest` may mean."""
    clock = FixedClock()
    with open_bench(tmp_path, clock=clock) as bench:
        made = bench.made()
        with stored_chain(bench, made) as chain:
            add_rows(bench.tokens, 5)
            point = chain.step()
            clock.advance(hours=1)
            bench.made()
            later = bench.made()
            bench.service.catalogue.refresh()
            bench.restored(point)
            assert bench.service.catalogue.get(made.id).set_aside is None
            assert bench.service.catalogue.get(later.id).set_aside is not None


def test_a_gap_ends_what_can_be_restored(tmp_path: Path) -> None:
    """An increment that vanished takes all points after it, and the hint names the one before."""
    with open_bench(tmp_path) as bench:
        made = bench.made()
        with stored_chain(bench, made) as chain:
            for _ in range(4):
                add_rows(bench.tokens, 5)
                chain.step()
            bench.service.catalogue.refresh()
            bench.store.delete(chain.key(3))
            bench.service.catalogue.refresh()
            with pytest.raises(SetNotFound) as refused:
                bench.service.restore.plan(chain.point(4))
            assert f"./bot backups restore {chain.point(2)}" in refused.value.hint
            plan = bench.service.restore.plan(at=chain.at)
            assert plan.backup_set.id == chain.point(2)
            assert "time_not_covered" in {one.code for one in plan.warnings}


def test_a_differential_makes_points_after_a_gap_restorable(tmp_path: Path) -> None:
    """It changes the full itself, and the increments after it follow it."""
    with open_bench(tmp_path) as bench:
        made = bench.made()
        with stored_chain(bench, made) as chain:
            for _ in range(3):
                add_rows(bench.tokens, 5)
                chain.step()
            chain.differential()
            add_rows(bench.tokens, 5)
            chain.step()
            bench.store.delete(chain.key(2))
            bench.store.delete(chain.key(3))
            bench.service.catalogue.refresh()
            for number in (1, 3, 4):
                to = tmp_path / f"to-{number}"
                bench.restored(chain.point(number), to=to)
                assert all_rows(to / "tokens.db") == chain.rows(number)["tokens"]
            ranges = bench.service.list_ranges()
            assert [(one.points, one.last) for one in ranges] == [(2, 4), (1, 1)]


def test_a_suspect_point_is_no_point_for_at(tmp_path: Path) -> None:
    """One whose data looked damaged, or after a failed check, is restored only by its id."""
    with open_bench(tmp_path) as bench:
        made = bench.made()
        with stored_chain(bench, made) as chain:
            add_rows(bench.tokens, 5)
            chain.step()
            add_rows(bench.tokens, 5)
            chain.step(suspect=("tokens lost 9 of 10 rows",))
            bench.service.catalogue.refresh()
            assert bench.service.restore.plan(at=chain.at).backup_set.id == chain.point(1)
            plan = bench.service.restore.plan(chain.point(2))
            assert "suspect" in {one.code for one in plan.warnings}
            chain.check(0, "the live database is not what the chain made it")
            bench.service.catalogue.refresh()
            assert bench.service.restore.plan(at=chain.at).backup_set.id == made.id


def test_points_in_packs_are_restored_and_chosen(tmp_path: Path) -> None:
    """A pack stands for its members: by id, by time, and with a suspect one among them."""
    with open_bench(tmp_path) as bench:
        made = bench.made()
        with stored_chain(bench, made) as chain:
            at = chain.at
            for number in range(1, 6):
                add_rows(bench.tokens, 5)
                chain.step(suspect=("it looks damaged",) if number == 3 else None)
            chain.end()
            chain.pack(1, 4)
            bench.service.catalogue.refresh()
            plan = bench.service.restore.plan
            for seconds, number in ((2, 2), (3, 2), (4, 4), (5, 5)):
                found = plan(at=at + timedelta(seconds=seconds)).backup_set.id
                assert found == chain.point(number)
            for number in (2, 4, 5):
                to = tmp_path / f"to-{number}"
                bench.restored(chain.point(number), to=to)
                assert all_rows(to / "tokens.db") == chain.rows(number)["tokens"]


def test_the_points_of_an_encrypted_chain_need_the_identity(tmp_path: Path) -> None:
    """With it a point is restored; without it nothing is."""
    secret, public = generate_key_pair()
    identity = tmp_path / "identity.txt"
    identity.write_text(secret)
    identity.chmod(0o600)
    seal = SealConfig("zstd", (public,))
    with open_bench(tmp_path, seal=seal, identity_file=identity) as bench:
        made = bench.made()
        with stored_chain(bench, made, recipients=(public,)) as chain:
            add_rows(bench.tokens, 5)
            point = chain.step()
            bench.service.catalogue.refresh()
            bench.restored(point, to=tmp_path / "to")
            assert all_rows(tmp_path / "to" / "tokens.db") == chain.rows(1)["tokens"]
            assert bench.verify(point).status == "succeeded"
            with open_bench(tmp_path, seal=seal, sources=bench.sources, directory="b") as other:
                assert other.verify(point).status == "succeeded"
                blocked = other.service.restore.plan(point).blockers
                assert "identity_missing" in {one.code for one in blocked}


def test_a_drill_rehearses_the_newest_point(tmp_path: Path) -> None:
    """What is rehearsed is what `latest` means; its report lies beside the full."""
    with open_bench(tmp_path) as bench:
        made = bench.made()
        with stored_chain(bench, made) as chain:
            add_rows(bench.tokens, 5)
            point = chain.step()
            bench.service.catalogue.refresh()
            run = bench.service.drill.begin().execute()
            assert (run.status, run.set_id) == ("succeeded", point)
            assert any("/drill-" in key and made.id in key for key in bench.all_keys())
