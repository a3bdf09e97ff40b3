"""`docs/restore-by-hand.md` is run as it is written, with the standard tools and a real bucket."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from backups.sets.seal import generate_key_pair
from tests.support.bench import open_bench
from tests.support.chains import all_rows, stored_chain
from tests.support.generations import SOURCES, generation_of, rows_of
from tests.support.installation import REPOSITORY, spaces
from tests.support.s3_server import S3Server

SECRET, PUBLIC = generate_key_pair()
PACKAGES = {"aws": "awscli", "age": "age", "zstd": "zstd", "sqlite3": "sqlite3"}
DOCUMENT = REPOSITORY / "docs" / "restore-by-hand.md"


def script() -> str:
    """The document's commands, in their order."""
    for tool, package in PACKAGES.items():
        assert shutil.which(tool), f"`{tool}` is not installed: apt-get install {package}"
    blocks = re.findall(r"^```sh\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    return "\n".join(blocks)


def by_hand(
    folder: Path, settings: dict[str, str], set_id: str, point: int = 0
) -> subprocess.CompletedProcess[str]:
    """What a person gets who follows the document in an empty folder, with their `.env`."""
    folder.mkdir()
    lines = (f"{name}={value}\n" for name, value in settings.items())
    (folder / ".env").write_text(f"BACKUP_SCHEDULE='0 1 * * *'\n{''.join(lines)}")
    identity = folder.parent / "identity"
    identity.write_text(SECRET + "\n")
    return subprocess.run(
        ["bash", "-eu", "-c", script()],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder.parent),
            "SET": set_id,
            "POINT": str(point),
            "IDENTITY_FILE": str(identity),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "seal",
    [
        {},
        {"BACKUP_COMPRESSION": "zstd", "BACKUP_AGE_RECIPIENTS": PUBLIC},
    ],
    ids=["unsealed", "zstd and age"],
)
def test_the_document_brings_back_both_databases(
    tmp_path: Path, s3_server: S3Server, bucket: str, seal: dict[str, str]
) -> None:
    """Its commands alone give the databases of a set, row by row, and say `ok` of each."""
    settings = spaces(s3_server.settings(bucket))
    with open_bench(tmp_path / "installation", settings={**settings, **seal}) as bench:
        bench.write("genset")
        made = bench.made()
        expected = {source: rows_of(bench.live(source)) for source in SOURCES}
    done = by_hand(tmp_path / "hand", settings, made.id)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["ok", "ok"]
    for source in SOURCES:
        (file,) = (tmp_path / "hand").glob(f"{source}_*.db")
        shutil.copy(file, tmp_path / f"{source}.db")
        assert generation_of(tmp_path / f"{source}.db") == "genset"
        assert rows_of(tmp_path / f"{source}.db") == expected[source]


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
def test_the_document_brings_back_a_point_after_the_set(
    tmp_path: Path, s3_server: S3Server, bucket: str, *, sealed: bool
) -> None:
    """Its commands alone replay a chain to a point, encrypted or not, and notice a flipped bit."""
    settings = spaces(s3_server.settings(bucket))
    seal = {"BACKUP_AGE_RECIPIENTS": PUBLIC} if sealed else {}
    with open_bench(tmp_path / "installation", settings={**settings, **seal}) as bench:
        bench.write("genset")
        made = bench.made()
        recipients = (PUBLIC,) if sealed else ()
        with stored_chain(bench, made, recipients=recipients) as chain:
            for generation in ("one", "two", "three"):
                bench.write(generation)
                chain.step()
            expected = chain.rows(2)
        done = by_hand(tmp_path / "hand", settings, made.id, point=2)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[-2:] == ["ok", "ok"]
        for source in SOURCES:
            (file,) = (tmp_path / "hand").glob(f"{source}_*.db")
            assert all_rows(file) == expected[source]
        stored = bytearray(bench.bytes_of(chain.key(2)))
        stored[-3] ^= 1
        bench.replace_object(chain.key(2), bytes(stored))
    assert by_hand(tmp_path / "again", settings, made.id, point=2).returncode != 0


def test_the_document_notices_an_object_that_was_changed(
    tmp_path: Path, s3_server: S3Server, bucket: str
) -> None:
    """The comparison with the manifest's hashes stops who follows the document."""
    settings = spaces(s3_server.settings(bucket))
    with open_bench(tmp_path / "installation", settings=settings) as bench:
        bench.write("genset")
        made = bench.made()
        key = made.objects[0].key
        body = bench.bytes_of(key)
        bench.replace_object(key, body[:-1] + bytes([body[-1] ^ 1]))
    assert by_hand(tmp_path / "hand", settings, made.id).returncode != 0
