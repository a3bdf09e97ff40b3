"""`POST /admin/sync`: fetch everything from the platforms now, instead of at the next instant."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

from shared.merchants.marks import Marks
from shared.web.admin_auth import ADMIN_STATUSES, admin_guard, guarded_by
from shared.web.problem_handlers import documented


class Asked(BaseModel):
    """That it was asked for; the process that polls begins within seconds."""

    status: str = "asked"


def sync_routes() -> APIRouter:
    """The route; the app's state has the `marks` and the admin token."""
    guard = admin_guard(lambda request: request.app.state.settings.admin_token)
    router = APIRouter(prefix="/admin", route_class=guarded_by(guard), tags=["sync"])

    @router.post(
        "/sync",
        status_code=202,
        responses=documented(ADMIN_STATUSES),
        summary="Poll the platforms now",
    )
    def sync(request: Request) -> Asked:
        marks: Marks = request.app.state.marks
        marks.ask_for_sync()
        return Asked()

    return router
