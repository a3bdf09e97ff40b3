"""Webhooks and signed requests: the signature first, the body capped, the ids checked."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import socket
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx2
import pytest

from shared.merchants.webhook_requests import MOST_BYTES
from tests.bot.conftest import new_shop
from tests.support.bot import Bot
from tests.support.merchant import Merchant, refused
from tests.support.waiting import eventually

SIGNATURE = {"facebook": "x-hub-signature-256", "shopify": "x-shopify-hmac-sha256"}
PLATFORMS = sorted(SIGNATURE)
HOSTILE = (
    "../x",
    "..",
    "a/b",
    "1/2",
    "",
    " ",
    "1\n",
    "1\x00",
    "\uff11\uff12\uff13",
    "-1",
    "1" * 33,
    "10_٣",
    "%2e%2e",
    "1.0",
)


def sign(bot: Bot, platform: str, body: bytes) -> str:
    """The right signature of a body."""
    return bot.graph.sign(body) if platform == "facebook" else bot.shopify.sign(body)


def tell(
    browser: Merchant, platform: str, body: bytes, *signatures: bytes, **headers: str
) -> httpx2.Response:
    """Send a webhook with these values of the signature's header."""
    given = {"content-type": "application/json", **headers}
    if platform == "shopify":
        about = {
            "x-shopify-topic": "products/update",
            "x-shopify-shop-domain": "nobody.myshopify.com",
            "x-shopify-webhook-id": hashlib.sha256(body).hexdigest(),
        }
        given = {**about, **given}
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
    pairs += [(SIGNATURE[platform].encode(), signature) for signature in signatures]
    return browser.post(f"/{platform}/webhook", content=body, headers=pairs)


def told(bot: Bot, browser: Merchant, platform: str, body: bytes, **headers: str) -> None:
    """A correctly signed webhook, which is accepted."""
    answer = tell(browser, platform, body, sign(bot, platform, body).encode(), **headers)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def inbox(bot: Bot, what: str, *values: str) -> list[tuple[Any, ...]]:
    """Rows of `inbox.db`: (account, topic, body, done), by a condition."""
    with closing(sqlite3.connect(bot.installation.folder / "data" / "inbox.db")) as connection:
        query = f"SELECT account, topic, body, done FROM events WHERE {what}"
        return connection.execute(query, values).fetchall()


def message(page: object, sender: object, mid: object = "m_1", **more: object) -> bytes:
    """The body of a webhook with one message."""
    event = {
        "sender": {"id": sender},
        "recipient": {"id": page},
        "timestamp": 1_790_000_000_000,
        "message": {"mid": mid, "text": "Grüezi"},
        **more,
    }
    entry = {"id": page, "time": 1_790_000_000_000, "messaging": [event]}
    return json.dumps({"object": "page", "entry": [entry]}).encode()


# --- signatures ---------------------------------------------------------------------------


