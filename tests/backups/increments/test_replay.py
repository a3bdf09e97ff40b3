"""Replaying hostile chains: whatever was cut, doubled, swapped, flipped or planted is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from backups.decisions.chains.closure import Steps
from backups.errors import BackupError
from backups.format import chain_keys
from backups.format.increment import MOST_LINE_BYTES
from backups.format.mark import Marks
from shared.errors import AppError
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.chains import StoredChain, all_rows, stored_chain
from tests.support.databases import add_rows, write
from tests.support.marks import MARKS, a_token_key, mark_key_of

Spoil = Callable[[Bench, StoredChain], None]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A service with one set, whose databases are small."""
    with open_bench(tmp_path) as found:
        yield found


@pytest.fixture
def chain(bench: Bench) -> Iterator[StoredChain]:
    """A chain of four points."""
    with stored_chain(bench, bench.made()) as found:
        for _ in range(4):
            add_rows(bench.tokens, 5)
            found.step()
        yield found


def respoil(bench: Bench, key: str, stored: bytes) -> None:
    """Put other bytes under a key, of the same object by its metadata."""
    bench.replace_object(key, stored)


def cut(bench: Bench, chain: StoredChain) -> None:
    """The last byte of an increment is gone."""
    respoil(bench, chain.key(2), bench.bytes_of(chain.key(2))[:-1])


def longer(bench: Bench, chain: StoredChain) -> None:
    """There is one byte more."""
    respoil(bench, chain.key(2), bench.bytes_of(chain.key(2)) + b"x")


def flipped(bench: Bench, chain: StoredChain) -> None:
    """One bit of a body is another one; the size is the same."""
    stored = bytearray(bench.bytes_of(chain.key(2)))
    stored[-3] ^= 1
    respoil(bench, chain.key(2), bytes(stored))


def swapped(bench: Bench, chain: StoredChain) -> None:
    """Two increments lie under each other's key."""
    one, other = bench.bytes_of(chain.key(2)), bench.bytes_of(chain.key(3))
    respoil(bench, chain.key(2), other)
    respoil(bench, chain.key(3), one)


def doubled(bench: Bench, chain: StoredChain) -> None:
    """An increment is there twice, the second time in place of the next one."""
    respoil(bench, chain.key(3), bench.bytes_of(chain.key(2)))


def without_mark(bench: Bench, chain: StoredChain) -> None:
    """Somebody without a key has written it."""
    _resigned(bench, chain, lambda line: line, marks=None)


def of_another_key(bench: Bench, chain: StoredChain) -> None:
    """Somebody with another key has."""
    other = Marks([mark_key_of(a_token_key("of somebody else"))], PREFIX)
    _resigned(bench, chain, lambda line: line, marks=other)


def of_another_chain(bench: Bench, chain: StoredChain) -> None:
    """The increment of another chain of ours, with its own mark, lies under this key."""
    other = chain_keys.chain_id("20251122T010000Z", chain.full.instance)
    key = chain_keys.increment_key(PREFIX, other, 2, sealed=False)
    stored = bench.bytes_of(chain.key(2))
    line = json.loads(stored.partition(b"\n")[0])
    line["chain"] = other
    signed = MARKS.sign_line(key, json.dumps(line).encode())
    respoil(bench, chain.key(2), signed + b"\n" + stored.partition(b"\n")[2])


def another_before(bench: Bench, chain: StoredChain) -> None:
    """With our own mark it names another object before it."""
    _resigned(bench, chain, lambda line: {**line, "prev": "0" * 64})


def another_result(bench: Bench, chain: StoredChain) -> None:
    """With our own mark it names another sum after it."""

    def change(line: dict[str, object]) -> dict[str, object]:
        sources = line["sources"]
        assert isinstance(sources, list)
        return {**line, "sources": [{**one, "after": "f" * 32} for one in sources]}

    _resigned(bench, chain, change)


def huge_numbers(bench: Bench, chain: StoredChain) -> None:
    """With our own mark it speaks of more pages than any file has."""

    def change(line: dict[str, object]) -> dict[str, object]:
        sources = line["sources"]
        assert isinstance(sources, list)
        return {**line, "sources": [{**one, "pages_after": 2**53} for one in sources]}

    _resigned(bench, chain, change)


def a_bomb(bench: Bench, chain: StoredChain) -> None:
    """With our own mark its body unfolds into a gigabyte."""
    body = zstandard.ZstdCompressor(level=1).compress(bytes(256 * 1024 * 1024))

    def change(line: dict[str, object]) -> dict[str, object]:
        sources = line["sources"]
        assert isinstance(sources, list)
        sha256 = hashlib.sha256(body).hexdigest()
        return {**line, "sources": [{**sources[0], "bytes": len(body), "sha256": sha256}]}

    _resigned(bench, chain, change, body=body)


def no_line(bench: Bench, chain: StoredChain) -> None:
    """It has no end of a line where one must be."""
    respoil(bench, chain.key(2), b"x" * (MOST_LINE_BYTES + 10))


def _resigned(
    bench: Bench,
    chain: StoredChain,
    change: Callable[[dict[str, object]], dict[str, object]],
    *,
    marks: Marks | None = MARKS,
    body: bytes | None = None,
    number: int = 2,
) -> None:
    line, _, rest = bench.bytes_of(chain.key(number)).partition(b"\n")
    found = json.loads(line)
    found.pop("mac")
    changed = json.dumps(change(found)).encode()
    signed = marks.sign_line(chain.key(number), changed) if marks else changed
    respoil(bench, chain.key(number), signed + b"\n" + (rest if body is None else body))


