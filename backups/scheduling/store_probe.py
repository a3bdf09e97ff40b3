"""Noticing that a store which failed a run answers again, by one small request a minute."""

from __future__ import annotations

from collections.abc import Callable

from shared.errors import ObjectMissing, StoreError
from shared.process.lasting_work import patience

EVERY_SECONDS = 60.0
# Longer than a store that hangs keeps a request, with the retries of its client.
_LONGEST_REQUEST_SECONDS = 600.0


class StoreProbe:
    """Asks while a run waits for the store; a run that fails all the same is begun once for it.

    `ask` sends the request, and raises `StoreError` while the store does not answer.
    """

    def __init__(self, ask: Callable[[], object], monotonic: Callable[[], float]) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._not_before = 0.0
        # Whether an answer is news: not after a run that failed although there was one.
        self._news = True

    def failed(self) -> None:
        """A run has failed now: the next request comes in a minute."""
        self._not_before = self._monotonic() + EVERY_SECONDS

    def succeeded(self) -> None:
        """A run has succeeded: the next failure is a new one."""
        self._news = True

    def answers_again(self) -> bool:
        """Whether the store has begun to answer; asks it at most once a minute."""
        if self._monotonic() < self._not_before:
            return False
        self._not_before = self._monotonic() + EVERY_SECONDS
        try:
            with patience(_LONGEST_REQUEST_SECONDS):
                self._ask()
        except ObjectMissing:
            pass  # that is an answer
        except StoreError:
            self._news = True
            return False
        news, self._news = self._news, False
        return news
