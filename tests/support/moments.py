"""`Moments`: something happens at one of the moments of an operation: a death, a commit, a fault.

A moment is a call of the store (before and after it), a report of progress, a transaction of our
own records (before and after it), or a step on the file system. A process that dies is a
`BaseException` there, and from then on no step is done: what a `finally` would still do is not.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import ENOSPC
from functools import wraps
from typing import Any, NoReturn

import pytest

from shared.databases.sqlite import Database

_FILE_STEPS = ("rename", "replace", "link", "unlink", "mkdir", "rmdir", "open", "truncate")


class Killed(BaseException):
    """The end of the process that did it."""


class Moments:
    """Counts the moments of an operation, from `arm` on; at one of them it acts."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self._at: int | None = None
        self._act: Callable[[], object] = lambda: None
        self._is_dead = False
        self._counts = False

    def arm(self, at: int | None, act: Callable[[], object]) -> None:
        """Count from 0, and call `act` at moment number `at`, if there is one."""
        self.passed, self._at, self._act = [], at, act
        self._counts = True

    def disarm(self) -> None:
        """Count no more; whoever died is another process from now on."""
        self._counts = self._is_dead = False

    def kill(self) -> NoReturn:
        """For `arm`: the process dies."""
        self._is_dead = True
        raise Killed

    def fill_disk(self) -> None:
        """For `arm`: a step on the file system fails once; other moments have no disk."""
        if self.passed[-1] in _FILE_STEPS:
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        self._at = len(self.passed)

    def go_through(self, name: str) -> None:
        """Be at a moment."""
        if not self._counts or threading.current_thread() is not threading.main_thread():
            return  # those that send messages come when they come
        if self._is_dead:
            raise Killed
        self.passed.append(name)
        if len(self.passed) - 1 == self._at:
            self._counts = False  # what happens there has no moments
            try:
                self._act()
            finally:
                self._counts = True

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Be at a moment at each step on the file system, and at each transaction."""
        for name in _FILE_STEPS:
            patch.setattr(os, name, self._watched(name, getattr(os, name)))
        patch.setattr(sqlite3, "connect", self._watched("connect", sqlite3.connect))
        transaction = Database.transaction
        moments = self

        @contextmanager
        def watched(database: Database) -> Iterator[sqlite3.Connection]:
            moments.go_through("records")
            with transaction(database) as connection:
                yield connection
            moments.go_through("records done")

        patch.setattr(Database, "transaction", watched)

    def _watched(self, name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(step)
        def watched(*arguments: Any, **options: Any) -> Any:
            self.go_through(name)
            return step(*arguments, **options)

        return watched
