"""Reading a request's body with a limit that holds while it is read."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from shared.merchants.errors import BodyMalformed, BodyTooLarge

MOST_BYTES = 5 * 1024 * 1024


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
