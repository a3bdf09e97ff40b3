"""The stand-in for Shopify refuses what the platform refuses, and sends what it sends."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest

from tests.support.fake_shopify import FakeShopify
from tests.support.listener import Listener
from tests.support.waiting import eventually

SHOP = "kaesehaus.myshopify.com"
REDIRECT = "https://bot.example/shopify/callback"
PRODUCTS = """query ($first: Int!, $after: String) {
  products(first: $first, after: $after) {
    nodes { id title updatedAt variants(first: 2) { nodes { id price inventoryQuantity } } }
    pageInfo { hasNextPage endCursor }
  }
}"""
SUBSCRIBE = """mutation ($topic: WebhookSubscriptionTopic!, $to: WebhookSubscriptionInput!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: $to) {
    webhookSubscription { id topic uri format }
    userErrors { field message }
  }
}"""


@dataclass
class Bot:
    """What a bot does at Shopify, with every part of a call open to change."""

    shopify: FakeShopify
    http: httpx2.Client

    @property
    def admin(self) -> str:
        return f"{self.shopify.settings()['SHOPIFY_ADMIN_URL'].format(shop=SHOP)}/admin"

    def authorize(self, **changes: Any) -> httpx2.Response:
        asked = {
            "client_id": self.shopify.api_key,
            "scope": "read_products",
            "redirect_uri": REDIRECT,
            "state": "a-state",
            **changes,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        return self.http.get(f"{self.admin}/oauth/authorize", params=given)

    def code(self, **changes: Any) -> str:
        return dict(query_of(self.authorize(**changes).headers["location"]))["code"]

    def exchange(self, **given: Any) -> httpx2.Response:
        body = {
            "client_id": self.shopify.api_key,
            "client_secret": self.shopify.api_secret,
            **given,
        }
        return self.http.post(f"{self.admin}/oauth/access_token", json=body)

    def install(self, **changes: Any) -> dict[str, Any]:
        pair: dict[str, Any] = self.exchange(code=self.code(**changes), expiring=1).json()
        return pair

    def refresh(self, token: str) -> httpx2.Response:
        return self.exchange(grant_type="refresh_token", refresh_token=token)

    def ask(
        self, token: str, query: str, *, version: str = "2026-10", **variables: Any
    ) -> httpx2.Response:
        return self.http.post(
            f"{self.admin}/api/{version}/graphql.json",
            headers={"X-Shopify-Access-Token": token},
            json={"query": query, "variables": variables},
        )

    def data(self, token: str, query: str, **variables: Any) -> Any:
        answer = self.ask(token, query, **variables).json()
        assert "errors" not in answer, answer
        return answer["data"]


def query_of(url: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(url).query, keep_blank_values=True)


@pytest.fixture
def shopify(shopify: FakeShopify) -> FakeShopify:
    shopify.register(redirect_uri=REDIRECT)
    shopify.add_shop(SHOP)
    return shopify


@pytest.fixture
def bot(shopify: FakeShopify) -> Iterator[Bot]:
    with httpx2.Client(trust_env=False) as http:
        yield Bot(shopify, http)


@pytest.fixture
def receiver(shopify: FakeShopify) -> Iterator[Listener]:
    with Listener() as receiver:
        shopify.register(webhook=receiver.url)
        yield receiver


def test_the_authorization_page_refuses_what_is_not_registered(bot: Bot) -> None:
    """Another app, redirect address, scope, argument or shop, or no state, leads nowhere."""
    changes: list[dict[str, Any]] = [
        {"client_id": "1"},
        {"redirect_uri": REDIRECT + "/"},
        {"scope": "read_everything"},
        {"scope": None},
        {"state": None},
        {"colour": "red"},
    ]
    for changed in changes:
        assert bot.authorize(**changed).status_code == 400, changed
    other = bot.admin.replace(SHOP, "nobody.myshopify.com")
    assert bot.http.get(f"{other}/oauth/authorize").status_code == 404
    assert bot.authorize().status_code == 302


def test_the_callback_is_signed_over_its_sorted_query(bot: Bot) -> None:
    """It carries code, host, shop, state and timestamp, and the hex HMAC of them."""
    given = query_of(bot.authorize().headers["location"])

    names = [name for name, _ in given]
    assert names == ["code", "hmac", "host", "shop", "state", "timestamp"]
    message = "&".join(f"{name}={value}" for name, value in given if name != "hmac")
    secret = bot.shopify.api_secret.encode()
    right = hmac.new(secret, message.encode(), hashlib.sha256).hexdigest()
    assert dict(given)["hmac"] == right
    assert dict(given)["state"] == "a-state"
    assert abs(int(dict(given)["timestamp"]) - time.time()) < 60


@pytest.mark.parametrize(
    ("defects", "signed"),
    [
        ({}, True),
        ({"extra": {"locale": "de"}}, True),
        ({"age_seconds": 90_000}, True),
        ({"shop_in_query": "other.myshopify.com"}, True),
        ({"duplicate": ("shop", "other.myshopify.com")}, True),
        ({"without": ["state"]}, True),
        ({"hmac_is": "wrong"}, False),
        ({"hmac_is": "of-other-query"}, False),
        ({"hmac_is": "malformed"}, False),
        ({"hmac_is": "missing"}, False),
    ],
)
def test_a_callback_can_be_wrong_in_one_way(
    shopify: FakeShopify, defects: dict[str, Any], signed: bool
) -> None:
    """All but the defect is right, the signature of what is sent too."""
    given = query_of(shopify.callback_url(SHOP, "a-state", **defects))

    right = shopify.sign_query([one for one in given if one[0] != "hmac"])
    assert (dict(given).get("hmac") == right) is signed
    names = [name for name, _ in given]
    assert (names.count("shop") == 2) == ("duplicate" in defects)
    assert ("state" in names) == ("without" not in defects)


def test_a_code_is_good_once_for_its_own_shop(bot: Bot) -> None:
    """A second use, another shop or a wrong secret gives no token."""
    bot.shopify.add_shop("other.myshopify.com")
    code = bot.code()
    other = bot.admin.replace(SHOP, "other.myshopify.com")
    body = {"client_id": bot.shopify.api_key, "client_secret": bot.shopify.api_secret, "code": code}

    assert bot.exchange(code=code, client_secret="wrong").json()["error"] == "invalid_client"
    assert bot.exchange(code=code, colour="red").json()["error"] == "invalid_request"
    elsewhere = bot.http.post(f"{other}/oauth/access_token", json=body)
    assert (elsewhere.status_code, elsewhere.json()["error"]) == (400, "invalid_request")
    taken = bot.http.post(f"{bot.admin}/oauth/access_token", data={**body, "expiring": "1"}).json()
    assert taken["scope"] == "read_products"
    assert 3590 <= taken["expires_in"] <= 3600
    assert taken["refresh_token_expires_in"] > 80 * 86400
    assert bot.exchange(code=code).json()["error"] == "invalid_request"


def test_a_refresh_token_is_good_once(bot: Bot) -> None:
    """It gives a new pair and ends the old access token; of many at once the first wins."""
    first = bot.install()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(bot.refresh, [first["refresh_token"]] * 4))

    assert sorted(one.status_code for one in answers) == [200, 400, 400, 400]
    refused = next(one for one in answers if one.status_code == 400)
    assert refused.json()["error"] == "invalid_grant"
    second = next(one for one in answers if one.status_code == 200).json()
    assert bot.ask(first["access_token"], "{ shop { name } }").status_code == 401
    assert bot.data(second["access_token"], "{ shop { name } }") == {"shop": {"name": "Käsehaus"}}


def test_with_grace_a_used_refresh_token_gives_the_same_pair(bot: Bot) -> None:
    """Until its successor is used: the way back after an answer that was lost."""
    bot.shopify.configure(refresh_grace=True)
    first = bot.install()

    lost = bot.refresh(first["refresh_token"]).json()
    again = bot.refresh(first["refresh_token"]).json()
    bot.refresh(again["refresh_token"])

    assert lost["access_token"] == again["access_token"]
    assert bot.refresh(first["refresh_token"]).json()["error"] == "invalid_grant"


def test_only_a_good_token_opens_the_api(bot: Bot) -> None:
    """Unknown, expired, revoked, of the old kind, for a scope or version that it has not."""
    query = "{ shop { name } }"
    assert bot.ask("shpat_unknown", query).status_code == 401
    old = bot.exchange(code=bot.code()).json()
    assert set(old) == {"access_token", "scope"}
    assert bot.ask(old["access_token"], query).status_code == 403
    token = bot.install()["access_token"]
    answer = bot.ask(token, query)
    assert (answer.status_code, answer.headers["x-shopify-api-version"]) == (200, "2026-10")
    assert bot.ask(token, query, version="2024-01").status_code == 404
    assert bot.shopify.expire_access_token(SHOP) == 1 + 1  # the old kind too
    assert bot.ask(token, query).status_code == 401
    bot.shopify.configure(granted_scope="read_orders")
    narrow = bot.install()
    assert narrow["scope"] == "read_orders"
    denied = bot.ask(narrow["access_token"], PRODUCTS, first=5).json()["errors"][0]
    assert denied["extensions"]["code"] == "ACCESS_DENIED"
    bot.shopify.revoke_tokens(SHOP)
    assert bot.refresh(narrow["refresh_token"]).json()["error"] == "invalid_grant"


def test_products_come_in_pages(bot: Bot) -> None:
    """Each product is seen once, in every page as many as were asked for."""
    token = bot.install()["access_token"]
    put = [bot.shopify.put_product(SHOP, title=f"Käse {n}").product_id for n in range(5)]
    seen: list[str] = []
    after = None
    while True:
        found = bot.data(token, PRODUCTS, first=2, after=after)["products"]
        seen += [one["id"] for one in found["nodes"]]
        if not found["pageInfo"]["hasNextPage"]:
            break
        after = found["pageInfo"]["endCursor"]

    assert seen == [f"gid://shopify/Product/{number}" for number in put]
    assert found["nodes"][0]["variants"]["nodes"][0]["price"] == "12.50"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{ shop { nonsense } }", "Cannot query field"),
        ("{ orders(first: 1) { nodes { id } } }", "Cannot query field"),
        ("{ products(limit: 1) { nodes { id } } }", "Unknown argument"),
        ("{ products(first: 251) { nodes { id } } }", "between 1 and 250"),
        ("{ products { nodes { id } } }", "you must provide one of first or last"),
        ('{ products(first: 1, after: "x") { nodes { id } } }', "Invalid cursor"),
        ("{ products(first: 250) { nodes { variants(first: 100) { nodes { id } } } } }", "exceeds"),
        ("{ shop { name ", "Syntax Error"),
    ],
)
def test_a_wrong_query_is_refused(bot: Bot, query: str, message: str) -> None:
    """With status 200 and an error that says why."""
    answer = bot.ask(bot.install()["access_token"], query)

    assert answer.status_code == 200
    assert message in answer.json()["errors"][0]["message"]


def test_a_subscription_is_made_once(bot: Bot, receiver: Listener) -> None:
    """The second is a user error, as are other addresses; compliance topics do not exist."""
    token = bot.install()["access_token"]

    def subscribe(uri: str, topic: str = "PRODUCTS_UPDATE") -> Any:
        made = bot.data(token, SUBSCRIBE, topic=topic, to={"uri": uri, "format": "JSON"})
        return made["webhookSubscriptionCreate"]

    assert subscribe(receiver.url)["userErrors"] == []
    again = subscribe(receiver.url)
    assert again["webhookSubscription"] is None
    assert "already been taken" in again["userErrors"][0]["message"]
    assert subscribe("https://other.example/")["userErrors"]
    assert subscribe("http://other.example/")["userErrors"]
    older = bot.ask(token, SUBSCRIBE, topic="PRODUCTS_UPDATE", to={"callbackUrl": receiver.url})
    assert "callbackUrl" in older.json()["errors"][0]["message"]
    refused = bot.ask(token, SUBSCRIBE, topic="CUSTOMERS_REDACT", to={"uri": receiver.url})
    assert "CUSTOMERS_REDACT" in refused.json()["errors"][0]["message"]
    assert bot.shopify.subscriptions(SHOP) == {"PRODUCTS_UPDATE": receiver.url}
    listed = bot.data(token, "{ webhookSubscriptions(first: 9) { nodes { topic uri } } }")
    assert listed["webhookSubscriptions"]["nodes"] == [
        {"topic": "PRODUCTS_UPDATE", "uri": receiver.url}
    ]


def test_events_reach_the_subscriptions(bot: Bot, receiver: Listener) -> None:
    """A changed product is told in the REST shape, with the shop's time; an unsubscribed is not."""
    token = bot.install()["access_token"]
    for topic in ("PRODUCTS_UPDATE", "APP_UNINSTALLED"):
        bot.data(token, SUBSCRIBE, topic=topic, to={"uri": receiver.url})

    put = bot.shopify.put_product(SHOP, title="Bergkäse", tags=["b", "a"])
    assert (put.topic, put.deliveries) == ("products/create", [])
    changed = bot.shopify.put_product(
        SHOP,
        put.product_id,
        updated_at="2026-11-20T12:00:00Z",
        variants=[{"price": "9.90", "inventory_quantity": 3}],
    )
    bot.shopify.uninstall(SHOP)

    told, gone = receiver.heard
    assert told.headers["x-shopify-topic"] == changed.topic == "products/update"
    body = json.loads(told.body)
    assert body == changed.body
    assert body["updated_at"] == "2026-11-20T13:00:00+01:00"
    assert (body["tags"], body["variants"][0]["price"]) == ("a, b", "9.90")
    assert gone.headers["x-shopify-topic"] == "app/uninstalled"
    assert bot.ask(token, "{ shop { name } }").status_code == 401
    assert bot.shopify.subscriptions(SHOP) == {}


