"""The GraphQL Admin API over HTTP: tokens, versions, costs, throttling, and execution."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLError,
    OperationDefinitionNode,
    build_schema,
    execute_sync,
    parse,
    validate,
)
from starlette.responses import JSONResponse, Response

from tests.fakes.asked import Asked, Json
from tests.fakes.faults import Fault
from tests.fakes.shopify.cost import Cost
from tests.fakes.shopify.resolvers import Root
from tests.fakes.shopify.state import API_VERSION, Access, Shop, World

SCHEMA = build_schema((Path(__file__).parent / "schema.graphql").read_text())

_NO_TOKEN = "[API] Invalid API key or access token (unrecognized login or wrong password)"
_OLD_TOKEN = (
    "[API] Non-expiring access tokens are no longer accepted for the Admin API. "
    "Start using expiring offline tokens."
)


def operation_of(asked: Asked) -> str | None:
    """The first field of a query, for the record and for faults; None if it cannot be read."""
    try:
        chosen = _chosen(parse(str(asked.body.get("query"))), asked.body.get("operationName"))
    except GraphQLError:
        return None
    fields = [one for one in chosen.selection_set.selections if isinstance(one, FieldNode)]
    return fields[0].name.value if fields else None


def answer(
    world: World, asked: Asked, store: Shop, version: str, fault: Fault | None
) -> tuple[Response, str | None]:
    """The answer to a GraphQL request, and the code of its first error."""
    if version != API_VERSION:
        return JSONResponse({"errors": "Not Found"}, status_code=404), "404"
    access = world.access.get(asked.headers.get("x-shopify-access-token", ""))
    if access is None or not access.good or access.shop != store.domain or not store.installed:
        return JSONResponse({"errors": _NO_TOKEN}, status_code=401), "401"
    if access.expires is None and not world.options.allow_non_expiring:
        return JSONResponse({"errors": _OLD_TOKEN}, status_code=403), "403"
    if asked.method != "POST" or asked.unreadable or asked.query:
        problem = asked.unreadable or "only a POST without a query is answered"
        return JSONResponse({"errors": {"query": problem}}, status_code=400), "400"
    unknown = set(asked.body) - {"query", "variables", "operationName"}
    if unknown or not isinstance(asked.body.get("query"), str):
        problem = f"unknown: {sorted(unknown)}" if unknown else "Required parameter missing"
        return JSONResponse({"errors": {"query": problem}}, status_code=400), "400"
    if access.requests_left is not None:
        access.requests_left -= 1
    body = _run(world, asked, store, access, fault)
    first = body.get("errors", [{}])[0]
    code = first.get("extensions", {}).get("code", "INVALID") if first else None
    return JSONResponse(body), code


def _run(world: World, asked: Asked, store: Shop, access: Access, fault: Fault | None) -> Json:
    variables = asked.body.get("variables") or {}
    try:
        document = parse(asked.body["query"])
        errors = validate(SCHEMA, document)
        if errors:
            return {"errors": [one.formatted for one in errors]}
        chosen = _chosen(document, asked.body.get("operationName"))
        costs = Cost(SCHEMA, document, variables)
        cost = costs.of(chosen)
    except GraphQLError as error:
        return {"errors": [error.formatted]}
    if cost > world.options.max_query_cost:
        message = (
            f"Query cost is {cost}, which exceeds the single query max cost limit "
            f"({world.options.max_query_cost})."
        )
        extensions = {
            "code": "MAX_COST_EXCEEDED",
            "cost": cost,
            "maxCost": world.options.max_query_cost,
        }
        return {"errors": [{"message": message, "extensions": extensions}]}
    if fault and fault.kind == "error":
        details = fault.details
        extensions = {"code": details["code"], "requestId": "4a1c-9f"}
        message = details.get("message") or "Internal error. Looks like something went wrong."
        return {"errors": [{"message": message, "extensions": extensions}]}
    level = _level(world, store.domain)
    throttled: Json | None = fault.details if fault and fault.kind == "throttle" else None
    if throttled is None and level < cost:
        throttled = {"currently_available": level, "restore_rate": world.options.restore_rate}
    if throttled is not None:
        return {
            "errors": [
                {
                    "message": "Throttled",
                    "extensions": {
                        "code": "THROTTLED",
                        "documentation": "https://shopify.dev/api/usage/rate-limits",
                    },
                }
            ],
            "extensions": _cost(
                world,
                throttled.get("requested") or cost,
                None,
                throttled["currently_available"],
                throttled["restore_rate"],
            ),
        }
    result = execute_sync(
        SCHEMA,
        document,
        Root(world, store, access),
        variable_values=variables,
        operation_name=asked.body.get("operationName"),
    )
    # All that was requested is taken, and what was not used is given back.
    spent = costs.spent(chosen, result.data)
    left = level - spent
    world.buckets[store.domain] = (left, time.monotonic())
    rate = world.options.restore_rate
    body: Json = {**result.formatted, "extensions": _cost(world, cost, spent, left, rate)}
    return body


def _level(world: World, shop: str) -> float:
    """What is in a shop's bucket at this moment."""
    options = world.options
    level, since = world.buckets.get(shop, (float(options.bucket), time.monotonic()))
    return min(options.bucket, level + (time.monotonic() - since) * options.restore_rate)


def _cost(world: World, asked: int, actual: int | None, left: float, rate: float) -> dict[str, Any]:
    return {
        "cost": {
            "requestedQueryCost": asked,
            "actualQueryCost": actual,
            "throttleStatus": {
                "maximumAvailable": float(world.options.bucket),
                "currentlyAvailable": int(left),
                "restoreRate": rate,
            },
        }
    }


def _chosen(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    operations = [
        one
        for one in document.definitions
        if isinstance(one, OperationDefinitionNode)
        and (name is None or (one.name is not None and one.name.value == name))
    ]
    if len(operations) != 1:
        raise GraphQLError("An operation name is required")
    return operations[0]
