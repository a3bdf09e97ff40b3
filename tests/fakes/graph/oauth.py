"""The login dialog, the exchange of codes and tokens, and what a token is worth."""

from __future__ import annotations

import hmac
import html
import secrets
import time
from urllib.parse import urlencode

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from tests.fakes.asked import Asked, Json
from tests.fakes.graph.access import allow, check_good, check_proof, presented
from tests.fakes.graph.errors import GraphError
from tests.fakes.graph.state import (
    CODE_SECONDS,
    LONG_LIVED_SECONDS,
    SCOPES,
    SHORT_LIVED_SECONDS,
    Code,
    Token,
    World,
)

_DIALOG_ARGUMENTS = {
    "client_id",
    "redirect_uri",
    "state",
    "scope",
    "config_id",
    "response_type",
    "auth_type",
    "auth_nonce",
    "display",
}


def dialog(world: World, asked: Asked) -> Response:
    """Back to the redirect address, as if the user had clicked; else a page that says why not."""
    query = asked.query
    config = query.get("config_id")
    scopes = query.get("scope", "").replace(",", " ").split() or world.configs.get(config or "", [])
    problems = [
        (config is not None and "scope" in query, "a configuration has its own permissions"),
        (config is not None and config not in world.configs, "Invalid configuration"),
        (bool(asked.doubled), f"given twice: {asked.doubled}"),
        (bool(set(query) - _DIALOG_ARGUMENTS), f"unknown: {set(query) - _DIALOG_ARGUMENTS}"),
        (query.get("client_id") != world.app_id, "Invalid App ID"),
        (
            query.get("redirect_uri") not in world.redirect_uris,
            "URL Blocked: the redirect URI is not whitelisted in the app's settings",
        ),
        (query.get("response_type", "code") != "code", "only response_type=code is known"),
        (not query.get("state"), "state is missing"),
        (not scopes, "scope is missing"),
        (not set(scopes) <= SCOPES, f"Invalid Scopes: {', '.join(set(scopes) - SCOPES)}"),
    ]
    for wrong, problem in problems:
        if wrong:
            return HTMLResponse(f"<p>{html.escape(problem)}</p>", status_code=400)
    answer = {"state": query["state"]}
    if world.denials:
        world.denials -= 1
        answer |= {
            "error": "access_denied",
            "error_code": "200",
            "error_description": "Permissions error",
            "error_reason": "user_denied",
        }
    else:
        granted = ["public_profile", *(one for one in scopes if one not in world.declined)]
        world.logins += 1
        code = Code(
            value=f"AQ{secrets.token_urlsafe(60)}",
            redirect_uri=query["redirect_uri"],
            scopes=list(dict.fromkeys(granted)),
            pages=world.granted_pages(),
            chosen=world.granted is not None,
            login=world.logins,
            user=world.user_id,
            expires=time.time() + CODE_SECONDS,
        )
        world.codes[code.value] = code
        answer |= {"code": code.value}
    join = "&" if "?" in query["redirect_uri"] else "?"
    # Facebook adds an empty fragment of this form.
    return RedirectResponse(f"{query['redirect_uri']}{join}{urlencode(answer)}#_=_", 302)


def access_token(world: World, asked: Asked) -> Response:
    """A user token for a code, or a long-lived one for a short-lived one."""
    if asked.method not in ("GET", "POST"):
        raise GraphError(100, f"Unsupported {asked.method.lower()} request.")
    allow(
        asked,
        "client_id",
        "client_secret",
        "redirect_uri",
        "code",
        "grant_type",
        "fb_exchange_token",
        "set_token_expires_in_60_days",
    )
    given = {name: str(value) for name, value in asked.arguments.items()}
    if given.get("client_id") != world.app_id:
        raise GraphError(
            101, "Error validating application. Cannot get application info due to a system error."
        )
    if not hmac.compare_digest(given.get("client_secret", "").encode(), world.app_secret.encode()):
        raise GraphError(1, "Error validating client secret.", status=400)
    if given.get("grant_type") == "fb_exchange_token":
        return _answer(world, _long_lived(world, asked, given.get("fb_exchange_token", "")))
    if given.get("grant_type", "authorization_code") != "authorization_code":
        raise GraphError(100, f"(#100) grant_type {given['grant_type']} is not known")
    return _answer(world, _from_code(world, given.get("code", ""), given.get("redirect_uri")))


