"""Tokens: a dictionary that survives the process, in which every value is encrypted."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from shared.errors import CipherError
from tests.shared.conftest import Engine

OLD, NEW, LOST = (Fernet.generate_key().decode() for _ in range(3))
ROOT = Path(__file__).parents[3]
CREATE = "CREATE TABLE tokens(key TEXT PRIMARY KEY, value TEXT NOT NULL, type TEXT NOT NULL)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "tokens.db"


@pytest.fixture
def storage(engine: Engine, path: Path) -> Iterator[TokenStorage]:
    storage = TokenStorage(engine("tokens", path), TokenCipher((NEW,)))
    yield storage
    storage.close()


def stored_values(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT key, value FROM tokens"))


def test_a_value_comes_back(storage: TokenStorage) -> None:
    """What was put is got; the last put under a key counts; an unknown key is None."""
    storage.put("A", "one")
    storage.put("A", "two ä")
    storage.put("B", "")

    assert storage.get("A") == "two ä"
    assert storage.get("B") == ""
    assert storage.get("C") is None


def test_a_deleted_value_is_gone(storage: TokenStorage) -> None:
    """`delete` forgets one key; an unknown one is no error."""
    storage.put("A", "one")
    storage.put("B", "two")

    storage.delete("A")
    storage.delete("A")

    assert storage.get("A") is None
    assert storage.get("B") == "two"


def test_a_value_is_replaced_only_where_it_is_still_the_former(storage: TokenStorage) -> None:
    """One that was deleted is not brought back, and one that was replaced stays."""
    storage.put("KEY", "first")
    assert storage.replace("KEY", "first", "second") is True
    assert storage.replace("KEY", "first", "third") is False
    assert storage.get("KEY") == "second"

    storage.delete("KEY")

    assert storage.replace("KEY", "second", "fourth") is False
    assert storage.get("KEY") is None


def test_keys_are_listed_in_order_and_by_type(storage: TokenStorage) -> None:
    """`keys` gives all keys, or those of one type; a new type of a key replaces the old."""
    storage.put("C", "x", "uuid")
    storage.put("A", "x")
    storage.put("B", "x", "uuid")

    assert storage.keys() == ["A", "B", "C"]
    assert storage.keys("token") == ["A"]
    assert storage.keys("uuid") == ["B", "C"]
    storage.put("B", "x", "token")
    assert storage.keys("token") == ["A", "B"]


def test_a_value_is_not_plain_in_the_files(storage: TokenStorage, path: Path) -> None:
    """Neither the database nor its WAL has the value of a token in it, before or after closing."""
    storage.put("A", "EAAB-secret-value")
    with_wal = b"".join(found.read_bytes() for found in path.parent.iterdir())
    storage.close()
    closed = b"".join(found.read_bytes() for found in path.parent.iterdir())

    assert b"EAAB-secret-value" not in with_wal
    assert b"EAAB-secret-value" not in closed
    assert TokenCipher((NEW,)).decrypt(stored_values(path)["A"]).endswith(b"EAAB-secret-value")


def test_values_survive_the_process(path: Path) -> None:
    """A storage that is opened again has what the one before stored."""
    first = TokenStorage(path, TokenCipher((NEW,)))
    first.put("A", "one")
    first.close()

    second = TokenStorage(path, TokenCipher((NEW,)))

    assert second.get("A") == "one"
    second.close()


def test_rotation_puts_every_value_under_the_new_first_key(path: Path) -> None:
    """After the rotation, the old key can be thrown away; types and values stay."""
    old = TokenStorage(path, TokenCipher((OLD,)))
    old.put("A", "one")
    old.put("B", "two", "uuid")
    old.close()

    both = TokenStorage(path, TokenCipher((NEW, OLD)))
    assert both.rotate_keys() == 2
    both.close()

    new = TokenStorage(path, TokenCipher((NEW,)))
    assert (new.get("A"), new.get("B"), new.keys("uuid")) == ("one", "two", ["B"])
    new.close()


def test_rotation_changes_nothing_when_one_value_opens_with_no_key(path: Path) -> None:
    """One foreign value refuses the whole rotation: no half of the table is under the new key."""
    for key, name in ((OLD, "A"), (LOST, "B"), (OLD, "C")):
        storage = TokenStorage(path, TokenCipher((key,)))
        storage.put(name, "value")
        storage.close()
    before = stored_values(path)

    both = TokenStorage(path, TokenCipher((NEW, OLD)))
    with pytest.raises(CipherError):
        both.rotate_keys()
    both.put("D", "still works")
    both.close()

    assert {key: value for key, value in stored_values(path).items() if key != "D"} == before


def test_a_value_under_a_lost_key_is_an_error_and_not_nothing(path: Path) -> None:
    """A value that cannot be decrypted raises, so that nobody takes it for absent."""
    lost = TokenStorage(path, TokenCipher((LOST,)))
    lost.put("A", "one")
    lost.close()

    storage = TokenStorage(path, TokenCipher((NEW,)))
    with pytest.raises(CipherError):
        storage.get("A")
    storage.close()


def test_a_database_of_plain_sqlite_is_taken_over(path: Path) -> None:
    """A rollback-journal database with the same table, made by other code, works and is kept."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute(CREATE)
        connection.execute(
            "INSERT INTO tokens VALUES ('A', ?, 'token')", (TokenCipher((OLD,)).encrypt("one"),)
        )
        connection.commit()

    storage = TokenStorage(path, TokenCipher((NEW, OLD)))
    storage.put("B", "two")

    assert (storage.get("A"), storage.get("B"), storage.keys()) == ("one", "two", ["A", "B"])
    storage.close()
    assert set(stored_values(path)) == {"A", "B"}


def test_threads_and_processes_lose_nothing(storage: TokenStorage, path: Path) -> None:
    """Four threads here and three more processes write at once; every value is there."""
    program = (
        "import sys; from pathlib import Path; from shared.databases.cipher import TokenCipher;"
        "from shared.databases.tokens import TokenStorage;"
        "storage = TokenStorage(Path(sys.argv[1]), TokenCipher((sys.argv[2],)));"
        "[storage.put(f'{sys.argv[3]}-{number:02}', sys.argv[3]) for number in range(40)];"
        "storage.close()"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path), NEW, f"process-{number}"], cwd=ROOT
        )
        for number in range(3)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: storage.put(f"thread-{number:02}", "thread"), range(40)))

    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    expected = {
        f"{who}-{number:02}": who
        for who in ("process-0", "process-1", "process-2")
        for number in range(40)
    }
    expected |= {f"thread-{number:02}": "thread" for number in range(40)}
    keys = storage.keys()
    assert {key: storage.get(key) for key in keys} == expected
