"""The routes of the second place."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from backups.http.begin import service_of
from backups.view.second import documents


def add_copy_routes(router: APIRouter) -> None:
    """`GET /copy` and `POST /copy`."""

    @router.get("/copy", summary="The second place, as the last copying found it")
    def copy_state(request: Request) -> dict[str, Any]:
        second = service_of(request).need_second()
        state = second.state()
        return {
            "location": second.config.location,
            **(documents.copy_document(state) if state else {"at": None}),
            "documents": documents.documents_document(second.documents_state()),
        }

    @router.post(
        "/copy",
        status_code=202,
        responses={200: {"description": "The copying has ended"}},
        summary="Copy what the second place lacks",
    )
    def copy(request: Request, wait: bool = False) -> JSONResponse:
        second = service_of(request).need_second()
        location = {"location": second.config.location}
        if wait:
            state, copied = second.copy()
            second.copy_documents(seconds=None)
            of_users = {"documents": documents.documents_document(second.documents_state())}
            told = {**documents.copy_document(state), "copied": copied.copied, **of_users}
            return JSONResponse({**location, **told})
        request.app.state.copier.ask()
        before = second.state()
        found = {**location, **(documents.copy_document(before) if before else {"at": None})}
        return JSONResponse(found, 202)
