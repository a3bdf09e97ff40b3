"""The stand-in for the Graph API refuses what the platform refuses, and sends what it sends."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx2
import pytest

from tests.support.fake_graph import FakeGraph
from tests.support.listener import Listener

REDIRECT = "https://bot.example/facebook/callback"
SCOPES = "pages_show_list,pages_manage_metadata,pages_messaging,pages_read_engagement"
CONVERSATION = "participants,updated_time,messages{id,created_time,from,to,message}"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@dataclass
class Bot:
    """What a bot does at the Graph API, with every part of a call open to change."""

    graph: FakeGraph
    http: httpx2.Client

    def dialog(self, **changes: Any) -> httpx2.Response:
        asked = {
            "client_id": self.graph.app_id,
            "redirect_uri": REDIRECT,
            "state": "a-state",
            "scope": SCOPES,
            **changes,
        }
        url = f"{self.graph.url}/dialog-host/v26.0/dialog/oauth"
        return self.http.get(url, params={k: v for k, v in asked.items() if v is not None})

    def code(self, **changes: Any) -> str:
        return parse_qs(urlsplit(self.dialog(**changes).headers["location"]).query)["code"][0]

    def exchange(self, **given: Any) -> httpx2.Response:
        asked = {
            "client_id": self.graph.app_id,
            "client_secret": self.graph.app_secret,
            "redirect_uri": REDIRECT,
            **given,
        }
        return self.http.get(f"{self.graph.url}/v26.0/oauth/access_token", params=asked)

    def log_in(self, **changes: Any) -> str:
        """A long-lived user token."""
        short = self.exchange(code=self.code(**changes)).json()["access_token"]
        grant = {"grant_type": "fb_exchange_token", "fb_exchange_token": short}
        return str(self.exchange(**grant).json()["access_token"])

    def call(
        self, path: str, token: str, method: str = "GET", *, proof: str | None = "", **given: Any
    ) -> httpx2.Response:
        proof = self.proof(token) if proof == "" else proof
        asked = {"access_token": token, **({"appsecret_proof": proof} if proof else {}), **given}
        url = f"{self.graph.url}/v26.0/{path}"
        if method == "GET":
            return self.http.get(url, params=asked)
        return self.http.request(method, url, data=asked)

    def proof(self, token: str) -> str:
        secret = self.graph.app_secret.encode()
        return hmac.new(secret, token.encode(), hashlib.sha256).hexdigest()

    def page_tokens(self, user_token: str) -> dict[str, str]:
        listed = self.call("me/accounts", user_token).json()["data"]
        return {one["id"]: one["access_token"] for one in listed}


@pytest.fixture
def graph(graph: FakeGraph) -> FakeGraph:
    graph.register(redirect_uri=REDIRECT)
    return graph


@pytest.fixture
def bot(graph: FakeGraph) -> Iterator[Bot]:
    with httpx2.Client(trust_env=False) as http:
        yield Bot(graph, http)


@pytest.fixture
def receiver(graph: FakeGraph) -> Iterator[Listener]:
    with Listener() as receiver:
        graph.register(webhook=receiver.url)
        yield receiver


def error_of(answer: httpx2.Response) -> tuple[int, int | None]:
    """Code and subcode of an error in the platform's shape."""
    error = answer.json()["error"]
    assert answer.status_code >= 400
    assert {"message", "type", "code", "fbtrace_id"} <= set(error)
    return error["code"], error.get("error_subcode")


def test_the_dialog_refuses_what_is_not_registered(bot: Bot) -> None:
    """Another app, redirect address, scope or argument, or no state, leads nowhere."""
    changes: list[dict[str, Any]] = [
        {"client_id": "1"},
        {"redirect_uri": REDIRECT + "/"},
        {"scope": "pages_everything"},
        {"scope": None},
        {"state": None},
        {"callback_url": "x"},
    ]
    for changed in changes:
        assert bot.dialog(**changed).status_code == 400, changed

    went = bot.dialog()
    assert went.status_code == 302
    assert went.headers["location"].startswith(REDIRECT + "?")
    assert parse_qs(urlsplit(went.headers["location"]).query)["state"] == ["a-state"]