def test_a_webhook_is_signed_over_its_bytes(shopify: FakeShopify, receiver: Listener) -> None:
    """Umlauts stay, signs of HTML are escaped; the HMAC is base64 of exactly these bytes."""
    number = shopify.put_product(SHOP, description_html="<p>Käse & Brot</p>").product_id

    sent = shopify.send_webhook(SHOP, "products/update", product_id=number, copies=2)

    first, second = receiver.heard
    assert "\\u003cp\\u003eKäse \\u0026 Brot".encode() in first.body
    made = hmac.new(shopify.api_secret.encode(), first.body, hashlib.sha256).digest()
    assert first.headers["x-shopify-hmac-sha256"] == base64.b64encode(made).decode()
    assert first.headers["x-shopify-hmac-sha256"] == shopify.sign(first.body)
    assert first.headers["x-shopify-webhook-id"] == sent.webhook_id
    assert first.headers["x-shopify-shop-domain"] == SHOP
    assert first.headers["x-shopify-api-version"] == "2026-10"
    assert {"x-shopify-triggered-at", "x-shopify-event-id"} <= set(first.headers)
    assert second == first


def test_webhooks_can_be_wrong_stale_and_retried(shopify: FakeShopify, receiver: Listener) -> None:
    """Every signature but the valid one is wrong; a retry has the same id and bytes."""
    for signature in ("wrong", "other-body", "hex", "missing"):
        shopify.send_webhook(SHOP, "shop/redact", signature=signature)
    shopify.send_webhook(SHOP, "shop/redact", signature_header="ü")
    right = shopify.sign(receiver.heard[0].body)
    headers = [got.headers.get("x-shopify-hmac-sha256") for got in receiver.heard]
    assert right not in headers
    assert headers[3:] == [None, "ü"]
    receiver.heard.clear()
    receiver.statuses = [500] * 8

    sent = shopify.send_webhook(
        SHOP, "customers/redact", customer={"id": 7}, retries=8, pause=0.001
    )

    assert [one.status for one in sent.deliveries] == [500] * 8 + [200]
    assert len({got.body for got in receiver.heard}) == 1
    ids = {got.headers["x-shopify-webhook-id"] for got in receiver.heard}
    assert ids == {sent.webhook_id}
    assert json.loads(receiver.heard[0].body)["customer"] == {"id": 7}


