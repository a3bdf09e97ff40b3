"""Meta's signatures: of a webhook's bytes, of a signed request, and ours on each call. Pure.

Sources: developers.facebook.com, "Webhooks: validating payloads", "Secure Graph API calls",
"Data deletion request callback".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from typing import Any

_SCHEME = "sha256="
# The form of `X-Hub-Signature-256`.
SIGNATURE = re.compile(rf"{_SCHEME}[0-9a-f]{{64}}")
_LONGEST_SIGNED_REQUEST = 16_384


def webhook_is_signed(body: bytes, header: str, secret: str) -> bool:
    """Whether `X-Hub-Signature-256` is `sha256=` and the hex HMAC-SHA256 of the raw bytes."""
    if not SIGNATURE.fullmatch(header):
        return False
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(header.removeprefix(_SCHEME).encode(), expected.encode())


def appsecret_proof(token: str, secret: str) -> str:
    """What a call with `token` carries to show that it comes from our server."""
    return hmac.new(secret.encode(), token.encode(), hashlib.sha256).hexdigest()


def open_signed_request(text: str, secret: str) -> dict[str, Any] | None:
    """The document in `b64url(signature).b64url(json)`; None unless it is signed and sound."""
    signature, dot, payload = text.partition(".")
    if not dot or len(text) > _LONGEST_SIGNED_REQUEST or not text.isascii():
        return None
    expected = hmac.new(secret.encode(), payload.encode(), hashlib.sha256).digest()
    given = _decoded(signature)
    if given is None or not hmac.compare_digest(given, expected):
        return None
    try:
        document = json.loads(_decoded(payload) or b"")
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("algorithm") not in (None, "HMAC-SHA256"):
        return None
    return document


def _decoded(text: str) -> bytes | None:
    """The bytes of a text in base64url, None unless it is spelled in the one way without slack."""
    bare = text.rstrip("=")
    try:
        data = base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    canonical = base64.urlsafe_b64encode(data).decode()
    return data if text in (canonical, canonical.rstrip("=")) else None