@pytest.mark.parametrize("platform", PLATFORMS)
def test_only_the_exact_signature_is_taken(
    lasting_bot: Bot, merchant: Merchant, platform: str
) -> None:
    """Whatever else is in the header, or in two of them: 401, never a fault, nothing kept."""
    body = message("1", "2", f"signature-{platform}")
    right = sign(lasting_bot, platform, body).encode()
    digest = right.removeprefix(b"sha256=")
    shapes: list[tuple[bytes, ...]] = [
        (),
        (b"",),
        (b"\xff\xfe\x80",),
        (b"sha256=\xff\xfe\x80" + digest[3:],),
        ("ä".encode() * 32,),
        (right[:-1],),
        (right + b"0",),
        (b"a" * 30_000,),
        (digest.swapcase(),),
        (b"sha256=" + digest.swapcase(),),
        (b"SHA256=" + digest,),
        (b"sha1=" + digest,),
        (b"sha256=sha256=" + digest,),
        (b"sha256=",),
        (b"sha256:" + digest,),
        (right + b", " + right,),
        (right, right),
        (right, b"wrong"),
        (b"wrong", right),
        (sign(lasting_bot, platform, body + b" ").encode(),),
        (sign(lasting_bot, platform, b"").encode(),),
    ]
    if platform == "facebook":
        shapes.append((digest,))
    other = PLATFORMS[1 - PLATFORMS.index(platform)]
    shapes.append((sign(lasting_bot, other, body).encode(),))
    texts = {
        refused(tell(merchant, platform, body, *shape), 401, "signature_wrong") for shape in shapes
    }
    assert len(texts) == 1, "the refusals tell one wrong signature from another"
    named = (f"signature-{platform}", hashlib.sha256(body).hexdigest())
    assert inbox(lasting_bot, "event_id IN (?, ?)", *named) == []
    told(lasting_bot, merchant, platform, body)
    assert len(inbox(lasting_bot, "event_id IN (?, ?)", *named)) == 1


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe", b"[", b"[1]", b"null", b"[" * 200_000, b"{" + b'"a":{' * 100_000],
    ids=len,
)
def test_the_signature_counts_before_the_body_is_read(
    lasting_bot: Bot, merchant: Merchant, platform: str, body: bytes
) -> None:
    """Garbage with a wrong signature is 401; it is looked at only with the right one."""
    refused(tell(merchant, platform, body, b"sha256=" + b"0" * 64), 401, "signature_wrong")
    right = sign(lasting_bot, platform, body).encode()
    refused(tell(merchant, platform, body, right), 400, "body_malformed")


def test_the_bytes_are_signed_and_not_what_they_mean(lasting_bot: Bot, merchant: Merchant) -> None:
    """The same JSON in other bytes has another signature."""
    body = message("1", "2")
    again = json.dumps(json.loads(body), indent=1).encode()
    right = sign(lasting_bot, "facebook", body).encode()
    refused(tell(merchant, "facebook", again, right), 401, "signature_wrong")


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"hub.verify_token": ""},
        {"hub.verify_token": "wrong"},
        {"hub.verify_token": "ä\ud800".encode("utf-8", "surrogatepass")},
        {"hub.verify_token": "\x00"},
        {"hub.verify_token": "x" * 20_000},
    ],
    ids=repr,
)
def test_the_webhook_is_confirmed_to_meta_alone(
    lasting_bot: Bot, merchant: Merchant, query: dict[str, str]
) -> None:
    """Without the token of our own, the challenge is not repeated."""
    asked = urlencode({"hub.mode": "subscribe", "hub.challenge": "4711", **query})
    assert "4711" not in refused(merchant.get(f"/facebook/webhook?{asked}"), 401, "signature_wrong")


def test_the_challenge_is_only_text(lasting_bot: Bot, merchant: Merchant) -> None:
    """With the token and the right mode it is repeated, as plain text that no browser renders."""
    html = "<script>alert(1)</script>"
    asked = {"hub.challenge": html, "hub.verify_token": lasting_bot.graph.verify_token}
    for mode in ({}, {"hub.mode": ""}, {"hub.mode": "unsubscribe"}):
        answer = merchant.get("/facebook/webhook", params={**asked, **mode})
        refused(answer, 401, "signature_wrong")
    answer = merchant.get("/facebook/webhook", params={**asked, "hub.mode": "subscribe"})
    assert (answer.status_code, answer.text) == (200, html)
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"


# --- the size of bodies ---------------------------------------------------------------------


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_body_of_the_largest_size_is_read(
    lasting_bot: Bot, merchant: Merchant, platform: str
) -> None:
    """One byte more is 413, whatever its signature."""
    body = b"{}" + b" " * (MOST_BYTES - 2)
    told(lasting_bot, merchant, platform, body)
    large = body + b" "
    right = sign(lasting_bot, platform, large).encode()
    refused(tell(merchant, platform, large, right), 413, "body_too_large")


ROUTES = (
    "/facebook/webhook",
    "/shopify/webhook",
    "/facebook/deauthorize",
    "/facebook/data-deletion",
)


