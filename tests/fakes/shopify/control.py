"""`Control`: what the tests can make the stand-in do, one method per control route."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from tests.fakes.asked import Json
from tests.fakes.faults import Fault
from tests.fakes.serving import Action
from tests.fakes.shopify import bodies
from tests.fakes.shopify.new_shop import new_shop
from tests.fakes.shopify.sending import Sending
from tests.fakes.shopify.signing import callback_url, query_hmac
from tests.fakes.shopify.state import API_VERSION, Product, Variant, World, new_number, now

_DOMAIN = re.compile(r"[a-z0-9][a-z0-9-]*\.myshopify\.com")


class Control:
    """Settings, shops and their products, tokens, faults and the record of calls."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sending = Sending(world)

    def actions(self) -> Mapping[str, Action]:
        """The control routes."""
        own = (
            self.reset,
            self.settings,
            self.register,
            self.configure,
            self.add_shop,
            self.change_shop,
            self.put_product,
            self.put_products,
            self.lose_bulk_files,
            self.delete_product,
            self.product_body,
            self.callback,
            self.next_callback,
            self.sign_query,
            self.token,
            self.issued,
            self.expire_access_token,
            self.revoke_tokens,
            self.rotate_token,
            self.uninstall,
            self.subscriptions,
            self.fault,
            self.clear_faults,
            self.faults_left,
            self.calls,
            self.clear_calls,
        )
        return {**{one.__name__: one for one in own}, **self._sending.actions()}

    async def reset(self) -> None:
        """A new world in the place of the old one."""
        vars(self._world).update(vars(World(self._world.base_url)))

    async def settings(self) -> Json:
        """What the app's owner finds in the dashboard."""
        return {
            "base_url": self._world.base_url,
            "version": API_VERSION,
            "api_key": self._world.api_key,
            "api_secret": self._world.api_secret,
        }

    async def register(self, redirect_uri: str | None, webhook: str | None) -> None:
        """Enter the bot's addresses; earlier ones go."""
        if redirect_uri is not None:
            self._world.redirect_uris = {redirect_uri}
        if webhook is not None:
            self._world.webhook_address = webhook

    async def configure(self, **changes: Any) -> None:
        """Differ from the usual; what is not named stays as it is."""
        unknown = set(changes) - {one.name for one in fields(self._world.options)}
        if unknown:
            raise ValueError(f"there is no option {unknown}")
        self._world.options = replace(self._world.options, **changes)
        self._world.buckets.clear()

    async def add_shop(self, shop: str, values: Json) -> int:
        """A new shop; its number."""
        if not _DOMAIN.fullmatch(shop):
            raise ValueError(f"{shop} is no shop's domain")
        self._world.shops[shop] = new_shop(shop, values)
        return self._world.shops[shop].id

    async def change_shop(self, shop: str, values: Json, deliver: bool) -> list[Json]:
        """Other values; tells the subscriptions to `shop/update`."""
        store = self._world.shops[shop]
        checked = new_shop(shop, values).values
        store.values.update({name: checked[name] for name in values}, updatedAt=now())
        if not deliver:
            return []
        return await self._sending.tell(store, "shop/update", bodies.shop_body(store))

    async def put_product(
        self, shop: str, product_id: int | None, values: Json, deliver: bool
    ) -> Json:
        """A new product, or other values of one; tells the subscriptions."""
        store = self._world.shops[shop]
        values = dict(values)
        if "variants" in values:
            values["variants"] = [Variant(**one) for one in values["variants"]]
        known = store.products.get(product_id or 0)
        if known is None:
            number = product_id or new_number()
            title = values.pop("title", "Bergkäse")
            handle = values.pop("handle", f"{title.lower().replace(' ', '-')}-{number}")
            made = Product(number, title, handle, **values)
        else:
            made = replace(known, **{"updated_at": now(), **values})
        store.products[made.id] = made
        topic = "products/update" if known else "products/create"
        body = bodies.product(store, made)
        sent = await self._sending.tell(store, topic, body) if deliver else []
        return {"product_id": made.id, "topic": topic, "body": body, "deliveries": sent}

    async def put_products(self, shop: str, titles: list[str]) -> list[int]:
        """A new product with each of these titles, of which nobody is told; their numbers."""
        made = [
            (await self.put_product(shop, None, {"title": title}, deliver=False))["product_id"]
            for title in titles
        ]
        return [int(number) for number in made]

    async def lose_bulk_files(self, shop: str, known: bool) -> None:
        """The files of a shop's bulk operations are gone; or, if not `known`, so are those."""
        store = self._world.shops[shop]
        for one in store.bulk.values():
            one.gone = True
        if not known:
            store.bulk.clear()

    async def delete_product(self, shop: str, product_id: int, deliver: bool) -> list[Json]:
        """The end of a product."""
        store = self._world.shops[shop]
        del store.products[product_id]
        if not deliver:
            return []
        return await self._sending.tell(store, "products/delete", {"id": product_id})

    async def product_body(self, shop: str, product_id: int) -> Json:
        """A product in the shape of webhooks, as it is now."""
        store = self._world.shops[shop]
        return bodies.product(store, store.products[product_id])

    async def callback(
        self, shop: str, state: str, scope: str, redirect_uri: str | None, defects: Json
    ) -> str:
        """A callback address with a new code of the shop."""
        if redirect_uri is None:
            (redirect_uri,) = self._world.redirect_uris
        code = self._world.new_code(shop, scope.split(","))
        given = {"redirect_uri": redirect_uri, "shop": shop, "state": state, "code": code.value}
        return callback_url(self._world, **{**given, **defects})

    async def next_callback(self, defects: Json) -> None:
        """What is wrong with the next redirect of the authorization page."""
        self._world.defects.append(defects)

    async def sign_query(self, pairs: list[list[str]]) -> str:
        """The right `hmac` of a query."""
        return query_hmac(self._world.api_secret, [(name, value) for name, value in pairs])

    async def token(self, shop: str) -> Json | None:
        """The current access token of a shop and its refresh token."""
        access = self._world.current(shop)
        if access is None:
            return None
        refresh = [one for one in self._world.refresh.values() if one.access == access.value]
        return {
            "access_token": access.value,
            "refresh_token": refresh[-1].value if refresh else None,
            "scopes": access.scopes,
            "good": access.good,
        }

    async def issued(self) -> list[str]:
        """All that nobody but the bot may know: what was handed out, and the app's secret."""
        world = self._world
        return [*world.access, *world.refresh, *world.codes, world.api_secret]

    async def expire_access_token(self, shop: str) -> int:
        """Every access token of a shop is past its time, the refresh token is not; how many."""
        hit = [one for one in self._world.access.values() if one.shop == shop and one.good]
        for one in hit:
            one.expires = time.time() - 1
        return len(hit)

    async def revoke_tokens(self, shop: str) -> int:
        """Every token of a shop is void, refresh tokens too; how many access tokens were good."""
        self._world.shops[shop]
        return self._world.revoke(shop)

    async def rotate_token(self, shop: str) -> Json | None:
        """As if another process had refreshed: the pair that the bot holds is void."""
        access = self._world.current(shop)
        if access is None:
            raise LookupError(f"nobody holds a token of {shop}")
        old = [one for one in self._world.refresh.values() if one.access == access.value]
        following = self._world.new_access(shop, access.scopes, expiring=True)
        refresh = self._world.new_refresh(following)
        for one in old:
            one.successor = refresh
        return await self.token(shop)

    async def uninstall(self, shop: str, deliver: bool) -> list[Json]:
        """The merchant removes the app: tokens and subscriptions end."""
        store = self._world.shops[shop]
        body = bodies.shop_body(store)
        self._world.revoke(shop)
        store.installed = False
        sent = await self._sending.tell(store, "app/uninstalled", body) if deliver else []
        store.subscriptions.clear()
        return sent

    async def subscriptions(self, shop: str) -> list[Json]:
        """What the bot subscribed to."""
        return [asdict(one) for one in self._world.shops[shop].subscriptions.values()]

    async def fault(self, **details: Any) -> None:
        """Program one."""
        self._world.faults.add(Fault(**details))

    async def clear_faults(self) -> None:
        """Forget all that are left."""
        self._world.faults.clear()

    async def faults_left(self) -> int:
        """How many are still to happen."""
        return len(self._world.faults.pending)

    async def calls(self) -> list[Json]:
        """Every request of the bot so far."""
        return [asdict(one) for one in self._world.calls]

    async def clear_calls(self) -> None:
        """Forget them."""
        self._world.calls.clear()
