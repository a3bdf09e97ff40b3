"""The systemd unit: systemd accepts it, finds it well locked down, and it fits the app."""

from __future__ import annotations

import configparser
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from backups.scheduling.scheduler import PATIENCE_AT_SHUTDOWN_SECONDS
from shared.store.spaces import SpacesStore
from tests.support.installation import REPOSITORY

UNIT = REPOSITORY / "deploy" / "systemd" / "messenger-bot.service"
FOLDER = "/opt/messenger-bot"
# What systemd calls OK begins below 5.0; this is in tenths.
MOST_EXPOSURE = 20


def service() -> dict[str, str]:
    """The section of the service; no key is in it twice."""
    parser = configparser.RawConfigParser(strict=True, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(UNIT.read_text())
    return dict(parser["Service"])


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with the folder of the code where there is a Python."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(FOLDER, str(tmp_path)))
    return unit


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What `systemd-analyze` says; it needs no running systemd."""
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_systemd_accepts_the_unit(unit: Path) -> None:
    """Not one line is unknown or wrong, and what it starts is a program."""
    done = analyze("verify", str(unit))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_service_is_locked_down(unit: Path) -> None:
    """systemd's own measure of what the service could do is low."""
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSURE}", str(unit))
    assert done.returncode == 0, done.stdout


def test_only_the_data_is_writable() -> None:
    """The whole file system is read-only but the data, and another user's is out of reach."""
    found = service()
    assert found["ProtectSystem"] == "strict"
    assert found["ReadWritePaths"] == f"{FOLDER}/data"
    assert found["User"] not in ("", "root")
    assert found["NoNewPrivileges"] == found["MemoryDenyWriteExecute"] == "yes"
    assert found["CapabilityBoundingSet"] == ""


def test_it_comes_back_and_is_given_time_to_end() -> None:
    """It restarts whatever happened, except for settings that cannot be used; a stop waits for
    longer than a run needs to stop, a read that hangs included."""
    found = service()
    assert (found["Restart"], found["RestartPreventExitStatus"]) == ("always", "2")
    hanging_read = inspect.signature(SpacesStore).parameters["read_timeout"].default
    assert int(found["TimeoutStopSec"]) > PATIENCE_AT_SHUTDOWN_SECONDS + hanging_read


def test_systemd_starts_it_again_when_it_hangs() -> None:
    """The app tells when it serves and that it goes on; a start may take as long as a restore."""
    found = service()
    assert found["Type"] == "notify"
    assert found["TimeoutStartSec"] == "infinity"
    # Two pings in each interval, from a loop that may be busy for a while.
    assert int(found["WatchdogSec"]) >= 60
    assert "AF_UNIX" in found["RestrictAddressFamilies"]
