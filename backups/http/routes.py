"""The HTTP interface under `/admin/backups`: handlers of a few lines, and one table of statuses.

One file, because the routes are read as one list.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel

from backups.decisions.period import DEFAULT_SINCE
from backups.doctor import examine
from backups.errors import (
    ConfirmationMissing,
    CopyInProgress,
    FormRefused,
    InstanceUnknown,
    LeaseHeld,
    ManifestInvalid,
    NoRestorePoint,
    NoSecondPlace,
    NotDeletable,
    NothingToUndo,
    NotPinnable,
    OwnerDiffers,
    PeriodInvalid,
    RestoreBlocked,
    RunNotFound,
    SetNotFound,
    SetNotNamed,
    SeveralInstallations,
    SourceUnknown,
)
from backups.http.begin import (
    begin_confirmed_deletion,
    begin_confirmed_restore,
    leave_running,
    pin_confirmed,
    service_as_of,
    service_of,
)
from backups.http.places import add_copy_routes
from backups.model import PlaceName, Run
from backups.runs.run import StartedRun
from backups.view import documents
from backups.view.report_document import report_document
from backups.vocabulary.examination import Examination
from shared.errors import StoreError
from shared.web.admin_auth import (
    ADMIN_STATUSES,
    admin_guard,
    guarded_by,
)
from shared.web.problem_documents import problem_document
from shared.web.problem_handlers import PROBLEM, Problem, StatusTable, documented

PATH = "/admin/backups"

_log = logging.getLogger(__name__)

# Of the routes that begin a run: they answer at once, or with `wait=true` when it is over.
_RUNS: dict[str, Any] = {
    "status_code": 202,
    "responses": {
        202: {"description": "The run has started; `Location` is the address of its record"},
        200: {"description": "The finished run", "content": {"application/json": {}}},
        500: {"description": "The run failed", "content": {PROBLEM: {}}},
    },
}

STATUSES: StatusTable = (
    *ADMIN_STATUSES,
    (LeaseHeld, 409, "Another run is in progress"),
    (CopyInProgress, 409, "Another process copies"),
    (NoSecondPlace, 404, "There is no second place"),
    (SetNotFound, 404, "No such restore point"),
    (RunNotFound, 404, "No such run"),
    (InstanceUnknown, 404, "No such installation"),
    (SeveralInstallations, 409, "Several installations store here"),
    (SourceUnknown, 422, "No such source"),
    (PeriodInvalid, 422, "No such period"),
    (NoRestorePoint, 404, "There is no restore point"),
    (NothingToUndo, 404, "There is nothing to undo"),
    (FormRefused, 403, "The form is not from this page"),
    (ConfirmationMissing, 409, "It is not confirmed"),
    (SetNotNamed, 422, "No set was named"),
    (NotPinnable, 422, "It cannot be pinned"),
    (NotDeletable, 409, "It cannot be deleted"),
    (RestoreBlocked, 409, "The restore cannot succeed"),
    (OwnerDiffers, 409, "The restored files would have the wrong owner"),
    (ManifestInvalid, 422, "The restore point cannot be used"),
    (StoreError, 502, "The store failed"),
)


def backup_routes() -> APIRouter:
    """The routes; the app's state has the service, the executor and the admin token."""
    guard = admin_guard(lambda request: request.app.state.settings.admin_token)
    router = APIRouter(
        prefix=PATH,
        route_class=guarded_by(guard),
        tags=["backups"],
        responses=documented(STATUSES),
    )

    def status(request: Request) -> dict[str, Any]:
        return documents.status_document(service_of(request).status())

    router.add_api_route("", status, methods=["GET"], summary="Health and schedule")
    router.add_api_route("/", status, methods=["GET"], include_in_schema=False)
    router.add_api_route("/status", status, methods=["GET"], summary="Health and schedule")

    @router.get("/sets", summary="Restore points, newest first")
    def sets(
        request: Request,
        limit: Limit = 100,
        before: Before = None,
        place: PlaceName = "first",
        stored_before: AwareDatetime | None = None,
    ) -> dict[str, Any]:
        with service_as_of(request, place, stored_before) as service:
            if error := service.own_sets.look():
                _log.warning(
                    "could not refresh the catalogue; using local records: %s", error.message
                )
            found, more = service.list_sets(limit, before)
            listed_at = service.catalogue.listed_at()
            ranges = service.list_ranges()
            return documents.sets_document(
                found, more=more, ranges=ranges, listed_at=listed_at, error=error
            )

    @router.get("/sets/{set_id}", summary="One restore point")
    def one_set(request: Request, set_id: str) -> dict[str, Any]:
        service = service_of(request)
        if not service.catalogue.has(set_id):
            error = service.own_sets.refresh()
            if error and not service.catalogue.has(set_id):
                raise error
        return documents.set_document(service.catalogue.get(set_id))

    @router.get("/runs", summary="The run log, newest first")
    def runs(request: Request, limit: Limit = 100, before: Before = None) -> dict[str, Any]:
        found, more = service_of(request).list_runs(limit, before)
        return documents.runs_document(found, more=more)

    @router.get("/runs/{run_id}", summary="One run")
    def one_run(request: Request, run_id: str) -> dict[str, Any]:
        return documents.run_document(service_of(request).get_run(run_id))

    @router.post("/run", **_RUNS, summary="Make a set now")
    def run(request: Request, only: str | None = None, wait: bool = False) -> JSONResponse:
        return _started(request, service_of(request).backup.begin(only=only), wait=wait)

    @router.post("/sets/{set_id}/verify", **_RUNS, summary="Prove a stored set again")
    def verify(
        request: Request, set_id: str, wait: bool = False, place: PlaceName = "first"
    ) -> JSONResponse:
        return _started(request, service_of(request, place).verify.begin(set_id), wait=wait)

    @router.get("/sets/{set_id}/restore", summary="What a restore would do")
    def restore_plan(
        request: Request,
        set_id: str,
        only: str | None = None,
        accept_unsigned: bool = False,
        at: AwareDatetime | None = None,
        *,
        place: PlaceName = "first",
        stored_before: AwareDatetime | None = None,
    ) -> dict[str, Any]:
        with service_as_of(request, place, stored_before) as service:
            plan = service.restore.plan(set_id, at=at, only=only, accept_unsigned=accept_unsigned)
            return documents.plan_document(service.plan_detail.of(plan))

    @router.post(
        "/sets/{set_id}/restore", **_RUNS, summary="Replace the live data with a restore point"
    )
    def restore(
        request: Request,
        set_id: str,
        body: RestoreBody,
        only: str | None = None,
        wait: bool = False,
    ) -> JSONResponse:
        with ExitStack() as stack:
            service = stack.enter_context(service_as_of(request, body.place, body.stored_before))
            started = begin_confirmed_restore(
                service,
                set_id,
                only,
                body.confirm,
                accept_unsigned=body.accept_unsigned,
                check=body.check,
            )
            needed = ExitStack() if wait else stack.pop_all()
            return _started(request, started, wait=wait, needed=needed)

    @router.post("/undo", **_RUNS, summary="Put back what the last restore replaced")
    def undo(request: Request, wait: bool = False) -> JSONResponse:
        return _started(request, service_of(request).undo.begin(), wait=wait)

    @router.post("/drill", **_RUNS, summary="Rehearse a full restore, timed")
    def drill(request: Request, wait: bool = False, place: PlaceName = "first") -> JSONResponse:
        return _started(request, service_of(request, place).drill.begin(), wait=wait)

    @router.get("/prune", summary="What retention would keep and drop, with reasons")
    def prune_plan(request: Request) -> dict[str, Any]:
        return documents.retention_document(service_of(request).own_sets.plan_prune())

    @router.post("/prune", **_RUNS, summary="Apply retention")
    def prune(request: Request, wait: bool = False) -> JSONResponse:
        return _started(request, service_of(request).prune.begin(), wait=wait)

    @router.post("/sets/{set_id}/accept", summary="Accept a suspect set")
    def accept(request: Request, set_id: str) -> dict[str, Any]:
        return documents.set_document(service_of(request).acceptance.accept(set_id))

    @router.post(
        "/adopt",
        response_model=None,
        responses={202: _RUNS["responses"][202]},
        summary="Count the sets of an earlier installation as this one's",
    )
    def adopt(
        request: Request, body: Adoption, wait: bool = False
    ) -> dict[str, Any] | JSONResponse:
        service = service_of(request)
        if body.accept_unsigned:
            return _started(request, service.unsigned_sets.begin(body.confirm), wait=wait)
        return documents.adopted_document(service.adoption.adopt(body.confirm))

    @router.post("/sets/{set_id}/pin", summary="Keep a set whatever the rules of retention say")
    def pin(request: Request, set_id: str, body: PinBody) -> dict[str, Any]:
        return documents.set_document(
            pin_confirmed(service_of(request), set_id, body.confirm, body.label)
        )

    @router.post("/sets/{set_id}/unpin", summary="Keep it no longer than the rules say")
    def unpin(request: Request, set_id: str, body: Confirmation) -> dict[str, Any]:
        return documents.set_document(
            pin_confirmed(service_of(request), set_id, body.confirm, None)
        )

    @router.post("/sets/{set_id}/delete", **_RUNS, summary="Delete a set on purpose")
    def delete(
        request: Request, set_id: str, body: Confirmation, wait: bool = False
    ) -> JSONResponse:
        started = begin_confirmed_deletion(service_of(request), set_id, body.confirm)
        return _started(request, started, wait=wait)

    @router.post("/accept-missing", summary="Accept the loss of missing restore points")
    def accept_missing(request: Request) -> dict[str, Any]:
        return documents.missing_document(service_of(request).acceptance.accept_missing())

    @router.get("/doctor", summary="Check everything that can be wrong, reading only")
    def doctor(request: Request) -> dict[str, Any]:
        return documents.doctor_document(_examine(request, write=False))

    @router.post("/doctor", summary="Check everything, with write probes")
    def doctor_write(request: Request) -> dict[str, Any]:
        return documents.doctor_document(_examine(request, write=True))

    @router.get("/report", summary="Evidence: every run, drill, restore and alert of a period")
    def report(request: Request, since: Since = DEFAULT_SINCE) -> dict[str, Any]:
        return report_document(service_of(request).report(since))

    add_copy_routes(router)
    return router


