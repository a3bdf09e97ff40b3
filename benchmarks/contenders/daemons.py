"""What follows databases all the time: ours in the app that serves, and Litestream as a daemon."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

from benchmarks.contenders.litestream import Litestream
from benchmarks.contenders.ours import Installed
from benchmarks.counting_proxy import Put
from benchmarks.databases import Pair
from benchmarks.loss import Stored, row_number
from benchmarks.place import Place
from benchmarks.serving_app import ServingApp
from benchmarks.writer import NEWEST_ROW
from tests.support.bucket_oracle import S3Bucket
from tests.support.chain_oracle import ChainOracle, Point, rows_in

_PATIENCE_SECONDS = 120.0


class Daemon(Protocol):
    """A process that follows a pair of databases into a bucket."""

    name: str

    @property
    def pair(self) -> Pair:
        """What it follows."""

    @property
    def bucket(self) -> str:
        """Where it puts it."""

    @property
    def pid(self) -> int:
        """Its process."""

    def states(self, puts: Sequence[Put]) -> list[Stored]:
        """What the store had of `sessions` after each of these objects; looks into them."""

    def close(self) -> None:
        """Stop it and forget all."""


class FollowingApp:
    """The real app, which follows; with `follows` false it serves, and follows nothing."""

    ON, OFF = "ours in the app", "ours, following off"

    def __init__(self, place: Place, pair: Pair, *, follows: bool = True) -> None:
        self.name = self.ON if follows else self.OFF
        self.follows = follows
        more = {"BACKUP_CHANGE_DELAY": "1" if follows else "0"}
        self.installed = Installed.new(place, pair, "plain", more)
        self.app = ServingApp(self.installed.settings)
        self._place = place
        try:
            self.app.ask("wait_for_first")
            if follows:
                wait_until(lambda: bool(self._keys("/head.json")), "the app follows")
        except BaseException:
            self.close()
            raise

    @property
    def pair(self) -> Pair:
        """See `Daemon`."""
        return self.installed.pair

    @property
    def bucket(self) -> str:
        """See `Daemon`."""
        return self.installed.bucket

    @property
    def pid(self) -> int:
        """See `Daemon`."""
        return self.app.pid

    def states(self, puts: Sequence[Put]) -> list[Stored]:
        """From each increment, by an oracle that replays the chain without this program."""
        at = {put.key: put.at for put in puts}
        found = []
        for point, states in self.oracle().replayed():
            key = _key_of(point)
            if key in at:
                ((newest,),) = rows_in(bytes(states["sessions"]), NEWEST_ROW)
                found.append(Stored(at[key], row_number(newest)))
        return found

    def own_report(self) -> list[tuple[float, float]]:
        """What the follower says in its increments of those before: seconds from the instant of a
        point until it was proven, and from the instant of the one before until then."""
        found, instants, proven = [], {}, {}
        for line in self.oracle().lines():
            instants[line["chain"], line["seq"]] = line["instant"]
            if line.get("proven"):
                proven[line["chain"], line["proven"]["seq"]] = line["proven"]["at"]
        for (chain, number), at in proven.items():
            before = instants.get((chain, number - 1))
            if before is not None and (chain, number) in instants:
                since = at - instants[chain, number], at - before
                found.append((since[0] / 1000, since[1] / 1000))
        return found

    def oracle(self) -> ChainOracle:
        """Reads the bucket as it is now."""
        client = self._place.server.client()
        return ChainOracle(S3Bucket(client, self.bucket), self._place.key)

    def _keys(self, end: str) -> list[str]:
        return [key for key in self._place.objects(self.bucket) if key.endswith(end)]

    def close(self) -> None:
        """End the app."""
        self.app.close()
        self.installed.close()


class LitestreamDaemon(Litestream):
    """`litestream replicate`, which runs all the time."""

    name = "Litestream, a daemon"

    def __init__(self, place: Place, pair: Pair, litestream: str) -> None:
        super().__init__(place, pair, litestream)
        self.prepare()
        command = self.shell(f"exec {litestream} replicate -config litestream.yml")
        self._process = subprocess.Popen(
            command.arguments,
            cwd=command.folder,
            env=dict(command.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(self._has_both, "Litestream replicates")
        except BaseException:
            self.close()
            raise

    def _has_both(self) -> bool:
        names = {key.partition("/")[0] for key in self.place.objects(self.bucket)}
        return names >= {path.stem for path in self.pair.paths}

    @property
    def pid(self) -> int:
        """See `Daemon`."""
        return self._process.pid

    def states(self, puts: Sequence[Put]) -> list[Stored]:
        """From each file of `sessions`, by restoring up to it."""
        return list(self._states(puts))

    def _states(self, puts: Sequence[Put]) -> Iterator[Stored]:
        for put in puts:
            if put.key.startswith("sessions/0000/"):
                transaction = put.key.rpartition("-")[2].removesuffix(".ltx")
                copy = self.folder / f"{transaction}.db"
                self.shell(
                    f"{self._litestream} restore -config litestream.yml -txid {transaction}"
                    f" -o {copy} {self.pair.sessions}"
                ).run()
                yield Stored(put.at, _newest_row(copy))
                copy.unlink()

    def close(self) -> None:
        """Stop the daemon, and forget all."""
        self._process.terminate()
        self._process.wait()
        super().close()


def _newest_row(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return row_number(connection.execute(NEWEST_ROW).fetchone()[0])


def _key_of(point: Point) -> str:
    return f"backups/chains/{point.chain}/i/{point.number:010}.inc"


def wait_until(looks: Callable[[], bool], what: str) -> None:
    """Return when `looks()` is true; raises `TimeoutError` that names `what` after two minutes."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not looks():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{_PATIENCE_SECONDS:.0f} s passed without: {what}")
        time.sleep(0.05)
