"""The pages of plans that a person confirms by typing an id: a restore, and a deletion."""

from __future__ import annotations

from datetime import datetime

from fastapi import Request, Response

from backups.http.begin import service_of
from backups.model import PlaceName
from backups.page.rendering import render
from backups.view.text import range_of
from backups.vocabulary.second import FIRST


def render_restore(
    request: Request,
    set_id: str,
    status: int = 200,
    *,
    place: PlaceName = FIRST,
    at: datetime | None = None,
    refused: str | None = None,
) -> Response:
    """What a restore of a set, or of the newest point at `at`, would do, from a place; `refused` is
    what was typed in place of its id.

    Raises what `Restore.plan` does, and `NoSecondPlace`.
    """
    service = service_of(request, place)
    plan = service.plan_detail.of(service.restore.plan(set_id, at=at))
    has_second = request.app.state.second is not None
    return render(
        request,
        "restore.html",
        status,
        plan=plan,
        place=place,
        has_second=has_second,
        asked=at,
        refused=refused,
    )


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
