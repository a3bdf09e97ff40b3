"""The commands of docs/two-places.md, typed as they are printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.doc_examples import examples
from tests.support.installation import REPOSITORY, installation_in
from tests.support.s3_server import S3Server
from tests.support.second import SecondBucket
from tests.support.typed import type_in

pytestmark = pytest.mark.slow


def test_each_command_does_what_is_said(tmp_path: Path, s3_server: S3Server) -> None:
    """On a host with a second place that locks."""
    bucket = SecondBucket.new(s3_server)
    host = installation_in(tmp_path, **bucket.environment(COPY_LOCK_DAYS="1")).make_databases()
    host.json("run")
    blocks = list(examples(REPOSITORY / "docs" / "two-places.md", "sh"))
    assert len(blocks) >= 2
    for block in blocks:
        done = type_in(host, block)
        assert done.returncode == 0, f"{block}\n{done.stderr}"
    assert host.json("status")["second"]["deletable"] is False
