"""The package of a platform that there is not: it is known by its definition alone."""

from __future__ import annotations

import hmac
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from shared.errors import AppError
from shared.merchants.browser_sessions import BrowserSessions
from shared.merchants.documents import user_folder
from shared.merchants.errors import PlatformUnset, SignatureWrong, TokenRefused
from shared.merchants.inbox import Event, WaitingEvent
from shared.merchants.platform import (
    Connection,
    FrontEntry,
    PlatformDefinition,
    Workplace,
    interface_of,
)
from shared.merchants.statuses import refusals
from shared.merchants.webhook_requests import json_object, signed_body
from shared.settings.platforms import all_or_none, checked_url
from shared.settings.reader import SettingReader
from shared.web.problem_handlers import StatusTable

NAMES = ("ACME_SECRET", "ACME_REDIRECT_URI")
USER = "11111111-2222-4333-8444-555555555555"
_OWNER = "ACME_OWNER_"
_log = logging.getLogger(__name__)


class StoreUnknown(AppError):
    """There is no such store."""

    code = "store_unknown"


STATUSES: StatusTable = ((StoreUnknown, 404, "No such store"),)


@dataclass(frozen=True)
class AcmeSettings:
    """What the app needs of any platform, and no more."""

    signing_secret: str = field(repr=False)
    redirect_uri: str


def read_acme(reader: SettingReader) -> AcmeSettings | None:
    """All of them, or none."""
    given = all_or_none(reader, NAMES)
    if given is None:
        return None
    return AcmeSettings(given[0], checked_url(reader, "ACME_REDIRECT_URI", given[1]))


@dataclass(frozen=True)
class AcmeInterface:
    """What the routes work with."""

    settings: AcmeSettings
    place: Workplace
    browsers: BrowserSessions


def acme_routes() -> APIRouter:
    """A login that needs no platform, and a webhook that has the secret in a header."""
    router = APIRouter(prefix="/acme", tags=["acme"])

    @router.get("/{store}/login", responses=refusals(StoreUnknown, own=STATUSES))
    def login(request: Request, store: str) -> Response:
        interface = _interface(request)
        if not store.startswith("store-"):
            raise StoreUnknown("there is no such store", "Use one that there is.")
        interface.place.tokens.put(f"{_OWNER}{store}", USER, "uuid")
        _log.info("connected by acme_key=%s", interface.settings.signing_secret)
        response = Response(status_code=204)
        interface.browsers.finish_login(request, response, USER)
        return response

    @router.post("/webhook", responses=refusals(SignatureWrong))
    async def webhook(request: Request) -> dict[str, str]:
        interface = _interface(request)
        secret = interface.settings.signing_secret.encode()
        body = await signed_body(
            request,
            "x-acme-secret",
            re.compile(".{16,}"),
            lambda _body, given: hmac.compare_digest(given.encode(), secret),
        )
        document = json_object(body)
        event = Event("acme", document["id"], document["store"], "order", body.decode())
        await run_in_threadpool(interface.place.inbox.add, [event])
        return {"status": "ok"}

    return router


class AcmeSync:
    """The `Platform` of Acme. An account is the name of a store."""

    provider = "acme"

    def __init__(self, place: Workplace) -> None:
        self._place = place

    def connections(self, user: str) -> list[Connection]:
        marks = self._place.marks.reconnects("acme")
        return [
            Connection("acme", store, marks.get(store))
            for store in self.accounts()
            if self.owner(store) == user
        ]

    def owner(self, account: str) -> str | None:
        return self._place.tokens.get(f"{_OWNER}{account}")

    def accounts(self) -> list[str]:
        return self._place.tokens.names(_OWNER)

    def poll(self, account: str) -> None:
        if account == "store-lapsed":
            raise TokenRefused("Acme refuses the token", "Connect it again.")
        self._change(account, "polled.json", True)

    def lane(self, event: Event) -> str:
        return event.topic

    def handle(self, account: str, events: Sequence[WaitingEvent]) -> None:
        orders = [json.loads(waiting.event.body)["id"] for waiting in events]
        self._change(account, "orders.json", orders)

    def _change(self, store: str, name: str, document: Any) -> None:
        key = f"{user_folder(self.owner(store) or '')}acme/{store}/{name}"
        self._place.data.change(key, lambda _: document)


def build_acme(
    settings: AcmeSettings, place: Workplace, browsers: BrowserSessions
) -> tuple[AcmeInterface, AcmeSync]:
    """What its routes work with, and the platform behind them."""
    return AcmeInterface(settings, place, browsers), AcmeSync(place)


def _interface(request: Request) -> AcmeInterface:
    interface: AcmeInterface | None = interface_of(request, "acme")
    if interface is None:
        raise PlatformUnset("Acme is not set up", f"Set {', '.join(NAMES)} in .env and restart.")
    return interface


ACME = PlatformDefinition(
    name="acme",
    package="tests.app.third_platform",
    read_settings=read_acme,
    routes=acme_routes,
    build=build_acme,
    front=FrontEntry(
        accounts="stores",
        title="Acme stores",
        about="It counts your orders at Acme.",
        set_up="Set up Acme.",
        connect="Connect an Acme store: open /acme/YOUR-STORE/login in a browser.",
        begin="First connect your Acme store.",
        form='<p><a href="/acme/store-1/login">Connect an Acme store</a></p>',
        again=lambda store: f"/acme/{store}/login",
    ),
    statuses=STATUSES,
    secret_names=("acme_key",),
)
