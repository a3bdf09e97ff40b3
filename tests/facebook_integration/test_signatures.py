"""Meta's signatures, checked against the stand-in's own signing code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facebook_integration.signatures import (
    appsecret_proof,
    open_signed_request,
    webhook_is_signed,
)
from tests.fakes.graph.state import World
from tests.fakes.graph.webhooks import as_meta_writes_it, signed_request, webhook

WORLD = World("http://127.0.0.1:1")
SECRET = WORLD.app_secret


def header_of(payload: Any) -> tuple[bytes, str]:
    """A webhook's bytes, and its header."""
    sent = webhook(WORLD, "http://127.0.0.1:1/", as_meta_writes_it(payload), "valid", None)
    headers = {name.lower(): value.decode() for name, value in sent.headers}
    return sent.body, headers["x-hub-signature-256"]


@given(text=st.text())
def test_a_webhook_is_signed_over_its_bytes(text: str) -> None:
    """As Meta writes them, with escapes; the same JSON written otherwise has another signature."""
    body, header = header_of({"text": text + "/"})

    assert webhook_is_signed(body, header, SECRET)
    assert not webhook_is_signed(json.dumps(json.loads(body)).encode(), header, SECRET)
    assert not webhook_is_signed(body, header, SECRET + "x")


@pytest.mark.parametrize(
    "header",
    ["", "sha256=", "sha256=ä", "sha1=" + "0" * 40, "0" * 64, "sha256=" + "0" * 10_000],
)
def test_a_malformed_header_is_a_refusal_and_no_failure(header: str) -> None:
    """Whatever stands in it."""
    assert not webhook_is_signed(b"{}", header, SECRET)


def test_a_call_carries_the_proof_of_its_token() -> None:
    """The hex HMAC-SHA256 of the token under the app's secret."""
    expected = hmac.new(SECRET.encode(), b"EAAB", hashlib.sha256).hexdigest()

    assert appsecret_proof("EAAB", SECRET) == expected


def signed(payload: Any, signature: str = "valid") -> str:
    """A signed request as the stand-in makes it."""
    sent = signed_request(WORLD, "http://127.0.0.1:1/", payload, signature)
    return parse_qs(sent.body.decode())["signed_request"][0]


@given(user=st.text(), more=st.binary(max_size=3))
def test_a_signed_request_is_opened(user: str, more: bytes) -> None:
    """Under the app's secret only."""
    payload = {"algorithm": "HMAC-SHA256", "user_id": user, "more": more.hex(), "issued_at": 5}
    text = signed(payload)

    assert open_signed_request(text, SECRET) == payload
    assert open_signed_request(text, SECRET + "x") is None


def own(payload: bytes) -> str:
    """Any bytes, rightly signed."""
    encoded = base64.urlsafe_b64encode(payload)
    made = hmac.new(SECRET.encode(), encoded, hashlib.sha256).digest()
    return f"{base64.urlsafe_b64encode(made).decode()}.{encoded.decode()}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a.b",
        "ä.ä",
        "....",
        signed({"algorithm": "HMAC-SHA256", "user_id": "1"}, "wrong"),
        signed({"algorithm": "HMAC-SHA256", "user_id": "1"}) + "x",
        signed({"algorithm": "HMAC-SHA256", "user_id": "1"}).partition(".")[2],
        own(b"[]"),
        own(b"no JSON"),
        own(b"\xff"),
        own(b"[" * 10_000),
        own(json.dumps({"algorithm": "none", "user_id": "1"}).encode()),
        own(b'{"user_id": "' + b"1" * 20_000 + b'"}'),
    ],
)
def test_what_is_not_signed_or_not_sound_is_not_opened(text: str) -> None:
    """Also when the signature is right and what it signs is not a request."""
    assert open_signed_request(text, SECRET) is None