@pytest.mark.parametrize("path", ROUTES)
def test_a_body_without_an_end_is_not_read_to_it(lasting_bot: Bot, path: str) -> None:
    """Chunks without a length are refused while they come: no end of them is waited for."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bot\r\nTransfer-Encoding: chunked\r\n"
        f"X-Hub-Signature-256: sha256={'0' * 64}\r\nX-Shopify-Hmac-Sha256: {'A' * 43}=\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    )
    chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    request = head.encode() + chunk * (MOST_BYTES // 0x10000 + 1)
    assert raw(lasting_bot, request).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("path", ROUTES[:2])
def test_no_body_is_waited_for_without_a_signature(lasting_bot: Bot, path: str) -> None:
    """The header is missing: the answer comes before the first byte of the body."""
    head = f"POST {path} HTTP/1.1\r\nHost: bot\r\nContent-Length: 1000\r\n\r\n"
    assert raw(lasting_bot, head.encode()).startswith(b"HTTP/1.1 401")


def raw(bot: Bot, request: bytes, *, close: bool = False) -> bytes:
    """What comes back for these bytes; `close` says that no more will follow."""
    with closing(socket.create_connection(("127.0.0.1", bot.app.port), 20)) as peer:
        peer.sendall(request)
        if close:
            peer.shutdown(socket.SHUT_WR)
        return peer.recv(65536)


def test_a_length_that_is_not_true_gains_nothing(lasting_bot: Bot, merchant: Merchant) -> None:
    """Fewer bytes than were told are no body; more of them are not part of it."""
    body = message("1", "2", "lying-length")
    right = sign(lasting_bot, "facebook", body)

    def request(length: object) -> bytes:
        head = (
            f"POST /facebook/webhook HTTP/1.1\r\nHost: bot\r\nContent-Length: {length}\r\n"
            f"X-Hub-Signature-256: {right}\r\n\r\n"
        )
        return head.encode() + body

    assert raw(lasting_bot, request(10)).startswith(b"HTTP/1.1 401")
    assert b" 200 OK" not in raw(lasting_bot, request(len(body) + 10), close=True)
    assert b" 200 OK" not in raw(lasting_bot, request(10**12), close=True)
    for length in ("-1", "1e3", "ten", f"{len(body)}, 10"):
        assert raw(lasting_bot, request(length)).startswith(b"HTTP/1.1 400")
    assert inbox(lasting_bot, "event_id = 'lying-length'") == []
    assert merchant.get("/healthz").status_code == 200
    assert raw(lasting_bot, request(len(body))).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", ["/facebook/deauthorize", "/facebook/data-deletion"])
def test_a_form_is_small(merchant: Merchant, path: str) -> None:
    """Who is not Meta cannot keep the server busy with millions of form fields."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    refused(merchant.post(path, content=b"a=1&" * 25_000, headers=form), 413, "body_too_large")
    refused(merchant.post(path, content=b"a=1&" * 2_500, headers=form), 401, "signature_wrong")


# --- whom an event is about -----------------------------------------------------------------


def test_events_of_strangers_are_accepted_and_dropped(lasting_bot: Bot, merchant: Merchant) -> None:
    """Correctly signed, about a shop and a Page that we do not know: 200, and nothing stored."""
    before = lasting_bot.keys()
    page, shop = "998877665544", "stranger.myshopify.com"
    told(lasting_bot, merchant, "facebook", message(page, "22", "stranger-1"))
    change = {"field": "name", "value": "Stranger"}
    entry = {"id": page, "time": 1_790_000_000, "changes": [change]}
    body = json.dumps({"object": "page", "entry": [entry]}).encode()
    told(lasting_bot, merchant, "facebook", body)
    topics = ("products/create", "products/delete", "shop/update", "app/uninstalled")
    compliance = ("shop/redact", "customers/redact", "customers/data_request")
    for topic in (*topics, *compliance, "no/such_topic", "connected"):
        headers = {"x-shopify-topic": topic, "x-shopify-shop-domain": shop}
        named = {"shop_domain": shop, "myshopify_domain": shop}
        content = {"id": 1, "title": "Secret", "topic": topic, **named}
        told(lasting_bot, merchant, "shopify", json.dumps(content).encode(), **headers)

    def done() -> bool:
        rows = inbox(lasting_bot, "account IN (?, ?)", page, shop)
        return len(rows) == 11 and all(row[3] for row in rows)

    eventually(done, "the work on these events")
    assert lasting_bot.keys() == before
    assert {row[2] for row in inbox(lasting_bot, "account IN (?, ?)", page, shop)} == {None}


