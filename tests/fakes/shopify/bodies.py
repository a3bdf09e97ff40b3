"""Webhook bodies: the older REST shape, with times in the shop's own time zone."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tests.fakes.asked import Json
from tests.fakes.shopify.state import Product, Shop, Variant
from tests.fakes.shopify.views import gid

MOST_VARIANTS = 100
TOPICS = (
    "products/create",
    "products/update",
    "products/delete",
    "shop/update",
    "app/uninstalled",
    "customers/data_request",
    "customers/redact",
    "shop/redact",
)


def as_shopify_writes_it(body: Any) -> bytes:
    """JSON with letters beyond ASCII as they are, and the signs of HTML escaped."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text.encode()


def body_of(topic: str, shop: Shop, *, product_id: int | None, customer: Json | None) -> Json:
    """The body of a topic at this moment."""
    if topic == "products/delete":
        return {"id": product_id}
    if topic.startswith("products/"):
        return product(shop, shop.products[product_id or 0])
    if topic in ("shop/update", "app/uninstalled"):
        return shop_body(shop)
    about: Json = {"shop_id": shop.id, "shop_domain": shop.domain}
    if topic == "shop/redact":
        return about
    about["customer"] = customer or {"id": 191167, "email": "kundin@example.com", "phone": None}
    if topic == "customers/redact":
        return {**about, "orders_to_redact": []}
    if topic == "customers/data_request":
        return {**about, "orders_requested": [], "data_request": {"id": 9999}}
    raise ValueError(f"topic is one of {TOPICS}")


def local(shop: Shop, at: str | None) -> str | None:
    """A time of GraphQL as REST writes it: in the shop's zone, with its offset."""
    if at is None:
        return None
    zone = ZoneInfo(shop.values["ianaTimezone"])
    try:
        return datetime.fromisoformat(at).astimezone(zone).isoformat()
    except ValueError:
        return at  # of a product that a test wants to be malformed


def product(shop: Shop, one: Product) -> Json:
    """A product as `products/create` and `products/update` have it: with its first 100 variants.

    `variant_gids` names all of them.
    """
    images = [
        {
            "id": one.id + number,
            "product_id": one.id,
            "position": number + 1,
            "alt": one.title,
            "width": 800,
            "height": 600,
            "src": url,
            "admin_graphql_api_id": gid("ProductImage", one.id + number),
        }
        for number, url in enumerate(one.images)
    ]
    return {
        "admin_graphql_api_id": gid("Product", one.id),
        "body_html": one.description_html,
        "created_at": local(shop, one.created_at),
        "handle": one.handle,
        "id": one.id,
        "product_type": one.product_type,
        "published_at": local(shop, one.published_at),
        "template_suffix": None,
        "title": one.title,
        "updated_at": local(shop, one.updated_at),
        "vendor": one.vendor,
        "status": one.status.lower(),
        "published_scope": "web",
        "tags": ", ".join(sorted(one.tags)),
        "variants": [_variant(shop, one, variant) for variant in one.variants[:MOST_VARIANTS]],
        "options": [
            {
                "name": "Title",
                "id": one.id + 1,
                "product_id": one.id,
                "position": 1,
                "values": [variant.title for variant in one.variants],
            }
        ],
        "images": images,
        "image": images[0] if images else None,
        "media": [],
        "variant_gids": [
            {
                "admin_graphql_api_id": gid("ProductVariant", variant.id),
                "updated_at": one.updated_at,
            }
            for variant in one.variants
        ],
        "has_variants_that_requires_components": False,
        "category": None,
    }


def _variant(shop: Shop, of: Product, one: Variant) -> Json:
    return {
        "admin_graphql_api_id": gid("ProductVariant", one.id),
        "barcode": one.barcode,
        "compare_at_price": one.compare_at_price,
        "created_at": local(shop, of.created_at),
        "id": one.id,
        "inventory_policy": "deny",
        "position": of.variants.index(one) + 1,
        "price": one.price,
        "product_id": of.id,
        "sku": one.sku,
        "taxable": True,
        "title": one.title,
        "updated_at": local(shop, of.updated_at),
        "option1": one.title,
        "option2": None,
        "option3": None,
        "image_id": None,
        "inventory_item_id": one.id,
        "inventory_quantity": one.inventory_quantity,
        "old_inventory_quantity": one.inventory_quantity,
    }


def shop_body(shop: Shop) -> Json:
    """A shop as `shop/update` and `app/uninstalled` have it."""
    values = shop.values
    return {
        "id": shop.id,
        "name": values["name"],
        "email": values["email"],
        "domain": values["primaryDomain"]["host"],
        "myshopify_domain": shop.domain,
        "shop_owner": values["shopOwnerName"],
        "customer_email": values["contactEmail"],
        "currency": values["currencyCode"],
        "iana_timezone": values["ianaTimezone"],
        "timezone": f"(GMT{values['timezoneOffset']}) {values['ianaTimezone']}",
        "country_code": values["shopAddress"]["countryCodeV2"],
        "country": values["shopAddress"]["countryCodeV2"],
        "city": values["shopAddress"]["city"],
        "plan_name": "basic",
        "plan_display_name": values["plan"]["publicDisplayName"],
        "primary_locale": "de",
        "taxes_included": values["taxesIncluded"],
        "created_at": local(shop, values["createdAt"]),
        "updated_at": local(shop, values["updatedAt"]),
    }
