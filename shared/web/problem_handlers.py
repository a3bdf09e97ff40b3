"""Refusals over HTTP as problem documents (RFC 9457): one table of statuses for the whole app."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from shared.errors import AppError
from shared.web.admin_auth import TooManyFailures
from shared.web.plain_page import render_page, wants_page
from shared.web.problem_documents import error_document, problem_document
from shared.web.security_headers import add_security_headers

PROBLEM = "application/problem+json"
_BAD_REQUEST = "The request is not valid"
_TEXTS = ("type", "title", "detail", "code", "hint")
_SCHEMA = {
    "type": "object",
    "properties": {"status": {"type": "integer"}, **{one: {"type": "string"} for one in _TEXTS}},
    "required": ["status", *_TEXTS],
}

# Error class, HTTP status, title. The most particular class comes first; all others are 500.
StatusTable = Sequence[tuple[type[AppError], int, str]]


class Problem(JSONResponse):
    """An answer that is a problem document."""

    media_type = PROBLEM


def documented(table: StatusTable, *kinds: type[AppError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of routes that may refuse with these errors of `table`; with none: any.

    Each such route may also meet parameters that cannot be understood.
    """
    titles: dict[int, list[str]] = {422: [_BAD_REQUEST]}
    for kind, status, title in table:
        if not kinds or kind in kinds:
            titles.setdefault(status, []).append(title)
    return {
        status: {"description": "; ".join(named), "content": {PROBLEM: {"schema": _SCHEMA}}}
        for status, named in sorted(titles.items())
    }


def status_of(error: AppError, table: StatusTable) -> tuple[int, str]:
    """The HTTP status and the title of an error."""
    return next(
        ((status, title) for kind, status, title in table if isinstance(error, kind)),
        (500, "The request failed"),
    )


def add_problem_handlers(app: FastAPI, table: StatusTable) -> None:
    """Make every refusal of `app` a problem document, or a plain page for a browser.

    On the event loop: a refusal waits for no thread, and its sender sends no more meanwhile.
    """

    async def on_app_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, AppError)  # noqa: S101 - registered for this class
        status, title = status_of(error, table)
        headers = {"WWW-Authenticate": "Bearer"} if error.code == "unauthorized" else {}
        if isinstance(error, TooManyFailures):
            headers["Retry-After"] = str(error.retry_after)
        return _answer(request, error_document(status, title, error), headers)

    app.add_exception_handler(AppError, on_app_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_bad_request)
    app.add_exception_handler(Exception, _on_fault)


def _answer(
    request: Request, document: dict[str, Any], headers: dict[str, str] | None = None
) -> Response:
    status = int(document["status"])
    if wants_page(request):
        return render_page(
            document["title"], [document["detail"], document["hint"]], status, headers
        )
    return Problem(document, status, headers)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    if error.status_code == 404 and wants_page(request):
        home = "/admin/" if f"{request.url.path}/".startswith("/admin/") else "/"
        return render_page(
            "There is no such page",
            ["Check the address, or begin here:"],
            404,
            error.headers,
            body=f'<p><a href="{home}">{home}</a></p>',
        )
    detail = str(error.detail)
    document = problem_document(
        error.status_code, detail, detail, "http", "See /openapi.json for what the route accepts."
    )
    return _answer(request, document, dict(error.headers or {}))


async def _on_fault(request: Request, _error: Exception) -> Response:
    """A fault of this program: the server logs the traceback, the answer tells nothing of it."""
    document = problem_document(
        500,
        "The request failed",
        "the request failed because of a bug in this program",
        "internal_error",
        "Report it, with the traceback in the log.",
    )
    answer = _answer(request, document)
    add_security_headers(answer.headers, request.url.path)
    return answer


async def _on_bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    faults = "; ".join(
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        for fault in error.errors()
    )
    document = problem_document(
        422, _BAD_REQUEST, faults, "bad_request", "See /openapi.json for what the route accepts."
    )
    return _answer(request, document)
