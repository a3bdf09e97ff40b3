"""What the benchmarks change in their databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from cryptography.fernet import Fernet

from benchmarks.databases import Pair, Values, change_token, make_pair


def values_of(pair: Pair) -> list[str]:
    """The values of all tokens."""
    with closing(sqlite3.connect(pair.tokens)) as connection:
        return [row[0] for row in connection.execute("SELECT value FROM tokens ORDER BY rowid")]


def test_a_changed_token_has_another_value(tmp_path: Path) -> None:
    """However few values there are: each call changes one row, or nothing would be waited for."""
    values = Values(Fernet.generate_key().decode(), 2)
    pair = make_pair(tmp_path / "pair", 0.1, values)
    for _ in range(20):
        before = values_of(pair)
        change_token(pair, values)
        assert sum(one != other for one, other in zip(before, values_of(pair), strict=True)) == 1