SPOILS: tuple[Spoil, ...] = (
    cut,
    longer,
    flipped,
    swapped,
    doubled,
    without_mark,
    of_another_key,
    of_another_chain,
    another_before,
    another_result,
    huge_numbers,
    a_bomb,
    no_line,
)


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("known", [False, True], ids=["a new host", "a host that knew it"])
def test_a_spoilt_increment_ends_the_chain_before_it(
    bench: Bench, chain: StoredChain, tmp_path: Path, spoil: Spoil, *, known: bool
) -> None:
    """No point at or after it is restored; the error names the newest good one, which is."""
    if known:
        bench.service.catalogue.refresh()
    spoil(bench, chain)
    bench.service.catalogue.refresh()
    good = 2 if spoil is doubled else 1
    for number in (good + 1, 4):
        to = tmp_path / f"to-{number}"
        hint = _refused(bench, chain.point(number), to)
        assert f"restore {chain.point(good)}" in hint
        assert not list(to.glob("*.db"))
    bench.restored(chain.point(good), to=tmp_path / "good")
    assert all_rows(tmp_path / "good" / "tokens.db") == chain.rows(good)["tokens"]


def _refused(bench: Bench, point: str, to: Path) -> str:
    """The hint of the refusal, in the plan or in the run."""
    try:
        run = bench.restore(point, to=to)
    except AppError as error:
        return error.hint
    assert run.error is not None, f"{point} was restored"
    return run.error.hint


def test_a_spoilt_head_takes_the_whole_chain(bench: Bench, chain: StoredChain) -> None:
    """Without a head that is marked there are no points; the set is still there."""
    head = json.loads(bench.bytes_of(chain.head_key))
    head.pop("mac")
    respoil(bench, chain.head_key, json.dumps(head).encode())
    bench.service.catalogue.refresh()
    assert bench.service.list_ranges() == []
    assert bench.service.own_sets.required_latest().id == chain.full.id
    with pytest.raises(BackupError):
        bench.service.restore.plan(chain.point(1))
    assert any("head.json" in one.message for one in bench.service.catalogue.chains.warnings())


def test_a_planted_end_ends_nothing(bench: Bench, chain: StoredChain) -> None:
    """An end without our mark sets no point aside."""
    end = {
        "format": 1,
        "chain": chain.id,
        "at": "2026-11-22T01:00:00Z",
        "reason": "restore",
        "last": 1,
        "kind": "end",
    }
    chain.put(chain_keys.end_key(PREFIX, chain.id), json.dumps(end).encode())
    bench.service.catalogue.refresh()
    assert bench.service.own_sets.required_latest().id == chain.point(4)
    assert any("end.json" in one.message for one in bench.service.catalogue.chains.warnings())


def test_planted_objects_are_named_and_hide_nothing(bench: Bench, chain: StoredChain) -> None:
    """An increment, a pack and a differential without our mark change no restore point."""
    chain.put(chain_keys.increment_key(PREFIX, chain.id, 5, sealed=False), b"planted\n")
    chain.put(chain_keys.pack_key(PREFIX, chain.id, 1, 4), b"planted\n")
    chain.put(chain_keys.pack_key(PREFIX, chain.id, 1, 9_999_999_999), b"planted\n")
    chain.put(chain_keys.differential_key(PREFIX, chain.id, 3, sealed=False), b"planted\n")
    chain.put(chain_keys.increment_key(PREFIX, chain.id, 3, sealed=True), b"planted\n")
    bench.service.catalogue.refresh()
    assert bench.service.own_sets.required_latest().id == chain.point(4)
    run = bench.restore(chain.point(4), to=bench.folder / "to")
    assert run.status == "succeeded", run.error
    assert all_rows(bench.folder / "to" / "tokens.db") == chain.rows(4)["tokens"]


def test_a_drill_of_an_empty_host_takes_the_newest_point(bench: Bench, chain: StoredChain) -> None:
    """It rehearses what a restore there would take, and what restore-on-empty takes."""
    with open_bench(bench.folder / "new host", bench.store, clock=bench.service.clock) as new:
        run = new.service.drill.begin().execute()
        assert run.status == "succeeded", run.error
        assert run.set_id == chain.point(4)


def test_a_number_that_is_left_out_is_refused(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing but its number tells: it names the object before, and changes another
    source than the one that is left out."""
    way = Steps.to
    with stored_chain(bench, bench.made()) as chain:
        for path in (bench.tokens, bench.tokens, bench.sessions):
            write(
                path, f"DELETE FROM {path.stem} WHERE rowid = (SELECT max(rowid) FROM {path.stem})"
            )
            chain.step()
        first = chain.prevs[0]
        _resigned(bench, chain, lambda line: {**line, "prev": first}, number=3)
        bench.service.catalogue.refresh()
        monkeypatch.setattr(
            Steps,
            "to",
            lambda steps, number: tuple(one for one in way(steps, number) or () if one.last != 2),
        )
        assert f"restore {chain.point(1)}" in _refused(bench, chain.point(3), tmp_path / "to")


@pytest.mark.parametrize(("member", "value"), [("sequence", 1), ("instant", 1)])
def test_an_older_one_is_refused(
    bench: Bench, chain: StoredChain, tmp_path: Path, member: str, value: int
) -> None:
    """An increment that says it was made before the one that it follows ends the chain."""
    _resigned(bench, chain, lambda line: {**line, member: value}, number=4)
    bench.service.catalogue.refresh()
    assert f"restore {chain.point(3)}" in _refused(bench, chain.point(4), tmp_path / "to")
