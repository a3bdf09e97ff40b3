"""Requests on their way through `tokens.db` and the inbox."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared.databases.cipher import TokenCipher
from shared.databases.requests import Request
from shared.databases.tokens import TokenStorage
from shared.merchants.errors import PlatformError
from shared.merchants.inbox import Event, Inbox, WaitingEvent, open_inbox
from shared.merchants.protected.requests import ProtectedRequests
from tests.support.clock import MIDNIGHT, FixedClock
from tests.support.installation import TOKEN_ENCRYPTION_KEY

REDACT = Event("shopify", "w-1", "a.myshopify.com", "shop/redact", '{"email":"a@b.c"}', MIDNIGHT)
ROW = Request("shopify", "w-1", "a.myshopify.com", "shop/redact", "2026-11-22T00:00:00Z")


@dataclass
class Desk:
    """The parts of it."""

    tokens: TokenStorage
    inbox: Inbox
    requests: ProtectedRequests

    def waiting(self) -> list[tuple[str, str]]:
        """The ids and bodies of what waits in the inbox."""
        found = self.inbox.waiting("shopify", "a.myshopify.com", after=0, limit=9)
        return [(one.event.event_id, one.event.body) for one in found]


@dataclass
class Handler:
    """Does the work of events, or fails."""

    fails: bool = False
    handled: list[str] = field(default_factory=list)

    def handle(self, account: str, events: Sequence[WaitingEvent]) -> None:
        """See `Platform.handle`."""
        if self.fails:
            raise PlatformError("the platform is away")
        self.handled += [f"{account} {one.event.topic} {one.event.sent_at}" for one in events]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Both databases, empty."""
    with (
        closing(
            TokenStorage(tmp_path / "tokens.db", TokenCipher((TOKEN_ENCRYPTION_KEY,)))
        ) as tokens,
        closing(open_inbox(tmp_path / "inbox.db")) as database,
    ):
        inbox = Inbox(database, FixedClock())
        yield Desk(tokens, inbox, ProtectedRequests(tokens.requests, inbox, FixedClock()))


def test_a_request_is_one_row_without_its_body(desk: Desk) -> None:
    """Its sender's repeat makes no second one, and whom the body names is in no backup."""
    for _ in range(2):
        asyncio.run(desk.requests.accept(REDACT))
    assert desk.tokens.requests.waiting() == [ROW]
    assert desk.waiting() == [("w-1", REDACT.body)]


def test_a_request_without_a_time_has_that_of_its_arrival(desk: Desk) -> None:
    """So a login that comes later is not ended by it."""
    desk.requests.keep(Event("facebook", "f-1", "person:1", "deauthorize", "{}", None))
    assert desk.tokens.requests.waiting()[0].sent_at == "2026-11-22T00:00:00Z"


def test_what_is_done_waits_in_neither(desk: Desk) -> None:
    """A look at what `tokens.db` has finds nothing to take up."""
    desk.requests.keep(REDACT)
    assert desk.requests.is_done("shopify", "shop/redact", "w-1") is False
    desk.requests.finish("shopify", ["w-1", "no request"])
    desk.inbox.finish([1])
    desk.requests.take_up(["shopify"])
    assert desk.waiting() == []
    assert desk.requests.is_done("shopify", "shop/redact", "w-1") is True


def test_what_the_inbox_lost_or_a_restore_made_undone_is_taken_up(desk: Desk) -> None:
    """Once; what waits there already keeps its attempts and its body."""
    desk.tokens.requests.add(ROW)
    desk.requests.take_up(["facebook"])
    assert desk.waiting() == [], "it waits for the settings of its platform"
    desk.requests.take_up(["shopify"])
    assert desk.waiting() == [("w-1", "{}")]
    desk.inbox.finish([1])
    assert desk.waiting() == []
    desk.requests.take_up(["shopify"])
    assert desk.waiting() == [("w-1", "{}")]
    desk.inbox.postpone([1], 60)
    desk.requests.take_up(["shopify"])
    (event,) = desk.inbox.waiting("shopify", "a.myshopify.com", after=0, limit=9)
    assert (event.attempts, event.not_before > 0) == (1, True)


def test_one_from_before_the_table_is_known_to_the_inbox(desk: Desk) -> None:
    """Meta asks how far a deletion is, also one that an older version kept."""
    desk.inbox.add([REDACT])
    assert desk.requests.is_done("shopify", "shop/redact", "w-1") is False
    assert desk.requests.is_done("shopify", "shop/redact", "w-2") is None


def test_a_start_does_what_waits_before_anything_is_served(desk: Desk) -> None:
    """With the time at which it was sent, so that what it ended before a later login stays so."""
    desk.requests.keep(REDACT)
    handler = Handler()
    desk.requests.do({"facebook": handler})
    assert handler.handled == []
    desk.requests.do({"shopify": handler})
    desk.requests.do({"shopify": handler})
    assert handler.handled == [f"a.myshopify.com shop/redact {MIDNIGHT}"]


def test_what_fails_at_a_start_waits_in_the_inbox(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """The app starts all the same, and tries again."""
    desk.tokens.requests.add(ROW)
    desk.tokens.requests.add(Request("shopify", "w-0", "b.myshopify.com", "shop/redact", "no time"))
    desk.requests.do({"shopify": Handler(fails=True)})
    assert len(desk.tokens.requests.waiting()) == 2
    assert caplog.text.count("a request waits in the inbox") == 2
    desk.requests.take_up(["shopify"])
    assert desk.waiting() == [("w-1", "{}")]


def test_a_damaged_file_keeps_no_app_from_starting(desk: Desk, tmp_path: Path) -> None:
    """It has to serve: status names the damage, and the page has the restore."""
    for path in tmp_path.glob("tokens.db*"):
        path.unlink()
    desk.requests.do({"shopify": Handler()})
