"""Random bad weeks, and an oracle outside the program that knows what the light may promise."""

from __future__ import annotations

import os
import random
import shutil
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.store.directory import DirectoryStore
from shared.store.object_store import ObjectStore
from shared.store.spaces import SpacesStore
from tests.backups.conftest import SharedBucket
from tests.support.bad_week import BadWeek
from tests.support.bucket_oracle import Bucket, FolderBucket, S3Bucket

WEEKS = int(os.environ.get("GREEN_SEQUENCES", "1000"))
_MOST_STEPS = 14
# A bucket is slower than a folder, and the program does the same over both.
_FEWER_OVER_S3 = 20

Place = Callable[[Path], tuple[ObjectStore, Bucket]]


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_soak_no_bad_week_is_green_without_its_rows(tmp_path: Path) -> None:
    """Green: the row of the last due instant is in the bucket. All well: not red after 10 min.

    "Green" is also an amber of `not_offsite`, `nobody_told` and `kit_not_kept` alone. The promise
    is that of the fact `age`: the newest row that is live, and was committed before the last due
    instant of the schedule that is two hours past, is in a complete set in the bucket, which
    `latest` means.
    "Before" holds by the host's clock (where it was set back, at most by what it was set to), and
    by how long ago it was: a clock that is set over an instant owes nothing.

    After harm in the bucket it is listed before status is read: the program lists it at each
    scheduled run. `GREEN_SEQUENCES` says how many weeks there are, `GREEN_SEED` with which seed
    they begin.
    """

    def folder_of(folder: Path) -> tuple[ObjectStore, Bucket]:
        store = folder / "data" / "spaces"
        return DirectoryStore(store), FolderBucket(store)

    _live_through(WEEKS, tmp_path, folder_of)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_soak_no_bad_week_with_a_bucket_is_green_without_its_rows(
    tmp_path: Path, empty_bucket: SharedBucket, empty_spaces_store: SpacesStore
) -> None:
    """The same with a real S3 server, which the oracle asks with boto3; fewer weeks."""
    bucket = S3Bucket(empty_bucket.client, empty_bucket.name)

    def emptied(_: Path) -> tuple[ObjectStore, Bucket]:
        for key in bucket.list_keys():
            bucket.delete(key)
        return empty_spaces_store, bucket

    _live_through(max(WEEKS // _FEWER_OVER_S3, 1), tmp_path, emptied)


def _live_through(weeks: int, folder: Path, place: Place) -> None:
    """Live through so many weeks; each that breaks a promise is printed with its seed."""
    first = int(os.environ.get("GREEN_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
    began, steps, broken = time.monotonic(), 0, []
    for seed in range(first, first + weeks):
        chance = random.Random(seed)
        week = BadWeek(folder / str(seed), chance, *place(folder / str(seed)))
        try:
            for _ in range(chance.randint(3, _MOST_STEPS)):
                week.happen()
            week.heal()
        except Exception:
            broken.append(seed)
            print(f"\nseed {seed}", *week.steps, traceback.format_exc(limit=-4), sep="\n  ")
        finally:
            week.close()
            shutil.rmtree(folder / str(seed), ignore_errors=True)
        steps += sum(not step.startswith(" ") for step in week.steps)
    took = time.monotonic() - began
    print(f"\nfrom seed {first}: {weeks} weeks, {steps} steps, {took:.0f} s, broken: {broken}")

    assert broken == []
