"""Sending webhooks to the bot, as the platforms do: once, again and again, or many at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx2

TIMEOUT_SECONDS = 20.0
_TEXT_KEPT = 4000


@dataclass(frozen=True)
class Outgoing:
    """One request to the bot, signed or not, byte for byte."""

    method: str
    url: str
    headers: Sequence[tuple[str, bytes]]
    body: bytes


@dataclass(frozen=True)
class Delivery:
    """What came of one request; a status of 0 means no answer, and `text` says why."""

    status: int
    seconds: float
    content_type: str
    text: str

    @property
    def accepted(self) -> bool:
        """Whether the platform will not send it again."""
        return 200 <= self.status < 300


def new_client() -> httpx2.AsyncClient:
    """A client that takes no proxy from the environment, follows nothing and has no pool limit."""
    return httpx2.AsyncClient(
        timeout=TIMEOUT_SECONDS,
        verify=False,  # http on this machine; a TLS context for each client would cost more
        trust_env=False,
        follow_redirects=False,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=50),
    )


async def send(client: httpx2.AsyncClient, outgoing: Outgoing) -> Delivery:
    """Send one request and say what came of it."""
    began = time.monotonic()
    try:
        answer = await client.request(
            outgoing.method,
            outgoing.url,
            headers=[(name.encode(), value) for name, value in outgoing.headers],
            content=outgoing.body,
        )
    except httpx2.HTTPError as error:
        text = f"{type(error).__name__}: {error}"
        return Delivery(0, time.monotonic() - began, "", text)
    return Delivery(
        status=answer.status_code,
        seconds=time.monotonic() - began,
        content_type=answer.headers.get("content-type", ""),
        text=answer.text[:_TEXT_KEPT],
    )


async def send_in_turn(
    client: httpx2.AsyncClient, outgoing: Sequence[Outgoing], retries: int, pause: float
) -> list[Delivery]:
    """Send them one after the other, each again after `pause` while it is not accepted."""
    deliveries = []
    for one in outgoing:
        for attempt in range(retries + 1):
            if attempt:
                await asyncio.sleep(pause)
            deliveries.append(await send(client, one))
            if deliveries[-1].accepted:
                break
    return deliveries


async def send_at_a_rate(
    client: httpx2.AsyncClient, outgoing: Sequence[Outgoing], seconds: float
) -> list[Delivery]:
    """Send them evenly over `seconds`, without waiting for an answer before the next."""
    began = asyncio.get_running_loop().time()

    async def one(number: int) -> Delivery:
        due = began + seconds * number / len(outgoing)
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        return await send(client, outgoing[number])

    return list(await asyncio.gather(*(one(number) for number in range(len(outgoing)))))
