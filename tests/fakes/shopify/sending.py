"""`Sending`: the webhooks of a shop, signed or not, once or again, or many at once."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from tests.fakes import delivery
from tests.fakes.asked import Json
from tests.fakes.serving import Action
from tests.fakes.shopify import bodies
from tests.fakes.shopify.signing import body_hmac, webhook_hmac
from tests.fakes.shopify.state import API_VERSION, Shop, World


class Sending:
    """Requests to the bot; each answers with its deliveries."""

    def __init__(self, world: World) -> None:
        self._world = world

    def actions(self) -> Mapping[str, Action]:
        """The control routes."""
        own = (self.webhook, self.burst, self.sign)
        return {one.__name__: one for one in own}

    async def webhook(
        self,
        shop: str,
        topic: str,
        body: str | None,
        product_id: int | None,
        customer: Json | None,
        webhook_id: str | None,
        event_id: str | None,
        triggered_at: str | None,
        api_version: str | None,
        signature: str,
        signature_header: str | None,
        headers: dict[str, str | None],
        copies: int,
        retries: int,
        pause: float,
        url: str | None,
    ) -> Json:
        """Send one; `body` is base64, or made of what the shop is now."""
        raw = (
            base64.b64decode(body)
            if body is not None
            else bodies.as_shopify_writes_it(
                bodies.body_of(
                    topic, self._world.shops[shop], product_id=product_id, customer=customer
                )
            )
        )
        webhook_id = webhook_id or str(uuid.uuid4())
        outgoing = self._outgoing(
            shop,
            topic,
            raw,
            webhook_id=webhook_id,
            event_id=event_id,
            triggered_at=triggered_at,
            api_version=api_version,
            signature=signature,
            signature_header=signature_header,
            changed=headers,
            url=url,
        )
        async with delivery.new_client() as client:
            made = await delivery.send_in_turn(client, [outgoing] * copies, retries, pause)
        return {"webhook_id": webhook_id, "deliveries": [asdict(one) for one in made]}

    async def tell(self, shop: Shop, topic: str, body: Json) -> list[Json]:
        """Send to every subscription of the shop to this topic, as an event does."""
        raw = bodies.as_shopify_writes_it(body)
        name = topic.upper().replace("/", "_")
        outgoing = [
            self._outgoing(shop.domain, topic, raw, url=one.uri)
            for one in shop.subscriptions.values()
            if one.topic == name
        ]
        async with delivery.new_client() as client:
            made = await delivery.send_in_turn(client, outgoing, 0, 0.0)
        return [asdict(one) for one in made]

    def _outgoing(
        self,
        shop: str,
        topic: str,
        body: bytes,
        *,
        webhook_id: str | None = None,
        event_id: str | None = None,
        triggered_at: str | None = None,
        api_version: str | None = None,
        signature: str = "valid",
        signature_header: str | None = None,
        changed: Mapping[str, str | None] | None = None,
        url: str | None = None,
    ) -> delivery.Outgoing:
        address = url or self._world.webhook_address
        if address is None:
            raise LookupError("no webhook address is registered")
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        headers: dict[str, str | None] = {
            "content-type": "application/json",
            "user-agent": "Shopify-Captain-Hook",
            "x-shopify-topic": topic,
            "x-shopify-shop-domain": shop,
            "x-shopify-webhook-id": webhook_id or str(uuid.uuid4()),
            "x-shopify-event-id": event_id or str(uuid.uuid4()),
            "x-shopify-triggered-at": triggered_at or now,
            "x-shopify-api-version": api_version or API_VERSION,
            "x-shopify-hmac-sha256": signature_header
            if signature_header is not None
            else webhook_hmac(self._world, body, signature),
            **(changed or {}),
        }
        return delivery.Outgoing(
            "POST",
            address,
            [
                (name, value.encode("latin-1"))
                for name, value in headers.items()
                if value is not None
            ],
            body,
        )

    async def burst(self, shop: str, count: int, seconds: float, copies: int) -> Json:
        """`products/update` for made-up products, evenly over the time, a webhook id each."""
        ids = [str(uuid.uuid4()) for _ in range(count)]
        store = self._world.shops[shop]
        template: Any = bodies.product(store, next(iter(store.products.values())))
        outgoing = []
        for number, webhook_id in enumerate(ids):
            made = {**json.loads(json.dumps(template)), "id": 9_900_000_000_000 + number}
            made["admin_graphql_api_id"] = f"gid://shopify/Product/{made['id']}"
            raw = bodies.as_shopify_writes_it(made)
            one = self._outgoing(shop, "products/update", raw, webhook_id=webhook_id)
            outgoing += [one] * copies
        async with delivery.new_client() as client:
            done: Sequence[delivery.Delivery] = await delivery.send_at_a_rate(
                client, outgoing, seconds
            )
        return {"ids": ids, "deliveries": [asdict(one) for one in done]}

    async def sign(self, body: str) -> str:
        """The right `X-Shopify-Hmac-Sha256` of these bytes, given in base64."""
        return body_hmac(self._world.api_secret, base64.b64decode(body))
