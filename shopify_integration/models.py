"""What of a shop is stored, and how Shopify's two ways of telling it become one form. Pure.

GraphQL answers and webhook bodies (which have the shape of the REST API) name the same
things differently. Raises `BodyMalformed` for what is neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.clock import format_utc, parse_utc
from shared.merchants.errors import BodyMalformed


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)


class Variant(_Document):
    """One variant; `price` is a decimal text in the shop's currency."""

    id: str
    title: str
    sku: str | None
    price: str | None
    inventory_quantity: int | None


class Product(_Document):
    """One product; times are ISO 8601 UTC."""

    id: str
    title: str
    handle: str
    status: str
    description_html: str
    vendor: str
    product_type: str
    tags: tuple[str, ...]
    created_at: str | None
    updated_at: str | None
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class ProductPage:
    """A page of a list of products; `after` is the cursor of the next one, None at the end.

    What is malformed was left out: the id of each, or "" where it has none.
    """

    products: tuple[Product, ...]
    left_out: tuple[str, ...]
    after: str | None


class Shop(_Document):
    """What the bot knows of a shop."""

    domain: str
    name: str
    email: str | None
    currency: str | None
    primary_domain: str | None
    timezone: str | None


def product_of_webhook(body: Mapping[str, Any]) -> Product:
    """The product in the body of `products/create` and `products/update`."""
    try:
        tags = body.get("tags") or ""
        return Product(
            id=body["id"],
            title=body.get("title") or "",
            handle=body.get("handle") or "",
            status=body.get("status") or "active",
            description_html=body.get("body_html") or "",
            vendor=body.get("vendor") or "",
            product_type=body.get("product_type") or "",
            tags=_tags(tags.split(",") if isinstance(tags, str) else tags),
            created_at=_utc(body.get("created_at")),
            updated_at=_utc(body.get("updated_at")),
            variants=tuple(
                Variant(
                    id=variant["id"],
                    title=variant.get("title") or "",
                    sku=variant.get("sku") or None,
                    price=variant.get("price"),
                    inventory_quantity=variant.get("inventory_quantity"),
                )
                for variant in body.get("variants") or ()
            ),
        )
    except _WRONG as error:
        raise _malformed("a product of a webhook", error) from None


def variants_named(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The ids of all variants of the product in a webhook's body, which has only the first 100.

    Empty where it names none; raises `BodyMalformed`.
    """
    try:
        return tuple(_number(one["admin_graphql_api_id"]) for one in body.get("variant_gids") or ())
    except _WRONG as error:
        raise _malformed("the list of variants of a webhook", error) from None


def product_of_graphql(node: Mapping[str, Any], variants: Sequence[Mapping[str, Any]]) -> Product:
    """The product in a node of `products`, with all of its variants."""
    try:
        return Product(
            id=_number(node["id"]),
            title=node["title"],
            handle=node["handle"],
            status=str(node["status"]).lower(),
            description_html=node["descriptionHtml"] or "",
            vendor=node["vendor"] or "",
            product_type=node["productType"] or "",
            tags=_tags(node["tags"]),
            created_at=_utc(node["createdAt"]),
            updated_at=_utc(node["updatedAt"]),
            variants=tuple(
                Variant(
                    id=_number(variant["id"]),
                    title=variant["title"],
                    sku=variant["sku"] or None,
                    price=variant["price"],
                    inventory_quantity=variant["inventoryQuantity"],
                )
                for variant in variants
            ),
        )
    except _WRONG as error:
        raise _malformed("a product of the Admin API", error) from None


def number_of(node: Any) -> str:
    """The id of a product in a node that may be malformed; "" when it has none."""
    found = node.get("id") if isinstance(node, dict) else None
    number = _number(found) if isinstance(found, str) else ""
    return number if number.isascii() and number.isdigit() else ""


def shop_of_graphql(node: Mapping[str, Any]) -> Shop:
    """The shop in the answer to the query `shop`."""
    try:
        return Shop(
            domain=node["myshopifyDomain"],
            name=node["name"],
            email=node["email"] or None,
            currency=node["currencyCode"] or None,
            primary_domain=_host((node["primaryDomain"] or {}).get("url")),
            timezone=node["ianaTimezone"] or None,
        )
    except _WRONG as error:
        raise _malformed("the shop of the Admin API", error) from None


def shop_of_webhook(body: Mapping[str, Any], domain: str) -> Shop:
    """The shop in the body of `shop/update`."""
    try:
        return Shop(
            domain=domain,
            name=body["name"],
            email=body.get("email") or None,
            currency=body.get("currency") or None,
            primary_domain=body.get("domain") or None,
            timezone=body.get("iana_timezone") or None,
        )
    except _WRONG as error:
        raise _malformed("the shop of a webhook", error) from None


_WRONG = (ValidationError, KeyError, TypeError, AttributeError, ValueError, OverflowError)


def _malformed(what: str, error: Exception) -> BodyMalformed:
    return BodyMalformed(f"{what} is not what Shopify sends ({type(error).__name__})", "")


def _tags(tags: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({tag.strip() for tag in tags if tag.strip()}))


def _number(gid: str) -> str:
    """`123` of `gid://shopify/Product/123`: what webhooks call the same thing."""
    return str(gid).rsplit("/", 1)[-1]


def _host(url: str | None) -> str | None:
    return url.split("://", 1)[-1].strip("/") if url else None


def _utc(text: str | None) -> str | None:
    if text is None:
        return None
    return format_utc(datetime.fromisoformat(text).astimezone(UTC))


def instant_of(text: str | None) -> datetime | None:
    """The instant of a time in one of the documents above."""
    return parse_utc(text) if text else None
