"""What a deletion removes is not written again by work that had begun before it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from cryptography.fernet import Fernet

from facebook_integration.models import GrantedPage, Grantor
from facebook_integration.pages import Pages
from facebook_integration.sync import PERSON, PageSync
from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from shared.merchants.documents import MerchantData
from shared.merchants.history.versions import Version, request_of
from shared.merchants.inbox import DATA_DELETION, Event, WaitingEvent, open_inbox
from shared.merchants.marks import Marks
from shared.store.directory import DirectoryStore
from shared.store.object_store import Sink
from tests.support.clock import MIDNIGHT, FixedClock

USER = str(UUID(int=1))
DELETION = WaitingEvent(1, 0, Event("facebook", "1", f"{PERSON}9", DATA_DELETION, "{}"))


class Slow:
    """A Graph that knows one Page; something happens while it is asked for that."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], None] = lambda: None

    def subscribe(self, page: str, token: str) -> None:
        pass

    def page(self, page: str, token: str) -> dict[str, Any]:
        self.meanwhile()
        return {"id": page, "name": "Käsehaus"}

    def conversations(self, *_: object) -> list[Any]:
        return []


def test_a_polling_does_not_bring_back_what_was_deleted(tmp_path: Path) -> None:
    """The request to delete everything is done while Meta is asked: nothing is stored after it."""
    store, graph, clock = DirectoryStore(tmp_path / "store"), Slow(), FixedClock()
    cipher = TokenCipher((Fernet.generate_key().decode(),))
    with (
        closing(TokenStorage(tmp_path / "tokens.db", cipher)) as tokens,
        closing(open_inbox(tmp_path / "inbox.db")) as database,
    ):
        pages = Pages(tokens, graph)  # type: ignore[arg-type]
        place = SimpleNamespace(
            data=MerchantData(store, clock), marks=Marks(database, clock), clock=clock
        )
        sync = PageSync(pages, graph, place)  # type: ignore[arg-type]
        grantor = Grantor("user-token", USER, ("17",), None, MIDNIGHT)
        pages.connect("9", grantor, [GrantedPage("17", "Käsehaus", "token")])
        sync.poll("17")
        assert len(list(store.list("users/"))) == 1

        graph.meanwhile = lambda: sync.handle(f"{PERSON}9", [DELETION])
        sync.poll("17")

        assert list(store.list("users/")) == []
        assert tokens.keys() == []


class Second:
    """A bucket that has one message of each conversation, in every version."""

    def get(self, _key: str, sink: Sink, *, version: str) -> None:
        sink.write(f'[{{"timestamp": 1, "message": {{"mid": "{version}"}}}}]'.encode())


@pytest.mark.parametrize(
    ("received_at", "comes_back"),
    [
        (MIDNIGHT - timedelta(days=1), False),
        # By a clock that is ahead, or copied while it was being deleted.
        (MIDNIGHT + timedelta(minutes=10), False),
        (MIDNIGHT + timedelta(hours=1), True),
    ],
)
def test_what_was_deleted_on_request_is_not_brought_back(
    tmp_path: Path, received_at: datetime, *, comes_back: bool
) -> None:
    """Also when the same user has connected the Page again; what was said since then is."""
    store, graph, clock = DirectoryStore(tmp_path / "store"), Slow(), FixedClock()
    cipher = TokenCipher((Fernet.generate_key().decode(),))
    with (
        closing(TokenStorage(tmp_path / "tokens.db", cipher)) as tokens,
        closing(open_inbox(tmp_path / "inbox.db")) as database,
    ):
        pages = Pages(tokens, graph)  # type: ignore[arg-type]
        place = SimpleNamespace(
            data=MerchantData(store, clock, Second),  # type: ignore[arg-type]
            marks=Marks(database, clock),
            clock=clock,
        )
        sync = PageSync(pages, graph, place)  # type: ignore[arg-type]
        grantor = Grantor("user-token", USER, ("17",), None, MIDNIGHT)
        pages.connect("9", grantor, [GrantedPage("17", "Käsehaus", "token")])
        sync.handle(f"{PERSON}9", [DELETION])
        pages.connect("9", grantor, [GrantedPage("17", "Käsehaus", "token")])

        key = f"users/{USER}/facebook/17/conversations/7.json"
        version = Version.of_copy(key, "v1", received_at)
        assert version is not None
        sync.handle("17", [WaitingEvent(2, 0, request_of(version, "now"))])

        assert (place.data.read(key) is not None) is comes_back
