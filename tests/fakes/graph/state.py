"""`World`: what the stand-in knows of the app, its user, the Pages, the tokens, the talk."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.fakes.asked import Call, Json
from tests.fakes.faults import Faults

VERSION = "v26.0"
LONG_LIVED_SECONDS = 5_183_944  # about sixty days
SHORT_LIVED_SECONDS = 5_400
CODE_SECONDS = 600

USAGE = {"x-app-usage": '{"call_count":1,"total_cputime":0,"total_time":1}'}

SCOPES = {
    "public_profile",
    "email",
    "business_management",
    "pages_show_list",
    "pages_manage_metadata",
    "pages_messaging",
    "pages_read_engagement",
    "pages_utility_messaging",
}


def digits(count: int) -> str:
    """A random number without a leading zero, as the platform's ids are."""
    return str(secrets.randbelow(9 * 10 ** (count - 1)) + 10 ** (count - 1))


@dataclass(frozen=True)
class Message:
    """One message of a conversation; the same `mid` by webhook and by polling."""

    mid: str
    at: int  # milliseconds since 1970
    from_page: bool
    text: str | None
    attachments: list[Json] = field(default_factory=list)
    by_app: bool = False  # sent through the Send API, not by a person in the inbox
    edits: int = 0


@dataclass
class Conversation:
    """A Page's talk with one customer."""

    id: str
    customer: str
    customer_name: str
    without: str | None = None  # a field that is null where it is listed
    elsewhere: bool = False  # another app owns the thread
    messages: dict[str, Message] = field(default_factory=dict)

    def newest_first(self) -> list[Message]:
        """The messages in the order in which the API lists them."""
        return sorted(self.messages.values(), key=lambda one: (one.at, one.mid), reverse=True)

    @property
    def updated(self) -> int:
        """When the last message came, in milliseconds."""
        return max((one.at for one in self.messages.values()), default=0)


@dataclass
class Page:
    """A Facebook Page; `values` are its metadata fields."""

    id: str
    values: Json
    subscribed: list[str] | None = None
    conversations: dict[str, Conversation] = field(default_factory=dict)  # by customer
    sent: list[Json] = field(default_factory=list)
    business: str | None = None  # the Business Portfolio that holds it
    client: bool = False  # shared with the portfolio, not owned by it
    withheld: bool = False  # the user has no task on it that gives a token


@dataclass
class Token:
    """An access token, and why it is no longer good, if so."""

    value: str
    login: int
    user: str
    scopes: list[str]
    page: str | None = None
    pages: list[str] = field(default_factory=list)  # those a user token may list
    chosen: bool = False  # one by one, and not "all current and future Pages"
    expires: float | None = None
    long_lived: bool = False
    foreign: bool = False
    issued: float = field(default_factory=time.time)
    dead: tuple[int, str] | None = None  # subcode and message
    calls_left: int | None = None  # it expires after so many more


@dataclass
class Code:
    """What the dialog hands to the redirect address: good once, for the same address."""

    value: str
    redirect_uri: str
    scopes: list[str]
    pages: list[str]
    chosen: bool
    login: int
    user: str
    expires: float
    used: bool = False


@dataclass
class Paging:
    """How lists are cut into pages of results."""

    size: int | None = None
    empty_page_after: int | None = None  # an empty page follows so many pages
    next_host: str | None = None  # another scheme and host in `paging.next`
    endless: bool = False  # `paging.next` leads to the same page for ever


@dataclass
class World:
    """Everything; one per process, changed only between awaits."""

    base_url: str
    app_id: str = field(default_factory=lambda: digits(15))
    app_secret: str = field(default_factory=lambda: secrets.token_hex(16))
    verify_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    user_id: str = field(default_factory=lambda: digits(17))
    user_name: str = "Mara Händler"
    redirect_uris: set[str] = field(default_factory=set)
    addresses: dict[str, str] = field(default_factory=dict)  # webhook, deauthorize, deletion
    pages: dict[str, Page] = field(default_factory=dict)
    businesses: dict[str, str] = field(default_factory=dict)  # Business Portfolios: id and name
    configs: dict[str, list[str]] = field(default_factory=dict)  # of Login for Business: scopes
    granted: list[str] | None = None  # None: all Pages
    declined: set[str] = field(default_factory=set)
    denials: int = 0
    omit_expires_in: bool = False
    logins: int = 0
    codes: dict[str, Code] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    paging: Paging = field(default_factory=Paging)
    usage: dict[str, str] = field(default_factory=lambda: dict(USAGE))  # headers of each answer
    most_conversations: int | None = None  # a longer list is too much data (error 1)
    listed_at: dict[str, list[float]] = field(default_factory=dict)  # by Page: of conversations
    reads: dict[str, list[str]] = field(default_factory=dict)  # by Page: customers, as listed
    faults: Faults = field(default_factory=Faults)
    calls: list[Call] = field(default_factory=list)

    @property
    def app_token(self) -> str:
        """The token of the app itself."""
        return f"{self.app_id}|{self.app_secret}"

    def proof(self, token: str) -> str:
        """The `appsecret_proof` of a token."""
        return hmac.new(self.app_secret.encode(), token.encode(), hashlib.sha256).hexdigest()

    def page(self, page_id: str) -> Page:
        """A Page that exists; raises `KeyError`."""
        return self.pages[page_id]

    def granted_pages(self) -> list[str]:
        """The Pages that the user ticks in the dialog."""
        return list(self.pages) if self.granted is None else list(self.granted)

    def mint(self, **details: object) -> Token:
        """A new token."""
        token = Token(value=f"EAA{secrets.token_urlsafe(48)}".replace("-", "Z"), **details)  # type: ignore[arg-type]
        self.tokens[token.value] = token
        return token

    def page_token(self, page_id: str, user: Token) -> Token:
        """The Page's token under this login; the same one as long as it is good."""
        for known in self._page_tokens(page_id):
            same = known.login == user.login and known.long_lived == user.long_lived
            if same and not known.dead:
                return known
        return self.mint(
            login=user.login,
            user=user.user,
            scopes=user.scopes,
            page=page_id,
            long_lived=user.long_lived,
            expires=None if user.long_lived else user.expires,
        )

    def newest_page_token(self, page_id: str) -> Token | None:
        """The good token of a Page that was issued last."""
        good = [one for one in self._page_tokens(page_id) if not one.dead]
        return good[-1] if good else None

    def kill(self, tokens: Iterable[Token], subcode: int, message: str) -> int:
        """Make good tokens bad; how many."""
        hit = [one for one in tokens if not one.dead]
        for one in hit:
            one.dead = (subcode, message)
        return len(hit)

    def kill_page_tokens(self, page_id: str, subcode: int, message: str) -> int:
        """Make every token of a Page bad; how many were good."""
        self.page(page_id)
        return self.kill(self._page_tokens(page_id), subcode, message)

    def _page_tokens(self, page_id: str) -> list[Token]:
        return [one for one in self.tokens.values() if one.page == page_id]
