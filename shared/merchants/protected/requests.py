"""`ProtectedRequests`: accepted once a proven backup has them, and done again after a restore.

A request is a row of `tokens.db` first, and then an event of the inbox, which does its work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Container, Mapping, Sequence
from typing import Protocol

from starlette.concurrency import run_in_threadpool

from shared.clock import Clock, format_utc, parse_utc
from shared.databases.requests import Request, Requests
from shared.errors import DatabaseError
from shared.logs import fields
from shared.merchants.errors import RequestUnproven
from shared.merchants.http_client import one_short_try
from shared.merchants.inbox import Event, Inbox, Provider, WaitingEvent
from shared.process.lasting_work import describe

# Platforms give up after 5 s.
LONGEST_WAIT_SECONDS = 3.0
# How long a start may do what a restore left undone, before anything is served.
MOST_SECONDS_AT_START = 10.0
# More of them would only make a host slower that cannot store them; they get their 503 at once.
MOST_THAT_WAIT = 50
_SECONDS_BETWEEN_LOOKS = 0.1

_log = logging.getLogger(__name__)


class Proof(Protocol):
    """Whoever proves that what was committed is in a backup. Methods raise `AppError`."""

    def ask(self) -> str | None:
        """Ask for a proof of what is committed by now; None where nothing would ever give it."""

    def is_given(self, asked: str) -> bool:
        """Whether it has been given."""

    def withdraw(self, asked: str) -> None:
        """Nobody waits for it any more."""


class Handler(Protocol):
    """What does the work of events: see `Platform.handle`."""

    def handle(self, account: str, events: Sequence[WaitingEvent]) -> None:
        """See `Platform.handle`."""


class ProtectedRequests:
    """The requests. Safe from many threads and processes; raises `DatabaseError`.

    Without a `proof` the commit is enough.
    """

    def __init__(
        self, requests: Requests, inbox: Inbox, clock: Clock, proof: Proof | None = None
    ) -> None:
        self._requests = requests
        self._inbox = inbox
        self._clock = clock
        self._proof = proof
        self._waiting = 0  # on the event loop alone

    async def accept(self, event: Event) -> None:
        """Keep a request, and wait until a backup has it; a repeat of it waits for the same.

        Raises `RequestUnproven` after some seconds, or at once where too many wait: it is kept, and
        will be done.
        """
        await run_in_threadpool(self.keep, event)
        if self._proof is None or (asked := await run_in_threadpool(self._proof.ask)) is None:
            return
        self._waiting += 1
        try:
            patience = LONGEST_WAIT_SECONDS if self._waiting <= MOST_THAT_WAIT else 0.0
            proven = await _is_given(self._proof, asked, patience)
        finally:
            self._waiting -= 1
            await run_in_threadpool(self._proof.withdraw, asked)
        if not proven:
            raise RequestUnproven(
                "the request is kept, and no backup has it yet", "Send it again later."
            )

    def keep(self, event: Event) -> None:
        """Keep a request, in `tokens.db` before the inbox."""
        at = format_utc(event.sent_at or self._clock.now())
        self._requests.add(Request(event.provider, event.event_id, event.account, event.topic, at))
        self._inbox.add([event])

    def take_up(self, providers: Container[Provider]) -> None:
        """Let the requests of these platforms wait in the inbox that wait in `tokens.db`.

        Those are missing there after a loss of that file; or they are done, and a restore has
        brought back what they removed. Those of a platform without settings wait for them.
        """
        if waiting := [one for one in self._requests.waiting() if one.provider in providers]:
            self._inbox.take_up(waiting)

    def finish(self, provider: Provider, event_ids: Sequence[str]) -> None:
        """Note in `tokens.db` that the work of those among these that are requests has ended."""
        self._requests.finish(provider, event_ids, self._clock.now())

    def is_done(self, provider: Provider, topic: str, event_id: str) -> bool | None:
        """Whether the work of a request has ended; None when there is no such request.

        Those from before there was the table are known to the inbox alone.
        """
        done = self._requests.is_done(provider, topic, event_id)
        return self._inbox.is_done(provider, topic, event_id) if done is None else done

    def do(self, platforms: Mapping[Provider, Handler]) -> None:
        """Do what waits, each once, for as long as a start may take; the inbox has the rest.

        What a restore has brought back is removed again before anybody can see it.
        """
        until = time.monotonic() + MOST_SECONDS_AT_START
        try:
            waiting = self._requests.waiting()
        except DatabaseError:  # status names it; the app has to serve what brings it back
            return
        for one in waiting:
            if one.provider not in platforms or time.monotonic() > until:
                continue
            about = fields(provider=one.provider, account=one.account, topic=one.topic)
            try:
                event = Event(*_texts(one), "{}", parse_utc(one.sent_at))
                with one_short_try():
                    platforms[one.provider].handle(one.account, [WaitingEvent(0, 0, event)])
                self.finish(one.provider, [one.request_id])
            except Exception as error:
                _log.warning("a request waits in the inbox: %s", describe(error), extra=about)
            else:
                _log.info("a request was done before the start", extra=about)


async def _is_given(proof: Proof, asked: str, patience: float) -> bool:
    until = time.monotonic() + patience
    while not await run_in_threadpool(proof.is_given, asked):
        if time.monotonic() >= until:
            return False
        await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
    return True


def _texts(one: Request) -> tuple[str, str, str, str]:
    return one.provider, one.request_id, one.account, one.topic
