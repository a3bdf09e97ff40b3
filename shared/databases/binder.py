"""`TokenBinder`: binds the values of an older `tokens.db` to their rows, while the app runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from shared.databases.binding import BINDING, BOUND
from shared.databases.tokens import BEFORE_ALL, Content, Fits, TokenStorage
from shared.errors import AppError, DatabaseError

LONGEST_WAIT_SECONDS = 60.0
SECONDS_AFTER_A_FAILED_BACKUP = 900.0
SECONDS_WHILE_KEYS_ARE_MISSING = 3600.0
# In which others write.
_PAUSE_SECONDS = 0.02
_MOST_NAMES = 5

_log = logging.getLogger(__name__)


class TokenBinder:
    """Call `work` once a second, from one process of an installation.

    `protect` makes a full backup and proves it; it returns whether that succeeded, and raises
    `AppError` when it cannot begin. Until it has, nothing is changed. After that the values are
    bound, a hundred a transaction, and a process that is killed is followed by the next one. A
    file with values that no key opens stays in both forms: their key may come back. `fits` says
    whether a value can be that of a row with this key; one that cannot stays unbound, and nobody
    can read it from then on.
    """

    def __init__(
        self,
        tokens: TokenStorage,
        fits: Fits,
        protect: Callable[[], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = tokens
        self._fits = fits
        self._protect = protect
        self._monotonic = monotonic
        self._stopping = threading.Event()
        self._not_before = monotonic()
        self._failures = 0
        self._told: str | None = None

    def work(self) -> None:
        """Bind what is not bound yet, if it may begin; returns at once where nothing is."""
        if self._stopping.is_set() or self._monotonic() < self._not_before:
            return
        try:
            version, content = self._tokens.state()
        except DatabaseError:
            self._wait(LONGEST_WAIT_SECONDS)  # status names it
            return
        if version >= BOUND:
            return
        try:
            self._bind(version, content)
            self._failures, self._told = 0, None
        except AppError as error:
            self._wait(min(2.0**self._failures, LONGEST_WAIT_SECONDS))
            self._failures = min(self._failures + 1, 10)
            if self._told != error.code:
                self._told = error.code
                _log.warning(
                    "the values of tokens.db are not bound to their rows yet: %s [%s] %s",
                    error.message,
                    error.code,
                    error.hint,
                )

    def stop(self) -> None:
        """End after the transaction in hand; the next process goes on with it."""
        self._stopping.set()

    def _bind(self, version: int, content: Content) -> None:
        begins = version < BINDING
        if begins and not self._protect():
            self._wait(SECONDS_AFTER_A_FAILED_BACKUP)
            return
        after, misshapen, undecryptable = BEFORE_ALL, list[str](), list[str]()
        while not self._stopping.is_set():
            batch = self._tokens.bind_next(
                content, after, self._fits, begins=begins, ends=not undecryptable
            )
            if batch is None:  # a restore has put other rows there: all is looked at again
                return
            misshapen += batch.misshapen
            undecryptable += batch.undecryptable
            if batch.is_last:
                self._report(misshapen, undecryptable)
                return
            after, begins = batch.last_rowid, False
            self._stopping.wait(_PAUSE_SECONDS)

    def _report(self, misshapen: list[str], undecryptable: list[str]) -> None:
        if misshapen:
            _log.error(
                "%d values of tokens.db are not what their rows hold, and cannot be read any more: "
                "%s. Restore a set in which they are right, or connect these accounts again",
                len(misshapen),
                _some(misshapen),
            )
        if not undecryptable:
            _log.info("the values of tokens.db are bound to their rows")
            return
        self._wait(SECONDS_WHILE_KEYS_ARE_MISSING)
        _log.warning(
            "%d values of tokens.db cannot be decrypted, so not all are bound to their rows: %s. "
            "Add the key that encrypted them to TOKEN_ENCRYPTION_KEYS, after the first, and "
            "restart",
            len(undecryptable),
            _some(undecryptable),
        )

    def _wait(self, seconds: float) -> None:
        self._not_before = self._monotonic() + seconds


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
