"""`Pages`: who owns a Page, its token, and who granted it. All of it is in `TokenStorage`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from facebook_integration.errors import PageUnavailable
from facebook_integration.events import is_id
from facebook_integration.graph import Graph
from facebook_integration.models import (
    GrantedPage,
    Grantor,
    PageToken,
    grantor_of_text,
    grantor_to_text,
    is_grantor,
    is_page_token,
    page_token_of_text,
    page_token_to_text,
)
from shared.databases.binding import is_uuid
from shared.databases.tokens import TokenStorage
from shared.errors import ValueUnreadable
from shared.merchants.errors import PermissionMissing, TokenRefused
from shared.merchants.http_client import ATTEMPTS

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
    return not key.startswith(FACEBOOK_ACCESS_TOKEN) or is_page_token(value)


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
        return [page for page in self._tokens.owned(PAGE_UUID, user) if is_id(page)]

    def elsewhere(self, user: str) -> dict[str, datetime]:
        """Pages that people granted for this user, and that another user had connected before.

        With each, when that was.
        """
        prefix, mine = f"{FACEBOOK_USER_ACCESS_TOKEN}_", self._tokens.owned(PAGE_UUID, user)
        grantors = map(grantor_of_text, self._tokens.owned(prefix, user, _user_of).values())
        return {
            page: grantor.granted_at
            for grantor in grantors
            for page in grantor.elsewhere
            if page not in mine
        }

    def connect(
        self, grantor_id: str, grantor: Grantor, pages: Sequence[GrantedPage]
    ) -> list[GrantedPage]:
        """Keep what a Facebook user granted; the Pages that are connected by it.

        A Page that comes back keeps its user: that of somebody else is only noted, as `elsewhere`.
        """
        mine = [page for page in pages if self.owner(page.id) in (None, grantor.user)]
        before = self.grantor(grantor_id)
        known = {*(page.id for page in mine), *(before.pages if before else ())}
        others = {page.id for page in pages} - known
        self._put(
            grantor_id,
            replace(grantor, pages=tuple(sorted(known)), elsewhere=tuple(sorted(others))),
        )
        for page in mine:
            if self.owner(page.id) is None:
                self._tokens.put(page_uuid_key(page.id), grantor.user, "uuid")
            if page.token is not None:
                self._put_token(page.id, PageToken(page.token, grantor_id))
        return mine

    def grantor(self, grantor_id: str) -> Grantor | None:
        """The Facebook user of this id, if they connected anything."""
        text = self._tokens.get(facebook_user_access_token_key(grantor_id))
        return None if text is None else grantor_of_text(text)

    def granted_by_nobody_else(self, grantor_id: str) -> list[str]:
        """The Pages that no other Facebook user granted."""
        grantor = self.grantor(grantor_id)
        others = {
            page for other, one in self._grantors() if other != grantor_id for page in one.pages
        }
        return [page for page in grantor.pages if page not in others] if grantor else []

    def disconnect(self, grantor_id: str) -> list[str]:
        """Forget what we have from a Facebook user; the Pages that have no token now.

        A Page that somebody else granted, too, goes on with a token of theirs. Every Page keeps
        its user. Raises `PlatformError` while Meta cannot be asked: call it again then.
        """
        grantor = self.grantor(grantor_id)
        if grantor is None:
            return []
        gone = [page for page in grantor.pages if self._is_from(page, grantor_id)]
        for page in gone:
            self._tokens.delete(facebook_access_token_key(page))
        without = [page for page in gone if self._from_others(page, grantor_id) is None]
        self._tokens.delete(facebook_user_access_token_key(grantor_id))
        return without

    def forget(self, page: str) -> None:
        """Forget a Page and whose it was."""
        self._tokens.delete(facebook_access_token_key(page))
        self._tokens.delete(page_uuid_key(page))

    def with_token(self, page: str, call: Callable[[str], T]) -> T:
        """The result of `call(token)`.

        A token that Meta refuses is replaced, once, by what one of the Facebook users who granted
        the Page gets for it now. Raises `TokenRefused` or `PageUnavailable` when it has to be
        connected again.
        """
        token = self._token(page)
        if token is None:
            raise TokenRefused(f"there is no token for the Page {page}", _AGAIN)
        try:
            return call(token.value)
        except (TokenRefused, PageUnavailable):
            other = self._from_others(page, None, token.value)
            if other is None:
                raise
            return call(other)

    def _from_others(self, page: str, leaving: str | None, refused: str = "") -> str | None:
        """A new token of a Page, which is stored, through one of those who granted it.

        None when nobody gets one any more. One whose own token is void does not end the search.
        """
        former = self._tokens.get(facebook_access_token_key(page))
        if refused:
            # Meanwhile the Page was disconnected, or connected anew: that counts.
            newer = None if former is None else page_token_of_text(former).value
            if newer != refused:
                return newer
        for grantor_id, grantor in self._grantors():
            if grantor_id == leaving or page not in grantor.pages:
                continue
            try:
                token = self._graph.granted_page(page, grantor.token, ATTEMPTS).token
            except (TokenRefused, PermissionMissing, PageUnavailable):
                continue
            if token is not None and token != refused:
                return self._kept(page, former, PageToken(token, grantor_id))
        return None

    def _kept(self, page: str, former: str | None, token: PageToken) -> str | None:
        """Store a token in place of the `former` one; what was done meanwhile counts more."""
        if former is None:
            self._put_token(page, token)
            return token.value
        key = facebook_access_token_key(page)
        if self._tokens.replace(key, former, page_token_to_text(token)):
            return token.value
        newer = self._token(page)
        return None if newer is None else newer.value

    def _grantors(self) -> Iterator[tuple[str, Grantor]]:
        for grantor_id in self._tokens.names(f"{FACEBOOK_USER_ACCESS_TOKEN}_"):
            try:
                grantor = self.grantor(grantor_id)
            except ValueUnreadable:  # one bad row does not end the search
                continue
            if grantor is not None:
                yield grantor_id, grantor

    def _is_from(self, page: str, grantor_id: str) -> bool:
        """Whether a Page's token may be from this person; where there is none, it was."""
        token = self._token(page)
        return token is None or token.grantor in (None, grantor_id)

    def _token(self, page: str) -> PageToken | None:
        text = self._tokens.get(facebook_access_token_key(page))
        return None if text is None else page_token_of_text(text)

    def _put_token(self, page: str, token: PageToken) -> None:
        self._tokens.put(facebook_access_token_key(page), page_token_to_text(token))

    def _put(self, grantor_id: str, grantor: Grantor) -> None:
        key = facebook_user_access_token_key(grantor_id)
        self._tokens.put(key, grantor_to_text(grantor), owner=grantor.user)


def _user_of(text: str) -> str | None:
    return grantor_of_text(text).user if is_grantor(text) else None
