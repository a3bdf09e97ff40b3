"""What a deletion removes is not written again by work that had begun before it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from cryptography.fernet import Fernet

from facebook_integration.models import GrantedPage, Grantor
from facebook_integration.pages import Pages
from facebook_integration.sync import PERSON, PageSync
from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from shared.merchants.documents import MerchantData
from shared.merchants.inbox import DATA_DELETION, Event, WaitingEvent, open_inbox
from shared.merchants.marks import Marks
from shared.store.directory import DirectoryStore
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
