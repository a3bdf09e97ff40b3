"""Restoring points of chains: by id, the newest, at a time; on a new host; nothing near enough."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

from tests.support.bench import open_bench
from tests.support.chains import all_rows, stored_chain
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
