"""Importing the program does nothing: that is left to the lifespan and to `main`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installation import REPOSITORY, Installation, bot_secrets, installation_in

# Runs in a fresh interpreter: imports all modules that are named, and prints what it saw them
# do. Other packages may read variables of their own, but none that are our settings.
WATCH = """
import importlib, json, os, sys, threading

seen = []
watched = {"sqlite3.connect", "socket.connect", "subprocess.Popen", "os.mkdir"}
repository = sys.argv[1]
folder = os.getcwd()
standard = ("os.py", "_collections_abc.py", "<frozen os>", "<frozen _collections_abc>")

def ours():
    frame = sys._getframe(2)
    while frame.f_code.co_filename.rpartition("/")[2] in standard:
        frame = frame.f_back
    name = frame.f_code.co_filename
    return name.startswith((repository, folder)) and "/.venv/" not in name

class Watched(type(os.environ)):
    def __getitem__(self, name):
        if ours() or name in sys.argv[2].split(","):
            seen.append(f"environment: {name}")
        return super().__getitem__(name)

    def __iter__(self):
        if ours():
            seen.append("environment: all of it")
        return super().__iter__()

def hook(event, arguments):
    if event in watched or event.startswith("sqlite3."):
        seen.append(f"{event}: {arguments[:1]}")
    if event == "open" and isinstance(arguments[0], str):
        if arguments[0].endswith((".env", ".db", ".lock")):
            seen.append(f"open: {arguments[0]}")

def start(thread):
    seen.append(f"thread: {thread.name}")
    return really_start(thread)

really_start, threading.Thread.start = threading.Thread.start, start
os.environ.__class__ = Watched
sys.addaudithook(hook)
for module in sys.argv[3:]:
    importlib.import_module(module)
print(json.dumps({"seen": seen, "threads": threading.active_count(), "modules": len(sys.argv[3:])}))
"""


def setting_names() -> set[str]:
    """Every name in `.env.example`."""
    example = (REPOSITORY / ".env.example").read_text()
    return set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE))


def all_modules() -> list[str]:
    """`app` and every module of the two packages, but not their `__main__`s."""
    found = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for package in ("shared", "backups")
        for path in sorted((REPOSITORY / package).rglob("*.py"))
        if path.name not in ("__main__.py", "__init__.py")
    ]
    return ["app", *found]


def watch(folder: Path, *modules: str) -> dict[str, object]:
    """What happens while modules are imported in a folder with a `.env`."""
    (folder / ".env").write_text("PORT=many\n")
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(REPOSITORY), ",".join(setting_names()), *modules],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{REPOSITORY}:{folder}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_importing_does_nothing(tmp_path: Path) -> None:
    """No module reads a setting, opens a database or a socket, or starts a thread when imported."""
    modules = all_modules()
    assert {"app", "shared.settings.load", "backups.wiring", "shared.store.spaces"} <= set(modules)
    assert watch(tmp_path, *modules) == {"seen": [], "threads": 1, "modules": len(modules)}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env"]


def test_the_watch_sees(tmp_path: Path) -> None:
    """The test above would notice: a module that does all of that is seen doing it."""
    (tmp_path / "busy.py").write_text(
        "import os, sqlite3, threading\n"
        "os.environ.get('PORT')\n"
        "open('.env').close()\n"
        "sqlite3.connect(':memory:').close()\n"
        "threading.Thread(target=threading.Event().wait, args=(0.1,)).start()\n"
    )
    told = watch(tmp_path, "busy")
    assert isinstance(told["seen"], list)
    kinds = {str(line).partition(":")[0] for line in told["seen"]}
    assert {"environment", "open", "sqlite3.connect", "thread"} <= kinds
    assert told["threads"] == 2


# What takes long to import or much memory, and is needed for a moment or not at all.
HEAVY = ("boto3", "botocore", "pyrage", "zstandard", "apprise", "rich", "urllib3")


def test_nothing_heavy_is_imported_before_it_is_used(tmp_path: Path) -> None:
    """The app and the command line begin without the SDK and the libraries of rare occasions."""
    script = (
        "import json, sys, app, backups.cli.main\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == []


# What no command needs that looks at local records, or makes a set in a folder.
OF_OTHERS = (
    *HEAVY,
    *("fastapi", "starlette", "uvicorn", "apscheduler", "prometheus_client", "jinja2", "httpx2"),
    *("urllib.request", "http.client", "ssl", "asyncio"),
    *("app", "backups.doctor", "backups.http", "backups.page", "backups.scheduling"),
)


@pytest.mark.parametrize("command", ["status", "list", "runs", "run"])
def test_a_command_pays_for_nothing_that_it_does_not_do(tmp_path: Path, command: str) -> None:
    """What a command has imported at its end: a person waits for it, and cron's hosts are small."""
    installation = installation_in(tmp_path).make_databases()
    script = (
        "import json, sys\n"
        "from backups.cli.main import main\n"
        f"main([{command!r}, '--json'])\n"
        f"print(json.dumps([name for name in {OF_OTHERS!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=installation.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_requests_do_not_wait_for_busy_threads_or_for_old_objects(tmp_path: Path) -> None:
    """While the app is up, threads give way after 1 ms and collections skip what the start made.

    When it is down, all is as it was before.
    """
    installation = Installation(tmp_path, bot_secrets()).make_databases()
    script = (
        "import asyncio, gc, sys, app\n"
        "def look():\n"
        "    print(sys.getswitchinterval(), gc.get_freeze_count() > 50_000)\n"
        "async def serve():\n"
        "    look()\n"
        "    async with app.app.router.lifespan_context(app.app):\n"
        "        look()\n"
        "    look()\n"
        "asyncio.run(serve())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=installation.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == ["0.005 False", "0.001 True", "0.005 False"]