def test_a_user_who_cancels_brings_the_state_back(bot: Bot) -> None:
    """The denial names its reason and carries the state, but no code."""
    bot.graph.user_refuses()

    back = dict(parse_qsl(urlsplit(bot.dialog().headers["location"]).query))

    assert (back["error"], back["error_reason"], back["state"]) == (
        "access_denied",
        "user_denied",
        "a-state",
    )
    assert "code" not in back


def test_a_code_is_good_once_for_its_own_address(bot: Bot) -> None:
    """A second use, another redirect address or a wrong secret gives no token."""
    code = bot.code()

    assert error_of(bot.exchange(code=code, redirect_uri="https://other.example")) == (100, 36008)
    assert error_of(bot.exchange(code=code, client_secret="wrong")) == (1, None)
    assert bot.exchange(code=code).json()["token_type"] == "bearer"
    assert error_of(bot.exchange(code=code)) == (100, 36009)
    assert error_of(bot.exchange(code="never given")) == (100, None)


def test_page_tokens_of_a_long_lived_token_do_not_expire(bot: Bot) -> None:
    """`debug_token` gives 0 for them, and a time for those of a short-lived token."""
    page = bot.graph.add_page()
    short = bot.exchange(code=bot.code()).json()["access_token"]
    app = f"{bot.graph.app_id}|{bot.graph.app_secret}"

    def expiry(token: str) -> int:
        data = bot.call("debug_token", app, input_token=token).json()["data"]
        assert (data["app_id"], data["is_valid"]) == (bot.graph.app_id, True)
        return int(data["expires_at"])

    assert expiry(bot.page_tokens(short)[page]) > 0
    assert expiry(bot.page_tokens(bot.log_in())[page]) == 0
    foreign = bot.graph.foreign_token()
    assert error_of(bot.call("debug_token", app, input_token=foreign)) == (100, None)


