"""What anybody can send: not read without the form of a signature, and not without end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request

from shared.merchants.errors import (
    BodiesTooMany,
    BodyMalformed,
    BodyTooLarge,
    BodyTooSlow,
    SignatureWrong,
)
from shared.merchants.webhook_requests import BodyBudget, signed_body, unverified_body

FORM = re.compile("[0-9a-f]{4}")
Receive = Callable[[], Awaitable[dict[str, Any]]]


class Sender:
    """Sends chunks, and then `end`; counts how many were read."""

    def __init__(self, *chunks: bytes, end: str = "whole") -> None:
        self._chunks = list(chunks)
        self._end = end
        self.read = 0

    async def __call__(self) -> dict[str, Any]:
        self.read += 1
        if self._chunks:
            return {"type": "http.request", "body": self._chunks.pop(0), "more_body": True}
        if self._end == "silence":
            await asyncio.Event().wait()
        if self._end == "gone":
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}


def request(receive: Receive, *headers: tuple[bytes, bytes]) -> Request:
    """A POST with these headers."""
    return Request({"type": "http", "method": "POST", "headers": list(headers)}, receive)


async def read(sender: Sender, budget: BodyBudget, **limits: Any) -> bytes:
    async with unverified_body(request(sender), budget=budget, **limits) as body:
        assert budget.held == len(body)
        return body


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"x-signature", b""),),
        ((b"x-signature", b"0123x"),),
        ((b"x-signature", b"\xe4\xe4\xe4\xe4"),),
        ((b"x-signature", b"0123"), (b"x-signature", b"0123")),
    ],
    ids=repr,
)
def test_without_a_signature_nothing_is_read(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    """Missing, malformed, or there twice."""
    sender = Sender(b"{}")

    with pytest.raises(SignatureWrong):
        asyncio.run(signed_body(request(sender, *headers), "x-signature", FORM, lambda *_: True))

    assert sender.read == 0


@pytest.mark.parametrize("right", [True, False])
def test_what_is_read_is_checked(right: bool) -> None:
    """Against the header that it came with."""

    def is_signed(body: bytes, signature: str) -> bool:
        assert (body, signature) == (b"{}", "0123")
        return right

    signed = request(Sender(b"{", b"}"), (b"x-signature", b"0123"))
    if right:
        assert asyncio.run(signed_body(signed, "x-signature", FORM, is_signed)) == b"{}"
    else:
        with pytest.raises(SignatureWrong):
            asyncio.run(signed_body(signed, "x-signature", FORM, is_signed))


@pytest.mark.parametrize(
    ("sender", "limits", "error"),
    [
        (Sender(b"1234", b"5"), {"most": 4}, BodyTooLarge),
        (Sender(b"1234", b"5678", b"9"), {}, BodiesTooMany),
        (Sender(b"1234", end="silence"), {"seconds": 0.01}, BodyTooSlow),
        (Sender(b"1234", end="gone"), {}, BodyMalformed),
    ],
    ids=["large", "many", "slow", "gone"],
)
def test_a_body_that_is_refused_is_no_longer_counted(
    sender: Sender, limits: dict[str, Any], error: type[Exception]
) -> None:
    """However its reading ended, what it held is free for others."""
    budget = BodyBudget(8)

    with pytest.raises(error):
        asyncio.run(read(sender, budget, **limits))

    assert budget.held == 0
    assert asyncio.run(read(Sender(b"1234", b"5678"), budget)) == b"12345678"
    assert budget.held == 0


def test_all_that_is_being_read_has_one_budget() -> None:
    """Bodies that are held open leave no room for another one, until they are ended."""

    async def hold_open() -> None:
        budget = BodyBudget(8)
        held = [
            asyncio.create_task(read(Sender(b"1234", end="silence"), budget, seconds=60))
            for _ in range(2)
        ]
        while budget.held < 8:
            await asyncio.sleep(0)
        with pytest.raises(BodiesTooMany):
            await read(Sender(b"1"), budget)
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        assert await read(Sender(b"1"), budget) == b"1"

    asyncio.run(hold_open())
