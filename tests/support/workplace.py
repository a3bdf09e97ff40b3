"""`workplace`: what the work for merchants is done with, without the rest of the app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cryptography.fernet import Fernet

from shared.clock import Clock
from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from shared.merchants.documents import MerchantData
from shared.merchants.http_client import Outbound
from shared.merchants.inbox import Inbox, open_inbox
from shared.merchants.login_state import StateTokens
from shared.merchants.marks import Marks
from shared.merchants.platform import Workplace
from shared.merchants.protected.requests import ProtectedRequests
from shared.store.directory import DirectoryStore


@contextmanager
def workplace(folder: Path, clock: Clock) -> Iterator[tuple[Workplace, DirectoryStore]]:
    """With everything real in a folder but the clock, and the store of its documents."""
    cipher = TokenCipher((Fernet.generate_key().decode(),))
    with (
        closing(Outbound()) as outbound,
        closing(open_inbox(folder / "inbox.db")) as database,
        closing(TokenStorage(folder / "tokens.db", cipher)) as tokens,
    ):
        marks, store = Marks(database, clock), DirectoryStore(folder / "store")
        place = Workplace(
            tokens=tokens,
            inbox=(inbox := Inbox(database, clock)),
            requests=ProtectedRequests(tokens.requests, inbox, clock),
            marks=marks,
            data=MerchantData(store, clock),
            outbound=outbound,
            states=StateTokens("secret", marks.use_state, clock),
            clock=clock,
        )
        yield place, store
