"""The page as a part of the app: its routes under `/admin`, its files, login and logout."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import RedirectResponse

from backups.http.begin import service_of
from backups.page import events
from backups.page.actions import acting_routes
from backups.page.guard import ClosedRoute, OpenRoute, fields_of, login_of, seal_of
from backups.page.login import LIFETIME_SECONDS, PATH, clear_cookie, set_cookie
from backups.page.rendering import render_login
from backups.page.static_files import PageFiles
from backups.page.views import reading_routes
from backups.runs.live_progress import ProgressBoard
from backups.service import BackupService
from shared.process.termination import after_termination
from shared.web.admin_auth import AdminTokenRefused, check_token

FILES = "/static"
_OWN_PATH = re.compile(r"(?!.*\.\.)/admin/[A-Za-z0-9/_.-]*")


def add_page(app: FastAPI) -> None:
    """Give `app` the page; its state has the service, the executor and the settings.

    `open_page` belongs into its lifespan.
    """
    app.state.page_progress = ProgressBoard()
    app.state.page_streams = 0
    app.state.page_stopping = threading.Event()
    app.state.page_looks = events.new_limiter()
    for router in page_routers():
        app.include_router(router)
    app.mount(FILES, PageFiles(), name="page-files")


def page_routers() -> tuple[APIRouter, ...]:
    """All routes of the page."""
    return login_routes(), reading_routes(), acting_routes()


@contextmanager
def open_page(app: FastAPI, *services: BackupService) -> Iterator[None]:
    """While the block lasts, the page of `app` shows how far the runs of `services` are.

    From SIGTERM on, nobody is kept waiting for news: the server waits for all who are.
    """
    for service in services:
        service.runs.watch(app.state.page_progress.note)
    with after_termination(0, app.state.page_stopping.set):
        yield


def login_routes() -> APIRouter:
    """Login and logout."""
    router = APIRouter(prefix=PATH, include_in_schema=False)

    def login(request: Request) -> Response:
        fields = fields_of(request)
        then = fields.get("then", "")
        then = then if _OWN_PATH.fullmatch(then) else f"{PATH}/"
        try:
            check_token(request, request.app.state.settings.admin_token, fields.get("token", ""))
        except AdminTokenRefused:
            return render_login(request, 401, then=then, message="That is not the admin token.")
        response = RedirectResponse(f"{then}?login", 303)
        set_cookie(request, response, seal_of(request).new_cookie())
        return response

    def to_the_page() -> Response:
        return RedirectResponse(f"{PATH}/", 303)

    def logout(request: Request) -> Response:
        service, login = service_of(request), login_of(request)
        assert login is not None  # noqa: S101 - a closed route
        now = service.clock.now()
        service.facts.end_login(login.id, now, now - timedelta(seconds=LIFETIME_SECONDS))
        response = RedirectResponse(f"{PATH}/", 303)
        clear_cookie(request, response)
        return response

    router.add_api_route("", to_the_page, methods=["GET"], route_class_override=ClosedRoute)
    router.add_api_route("/login", login, methods=["POST"], route_class_override=OpenRoute)
    router.add_api_route("/login", to_the_page, methods=["GET"], route_class_override=ClosedRoute)
    router.add_api_route("/logout", logout, methods=["POST"], route_class_override=ClosedRoute)
    return router
