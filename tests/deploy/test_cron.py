"""The crontab: its lines as cron runs them, in cron's bare environment."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installation import REPOSITORY, Installation, bot_secrets

CRONTAB = REPOSITORY / "deploy" / "cron" / "messenger-bot.cron"
FOLDER = "/opt/messenger-bot"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """A host as the guide sets it up: code, virtual environment and `.env` in one folder."""
    for name in ("app.py", "backups", "shared"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    shutil.copy2(REPOSITORY / "bot", tmp_path / "bot")
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    lines = [f"{name}={value}" for name, value in bot_secrets().items()]
    (tmp_path / ".env").write_text("\n".join(lines) + "\n")
    return Installation(tmp_path, bot_secrets()).make_databases()


SETTING = "BACKUP_RUN_BY=cron"  # a line that sets the environment of the others


def command_of(name: str) -> str:
    """The crontab's line that runs this command; what follows the five fields."""
    lines = [one for one in CRONTAB.read_text().splitlines() if one and not one.startswith("#")]
    lines.remove(SETTING)
    (line,) = [one for one in lines if f"bot backups {name} " in one]
    # cron(8) makes a new line of a percent sign, and reads no line of more than 998 characters.
    assert "%" not in line
    assert len(line) < 998
    fields = line.split(None, 5)
    assert all(re.fullmatch(r"[0-9*]+", field) for field in fields[:5])
    return fields[5]


def cron(installation: Installation, name: str) -> subprocess.CompletedProcess[str]:
    """Run a line as cron does: by `sh`, with next to nothing in its environment."""
    home = f"HOME={installation.folder}"
    return subprocess.run(
        [
            *("env", "-i", home, "LOGNAME=messenger-bot", "SHELL=/bin/sh", "PATH=/usr/bin:/bin"),
            SETTING,
            *("/bin/sh", "-c", command_of(name).replace(FOLDER, str(installation.folder))),
        ],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_lines_are_quiet_when_all_is_well(installation: Installation) -> None:
    """A good run, a drill of it and a look at the status print nothing, so cron mails nothing."""
    for name in ("run", "drill", "status"):
        done = cron(installation, name)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), name
    runs = installation.json("runs")["runs"]
    assert [(run["operation"], run["status"]) for run in runs] == [
        ("drill", "succeeded"),
        ("backup", "succeeded"),
    ]
    assert "read back and proven" in (installation.folder / "data" / "cron-run.log").read_text()


def test_lines_print_what_is_wrong(installation: Installation) -> None:
    """A run that fails prints its error, and an unhealthy status says why: cron mails that."""
    (installation.folder / "data" / "spaces").write_text("in the way")
    assert "backup failed in stage check" in cron(installation, "run").stdout
    told = cron(installation, "status").stdout
    assert "NOT HEALTHY." in told
    assert "no_restore_point" in told


def test_a_run_that_is_in_the_way_is_no_failure(installation: Installation) -> None:
    """While another run holds the lease, the line makes no set, and prints nothing."""
    held = installation.backup_dir.run_lease.try_acquire()
    assert held is not None
    done = cron(installation, "run")
    held.release()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert installation.json("list")["sets"] == []