def test_a_burst_keeps_its_time(shopify: FakeShopify, receiver: Listener) -> None:
    """Every webhook is sent, at an even pace, with an id of its own."""
    shopify.put_product(SHOP)

    burst = shopify.burst(SHOP, 40, 0.2)

    assert burst.statuses == {200: 40}
    ids = {got.headers["x-shopify-webhook-id"] for got in receiver.heard}
    assert ids == set(burst.ids)


def test_throttling_and_faults_happen_as_often_as_asked(bot: Bot) -> None:
    """A throttled call has status 200 and says how long to wait; then all is well again."""
    token = bot.install()["access_token"]
    bot.shopify.throttle("graphql:products", restore_rate=50, requested=100)
    assert bot.data(token, "{ shop { name } }")
    throttled = bot.ask(token, PRODUCTS, first=2)
    assert throttled.status_code == 200
    assert throttled.json()["errors"][0]["extensions"]["code"] == "THROTTLED"
    cost = throttled.json()["extensions"]["cost"]
    assert (cost["requestedQueryCost"], cost["throttleStatus"]["restoreRate"]) == (100, 50)
    bot.shopify.answer_status("graphql", 429, headers={"retry-after": "2"})
    limited = bot.ask(token, PRODUCTS, first=2)
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "2")
    bot.shopify.fail("graphql", "INTERNAL_SERVER_ERROR")
    failed = bot.ask(token, PRODUCTS, first=2).json()["errors"][0]
    assert failed["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
    bot.shopify.fail("access_token", "invalid_grant")
    assert bot.refresh("any").json()["error"] == "invalid_grant"

    assert bot.data(token, PRODUCTS, first=2)
    calls = bot.shopify.calls("graphql:products")
    assert [(one.status, one.detail) for one in calls] == [
        (200, "THROTTLED"),
        (429, None),
        (200, "INTERNAL_SERVER_ERROR"),
        (200, None),
    ]
    assert {(one.token, one.token_in, one.subject) for one in calls} == {(token, "header", SHOP)}


def test_a_draining_bucket_fills_again(bot: Bot) -> None:
    """What queries cost is gone until it is restored, at the rate that the answers name."""
    token = bot.install()["access_token"]
    bot.shopify.put_products(SHOP, ["Emmentaler", "Gruyère"])
    cost = bot.ask(token, PRODUCTS, first=2).json()["extensions"]["cost"]["requestedQueryCost"]
    bot.shopify.configure(bucket=cost, restore_rate=20.0)

    def throttled() -> bool:
        return "errors" in bot.ask(token, PRODUCTS, first=2).json()

    assert not throttled()
    assert throttled()
    eventually(lambda: not throttled(), "the bucket fills", seconds=5)


def test_what_a_query_did_not_use_is_given_back(bot: Bot) -> None:
    """It needs the points of 250 products to begin, and costs those of the two that there are."""
    token = bot.install()["access_token"]
    bot.shopify.put_products(SHOP, ["Emmentaler", "Gruyère"])
    bot.shopify.configure(restore_rate=0.001)

    cost = bot.ask(token, PRODUCTS, first=100).json()["extensions"]["cost"]

    # Two for each list, one for each object in it: two products with a variant each.
    assert (cost["requestedQueryCost"], cost["actualQueryCost"]) == (2 + 100 * (1 + 2 + 2), 10)
    assert cost["throttleStatus"]["currentlyAvailable"] == 2000 - 10
    assert "errors" not in bot.ask(token, PRODUCTS, first=100).json()
    bot.shopify.configure(bucket=501, restore_rate=0.001)
    assert "errors" in bot.ask(token, PRODUCTS, first=100).json()


def test_a_token_that_somebody_else_rotated_is_void(bot: Bot) -> None:
    """Neither half of the old pair works."""
    pair = bot.install()

    new = bot.shopify.rotate_token(SHOP)

    assert bot.ask(pair["access_token"], "{ shop { name } }").status_code == 401
    assert bot.refresh(pair["refresh_token"]).json()["error"] == "invalid_grant"
    assert bot.data(new.access_token, "{ shop { name } }")
    assert bot.shopify.token(SHOP) == new


BULK = """mutation ($text: String!, $grouped: Boolean!) {
  bulkOperationRunQuery(query: $text, groupObjects: $grouped) {
    bulkOperation { id status }
    userErrors { code message }
  }
}"""
LOOK = """query ($id: ID!) {
  bulkOperation(id: $id) { status errorCode url partialDataUrl objectCount rootObjectCount }
}"""
ALL = "{ products { edges { node { id variants { edges { node { id } } } } } } }"


def bulk(bot: Bot, token: str, query: str = ALL, *, grouped: bool = True) -> Any:
    """The payload of a new bulk operation."""
    answer = bot.ask(token, BULK, text=query, grouped=grouped).json()
    return answer["data"]["bulkOperationRunQuery"]


def test_a_bulk_operation_makes_a_file_of_all(bot: Bot) -> None:
    """A line for each object, children with their parent; one at a time, and not for ever."""
    token = bot.install()["access_token"]
    bot.shopify.put_products(SHOP, ["Emmentaler", "Gruyère"])
    begun = bulk(bot, token)["bulkOperation"]
    second = bulk(bot, token)
    assert [one["code"] for one in second["userErrors"]] == ["OPERATION_IN_PROGRESS"]

    seen = [bot.ask(token, LOOK, id=begun["id"]).json()["data"]["bulkOperation"] for _ in range(2)]
    assert [one["status"] for one in seen] == ["RUNNING", "COMPLETED"]
    assert [one["url"] is None for one in seen] == [True, False]
    assert (seen[1]["objectCount"], seen[1]["rootObjectCount"]) == ("4", "2")
    lines = [json.loads(line) for line in bot.http.get(seen[1]["url"]).text.splitlines()]
    assert [one.get("__parentId") for one in lines] == [None, lines[0]["id"], None, lines[2]["id"]]
    bot.shopify.lose_bulk_files(SHOP)
    assert bot.http.get(seen[1]["url"]).status_code == 403


def test_a_failed_bulk_operation_has_a_part(bot: Bot) -> None:
    """At an address of another name; without grouping children come wherever they like."""
    token = bot.install()["access_token"]
    bot.shopify.put_products(SHOP, ["Emmentaler", "Gruyère"])
    bot.shopify.configure(bulk_outcome="FAILED", bulk_looks=0)
    begun = bulk(bot, token, grouped=False)["bulkOperation"]

    seen = bot.ask(token, LOOK, id=begun["id"]).json()["data"]["bulkOperation"]

    assert (seen["status"], seen["errorCode"], seen["url"]) == ("FAILED", "TIMEOUT", None)
    lines = bot.http.get(seen["partialDataUrl"]).text.splitlines()
    assert ["__parentId" in json.loads(line) for line in lines] == [True, True]


@pytest.mark.parametrize(
    "query",
    [
        "{ shop { name } }",
        "{ products { nodes { id } } }",
        "{ products { edges { node { id nothing } } } }",
        "{ products { edges { node { id } } } shop { name } }",
        "mutation { webhookSubscriptionDelete(id: 1) { userErrors { message } } }",
        "{ products {",
    ],
)
def test_a_bulk_operation_takes_one_list(bot: Bot, query: str) -> None:
    """What else is asked for comes back as `userErrors`."""
    refused = bulk(bot, bot.install()["access_token"], query)

    assert refused["bulkOperation"] is None
    assert [one["code"] for one in refused["userErrors"]] == ["INVALID"]