def test_keys_are_made_of_checked_ids_alone(
    lasting_bot: Bot, merchant: Merchant, shop: str
) -> None:
    """Signed events with ids that are none leave no object and no event behind."""
    page = lasting_bot.graph.add_page()
    lasting_bot.graph.user_grants([page])
    merchant.connect_shop(shop)
    merchant.connect_pages()
    for number, hostile in enumerate((*HOSTILE, None, True, 1.5, ["1"], {"id": "1"})):
        told(lasting_bot, merchant, "facebook", message(hostile, "77", f"page-{number}"))
        told(lasting_bot, merchant, "facebook", message(page, hostile, f"sender-{number}"))
    told(lasting_bot, merchant, "facebook", message(page, "77", "good"))
    eventually(
        lambda: any(f"{page}/conversations/" in key for key in list(lasting_bot.keys())),
        "the good message",
    )
    waiting = "account = ? AND topic = 'message' AND event_id LIKE 'sender-%'"
    assert inbox(lasting_bot, waiting, page) == []
    assert inbox(lasting_bot, "event_id LIKE 'page-%'") == []
    allowed = re.compile(
        r"users/[0-9a-f-]{36}/(shopify/[a-z0-9][a-z0-9-]*\.myshopify\.com/"
        r"(shop_(metadata|products)|shop_products/[0-9]{4}-[0-9]{4}|products_read/[0-9]{6}|products_bulk/operation)"
        r"|facebook/[0-9]+/(page_metadata|conversations_read"
        r"|(versions/[0-9]{8}(-cut)?/)?conversations/[0-9]+))\.json"
    )
    for key in lasting_bot.keys(""):
        assert allowed.fullmatch(key) or key.startswith("backups/"), key


@pytest.mark.parametrize(
    "domain",
    [
        "",
        "../x.myshopify.com",
        "x",
        "x.myshopify.com.evil.com",
        "x.myshopify.com/",
        "x.myshopify.com/../y",
        "x.myshopify.com\x85",
        "x_y.myshopify.com",
        "k\xe4se.myshopify.com",
        "." * 10 + ".myshopify.com",
        "person:1",
        f"{'x' * 64}.myshopify.com",
    ],
)
def test_an_event_of_no_shop_is_dropped_at_the_door(
    lasting_bot: Bot, merchant: Merchant, domain: str
) -> None:
    """A signed webhook whose header names no shop is 200, and not even an event."""
    headers = {"x-shopify-shop-domain": domain, "x-shopify-webhook-id": "no-shop"}
    told(lasting_bot, merchant, "shopify", b"{}", **headers)
    assert inbox(lasting_bot, "event_id = 'no-shop'") == []


def test_a_doubled_header_names_no_shop(lasting_bot: Bot, merchant: Merchant, shop: str) -> None:
    """Two shops, or two topics, in one webhook are none."""
    body = b'{"id": 1}'
    right = lasting_bot.shopify.sign(body)
    given = [
        ("x-shopify-hmac-sha256", right),
        ("x-shopify-shop-domain", shop),
        ("x-shopify-topic", "products/delete"),
        ("x-shopify-webhook-id", "doubled"),
    ]
    for more in (("x-shopify-shop-domain", "b.myshopify.com"), ("x-shopify-topic", "shop/redact")):
        answer = merchant.post("/shopify/webhook", content=body, headers=[*given, more])
        assert answer.status_code == 200
    assert inbox(lasting_bot, "event_id = 'doubled'") == []


def connected_shop(bot: Bot, shop: str) -> str:
    """A shop that a merchant has connected; the key of its document, which is there."""
    with Merchant(bot.app.url) as owner:
        owner.connect_shop(shop)

    def key() -> str:
        stored = bot.keys()
        return next((one for one in stored if f"/{shop}/shop_metadata" in one), "")

    return eventually(key, "the shop's document")


@pytest.mark.parametrize("topic", ["shop/redact", "app/uninstalled", "products/delete"])
def test_the_signature_of_a_callback_is_none_of_a_webhook(
    lasting_bot: Bot, merchant: Merchant, shop: str, topic: str
) -> None:
    """Shopify signs both with one key, and any merchant sees the one of their own callback.

    Its bytes, sent as a webhook whose headers name somebody else's shop, do nothing to that.
    """
    key = connected_shop(lasting_bot, shop)
    query = dict(parse_qsl(merchant.begin_shop(new_shop(lasting_bot)).partition("?")[2]))
    signature = base64.b64encode(bytes.fromhex(query.pop("hmac")))
    body = "&".join(f"{name}={value}" for name, value in sorted(query.items())).encode()
    assert signature.decode() == lasting_bot.shopify.sign(body)
    headers = {"x-shopify-topic": topic, "x-shopify-shop-domain": shop}
    refused(tell(merchant, "shopify", body, signature, **headers), 400, "body_malformed")
    assert inbox(lasting_bot, "account = ? AND topic = ?", shop, topic) == []
    assert lasting_bot.document(key)


