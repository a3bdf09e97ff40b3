"""What a document was is kept for 30 days, twice a day at most, and goes with its account."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.errors import ObjectMissing, StoreError
from shared.merchants.documents import MerchantData
from shared.merchants.history.versions import KEPT_DAYS, Version
from shared.store.directory import DirectoryStore
from tests.support.app_process import AppProcess
from tests.support.clock import FixedClock
from tests.support.installation import bot_secrets, installation_in
from tests.support.typed import type_in
from tests.support.waiting import eventually

FOLDER = "users/1/facebook/17/"
KEY = f"{FOLDER}conversations/7.json"
FIRST = f"{FOLDER}versions/20261122/conversations/7.json"
CUT = f"{FOLDER}versions/20261122-cut/conversations/7.json"


class Timed(DirectoryStore):
    """A folder whose objects are as old as the clock of the test says; it counts puts."""

    def __init__(self, root: Path, clock: FixedClock) -> None:
        super().__init__(root)
        self.clock = clock
        self.puts = 0

    def put(self, key: str, *args: Any, **named: Any) -> None:
        self.puts += 1
        super().put(key, *args, **named)
        self.date(key)

    def date(self, key: str) -> None:
        """The store received it now."""
        at = self.clock.now().timestamp()
        os.utime(Path(self.location) / key, (at, at))


@pytest.fixture
def clock() -> FixedClock:
    """It is midnight."""
    return FixedClock()


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Timed:
    """An empty folder."""
    return Timed(tmp_path / "store", clock)


@pytest.fixture
def data(store: Timed, clock: FixedClock) -> MerchantData:
    """Documents in it."""
    return MerchantData(store, clock)


def write(data: MerchantData, document: Any) -> None:
    """Put a document in the place of what is there."""
    data.change(KEY, lambda _: document, keep_versions=True)


def add(data: MerchantData, message: int) -> None:
    """Somebody says something."""
    data.change(KEY, lambda before: [*(before or []), message], keep_versions=True)


def versions(data: MerchantData) -> list[str]:
    """The keys of all versions."""
    return [version.key for version, _ in data.versions.found()]


def test_what_was_there_before_the_first_change_of_a_day_is_kept(
    data: MerchantData, clock: FixedClock
) -> None:
    """Not before the document was there, nor for what does not change it."""
    add(data, 1)
    write(data, [1])
    assert versions(data) == []

    add(data, 2)
    add(data, 3)
    clock.advance(days=1)
    add(data, 4)

    next_day = FIRST.replace("20261122", "20261123")
    assert versions(data) == [FIRST, next_day]
    assert [data.read(key) for key in versions(data)] == [[1], [1, 2, 3]]


@pytest.mark.parametrize("broken", [[], {}, [1], None])
def test_what_a_change_takes_from_a_document_is_kept(data: MerchantData, broken: Any) -> None:
    """Also where the day has a version already, which lacks what was said since."""
    for message in (1, 2, 3):
        add(data, message)

    write(data, broken)

    assert versions(data) == [CUT, FIRST]
    assert data.read(CUT) == [1, 2, 3]


@pytest.mark.parametrize("body", [b"", b"[1,2,", b"\xff"])
def test_what_cannot_be_read_is_kept_as_it_is(
    data: MerchantData, store: Timed, body: bytes
) -> None:
    """Its bytes may be all that there is of a conversation."""
    add(data, 1)
    add(data, 2)
    store.replace(KEY, body)

    write(data, [4, 5, 6])

    assert (Path(store.location) / CUT).read_bytes() == body


def test_versions_do_not_grow_with_the_messages(
    data: MerchantData, store: Timed, clock: FixedClock
) -> None:
    """Fifty messages a day for 45 days: one put and one version a day, none after 30 days."""
    for day in range(45):
        for message in range(50):
            add(data, 50 * day + message)
        data.versions.expire()
        clock.advance(days=1)

    assert store.puts == 45
    assert len(versions(data)) == KEPT_DAYS + 1
    assert len(data.read(KEY)) == 45 * 50

    write(data, [])
    for message in range(50):
        write(data, [message] * (message % 7))
    assert len([key for key in versions(data) if "20270106" in key]) == 2


def test_another_process_takes_what_it_finds_for_kept(
    data: MerchantData, store: Timed, clock: FixedClock
) -> None:
    """After a restart on the same day, no version of the day is replaced."""
    add(data, 1)
    add(data, 2)

    add(MerchantData(store, clock), 3)

    assert versions(data) == [FIRST]
    assert data.read(FIRST) == [1]


def test_nothing_is_replaced_where_no_version_can_be_kept(
    tmp_path: Path, clock: FixedClock
) -> None:
    """The error comes out, and the document is as it was."""

    class Full(DirectoryStore):
        def put(self, *_args: Any, **_named: Any) -> None:
            raise StoreError("the disk is full")

    data = MerchantData(Full(tmp_path / "store"), clock)
    add(data, 1)

    with pytest.raises(StoreError):
        write(data, [])

    assert data.read(KEY) == [1]


def test_what_deletes_an_account_deletes_its_versions(data: MerchantData, store: Timed) -> None:
    """At once; and what is stored on the same day after it has versions again."""
    for message in (1, 2, 3):
        add(data, message)
    write(data, [])

    data.remove_all(FOLDER)

    assert list(store.list("users/")) == []
    add(data, 4)
    add(data, 5)
    assert versions(data) == [FIRST]
    assert data.read(FIRST) == [4]


def test_the_time_of_the_store_says_how_old_a_version_is(
    data: MerchantData, store: Timed, clock: FixedClock
) -> None:
    """Not its name: one that a host with a wrong clock has made goes after 30 days, too."""
    wrong = KEY.replace("conversations", "versions/20991231/conversations")
    store.replace(wrong, b"[]")
    store.replace(KEY, b"[]")
    for key in (wrong, KEY):
        store.date(key)

    clock.advance(days=KEPT_DAYS)
    assert data.versions.expire() == 0
    clock.advance(seconds=1)
    assert data.versions.expire() == 1
    assert [one.key for one in store.list("users/")] == [KEY]


def test_only_a_version_that_is_there_is_brought_back(data: MerchantData) -> None:
    """A document, a key of something else and a version that is gone are refused."""
    add(data, 1)
    add(data, 2)
    assert data.versions.request(FIRST)[0].document == KEY

    for key in (KEY, "backups/tokens.db", CUT, f"{FOLDER}versions/x/7.json"):
        with pytest.raises(ObjectMissing):
            data.versions.request(key)


def test_a_version_knows_what_it_is_a_version_of() -> None:
    """By its key."""
    assert Version.of_key(CUT) == Version(CUT, KEY, "facebook", "17")
    assert Version.of_key(FIRST) == Version(FIRST, KEY, "facebook", "17")
    assert Version.of_key(KEY) is None


def test_the_app_deletes_old_versions(tmp_path: Path) -> None:
    """With its polling, whatever platform is set up; younger ones and documents stay."""
    installation = installation_in(tmp_path, **bot_secrets())
    root = installation.folder / "data" / "spaces"
    for key, days in ((KEY, 400), (FIRST, KEPT_DAYS + 1), (CUT, KEPT_DAYS - 1)):
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([key]))
        at = time.time() - timedelta(days=days).total_seconds()
        os.utime(path, (at, at))

    app = AppProcess.start(installation)
    try:
        eventually(lambda: not (root / FIRST).exists(), "the old version to be deleted")
    finally:
        app.stop()

    assert (root / KEY).exists()
    assert (root / CUT).exists()


def test_a_host_without_versions_or_inbox_says_so(tmp_path: Path) -> None:
    """Nothing is made by the commands: a path may be wrong."""
    installation = installation_in(tmp_path)
    path = installation.folder / "data" / "spaces" / FIRST

    none = type_in(installation, "./bot shared versions list")
    path.parent.mkdir(parents=True)
    path.write_text("[]")
    one = type_in(installation, "./bot shared versions list /17/")
    other = type_in(installation, "./bot shared versions list /18/")
    back = type_in(installation, f"./bot shared versions bring-back {FIRST}")

    assert (none.returncode, none.stdout) == (0, "There is no such version.\n")
    assert one.stdout == f"{FIRST}  2 bytes\n"
    assert other.stdout == none.stdout
    assert back.returncode == 1
    assert "inbox.db is missing" in back.stderr
    assert not (installation.folder / "data" / "inbox.db").exists()
