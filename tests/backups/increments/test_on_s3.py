"""The chain engine over a real S3 server: a step, a crash after a PUT, packing, a restore at T."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from backups.format.chain_keys import chain_prefix
from backups.scheduling.packer import Packer
from shared.store.spaces import SpacesStore
from tests.support.bench import PREFIX, open_bench
from tests.support.chains import all_rows
from tests.support.following import (
    begun,
    chains_in,
    clock_of,
    following,
    following_bench,
    increments,
    rotate,
    step,
)
from tests.support.store_wrappers import WatchedStore


class Killed(BaseException):
    """Nothing of the process goes on after this."""


def test_a_chain_lives_in_a_bucket(empty_spaces_store: SpacesStore, tmp_path: Path) -> None:
    """What was put before a crash is found; each second is restored, from a pack and beside one."""
    store = WatchedStore(empty_spaces_store)
    held: dict[datetime, list[str]] = {}
    with following_bench(tmp_path, store) as bench:

        def keep() -> None:
            held[clock_of(bench).now()] = all_rows(bench.tokens)

        with following(bench) as follower:
            chain = begun(bench, follower)
            for value in ("one", "two"):
                rotate(bench, value)
                assert step(bench, follower) == "stored"
                keep()
            store.after("put", "0000000003", kill)
            rotate(bench, "three")
            with suppress(Killed):
                step(bench, follower)
            keep()
        assert len(increments(bench)) == 3
        with following(bench) as follower:
            assert step(bench, follower) in ("idle", "stored")
            assert follower.chain == chain
            rotate(bench, "four")
            assert step(bench, follower, seconds=7200) == "stored"
            keep()
            Packer(bench.service, threading.Event()).step()
            rotate(bench, "five")
            assert step(bench, follower) == "stored"
            keep()
        assert chains_in(bench) == [chain]
        keys = [one.removeprefix(chain_prefix(PREFIX, chain)) for one in bench.all_keys()]
        assert "p/0000000001-0000000003.pack" in keys
        assert [one for one in keys if one.startswith("i/")] == [
            "i/0000000004.inc",
            "i/0000000005.inc",
        ]
        with open_bench(tmp_path / "new host", store, clock=clock_of(bench)) as new:
            for at, rows in held.items():
                to = tmp_path / f"{at:%H%M%S}"
                new.restored(at=at + timedelta(milliseconds=500), to=to)
                assert all_rows(to / "tokens.db") == rows


def kill() -> None:
    """Die here."""
    raise Killed
