"""Hostile increments, read in a process whose memory is bounded: by a new host, and after a crash.

`python -m tests.support.hostile_process FOLDER`: a JSON document by case, see `_read`. Each is the
next increment of a chain of two points, as a crash leaves one between its PUT and its row.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import resource
import struct
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from backups.format.chain_keys import increment_key, point_id
from backups.increments.bodies import fold
from backups.increments.compare import page_size_of
from backups.increments.shadow import Shadow
from shared.errors import AppError
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.chains import all_rows
from tests.support.databases import make_sources
from tests.support.following import begun, following, following_bench, rotate, step

ROOM_BYTES = 150 * 1024 * 1024
LARGE_BYTES = 200 * 1024 * 1024

# A case gets the line of the true next increment and its raw body; what it gives is stored. Bytes
# are stored as they are; a line and its body are marked with our own key.
Line = dict[str, Any]
Case = Callable[[Line, bytes], tuple[Line, bytes] | bytes]


def _with(line: Line, body: bytes, **changes: Any) -> tuple[Line, bytes]:
    """The line with other members of its source, and of the body what is said of it."""
    described = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return {**line, "sources": [{**line["sources"][0], **described, **changes}]}, body


def _bomb() -> bytes:
    import zstandard  # noqa: PLC0415

    packed = zstandard.ZstdCompressor(level=1).compressobj()
    part = bytes(1024 * 1024)
    return b"".join(packed.compress(part) for _ in range(1024)) + packed.flush()


def _beyond(line: Line, raw: bytes) -> tuple[Line, bytes]:
    page = struct.pack(">I", line["sources"][0]["pages_after"] + 7)
    return _with(line, fold(page + raw[4:]))


def _plain(line: Line, body: bytes) -> bytes:
    return json.dumps(line).encode() + b"\n" + body


CASES: dict[str, Case] = {
    "true": lambda line, raw: _with(line, fold(raw)),
    "huge page count": lambda line, raw: _with(line, fold(raw), pages_after=2**32),
    "many pages, none there": lambda line, raw: _with(
        line, fold(raw), changed=2**14, pages_after=2**14
    ),
    "a bomb": lambda line, raw: _with(line, _bomb()),
    "page beyond the end": _beyond,
    "nested header": lambda *_: b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}\n",
    "wrong sum": lambda line, raw: _with(line, fold(raw), after="f" * 32),
    "of another line": lambda line, raw: _with({**line, "prev": "0" * 64}, fold(raw)),
    "unsigned": lambda line, raw: _plain(*_with(line, fold(raw))),
    "unsigned and large": lambda line, raw: _plain(*_with(line, fold(raw))) + bytes(LARGE_BYTES),
}


def main(folder: Path) -> None:
    """Print what is read of each case."""
    found = {name: _read(folder / str(at), CASES[name]) for at, name in enumerate(CASES)}
    print(json.dumps(found))


def _read(folder: Path, case: Case) -> dict[str, Any]:
    """`code`, `message` and `hint` of the restore of the planted point by a new host, or nothing;
    whether the point before it is `good`; then whether the follower `goes_on` and what it `says`.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2)
    with following_bench(folder, sources=make_sources(folder / "data")) as bench:
        with following(bench) as follower:
            chain = begun(bench, follower)
            for value in ("one", "two"):
                rotate(bench, value)
                assert step(bench, follower) == "stored"
        rows = all_rows(bench.tokens)
        _plant(bench, chain, case)
        used = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (used + ROOM_BYTES, resource.RLIM_INFINITY))
        with open_bench(folder / "new host", bench.store, clock=bench.service.clock) as new:
            code, message, hint = _restored(new, point_id(chain, 3), folder / "three")
            good = _restored(new, point_id(chain, 2), folder / "two")[0] == ""
            good = good and all_rows(folder / "two" / "tokens.db") == rows
        said = io.StringIO()
        handler = logging.StreamHandler(said)
        logging.getLogger("backups.follow").addHandler(handler)
        with following(bench) as follower:
            rotate(bench, "three")
            step(bench, follower)
            goes_on = follower.chain == chain
        logging.getLogger("backups.follow").removeHandler(handler)
    return {
        "code": code,
        "message": message,
        "hint": hint,
        "good": good,
        "goes_on": goes_on,
        "says": said.getvalue(),
    }


def _restored(bench: Bench, point: str, to: Path) -> tuple[str, str, str]:
    try:
        run = bench.restore(point, to=to)
    except AppError as error:
        return error.code, error.message, error.hint
    return (run.error.code, run.error.message, run.error.hint) if run.error else ("", "", "")


def _plant(bench: Bench, chain: str, case: Case) -> None:
    """Put the increment that follows, as a case has it."""
    before = bench.bytes_of(increment_key(PREFIX, chain, 2, sealed=False))
    line = json.loads(before.partition(b"\n")[0])
    path = bench.directory.path / "follow" / chain / "tokens.db"
    with closing(Shadow(path, page_size_of(path.read_bytes()[:100]))) as shadow:
        page = shadow.page(shadow.pages)
        delta = shadow.delta({shadow.pages: bytes(reversed(page))}, shadow.pages)
    del line["mac"]
    source = {**line["sources"][0], "changed": delta.changed}
    for name in ("pages_before", "pages_after", "before", "after"):
        source[name] = getattr(delta, name)
    line |= {
        "seq": 3,
        "base_seq": 2,
        "sequence": line["sequence"] + 1,
        "instant": line["instant"] + 1000,
        "prev": hashlib.sha256(before).hexdigest(),
        "sources": [source],
    }
    key = increment_key(PREFIX, chain, 3, sealed=False)
    made = case(line, delta.raw)
    if isinstance(made, tuple):
        signed = bench.service.config.marks.sign_line(key, json.dumps(made[0]).encode())
        made = signed + b"\n" + made[1]
    metadata = {"chain": chain, "instance": line["instance"]}
    bench.store.put(key, io.BytesIO(made), metadata)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