@pytest.mark.parametrize(
    ("topic", "field"),
    [
        ("shop/redact", "shop_domain"),
        ("app/uninstalled", "myshopify_domain"),
        ("shop/update", "myshopify_domain"),
    ],
)
def test_a_body_about_another_shop_is_dropped(
    lasting_bot: Bot, merchant: Merchant, shop: str, topic: str, field: str
) -> None:
    """The headers are not signed: a body that names its shop counts for that one alone."""
    headers = {"x-shopify-topic": topic, "x-shopify-shop-domain": shop}
    for other in ("other.myshopify.com", "", None, 7, shop.upper() + "."):
        body = json.dumps({"id": 1, field: other}).encode()
        told(lasting_bot, merchant, "shopify", body, **headers)
    assert inbox(lasting_bot, "account = ?", shop) == []
    for own in (shop, shop.upper()):
        body = json.dumps({"id": 1, field: own}).encode()
        told(lasting_bot, merchant, "shopify", body, **headers)
    assert len(inbox(lasting_bot, "account = ?", shop)) == 2


@pytest.mark.parametrize(
    "topic",
    ["shop/redact", "customers/redact", "customers/data_request", "app/uninstalled", "shop/update"],
)
def test_a_body_without_a_shop_is_none_of_a_topic_about_one(
    lasting_bot: Bot, merchant: Merchant, shop: str, topic: str
) -> None:
    """Anybody has the signature of a product of their own: its body names no shop."""
    key = connected_shop(lasting_bot, shop)
    known = len(inbox(lasting_bot, "account = ?", shop))
    headers = {"x-shopify-topic": topic, "x-shopify-shop-domain": shop}
    for body in (b'{"id": 788032119674292922}', b"{}", b'{"myshopify_domain": "", "id": 1}'):
        told(lasting_bot, merchant, "shopify", body, **headers)
    assert len(inbox(lasting_bot, "account = ?", shop)) == known
    assert lasting_bot.document(key)


@pytest.mark.parametrize("before", [b" ", b"\n", b"\t", b"\r\n"])
def test_a_body_begins_with_its_brace(lasting_bot: Bot, merchant: Merchant, before: bytes) -> None:
    """A name that begins with a blank comes first in what is signed of a callback."""
    body = before + b'{"id": 1}'
    answer = tell(merchant, "shopify", body, sign(lasting_bot, "shopify", body).encode())
    refused(answer, 400, "body_malformed")


@pytest.mark.parametrize(
    ("topic", "field"), [("shop/redact", "shop_domain"), ("app/uninstalled", "myshopify_domain")]
)
def test_an_end_from_the_future_is_refused(
    lasting_bot: Bot, merchant: Merchant, shop: str, topic: str, field: str
) -> None:
    """It would never be older than a later login. Shopify sends it again, if our clock is wrong."""
    body = json.dumps({field: shop}).encode()
    headers = {"x-shopify-topic": topic, "x-shopify-shop-domain": shop}
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    answer = tell(
        merchant,
        "shopify",
        body,
        sign(lasting_bot, "shopify", body).encode(),
        **headers,
        **{"x-shopify-triggered-at": later},
    )
    refused(answer, 400, "body_malformed")
    assert inbox(lasting_bot, "account = ?", shop) == []


def test_no_news_is_from_the_future(lasting_bot: Bot, merchant: Merchant, shop: str) -> None:
    """A product that is deleted "tomorrow" would outlive each change until then: it was now."""
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    headers = {
        "x-shopify-topic": "products/delete",
        "x-shopify-shop-domain": shop,
        "x-shopify-triggered-at": later,
    }
    told(lasting_bot, merchant, "shopify", b'{"id": 1}', **headers)
    path = lasting_bot.installation.folder / "data" / "inbox.db"
    with closing(sqlite3.connect(path)) as connection:
        (at,) = connection.execute(
            "SELECT sent_at FROM events WHERE account = ?", (shop,)
        ).fetchone()
    assert at < later[:19]


def test_capitals_of_a_shop_are_those_of_the_same_shop(
    lasting_bot: Bot, merchant: Merchant
) -> None:
    """A shop has one name in the inbox, whatever the case of the header."""
    headers = {"x-shopify-shop-domain": "CAPS.MyShopify.com", "x-shopify-webhook-id": "caps"}
    told(lasting_bot, merchant, "shopify", b"{}", **headers)
    assert [row[0] for row in inbox(lasting_bot, "event_id = 'caps'")] == ["caps.myshopify.com"]