class Confirmation(BaseModel):
    """The body that an adoption needs: the id of what it is about."""

    confirm: str


class Adoption(Confirmation):
    """The body of an adoption: with `accept_unsigned`, its sets without a mark get one."""

    accept_unsigned: bool = False


class PinBody(Confirmation):
    """The body of a pin: the id of the set, and why it is kept."""

    label: str = ""


class RestoreBody(Confirmation):
    """The body that a restore needs: the id of the set, whether it may be unsigned, whether SQLite
    is to check it, and from which place it comes, as of which time there."""

    accept_unsigned: bool = False
    place: PlaceName = "first"
    stored_before: AwareDatetime | None = None
    check: bool | None = None


Limit = Annotated[int, Query(ge=1, le=1000)]
Before = Annotated[str | None, Query(max_length=64)]
Since = Annotated[str, Query(max_length=64)]


def _examine(request: Request, *, write: bool) -> Examination:
    return examine(request.app.state.settings, service_of(request), write=write)


def _started(
    request: Request, started: StartedRun, *, wait: bool, needed: ExitStack | None = None
) -> JSONResponse:
    location = {"Location": f"{PATH}/runs/{started.run.id}"}
    if not wait:
        run = leave_running(request, started, needed)
        return JSONResponse(documents.run_document(run), 202, location)
    return _finished(started.execute(), location)


def _finished(run: Run, location: Mapping[str, str]) -> JSONResponse:
    document = documents.run_document(run)
    if run.error is None:
        return JSONResponse(document, 200, location)
    problem = problem_document(
        500,
        f"The {run.operation} {run.status}",
        run.error.message,
        run.error.code,
        run.error.hint,
        run=document,
    )
    return Problem(problem, 500, location)
