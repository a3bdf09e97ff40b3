"""Polling: once a day everything is fetched, so that what a webhook missed is not missed long."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence

from shared.clock import Clock
from shared.crontab import Crontab
from shared.errors import AppError
from shared.logs import fields
from shared.merchants.errors import PermissionMissing, TokenRefused
from shared.merchants.marks import Marks
from shared.merchants.platform import Platform

_log = logging.getLogger(__name__)

_SECONDS_AFTER_A_FAILURE = 15.0


class Polling:
    """Polls all accounts when the schedule says so, or when somebody asked for it."""

    def __init__(
        self, platforms: Iterable[Platform], marks: Marks, schedule: Crontab, clock: Clock
    ) -> None:
        self._platforms: Sequence[Platform] = tuple(platforms)
        self._marks = marks
        self._schedule = schedule
        self._clock = clock
        self._busy = threading.Lock()
        self._not_before = 0.0
        self._stopping = threading.Event()

    def poll_if_owed(self) -> bool:
        """Poll if a due instant has passed since the last polling, or it was asked for.

        Whether it did; it does not while a polling is going on, and not right after one that
        could not even begin (a database that is being restored), which is logged.
        """
        if not self._busy.acquire(blocking=False):
            return False
        try:
            if self._clock.monotonic() < self._not_before or not self._owed():
                return False
            self.poll()
        except AppError as error:
            self._not_before = self._clock.monotonic() + _SECONDS_AFTER_A_FAILURE
            _log.error("polling failed: %s [%s] %s", error.message, error.code, error.hint)
            return False
        except Exception:  # the top of the thread's work
            self._not_before = self._clock.monotonic() + _SECONDS_AFTER_A_FAILURE
            _log.exception("polling failed")
            return False
        finally:
            self._busy.release()
        return True

    def poll(self) -> int:
        """Poll every account; how many failed. One failure does not stop the others."""
        began_at = self._clock.now()
        failed = 0
        accounts = [
            (platform, account) for platform in self._platforms for account in platform.accounts()
        ]
        for platform, account in accounts:
            if self._stopping.is_set():
                return failed  # still owed
            failed += not self._poll_one(platform, account)
        self._marks.note_sync(began_at)
        _log.info("polled", extra=fields(accounts=len(accounts), failed=failed))
        return failed

    def stop(self) -> None:
        """End after the account in hand."""
        self._stopping.set()

    def _owed(self) -> bool:
        last = self._marks.last_sync()
        due = self._schedule.last_until(self._clock.now())
        return last is None or last < due or self._marks.sync_is_wanted()

    def _poll_one(self, platform: Platform, account: str) -> bool:
        about = fields(provider=platform.provider, account=account)
        try:
            platform.poll(account)
        except (TokenRefused, PermissionMissing) as error:
            if self._marks.mark_reconnect(platform.provider, account, error.message):
                _log.warning("reconnect: %s. %s", error.message, error.hint, extra=about)
            return False
        except AppError as error:
            _log.error("%s [%s] %s", error.message, error.code, error.hint, extra=about)
            return False
        except Exception:
            _log.exception("polling failed", extra=about)
            return False
        self._marks.clear_reconnect(platform.provider, account)
        return True
