"""The edges of users and Pages: accounts, metadata, subscriptions, the login's permissions."""

from __future__ import annotations

import json

from starlette.responses import JSONResponse, Response

from tests.fakes.asked import Asked, Json
from tests.fakes.graph import nodes
from tests.fakes.graph.access import allow, no_such_object, page_token_of, token_of
from tests.fakes.graph.errors import GraphError
from tests.fakes.graph.fields import Field, Known, check, parse, pick
from tests.fakes.graph.lists import one_page
from tests.fakes.graph.state import Page, Token, World


def fields_of(asked: Asked, usual: str, known: Known, node: str) -> tuple[Field, ...]:
    """The checked fields of a call, or the usual ones."""
    fields = parse(str(asked.arguments.get("fields") or usual))
    check(fields, known, node)
    return fields


def only(asked: Asked, *methods: str) -> None:
    """Raise error 100 for another method."""
    if asked.method not in methods:
        raise GraphError(
            100, f"Unsupported {asked.method.lower()} request.", kind="GraphMethodException"
        )


def me(world: World, asked: Asked) -> Response:
    """The user, or with a Page token the Page."""
    token = token_of(world, asked)
    if token.page:
        return page(world, asked, token.page)
    only(asked, "GET")
    allow(asked, "fields")
    first, _, last = world.user_name.partition(" ")
    values = {"id": world.user_id, "name": world.user_name, "first_name": first, "last_name": last}
    return JSONResponse(pick(fields_of(asked, "id,name", nodes.USER, "User"), values))


def accounts(world: World, asked: Asked) -> Response:
    """The Pages that the login granted, with their tokens."""
    only(asked, "GET")
    token = token_of(world, asked)
    allow(asked, "fields", "limit", "after", "before")
    if token.page:
        raise GraphError(
            100, "(#100) Tried accessing nonexisting field (accounts) on node type (Page)"
        )
    usual = "access_token,category,category_list,name,id,tasks"
    fields = fields_of(asked, usual, nodes.ACCOUNT, "Page")
    # A Page of a Business Portfolio is held through that, and not by the person.
    listed = [one for one in _granted(world, token) if world.pages[one].business is None]
    return _accounts(world, asked, token, f"{token.user}/accounts", listed, fields)


def _granted(world: World, token: Token) -> list[str]:
    shown = token.pages if "pages_show_list" in token.scopes else []
    return [one for one in shown if one in world.pages]


def _accounts(
    world: World,
    asked: Asked,
    token: Token,
    path: str,
    listed: list[str],
    fields: tuple[Field, ...],
) -> Response:
    def show(page_id: str) -> Json:
        values = account_values(world, token, world.pages[page_id])
        return {**pick(fields, values), "id": page_id}

    return JSONResponse(one_page(world, asked, path, listed, lambda one: one, show))


def account_values(world: World, token: Token, subject: Page) -> Json:
    """A Page as the person of a user token sees it; without a task on it there is no token."""
    if subject.withheld:
        return {**subject.values, "tasks": ["ADVERTISE"]}
    return {
        **subject.values,
        "access_token": world.page_token(subject.id, token).value,
        "tasks": ["ADVERTISE", "ANALYZE", "CREATE_CONTENT", "MESSAGING", "MODERATE", "MANAGE"],
    }


def businesses(world: World, asked: Asked) -> Response:
    """The Business Portfolios of the user."""
    only(asked, "GET")
    token = _of_business(world, asked)
    allow(asked, "fields", "limit", "after", "before")
    fields = fields_of(asked, "id,name", nodes.BUSINESS, "Business")

    def show(business: str) -> Json:
        return pick(fields, {"id": business, "name": world.businesses[business]})

    path = f"{token.user}/businesses"
    listed = list(world.businesses)
    return JSONResponse(one_page(world, asked, path, listed, lambda one: one, show))


def owned_pages(world: World, asked: Asked, business: str) -> Response:
    """The Pages that a portfolio owns, as far as they are granted."""
    return _business_pages(world, asked, business, client=False)


def client_pages(world: World, asked: Asked, business: str) -> Response:
    """The Pages that others share with a portfolio, as far as they are granted."""
    return _business_pages(world, asked, business, client=True)


