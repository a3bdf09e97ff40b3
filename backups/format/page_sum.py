"""The sum of a database: 128 bits that move with each page that changes. Pure.

It is the sum, modulo 2^128, of the first 16 bytes of SHA-256(page number as 4 bytes, big-endian |
page) over all pages, numbered from 1. It tells an accident, not malice: the mark does that.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated

from pydantic import Field

MODULUS = 2**128

# As documents have it: 32 hex digits.
Sum = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


def page_sum(number: int, page: bytes | memoryview) -> int:
    """What one page adds to the sum of its database; `number` counts from 1."""
    return int.from_bytes(sha256(number.to_bytes(4, "big") + page).digest()[:16], "big")


def text_of(total: int) -> str:
    """A sum as documents have it."""
    return f"{total % MODULUS:032x}"
