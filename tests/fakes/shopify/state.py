"""`World`: what the stand-in knows of the app, the shops, their products, and the tokens."""

from __future__ import annotations

import itertools
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.fakes.asked import Call, Json
from tests.fakes.faults import Faults

API_VERSION = "2026-10"
ACCESS_SECONDS = 3600
REFRESH_SECONDS = 90 * 86400
CODE_SECONDS = 600

SCOPES = {
    f"{act}_{what}"
    for act in ("read", "write")
    for what in ("products", "inventory", "orders", "customers", "content", "themes", "locales")
}

_numbers = itertools.count(8_100_000_000_001)


def new_number() -> int:
    """The number of something new; each exists once."""
    return next(_numbers)


def now() -> str:
    """This second, as the GraphQL API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Variant:
    """One thing that can be bought."""

    title: str = "Default Title"
    price: str = "12.50"
    sku: str | None = None
    barcode: str | None = None
    compare_at_price: str | None = None
    inventory_quantity: int = 10
    id: int = field(default_factory=new_number)


@dataclass
class Product:
    """A product with its variants; times as in GraphQL, in UTC."""

    id: int
    title: str
    handle: str
    status: str = "ACTIVE"
    description_html: str = "<p>Reif & würzig</p>"
    vendor: str = "Sennerei"
    product_type: str = "Käse"
    tags: list[str] = field(default_factory=list)
    variants: list[Variant] = field(default_factory=lambda: [Variant()])
    images: list[str] = field(default_factory=list)
    online_store_url: str | None = None
    created_at: str = field(default_factory=now)
    updated_at: str = field(default_factory=now)
    published_at: str | None = field(default_factory=now)


@dataclass
class Subscription:
    """A webhook that the bot asked for."""

    id: int
    topic: str  # as in the enumeration: PRODUCTS_UPDATE
    uri: str
    format: str
    filter: str | None
    include_fields: list[str]
    metafield_namespaces: list[str]
    created_at: str = field(default_factory=now)
    updated_at: str = field(default_factory=now)


@dataclass
class Shop:
    """A merchant's shop; `values` are the fields of GraphQL's `Shop` that a test may change."""

    domain: str
    id: int
    values: Json
    products: dict[int, Product] = field(default_factory=dict)
    subscriptions: dict[int, Subscription] = field(default_factory=dict)
    installed: bool = False
    bulk: dict[int, Bulk] = field(default_factory=dict)


@dataclass
class Bulk:
    """A bulk operation: what it found, and how it will end."""

    id: int
    query: str
    lines: list[bytes]
    roots: int
    outcome: str
    looks_left: int  # so many more times it is still running
    name: str = field(default_factory=lambda: secrets.token_urlsafe(24))  # of its file
    gone: bool = False  # the file, after seven days
    created_at: str = field(default_factory=now)

    @property
    def status(self) -> str:
        """What it says of itself."""
        return "RUNNING" if self.looks_left > 0 else self.outcome


@dataclass
class Code:
    """What the callback carries: good once, for one shop."""

    value: str
    shop: str
    scopes: list[str]
    expires: float
    used: bool = False


@dataclass
class Access:
    """An access token; without `expires` it is of the old kind that lasts."""

    value: str
    shop: str
    scopes: list[str]
    expires: float | None
    dead: bool = False
    requests_left: int | None = None  # it expires after so many more

    @property
    def good(self) -> bool:
        """Whether it opens anything."""
        used_up = self.requests_left == 0
        return not (self.dead or used_up) and (self.expires is None or self.expires > time.time())


@dataclass
class Refresh:
    """A refresh token, and what it was exchanged for."""

    value: str
    shop: str
    scopes: list[str]
    access: str
    expires: float
    dead: bool = False
    successor: Refresh | None = None


@dataclass
class Options:
    """How the stand-in differs from the usual."""

    access_seconds: float = ACCESS_SECONDS
    access_requests: int | None = None  # a new token expires after so many
    refresh_seconds: float = REFRESH_SECONDS
    granted_scope: str | None = None  # what every new token has, whatever was asked for
    allow_non_expiring: bool = False  # the real one refuses them to new public apps
    refresh_grace: bool = False  # a used refresh token works until its successor was used
    answered_version: str | None = None  # another X-Shopify-API-Version
    max_query_cost: int = 1000
    bucket: int = 2000
    restore_rate: float = 100.0
    bulk_looks: int = 1  # so often a new bulk operation says that it runs
    bulk_outcome: str = "COMPLETED"  # or FAILED, CANCELED, EXPIRED
    bulk_lines_lost: int = 0  # so many lines are missing at the end of its file


@dataclass
class World:
    """Everything; one per process, changed only between awaits."""

    base_url: str
    api_key: str = field(default_factory=lambda: secrets.token_hex(16))
    api_secret: str = field(default_factory=lambda: f"shpss_{secrets.token_hex(16)}")
    redirect_uris: set[str] = field(default_factory=set)
    webhook_address: str | None = None
    shops: dict[str, Shop] = field(default_factory=dict)
    defects: list[Json] = field(default_factory=list)  # of the next callbacks
    codes: dict[str, Code] = field(default_factory=dict)
    access: dict[str, Access] = field(default_factory=dict)
    refresh: dict[str, Refresh] = field(default_factory=dict)
    options: Options = field(default_factory=Options)
    buckets: dict[str, tuple[float, float]] = field(default_factory=dict)  # shop: level, when
    faults: Faults = field(default_factory=Faults)
    calls: list[Call] = field(default_factory=list)

    def new_code(self, shop: str, scopes: list[str]) -> Code:
        """A code for a shop."""
        code = Code(secrets.token_hex(16), shop, scopes, time.time() + CODE_SECONDS)
        self.codes[code.value] = code
        return code

    def new_access(self, shop: str, scopes: list[str], *, expiring: bool) -> Access:
        """An access token; a new expiring one ends the earlier ones of the shop."""
        if expiring:
            for one in self.access.values():
                one.dead = one.dead or (one.shop == shop and one.expires is not None)
        expires = time.time() + self.options.access_seconds if expiring else None
        access = Access(f"shpat_{secrets.token_hex(16)}", shop, scopes, expires)
        access.requests_left = self.options.access_requests
        self.access[access.value] = access
        self.shops[shop].installed = True
        return access

    def new_refresh(self, access: Access) -> Refresh:
        """The refresh token that comes with an access token."""
        value = f"shprt_{secrets.token_hex(16)}"
        expires = time.time() + self.options.refresh_seconds
        refresh = Refresh(value, access.shop, access.scopes, access.value, expires)
        self.refresh[value] = refresh
        return refresh

    def revoke(self, shop: str) -> int:
        """Every token of a shop is void; how many were good."""
        mine = [one for one in self.access.values() if one.shop == shop and one.good]
        for access in mine:
            access.dead = True
        for refresh in self.refresh.values():
            refresh.dead = refresh.dead or refresh.shop == shop
        return len(mine)

    def current(self, shop: str) -> Access | None:
        """The access token of a shop that was issued last, if it is not revoked."""
        mine = [one for one in self.access.values() if one.shop == shop and not one.dead]
        return mine[-1] if mine else None