def _business_pages(world: World, asked: Asked, business: str, *, client: bool) -> Response:
    only(asked, "GET")
    token = _of_business(world, asked)
    allow(asked, "fields", "limit", "after", "before")
    if business not in world.businesses:
        raise no_such_object(business, asked.method)
    fields = fields_of(asked, "id,name", nodes.ACCOUNT, "Page")
    pages = [world.pages[one] for one in _granted(world, token)]
    listed = [one.id for one in pages if one.business == business and one.client == client]
    edge = "client_pages" if client else "owned_pages"
    return _accounts(world, asked, token, f"{business}/{edge}", listed, fields)


def _of_business(world: World, asked: Asked) -> Token:
    token = token_of(world, asked)
    if "business_management" not in token.scopes:
        raise GraphError(100, "(#100) Missing Permission")
    return token


def permissions(world: World, asked: Asked) -> Response:
    """What the user granted and declined; `DELETE` takes the app's rights away."""
    only(asked, "GET", "DELETE")
    token = token_of(world, asked)
    allow(asked)
    if asked.method == "DELETE":
        forget_user(world)
        return JSONResponse({"success": True})
    granted = [{"permission": one, "status": "granted"} for one in token.scopes]
    declined = [{"permission": one, "status": "declined"} for one in sorted(world.declined)]
    return JSONResponse({"data": granted + declined})


def forget_user(world: World) -> int:
    """The user removed the app: every token of theirs is void; how many were good."""
    message = "Error validating access token: The user has not authorized application."
    theirs = [one for one in world.tokens.values() if one.user == world.user_id]
    return world.kill(theirs, 458, message)


def page(world: World, asked: Asked, page_id: str) -> Response:
    """A Page's metadata."""
    only(asked, "GET")
    token = token_of(world, asked)
    allow(asked, "fields")
    mine = token.page == page_id or (token.page is None and page_id in token.pages)
    if page_id not in world.pages or not mine:
        raise no_such_object(page_id, asked.method)
    known = nodes.PAGE if token.page else nodes.ACCOUNT
    fields = fields_of(asked, "name,id", known, "Page")
    beyond = {field.name for field in fields} - {"id", "name", "access_token"}
    if beyond and "pages_read_engagement" not in token.scopes:
        raise GraphError(
            10,
            "(#10) This endpoint requires the 'pages_read_engagement' permission or the 'Page "
            "Public Content Access' feature.",
        )
    subject = world.pages[page_id]
    values = subject.values if token.page else account_values(world, token, subject)
    return JSONResponse({**pick(fields, values), "id": page_id})


def subscribed_apps(world: World, asked: Asked, page_id: str) -> Response:
    """Which webhooks the app gets for a Page."""
    only(asked, "GET", "POST", "DELETE")
    page_token_of(world, asked, page_id, "pages_manage_metadata")
    subject = world.page(page_id)
    if asked.method == "POST":
        allow(asked, "subscribed_fields")
        subject.subscribed = _subscribed_fields(asked)
        return JSONResponse({"success": True})
    allow(asked, "fields")
    if asked.method == "DELETE":
        subject.subscribed = None
        return JSONResponse({"success": True})
    if subject.subscribed is None:
        return JSONResponse({"data": []})
    app: Json = {"id": world.app_id, "name": "Sales bot", "category": "Messenger bot"}
    return JSONResponse({"data": [{**app, "subscribed_fields": subject.subscribed}]})


def _subscribed_fields(asked: Asked) -> list[str]:
    given = asked.arguments.get("subscribed_fields")
    if isinstance(given, str) and given.startswith("["):
        try:
            given = json.loads(given)
        except ValueError:
            raise GraphError(100, "(#100) Param subscribed_fields must be an array.") from None
    if isinstance(given, str):
        given = [name.strip() for name in given.split(",") if name.strip()]
    if not isinstance(given, list) or not given:
        raise GraphError(100, "(#100) The parameter subscribed_fields is required.")
    for number, name in enumerate(given):
        if name not in nodes.SUBSCRIBABLE:
            raise GraphError(
                100,
                f"(#100) Param subscribed_fields[{number}] must be one of "
                f"{{{', '.join(sorted(nodes.SUBSCRIBABLE)).upper()}}} - got {name!r}.",
            )
    return [str(name) for name in given]
