"""Bulk operations: which queries are taken, and the file of what they found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    parse,
)
from starlette.responses import PlainTextResponse, Response

from tests.fakes.asked import Json
from tests.fakes.shopify.state import Bulk, Shop, World, new_number
from tests.fakes.shopify.views import gid

MOST_CONNECTIONS = 5
DEEPEST = 2
PATH = "/bulk/"

Execute = Callable[[DocumentNode], ExecutionResult]


def run(world: World, store: Shop, text: str, *, grouped: bool, execute: Execute) -> Json:
    """The payload of `bulkOperationRunQuery`; one operation runs at a time."""

    def refused(message: str, code: str = "INVALID") -> Json:
        error = {"field": ["query"], "message": message, "code": code}
        return {"bulkOperation": None, "userErrors": [error]}

    running = [one for one in store.bulk.values() if one.status == "RUNNING"]
    if running:
        return refused(
            "A bulk query operation for this app and shop is already in progress: "
            f"{gid('BulkOperation', running[0].id)}.",
            "OPERATION_IN_PROGRESS",
        )
    try:
        document = parse(text)
    except GraphQLError as error:
        return refused(f"Invalid bulk query: {error.message}")
    problem = _problem(document)
    if problem:
        return refused(f"Invalid bulk query: {problem}")
    result = execute(document)
    if result.errors:
        return refused(f"Invalid bulk query: {result.errors[0].message}")
    lines = [line for found in (result.data or {}).values() for line in _lines(found, None)]
    roots = sum("__parentId" not in line for line in lines)
    if not grouped:  # whatever order suits the platform
        lines.sort(key=lambda line: "__parentId" not in line)
    options = world.options
    made = Bulk(
        id=new_number(),
        query=text,
        lines=[json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines],
        roots=roots,
        outcome=options.bulk_outcome,
        looks_left=options.bulk_looks,
    )
    store.bulk[made.id] = made
    return {"bulkOperation": view(world, made), "userErrors": []}


def view(world: World, one: Bulk) -> Json:
    """GraphQL's `BulkOperation`."""
    status = one.status
    found = status in ("COMPLETED", "FAILED")  # of what was stopped it says nothing
    url = f"{world.base_url}{PATH}{one.name}?X-Goog-Signature=abc" if one.lines else None
    return {
        "id": gid("BulkOperation", one.id),
        "status": status,
        "errorCode": "TIMEOUT" if status == "FAILED" else None,
        "query": one.query,
        "url": url if status == "COMPLETED" else None,
        "partialDataUrl": url if status == "FAILED" else None,
        "objectCount": str(len(one.lines) if found else 0),
        "rootObjectCount": str(one.roots if found else 0),
        "fileSize": str(sum(map(len, one.lines))) if found else None,
        "createdAt": one.created_at,
        "completedAt": one.created_at if status == "COMPLETED" else None,
    }


def file(world: World, path: str) -> Response:
    """The file at an address that needs no token; half of it after a failure."""
    for store in world.shops.values():
        for one in store.bulk.values():
            if path == f"{PATH}{one.name}" and not one.gone:
                failed = one.status == "FAILED"
                lost = len(one.lines) // 2 if failed else world.options.bulk_lines_lost
                body = b"".join(one.lines[: len(one.lines) - lost])
                return Response(body, media_type="application/jsonl")
    return PlainTextResponse("<Error><Code>ExpiredToken</Code></Error>", status_code=403)


def _problem(document: DocumentNode) -> str | None:
    operations = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
    if len(operations) != 1 or operations[0].operation is not OperationType.QUERY:
        return "it has to be one query"
    if len(operations[0].selection_set.selections) != 1:
        return "Bulk queries must have one top-level field"
    depths = list(_depths(operations[0].selection_set, 0))
    if not depths:
        return "Bulk queries must contain at least one connection."
    if len(depths) > MOST_CONNECTIONS or max(depths) > DEEPEST:
        return "too many connections, or too deep"
    return None


def _depths(selected: SelectionSetNode, depth: int) -> Iterator[int]:
    """How deep each connection is: whatever has `edges`. `nodes` and pages are refused."""
    for node in selected.selections:
        if not isinstance(node, FieldNode) or node.selection_set is None:
            continue
        names = {
            one.name.value for one in node.selection_set.selections if isinstance(one, FieldNode)
        }
        if names & {"nodes", "pageInfo"}:
            yield DEEPEST + 1
        inner = depth + 1 if "edges" in names else depth
        if "edges" in names:
            yield inner
        yield from _depths(node.selection_set, inner)


def _lines(found: Any, parent: str | None) -> Iterator[Json]:
    """An object a line, and what is in its lists below it."""
    for edge in found["edges"]:
        node = dict(edge["node"])
        lists = {
            name: node.pop(name)
            for name, value in edge["node"].items()
            if isinstance(value, dict) and "edges" in value
        }
        yield node if parent is None else {**node, "__parentId": parent}
        for one in lists.values():
            yield from _lines(one, node["id"])
