"""Every secret is compared by `hmac.compare_digest`, with bytes on both sides."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

import facebook_integration.signatures as facebook
import shopify_integration.signatures as shopify
from app import create_app
from shared.merchants.login_state import Login, StateTokens
from shared.web.admin_auth import admin_guard
from tests.support.clock import FixedClock

SECRET = "a secret of the tests"
BODY = b'{"object": "page"}'
DIGEST = hmac.digest(SECRET.encode(), BODY, "sha256")


def of_facebook_webhook() -> bytes:
    assert facebook.webhook_is_signed(BODY, f"sha256={DIGEST.hex()}", SECRET)
    return DIGEST.hex().encode()


def of_shopify_webhook() -> bytes:
    header = base64.b64encode(DIGEST)
    assert shopify.webhook_is_signed(BODY, header.decode(), SECRET)
    return header


def of_shopify_callback() -> bytes:
    right = hmac.new(SECRET.encode(), b"shop=a", hashlib.sha256).hexdigest()
    assert shopify.callback_is_signed([("shop", "a"), ("hmac", right)], SECRET)
    return right.encode()


def of_signed_request() -> bytes:
    payload = base64.urlsafe_b64encode(json.dumps({"user_id": "1"}).encode()).decode().rstrip("=")
    digest = hmac.digest(SECRET.encode(), payload.encode(), "sha256")
    signature = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert facebook.open_signed_request(f"{signature}.{payload}", SECRET) == {"user_id": "1"}
    return digest


def of_state() -> bytes:
    states = StateTokens(SECRET, lambda *_: True, FixedClock())
    login = Login("shopify", SECRET, SECRET, SECRET)
    states.redeem(states.issue(login), login)
    return SECRET.encode()


def of_admin() -> bytes:
    headers = [(b"authorization", f"Bearer {SECRET}".encode())]
    request = Request({"type": "http", "headers": headers, "app": SimpleNamespace()})
    admin_guard(lambda _: SECRET)(request)
    return SECRET.encode()


def of_verify_token() -> bytes:
    app = create_app()
    interface = SimpleNamespace(settings=SimpleNamespace(verify_token=SECRET))
    app.state.interfaces = {"facebook": interface}
    client = TestClient(app)  # without its lifespan
    asked = {"hub.mode": "subscribe", "hub.verify_token": SECRET, "hub.challenge": "1"}
    assert client.get("/facebook/webhook", params=asked).text == "1"
    client.close()
    return SECRET.encode()


@pytest.mark.parametrize(
    "compare",
    [
        of_facebook_webhook,
        of_shopify_webhook,
        of_shopify_callback,
        of_signed_request,
        of_state,
        of_admin,
        of_verify_token,
    ],
)
def test_a_secret_is_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch, compare: Callable[[], bytes]
) -> None:
    """How long a wrong value takes does not tell how much of it is right."""
    compared: list[tuple[object, object]] = []
    real = hmac.compare_digest

    def spy(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    secret = compare()
    assert (secret, secret) in compared
    assert {type(side) for pair in compared for side in pair} == {bytes}
