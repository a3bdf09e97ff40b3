"""The routes under `/facebook`: login, callback, webhook, and what Meta asks of an app."""

from __future__ import annotations

import hashlib
import hmac
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from facebook_integration.errors import FACEBOOK_STATUSES, DeletionUnknown, SessionMissing
from facebook_integration.events import is_id, split
from facebook_integration.oauth import PageLogins
from facebook_integration.settings import FACEBOOK_NAMES, FacebookSettings
from facebook_integration.signatures import SIGNATURE, open_signed_request, webhook_is_signed
from facebook_integration.sync import DEAUTHORIZE, PERSON
from shared.merchants.browser_sessions import BrowserSessions
from shared.merchants.errors import (
    LoginDenied,
    LoginRefused,
    PermissionMissing,
    PlatformError,
    PlatformUnset,
    SignatureWrong,
)
from shared.merchants.inbox import DATA_DELETION, Event, Inbox
from shared.merchants.platform import interface_of
from shared.merchants.protected.requests import ProtectedRequests
from shared.merchants.statuses import WEBHOOK_REFUSALS, refusals
from shared.merchants.webhook_requests import (
    json_object,
    query,
    signed_body,
    signed_form,
    signed_json,
    unverified_body,
)

_log = logging.getLogger(__name__)

_DELETION = "/facebook/data-deletion"
# Room for more than the longest signed request, not for millions of fields to be parsed.
_MOST_FORM_BYTES = 64 * 1024


@dataclass(frozen=True)
class FacebookInterface:
    """What the routes work with."""

    settings: FacebookSettings
    logins: PageLogins
    inbox: Inbox
    requests: ProtectedRequests
    browsers: BrowserSessions


class DeletionAnswer(BaseModel):
    """What Meta shows to a person who asked for their data to be deleted."""

    url: str
    confirmation_code: str


class DeletionState(BaseModel):
    """How far a deletion is."""

    status: str


def facebook_routes() -> APIRouter:
    """The routes; they work with the interface of `interface_of`."""
    router = APIRouter(prefix="/facebook", tags=["facebook"])

    @router.get(
        "/login",
        status_code=302,
        response_class=RedirectResponse,
        responses=refusals(SessionMissing, own=FACEBOOK_STATUSES),
        summary="Connect Pages",
    )
    def login(request: Request) -> Response:
        interface = _interface(request)
        response = RedirectResponse("/", 302)
        browser = interface.browsers.begin_login(request, response)
        response.headers["location"] = interface.logins.begin(
            interface.browsers.user(request), browser
        )
        return response

    @router.get(
        "/callback",
        status_code=303,
        response_class=RedirectResponse,
        responses=refusals(LoginRefused, LoginDenied, PermissionMissing, PlatformError),
        openapi_extra={"parameters": query("code", "state", "error", "error_reason")},
        summary="Where Facebook sends the merchant back to",
    )
    def callback(request: Request) -> Response:
        interface = _interface(request)
        user = interface.logins.finish(
            request.query_params.multi_items(),
            interface.browsers.user(request),
            interface.browsers.login_mark(request),
        )
        response = RedirectResponse("/", 303)
        interface.browsers.finish_login(request, response, user)
        return response

    @router.get(
        "/webhook",
        response_class=PlainTextResponse,
        responses=refusals(SignatureWrong),
        openapi_extra={"parameters": query("hub.mode", "hub.verify_token", "hub.challenge")},
        summary="Meta verifies the webhook address",
    )
    def confirm(request: Request) -> PlainTextResponse:
        interface = _interface(request)
        given = request.query_params.get("hub.verify_token", "")
        right = hmac.compare_digest(given.encode(), interface.settings.verify_token.encode())
        if not right or request.query_params.get("hub.mode") != "subscribe":
            raise SignatureWrong(
                "the verification request does not have our verify token",
                "Check FACEBOOK_VERIFY_TOKEN.",
            )
        return PlainTextResponse(request.query_params.get("hub.challenge", ""))

    @router.post(
        "/webhook",
        responses=refusals(*WEBHOOK_REFUSALS),
        openapi_extra=signed_json("X-Hub-Signature-256"),
        summary="Meta sends events",
    )
    async def webhook(request: Request) -> dict[str, str]:
        interface = _interface(request)
        secret = interface.settings.app_secret
        body = await signed_body(
            request,
            "x-hub-signature-256",
            SIGNATURE,
            lambda body, signature: webhook_is_signed(body, signature, secret),
        )
        if events := split(json_object(body)):
            await run_in_threadpool(interface.inbox.add, events)
        return {"status": "ok"}

    @router.post(
        "/deauthorize",
        responses=refusals(*WEBHOOK_REFUSALS),
        openapi_extra=signed_form("signed_request"),
        summary="A person removed the app at Facebook",
    )
    async def deauthorize(request: Request) -> dict[str, str]:
        interface = _interface(request)
        event = await _signed_request(request, interface.settings.app_secret, DEAUTHORIZE)
        await interface.requests.accept(event)
        return {"status": "ok"}

    @router.post(
        "/data-deletion",
        responses=refusals(*WEBHOOK_REFUSALS),
        openapi_extra=signed_form("signed_request"),
        summary="A person asks for their data to be deleted",
    )
    async def data_deletion(request: Request) -> DeletionAnswer:
        interface = _interface(request)
        event = await _signed_request(request, interface.settings.app_secret, DATA_DELETION)
        await interface.requests.accept(event)
        code = event.event_id
        return DeletionAnswer(
            url=f"{interface.settings.public_url}{_DELETION}/{code}", confirmation_code=code
        )

    @router.get(
        "/data-deletion/{code}",
        responses=refusals(DeletionUnknown, own=FACEBOOK_STATUSES),
        summary="How far a deletion is",
    )
    def deletion_state(request: Request, code: str) -> DeletionState:
        done = _interface(request).requests.is_done("facebook", DATA_DELETION, code)
        if done is None:
            raise DeletionUnknown("there is no such request", "Check the confirmation code.")
        return DeletionState(status="done" if done else "in progress")

    return router


def _interface(request: Request) -> FacebookInterface:
    interface: FacebookInterface | None = interface_of(request, "facebook")
    if interface is None:
        raise PlatformUnset(
            "Facebook is not set up", f"Set {', '.join(FACEBOOK_NAMES)} in .env and restart."
        )
    return interface


async def _signed_request(request: Request, secret: str, topic: str) -> Event:
    """The event of a signed request about a person.

    Its id is the same each time that Meta sends it for this topic; nobody else can guess it.
    """
    async with unverified_body(request, _MOST_FORM_BYTES) as body:
        given = parse_qs(body.decode(errors="replace")).get("signed_request", [""])[0]
        document = open_signed_request(given, secret)
    if document is None or not is_id(str(document.get("user_id"))):
        raise SignatureWrong("this request is not signed by Meta", "Nothing was done.")
    at = document.get("issued_at")
    instant = datetime.fromtimestamp(at, UTC) if isinstance(at, int) and 0 < at < 10**11 else None
    # The payload alone: its spelling is what is signed.
    payload = given.partition(".")[2]
    named = hmac.new(secret.encode(), f"{topic}:{payload}".encode(), hashlib.sha256).hexdigest()
    person = f"{PERSON}{document['user_id']}"
    return Event("facebook", named[:32], person, topic, "{}", instant)
