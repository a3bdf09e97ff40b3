"""What the app needs of each platform: its connections, its polling, the work on its events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.clock import Clock
from shared.databases.tokens import TokenStorage
from shared.merchants.documents import MerchantData
from shared.merchants.http_client import Outbound
from shared.merchants.inbox import Inbox, Provider, WaitingEvent
from shared.merchants.login_state import StateTokens
from shared.merchants.marks import Marks, Reconnect


@dataclass(frozen=True)
class Workplace:
    """What the work for merchants is done with; both platforms share it."""

    tokens: TokenStorage
    inbox: Inbox
    marks: Marks
    data: MerchantData
    outbound: Outbound
    states: StateTokens
    clock: Clock


@dataclass(frozen=True)
class Connection:
    """A shop or a Page of a user; `reconnect` says why its token no longer works, if so."""

    provider: Provider
    account: str
    reconnect: Reconnect | None


class Platform(Protocol):
    """One platform, set up or not. Methods raise `AppError`."""

    @property
    def provider(self) -> Provider:
        """Its name."""

    def connections(self, user: str) -> list[Connection]:
        """What the user with this UUID has connected, in order."""

    def accounts(self) -> list[str]:
        """All accounts that can be polled, whoever owns them."""

    def poll(self, account: str) -> None:
        """Bring the stored documents of an account up to date."""

    def handle(self, account: str, events: Sequence[WaitingEvent]) -> None:
        """Do the work of events of one account; running it again does no harm."""
