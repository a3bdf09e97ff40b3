"""Random bad weeks, with an oracle outside the program: the light promises nothing that is not so."""

from __future__ import annotations

import os
import random
import shutil
import time
import traceback
from pathlib import Path

import pytest

from shared.store.directory import DirectoryStore
from tests.support.bad_week import BadWeek
from tests.support.bucket_oracle import FolderBucket

_MOST_STEPS = 14


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_soak_no_bad_week_is_green_without_its_rows(tmp_path: Path) -> None:
    """Green: the row of the last due instant is in the bucket. All well: not red after 10 min.

    "Green" is also an amber of `not_offsite` and `nobody_told` alone. The promise is that of the
    fact `age`: the newest row that is live, and was committed before the last due instant of the
    schedule that is two hours past, is in a complete set in the bucket, which `latest` means.
    The instant is one of the host's clock as it is now; how long ago a row was committed is
    measured by the clock that nobody sets. `GREEN_SEQUENCES` says how many weeks there are, and
    `GREEN_SEED` with which seed they begin.
    """
    weeks = int(os.environ.get("GREEN_SEQUENCES", "1000"))
    first = int(os.environ.get("GREEN_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
    began, steps, broken = time.monotonic(), 0, []
    for seed in range(first, first + weeks):
        folder = tmp_path / str(seed)
        chance = random.Random(seed)
        store = folder / "data" / "spaces"
        week = BadWeek(folder, chance, DirectoryStore(store), FolderBucket(store))
        try:
            for _ in range(chance.randint(3, _MOST_STEPS)):
                week.happen()
            week.heal()
        except Exception:
            broken.append(seed)
            print(f"\nseed {seed}", *week.steps, traceback.format_exc(limit=-4), sep="\n  ")
        finally:
            week.close()
            shutil.rmtree(folder, ignore_errors=True)
        steps += len(week.steps)
    took = time.monotonic() - began
    print(f"\nfrom seed {first}: {weeks} weeks, {steps} steps, {took:.0f} s, broken: {broken}")

    assert broken == []
