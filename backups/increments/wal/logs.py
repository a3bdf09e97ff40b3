"""The `-wal`s that are read: one follower for each source that is followed so."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from backups.increments.wal.file import ContinuityLost, TailTooLarge, WalChange
from backups.increments.wal.follower import WalFollower
from backups.model import Source
from backups.sources.pins import Pin
from shared.errors import DatabaseError

_log = logging.getLogger("backups.follow")

# Above it a comparison costs more than reading the -wal.
LARGE_BYTES = 32 * 1024 * 1024

Follow = Literal["auto", "compare", "wal"]


class Logs:
    """Reads the -wal of each source, of the large ones alone (`auto`), or of none (`compare`)."""

    def __init__(self, follow: Follow, busy_timeout: float) -> None:
        self._follow = follow
        self._busy_timeout = busy_timeout
        self._followers: dict[str, WalFollower] = {}
        # Of this thread, for reading logs. It grows with what is written, and not with how often
        # that is read.
        self.cpu_seconds = 0.0

    @property
    def names(self) -> Collection[str]:
        """The sources whose -wal is read."""
        return self._followers.keys()

    def prepare(self, pins: Sequence[Pin]) -> None:
        """Read most of what was written, while writers go on."""
        with self._counted():
            self._prepare(pins)

    def _prepare(self, pins: Sequence[Pin]) -> None:
        for pin in pins:
            name = pin.source.name
            if not (pin.gated and self._is_read(pin.source)):
                self._drop(name)
                continue
            follower = self._followers.setdefault(name, WalFollower(pin.source, self._busy_timeout))
            try:
                follower.prepare()
            except (ContinuityLost, DatabaseError) as error:
                _log.debug("the -wal of %s cannot be read: %s", name, error)
                self._drop(name)

    def in_gates(self, names: Iterable[str]) -> Mapping[str, DatabaseError]:
        """Read the rest of these while nobody writes; the errors of those that cannot be read."""
        failures = {}
        for name in names:
            if name in self._followers:
                try:
                    self._followers[name].in_gates()
                except DatabaseError as error:
                    failures[name] = error
        return failures

    def read(self, names: Iterable[str]) -> Mapping[str, WalChange | None]:
        """What each -wal shows since the capture before; None where that is to be compared."""
        found: dict[str, WalChange | None] = {}
        for name in names:
            if name in self._followers:
                try:
                    with self._counted():
                        found[name] = self._followers[name].finish()
                except (ContinuityLost, TailTooLarge) as lost:
                    _log.debug("%s is compared: %s", name, lost)
                    found[name] = None
        return found

    def yield_to_others(self) -> None:
        """Let go of what somebody may be waiting for."""
        for follower in self._followers.values():
            follower.yield_to_others()

    def let_go(self) -> None:
        """Hold no read until the next capture."""
        for follower in self._followers.values():
            follower.let_go()

    def forget(self, names: Iterable[str]) -> None:
        """What was read of these came to nothing: they are to be compared."""
        for name in names:
            if name in self._followers:
                self._followers[name].forget()

    def close(self) -> None:
        """Close all."""
        for name in list(self._followers):
            self._drop(name)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        began = time.thread_time()
        try:
            yield
        finally:
            self.cpu_seconds += time.thread_time() - began

    def _drop(self, name: str) -> None:
        if (follower := self._followers.pop(name, None)) is not None:
            follower.close()

    def _is_read(self, source: Source) -> bool:
        if self._follow == "auto":
            return source.path.stat().st_size > LARGE_BYTES
        return self._follow == "wal"
