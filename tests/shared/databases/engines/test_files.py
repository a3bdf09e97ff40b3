"""Between PostgreSQL and files: what comes out is what SQLite's own storages make, and goes in."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.databases.checks import check_sessions, check_tokens, known_schemas
from shared.databases.cipher import TokenCipher
from shared.databases.engines.connections import Connections
from shared.databases.engines.files import (
    SHAPES,
    FileShape,
    changes,
    copy_out,
    forget,
    is_empty,
    kept_runs,
    stage,
    swap,
    swap_back,
)
from shared.databases.engines.opening import open_postgres
from shared.databases.engines.postgres import PostgresDatabase
from shared.databases.requests import Request
from shared.databases.schema import admit
from shared.databases.sessions import SessionStorage
from shared.databases.tokens import TokenStorage
from shared.errors import DatabaseMissing, DatabaseSchemaMismatch
from shared.merchants.inbox import ADDITIONS, MIGRATIONS, Event, Inbox, open_inbox
from shared.merchants.marks import Marks
from tests.support.installation import TOKEN_ENCRYPTION_KEY
from tests.support.older_tokens import write_older_tokens
from tests.support.postgres_server import PostgresServer

pytestmark = pytest.mark.slow
CIPHER = TokenCipher((TOKEN_ENCRYPTION_KEY,))
BOTH = ("tokens", "sessions")
REQUEST = Request("shopify", "w-1", "a.myshopify.com", "shop/redact", "2026-11-22T00:00:00Z")
INBOX = {**SHAPES, "inbox": FileShape(MIGRATIONS, ADDITIONS)}


@pytest.fixture
def connections(postgres: PostgresServer) -> Iterator[Connections]:
    """A database with our tables."""
    with postgres.new_database() as address, open_postgres(address, most=10) as connections:
        yield connections


@pytest.fixture
def tokens(connections: Connections) -> TokenStorage:
    return TokenStorage(PostgresDatabase(connections, "tokens"), CIPHER)


@pytest.fixture
def sessions(connections: Connections) -> SessionStorage:
    return SessionStorage(PostgresDatabase(connections, "sessions"), SystemClock())


def files_in(folder: Path) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    return {source: folder / f"{source}.db" for source in BOTH}


def rows_of(path: Path, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as file:
        return sorted(file.execute(f"SELECT * FROM {table}"))


def test_a_copy_is_a_file_of_ours(
    connections: Connections, tokens: TokenStorage, sessions: SessionStorage, tmp_path: Path
) -> None:
    """Each CREATE in it is ours, the storages read it, and equal rows are equal bytes."""
    tokens.put("USER_1_UUID", "0c5b2444-70a0-4932-980c-b4dc0d3f02b5", "uuid")
    tokens.put("T", "value ä", owner="u")
    tokens.requests.add(REQUEST)
    session = sessions.create("u")
    files, again = files_in(tmp_path / "one"), files_in(tmp_path / "two")

    copy_out(connections, files)
    copy_out(connections, again)

    assert [one.read_bytes() for one in files.values()] == [
        one.read_bytes() for one in again.values()
    ]
    assert {one.stat().st_mode & 0o777 for one in files.values()} == {0o600}
    schemas = dict(known_schemas((TOKEN_ENCRYPTION_KEY,)))
    for source, path in files.items():
        assert admit(path, source, schemas[source], lambda: None) is True
    assert check_tokens(files["tokens"], CIPHER) == (2, 0, "")
    assert check_sessions(files["sessions"]) == (1, 0)
    with closing(TokenStorage(files["tokens"], CIPHER)) as file:
        assert file.get("T") == "value ä"
        assert file.owned("T", "u", lambda _: "u") == {"": "value ä"}
        assert file.requests.waiting() == [REQUEST]
    with closing(SessionStorage(files["sessions"], SystemClock())) as file_sessions:
        assert file_sessions.lookup(session) == "u"


def test_a_file_comes_back_and_an_undo_takes_it_away(
    connections: Connections, tokens: TokenStorage, sessions: SessionStorage, tmp_path: Path
) -> None:
    """The rows of then are live, those of now are kept, and both ways are one step."""
    tokens.put("K", "then")
    session = sessions.create("u")
    files = files_in(tmp_path)
    copy_out(connections, files)
    tokens.put("K", "now")
    tokens.put("L", "now")
    sessions.delete(session)
    tokens.requests.add(REQUEST)

    for source, path in files.items():
        stage(connections, "run-1", source, path)
    assert tokens.get("K") == "now"
    swap(connections, "run-1", BOTH)
    swap(connections, "run-1", BOTH)  # again, after a crash: nothing

    assert (tokens.get("K"), tokens.get("L")) == ("then", None)
    assert sessions.lookup(session) == "u"
    assert tokens.requests.waiting() == [REQUEST]  # no restore takes a request back
    tokens.put("M", "after")
    assert kept_runs(connections) == ["run-1"]

    swap_back(connections, "run-1", "undo-1", BOTH)
    assert (tokens.get("K"), tokens.get("L"), tokens.get("M")) == ("now", "now", None)
    assert sessions.lookup(session) is None
    tokens.put("N", "new")
    swap_back(connections, "undo-1", "undo-2", BOTH)  # an undo can itself be undone
    assert (tokens.get("K"), tokens.get("M"), tokens.get("N")) == ("then", "after", None)
    forget(connections, "undo-2")
    assert kept_runs(connections) == []
    with pytest.raises(DatabaseMissing, match="undo-2"):
        swap_back(connections, "undo-2", "undo-3", BOTH)
    assert tokens.get("K") == "then"


def test_nothing_is_lost_or_mixed_while_tables_are_swapped(
    connections: Connections, tokens: TokenStorage, tmp_path: Path
) -> None:
    """Under readers and writers: no error, one content or the other, every row in one of both."""
    for number in range(50):
        tokens.put(f"P{number:02}", "then")
    files = files_in(tmp_path)
    copy_out(connections, files)
    for number in range(50):
        tokens.put(f"P{number:02}", "now")
    stop, written = threading.Event(), []

    def read() -> set[str]:
        seen = set()
        while not stop.is_set():
            with PostgresDatabase(connections, "tokens").reading() as connection:
                first = connection.execute("SELECT count(*) FROM tokens WHERE key < ?", ("Q",))
                values = connection.execute("SELECT value FROM tokens WHERE key < ?", ("Q",))
                assert first.fetchone()[0] == 50
                seen.add(str(hash(tuple(sorted(values.fetchall())))))
        return seen

    def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            key = f"W{writer}-{number}"
            tokens.put(key, "value")
            written.append(key)
            number += 1

    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        writers = [pool.submit(write, number) for number in range(4)]
        before: set[str] = set()
        try:
            for turn in range(4):
                stage(connections, f"r{turn}", "tokens", files["tokens"])
                swap(connections, f"r{turn}", ["tokens"])
        finally:
            stop.set()
        seen = set().union(*(reader.result() for reader in readers))
        for writer in writers:
            writer.result()
    assert len(seen) <= 2
    kept = set(tokens.keys())
    for turn in reversed(range(4)):
        swap_back(connections, f"r{turn}", f"u{turn}", ["tokens"])
        before |= set(tokens.keys())
    assert set(written) <= kept | before
    assert tokens.get("P00") == "now"


def test_a_file_of_an_older_version_keeps_its_form(
    connections: Connections, tokens: TokenStorage, tmp_path: Path
) -> None:
    """Its values are read as such a file's, it comes out as such, and an undo knows the newer."""
    older = tmp_path / "older.db"
    write_older_tokens(older, CIPHER, {"T": "value"})
    tokens.put("NEW", "value")

    stage(connections, "run", "tokens", older)
    swap(connections, "run", ["tokens"])

    assert tokens.state()[0] < 4
    assert tokens.get("T") == "value"
    files = files_in(tmp_path / "out")
    copy_out(connections, files)
    assert rows_of(files["tokens"], "tokens") == rows_of(older, "tokens")
    version, content = tokens.state()
    batch = tokens.bind_next(content, -(2**63), lambda *_: True, begins=True, ends=True)
    assert batch is not None
    assert batch.is_last
    assert (version, tokens.state()[0]) == (1, 4)
    assert tokens.get("T") == "value"
    swap_back(connections, "run", "undo", ["tokens"])
    assert tokens.get("NEW") == "value"


