"""Installation and tokens: the page that asks the merchant, and the exchange of codes."""

from __future__ import annotations

import hmac
import html
import time

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from tests.fakes.asked import Asked, Json
from tests.fakes.shopify.signing import callback_url
from tests.fakes.shopify.state import SCOPES, Access, Refresh, World

_AUTHORIZE_ARGUMENTS = {"client_id", "scope", "redirect_uri", "state"}
_TOKEN_ARGUMENTS = {
    "client_id",
    "client_secret",
    "code",
    "expiring",
    "grant_type",
    "refresh_token",
}


class OAuthError(Exception):
    """An answer of the token endpoint that is an error."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        self.error = error
        self.status = status
        self.description = description
        super().__init__(description)

    def response(self) -> JSONResponse:
        """It as an HTTP answer."""
        body = {"error": self.error, "error_description": self.description}
        return JSONResponse(body, status_code=self.status, headers={"cache-control": "no-store"})


def authorize(world: World, asked: Asked, shop: str) -> Response:
    """Back to the redirect address, as if the merchant had clicked "install"; else a page."""
    query = asked.query
    scopes = [one.strip() for one in query.get("scope", "").split(",") if one.strip()]
    unknown = set(query) - _AUTHORIZE_ARGUMENTS
    problems = [
        (asked.method != "GET", "method"),
        (bool(asked.doubled), f"given twice: {asked.doubled}"),
        (bool(unknown), f"unknown arguments: {sorted(unknown)}"),
        (query.get("client_id") != world.api_key, "Oauth error application_cannot_be_found"),
        (
            query.get("redirect_uri") not in world.redirect_uris,
            "Oauth error invalid_request: The redirect_uri is not whitelisted",
        ),
        (not scopes, "Oauth error invalid_scope: there is none"),
        (not set(scopes) <= SCOPES, f"Oauth error invalid_scope: {set(scopes) - SCOPES}"),
        (not query.get("state"), "state is missing"),
    ]
    for wrong, problem in problems:
        if wrong:
            return HTMLResponse(f"<p>{html.escape(problem)}</p>", status_code=400)
    url = callback_url(
        world,
        **{
            "redirect_uri": query["redirect_uri"],
            "shop": shop,
            "state": query["state"],
            "code": world.new_code(shop, scopes).value,
            **(world.defects.pop(0) if world.defects else {}),
        },
    )
    return RedirectResponse(url, 302)


def access_token(world: World, asked: Asked, shop: str) -> Response:
    """A token for a code, or the next pair for a refresh token; JSON and forms are both taken."""
    if asked.method != "POST":
        raise OAuthError("invalid_request", "only POST is answered", 405)
    if asked.unreadable or asked.query:
        raise OAuthError("invalid_request", asked.unreadable or "arguments belong into the body")
    unknown = set(asked.body) - _TOKEN_ARGUMENTS
    if unknown:
        raise OAuthError("invalid_request", f"unknown arguments: {sorted(unknown)}")
    given = {name: str(value) for name, value in asked.body.items()}
    if given.get("client_id") != world.api_key:
        raise OAuthError("application_cannot_be_found", "no app has this client_id")
    if not hmac.compare_digest(given.get("client_secret", "").encode(), world.api_secret.encode()):
        raise OAuthError("invalid_client", "the client_secret is wrong")
    if given.get("grant_type") == "refresh_token":
        return _pair(world, *_refreshed(world, shop, given.get("refresh_token", "")))
    if given.get("grant_type", "authorization_code") != "authorization_code":
        raise OAuthError("unsupported_grant_type", given["grant_type"])
    code = world.codes.get(given.get("code", ""))
    if code is None or code.used or code.shop != shop or code.expires <= time.time():
        raise OAuthError(
            "invalid_request", "The authorization code was not found or was already used"
        )
    code.used = True
    expiring = given.get("expiring", "0").lower() in ("1", "true")
    scopes = _granted(world, code.scopes)
    if expiring:
        for old in world.refresh.values():
            old.dead = old.dead or old.shop == shop
    access = world.new_access(shop, scopes, expiring=expiring)
    return _pair(world, access, world.new_refresh(access) if expiring else None)


def _granted(world: World, asked: list[str]) -> list[str]:
    """The scopes of a new token; a right to write includes that to read and replaces it."""
    given = world.options.granted_scope
    scopes = asked if given is None else [one for one in given.split(",") if one]
    included = {one.replace("write_", "read_", 1) for one in scopes if one.startswith("write_")}
    return sorted(set(scopes) - included)


def _refreshed(world: World, shop: str, value: str) -> tuple[Access, Refresh]:
    old = world.refresh.get(value)
    refusal = OAuthError("invalid_grant", "The refresh token is unknown, expired or was used")
    if old is None or old.dead or old.shop != shop or old.expires <= time.time():
        raise refusal
    following = old.successor
    if following is None:
        scopes = old.scopes if world.options.granted_scope is None else _granted(world, [])
        access = world.new_access(shop, scopes, expiring=True)
        old.successor = world.new_refresh(access)
        return access, old.successor
    if not world.options.refresh_grace or following.successor or following.dead:
        raise refusal
    access = world.access[following.access]
    access.expires = time.time() + world.options.access_seconds
    return access, following


def _pair(world: World, access: Access, refresh: Refresh | None) -> Response:
    answer: Json = {"access_token": access.value, "scope": ",".join(access.scopes)}
    if refresh and access.expires is not None:
        answer |= {
            "expires_in": round(access.expires - time.time()),
            "refresh_token": refresh.value,
            "refresh_token_expires_in": round(refresh.expires - time.time()),
        }
    return JSONResponse(answer, headers={"cache-control": "no-store"})
