"""The right to read live databases while following: the follower has it, and lets go when asked.

A restore asks by a row in this host's records, and holds `follow.lock` over its commit. The row
counts for some seconds of this start of this host, so that one who died asks for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from backups.errors import FollowerBusy
from backups.host.directory import BackupDirectory
from backups.host.lease import HeldRight, Right
from backups.host.machine import boot_id
from backups.host.state import HostState
from backups.model import BackupSet

PATIENCE_SECONDS = 5.0
_ASKS_FOR_SECONDS = 30.0


class FollowLease:
    """The follower's side: `take` before live databases are read, `let_go` afterwards.

    `keep` says whether reads are held between the steps; then `let_go` and `rest` do nothing until
    somebody asks.
    """

    def __init__(
        self, lease: Right, facts: HostState, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._lease = lease
        self._facts = facts
        self._monotonic = monotonic
        self._held: HeldRight | None = None

    def is_asked(self) -> bool:
        """Whether somebody who changes live databases asks for it now."""
        boot, _, at = (self._facts.follow_request() or "").partition(" ")
        try:
            return boot == (boot_id() or "-") and 0 <= self._monotonic() - float(at) < (
                _ASKS_FOR_SECONDS
            )
        except ValueError:
            return False

    def take(self) -> bool:
        """Whether live databases may be read now."""
        if self.is_asked():
            self.let_go()
            return False
        if self._held is None:
            self._held = self._lease.try_acquire()
        return self._held is not None

    def rest(self) -> None:
        """What follows touches no live database, and may take as long as the store does."""
        self.let_go()

    def let_go(self) -> None:
        """Let a restore in; twice is allowed."""
        if self._held is not None:
            self._held.release()
        self._held = None


class LetGo:
    """The side of those who change live databases."""

    def __init__(
        self,
        directory: BackupDirectory,
        facts: HostState,
        monotonic: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._lease = directory.follow_lease
        self._facts = facts
        self._monotonic = monotonic
        self._patience = patience

    @contextmanager
    def held(self, restored: BackupSet | None) -> Iterator[None]:
        """Hold the live databases back from the follower for the length of a block.

        The chain ends then: `restored` is what the block brings back, None for an undo. That is
        noted before anything is touched. Raises `FollowerBusy`, and nothing was touched.
        """
        self._facts.ask_follower(f"{boot_id() or '-'} {self._monotonic()}")
        try:
            held = self._lease.try_acquire(self._patience)
        finally:
            self._facts.ask_follower(None)
        if held is None:
            raise FollowerBusy(
                "the process that follows changes did not let go of the live databases within "
                f"{self._patience:.0f} s. Nothing was touched",
                "Try again. If it happens twice, see what holds it (./bot backups doctor), "
                "and restart the app.",
            )
        try:
            self._facts.end_chain_by_restore(_text_of(restored))
            yield
        finally:
            held.release()


def _text_of(restored: BackupSet | None) -> str:
    if restored is None:
        return "undo"
    instant = int(restored.created_at.timestamp() * 1000)
    return f"{restored.id} {instant} {restored.sequence or ''}".rstrip()
