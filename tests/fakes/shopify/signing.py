"""Shopify's signatures: of the callback's query, and of a webhook's body."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from tests.fakes.shopify.state import World

_OTHER_SECRET = "the secret of somebody else"


def query_hmac(secret: str, pairs: Sequence[tuple[str, str]]) -> str:
    """The hex HMAC over all pairs but `hmac`, sorted by name, joined like a query."""
    signed = sorted((name, value) for name, value in pairs if name != "hmac")
    message = "&".join(f"{_escaped(name)}={_escaped(value)}" for name, value in signed)
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("&", "%26")


def body_hmac(secret: str, body: bytes) -> str:
    """The base64 HMAC over a webhook's bytes."""
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


def webhook_hmac(world: World, body: bytes, signature: str) -> str | None:
    """The header of a webhook, right or wrong in the named way."""
    made = {
        "valid": body_hmac(world.api_secret, body),
        "wrong": body_hmac(_OTHER_SECRET, body),
        "other-body": body_hmac(world.api_secret, body + b" "),
        "hex": hmac.new(world.api_secret.encode(), body, hashlib.sha256).hexdigest(),
        "missing": None,
    }
    if signature not in made:
        raise ValueError(f"signature is one of {sorted(made)}")
    return made[signature]


def callback_url(
    world: World,
    *,
    redirect_uri: str,
    shop: str,
    state: str,
    code: str,
    hmac_is: str = "valid",
    age_seconds: float = 0.0,
    shop_in_query: str | None = None,
    duplicate: tuple[str, str] | None = None,
    extra: dict[str, str] | None = None,
    without: Sequence[str] = (),
    **changed: Any,
) -> str:
    """The address that the merchant's browser is sent to.

    Everything but `hmac_is` and `without=["hmac"]` is signed correctly, so that only the defect
    that is asked for can be the reason of a refusal. `changed` replaces values by name.
    """
    host = base64.urlsafe_b64encode(
        f"admin.shopify.com/store/{shop.removesuffix('.myshopify.com')}".encode()
    )
    given: dict[str, str] = {
        "code": code,
        "host": host.decode().rstrip("="),
        "shop": shop_in_query or shop,
        "state": state,
        "timestamp": str(int(time.time() - age_seconds)),
        **(extra or {}),
    }
    if set(changed) - set(given):
        raise ValueError(f"a callback has no {set(changed) - set(given)}")
    given.update({name: str(value) for name, value in changed.items()})
    pairs = [(name, value) for name, value in given.items() if name not in without]
    if duplicate:
        pairs.append((duplicate[0], duplicate[1]))
    made = {
        "valid": query_hmac(world.api_secret, pairs),
        "wrong": query_hmac(_OTHER_SECRET, pairs),
        "of-other-query": query_hmac(world.api_secret, [*pairs, ("more", "1")]),
        "malformed": "ä-not-hex",
        "missing": None,
    }
    if hmac_is not in made:
        raise ValueError(f"hmac_is is one of {sorted(made)}")
    signature = None if "hmac" in without else made[hmac_is]
    if signature is not None:
        pairs.append(("hmac", signature))
    return f"{redirect_uri}?{urlencode(sorted(pairs))}"
