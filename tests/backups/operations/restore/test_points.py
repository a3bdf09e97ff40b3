"""Restoring points of chains: by id, the newest, at a time; on a new host; nothing near enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bench import open_bench
from tests.support.chains import all_rows, stored_chain
from tests.support.databases import add_rows


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