@pytest.mark.parametrize("mid", ["\ud800", "\x00", "x" * 5000, "ä", 7, None, "", ["m"]])
def test_no_message_id_is_a_fault(lasting_bot: Bot, merchant: Merchant, mid: object) -> None:
    """What JSON can write and a database cannot store is accepted all the same."""
    told(lasting_bot, merchant, "facebook", message("1", "2", mid))
    told(lasting_bot, merchant, "facebook", message("1", "2", mid, timestamp=10**400))


@pytest.mark.parametrize(
    "at", ["", "now", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "ä"]
)
def test_no_time_of_a_webhook_is_a_fault(lasting_bot: Bot, merchant: Merchant, at: str) -> None:
    """A header that is no time is left out."""
    told(lasting_bot, merchant, "shopify", b"{}", **{"x-shopify-triggered-at": at})


# --- signed requests ------------------------------------------------------------------------


def b64url(raw_bytes: bytes) -> str:
    """Base64 in the alphabet of URLs, without padding."""
    return base64.urlsafe_b64encode(raw_bytes).decode().rstrip("=")


def signed_request(secret: str, document: object) -> str:
    """A signed request with this document."""
    payload = b64url(json.dumps(document).encode())
    return f"{b64url(hmac.digest(secret.encode(), payload.encode(), 'sha256'))}.{payload}"


def forged(secret: str, person: str) -> list[str]:
    """Signed requests that are not Meta's, or not about anybody."""
    document = {"user_id": person, "algorithm": "HMAC-SHA256", "issued_at": 1_790_000_000}
    good = signed_request(secret, document)
    signature, _, payload = good.partition(".")
    other = b64url(json.dumps({**document, "user_id": "1"}).encode())
    sha1 = b64url(hmac.digest(secret.encode(), payload.encode(), "sha1"))
    return [
        "",
        ".",
        "ä.ä",
        "\x00",
        signature,
        f".{payload}",
        f"{signature}.{other}",
        f"{signature}.{payload}.{payload}",
        f"{sha1}.{payload}",
        f"{signature[:-1]}.{payload}",
        f"{'A' * 43}.{payload}",
        signed_request("the secret of somebody else", document),
        signed_request("", document),
        signed_request(secret, {**document, "algorithm": "none"}),
        signed_request(secret, {**document, "algorithm": "HMAC-SHA1"}),
        signed_request(secret, [document]),
        signed_request(secret, "text"),
        signed_request(secret, {**document, "more": "x" * 20_000}),
        *(signed_request(secret, {**document, "user_id": hostile}) for hostile in HOSTILE),
        signed_request(secret, {"algorithm": "HMAC-SHA256"}),
        f"{good}{'A' * 20_000}",
    ]


@pytest.mark.parametrize("path", ["/facebook/deauthorize", "/facebook/data-deletion"])
def test_a_forged_signed_request_does_nothing(
    lasting_bot: Bot, merchant: Merchant, shop: str, path: str
) -> None:
    """401 without an event; the Pages of the person stay connected."""
    graph = lasting_bot.graph
    page = graph.add_page()
    graph.user_grants([page])
    merchant.connect_shop(shop)
    merchant.connect_pages()
    for given in forged(graph.app_secret, graph.user_id):
        refused(merchant.post(path, data={"signed_request": given}), 401, "signature_wrong")
    good = signed_request(graph.app_secret, {"user_id": graph.user_id})
    for body in (
        b"",
        b"\xff\xfe",
        b"signed_request",
        json.dumps({"signed_request": good}).encode(),
    ):
        refused(merchant.post(path, content=body), 401, "signature_wrong")
    refused(merchant.post(f"{path}?signed_request={good}"), 401, "signature_wrong")
    topics = "topic IN ('deauthorize', 'data_deletion') AND account = ?"
    assert inbox(lasting_bot, topics, f"person:{graph.user_id}") == []
    assert merchant.front()["pages"][0]["state"] == "connected"


def test_the_signature_of_a_signed_request_is_none_of_a_webhook(
    lasting_bot: Bot, merchant: Merchant
) -> None:
    """Meta signs both with one key, and a person's own browser may see a signed request."""
    given = signed_request(lasting_bot.graph.app_secret, {"user_id": "1", "object": "page"})
    signature, _, payload = given.partition(".")
    digest = base64.urlsafe_b64decode(signature + "=").hex()
    assert lasting_bot.graph.sign(payload.encode()) == f"sha256={digest}"
    answer = tell(merchant, "facebook", payload.encode(), f"sha256={digest}".encode())
    refused(answer, 400, "body_malformed")


