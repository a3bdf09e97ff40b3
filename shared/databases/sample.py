"""Sample databases, for a practice: real schemas and encryption, and made-up rows."""

from __future__ import annotations

import uuid
from contextlib import closing
from pathlib import Path

from shared.clock import SystemClock
from shared.databases.cipher import TokenCipher
from shared.databases.sessions import SessionStorage
from shared.databases.tokens import TokenStorage


def add_sample_tokens(path: Path, key: str, first: int, count: int) -> None:
    """Add rows to the `tokens.db` at `path`, encrypted with `key`; numbered from `first` on.

    The file is made where there is none. Raises `DatabaseError`.
    """
    with closing(TokenStorage(path, TokenCipher((key,)))) as storage:
        for number in range(first, first + count):
            storage.put(f"SAMPLE_TOKEN_{number:03d}", f"the token of sample shop {number}")


def add_sample_sessions(path: Path, count: int) -> None:
    """Add sessions of made-up users to the `sessions.db` at `path`. Raises `DatabaseError`."""
    with closing(SessionStorage(path, SystemClock())) as storage:
        for _ in range(count):
            storage.create(str(uuid.uuid4()))


def count_readable_tokens(path: Path, keys: tuple[str, ...]) -> int:
    """How many rows of the `tokens.db` at `path` these keys decrypt. Raises `DatabaseError`."""
    with closing(TokenStorage(path, TokenCipher(keys))) as storage:
        rows, unreadable, _ = storage.count_readable()
    return rows - unreadable
