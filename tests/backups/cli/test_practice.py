"""`./bot backups practice`: every loss is brought back, and nothing of the live host is touched."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from backups.cli.losses import LOOK, LOSSES
from tests.support.doc_examples import examples
from tests.support.installation import REPOSITORY, Installation, bot_secrets
from tests.support.typed import type_in

pytestmark = pytest.mark.slow
BAD_DAY = REPOSITORY / "docs" / "bad-day.md"


@pytest.fixture
def bucket() -> Iterator[socket.socket]:
    """What listens where the live bucket is."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        yield listener


@pytest.fixture
def host(tmp_path: Path, bucket: socket.socket) -> Installation:
    """A live host with data and a backup; it has moved to a bucket since, which nobody may ask.

    Its settings are in the environment and in `.env`.
    """
    host = Installation(tmp_path / "live", bot_secrets())
    host.folder.mkdir()
    host.make_databases().json("run")
    (host.folder / ".env").write_text("BACKUP_PREFIX=live/\n")
    (tmp_path / "scratch").mkdir()
    return host.with_settings(
        TMPDIR=str(tmp_path / "scratch"),
        BACKUP_NOTIFY_URLS=f"json://127.0.0.1:{bucket.getsockname()[1]}/",
        SPACES_API_KEY="key-of-the-live-bucket",
        SPACES_API_SECRET="secret-of-the-live-bucket",
        SPACES_REGION="us-east-1",
        SPACES_BUCKET="live",
        SPACES_ENDPOINT=f"http://127.0.0.1:{bucket.getsockname()[1]}",
    )


def everything_in(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """The mode, the time of the last change and the content of all below a folder."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in (folder, *sorted(folder.rglob("*")))
    }


def scratch_of(host: Installation) -> Path:
    return Path(host.settings["TMPDIR"])


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_is_brought_back_and_nothing_live_is_touched(
    host: Installation, bucket: socket.socket, kind: str
) -> None:
    """The lines that are told are executed, the sample is whole again, its folder is removed; the
    live folder has the same bytes and times, and nobody has asked the live bucket."""
    before = everything_in(host.folder)
    told = host.cli("practice", "--loss", kind)
    assert (told.returncode, told.stderr) == (0, "")
    assert everything_in(host.folder) == before
    assert list(scratch_of(host).iterdir()) == []
    with suppress(BlockingIOError):
        bucket.accept()
        raise AssertionError("somebody asked the live bucket")
    loss = LOSSES[kind]
    assert f"*** {loss.what}" in told.stdout
    commands = [step.command for step in (*loss.harm, *LOOK, *loss.remedy) if step.command]
    typed = [line[2:] for line in told.stdout.splitlines() if line.startswith("$ ")]
    assert typed == ["./bot backups run", *commands]
    assert f"All {loss.tokens} tokens are there" in told.stdout
    assert str(host.folder) not in told.stdout
    assert "live-bucket" not in told.stdout
    assert "Set 2" in told.stdout  # what the commands printed is shown


def test_the_losses_are_those_of_the_runbook() -> None:
    """Each names a section that there is, and begins with the runbook's first lines."""
    headings = BAD_DAY.read_text().splitlines()
    assert all(f"## {loss.section}" in headings for loss in LOSSES.values())
    rows = [f"| `{kind}` | [{loss.section}](#" for kind, loss in LOSSES.items()]
    listed = [line for line in headings if line.startswith("| `") and line.split("`")[1] in LOSSES]
    assert all(line.startswith(row) for line, row in zip(listed, rows, strict=True))
    assert all(
        line.endswith(f"({loss.link.removeprefix('docs/bad-day.md')}) |")
        for line, loss in zip(listed, LOSSES.values(), strict=True)
    )
    first = [line.partition("#")[0].strip() for line in examples(BAD_DAY, "sh")[0].splitlines()]
    assert first == [step.command for step in LOOK]


def test_a_practice_as_json(host: Installation) -> None:
    """One document: the loss, each command with its exit code, the rows, the seconds."""
    found = host.json("practice", "--loss", "damaged-file")
    assert found["loss"] == "damaged-file"
    assert found["section"] == "docs/bad-day.md#a-file-is-gone-or-damaged"
    assert found["tokens"] == {"expected": 40, "readable": 40}
    assert found["folder"] is None
    assert found["seconds"] > 0
    ended: list[dict[str, Any]] = found["commands"]
    codes = {one["command"]: one["exit_code"] for one in ended[:-1]}
    assert codes["./bot backups doctor"] == 3
    assert codes["./bot backups restore --in-place --yes"] == 0
    assert ended[-1] == {"command": "./bot backups status", "exit_code": 0}


def test_a_kept_folder_knows_its_own_settings_alone(host: Installation) -> None:
    """One can type on in it: its `./bot` takes none of the live settings, also from elsewhere."""
    told = host.cli("practice", "--keep", "--loss", "deleted-rows")
    (kept,) = scratch_of(host).iterdir()
    assert f"Type on: cd {kept}. Then remove it: rm -r {kept}" in told.stdout
    before = everything_in(host.folder)
    done = type_in(host, f"{kept}/bot backups run")
    assert done.returncode == 0, done.stderr
    assert "stored in data/spaces" in done.stdout
    assert everything_in(host.folder) == {**before, **_copied_bot(host, before)}
    sets = list((kept / "data" / "spaces" / "backups" / "sets").iterdir())
    assert len(sets) >= 4


def _copied_bot(host: Installation, before: dict[str, Any]) -> dict[str, Any]:
    """What `type_in` itself has changed."""
    found = everything_in(host.folder)
    return {name: found[name] for name in (".", "bot") if found[name] != before.get(name)}


def test_a_practice_that_fails_says_so_and_keeps_its_folder(host: Installation) -> None:
    """A step that does not do what the runbook says ends it: exit code 1, the step, the folder."""
    program = host.folder.parent / "program"
    for name in ("backups", "shared"):
        shutil.copytree(
            REPOSITORY / name, program / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    operation = program / "backups" / "operations" / "undo.py"
    operation.write_text(f"{operation.read_text()}\n\nUndo.begin = None  # type: ignore\n")
    broken = host.with_settings(PYTHONPATH=str(program))
    script = "python -m backups practice --loss wrong-restore"
    done = type_in(broken, script)
    assert done.returncode == 1
    (kept,) = scratch_of(host).iterdir()
    assert "`./bot backups restore --undo --yes` ended with 1" in done.stderr
    assert f"The folder of the practice was kept: {kept}. Type it there once more" in done.stderr


def test_no_room_for_a_practice(host: Installation) -> None:
    """Where no temporary folder can be made, the error names the setting."""
    shutil.rmtree(scratch_of(host))
    scratch_of(host).write_text("no folder")
    # The shell's own search for a folder is not part of it.
    script = (
        "import tempfile; tempfile.tempdir = __import__('os').environ['TMPDIR']\n"
        "from backups.cli.main import main; raise SystemExit(main(['practice']))"
    )
    done = type_in(host, f'python -c "{script}"')
    assert done.returncode == 1
    assert "no folder for the practice can be made: Not a directory" in done.stderr
    assert "TMPDIR=DIR ./bot backups practice" in done.stderr
