"""A key that is free again in the first place is not in the second, where nothing is deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from backups.format.naming import set_id
from backups.model import BackupSet
from backups.service import BackupService
from tests.backups.second.host import Host
from tests.support.generations import SOURCES, generation_of, live_path, write_generation
from tests.support.installation import Installation, installation_in
from tests.support.second import SecondBucket
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


def proven_there(host: Host, made: BackupSet) -> None:
    """A set can be restored from the second place."""
    second: BackupService = host.open_second()
    second.catalogue.refresh()
    assert second.verify.begin(made.id).execute().error is None


def test_a_set_of_a_day_whose_first_set_was_deleted_is_copied(host: Host) -> None:
    """The day's keys are free again here; the set takes others, and both places have it."""
    host.second.copy()
    first = host.made("one")
    assert "T" not in first.objects[0].key.rpartition("_")[2]
    host.made("two")
    host.second.copy()
    assert host.service.delete.begin(first.id).execute().error is None
    third = host.made("three")
    state, copied = host.second.copy()
    assert (state.waiting, copied.refused) == (0, {})
    assert host.second.compare().different == ()
    proven_there(host, third)


def test_other_bytes_under_a_key_that_was_compared_are_no_copy(host: Host) -> None:
    """Of the same size, too: it is named, it waits, and nobody says that all is there."""
    host.second.copy()
    first = host.made("one")
    host.made("two")
    before, _ = host.second.copy()
    assert host.service.delete.begin(first.id).execute().error is None
    host.service._publisher.second_known = None  # as versions before this one did
    third = host.made("three")
    keys = {one.key for one in third.objects}
    assert keys == {one.key for one in first.objects}
    assert [one.bytes for one in third.objects] == [one.bytes for one in first.objects]
    state, copied = host.second.copy()
    assert set(copied.refused) <= keys
    assert state.waiting > 0
    assert state.complete_at == before.complete_at
    assert "copy_refused" in {one.code for one in host.service.status().health.warnings}


def test_after_the_first_bucket_was_emptied_its_next_set_is_copied(
    tmp_path: Path, bucket: SecondBucket
) -> None:
    """On the day of the theft, from the host itself and from a new one that was restored."""
    host = installation_in(tmp_path, **bucket.environment(COPY_LOCK_DAYS="1"))
    write_generation(host.folder, "one")
    assert host.cli("copy").returncode == 0
    host.json("run")
    assert host.cli("copy").returncode == 0
    folder = tmp_path / "new"
    folder.mkdir()
    new = installation_in(folder, **bucket.environment(COPY_LOCK_DAYS="1"))
    assert new.cli("restore", "--in-place", "--yes").returncode == 0
    host.stored("").rename(tmp_path / "robbed")
    host.stored("").mkdir()
    for number, one in enumerate((host, new)):
        write_generation(one.folder, f"later {number}")
        made = one.json("run")["set"]
        eventually(partial(is_over, made["id"]), "another second has begun")
        done = one.cli("copy")
        assert done.returncode == 0, done.stdout + done.stderr
        assert one.cli("verify", made["id"], "--place", "second").returncode == 0
    assert_restores(new, bucket, tmp_path / "last")


def is_over(made: str) -> bool:
    """Whether the second of a set is over."""
    return set_id(datetime.now(UTC)) > made


def assert_restores(host: Installation, bucket: SecondBucket, folder: Path) -> None:
    """A host that has nothing gets what `host` has."""
    folder.mkdir()
    empty = installation_in(folder, **bucket.environment())
    newest = host.json("list")["sets"][0]["id"]
    done = empty.cli("restore", newest, "--place", "second", "--in-place", "--yes")
    assert done.returncode == 0, done.stderr
    assert {generation_of(live_path(folder, source)) for source in SOURCES} == {"later 1"}
