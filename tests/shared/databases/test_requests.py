"""Requests that wait in `tokens.db` until their work in the inbox has ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from shared.databases.checks import known_schemas
from shared.databases.cipher import TokenCipher
from shared.databases.requests import PROTECTED, Request, Requests, carry_over
from shared.databases.schema import admit
from shared.databases.tokens import TokenStorage
from shared.errors import DatabaseError
from tests.shared.conftest import Engine
from tests.support.clock import MIDNIGHT
from tests.support.installation import TOKEN_ENCRYPTION_KEY
from tests.support.older_tokens import write_older_tokens

CIPHER = TokenCipher((TOKEN_ENCRYPTION_KEY,))
FIRST = Request("shopify", "w-1", "a.myshopify.com", "shop/redact", "2026-11-22T00:00:00Z")
SECOND = Request("shopify", "w-2", "b.myshopify.com", "app/uninstalled", "2026-11-22T00:00:01Z")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the tokens are."""
    return tmp_path / "tokens.db"


@pytest.fixture
def requests(engine: Engine, path: Path) -> Iterator[Requests]:
    """None."""
    with closing(TokenStorage(engine("tokens", path), CIPHER)) as storage:
        yield storage.requests


def test_a_repeat_is_no_second_row(requests: Requests) -> None:
    """Platforms send a request again until it has its 200."""
    requests.add(FIRST)
    requests.finish("shopify", ["w-1"], MIDNIGHT)
    requests.add(FIRST)
    assert requests.waiting() == []
    assert requests.is_done("shopify", "shop/redact", "w-1")


def test_what_is_done_waits_no_more(requests: Requests) -> None:
    """Only that: neither another platform's of the same name, nor what is no request."""
    requests.add(FIRST)
    requests.add(SECOND)
    requests.finish("facebook", ["w-1"], MIDNIGHT)
    assert requests.waiting() == [FIRST, SECOND]
    requests.finish("shopify", ["w-1", "no request"], MIDNIGHT)
    assert requests.waiting() == [SECOND]
    assert requests.is_done("shopify", "app/uninstalled", "w-2") is False
    assert requests.is_done("shopify", "shop/redact", "no request") is None


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_older_file_gets_the_table_with_its_first_request(tmp_path: Path, version: int) -> None:
    """It is one that this program restores, and its version stays until its values are bound."""
    older = tmp_path / "older.db"
    _write(older, version)
    with closing(TokenStorage(older, CIPHER)) as storage:
        assert storage.requests.waiting() == []
        assert storage.requests.is_done("shopify", "shop/redact", "w-1") is None
        storage.requests.add(FIRST)
        assert storage.requests.waiting() == [FIRST]
    assert _version(older) == (PROTECTED if version == 3 else version)
    assert admit(older, "tokens", dict(known_schemas((TOKEN_ENCRYPTION_KEY,)))["tokens"], int)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_what_came_later_is_carried_over_undone(tmp_path: Path, version: int) -> None:
    """A request that the older file does not have waits in it, whatever became of it since.

    The app opens the file, and migrates it, with the request in it.
    """
    former, coming = tmp_path / "former.db", tmp_path / "coming.db"
    with closing(TokenStorage(former, CIPHER)) as storage:
        storage.requests.add(FIRST)
        storage.requests.add(SECOND)
        storage.requests.finish("shopify", ["w-1"], MIDNIGHT)
    _checkpoint(former)
    _write(coming, version)
    assert carry_over(former, coming) == 2
    assert carry_over(former, coming) == 0
    assert admit(coming, "tokens", dict(known_schemas((TOKEN_ENCRYPTION_KEY,)))["tokens"], int)
    with closing(TokenStorage(coming, CIPHER)) as storage:
        assert storage.requests.waiting() == [FIRST, SECOND]
        assert storage.get("A") == "a"


def test_what_the_older_file_has_stays_as_it_was(tmp_path: Path) -> None:
    """What was done then is in its rows, and what waited then waits again."""
    former, coming = tmp_path / "former.db", tmp_path / "coming.db"
    for path, done in ((former, "w-2"), (coming, "w-1")):
        with closing(TokenStorage(path, CIPHER)) as storage:
            storage.requests.add(FIRST)
            storage.requests.add(SECOND)
            storage.requests.finish("shopify", [done], MIDNIGHT)
        _checkpoint(path)
    assert carry_over(former, coming) == 0
    with closing(TokenStorage(coming, CIPHER)) as storage:
        assert storage.requests.waiting() == [SECOND]


@pytest.mark.parametrize("has_table", [False, True])
def test_where_there_is_nothing_to_carry_the_file_stays_as_it_is(
    tmp_path: Path, *, has_table: bool
) -> None:
    """Byte for byte: an undo compares what it finds with what was there."""
    former, coming = tmp_path / "former.db", tmp_path / "coming.db"
    _write(former, PROTECTED if has_table else 1)
    _write(coming, 1)
    before = coming.read_bytes()
    assert carry_over(former, coming) == 0
    assert coming.read_bytes() == before


def test_what_cannot_be_read_is_an_error_of_ours(tmp_path: Path) -> None:
    """Of a damaged file nothing is carried over, and nothing is written."""
    former, coming = tmp_path / "former.db", tmp_path / "coming.db"
    former.write_bytes(b"no database" * 500)
    _write(coming, 1)
    before = coming.read_bytes()
    with pytest.raises(DatabaseError):
        carry_over(former, coming)
    assert coming.read_bytes() == before


def _write(path: Path, version: int) -> None:
    """A file as a version of the program has left it, with one row."""
    if version < 3:
        write_older_tokens(path, CIPHER, {"A": "a"})
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version={version}")
    else:
        with closing(TokenStorage(path, CIPHER)) as storage:
            storage.put("A", "a")
    with ExitStack() as stack:
        connection = stack.enter_context(closing(sqlite3.connect(path)))
        if version == 3:
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'tokens'"
            ).fetchall():
                connection.execute(f"DROP TABLE {name}")
            connection.execute("PRAGMA user_version=3")
        connection.execute("PRAGMA journal_mode=DELETE")


def _checkpoint(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


def _version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
