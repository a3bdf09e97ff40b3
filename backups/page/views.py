"""The routes of the page that only show something; none of them lists the bucket."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse

from backups.decisions.period import DEFAULT_SINCE
from backups.doctor import examine
from backups.http.begin import service_of
from backups.kit import kit_of
from backups.model import PlaceName, Run
from backups.operations.own_sets import LATEST
from backups.page import events, last_day, overview
from backups.page.download import stored_object, stream
from backups.page.guard import ClosedRoute
from backups.page.login import PATH
from backups.page.plans import render_deletion, render_restore
from backups.page.rendering import render
from backups.status import kit_kept_at
from backups.view import calendar, kit_sheet, timeline
from backups.view import report as report_text
from backups.view.headline import headline
from backups.view.notified import notified
from backups.view.report_document import report_document
from backups.view.steps import steps_of
from backups.vocabulary.second import FIRST

Before = Annotated[str | None, Query(max_length=64)]
At = Annotated[str | None, Query(max_length=64)]


def reading_routes() -> APIRouter:
    """Overview, lists, single records, plans, downloads and progress."""
    router = APIRouter(prefix=PATH, route_class=ClosedRoute, include_in_schema=False)

    @router.get("/")
    def show_overview(request: Request) -> Response:
        service = service_of(request)
        found = overview.gather(service, service.clock.now())
        return render(
            request,
            "overview.html",
            found=found,
            shown=_shown(request, found.status.running),
            rows=calendar.rows_of_weekdays(found.days),
            mondays=calendar.mondays(found.days),
            summary=calendar.summary(found.days),
        )

    @router.get("/sets")
    def sets(request: Request, before: Before = None) -> Response:
        service = service_of(request)
        found, more = service.list_sets(overview.PAGE, before)
        why = overview.short_reasons(service)
        asked = overview.last_asked(service)
        return render(
            request, "sets.html", sets=found, more=more, before=before, reasons=why, asked=asked
        )

    @router.get("/sets/{set_id}")
    def one_set(request: Request, set_id: str) -> Response:
        service = service_of(request)
        found = service.catalogue.get(set_id)
        why = overview.reasons(service).get(set_id, "")
        return render(request, "set.html", one=found, reason=why)

    @router.get("/sets/{set_id}/objects/{source}")
    def download(request: Request, set_id: str, source: str) -> Response:
        service = service_of(request)
        return stream(service.store, stored_object(service.catalogue.get(set_id), source))

    @router.get("/sets/{set_id}/restore")
    def restore_plan(request: Request, set_id: str, place: PlaceName = FIRST) -> Response:
        return render_restore(request, set_id, place=place)

    @router.get("/sets/{set_id}/delete")
    def deletion_plan(request: Request, set_id: str) -> Response:
        return render_deletion(request, set_id)

    @router.get("/restore")
    def second(request: Request, at: At = None) -> Response:
        if not at:
            return RedirectResponse(f"{PATH}/#timeline", 303)
        service = service_of(request)
        now = service.clock.now()
        shown, asked = last_day.read(service, now), timeline.read_second(at, now)
        choice = timeline.pick(shown, asked) if asked and asked >= shown.begin else None
        if asked is None or (choice and not choice.is_good):
            status = 404 if asked else 422
            return render(request, "second.html", status, choice=choice, typed=at, shown=shown)
        return render_restore(request, LATEST, at=asked)

    @router.get("/undo")
    def undo_plan(request: Request) -> Response:
        return render(request, "undo.html", record=service_of(request).undo.undoable())

    @router.get("/prune")
    def prune_plan(request: Request) -> Response:
        return render(request, "prune.html", plan=service_of(request).own_sets.plan_prune())

    @router.get("/doctor")
    def doctor(request: Request) -> Response:
        service = service_of(request)
        found = examine(request.app.state.settings, service)
        status = service.status()
        return render(
            request,
            "doctor.html",
            lines=found.lines,
            receivers=status.receivers,
            headline=headline(status, service.clock.now()),
            told=notified(status),
            check=service.facts.checks.last(),
        )

    @router.get("/kit")
    def emergency_kit(request: Request) -> Response:
        service = service_of(request)
        kit = kit_of(request.app.state.settings)
        return render(
            request,
            "kit.html",
            kit=kit,
            kept_at=kit_kept_at(service.config, service.facts),
            not_here=kit_sheet.NOT_HERE,
            lines=kit_sheet.env_lines(kit, [f"({key})" for key in kit.token_keys]),
            to_look_up=kit_sheet.to_look_up(kit),
            steps=kit_sheet.STEPS,
        )

    @router.get("/runs")
    def runs(request: Request, before: Before = None) -> Response:
        found, more = service_of(request).list_runs(overview.PAGE, before)
        return render(request, "runs.html", runs=found, more=more, before=before)

    @router.get("/runs/{run_id}")
    def one_run(request: Request, run_id: str) -> Response:
        run = service_of(request).get_run(run_id)
        shown = _shown(request, run)
        return render(request, "run.html", run=run, steps=steps_of(run), shown=shown)

    @router.get("/report")
    def report(request: Request) -> Response:
        found = service_of(request).report(DEFAULT_SINCE)
        return PlainTextResponse(report_text.report(found) + "\n", headers=_file(found.end, "txt"))

    @router.get("/report.json")
    def report_json(request: Request) -> Response:
        found = service_of(request).report(DEFAULT_SINCE)
        return JSONResponse(report_document(found), headers=_file(found.end, "json"))

    @router.get("/events")
    async def follow(request: Request) -> Response:
        return events.follow(request)

    return router


def _file(at: datetime, kind: str) -> dict[str, str]:
    """The header that makes a browser keep an answer as a file."""
    name = f"backup-report-{at:%Y-%m-%d}.{kind}"
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _shown(request: Request, run: Run | None) -> dict[str, Any] | None:
    """How far a run is, as the first event of the stream shows it."""
    return events.describe(run, request.app.state.page_progress.of(run.id)) if run else None
