"""Shops, products and subscriptions in the shape of the GraphQL schema; lists with cursors."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from graphql import GraphQLError, GraphQLResolveInfo

from tests.fakes.asked import Json
from tests.fakes.shopify.state import API_VERSION, Product, Shop, Subscription, Variant

T = TypeVar("T")


def gid(kind: str, number: int) -> str:
    """A global id."""
    return f"gid://shopify/{kind}/{number}"


def connection(
    items: Sequence[T],
    number_of: Callable[[T], int],
    show: Callable[[T], Json],
    *,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    before: str | None = None,
    reverse: bool = False,
) -> Json:
    """One page of a list, after the item that the cursor names."""
    if last is not None or before is not None:
        raise GraphQLError("This stand-in pages forwards only")
    items = list(reversed(items)) if reverse else list(items)
    start = 0
    if after is not None:
        numbers = [number_of(one) for one in items]
        try:
            start = numbers.index(int(base64.b64decode(after, validate=True))) + 1
        except ValueError:
            raise GraphQLError(
                f"Invalid cursor for current pagination sort: {after}",
                extensions={"code": "BAD_REQUEST"},
            ) from None
    # Without a size it is a list of a bulk operation: others are refused before.
    shown = items[start:] if first is None else items[start : start + first]
    cursors = [base64.b64encode(str(number_of(one)).encode()).decode() for one in shown]
    nodes = [show(one) for one in shown]
    return {
        "nodes": nodes,
        "edges": [
            {"cursor": cursor, "node": node} for cursor, node in zip(cursors, nodes, strict=True)
        ],
        "pageInfo": {
            "hasNextPage": start + len(shown) < len(items),
            "hasPreviousPage": start > 0,
            "startCursor": cursors[0] if cursors else None,
            "endCursor": cursors[-1] if cursors else None,
        },
    }


def shop(one: Shop) -> Json:
    """GraphQL's `Shop`."""
    return {
        "id": gid("Shop", one.id),
        "myshopifyDomain": one.domain,
        **one.values,
    }


def product(store: Shop, one: Product) -> Json:
    """GraphQL's `Product`."""
    prices = sorted((variant.price for variant in one.variants), key=float)
    media = [_image(one, number, url) for number, url in enumerate(one.images)]

    def money(amount: str) -> Json:
        return {"amount": amount, "currencyCode": store.values["currencyCode"]}

    def variants(_: GraphQLResolveInfo, sortKey: str = "", **paging: Any) -> Json:  # noqa: N803
        return connection(
            one.variants,
            lambda each: each.id,
            lambda each: _variant(store, one, each),
            **paging,
        )

    def description(_: GraphQLResolveInfo, truncateAt: int | None = None) -> str:  # noqa: N803
        return re.sub(r"<[^>]*>", "", one.description_html)[:truncateAt]

    return {
        "id": gid("Product", one.id),
        "legacyResourceId": str(one.id),
        "title": one.title,
        "handle": one.handle,
        "status": one.status,
        "description": description,
        "descriptionHtml": one.description_html,
        "vendor": one.vendor,
        "productType": one.product_type,
        "tags": sorted(one.tags),
        "createdAt": one.created_at,
        "updatedAt": one.updated_at,
        "publishedAt": one.published_at,
        "totalInventory": sum(variant.inventory_quantity for variant in one.variants),
        "tracksInventory": True,
        "hasOnlyDefaultVariant": [each.title for each in one.variants] == ["Default Title"],
        "isGiftCard": False,
        "onlineStoreUrl": one.online_store_url,
        "onlineStorePreviewUrl": f"https://{store.domain}/products/{one.handle}",
        "featuredMedia": media[0] if media else None,
        "media": lambda _, **paging: connection(
            media, lambda each: each["number"], lambda each: each, **paging
        ),
        "mediaCount": {"count": len(media), "precision": "EXACT"},
        "options": lambda _, first=None: [
            {
                "id": gid("ProductOption", one.id + 1),
                "name": "Title",
                "position": 1,
                "values": [each.title for each in one.variants],
            }
        ],
        "priceRangeV2": {"minVariantPrice": money(prices[0]), "maxVariantPrice": money(prices[-1])},
        "seo": {"title": None, "description": None},
        "templateSuffix": None,
        "variants": variants,
        "variantsCount": {"count": len(one.variants), "precision": "EXACT"},
    }


def _variant(store: Shop, of: Product, one: Variant) -> Json:
    return {
        "id": gid("ProductVariant", one.id),
        "legacyResourceId": str(one.id),
        "title": one.title,
        "displayName": f"{of.title} - {one.title}",
        "sku": one.sku,
        "barcode": one.barcode,
        "price": one.price,
        "compareAtPrice": one.compare_at_price,
        "inventoryQuantity": one.inventory_quantity,
        "inventoryPolicy": "DENY",
        "inventoryItem": {"id": gid("InventoryItem", one.id), "sku": one.sku, "tracked": True},
        "availableForSale": one.inventory_quantity > 0,
        "position": of.variants.index(one) + 1,
        "selectedOptions": [{"name": "Title", "value": one.title}],
        "taxable": True,
        "createdAt": of.created_at,
        "updatedAt": of.updated_at,
        "product": lambda _: product(store, of),
    }


def _image(of: Product, number: int, url: str) -> Json:
    image = {"id": gid("ImageSource", of.id + number), "url": url, "width": 800, "height": 600}
    return {
        "__typename": "MediaImage",
        "number": of.id + number,
        "id": gid("MediaImage", of.id + number),
        "alt": of.title,
        "mediaContentType": "IMAGE",
        "mimeType": "image/jpeg",
        "status": "READY",
        "image": {**image, "altText": of.title},
        "preview": {"status": "READY", "image": {**image, "altText": of.title}},
        "createdAt": of.created_at,
        "updatedAt": of.updated_at,
    }


def subscription(one: Subscription) -> Json:
    """GraphQL's `WebhookSubscription`."""
    return {
        "id": gid("WebhookSubscription", one.id),
        "legacyResourceId": str(one.id),
        "apiVersion": {"handle": API_VERSION, "displayName": API_VERSION, "supported": True},
        "topic": one.topic,
        "uri": one.uri,
        "callbackUrl": one.uri,
        "endpoint": {"__typename": "WebhookHttpEndpoint", "callbackUrl": one.uri},
        "format": one.format,
        "filter": one.filter,
        "includeFields": one.include_fields,
        "metafieldNamespaces": one.metafield_namespaces,
        "name": None,
        "createdAt": one.created_at,
        "updatedAt": one.updated_at,
    }
