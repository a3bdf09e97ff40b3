"""What a platform's routes read of a request, and how OpenAPI describes it."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from shared.merchants.errors import BodyMalformed, BodyTooLarge

MOST_BYTES = 5 * 1024 * 1024
_TEXT = {"type": "string"}


async def read_body(request: Request, most: int = MOST_BYTES) -> bytes:
    """The raw bytes; raises `BodyTooLarge` as soon as there are more than `most`.

    Raises `BodyMalformed` when the sender goes away in the middle.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                raise BodyTooLarge(
                    f"the body has more than {most} bytes", "Send a smaller request."
                )
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise BodyMalformed("the body was cut short", "Send it again.") from error
    return b"".join(chunks)


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that `body` is; raises `BodyMalformed` for anything else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise BodyMalformed("the body is not a JSON object", "Nothing was done.")
    return document


def one_header(request: Request, name: str) -> str | None:
    """The value of a header; None when it is absent, or came twice.

    Of two values, another program on the way may have looked at the other one.
    """
    values = request.headers.getlist(name)
    return values[0] if len(values) == 1 else None


def query(*names: str) -> list[dict[str, Any]]:
    """Parameters of the query; which of them are there is part of what the route checks."""
    return [{"in": "query", "name": name, "required": False, "schema": _TEXT} for name in names]


def signed_json(*headers: str) -> dict[str, Any]:
    """A JSON body with headers, the first of which signs it."""
    return {
        "parameters": [
            {"in": "header", "name": name, "required": not number, "schema": _TEXT}
            for number, name in enumerate(headers)
        ],
        "requestBody": _body("application/json", {"type": "object"}),
    }


def signed_form(field: str) -> dict[str, Any]:
    """A form with one field, which is signed."""
    schema = {
        "type": "object",
        "properties": {field: _TEXT},
        "required": [field],
    }
    return {"requestBody": _body("application/x-www-form-urlencoded", schema)}


def _body(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {media_type: {"schema": schema}}}