def test_a_call_has_to_prove_that_it_knows_the_secret(bot: Bot) -> None:
    """Without `appsecret_proof`, or with that of another token, nothing is answered."""
    token = bot.log_in()

    assert error_of(bot.call("me/accounts", token, proof=None)) == (100, None)
    assert error_of(bot.call("me/accounts", token, proof=bot.proof("other"))) == (100, None)
    assert bot.call("me/accounts", token).status_code == 200
    assert error_of(bot.call("me/accounts", "EAA-unknown")) == (190, None)
    proven = bot.http.get(
        f"{bot.graph.url}/v26.0/me/accounts",
        params={"appsecret_proof": bot.proof(token)},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert proven.status_code == 200
    assert bot.graph.calls("accounts")[-1].token_in == "header"


def test_accounts_come_in_pages_one_of_them_empty(bot: Bot) -> None:
    """Following `paging.next`, with a proof added, shows each granted Page once."""
    pages = [bot.graph.add_page(f"Seite {number}") for number in range(5)]
    bot.graph.user_grants(pages[:4])
    bot.graph.paging(size=2, empty_page_after=1)
    token = bot.log_in()

    answer = bot.call("me/accounts", token)
    seen = []
    while True:
        seen.append([one["id"] for one in answer.json()["data"]])
        following = answer.json()["paging"].get("next") if answer.json().get("paging") else None
        if not following:
            break
        assert "appsecret_proof" not in following
        assert error_of(bot.http.get(following)) == (100, None)
        answer = bot.http.get(f"{following}&appsecret_proof={bot.proof(token)}")

    assert seen == [pages[:2], [], pages[2:4]]
    bot.graph.paging(size=2, next_host="http://other.example")
    assert bot.call("me/accounts", token).json()["paging"]["next"].startswith("http://other.ex")


def test_unknown_names_are_refused_everywhere(bot: Bot) -> None:
    """A field, argument, edge, version or webhook field that does not exist is an error."""
    page = bot.graph.add_page()
    token = bot.page_tokens(bot.log_in())[page]
    apps = f"{page}/subscribed_apps"

    assert error_of(bot.call(page, token, fields="id,nonsense")) == (100, None)
    assert error_of(bot.call(page, token, fields="id,location{moon}")) == (100, None)
    assert error_of(bot.call(page, token, fields="id{")) == (2500, None)
    assert error_of(bot.call(page, token, colour="red")) == (100, None)
    assert error_of(bot.call(f"{page}/photos", token)) == (2500, None)
    good = {"access_token": token, "appsecret_proof": bot.proof(token)}
    old = bot.http.get(f"{bot.graph.url}/v19.0/{page}", params=good)
    assert error_of(old) == (2500, None)
    refused = bot.call(apps, token, "POST", subscribed_fields="messages,nonsense")
    assert error_of(refused) == (100, None)
    refused = bot.call(apps, token, "POST", subscribed_fields="messages", callback_url="x")
    assert error_of(refused) == (100, None)

    assert bot.graph.subscribed_fields(page) is None
    taken = bot.call(apps, token, "POST", subscribed_fields="messages,message_echoes,name")
    assert taken.json() == {"success": True}
    assert bot.graph.subscribed_fields(page) == ["messages", "message_echoes", "name"]
    assert bot.call(page, token, fields="id,name,category").json()["category"]


def test_a_scope_that_the_user_took_out_is_missing(bot: Bot) -> None:
    """Without `pages_messaging` the conversations stay closed."""
    page = bot.graph.add_page()
    bot.graph.user_declines("pages_messaging")
    token = bot.page_tokens(bot.log_in())[page]

    assert error_of(bot.call(f"{page}/conversations", token, platform="messenger")) == (200, None)


def test_conversations_show_twenty_messages_in_detail(bot: Bot) -> None:
    """Of older messages a list has the id and the time only; polling has the webhook's `mid`."""
    page = bot.graph.add_page()
    said = [
        bot.graph.customer_says(
            page, "71", f"Grüß Gott {number}", NOON + timedelta(seconds=number), deliver=False
        )
        for number in range(23)
    ]
    bot.graph.customer_says(page, "72", "newer", NOON + timedelta(hours=1), deliver=False)
    token = bot.page_tokens(bot.log_in())[page]

    first = bot.call(f"{page}/conversations", token, fields=CONVERSATION, limit="1").json()
    assert first["data"][0]["messages"]["data"][0]["message"] == "newer"
    second = bot.http.get(f"{first['paging']['next']}&appsecret_proof={bot.proof(token)}").json()
    talk = second["data"][0]
    assert "next" not in second["paging"]
    assert {one["id"] for one in talk["participants"]["data"]} == {"71", page}
    assert talk["updated_time"] == "2026-11-20T12:00:22+0000"
    newest = talk["messages"]["data"]
    assert [one["id"] for one in newest] == [one.mid for one in said[:2:-1]]
    assert newest[0]["message"] == "Grüß Gott 22"
    assert newest[0]["to"]["data"][0]["id"] == page

    following = f"{talk['messages']['paging']['next']}&appsecret_proof={bot.proof(token)}"
    older = bot.http.get(following).json()["data"]
    assert older == [
        {"id": one.mid, "created_time": f"2026-11-20T12:00:0{2 - number}+0000"}
        for number, one in enumerate(said[2::-1])
    ]
    assert error_of(bot.call(older[0]["id"], token, fields="message")) == (100, 33)


def test_a_message_can_be_sent_within_the_window_only(bot: Bot) -> None:
    """Unknown people, too long texts, and people who wrote long ago get nothing."""
    page = bot.graph.add_page()
    token = bot.page_tokens(bot.log_in())[page]
    now = datetime.now(UTC)
    bot.graph.customer_says(page, "71", "hello", now, deliver=False)
    bot.graph.customer_says(page, "72", "hello", now - timedelta(hours=25), deliver=False)

    def send(recipient: str, text: str, **more: Any) -> httpx2.Response:
        message = {"recipient": {"id": recipient}, "message": {"text": text}}
        query = {"access_token": token, "appsecret_proof": bot.proof(token)}
        url = f"{bot.graph.url}/v26.0/{page}/messages"
        body = {"messaging_type": "RESPONSE", **message, **more}
        return bot.http.post(url, params=query, json=body)

    assert error_of(send("70", "hi")) == (100, 2018001)
    assert error_of(send("71", "x" * 2001)) == (100, None)
    assert error_of(send("71", "hi", colour="red")) == (100, None)
    assert error_of(send("72", "hi")) == (10, 2018278)
    sent = send("71", "hi").json()
    assert sent["recipient_id"] == "71"
    assert bot.graph.sent_messages(page)[0]["mid"] == sent["message_id"]
    assert bot.graph.events_of(page, sent["message_id"])[0]["message"]["is_echo"] is True


def test_a_rotated_or_revoked_page_token_answers_190(bot: Bot) -> None:
    """The list of accounts gives the new one."""
    page = bot.graph.add_page()
    user = bot.log_in()
    old = bot.page_tokens(user)[page]

    new = bot.graph.rotate_page_token(page)

    assert error_of(bot.call(page, old))[0] == 190
    assert bot.page_tokens(user)[page] == new == bot.graph.page_token(page)
    assert bot.graph.revoke_page_token(page) == 1
    assert error_of(bot.call(page, new))[0] == 190
    assert bot.graph.revoke_user() >= 1
    assert error_of(bot.call("me/accounts", user)) == (190, 458)


def test_programmed_faults_happen_as_often_as_asked(bot: Bot) -> None:
    """An error code, a wrong body, a cut connection, then all is well again."""
    token = bot.log_in()
    bot.graph.fail("accounts", 4, times=2, skip=1)
    assert bot.call("me/accounts", token).status_code == 200
    assert error_of(bot.call("me/accounts", token)) == (4, None)
    assert error_of(bot.call("me/accounts", token)) == (4, None)
    bot.graph.fail("accounts", 2)
    assert bot.call("me/accounts", token).status_code == 500
    bot.graph.garbage("accounts")
    with pytest.raises(ValueError, match="Expecting"):
        bot.call("me/accounts", token).json()
    bot.graph.cut("accounts")
    with pytest.raises(httpx2.RemoteProtocolError):
        bot.call("me/accounts", token)
    bot.graph.huge("accounts", 2)
    assert len(bot.call("me/accounts", token).content) > 2_000_000
    bot.graph.redirect("accounts", "http://other.example/")
    assert bot.call("me/accounts", token).headers["location"] == "http://other.example/"
    bot.graph.hang("accounts", 0.15)
    assert bot.call("me/accounts", token).elapsed > timedelta(seconds=0.15)

    assert bot.call("me/accounts", token).status_code == 200
    calls = bot.graph.calls("accounts")
    assert [one.detail for one in calls[:4]] == [None, "4", "4", "2"]
    assert {(one.token, one.token_in) for one in calls} == {(token, "query")}
    assert calls[0].query_names == ["access_token", "appsecret_proof"]


def test_a_webhook_is_signed_over_its_escaped_bytes(graph: FakeGraph, receiver: Listener) -> None:
    """Umlauts and slashes are escaped on the wire, and the signature is that of these bytes."""
    page = graph.add_page()

    said = graph.customer_says(page, "71", "Käse a/b", NOON)

    (got,) = receiver.heard
    assert [one.status for one in said.deliveries] == [200]
    assert b"K\\u00e4se a\\/b" in got.body
    right = hmac.new(graph.app_secret.encode(), got.body, hashlib.sha256).hexdigest()
    assert got.headers["x-hub-signature-256"] == f"sha256={right}" == graph.sign(got.body)
    event = json.loads(got.body)["entry"][0]["messaging"][0]
    assert event == said.event
    assert event["timestamp"] == int(NOON.timestamp()) * 1000
    assert graph.messages(page, "71")[0].mid == event["message"]["mid"]


def test_signatures_can_be_wrong_in_every_way(graph: FakeGraph, receiver: Listener) -> None:
    """Wrong key, other body, missing, the old hash alone, and any header of a test's own."""
    page = graph.add_page()
    event = graph.customer_says(page, "71", "x", NOON, deliver=False).event

    for signature in ("wrong", "other-body", "missing", "sha1-only"):
        graph.send_webhook([event], signature=signature)
    graph.send_webhook([event], signature_header="sha256=ü")

    sent = [got.headers.get("x-hub-signature-256") for got in receiver.heard]
    right = graph.sign(receiver.heard[0].body)
    assert len(sent[0] or "") == len(sent[1] or "") == len(right)
    assert right not in sent
    assert sent[2:] == [None, None, "sha256=ü"]


def test_webhooks_are_batched_doubled_reordered_and_retried(
    graph: FakeGraph, receiver: Listener
) -> None:
    """Several Pages share a POST; a POST that is not accepted comes again, byte for byte."""
    pages = [graph.add_page(), graph.add_page()]
    events = [
        graph.customer_says(pages[number % 2], "71", str(number), NOON, deliver=False).event
        for number in range(4)
    ]
    receiver.statuses = [500, 503]

    sent = graph.send_webhook(
        events,
        changes=[(pages[0], "name", "Neu")],
        grouped=True,
        order="reversed",
        retries=3,
        copies=2,
        pause=0.01,
    )

    assert [one.status for one in sent] == [500, 503, 200, 200]
    assert len({got.body for got in receiver.heard}) == 1
    entries = json.loads(receiver.heard[0].body)["entry"]
    assert [entry["id"] for entry in entries] == [pages[1], pages[0], pages[0]]
    texts = [one["message"]["text"] for entry in entries[:2] for one in entry["messaging"]]
    assert texts == ["3", "1", "2", "0"]
    assert entries[2]["changes"] == [{"field": "name", "value": "Neu"}]


def test_a_burst_keeps_its_time(graph: FakeGraph, receiver: Listener) -> None:
    """Every message is sent, at an even pace, and stored in its conversation."""
    pages = [graph.add_page(), graph.add_page()]

    burst = graph.burst(40, 0.2, pages=pages, customers=4)

    assert burst.statuses == {200: 40}
    assert len(set(burst.ids)) == len(receiver.heard) == 40


def test_verification_and_signed_requests(graph: FakeGraph, receiver: Listener) -> None:
    """The challenge is asked for by GET; a removed app is told in a signed form."""
    graph.register(deauthorize=f"{receiver.url}/gone", deletion=f"{receiver.url}/delete")
    receiver.answer = b"1158201444"

    assert graph.verify_webhook().text == "1158201444"
    graph.deauthorize()
    graph.request_deletion(signature="wrong")

    asked, gone, delete = receiver.heard
    query = parse_qs(urlsplit(asked.path).query)
    assert query["hub.verify_token"] == [graph.verify_token]
    assert query["hub.mode"] == ["subscribe"]

    def opened(body: bytes) -> tuple[bool, dict[str, Any]]:
        signature, _, payload = parse_qs(body.decode())["signed_request"][0].partition(".")
        right = hmac.new(graph.app_secret.encode(), payload.encode(), hashlib.sha256).digest()
        padded = [
            base64.urlsafe_b64decode(one + "=" * (-len(one) % 4)) for one in (signature, payload)
        ]
        return padded[0] == right, json.loads(padded[1])

    assert opened(gone.body)[0]
    assert opened(gone.body)[1]["user_id"] == graph.user_id
    assert not opened(delete.body)[0]


def test_edits_and_handovers_are_told_to_who_subscribed(bot: Bot) -> None:
    """A message is edited five times at most, and only by the customer."""
    page = bot.graph.add_page()
    mid = bot.graph.customer_says(page, "71", "Grüezi", NOON, deliver=False).mid
    event = bot.graph.customer_edits(page, "71", mid, "Salü", NOON, deliver=False)

    assert event["message_edit"] == {"mid": mid, "text": "Salü", "num_edit": 1}
    assert [one.text for one in bot.graph.messages(page, "71")] == ["Salü"]
    with pytest.raises(AssertionError, match="has not subscribed to message_edits"):
        bot.graph.send_webhook([event])
    with pytest.raises(AssertionError, match="has not subscribed to messaging_handovers"):
        bot.graph.hand_over(page, "71", NOON)
    for _ in range(4):
        bot.graph.customer_edits(page, "71", mid, "Hoi", NOON, deliver=False)
    with pytest.raises(AssertionError, match="five times at most"):
        bot.graph.customer_edits(page, "71", mid, "Grüezi", NOON, deliver=False)


def test_a_page_token_ends_after_some_calls(bot: Bot) -> None:
    """As one that expires within a poll; the next one comes from the person who granted it."""
    page = bot.graph.add_page()
    user = bot.log_in()
    old = bot.page_tokens(user)[page]
    bot.graph.page_token_lasts(page, 2)

    statuses = [bot.call(page, old).status_code for _ in range(3)]

    assert statuses == [200, 200, 400]
    assert bot.page_tokens(user)[page] != old
