"""What the GraphQL API does: reading a shop, and its webhook subscriptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLResolveInfo,
    execute_sync,
    validate,
)

from tests.fakes.asked import Json
from tests.fakes.shopify import bulk, views
from tests.fakes.shopify.state import (
    Access,
    Product,
    Shop,
    Subscription,
    World,
    new_number,
    now,
)

_LOCAL = ("127.0.0.1", "localhost")


class Root:
    """The fields of query and mutation, for one shop and one token; graphql-core calls them."""

    def __init__(self, world: World, store: Shop, access: Access) -> None:
        self._world = world
        self._store = store
        self._access = access

    def _need(self, what: str, field: str) -> None:
        if {f"read_{what}", f"write_{what}"} & set(self._access.scopes):
            return
        scope = f"read_{what}"
        raise GraphQLError(
            f"Access denied for {field} field. Required access: `{scope}` access scope.",
            extensions={"code": "ACCESS_DENIED", "requiredAccess": f"`{scope}` access scope."},
        )

    def shop(self, info: GraphQLResolveInfo) -> Json:
        """The shop of the token."""
        return views.shop(self._store)

    def product(self, info: GraphQLResolveInfo, id: str) -> Json | None:  # noqa: A002
        """One product, or null."""
        self._need("products", "product")
        found = self._store.products.get(_number("Product", id))
        return views.product(self._store, found) if found else None

    def products(
        self,
        info: GraphQLResolveInfo,
        sortKey: str = "ID",  # noqa: N803
        query: str | None = None,
        **paging: Any,
    ) -> Json:
        """The shop's products."""
        self._need("products", "products")
        if query:
            raise GraphQLError("This stand-in has no search")
        keys: dict[str, Callable[[Product], Any]] = {
            "ID": lambda one: one.id,
            "TITLE": lambda one: (one.title, one.id),
            "UPDATED_AT": lambda one: (one.updated_at, one.id),
            "CREATED_AT": lambda one: (one.created_at, one.id),
        }
        if sortKey not in keys:
            raise GraphQLError(f"This stand-in does not sort by {sortKey}")
        return views.connection(
            sorted(self._store.products.values(), key=keys[sortKey]),
            lambda one: one.id,
            lambda one: views.product(self._store, one),
            **paging,
        )

    def productsCount(self, info: GraphQLResolveInfo, query: str | None = None) -> Json:  # noqa: N802
        """How many products there are."""
        self._need("products", "productsCount")
        return {"count": len(self._store.products), "precision": "EXACT"}

    def currentAppInstallation(self, info: GraphQLResolveInfo) -> Json:  # noqa: N802
        """The scopes of the token."""
        scopes = [{"handle": one, "description": one} for one in self._access.scopes]
        return {"id": views.gid("AppInstallation", self._store.id), "accessScopes": scopes}

    def bulkOperation(self, info: GraphQLResolveInfo, id: str) -> Json | None:  # noqa: A002, N802
        """One bulk operation, or null; to look at it lets its time pass."""
        found = self._store.bulk.get(_number("BulkOperation", id))
        if found is None:
            return None
        seen = bulk.view(self._world, found)
        found.looks_left = max(found.looks_left - 1, 0)
        return seen

    def bulkOperationRunQuery(  # noqa: N802
        self,
        info: GraphQLResolveInfo,
        query: str,
        groupObjects: bool,  # noqa: N803
    ) -> Json:
        """A new bulk operation; what is wrong with it comes as `userErrors`."""

        def execute(document: DocumentNode) -> ExecutionResult:
            wrong = validate(info.schema, document)
            if wrong:
                return ExecutionResult(None, wrong)
            return execute_sync(info.schema, document, self)

        return bulk.run(self._world, self._store, query, grouped=groupObjects, execute=execute)

    def webhookSubscription(self, info: GraphQLResolveInfo, id: str) -> Json | None:  # noqa: A002, N802
        """One subscription, or null."""
        found = self._store.subscriptions.get(_number("WebhookSubscription", id))
        return views.subscription(found) if found else None

    def webhookSubscriptions(  # noqa: N802
        self,
        info: GraphQLResolveInfo,
        sortKey: str = "",  # noqa: N803
        format: str | None = None,  # noqa: A002
        topics: list[str] | None = None,
        uri: str | None = None,
        **paging: Any,
    ) -> Json:
        """The subscriptions that the app made for the shop."""
        found = [
            one
            for one in self._store.subscriptions.values()
            if (format is None or one.format == format)
            and (topics is None or one.topic in topics)
            and (uri is None or one.uri == uri)
        ]
        return views.connection(found, lambda one: one.id, views.subscription, **paging)

    def webhookSubscriptionCreate(  # noqa: N802
        self,
        info: GraphQLResolveInfo,
        topic: str,
        webhookSubscription: Json,  # noqa: N803
    ) -> Json:
        """A new subscription; what is wrong with it comes as `userErrors`."""
        given = webhookSubscription
        problem = self._refusal(topic, given.get("uri"), given.get("format", "JSON"), None)
        if problem:
            return {"webhookSubscription": None, "userErrors": [problem]}
        made = Subscription(
            id=new_number(),
            topic=topic,
            uri=given["uri"],
            format=given.get("format", "JSON"),
            filter=given.get("filter"),
            include_fields=given.get("includeFields") or [],
            metafield_namespaces=given.get("metafieldNamespaces") or [],
        )
        self._store.subscriptions[made.id] = made
        return {"webhookSubscription": views.subscription(made), "userErrors": []}

    def webhookSubscriptionUpdate(  # noqa: N802
        self,
        info: GraphQLResolveInfo,
        id: str,  # noqa: A002
        webhookSubscription: Json,  # noqa: N803
    ) -> Json:
        """Another address or format for a subscription."""
        found = self._store.subscriptions.get(_number("WebhookSubscription", id))
        if found is None:
            return {"webhookSubscription": None, "userErrors": [_gone()]}
        uri = webhookSubscription.get("uri") or found.uri
        kind = webhookSubscription.get("format") or found.format
        problem = self._refusal(found.topic, uri, kind, found.id)
        if problem:
            return {"webhookSubscription": None, "userErrors": [problem]}
        found.uri, found.format, found.updated_at = uri, kind, now()
        return {"webhookSubscription": views.subscription(found), "userErrors": []}

    def webhookSubscriptionDelete(self, info: GraphQLResolveInfo, id: str) -> Json:  # noqa: A002, N802
        """The end of a subscription."""
        gone = self._store.subscriptions.pop(_number("WebhookSubscription", id), None)
        if gone is None:
            return {"deletedWebhookSubscriptionId": None, "userErrors": [_gone()]}
        return {"deletedWebhookSubscriptionId": id, "userErrors": []}

    def _refusal(self, topic: str, uri: str | None, kind: str, own: int | None) -> Json | None:
        def problem(message: str) -> Json:
            return {"field": ["webhookSubscription", "uri"], "message": message}

        if not uri:
            return problem("Address can't be blank")
        address = urlsplit(uri)
        local = address.hostname in _LOCAL and self._world.webhook_address == uri
        if address.scheme != "https" and not local:
            return problem(f"Address protocol {address.scheme}:// is not supported")
        if self._world.webhook_address not in (None, uri):
            return problem("Address is not allowed: it is not the one that was registered")
        if topic.startswith("PRODUCTS_"):
            try:
                self._need("products", topic)
            except GraphQLError:
                return {
                    "field": ["topic"],
                    "message": "You do not have permission to create or update webhooks with "
                    f"{topic} topic. Required access: `read_products` access scope.",
                }
        for one in self._store.subscriptions.values():
            if (one.topic, one.uri, one.format) == (topic, uri, kind) and one.id != own:
                return problem("Address for this topic has already been taken")
        return None


def _gone() -> Json:
    return {"field": ["id"], "message": "Webhook subscription does not exist"}


def _number(kind: str, text: str) -> int:
    prefix = f"gid://shopify/{kind}/"
    if not text.startswith(prefix) or not text.removeprefix(prefix).isdigit():
        raise GraphQLError(f"Invalid global id '{text}'", extensions={"code": "BAD_REQUEST"})
    return int(text.removeprefix(prefix))
