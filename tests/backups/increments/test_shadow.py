"""A shadow: what it finds changed leads to the live database, and nothing else is applied."""

from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from backups.errors import IncrementBroken, SealBroken
from backups.format.increment import SourceChange
from backups.format.page_sum import MODULUS, page_sum
from backups.increments import bodies
from backups.increments.shadow import Delta, Shadow, same_first_page

PAGE = 4096
KEY = "backups/chains/20261122T010000Z-0123456789abcdef/i/0000000001.inc"


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """A database of some pages."""
    path = tmp_path / "live.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
        rows = [(number, os.urandom(300)) for number in range(300)]
        connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
    return path


@pytest.fixture
def shadow(live: Path, tmp_path: Path) -> Iterator[Shadow]:
    """A shadow of it, of this moment."""
    path = tmp_path / "shadow.db"
    path.write_bytes(live.read_bytes())
    with closing(Shadow(path, PAGE)) as shadow:
        yield shadow


def write(live: Path, *statements: str) -> None:
    """Change the live database."""
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def pages(live: Path) -> tuple[dict[int, bytes], int]:
    """All its pages, and how many there are."""
    content = live.read_bytes()
    count = len(content) // PAGE
    return {n + 1: content[n * PAGE : (n + 1) * PAGE] for n in range(count)}, count


def described(delta: Delta, body: bytes) -> SourceChange:
    """What the line of an increment says of a delta whose stored body is `body`."""
    return SourceChange(
        "tokens",
        delta.page_size,
        delta.pages_before,
        delta.pages_after,
        delta.changed,
        delta.before,
        delta.after,
        len(body),
        sha256(body).hexdigest(),
    )


GROW = "INSERT INTO t(b) SELECT randomblob(300) FROM t"
CUT = "DELETE FROM t WHERE a > 20"
CHANGES = {
    "one row": ["UPDATE t SET b = 'x' WHERE a = 7"],
    "many rows": ["UPDATE t SET b = randomblob(300) WHERE a % 3 = 0"],
    "growth": [GROW],
    "cut": [CUT, "VACUUM"],
    "a table more": ["CREATE TABLE u(x)", "INSERT INTO u VALUES (1)"],
}


@pytest.mark.parametrize("statements", CHANGES.values(), ids=CHANGES)
def test_a_delta_leads_to_the_live_database(
    live: Path, shadow: Shadow, statements: list[str]
) -> None:
    """Folded, unfolded and applied, it makes the shadow what is live; the sum moves with it."""
    write(live, *statements)
    delta = shadow.delta(*pages(live))
    body = bodies.fold(delta.raw)
    change = described(delta, body)

    shadow.apply(change, bodies.unfold(body, change, KEY))

    found = shadow.path.read_bytes()
    assert found[100:] == live.read_bytes()[100:]
    assert same_first_page(found[:PAGE], live.read_bytes()[:PAGE])
    assert shadow.sum == delta.after == change.after
    count = len(found) // PAGE
    total = sum(page_sum(n + 1, found[n * PAGE : (n + 1) * PAGE]) for n in range(count))
    assert shadow.sum == f"{total % MODULUS:032x}"
    assert shadow.delta(*pages(live)).is_empty


def test_only_what_changed_is_sent(live: Path, shadow: Shadow) -> None:
    """One changed row is one page, and few bytes."""
    write(live, "UPDATE t SET b = zeroblob(300) WHERE a = 7")
    delta = shadow.delta(*pages(live))
    assert delta.changed in (1, 2)
    assert len(bodies.fold(delta.raw)) < 500


BREAKS: dict[str, Callable[[SourceChange], SourceChange]] = {
    "another state before": lambda one: replace(one, before="0" * 32),
    "another result": lambda one: replace(one, after="0" * 32),
    "another length before": lambda one: replace(one, pages_before=one.pages_before + 1),
    "another page size": lambda one: replace(one, page_size=512),
    "a page less": lambda one: replace(one, changed=one.changed - 1),
    "more pages than it brings": lambda one: replace(one, pages_after=one.pages_after + 1),
    "fewer pages than it changes": lambda one: replace(one, pages_after=1),
}


@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    live: Path, shadow: Shadow, broken: Callable[[SourceChange], SourceChange]
) -> None:
    """Whatever the line says wrong, the shadow stays as it was."""
    write(live, GROW)
    before, delta = shadow.path.read_bytes(), shadow.delta(*pages(live))
    change = broken(described(delta, bodies.fold(delta.raw)))

    with pytest.raises(IncrementBroken):
        shadow.apply(change, delta.raw)

    assert shadow.path.read_bytes() == before
    shadow.apply(described(delta, b""), delta.raw)


