"""`Shops`: who owns a shop, and its token, kept fresh. All of it is in `TokenStorage`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from shared.clock import Clock
from shared.databases.binding import is_uuid
from shared.databases.tokens import TokenStorage
from shared.merchants.errors import PlatformUnreachable, TokenRefused
from shared.merchants.http_client import most_seconds_to_wait
from shopify_integration.admin_api import ShopifyAdmin
from shopify_integration.grants import Grant, grant_of_text, grant_to_text, is_grant
from shopify_integration.shop_domain import shop_key, shop_of_key

T = TypeVar("T")

# How the keys in `tokens.db` begin: people's databases have them already.
SHOPIFY_ACCESS_TOKEN = "SHOPIFY_ACCESS_TOKEN_"  # noqa: S105 - how a key begins
USER_UUID = "USER_UUID_"


def shopify_access_token_key(shop_key: str) -> str:
    """The key of a shop's access token."""
    return f"{SHOPIFY_ACCESS_TOKEN}{shop_key}"


def user_uuid_key(shop_key: str) -> str:
    """The key of the UUID of the user who owns a shop."""
    return f"{USER_UUID}{shop_key}"


def fits(key: str, value: str) -> bool:
    """Whether a value can be that of the row with this key; see `PlatformDefinition`."""
    if key.startswith(USER_UUID):
        return is_uuid(value)
    return not key.startswith(SHOPIFY_ACCESS_TOKEN) or is_grant(value)


class Shops:
    """The connected shops, by their full domain. Raises `DatabaseError` and `CipherError`."""

    def __init__(self, tokens: TokenStorage, admin: ShopifyAdmin, clock: Clock) -> None:
        self._tokens = tokens
        self._admin = admin
        self._clock = clock
        # A refresh uses the old token up, so there is one at a time for each shop.
        self._refreshing: dict[str, threading.Lock] = {}

    def owner(self, shop: str) -> str | None:
        """The UUID of the user who owns a shop, or None for a shop that we do not know."""
        return self._tokens.get_uuid(user_uuid_key(shop_key(shop)))

    def connect(self, shop: str, grant: Grant, user: str) -> None:
        """Keep the grant of a shop for a user."""
        self._tokens.put(user_uuid_key(shop_key(shop)), user, "uuid")
        self._put(shop, grant)

    def disconnect(self, shop: str) -> None:
        """Forget the token of a shop; it keeps its user, for when it comes back."""
        self._tokens.delete(shopify_access_token_key(shop_key(shop)))

    def forget(self, shop: str) -> None:
        """Forget a shop and whose it was."""
        self.disconnect(shop)
        self._tokens.delete(user_uuid_key(shop_key(shop)))

    def connected(self) -> list[str]:
        """All shops that have a token."""
        return _shops(self._tokens.names(SHOPIFY_ACCESS_TOKEN))

    def owned_by(self, user: str) -> list[str]:
        """The shops of a user, those without a token included."""
        return _shops(list(self._tokens.owned(USER_UUID, user)))

    def grant(self, shop: str) -> Grant | None:
        """What a shop has granted, fresh or not."""
        text = self._tokens.get(shopify_access_token_key(shop_key(shop)))
        return None if text is None else grant_of_text(text)

    def with_token(self, shop: str, call: Callable[[str], T]) -> T:
        """The result of `call(token)`.

        A token that ends soon, or that Shopify refuses, is refreshed first, once. Raises
        `TokenRefused` when the shop has to be connected again.
        """
        token = self.fresh(shop, None)
        try:
            return call(token)
        except TokenRefused:
            return call(self.fresh(shop, token))

    def fresh(self, shop: str, refused: str | None) -> str:
        """A token that lasts for some minutes, and is not the one that was `refused`.

        Raises `TokenRefused` when the shop has to be connected again.
        """
        key = shopify_access_token_key(shop_key(shop))
        with self._refreshing_alone(shop):
            text = self._tokens.get(key)
            if text is None:
                raise _reconnect(shop, "there is no token for it")
            grant = grant_of_text(text)
            if grant.access_token != refused and not grant.is_stale(self._clock.now()):
                return grant.access_token
            if grant.refresh_token is None:
                raise _reconnect(shop, "its token is no longer valid")
            fresh = self._admin.refresh(shop, grant.refresh_token)
            kept = grant_to_text(replace(fresh, granted_at=grant.granted_at))
            if self._tokens.replace(key, text, kept):
                return fresh.access_token
        # Meanwhile the shop was disconnected, or connected anew: that counts.
        newer = self.grant(shop)
        if newer is None:
            raise _reconnect(shop, "it was disconnected meanwhile")
        return newer.access_token

    @contextmanager
    def _refreshing_alone(self, shop: str) -> Iterator[None]:
        lock = self._refreshing.setdefault(shop, threading.Lock())
        if not lock.acquire(timeout=most_seconds_to_wait()):
            raise PlatformUnreachable(
                f"the token of {shop} is being refreshed, which takes long", "The app will retry."
            )
        try:
            yield
        finally:
            lock.release()

    def _put(self, shop: str, grant: Grant) -> None:
        self._tokens.put(shopify_access_token_key(shop_key(shop)), grant_to_text(grant))


def _shops(keys: list[str]) -> list[str]:
    return [shop for key in keys if (shop := shop_of_key(key))]


def _reconnect(shop: str, why: str) -> TokenRefused:
    return TokenRefused(f"{shop}: {why}", f"Connect it again: /shopify/{shop}/login")
