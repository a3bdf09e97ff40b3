"""A shop's token: refreshed five minutes early, by one at a time, and never lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.fernet import Fernet

from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from shared.merchants import http_client
from shared.merchants.errors import PlatformUnreachable, TokenRefused
from shared.merchants.http_client import Limits
from shopify_integration.admin_api import ShopifyAdmin
from shopify_integration.grants import Grant, grant_of_text
from shopify_integration.shop_domain import shop_key
from shopify_integration.shops import Shops, shopify_access_token_key, user_uuid_key
from tests.shopify_integration.conftest import Counter
from tests.support.clock import FixedClock
from tests.support.waiting import eventually

SHOP, OTHER = "kaesehaus.myshopify.com", "sennerei.myshopify.com"
KEY = shopify_access_token_key(shop_key(SHOP))
USER, OTHER_USER = (str(UUID(int=number)) for number in (1, 2))


@dataclass
class Register:
    """The shops, what is behind them, and their time."""

    shops: Shops
    tokens: TokenStorage
    counter: Counter
    clock: FixedClock

    def use(self, shop: str = SHOP) -> str:
        """Ask the shop something; the token that it was asked with."""

        def ask(token: str) -> str:
            self.counter.admin.shop(shop, token)
            return token

        return self.shops.with_token(shop, ask)

    def refreshes(self) -> int:
        """How often a token was asked for since the shop was installed."""
        return len(self.counter.shopify.calls("access_token")) - 1


@pytest.fixture
def register(counter: Counter, tmp_path: Path) -> Iterator[Register]:
    """One connected shop."""
    clock = counter.clock
    cipher = TokenCipher((Fernet.generate_key().decode(),))
    with closing(TokenStorage(tmp_path / "tokens.db", cipher)) as tokens:
        shops = Shops(tokens, counter.admin, clock)
        shops.connect(SHOP, counter.installed(SHOP), USER)
        yield Register(shops, tokens, counter, clock)


def test_a_fresh_token_is_used_as_it_is(register: Register) -> None:
    """Up to five minutes before its end."""
    token = register.use()

    register.clock.advance(minutes=54)

    assert register.use() == token
    assert register.refreshes() == 0


def test_a_token_is_refreshed_five_minutes_early(register: Register) -> None:
    """Once; the new one is stored with the next refresh token, and keeps when it was granted."""
    before = grant_of_text(register.tokens.get(KEY) or "")
    register.clock.advance(minutes=56)

    token = register.use()

    after = grant_of_text(register.tokens.get(KEY) or "")
    pair = register.counter.shopify.token(SHOP)
    assert pair is not None
    assert (after.access_token, after.refresh_token) == (pair.access_token, pair.refresh_token)
    assert after.access_token == token != before.access_token
    assert after.granted_at == before.granted_at
    assert register.shops.owner(SHOP) == USER


def test_a_token_is_refreshed_by_one_at_a_time(register: Register) -> None:
    """Twelve threads find it stale: one refreshes, for all; the old one is used up by that."""
    register.counter.shopify.expire_access_token(SHOP)
    register.clock.advance(minutes=56)

    with ThreadPoolExecutor(12) as pool:
        tokens = set(pool.map(lambda _: register.use(), range(12)))

    assert len(tokens) == 1
    assert register.refreshes() == 1


def test_a_refused_token_is_refreshed_once(register: Register) -> None:
    """It ended early at Shopify; also when many meet the refusal at the same time."""
    register.counter.shopify.expire_access_token(SHOP)

    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: register.use(), range(8)))

    assert len(tokens) == 1
    assert register.refreshes() == 1


def test_a_list_outlives_its_token(register: Register) -> None:
    """A token per request: the next page is read with the next token, and none is read twice."""
    shopify, admin = register.counter.shopify, register.counter.admin
    titles = [f"Cheese {number:02}" for number in range(60)]
    for title in titles:
        shopify.put_product(SHOP, deliver=False, title=title)
    read: list[str] = []

    for page in admin.products(SHOP, partial(register.shops.fresh, SHOP)):
        read += [product.title for product in page.products]
        shopify.expire_access_token(SHOP)

    assert read == titles
    good = [call for call in shopify.calls("graphql:products") if call.status == 200]
    assert len(good) == 3
    assert register.refreshes() == 2


def test_shops_do_not_wait_for_each_other(register: Register) -> None:
    """One whose refresh hangs does not hold up another one's."""
    register.shops.connect(OTHER, register.counter.installed(OTHER), OTHER_USER)
    register.clock.advance(minutes=56)
    register.counter.shopify.hang("access_token", 20)

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(register.use)
        eventually(lambda: register.counter.shopify.faults_left() == 0, "the refresh that hangs")
        register.use(OTHER)
        assert not slow.done()
        register.counter.shopify.clear_faults()
        slow.result(20)


def test_a_used_refresh_token_means_reconnect(register: Register) -> None:
    """`invalid_grant`: nothing that the bot has opens anything, and the user stays."""
    register.counter.shopify.rotate_token(SHOP)

    with pytest.raises(TokenRefused, match=SHOP) as caught:
        register.use()

    assert f"/shopify/{SHOP}/login" in caught.value.hint
    assert register.shops.owner(SHOP) == USER
    register.shops.connect(SHOP, register.counter.installed(SHOP), USER)
    register.use()


