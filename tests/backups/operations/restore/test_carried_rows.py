"""What a restore of an older point does not take back: the requests of the bot's `tokens.db`."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shared.databases.cipher import TokenCipher
from shared.databases.requests import Request
from shared.databases.tokens import TokenStorage
from shared.errors import DatabaseCorrupt
from tests.support.bench import Bench, open_bench
from tests.support.clock import MIDNIGHT
from tests.support.generations import bring_into
from tests.support.installation import TOKEN_ENCRYPTION_KEY
from tests.support.older_tokens import set_version, version_of, write_older_tokens
from tests.support.waiting import eventually

CIPHER = TokenCipher((TOKEN_ENCRYPTION_KEY,))
REDACT = Request("shopify", "w-1", "a.myshopify.com", "shop/redact", "2026-11-22T00:00:00Z")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An installation with both databases."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        yield bench


def ask(bench: Bench, request: Request = REDACT, *, done: bool = False) -> None:
    """A request comes, as the app keeps it."""
    with closing(TokenStorage(bench.tokens, CIPHER)) as storage:
        storage.requests.add(request)
        if done:
            storage.requests.finish(request.provider, [request.request_id], MIDNIGHT)


def waiting(bench: Bench) -> list[Request]:
    """What the app is to do."""
    with closing(TokenStorage(bench.tokens, CIPHER)) as storage:
        return storage.requests.waiting()


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_point_of_any_version_gets_the_later_requests(bench: Bench, version: int) -> None:
    """It serves the app, and what is made of it can be restored in its turn."""
    if version < 3:
        bring_into("missing", bench.tokens)
        write_older_tokens(bench.tokens, CIPHER, {"genset-1": "a", "genset-2": "b"})
    set_version(bench.tokens, version)
    made = bench.made()
    bring_into("missing", bench.tokens)
    bench.write("genlive")
    ask(bench, done=True)
    bench.restored(made.id)
    assert version_of(bench.tokens) == (4 if version == 3 else version), "as the app migrates it"
    assert bench.generations()["tokens"] == "genset"
    assert waiting(bench) == [REDACT]
    again = bench.made()
    bench.restored(again.id)
    assert waiting(bench) == [REDACT]


def test_what_the_point_has_done_stays_done(bench: Bench) -> None:
    """Its work is in the other rows of the point; an undo brings back what was there, exactly."""
    ask(bench, done=True)
    made = bench.made()
    later = Request("shopify", "w-2", "b.myshopify.com", "shop/redact", "2026-11-22T00:00:01Z")
    ask(bench, later, done=True)
    before = rows(bench.tokens)
    bench.restored(made.id)
    assert waiting(bench) == [later]
    bench.undo()
    assert rows(bench.tokens) == before
    assert waiting(bench) == []


def test_no_request_is_lost_in_the_moment_of_the_switch(bench: Bench) -> None:
    """The app keeps requests while its file is replaced: each of them is there after it."""
    made = bench.made()
    stopping, kept = threading.Event(), list[str]()

    def keep_asking() -> None:
        with closing(TokenStorage(bench.tokens, CIPHER)) as storage:
            for number in itertools.count():
                if stopping.is_set():
                    return
                storage.requests.add(Request("shopify", f"w-{number}", "a", "t", "2026"))
                kept.append(f"w-{number}")

    writer = threading.Thread(target=keep_asking)
    writer.start()
    try:
        for turn in range(5):
            eventually(lambda: len(kept) > 5 * turn, "requests to come")  # noqa: B023 - called here
            bench.restored(made.id)
    finally:
        stopping.set()
        writer.join()
    assert {one.request_id for one in waiting(bench)} == set(kept)


def test_what_cannot_be_carried_over_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The data comes back, and the log names what may be missing."""

    def fail(_former: Path, _coming: Path, _own: object) -> int:
        raise DatabaseCorrupt("the requests are damaged")

    monkeypatch.setattr("backups.wiring.carry_over", fail)
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        made = bench.made()
        bench.write("genlive")
        bench.restored(made.id)
        assert bench.generations()["tokens"] == "genset"
    assert "not carried over into it: the requests are damaged" in caplog.text


def test_one_source_alone_carries_only_its_own(bench: Bench) -> None:
    """A restore of the sessions leaves `tokens.db` as it is."""
    made = bench.made()
    ask(bench)
    before = bench.tokens.read_bytes()
    bench.restored(made.id, only="sessions")
    assert bench.tokens.read_bytes() == before


def rows(path: Path) -> list[tuple[object, ...]]:
    """All requests of a file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT * FROM requests ORDER BY request_id").fetchall()
