"""Binding the values of an older `tokens.db`: after a backup, in small steps, until all are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet

from shared.databases.binder import TokenBinder
from shared.databases.cipher import TokenCipher
from shared.databases.sqlite import Database
from shared.databases.tokens import BEFORE_ALL, MIGRATIONS, ROWS_AT_ONCE, TokenStorage
from shared.errors import AppError, DatabaseSchemaMismatch, StoreUnreachable, ValueUnreadable
from tests.support.databases import connect
from tests.support.older_tokens import (
    bound_rows,
    put_older,
    set_version,
    version_of,
    write_older_tokens,
)

KEY, OTHER_KEY = (Fernet.generate_key().decode() for _ in range(2))
CIPHER = TokenCipher((KEY,))
VALUES = {f"TOKEN_{number:04}": f"token of {number}" for number in range(250)}


def always(_key: str, _value: str) -> bool:
    """Every value fits."""
    return True


@dataclass
class Host:
    """An older `tokens.db`, opened by the app; `outcome` is how the backup before it goes."""

    path: Path
    storage: TokenStorage
    outcome: bool | AppError = True
    protected: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def protect(self) -> bool:
        """The backup, which sees the file as it is then."""
        self.protected.append(version_of(self.path))
        if isinstance(self.outcome, AppError):
            raise self.outcome
        return self.outcome

    def binder(self) -> TokenBinder:
        """What a start of the app makes."""
        return TokenBinder(self.storage, always, self.protect, lambda: self.seconds)

    def values(self) -> dict[str, str | None]:
        """All that the app reads."""
        return {key: self.storage.get(key) for key in VALUES}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """250 values of the version before."""
    path = write_older_tokens(tmp_path / "tokens.db", CIPHER, VALUES)
    with closing(TokenStorage(path, CIPHER)) as storage:
        yield Host(path, storage)


def test_all_values_are_bound_after_one_backup(host: Host) -> None:
    """It saw the old form; afterwards each row has its value, and nothing is left to do."""
    binder = host.binder()
    binder.work()
    assert (version_of(host.path), bound_rows(host.path, CIPHER)) == (4, 250)
    assert host.values() == VALUES
    binder.work()
    assert host.protected == [1]


@pytest.mark.parametrize("outcome", [False, StoreUnreachable("the store does not answer")])
def test_without_a_backup_nothing_is_changed(host: Host, outcome: bool | AppError) -> None:
    """The app goes on in the old form, and tries again later."""
    host.outcome = outcome
    binder = host.binder()
    binder.work()
    binder.work()
    assert len(host.protected) == 1  # it waits
    host.storage.put("C", "in the old form")
    assert (version_of(host.path), bound_rows(host.path, CIPHER)) == (1, 0)
    assert host.values() == VALUES
    host.outcome = True
    host.seconds += 901
    binder.work()
    assert (version_of(host.path), bound_rows(host.path, CIPHER)) == (4, 251)


def test_a_store_that_is_away_is_logged_once(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """Each try asks it again, at most once a minute in the end."""
    host.outcome = StoreUnreachable("the store does not answer", "Check the network.")
    binder = host.binder()
    for _ in range(3600):
        binder.work()
        host.seconds += 1
    assert 60 <= len(host.protected) <= 70
    assert caplog.text.count("the store does not answer [store_unreachable] Check the network") == 1


def test_a_transaction_has_a_hundred_values(host: Host) -> None:
    """The first one makes older versions refuse the file, by name; only the last one ends it."""
    _, content = host.storage.state()
    first = host.storage.bind_next(content, BEFORE_ALL, always, begins=True, ends=True)
    assert first is not None
    assert (version_of(host.path), bound_rows(host.path, CIPHER)) == (2, ROWS_AT_ONCE)
    assert host.values() == VALUES
    with pytest.raises(DatabaseSchemaMismatch, match=r"tokens\.db has schema version 2"):
        Database(host.path, MIGRATIONS[:1])
    second = host.storage.bind_next(content, first.last_rowid, always, begins=False, ends=True)
    assert second is not None
    assert (version_of(host.path), bound_rows(host.path, CIPHER)) == (2, 200)
    last = host.storage.bind_next(content, second.last_rowid, always, begins=False, ends=True)
    assert last is not None
    assert last.is_last
    assert (version_of(host.path), bound_rows(host.path, CIPHER)) == (4, 250)


def test_what_was_begun_is_finished_without_another_backup(host: Host) -> None:
    """The next process goes on, whatever was bound before."""
    _, content = host.storage.state()
    host.storage.bind_next(content, BEFORE_ALL, always, begins=True, ends=True)
    host.outcome = False
    host.binder().work()
    assert host.protected == []
    assert (version_of(host.path), bound_rows(host.path, CIPHER)) == (4, 250)
    assert host.values() == VALUES


def restore(path: Path, folder: Path, values: dict[str, str], version: int) -> None:
    """Bring other content into the place of a live database, as a restore does."""
    other = write_older_tokens(folder / "other.db", CIPHER, values)
    set_version(other, version)
    with closing(connect(other)) as source, closing(connect(path)) as target:
        source.execute("PRAGMA journal_mode=DELETE")
        source.backup(target)


def test_an_older_set_that_is_restored_meanwhile_is_protected_first(
    host: Host, tmp_path: Path
) -> None:
    """Not one of its values is changed before it has a backup of its own."""
    _, content = host.storage.state()
    first = host.storage.bind_next(content, BEFORE_ALL, always, begins=True, ends=True)
    assert first is not None
    restore(host.path, tmp_path / "set", VALUES, 1)
    following = host.storage.bind_next(content, first.last_rowid, always, begins=False, ends=True)
    assert following is None
    assert (version_of(host.path), bound_rows(host.path, CIPHER)) == (1, 0)
    host.binder().work()
    assert (host.protected, version_of(host.path)) == ([1], 4)
    assert host.values() == VALUES


def test_a_set_from_the_middle_that_is_restored_meanwhile_is_bound_from_its_begin(
    host: Host, tmp_path: Path
) -> None:
    """Values that come back behind the rows that were looked at are not forgotten."""
    _, content = host.storage.state()
    first = host.storage.bind_next(content, BEFORE_ALL, always, begins=True, ends=True)
    assert first is not None
    restore(host.path, tmp_path / "set", VALUES, 2)
    assert (
        host.storage.bind_next(content, first.last_rowid, always, begins=False, ends=True) is None
    )
    host.binder().work()
    assert (version_of(host.path), bound_rows(host.path, CIPHER)) == (4, 250)
    assert host.values() == VALUES


def test_another_file_in_its_place_is_protected_first(host: Host, tmp_path: Path) -> None:
    """A restore that moves a file aside puts another one there."""
    _, content = host.storage.state()
    other = write_older_tokens(tmp_path / "set" / "tokens.db", CIPHER, VALUES)
    for end in ("-wal", "-shm"):
        host.path.with_name(host.path.name + end).unlink(missing_ok=True)
    other.rename(host.path)
    assert host.storage.bind_next(content, BEFORE_ALL, always, begins=True, ends=True) is None
    assert version_of(host.path) == 1


def test_a_value_of_a_missing_key_keeps_both_forms(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named, all others are bound, and when its key is back, it is bound as well."""
    put_older(host.path, TokenCipher((OTHER_KEY,)), {"LOST": "it comes back"})
    host.binder().work()
    assert (version_of(host.path), bound_rows(host.path, CIPHER)) == (2, 250)
    assert "1 values of tokens.db cannot be decrypted" in caplog.text
    assert "'LOST'" in caplog.text
    both = TokenCipher((KEY, OTHER_KEY))
    with closing(TokenStorage(host.path, both)) as storage:
        assert storage.get("LOST") == "it comes back"
        TokenBinder(storage, always, host.protect).work()
        assert (version_of(host.path), bound_rows(host.path, both)) == (4, 251)
        assert storage.get("LOST") == "it comes back"


