"""The routes of the page that do something: each starts what the JSON route of its name starts."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from backups.errors import ConfirmationMissing
from backups.http.begin import (
    begin_confirmed_deletion,
    begin_confirmed_restore,
    leave_running,
    service_of,
)
from backups.kit import kit_of
from backups.model import PlaceName
from backups.page.guard import ClosedRoute, fields_of
from backups.page.login import PATH
from backups.page.plans import render_deletion, render_restore
from backups.runs.run import StartedRun
from backups.vocabulary.second import FIRST, SECOND


def acting_routes() -> APIRouter:
    """Each answers with the way to the run's page, where its progress is shown."""
    router = APIRouter(prefix=PATH, route_class=ClosedRoute, include_in_schema=False)

    @router.post("/run")
    def run(request: Request) -> Response:
        return _to_run(request, service_of(request).backup.begin())

    @router.post("/drill")
    def drill(request: Request) -> Response:
        return _to_run(request, service_of(request).drill.begin())

    @router.post("/sets/{set_id}/verify")
    def verify(request: Request, set_id: str) -> Response:
        return _to_run(request, service_of(request).verify.begin(set_id))

    @router.post("/sets/{set_id}/accept")
    def accept(request: Request, set_id: str) -> Response:
        service_of(request).acceptance.accept(set_id)
        return RedirectResponse(f"{PATH}/sets/{set_id}", 303)

    @router.post("/sets/{set_id}/pin")
    def pin(request: Request, set_id: str) -> Response:
        service_of(request).pins.pin(set_id, fields_of(request).get("label", ""))
        return RedirectResponse(f"{PATH}/sets/{set_id}", 303)

    @router.post("/sets/{set_id}/unpin")
    def unpin(request: Request, set_id: str) -> Response:
        service_of(request).pins.unpin(set_id)
        return RedirectResponse(f"{PATH}/sets/{set_id}", 303)

    @router.post("/accept-missing")
    def accept_missing(request: Request) -> Response:
        service_of(request).acceptance.accept_missing()
        return RedirectResponse(f"{PATH}/", 303)

    @router.post("/notify")
    def send_test_message(request: Request) -> Response:
        service_of(request).alerts.send_test_message()
        return RedirectResponse(f"{PATH}/doctor#notified", 303)

    @router.post("/kit")
    def keep_kit(request: Request) -> Response:
        if fields_of(request).get("kept") == "yes":
            service = service_of(request)
            fingerprint = kit_of(request.app.state.settings).fingerprint
            service.facts.kit.keep(fingerprint, service.clock.now())
        return RedirectResponse(f"{PATH}/kit", 303)

    @router.post("/sets/{set_id}/restore")
    def restore(request: Request, set_id: str) -> Response:
        fields = fields_of(request)
        typed = fields.get("confirm", "").strip()
        place: PlaceName = SECOND if fields.get("place") == SECOND else FIRST
        try:
            started = begin_confirmed_restore(service_of(request, place), set_id, None, typed)
        except ConfirmationMissing:
            return render_restore(request, set_id, 409, place=place, refused=typed)
        return _to_run(request, started)

    @router.post("/sets/{set_id}/delete")
    def delete(request: Request, set_id: str) -> Response:
        typed = fields_of(request).get("confirm", "").strip()
        try:
            started = begin_confirmed_deletion(service_of(request), set_id, typed)
        except ConfirmationMissing:
            return render_deletion(request, set_id, 409, refused=typed)
        return _to_run(request, started)

    @router.post("/undo")
    def undo(request: Request) -> Response:
        return _to_run(request, service_of(request).undo.begin())

    @router.post("/prune")
    def prune(request: Request) -> Response:
        return _to_run(request, service_of(request).prune.begin())

    return router


def _to_run(request: Request, started: StartedRun) -> Response:
    run = leave_running(request, started)
    return RedirectResponse(f"{PATH}/runs/{run.id}", 303)
