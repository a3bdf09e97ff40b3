"""The table in `docs/settings.md`: what each way of giving settings makes of the same lines."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path

import pytest
import yaml
from dotenv import dotenv_values

from shared.errors import SettingsError
from shared.settings.env_file import write_env_file
from shared.settings.given import GivenSettings
from shared.settings.load import load_settings, read_environment
from tests.support.installation import REPOSITORY

# systemd reads an `EnvironmentFile=` and `environment.d/*.conf` with one parser (`parse_env_file`
# in src/basic/env-file.c); this program prints what it reads of the latter. Those alone expand `$`.
GENERATOR = "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator"

LINES = {
    "`A='b c'`": "BACKUP_LOG_DIR='b c'",
    "`A=b # c`": "BACKUP_LOG_DIR=b # c",
    "`A=b$c`": "BACKUP_LOG_DIR=b$c",
    "`A`": "BACKUP_LOG_DIR",
    '`A="b`, then `B=c"`': 'BACKUP_LOG_DIR="b\nBACKUP_DIR=c"',
}


def by_the_program(content: str, folder: Path) -> GivenSettings:
    """`.env`, as the app and the commands read it."""
    (folder / ".env").write_text(content)
    return read_environment(folder / ".env")


def by_docker(content: str, folder: Path) -> GivenSettings:
    """`docker run --env-file` (kvfile.go of docker/cli 28), and so `format: raw` of Compose.

    "No interpolation, substitution or escaping"; a line without `=` takes the value of the host's
    environment, if it has one. docs.docker.com/reference/cli/docker/container/run/#env, and
    docs.docker.com/reference/compose-file/services/#env_file ("raw").
    """
    lines = [line.lstrip() for line in content.splitlines()]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    assert not any(re.search(r"[ \t]", name) for name, _, _ in pairs)
    return GivenSettings({name: value for name, equals, value in pairs if equals})


def by_systemd(content: str, folder: Path) -> GivenSettings:
    """`EnvironmentFile=`, whose values are not expanded: `$` goes through as another letter."""
    (folder / "environment.d").mkdir()
    (folder / "environment.d" / "app.conf").write_text(content.replace("$", "€"))
    done = subprocess.run(
        [GENERATOR],
        env={"XDG_CONFIG_HOME": str(folder), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    printed = dotenv_values(stream=StringIO(done.stdout.replace("€", "$")), interpolate=False)
    return GivenSettings({name: value or "" for name, value in printed.items()})


def by_a_shell(content: str, folder: Path) -> GivenSettings:
    """`set -a; . ./.env`, which exports each name."""
    (folder / ".env").write_text(content)
    done = subprocess.run(
        ["bash", "-c", "set -a; . ./.env; env -0"],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    pairs = (line.partition("=") for line in done.stdout.split("\0") if line)
    return GivenSettings({name: value for name, _, value in pairs})


SOURCES: Mapping[str, Callable[[str, Path], GivenSettings]] = {
    "`.env`, by the app and the commands": by_the_program,
    "Compose, `env_file` with `format: raw`": by_docker,
    "`docker run --env-file`": by_docker,
    "systemd, `EnvironmentFile=`": by_systemd,
    "a shell, `set -a; . ./.env`": by_a_shell,
}


def table() -> Mapping[str, Mapping[str, str]]:
    """Source -> line -> what comes of it, as `docs/settings.md` has it."""
    text = (REPOSITORY / "docs" / "settings.md").read_text()
    _, _, below = text.partition("\n| from |")
    rows = [
        [cell.strip() for cell in row.strip("|").split(" | ")]
        for row in f"| from |{below.partition(chr(10) * 2)[0]}".splitlines()
    ]
    (_, *lines), _, *sources = rows
    return {source: dict(zip(lines, cells, strict=True)) for source, *cells in sources}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("source", SOURCES)
def test_the_table_says_what_comes_of_a_line(source: str, line: str, tmp_path: Path) -> None:
    """A line given in each way has the value that the table says, or stops the start by name."""
    try:
        settings = load_settings(SOURCES[source](f"{LINES[line]}\n", tmp_path))
    except SettingsError as error:
        outcome = "stops" if "BACKUP_LOG_DIR" in error.message else "stops for another reason"
    else:
        folder = settings.backup.log_directory
        outcome = "unset" if folder is None else f"`{folder}`"
    assert table()[source][line] == outcome


def test_the_table_has_these_sources_and_lines() -> None:
    """No row and no column of it goes untested."""
    assert set(table()) == set(SOURCES)
    assert all(set(cells) == set(LINES) for cells in table().values())


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize("source", SOURCES)
def test_a_schedule_in_quotes_is_the_same_everywhere(
    source: str, quote: str, tmp_path: Path
) -> None:
    """A shell needs the quotes, Docker leaves them in: `.env` serves both."""
    schedules = {
        "BACKUP_SCHEDULE": "5 4 * * *",
        "BACKUP_DRILL_SCHEDULE": "6 4 * * 1",
        "SYNC_SCHEDULE": "7 4 * * *",
    }
    lines = "".join(f"{name}={quote}{text}{quote}\n" for name, text in schedules.items())
    settings = load_settings(SOURCES[source](lines, tmp_path))
    found = (settings.backup.schedule, settings.backup.drill_schedule, settings.sync_schedule)
    assert [one.expression for one in found] == list(schedules.values())


@pytest.mark.parametrize("defaults_too", [False, True], ids=["as it is", "each # removed"])
@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_a_shell_reads_what_make_env_writes(
    shell: str, tmp_path: Path, *, defaults_too: bool
) -> None:
    """`set -eu; . ./.env` works, and gives each setting the value that the app reads."""
    example = tmp_path / ".env.example"
    example.write_text((REPOSITORY / ".env.example").read_text())
    if defaults_too:
        shown = re.sub(r"^#(?=[A-Z_]+=)", "", example.read_text(), flags=re.MULTILINE)
        example.write_text(shown)
    assert write_env_file(example, tmp_path / ".env")
    done = subprocess.run(
        [shell, "-c", "set -eu; set -a; . ./.env; set +a; env -0"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    sourced = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
    read = read_environment(tmp_path / ".env")
    names = re.findall(r"^([A-Z_]+)=", (tmp_path / ".env").read_text(), re.MULTILINE)
    assert len(names) > (50 if defaults_too else 20)
    by_app = dict(dotenv_values(tmp_path / ".env", interpolate=False))
    assert {name: sourced[name] for name in names} == {name: by_app[name] for name in names}
    assert load_settings(GivenSettings(sourced), for_app=True) == load_settings(read, for_app=True)


def test_compose_hands_the_file_on_as_it_is() -> None:
    """`compose.yaml` has `format: raw`: without it, Compose replaces `$` in secrets."""
    compose = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
    for name in ("bot", "try"):
        assert compose["services"][name]["env_file"] == [{"path": ".env", "format": "raw"}]