def test_a_value_of_another_kind_stays_unbound(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """A token where a UUID is expected, and what its platform does not accept, become nothing."""
    put_older(host.path, CIPHER, {"UUID_1": str(uuid4()), "UUID_2": "a token", "FOREIGN": "x"})

    def fits(key: str, _value: str) -> bool:
        return key != "FOREIGN"

    with caplog.at_level(logging.ERROR):
        TokenBinder(host.storage, fits, host.protect).work()
    assert (version_of(host.path), bound_rows(host.path, CIPHER)) == (4, 251)
    assert "2 values of tokens.db are not what their rows hold" in caplog.text
    assert "'UUID_2', 'FOREIGN'" in caplog.text
    for key in ("UUID_2", "FOREIGN"):
        with pytest.raises(ValueUnreadable, match=key):
            host.storage.get(key)


def test_writers_lose_nothing_while_values_are_bound(host: Host) -> None:
    """Another connection writes, replaces and deletes all the while."""
    done, written = Event(), list[str]()

    def write() -> None:
        with closing(TokenStorage(host.path, CIPHER)) as other:
            while not done.is_set():
                number = len(written)
                other.put(f"NEW_{number}", f"new {number}")
                other.put(f"TOKEN_{number % 200:04}", f"token of {number % 200}")
                other.delete(f"TOKEN_{200 + number % 50:04}")
                written.append(f"NEW_{number}")
                done.wait(0.002)  # SQLite lets nobody in where one connection never pauses

    writer = Thread(target=write)
    writer.start()
    try:
        while not written:
            assert writer.is_alive()
        host.binder().work()
    finally:
        done.set()
        writer.join()
    assert version_of(host.path) == 4
    rows, unreadable, _ = host.storage.count_readable()
    assert (unreadable, rows) == (0, bound_rows(host.path, CIPHER))
    assert {key: host.storage.get(key) for key in written} == {
        key: f"new {number}" for number, key in enumerate(written)
    }
    for number in range(200):
        assert host.storage.get(f"TOKEN_{number:04}") == f"token of {number}"


def test_it_ends_when_it_is_asked_to(host: Host) -> None:
    """A process that stops begins nothing more."""
    binder = host.binder()
    binder.stop()
    binder.work()
    assert (host.protected, version_of(host.path)) == ([], 1)
