"""Root commands the data of another user with a Python, and a program, that root alone can read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.store.spaces import certificates
from tests.support.installation import REPOSITORY, installation_in
from tests.support.s3_server import S3Server

NOBODY = 65534


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="owner-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
def test_root_reads_its_python_before_it_becomes_the_owner(
    open_folder: Path, s3_server: S3Server, bucket: str
) -> None:
    """Each command works with Spaces too, whose client reads files of Python at each step."""
    if os.geteuid() != 0:
        return  # nobody else becomes another user
    hidden, python = open_folder / "hidden", open_folder / "hidden" / "python"
    hidden.mkdir(mode=0o700)
    python.symlink_to(sysconfig.get_path("purelib"))
    (hidden / "program").symlink_to(REPOSITORY)
    spaces = s3_server.settings(bucket)
    installation = installation_in(
        open_folder / "app",
        SPACES_API_KEY=spaces.api_key,
        SPACES_API_SECRET=spaces.api_secret,
        SPACES_REGION=spaces.region,
        SPACES_BUCKET=spaces.bucket,
        SPACES_ENDPOINT=spaces.endpoint,
    ).make_databases()
    for one in (installation.folder, *installation.folder.rglob("*")):
        os.chown(one, NOBODY, NOBODY)
    for command in ("run", "list", "doctor", "verify", "restore --in-place --yes"):
        done = subprocess.run(
            [sys.executable, "-m", "backups", *command.split()],
            cwd=installation.folder,
            env={
                **installation.environment,
                "PYTHONPATH": os.pathsep.join(map(str, (python, hidden / "program"))),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "continuing as user 65534" in done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode in ((0, 3) if command == "doctor" else (0,)), done.stderr
    for one in installation.folder.rglob("*"):
        assert one.stat().st_uid == NOBODY, one


def test_the_owner_can_read_the_certificates() -> None:
    """They are copied for the owner where root alone could read them, and removed at the end."""
    if os.geteuid() != 0:
        return
    with tempfile.TemporaryDirectory(prefix="owner-") as name:
        folder = Path(name)  # 0700
        (folder / "python").symlink_to(sysconfig.get_path("purelib"))
        done = subprocess.run(
            [sys.executable, "-c", _COPIED],
            env={**os.environ, "PYTHONPATH": f"{folder / 'python'}{os.pathsep}{REPOSITORY}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        copy, same = done.stdout.split()
        assert same == "True"
        assert copy != str(certificates())
        assert not Path(copy).exists()


_COPIED = """
import os
from pathlib import Path
from backups.cli.owner import readable_certificates
from shared.store.spaces import certificates
content = certificates().read_bytes()
copy = readable_certificates(certificates(), 65534, 65534)
os.setuid(65534)
print(copy, Path(copy).read_bytes() == content)
"""
