"""What a platform's routes read of a request, and how OpenAPI describes it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from shared.merchants.errors import (
    BodiesTooMany,
    BodyMalformed,
    BodyTooLarge,
    BodyTooSlow,
    SignatureWrong,
)

MOST_BYTES = 5 * 1024 * 1024
# Platforms give up after some seconds themselves.
MOST_SECONDS = 30.0
_TEXT = {"type": "string"}


class BodyBudget:
    """How many bytes all bodies together have that are read and not yet known to be signed.

    Anybody can send them. Used on the event loop alone.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    def take(self, size: int) -> None:
        """Hold so many bytes more; raises `BodiesTooMany` when that is too much."""
        if self.held + size > self.most:
            raise BodiesTooMany("too many requests are being sent at once", "Send it again later.")
        self.held += size

    def give_back(self, size: int) -> None:
        """Hold so many bytes less."""
        self.held -= size


_BUDGET = BodyBudget(16 * 1024 * 1024)


@asynccontextmanager
async def unverified_body(
    request: Request,
    most: int = MOST_BYTES,
    seconds: float = MOST_SECONDS,
    budget: BodyBudget = _BUDGET,
) -> AsyncIterator[bytes]:
    """The raw bytes, for the length of a block in which their signature is checked.

    Raises `BodyTooLarge` as soon as there are more than `most`, `BodyTooSlow` after `seconds`,
    `BodiesTooMany` when all that are being read have more than the budget, and `BodyMalformed`
    when the sender goes away in the middle.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        try:
            async with asyncio.timeout(seconds):
                async for chunk in request.stream():
                    if size + len(chunk) > most:
                        raise BodyTooLarge(
                            f"the body has more than {most} bytes", "Send a smaller request."
                        )
                    budget.take(len(chunk))
                    size += len(chunk)
                    chunks.append(chunk)
        except ClientDisconnect as error:
            raise BodyMalformed("the body was cut short", "Send it again.") from error
        except TimeoutError as error:
            raise BodyTooSlow(
                f"the body was not complete after {seconds:.0f} s", "Send it again."
            ) from error
        yield b"".join(chunks)
    finally:
        budget.give_back(size)


async def signed_body(
    request: Request, header: str, form: re.Pattern[str], is_signed: Callable[[bytes, str], bool]
) -> bytes:
    """The raw bytes of a webhook that its header signs; raises `SignatureWrong` for any other.

    A header that is missing, comes twice, or does not have the `form` of a signature is refused
    before the body is read. Raises what `unverified_body` does.
    """
    signature = one_header(request, header)
    if signature is not None and form.fullmatch(signature):
        async with unverified_body(request) as body:
            if is_signed(body, signature):
                return body
    raise SignatureWrong("this webhook is not signed by its platform", "Nothing was done.")


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
