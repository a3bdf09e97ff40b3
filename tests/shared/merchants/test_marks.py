"""The small facts beside the inbox."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from shared.databases.engines.database import Database
from shared.merchants.inbox import open_inbox
from shared.merchants.marks import Marks, Reconnect
from tests.support.clock import MIDNIGHT, FixedClock

IN_TEN_MINUTES = MIDNIGHT + timedelta(minutes=10)


@pytest.fixture
def clock() -> FixedClock:
    """The time, which stands still."""
    return FixedClock()


@pytest.fixture
def marks(inbox_database: Database, clock: FixedClock) -> Marks:
    """No marks yet."""
    return Marks(inbox_database, clock)


def test_a_login_state_is_used_once(marks: Marks, tmp_path: Path, clock: FixedClock) -> None:
    """Also by many at once, and also in the next process."""
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: marks.use_state("nonce", IN_TEN_MINUTES), range(8)))

    assert sorted(taken) == [False] * 7 + [True]
    with closing(open_inbox(tmp_path / "inbox.db")) as database:
        assert Marks(database, clock).use_state("nonce", IN_TEN_MINUTES) is False


def test_a_used_state_is_remembered_until_it_is_too_old(marks: Marks, clock: FixedClock) -> None:
    """It may not be forgotten while its signature is still good."""
    marks.use_state("nonce", IN_TEN_MINUTES)

    clock.advance(minutes=10)
    assert marks.use_state("other", IN_TEN_MINUTES) is True
    assert marks.use_state("nonce", IN_TEN_MINUTES) is False


def test_an_account_is_marked_once(marks: Marks, clock: FixedClock) -> None:
    """With the first reason and time, so that it is logged once; platforms are apart."""
    assert marks.mark_reconnect("shopify", "a", "expired") is True
    clock.advance(hours=1)
    assert marks.mark_reconnect("shopify", "a", "expired again") is False
    assert marks.mark_reconnect("facebook", "a", "revoked") is True

    assert marks.reconnects("shopify") == {"a": Reconnect("expired", MIDNIGHT)}
    marks.clear_reconnect("shopify", "a")
    marks.clear_reconnect("shopify", "a")
    assert marks.reconnects("shopify") == {}
    assert list(marks.reconnects("facebook")) == ["a"]


def test_who_asks_during_a_polling_gets_another_one(marks: Marks, clock: FixedClock) -> None:
    """What was asked for before it began is done with it, and nothing later."""
    marks.ask_for_sync()
    began_at = clock.advance(seconds=1)
    clock.advance(seconds=1)
    marks.ask_for_sync()

    marks.note_sync(began_at)

    assert marks.last_sync() == began_at
    assert marks.sync_is_wanted()
    marks.note_sync(clock.now())
    assert not marks.sync_is_wanted()
