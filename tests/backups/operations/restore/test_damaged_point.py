"""A point whose data is damaged: a restore refuses it, and names the newest good one before it."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.bench import Bench, open_bench
from tests.support.chains import all_rows, stored_chain
from tests.support.databases import add_rows, connect, write

POINTS = 9


def damage_index(path: Path) -> None:
    """Flip a byte within an entry of the index, in the live file: no row looks another."""
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE type = 'index'"
        ).fetchone()
    with path.open("r+b") as file:
        file.seek(root * size - 3)
        (last,) = file.read(1)
        file.seek(root * size - 3)
        file.write(bytes([last ^ 1]))


@pytest.mark.parametrize("damaged", [1, 2, 6, POINTS])
def test_the_refusal_names_the_newest_sound_point(tmp_path: Path, damaged: int) -> None:
    """`latest` was made after the damage, and before a look: the named command restores."""
    with open_bench(tmp_path) as bench, stored_chain(bench, bench.made()) as chain:
        for number in range(1, POINTS + 1):
            if number < damaged:
                add_rows(bench.tokens, 1)
            if number == damaged:
                damage_index(bench.tokens)
            write(bench.sessions, "UPDATE sessions SET uuid = ?", str(number))
            chain.step()
        bench.service.catalogue.refresh()
        hint = refusal(bench, tmp_path / "newest")
        good = chain.point(damaged - 1)
        assert hint == f"The newest good second before it: ./bot backups restore {good}"
        bench.restored(good, to=tmp_path / "good")
        assert all_rows(tmp_path / "good" / "tokens.db") == chain.rows(damaged - 1)["tokens"]
        assert bench.staged() == []


def test_a_sound_point_behind_a_differential_is_found(tmp_path: Path) -> None:
    """Where the increments before a differential are pruned, their points are passed over."""
    with open_bench(tmp_path) as bench, stored_chain(bench, bench.made()) as chain:
        for number in range(1, POINTS + 1):
            add_rows(bench.tokens, 1) if number < POINTS else damage_index(bench.tokens)
            chain.step()
            if number == POINTS - 2:
                chain.differential()
        for number in range(1, POINTS - 1):
            bench.store.delete(chain.key(number))
        bench.service.catalogue.refresh()
        hint = refusal(bench, tmp_path / "newest")
        assert hint.endswith(f" {chain.point(POINTS - 1)}")


def refusal(bench: Bench, to: Path) -> str:
    """The hint of the restore of `latest`, which finds damage."""
    run = bench.restore(to=to)
    assert run.error is not None
    assert run.error.code == "proof_failed"
    assert re.search(r"tokens\.db of restore point .* is damaged", run.error.message)
    assert not list(to.glob("*.db"))
    return run.error.hint