def test_confirmation_codes_cannot_be_guessed(lasting_bot: Bot, merchant: Merchant) -> None:
    """A code depends on our secret; ids of messages and of other events are no codes."""
    secret = lasting_bot.graph.app_secret
    path = "/facebook/data-deletion"
    document = {"user_id": "5550001", "issued_at": 1_790_000_000}
    given = signed_request(secret, document)

    def asked_for(text: str) -> str:
        answer = merchant.post(
            path, data={"signed_request": text}, headers={"Host": "evil.example"}
        )
        assert answer.status_code == 200
        found: dict[str, str] = answer.json()
        assert set(found) == {"url", "confirmation_code"}
        code = found["confirmation_code"]
        assert found["url"] == f"{lasting_bot.app.url}{path}/{code}"
        return code

    code = asked_for(given)
    assert re.fullmatch(r"[0-9a-f]{32}", code)
    assert asked_for(given) == code
    assert asked_for(signed_request(secret, {**document, "issued_at": 1_790_000_001})) != code
    for hashed in (given, given.partition(".")[2], "5550001"):
        for algorithm in ("md5", "sha1", "sha256"):
            known = hashlib.new(algorithm, hashed.encode()).hexdigest()
            assert code not in (known, known[:32])
    assert merchant.get(f"{path}/{code}").json()["status"] in ("done", "in progress")

    told(lasting_bot, merchant, "facebook", message("1", "2", "mid-as-code"))
    told(lasting_bot, merchant, "shopify", b"{}", **{"x-shopify-webhook-id": "id-as-code"})
    removal = signed_request(secret, {**document, "user_id": "5550002"})
    merchant.post("/facebook/deauthorize", data={"signed_request": removal})
    (event_id,) = _event_ids(lasting_bot, "account = 'person:5550002'")
    assert inbox(lasting_bot, "event_id = 'mid-as-code'")
    assert inbox(lasting_bot, "event_id = 'id-as-code'")
    wrong = ("mid-as-code", "id-as-code", event_id, code[:-1], code.upper(), "%", "_" * 32, "%00")
    for other in wrong:
        refused(merchant.get(f"{path}/{other}"), 404, "deletion_unknown")


def test_a_respelled_signed_request_is_none(lasting_bot: Bot, merchant: Merchant) -> None:
    """The last letter of a signature has bits to spare, and base64 has two alphabets."""
    document = {"user_id": "5550004", "issued_at": 1_790_000_000}
    given = signed_request(lasting_bot.graph.app_secret, document)
    signature, _, payload = given.partition(".")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = letters[letters.index(signature[-1]) ^ 1]
    path = "/facebook/data-deletion"
    code = merchant.post(path, data={"signed_request": given}).json()["confirmation_code"]
    for respelled in (
        f"{signature[:-1]}{spare}.{payload}",
        f"{signature}==.{payload}",
        f"{signature.replace('-', '+').replace('_', '/')}+.{payload}",
    ):
        refused(merchant.post(path, data={"signed_request": respelled}), 401, "signature_wrong")
    padded = f"{signature}=.{payload}"  # as other programs write the same
    same = merchant.post(path, data={"signed_request": padded}).json()["confirmation_code"]
    assert same == code
    assert len(_event_ids(lasting_bot, "account = 'person:5550004'")) == 1


def test_one_signed_request_can_mean_two_things(lasting_bot: Bot, merchant: Merchant) -> None:
    """A deletion is not lost because the same text was a removal before."""
    given = signed_request(lasting_bot.graph.app_secret, {"user_id": "5550003"})
    merchant.post("/facebook/deauthorize", data={"signed_request": given})
    answer = merchant.post("/facebook/data-deletion", data={"signed_request": given})
    code = answer.json()["confirmation_code"]
    assert merchant.get(f"/facebook/data-deletion/{code}").status_code == 200
    topics = {row[1] for row in inbox(lasting_bot, "account = 'person:5550003'")}
    assert topics == {"deauthorize", "data_deletion"}


def _event_ids(bot: Bot, what: str) -> list[str]:
    with closing(sqlite3.connect(bot.installation.folder / "data" / "inbox.db")) as connection:
        return [row[0] for row in connection.execute(f"SELECT event_id FROM events WHERE {what}")]