def test_a_flipped_bit_in_the_pages_is_refused(live: Path, shadow: Shadow) -> None:
    """The result is not what the line says."""
    write(live, GROW)
    delta = shadow.delta(*pages(live))
    raw = bytearray(delta.raw)
    raw[-1] ^= 1
    with pytest.raises(IncrementBroken, match="the sum is"):
        shadow.apply(described(delta, b""), bytes(raw))


def test_numbers_that_do_not_ascend_are_refused(live: Path, shadow: Shadow) -> None:
    """A page twice would be taken into the sum twice."""
    write(live, CHANGES["many rows"][0])
    delta = shadow.delta(*pages(live))
    assert delta.changed > 1
    raw = delta.raw[4:8] + delta.raw[:4] + delta.raw[8:]
    with pytest.raises(IncrementBroken, match="where it cannot be"):
        shadow.apply(described(delta, b""), raw)


def test_the_first_page_of_a_copy_is_no_change(live: Path, shadow: Shadow, tmp_path: Path) -> None:
    """SQLite sets some bytes of its copy itself: they alone are not followed."""
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(live)) as source, closing(sqlite3.connect(copy)) as target:
        target.execute("PRAGMA journal_mode=OFF")
        source.backup(target)
    assert copy.read_bytes() != live.read_bytes()
    assert shadow.delta(*pages(copy)).is_empty
    write(live, "PRAGMA user_version=9")
    assert shadow.delta(*pages(live)).changed == 1


def test_a_torn_shadow_has_another_sum(live: Path, shadow: Shadow) -> None:
    """A file that was left between two states tells so when it is opened."""
    right = shadow.sum
    with shadow.path.open("r+b") as file:
        file.seek(PAGE + 1)
        file.write(b"torn")
    with closing(Shadow(shadow.path, PAGE)) as torn:
        assert torn.sum != right


class TestBodies:
    """What is stored of a body, and what is made of another's."""

    RAW = bytes(4) + bytes(PAGE)
    CHANGE = SourceChange("tokens", PAGE, 1, 1, 1, "0" * 32, "0" * 32, 0, "")

    def change(self, body: bytes, **other: int) -> SourceChange:
        """The line's part for a body."""
        found = replace(self.CHANGE, bytes=len(body), sha256=sha256(body).hexdigest())
        return replace(found, **other)  # type: ignore[arg-type]

    def test_another_body_than_described_is_refused(self) -> None:
        """Its SHA-256 is compared before it is looked at."""
        body = bodies.fold(self.RAW)
        with pytest.raises(IncrementBroken, match="not what its line describes"):
            bodies.unfold(body + b"x", self.change(body), KEY)

    @pytest.mark.parametrize("count", [0, 2])
    def test_another_size_inside_is_refused(self, count: int) -> None:
        """More than was said is not unfolded; less is not enough."""
        body = bodies.fold(self.RAW)
        with pytest.raises((IncrementBroken, SealBroken)):
            bodies.unfold(body, self.change(body, changed=count), KEY)

    @pytest.mark.parametrize("body", [b"", b"no zstd", bodies.fold(RAW)[:-3]])
    def test_what_is_no_body_is_refused(self, body: bytes) -> None:
        """Nothing, another text, one that was cut."""
        with pytest.raises((IncrementBroken, SealBroken)):
            bodies.unfold(body, self.change(body), KEY)

    def test_a_sealed_body_opens_with_its_identity(self, tmp_path: Path) -> None:
        """It is an age file of the compressed body, and tells nothing of it."""
        import pyrage  # noqa: PLC0415

        identity = pyrage.x25519.Identity.generate()
        file = tmp_path / "identity.txt"
        file.write_text(str(identity))
        body = bodies.fold(self.RAW, [str(identity.to_public())])
        assert body.startswith(b"age-encryption.org/v1")
        assert bodies.unfold(body, self.change(body), f"{KEY}.age", file) == self.RAW


def test_growth_without_room_changes_nothing(live: Path, shadow: Shadow) -> None:
    """Where the pages behind the end cannot be written, those before it are as they were."""
    before = shadow.path.read_bytes()
    write(live, "UPDATE t SET b = randomblob(300)", GROW)
    delta = shadow.delta(*pages(live))
    change = described(delta, b"")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 2 * PAGE + 100, limit[1]))
    try:
        with pytest.raises(OSError, match=r"large|space"):
            shadow.apply(change, delta.raw)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert shadow.path.read_bytes() == before
    shadow.apply(change, delta.raw)
    assert shadow.sum == delta.after
