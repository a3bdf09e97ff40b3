"""Shopify's signatures: of a callback's query, and of a webhook's bytes. Pure.

Sources: shopify.dev, "Verify the installation request" and "Verify webhook deliveries".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence

# The form of `X-Shopify-Hmac-Sha256`: base64 of 32 bytes.
SIGNATURE = re.compile(r"[0-9A-Za-z+/]{43}=")


def callback_is_signed(query: Sequence[tuple[str, str]], secret: str) -> bool:
    """Whether `hmac` in the decoded query is the hex HMAC-SHA256 of all the rest of it.

    A key that comes twice is refused: the two sides might not mean the same one.
    """
    values = dict(query)
    if len(values) != len(query) or "hmac" not in values:
        return False
    given = values.pop("hmac")
    message = "&".join(
        f"{_escape(name).replace('=', '%3D')}={_escape(value)}"
        for name, value in sorted(values.items())
    )
    expected = hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(given.encode(), expected.encode())


def webhook_is_signed(body: bytes, header: str, secret: str) -> bool:
    """Whether the header `X-Shopify-Hmac-Sha256` is the base64 HMAC-SHA256 of the raw bytes."""
    if not SIGNATURE.fullmatch(header):
        return False
    expected = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest())
    return hmac.compare_digest(header.encode(), expected)


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("&", "%26")
