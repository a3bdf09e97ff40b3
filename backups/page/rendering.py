"""From records to HTML: the templates, the words they use, and errors as pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from backups.errors import LeaseHeld
from backups.format import naming
from backups.http.begin import service_of
from backups.http.routes import STATUSES
from backups.view import units
from backups.view.chart import total_bytes
from backups.view.restore_text import compared
from backups.vocabulary.second import SECOND
from shared.clock import format_utc
from shared.errors import AppError
from shared.printable import printable_lines
from shared.web.admin_auth import AdminTokenRefused, TooManyFailures
from shared.web.problem_handlers import status_of

FOLDER = Path(__file__).parent
_A_PLAN = re.compile(r"/admin/sets/[\w.-]+/restore")


def _shown(value: object) -> object:
    """What a page shows in place of a text from outside; markup of ours has been escaped."""
    return printable_lines(value) if type(value) is str else value


_templates = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=_shown,
)
_templates.filters.update(
    age=units.age,
    ago=units.ago,
    old=units.old,
    size=units.size,
    duration=units.duration,
    moment=units.moment,
    second=units.second,
    clock=units.clock,
    sentence=units.sentence,
    inbox=units.inbox,
    mark=units.mark_of,
    utc=format_utc,
    compared=compared,
    total_bytes=total_bytes,
    legacy=naming.is_legacy_id,
)

# A command, its options and what they take, an id or a placeholder: not the prose behind it.
_COMMAND = re.compile(
    r"\./bot (?:backups|shared(?: inbox)?) [a-z-]+"
    r"(?: (?:--(?:only|to|at|from|identity) [^\s,;]*\w|--[a-z-]+|[A-Z]{2,}\b|latest\b"
    r"|[\w.:/-]*\d(?:[\w.:/-]*\w)?))*"
)


def commands(text: str) -> Markup:
    """A hint, with the commands in it marked as such."""
    text = printable_lines(text)
    parts, end = [], 0
    for found in _COMMAND.finditer(text):
        options = (_option(word) for word in found.group().split(" "))
        code = Markup("<code>%s</code>") % Markup(" ").join(options)
        parts += [escape(text[end : found.start()]), code]
        end = found.end()
    return Markup().join([*parts, escape(text[end:])])


def _option(word: str) -> Markup:
    """A word of a command; an option is not broken after its hyphens."""
    if word.startswith("--"):
        return Markup('<span class="nowrap">%s</span>') % word
    return escape(word)


_templates.filters["commands"] = commands


def render(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page; every template sees the login, the path and the time beside `context`."""
    login = getattr(request.state, "login", None)
    text = _templates.get_template(template).render(
        login=login, path=request.url.path, now=service_of(request).clock.now(), **context
    )
    return HTMLResponse(text, status)


def render_login(request: Request, status: int, **context: Any) -> HTMLResponse:
    """The login form, which leads on to the page that was asked for."""
    asked = request.url.path if request.method == "GET" else "/admin/"
    found: dict[str, Any] = {"then": asked, "message": None, "not_kept": False, **context}
    response = render(request, "login.html", status, **found)
    response.headers["WWW-Authenticate"] = 'Cookie realm="admin", form-action="/admin/login"'
    return response


def render_error(request: Request, error: AppError) -> HTMLResponse:
    """A refusal or a failure as a page: the login form for who is not logged in."""
    status, title = status_of(error, STATUSES)
    if isinstance(error, AdminTokenRefused):
        return render_login(request, status, not_kept="login" in request.query_params)
    if isinstance(error, TooManyFailures):
        response = render_login(request, status, message=f"{error.message}. {error.hint}")
        response.headers["Retry-After"] = str(error.retry_after)
        return response
    run_id = error.run_id if isinstance(error, LeaseHeld) else None
    in_second = _in_second(request) if request.method == "GET" else None
    return render(
        request,
        "error.html",
        status,
        title=title,
        error=error,
        run_id=run_id,
        in_second=in_second,
    )


def _in_second(request: Request) -> str | None:
    """Where the same plan is made from the second place; None where there is none, or no plan."""
    path = request.url.path
    if request.app.state.second is None or "place" in request.query_params:
        return None
    return f"{path}?place={SECOND}" if _A_PLAN.fullmatch(path) else None
