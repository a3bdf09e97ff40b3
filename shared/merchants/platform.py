"""What a platform's package gives the app: its definition, and the platform once it is set up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import APIRouter, Request

from shared.clock import Clock
from shared.databases.tokens import Fits, TokenStorage
from shared.merchants.browser_sessions import BrowserSessions
from shared.merchants.documents import MerchantData
from shared.merchants.http_client import Outbound
from shared.merchants.inbox import Event, Inbox, Provider, WaitingEvent
from shared.merchants.login_state import StateTokens
from shared.merchants.marks import Marks, Reconnect
from shared.merchants.protected.requests import ProtectedRequests
from shared.settings.platforms import ReadPlatform
from shared.web.problem_handlers import StatusTable


@dataclass(frozen=True)
class Workplace:
    """What the work for merchants is done with; all platforms share it."""

    tokens: TokenStorage
    inbox: Inbox
    requests: ProtectedRequests
    marks: Marks
    data: MerchantData
    outbound: Outbound
    states: StateTokens
    clock: Clock


@dataclass(frozen=True)
class Connection:
    """An account of a user; `reconnect` says why its token no longer works, if so.

    `unavailable` says why the account itself cannot be used, which no login changes.
    """

    provider: Provider
    account: str
    reconnect: Reconnect | None
    unavailable: Reconnect | None = None


class Platform(Protocol):
    """One platform, set up or not. Methods raise `AppError`."""

    @property
    def provider(self) -> Provider:
        """Its name."""

    def connections(self, user: str) -> list[Connection]:
        """What the user with this UUID has connected, in order."""

    def owner(self, account: str) -> str | None:
        """The UUID of the user of an account; None where it has none."""

    def accounts(self) -> list[str]:
        """All accounts that can be polled, whoever owns them."""

    def poll(self, account: str) -> None:
        """Bring the stored documents of an account up to date."""

    def lane(self, event: Event) -> str:
        """What of its account an event is about: a conversation, a document.

        Events of one lane are handled in order; those of two have nothing to do with each other.
        """

    def handle(self, account: str, events: Sequence[WaitingEvent]) -> None:
        """Do the work of events of one lane of an account; running it again does no harm.

        It may run at the same time for other accounts.
        """


@dataclass(frozen=True)
class FrontEntry:
    """What the front page shows of a platform; `form` and `about` are HTML and text of it.

    `accounts` is the name of its list in the JSON document, `title` the heading on the page.
    `connect` is the next step while nothing is connected, and `again` gives the path where an
    account is connected again. Of the first platform, `set_up` is the next step while it has no
    settings, and `begin` what the page says before anything is connected.
    """

    accounts: str
    title: str
    about: str
    set_up: str
    connect: str
    begin: str
    form: str
    again: Callable[[str], str]


def _fits_any(_key: str, _value: str) -> bool:
    return True


@dataclass(frozen=True)
class PlatformDefinition:
    """One platform: all that the app, the logs and the settings have to know of it.

    `package` is the name of its package and logger, `secret_names` are the fields (regular
    expressions) that no log may show, `statuses` its own refusals. `build` takes its settings,
    as `read_settings` made them, and gives what its routes work with (`interface_of`) and the
    platform behind them. `fits` says whether a value can be that of a row of `tokens.db` with this
    key; of keys that are not its own it says so of every value.
    """

    name: Provider
    package: str
    read_settings: ReadPlatform
    routes: Callable[[], APIRouter]
    build: Callable[[Any, Workplace, BrowserSessions], tuple[object, Platform]]
    front: FrontEntry
    statuses: StatusTable = ()
    secret_names: tuple[str, ...] = ()
    fits: Fits = _fits_any


def interface_of(request: Request, name: Provider) -> Any:
    """What the routes of this platform work with, or None while it is not set up."""
    return request.app.state.interfaces.get(name)
