"""What the benchmarks change in their databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from cryptography.fernet import Fernet

from benchmarks.databases import Pair, Values, change_rows, change_token, make_pair
from benchmarks.topics.writers import Writer
from tests.support.waiting import eventually


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


def test_a_renewed_token_is_as_long_as_before(tmp_path: Path) -> None:
    """As those of the platforms are: other lengths would move the rows beside them, too."""
    values = Values(Fernet.generate_key().decode(), 60)
    pair = make_pair(tmp_path / "pair", 0.1, values)
    before = values_of(pair)
    changed = change_rows(pair, 0.1, values)
    pairs = [two for two in zip(before, values_of(pair), strict=True) if two[0] != two[1]]
    assert len(pairs) == changed > 10
    assert all(len(former) == len(new) for former, new in pairs)


def test_each_writer_changes_tokens(tmp_path: Path) -> None:
    """Also one that writes to the same rows as another before it: else nothing is to be stored."""
    values = Values(Fernet.generate_key().decode(), 60)
    pair = make_pair(tmp_path / "pair", 0.5, values)
    rows = len(values_of(pair))
    with closing(Writer(pair, 1)) as writer:
        eventually(lambda: len(values_of(pair)) > rows + 3, "new tokens")
        writer.stop()
    before = values_of(pair)
    with closing(Writer(pair, 1_000_001)) as writer:
        eventually(lambda: values_of(pair)[: len(before)] != before, "a changed token")
        writer.stop()
