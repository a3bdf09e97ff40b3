"""The page of a deletion: what would go, and the id to type."""

from __future__ import annotations

from fastapi import Request, Response

from backups.http.begin import service_of
from backups.page.rendering import render
from backups.view.text import range_of


def render_deletion(
    request: Request, set_id: str, status: int = 200, *, refused: str | None = None
) -> Response:
    """What goes with a set; `refused` is what was typed in place of its id.

    Raises what `Delete.plan` does.
    """
    service = service_of(request)
    plan = service.delete.plan(set_id)
    points = [range_of(one) for one in service.delete.points(plan)]
    return render(request, "delete.html", status, plan=plan, points=points, refused=refused)
