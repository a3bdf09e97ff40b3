"""A shadow: a local file that equals the last proven point of one source, and what moves it on.

It is a plain database file that no SQLite opens while it is one. A process that dies while it
writes leaves it between two states: its sum, computed anew when it is opened, tells.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path

from backups.errors import IncrementBroken
from backups.format.increment import SourceChange
from backups.format.page_sum import MODULUS, page_sum, text_of
from shared.words import counted

_HINT = "Choose another restore point: ./bot backups list"
_PAGES_AT_A_TIME = 256

# What `Connection.backup` itself sets in the first page of its copy: the versions of the format,
# change counter, schema cookie, version-valid-for, SQLite's own version.
# https://www.sqlite.org/fileformat2.html#the_database_header
_KEPT_BY_A_COPY = (slice(0, 18), slice(20, 24), slice(28, 40), slice(44, 92))


@dataclass(frozen=True)
class Delta:
    """What leads from one state of a database to the next: `raw` is a body before it is
    compressed, of `changed` pages."""

    page_size: int
    pages_before: int
    pages_after: int
    changed: int
    before: str
    after: str
    raw: bytes

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return not self.changed and self.pages_before == self.pages_after


class Shadow:
    """The file at `path`, of whole pages; close it at the end. Raises `OSError`.

    `pages` is its length in pages, and `sum` that of `backups/format/page_sum.py`.
    """

    def __init__(self, path: Path, page_size: int) -> None:
        self.path = path
        self.page_size = page_size
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self.pages = os.fstat(self._file).st_size // page_size
            self._sum = sum(page_sum(number, page) for number, page in self.all_pages()) % MODULUS
        except BaseException:
            os.close(self._file)
            raise
        self._known: dict[int, int] = {}  # sums of pages as they are, from `delta` to `apply`

    @property
    def sum(self) -> str:
        """The sum of its pages, as documents have it."""
        return text_of(self._sum)

    def close(self) -> None:
        """Close the file; twice is allowed."""
        if self._file >= 0:
            with suppress(OSError):
                os.close(self._file)
        self._file = -1

    def page(self, number: int) -> bytes:
        """One page; empty behind the end."""
        if number > self.pages:
            return b""
        return os.pread(self._file, self.page_size, (number - 1) * self.page_size)

    def chunk(self, offset: int, size: int) -> bytes:
        """Bytes from `offset`, as many as there are up to `size`."""
        return os.pread(self._file, size, offset)

    def all_pages(self) -> Iterator[tuple[int, memoryview]]:
        """Number and content of each page, from 1."""
        size, number = self.page_size, 0
        while number < self.pages:
            chunk = memoryview(self.chunk(number * size, _PAGES_AT_A_TIME * size))
            for start in range(0, len(chunk) - size + 1, size):
                number += 1
                yield number, chunk[start : start + size]
            if len(chunk) < size:
                raise OSError(f"{self.path} became shorter while it was read")

    def delta(self, pages: Mapping[int, bytes], pages_after: int) -> Delta:
        """What leads from here to a state of `pages_after` pages, of which `pages` are new.

        Those that are as they were are left out.
        """
        total, numbers, changes = self._sum, [], []
        self._known = {}
        for number in sorted(pages):
            if number > pages_after:
                continue
            old, new = self.page(number), pages[number]
            if old == new or (number == 1 and old and same_first_page(old, new)):
                continue
            if old:
                self._known[number] = page_sum(number, old)
                total -= self._known[number]
            total += page_sum(number, new)
            numbers.append(number)
            changes.append(_xor(old or bytes(self.page_size), new))
        total -= self._sum_of_cut(pages_after)
        return Delta(
            page_size=self.page_size,
            pages_before=self.pages,
            pages_after=pages_after,
            changed=len(numbers),
            before=self.sum,
            after=text_of(total),
            raw=struct.pack(f">{len(numbers)}I", *numbers) + b"".join(changes),
        )

    def apply(self, change: SourceChange, raw: bytes) -> None:
        """Become the state after `change`, whose body is `raw`; raises `IncrementBroken` when it
        does not fit here, or its result is not what it says. Then nothing has been written; nor
        where the disk has no room for the pages that it grows by (`OSError`)."""
        if (change.before, change.pages_before, change.page_size) != (
            self.sum,
            self.pages,
            self.page_size,
        ):
            raise IncrementBroken(
                f"it changes another state of {change.source} than the one before it", _HINT
            )
        written, total = [], self._sum
        for number, difference in pages_of(change, raw):
            old = self.page(number)
            new = _xor(old or bytes(self.page_size), difference)
            if old:
                known = self._known.get(number)
                total -= page_sum(number, old) if known is None else known
            total += page_sum(number, new)
            written.append((number, new))
        grown = sum(number > self.pages for number, _ in written)
        if change.pages_after - self.pages > grown:
            raise IncrementBroken(f"it lacks pages that {change.source} has grown by", _HINT)
        total -= self._sum_of_cut(change.pages_after)
        if text_of(total) != change.after:
            raise IncrementBroken(
                f"its pages do not make {change.source} what it says: the sum is {text_of(total)}, "
                f"not {change.after}",
                _HINT,
            )
        self._grow([one for one in written if one[0] > self.pages])
        for number, new in written:
            if number <= self.pages:
                self._write(number, new)
        if change.pages_after < self.pages:
            os.ftruncate(self._file, change.pages_after * self.page_size)
        self.pages, self._sum, self._known = change.pages_after, total % MODULUS, {}

    def sync(self) -> None:
        """Bring what was written to the disk."""
        os.fsync(self._file)

    def _grow(self, written: Sequence[tuple[int, bytes]]) -> None:
        """Write the pages behind the end, or none of them."""
        try:
            for number, new in written:
                self._write(number, new)
        except OSError:
            os.ftruncate(self._file, self.pages * self.page_size)
            raise

    def _write(self, number: int, page: bytes) -> None:
        """Write all of a page; raises `OSError`."""
        at = (number - 1) * self.page_size
        if os.pwrite(self._file, page, at) < len(page):  # as a disk does that gets full in it
            raise OSError(ENOSPC, os.strerror(ENOSPC), str(self.path))

    def _sum_of_cut(self, pages_after: int) -> int:
        cut = range(pages_after + 1, self.pages + 1)
        return sum(page_sum(number, self.page(number)) for number in cut)


def pages_of(change: SourceChange, raw: bytes) -> Iterator[tuple[int, memoryview]]:
    """The number of each changed page of a body, and its difference (XOR) to the page before.

    Raises `IncrementBroken` for a body that is not what `change` says.
    """
    count, size = change.changed, change.page_size
    if len(raw) != count * (4 + size):
        raise IncrementBroken(
            f"the body of {change.source} has {len(raw):,} bytes, and {counted(count, 'page')} of "
            f"{size:,} take {count * (4 + size):,}",
            _HINT,
        )
    numbers = struct.unpack(f">{count}I", raw[: 4 * count])
    before = 0
    for number in numbers:
        if not before < number <= change.pages_after:
            raise IncrementBroken(
                f"the body of {change.source} names page {number} where it cannot be", _HINT
            )
        before = number
    view = memoryview(raw)[4 * count :]
    for place, number in enumerate(numbers):
        yield number, view[place * size : (place + 1) * size]


def same_first_page(one: bytes, other: bytes) -> bool:
    """Whether two first pages differ at most in what copying a database sets itself."""
    return one[100:] == other[100:] and all(one[cut] == other[cut] for cut in _KEPT_BY_A_COPY)


def _xor(one: bytes | memoryview, other: bytes | memoryview) -> bytes:
    size = len(one)
    mixed = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    return mixed.to_bytes(size, "little")
