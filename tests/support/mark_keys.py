"""Keys that make marks, by names: the same name is the same key in each test."""

from __future__ import annotations

import hashlib

from backups.format.mark import MarkKey


def mark_keys(*names: str) -> tuple[MarkKey, ...]:
    """The key of each name, the first to sign."""
    return tuple(
        MarkKey(hashlib.sha256(name.encode()).hexdigest()[:16], name.encode().ljust(32, b"\0"))
        for name in names
    )