def _from_code(world: World, value: str, redirect_uri: str | None) -> Token:
    code = world.codes.get(value)
    if code is None:
        raise GraphError(100, "Invalid verification code format.")
    if code.redirect_uri != redirect_uri:
        raise GraphError(
            100,
            "Error validating verification code. Please make sure your redirect_uri is identical "
            "to the one you used in the OAuth dialog request",
            subcode=36008,
        )
    if code.used:
        raise GraphError(100, "This authorization code has been used.", subcode=36009)
    if code.expires <= time.time():
        raise GraphError(100, "This authorization code has expired.", subcode=36007)
    code.used = True
    return world.mint(
        login=code.login,
        user=code.user,
        scopes=code.scopes,
        pages=code.pages,
        chosen=code.chosen,
        expires=time.time() + SHORT_LIVED_SECONDS,
    )


def _long_lived(world: World, asked: Asked, value: str) -> Token:
    short = world.tokens.get(value)
    if short is None or short.page is not None:
        raise GraphError(190, "Invalid OAuth access token - Cannot parse access token")
    check_good(short)
    if "appsecret_proof" in asked.arguments:
        check_proof(world, asked, value)
    return world.mint(
        login=short.login,
        user=short.user,
        scopes=short.scopes,
        pages=short.pages,
        chosen=short.chosen,
        expires=time.time() + LONG_LIVED_SECONDS,
        long_lived=True,
    )


def _answer(world: World, token: Token) -> Response:
    answer: Json = {"access_token": token.value, "token_type": "bearer"}
    if not world.omit_expires_in:
        answer["expires_in"] = int((token.expires or 0) - time.time())
    return JSONResponse(answer, headers={"cache-control": "no-store"})


def debug_token(world: World, asked: Asked) -> Response:
    """What the platform knows of `input_token`; asked with the app's or a user's own token."""
    allow(asked, "input_token", "fields")
    if asked.method != "GET":
        raise GraphError(100, f"Unsupported {asked.method.lower()} request.")
    asking = presented(asked).token
    if asking is None:
        raise GraphError(104)
    if asking != world.app_token:
        if asking not in world.tokens:
            raise GraphError(190, "Invalid OAuth access token - Cannot parse access token")
        check_good(world.tokens[asking])
    check_proof(world, asked, asking)
    if "input_token" not in asked.arguments:
        raise GraphError(100, "(#100) The parameter input_token is required")
    token = world.tokens.get(asked.arguments["input_token"])
    if token is None:
        return _invalid(190, "Invalid OAuth access token - Cannot parse access token", None)
    if token.foreign:
        raise GraphError(100, "(#100) The App_id in the input_token did not match the Viewing App")
    try:
        check_good(token)
    except GraphError as error:
        return _invalid(error.code, error.message, error.subcode)
    data: Json = {
        "app_id": world.app_id,
        "application": "Sales bot",
        "type": "PAGE" if token.page else "USER",
        "is_valid": True,
        "issued_at": int(token.issued),
        "expires_at": int(token.expires or 0),
        "data_access_expires_at": int(token.issued) + 90 * 86400,
        "scopes": token.scopes,
        # "All current and future Pages" names none.
        "granular_scopes": [
            {"scope": scope, **({"target_ids": token.pages} if token.chosen else {})}
            for scope in token.scopes
            if scope.startswith("pages_")
        ],
        "user_id": token.user,
    }
    if token.page:
        data["profile_id"] = token.page
    return JSONResponse({"data": data})


def _invalid(code: int, message: str, subcode: int | None) -> Response:
    error: Json = {"code": code, "message": message}
    if subcode is not None:
        error["subcode"] = subcode
    return JSONResponse({"data": {"error": error, "is_valid": False, "scopes": []}})