def test_a_shop_that_cannot_be_reached_keeps_its_token(register: Register) -> None:
    """A refresh that got no answer says nothing about the token."""
    before = register.tokens.get(KEY)
    register.clock.advance(minutes=56)
    register.counter.shopify.answer_status("access_token", 503, times=None)
    register.counter.admin._outbound.close()  # no patience

    with pytest.raises(PlatformUnreachable):
        register.use()

    assert register.tokens.get(KEY) == before


def test_a_refresh_is_tried_again(register: Register) -> None:
    """A fault in between is no end of the connection."""
    register.clock.advance(minutes=56)
    register.counter.shopify.cut("access_token")

    assert register.use() != ""


def test_a_bare_token_keeps_working(register: Register) -> None:
    """A row from before tokens expired is no JSON, and is left as it is."""
    register.counter.shopify.configure(allow_non_expiring=True)
    token = register.use()
    register.tokens.put(KEY, token)
    register.clock.advance(days=30)

    assert register.use() == token
    assert register.tokens.get(KEY) == token

    register.counter.shopify.revoke_tokens(SHOP)
    with pytest.raises(TokenRefused):
        register.use()


def test_a_shop_without_a_token_has_to_be_connected(register: Register) -> None:
    """Its user is kept, and it is not polled."""
    register.shops.disconnect(SHOP)

    with pytest.raises(TokenRefused):
        register.use()
    assert register.shops.connected() == []
    assert register.shops.owned_by(USER) == [SHOP]
    register.shops.forget(SHOP)
    assert register.shops.owned_by(USER) == []


def test_a_user_has_only_their_own_shops(register: Register) -> None:
    """Rows of something else are no shops."""
    register.shops.connect(OTHER, Grant("token"), OTHER_USER)
    register.tokens.put("USER_UUID_", USER, "uuid")
    register.tokens.put("SHOPIFY_ACCESS_TOKEN_not a shop", "x")

    assert register.shops.owned_by(USER) == [SHOP]
    assert register.shops.connected() == sorted([SHOP, OTHER])


def test_the_names_of_keys_are_fixed() -> None:
    """The keys are in people's databases already: their form does not change."""
    assert shopify_access_token_key("acme") == "SHOPIFY_ACCESS_TOKEN_acme"
    assert user_uuid_key("acme") == "USER_UUID_acme"


class Meanwhile:
    """An admin whose refresh takes as long as what happens meanwhile."""

    def __init__(self, admin: ShopifyAdmin, act: Callable[[], None]) -> None:
        self._admin = admin
        self._act = act

    def refresh(self, shop: str, refresh_token: str) -> Grant:
        """The real one; then it happens, before anybody has the answer."""
        fresh = self._admin.refresh(shop, refresh_token)
        self._act()
        return fresh


def during_a_refresh(register: Register, act: Callable[[Shops], None]) -> Shops:
    """Shops whose next refresh is under way while something happens."""
    admin = Meanwhile(register.counter.admin, lambda: act(register.shops))
    register.clock.advance(minutes=56)
    return Shops(register.tokens, admin, register.clock)  # type: ignore[arg-type]


@pytest.mark.parametrize("delete", [Shops.disconnect, Shops.forget])
def test_a_refresh_does_not_bring_back_what_was_deleted(
    register: Register, delete: Callable[[Shops, str], None]
) -> None:
    """Redacted or uninstalled while Shopify was asked: no token is stored, and none is used."""
    shops = during_a_refresh(register, lambda other: delete(other, SHOP))

    with pytest.raises(TokenRefused, match="disconnected meanwhile"):
        shops.with_token(SHOP, lambda token: token)

    assert register.tokens.get(KEY) is None
    assert register.shops.connected() == []


def test_a_refresh_does_not_overwrite_a_new_login(register: Register) -> None:
    """The merchant logged in while Shopify was asked: that token is kept, and used."""
    new = Grant("shpat_new")
    shops = during_a_refresh(register, lambda other: other.connect(SHOP, new, USER))

    assert shops.with_token(SHOP, lambda token: token) == "shpat_new"

    assert register.shops.grant(SHOP) == new


def test_work_on_the_inbox_does_not_wait_long_for_the_refresh_of_another(
    register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A polling holds the shop for minutes: the update is tried again later."""
    monkeypatch.setattr(http_client, "SHORT", Limits(silence=0.05))
    inner: list[str] = []

    def meanwhile(_shops: Shops) -> None:
        with (
            ThreadPoolExecutor(1) as pool,
            pytest.raises(PlatformUnreachable, match="being refreshed"),
        ):
            pool.submit(one_try).result()
        inner.append("refused")

    def one_try() -> str:
        with http_client.one_short_try():
            return shops.with_token(SHOP, lambda token: token)

    shops = during_a_refresh(register, meanwhile)

    assert shops.with_token(SHOP, lambda token: token)
    assert inner == ["refused"]