def test_numbers_go_on_above_those_that_came(
    connections: Connections, tokens: TokenStorage, tmp_path: Path
) -> None:
    """A row that is added after a restore has a number of its own."""
    tokens.put("A", "1")
    tokens.put("B", "2")
    files = files_in(tmp_path)
    copy_out(connections, files)
    stage(connections, "run", "tokens", files["tokens"])
    swap(connections, "run", ["tokens"])
    tokens.put("C", "3")
    with PostgresDatabase(connections, "tokens").reading() as connection:
        numbers = [row[0] for row in connection.execute("SELECT rowid FROM tokens ORDER BY key")]
    assert len(set(numbers)) == 3
    assert numbers == sorted(numbers)


def test_what_postgresql_cannot_store_is_named_and_nothing_is_staged(
    connections: Connections, tmp_path: Path
) -> None:
    """A file that is damaged so that a text has a NUL is refused without its value."""
    path = tmp_path / "sessions.db"
    with closing(SessionStorage(path, SystemClock())):
        pass
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("INSERT INTO sessions VALUES ('sesame' || char(0), 'u', 1)")
    with pytest.raises(DatabaseSchemaMismatch, match="row 1 of sessions") as refused:
        stage(connections, "run", "sessions", path)
    assert "sesame" not in str(refused.value)
    with pytest.raises(DatabaseMissing):
        swap(connections, "run", ["sessions"])


