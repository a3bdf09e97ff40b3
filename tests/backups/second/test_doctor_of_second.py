"""The doctor proves that the key of the second place cannot delete there, by trying."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.installation import Installation, installation_in
from tests.support.s3_server import S3Server
from tests.support.second import SecondBucket

pytestmark = pytest.mark.slow


def lines(host: Installation, *options: str, exit_code: int) -> dict[str, str]:
    """What the doctor says of the second place, by level."""
    found = host.json("doctor", *options, exit_code=exit_code)
    return {one["message"]: one["level"] for one in found["lines"] if one["subject"] == "second"}


def test_a_locked_copy_cannot_be_deleted(tmp_path: Path, bucket: SecondBucket) -> None:
    """Not its version, not with a bypass of governance; the probe stays, locked like a copy."""
    host = installation_in(tmp_path, **bucket.environment(COPY_LOCK_DAYS="1")).make_databases()
    host.json("run")
    found = lines(host, "--write", exit_code=0)
    (proof,) = [text for text in found if "cannot delete" in text]
    assert found[proof] == "ok"
    assert [one for one in bucket.versions() if "/doctor/" in one["Key"]]
    assert host.json("status")["second"]["deletable"] is False
    (locked,) = [text for text in found if "COPY_LOCK_DAYS=1" in text]
    assert "compliance mode" in locked


@pytest.mark.parametrize("versions", [True, False])
def test_a_key_that_can_delete_is_a_problem(
    tmp_path: Path, s3_server: S3Server, versions: bool
) -> None:
    """Without a lock all that this key may do a thief may do: doctor says so, and status."""
    bucket = SecondBucket.new(s3_server, locks=False, versions=versions)
    host = installation_in(tmp_path, **bucket.environment()).make_databases()
    host.json("run")
    assert "the copies are not locked" in str(lines(host, exit_code=0))
    found = lines(host, "--write", exit_code=3)
    assert {level for text, level in found.items() if "CAN delete" in text} == {"problem"}
    status = host.json("status")
    assert status["second"]["deletable"] is True
    assert "copy_deletable" in [one["code"] for one in status["warnings"]]
    assert status["light"] != "green"
