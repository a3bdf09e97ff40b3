"""What stands before every route of the page: login, form token, headers, and errors as pages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import parse_qs

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from backups.errors import FormRefused
from backups.http.begin import service_of
from backups.page.login import COOKIE, Login, LoginSeal
from backups.page.rendering import render_error
from shared.errors import AppError
from shared.web.admin_auth import AdminTokenRefused, check_token

MOST_FORM_BYTES = 16 * 1024
# A form is sent by anybody who finds the login.
MOST_FORM_SECONDS = 30.0
_TRY_AGAIN = "Go back to the page, and try again."

PRIVATE_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Gate = Callable[[Request], Coroutine[Any, Any, None]]


class OpenRoute(APIRoute):
    """A route of the page that needs no login; its forms must come from this site."""

    def get_route_handler(self) -> Handler:
        """The handler, with what stands before it."""
        return _guarded(super().get_route_handler(), _refuse_other_sites)


class ClosedRoute(APIRoute):
    """A route of the page that needs a login, and for each POST the token of its forms."""

    def get_route_handler(self) -> Handler:
        """The handler, with what stands before it."""
        return _guarded(super().get_route_handler(), _admit)


def seal_of(request: Request) -> LoginSeal:
    """The seal of today's secrets; raises `AdminTokenUnset`."""
    settings = request.app.state.settings
    if settings.admin_token is None:
        check_token(request, None, "")
    return LoginSeal(settings.admin_token, settings.state_token_secret or "")


def login_of(request: Request) -> Login | None:
    """The login of a request that was let in; None on a route that needs none."""
    login: Login | None = getattr(request.state, "login", None)
    return login


def fields_of(request: Request) -> Mapping[str, str]:
    """The fields of the form that was sent."""
    fields: Mapping[str, str] = getattr(request.state, "fields", {})
    return fields


def _guarded(inner: Handler, admit: Gate) -> Handler:
    async def handle(request: Request) -> Response:
        try:
            await admit(request)
            response = await inner(request)
        except AppError as error:
            response = await run_in_threadpool(render_error, request, error)
        except RequestValidationError:
            refused = FormRefused("the address is malformed", "Use a link on the page.")
            response = await run_in_threadpool(render_error, request, refused)
        for name, value in PRIVATE_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return handle


async def _refuse_other_sites(request: Request) -> None:
    seal_of(request)
    if request.method == "POST":
        # SameSite does not help where there is no cookie yet; every browser of today says this.
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise FormRefused(
                "the form was sent by another site", "Open the page, and log in there."
            )
        request.state.fields = await _read_form(request)


async def _admit(request: Request) -> None:
    login = seal_of(request).read(request.cookies.get(COOKIE, ""))
    if login is None or await run_in_threadpool(service_of(request).facts.login_is_ended, login.id):
        raise AdminTokenRefused("this page needs a login", "Log in with ADMIN_TOKEN.")
    request.state.login = login
    if request.method == "POST":
        request.state.fields = await _read_form(request)
        login.check_form(request.state.fields.get("form_token", ""))


async def _read_form(request: Request) -> Mapping[str, str]:
    body = bytearray()
    try:
        async with asyncio.timeout(MOST_FORM_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_FORM_BYTES:
                    raise FormRefused("the form is too large", _TRY_AGAIN)
    except (TimeoutError, ClientDisconnect) as error:
        raise FormRefused("the form did not arrive as a whole", _TRY_AGAIN) from error
    found = parse_qs(body.decode(errors="replace"), keep_blank_values=True)
    return {name: values[-1] for name, values in found.items()}
