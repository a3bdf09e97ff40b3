"""The HTTP face under `/admin/backups`: handlers of a few lines, and one table of statuses."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from backups import documents
from backups.errors import LeaseHeld, ManifestInvalid, RunNotFound, SetNotFound, SourceUnknown
from backups.model import Run
from backups.operation import StartedRun
from backups.service import BackupService
from shared.admin_auth import AdminTokenRefused, AdminTokenUnset, admin_guard
from shared.errors import AppError, StoreError

PATH = "/admin/backups"
PROBLEM = "application/problem+json"

_log = logging.getLogger(__name__)

# The most particular class comes first; everything else is 500.
_STATUSES: tuple[tuple[type[AppError], int, str], ...] = (
    (AdminTokenRefused, 401, "Unauthorized"),
    (AdminTokenUnset, 503, "Admin routes are closed"),
    (LeaseHeld, 409, "Another run is in progress"),
    (SetNotFound, 404, "No such restore point"),
    (RunNotFound, 404, "No such run"),
    (SourceUnknown, 422, "No such source"),
    (ManifestInvalid, 422, "The restore point cannot be used"),
    (StoreError, 502, "The store failed"),
)


class Problem(JSONResponse):
    """An answer that is a problem document (RFC 9457)."""

    media_type = PROBLEM


def backup_routes() -> APIRouter:
    """The routes; the app's state has the service, the executor and the admin token."""
    guard = admin_guard(lambda request: request.app.state.settings.admin_token)
    router = APIRouter(
        prefix=PATH, dependencies=[Depends(guard)], tags=["backups"], responses=_PROBLEMS
    )

    def status(request: Request) -> dict[str, Any]:
        return documents.status_document(_service(request).status())

    router.add_api_route("", status, methods=["GET"], summary="Health and schedule")
    router.add_api_route("/status", status, methods=["GET"], summary="Health and schedule")

    @router.get("/sets", summary="Restore points, newest first")
    def sets(request: Request, limit: Limit = 100, before: Before = None) -> dict[str, Any]:
        if error := _service(request).refresh():
            _log.warning("listing from local records: %s", error.message)
        found, more = _service(request).list_sets(limit, before)
        return documents.sets_document(found, more=more)

    @router.get("/sets/{set_id}", summary="One restore point")
    def one_set(request: Request, set_id: str) -> dict[str, Any]:
        service = _service(request)
        if not service.catalogue.has(set_id):
            service.refresh()
        return documents.set_document(service.catalogue.get(set_id))

    @router.get("/runs", summary="The run log, newest first")
    def runs(request: Request, limit: Limit = 100, before: Before = None) -> dict[str, Any]:
        found, more = _service(request).list_runs(limit, before)
        return documents.runs_document(found, more=more)

    @router.get("/runs/{run_id}", summary="One run")
    def one_run(request: Request, run_id: str) -> dict[str, Any]:
        return documents.run_document(_service(request).runlog.get(run_id))

    @router.post("/run", status_code=202, summary="Make a set now")
    def run(request: Request, only: str | None = None, wait: bool = False) -> JSONResponse:
        return _started(request, _service(request).begin_backup(only=only), wait=wait)

    @router.post("/sets/{set_id}/verify", status_code=202, summary="Prove a stored set again")
    def verify(request: Request, set_id: str, wait: bool = False) -> JSONResponse:
        return _started(request, _service(request).begin_verify(set_id), wait=wait)

    return router


def add_problem_handlers(app: FastAPI) -> None:
    """Make every refusal of `app` a problem document."""
    app.add_exception_handler(AppError, _on_app_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_bad_request)


Limit = Annotated[int, Query(ge=1, le=1000)]
Before = Annotated[str | None, Query(max_length=64)]

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": title, "content": {PROBLEM: {}}} for _, status, title in _STATUSES
}


def _service(request: Request) -> BackupService:
    service: BackupService = request.app.state.backups
    return service


def _started(request: Request, started: StartedRun, *, wait: bool) -> JSONResponse:
    location = {"Location": f"{PATH}/runs/{started.run.id}"}
    if not wait:
        executor: ThreadPoolExecutor = request.app.state.executor
        executor.submit(started.execute)
        return JSONResponse(documents.run_document(started.run), 202, location)
    return _finished(started.execute(), location)


def _finished(run: Run, location: Mapping[str, str]) -> JSONResponse:
    document = documents.run_document(run)
    if run.error is None:
        return JSONResponse(document, 200, location)
    problem = documents.problem_document(
        500,
        f"The {run.operation} {run.status}",
        run.error.message,
        run.error.code,
        run.error.hint,
        run=document,
    )
    return Problem(problem, 500, location)


def _on_app_error(_: Request, error: Exception) -> Problem:
    assert isinstance(error, AppError)  # noqa: S101 - registered for this class
    status, title = next(
        ((status, title) for kind, status, title in _STATUSES if isinstance(error, kind)),
        (500, "The request failed"),
    )
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    more = {"run_id": error.run_id} if isinstance(error, LeaseHeld) else {}
    return Problem(documents.error_document(status, title, error, **more), status, headers)


def _on_http_exception(_: Request, error: Exception) -> Problem:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    problem = documents.problem_document(
        error.status_code, str(error.detail), str(error.detail), "http", "Look at /docs."
    )
    return Problem(problem, error.status_code, error.headers)


def _on_bad_request(_: Request, error: Exception) -> Problem:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    faults = "; ".join(
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        for fault in error.errors()
    )
    problem = documents.problem_document(
        422, "The request cannot be understood", faults, "bad_request", "Look at /docs."
    )
    return Problem(problem, 422)
