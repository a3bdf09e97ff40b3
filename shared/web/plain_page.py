"""A page of a few sentences for a merchant's browser: no script, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape

from fastapi import Request
from fastapi.responses import HTMLResponse

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:1.05rem/1.55 system-ui,sans-serif;max-width:36rem;margin:3rem auto;padding:0 1rem}"
    "h1{font-size:1.4rem}li{margin:.4rem 0}"
    "input,button{font:inherit;padding:.45rem .7rem}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

# No `form-action`: browsers apply it to the redirect to a platform that follows the form.
_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def wants_page(request: Request) -> bool:
    """Whether a browser asks, and not a program: only browsers name HTML before anything else.

    The routes for programs answer programs alone, whoever asks.
    """
    first = request.headers.get("accept", "").split(",")[0].split(";")[0].strip()
    return first == "text/html" and not f"{request.url.path}/".startswith("/admin/backups/")


def render_page(
    title: str,
    sentences: Sequence[str],
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    *,
    body: str = "",
) -> HTMLResponse:
    """The page. `title` and `sentences` are escaped here; `body` is HTML of the caller."""
    text = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences if sentence)
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{text}{body}</main></body></html>"
    )
    return HTMLResponse(html, status, {**_HEADERS, **(headers or {})})
