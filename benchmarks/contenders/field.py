"""Who takes part in a topic: a maker for each contender that can be run on this host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from benchmarks.contenders.contender import ByCommand, Timed
from benchmarks.contenders.floor import RawPut, ReadAndWrite
from benchmarks.contenders.litestream import Litestream
from benchmarks.contenders.ours import AsCommand, InApp, Sealing
from benchmarks.contenders.rclone import Rclone
from benchmarks.contenders.restic import Restic
from benchmarks.contenders.scripts import Scripts
from benchmarks.databases import Pair
from benchmarks.place import Place

Make = Callable[[Place, Pair], Timed]
MakeInApp = Callable[[Place, Pair], InApp]
MakeByCommand = Callable[[Place, Pair], ByCommand]

SEALINGS: tuple[Sealing, ...] = ("plain", "zstd", "zstd+age")
Programs = Mapping[str, str]


def peers(programs: Programs, *, at_once: bool = False) -> Sequence[MakeByCommand]:
    """The programs that are not ours; the scripts also `at_once`, as cron starts them."""
    found: list[MakeByCommand] = []
    if aws := programs.get("aws"):
        found.append(partial(Scripts, aws=aws))
        if at_once:
            found.append(partial(Scripts, aws=aws, at_once=True))
    sqlite3 = programs.get("sqlite3")
    if sqlite3 and (rclone := programs.get("rclone")):
        found.append(partial(Rclone, sqlite3=sqlite3, rclone=rclone))
    if sqlite3 and (restic := programs.get("restic")):
        found.append(partial(Restic, sqlite3=sqlite3, restic=restic))
    if litestream := programs.get("litestream"):
        found.append(partial(Litestream, litestream=litestream))
    return found


def in_app(sealings: Sequence[Sealing] = SEALINGS) -> Sequence[MakeInApp]:
    """Ours in the app that serves, sealed in each way."""
    return [partial(InApp, sealing=sealing) for sealing in sealings]


def as_command(
    sealings: Sequence[Sealing] = SEALINGS, more: Mapping[str, str] | None = None
) -> Sequence[MakeByCommand]:
    """Ours as a command, sealed in each way; `more` are settings."""
    return [partial(AsCommand, sealing=sealing, more=more) for sealing in sealings]


def floors() -> Sequence[Make]:
    """What nobody can be faster than."""
    return [ReadAndWrite, partial(RawPut, zstd=False), partial(RawPut, zstd=True)]
