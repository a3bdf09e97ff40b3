"""An installation with a second place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from backups.wiring import open_second_service, open_service
from tests.backups.second.host import Host
from tests.support.installation import installation_in, settings_of
from tests.support.s3_server import S3Server
from tests.support.second import SecondBucket


@pytest.fixture
def bucket(s3_server: S3Server) -> SecondBucket:
    """A second place that locks."""
    return SecondBucket.new(s3_server)


@pytest.fixture
def host(tmp_path: Path, bucket: SecondBucket) -> Iterator[Host]:
    """A host that copies there, for a day each."""
    with ExitStack() as stack:
        installation = installation_in(tmp_path / "host", **bucket.environment(COPY_LOCK_DAYS="1"))
        settings = settings_of(installation)
        service = stack.enter_context(open_service(settings))
        yield Host(
            installation, service, lambda: stack.enter_context(open_second_service(settings))
        )
