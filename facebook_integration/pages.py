"""`Pages`: who owns a Page, its token, and who granted it. All of it is in `TokenStorage`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from facebook_integration.events import is_id
from facebook_integration.graph import Graph
from facebook_integration.models import (
    GrantedPage,
    Grantor,
    grantor_of_text,
    grantor_to_text,
    is_grantor,
)
from shared.databases.binding import is_token, is_uuid
from shared.databases.tokens import TokenStorage
from shared.errors import ValueUnreadable
from shared.merchants.errors import TokenRefused

T = TypeVar("T")

# How the keys in `tokens.db` begin: people's databases have them already.
FACEBOOK_USER_ACCESS_TOKEN = "FACEBOOK_USER_ACCESS_TOKEN"  # noqa: S105 - a key, no token
FACEBOOK_ACCESS_TOKEN = "FACEBOOK_ACCESS_TOKEN_"  # noqa: S105 - how a key begins
PAGE_UUID = "PAGE_UUID_"

_AGAIN = "Connect it again: /facebook/login"


def facebook_access_token_key(page_id: str) -> str:
    """The key of a Facebook Page's access token."""
    return f"{FACEBOOK_ACCESS_TOKEN}{page_id}"


def facebook_user_access_token_key(user_id: str) -> str:
    """The key of the access token of a Facebook user, by the id that Meta gives our app."""
    return f"{FACEBOOK_USER_ACCESS_TOKEN}_{user_id}"


def page_uuid_key(page_id: str) -> str:
    """The key of the UUID of the user who owns a Facebook Page."""
    return f"{PAGE_UUID}{page_id}"


def fits(key: str, value: str) -> bool:
    """Whether a value can be that of the row with this key; see `PlatformDefinition`."""
    if key.startswith(PAGE_UUID):
        return is_uuid(value)
    if key.startswith(f"{FACEBOOK_USER_ACCESS_TOKEN}_"):
        return is_grantor(value)
    return not key.startswith(FACEBOOK_ACCESS_TOKEN) or is_token(value)


class Pages:
    """The connected Pages, by id. Raises `DatabaseError` and `CipherError`."""

    def __init__(self, tokens: TokenStorage, graph: Graph) -> None:
        self._tokens = tokens
        self._graph = graph

    def owner(self, page: str) -> str | None:
        """The UUID of the user who owns a Page, or None for a Page that we do not know."""
        return self._tokens.get_uuid(page_uuid_key(page))

    def connected(self) -> list[str]:
        """All Pages that have a token."""
        return [page for page in self._tokens.names(FACEBOOK_ACCESS_TOKEN) if is_id(page)]

    def owned_by(self, user: str) -> list[str]:
        """The Pages of a user, those without a token included."""
        known = [page for page in self._tokens.names(PAGE_UUID) if is_id(page)]
        return [page for page in known if self._belongs(page, user)]

    def connect(self, grantor_id: str, grantor: Grantor, pages: Sequence[GrantedPage]) -> None:
        """Keep what a Facebook user granted; a Page that comes back keeps its user."""
        for page in pages:
            if self.owner(page.id) is None:
                self._tokens.put(page_uuid_key(page.id), grantor.user, "uuid")
            self._tokens.put(facebook_access_token_key(page.id), page.token)
        before = self.grantor(grantor_id)
        known = {*grantor.pages, *(before.pages if before else ())}
        self._put(grantor_id, replace(grantor, pages=tuple(sorted(known))))

    def grantor(self, grantor_id: str) -> Grantor | None:
        """The Facebook user of this id, if they connected anything."""
        text = self._tokens.get(facebook_user_access_token_key(grantor_id))
        return None if text is None else grantor_of_text(text)

    def disconnect(self, grantor_id: str) -> tuple[str, ...]:
        """Forget every token of a Facebook user; the Pages that have none now keep their user."""
        grantor = self.grantor(grantor_id)
        pages = grantor.pages if grantor else ()
        for page in pages:
            self._tokens.delete(facebook_access_token_key(page))
        self._tokens.delete(facebook_user_access_token_key(grantor_id))
        return pages

    def forget(self, page: str) -> None:
        """Forget a Page and whose it was."""
        self._tokens.delete(facebook_access_token_key(page))
        self._tokens.delete(page_uuid_key(page))

    def with_token(self, page: str, call: Callable[[str], T]) -> T:
        """The result of `call(token)`.

        A token that Meta refuses is replaced, once, by what the Facebook user who granted it
        gets for the Page now. Raises `TokenRefused` when it has to be connected again.
        """
        token = self._tokens.get(facebook_access_token_key(page))
        if token is None:
            raise TokenRefused(f"there is no token for the Page {page}", _AGAIN)
        try:
            return call(token)
        except TokenRefused:
            return call(self._renewed(page, token))

    def _renewed(self, page: str, refused: str) -> str:
        for grantor_id in self._tokens.names(f"{FACEBOOK_USER_ACCESS_TOKEN}_"):
            grantor = self.grantor(grantor_id)
            if grantor is None or page not in grantor.pages:
                continue
            for granted in self._graph.pages(grantor.token):
                if granted.id == page and granted.token != refused:
                    key = facebook_access_token_key(page)
                    if self._tokens.replace(key, refused, granted.token):
                        return granted.token
                    # Meanwhile the Page was disconnected, or connected anew: that counts.
                    if newer := self._tokens.get(key):
                        return newer
        raise TokenRefused(f"the token of the Page {page} is no longer valid", _AGAIN)

    def _belongs(self, page: str, user: str) -> bool:
        try:
            return self.owner(page) == user
        except ValueUnreadable:  # one bad row does not close the page of everybody
            return False

    def _put(self, grantor_id: str, grantor: Grantor) -> None:
        self._tokens.put(facebook_user_access_token_key(grantor_id), grantor_to_text(grantor))