def test_the_inbox_goes_over_and_back(connections: Connections, tmp_path: Path) -> None:
    """Every row and value of it, to PostgreSQL and into a new file."""
    path, clock = tmp_path / "inbox.db", SystemClock()
    with closing(open_inbox(path)) as database:
        inbox, marks = Inbox(database, clock), Marks(database, clock)
        inbox.add([Event("facebook", f"m{i}", "a", "t", '{"a":"ä"}', clock.now()) for i in (1, 2)])
        inbox.finish([1])
        inbox.postpone([2], 60)
        marks.mark_reconnect("shopify", "a", "expired")
        marks.polling_round()
        marks.note_polled("facebook", "a")
        marks.want_first_sync("facebook", "a")
        marks.use_state("nonce", clock.now())
    assert is_empty(connections, "inbox")
    stage(connections, "run", "inbox", path)
    swap(connections, "run", ["inbox"])
    assert not is_empty(connections, "inbox")
    back = tmp_path / "back.db"
    copy_out(connections, {"inbox": back}, INBOX)
    for table in ("events", "reconnects", "facts", "failures", "polled", "first_syncs"):
        assert rows_of(back, table) == rows_of(path, table), table
    there = Inbox(PostgresDatabase(connections, "inbox"), clock)
    assert there.add([Event("facebook", f"m{i}", "a", "t", "{}") for i in (1, 2, 3)]) == 1
    with closing(open_inbox(back)) as database:
        assert Inbox(database, clock).add([Event("facebook", "m9", "a", "t", "{}")]) == 1


def test_a_change_shows(
    connections: Connections, tokens: TokenStorage, sessions: SessionStorage, tmp_path: Path
) -> None:
    """A write to a source, and a swap of it, and nothing else."""
    before = changes(connections, "tokens")
    tokens.put("K", "value")
    deadline = threading.Event()
    for _ in range(3000):
        if changes(connections, "tokens") != before:
            break
        deadline.wait(0.02)
    else:
        pytest.fail("the counters do not show the write")
    copy_out(connections, files_in(tmp_path))
    stage(connections, "run", "sessions", tmp_path / "sessions.db")
    other = changes(connections, "sessions")
    swap(connections, "run", ["sessions"])
    assert changes(connections, "sessions")[1] == other[1] + 1
