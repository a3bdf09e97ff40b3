"""What the processes of tests rest on: a fork of a warmed-up Python is a Python of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.warm_python import WarmPopen, run_warm

PROGRAM = """
import atexit, os, signal, sys, threading, time

class Left:
    def __del__(self):
        print("collected", file=sys.stderr)

atexit.register(print, "at exit")
left = Left()
left.itself = left
del left
what = sys.argv[1]
if what == "tell":
    print(sys.argv[1:], os.getcwd(), __name__, sys.argv[0], flush=True)
    told = [name for name in sorted(os.environ) if "FAKE" not in name]  # tests/dates.sh
    print(told, time.localtime(0).tm_hour, sys.stdin.read(), sep="\\n")
    files = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    own = [f for f in files if os.path.exists(f) and "faketime" not in os.readlink(f)]
    print(len(own), signal.getsignal(signal.SIGCHLD))
elif what == "thread":
    threading.Timer(0.05, print, ["thread"]).start()
elif what == "exit":
    sys.exit(7)
elif what == "complain":
    sys.exit("a complaint")
elif what == "fail":
    raise ValueError("what failed")
elif what == "wait":
    print("waiting", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the program as a module."""
    (tmp_path / "told.py").write_text(PROGRAM)
    return tmp_path


def command(*arguments: str) -> list[str]:
    """The program's command line."""
    return [sys.executable, "-m", "told", *arguments]


@pytest.mark.parametrize("what", ["tell", "thread", "exit", "complain", "fail", "nothing"])
def test_it_is_a_python_of_its_own(folder: Path, what: str) -> None:
    """It sees, prints and ends with what `python -m` does, up to the paths in a traceback.

    At its end it collects what is left in cycles. Python itself does so at a moment that depends on
    what it has imported, and may be too late to print.
    """
    env = {"PYTHONWARNINGS": "error", "GIVEN": "1", "TZ": "Etc/GMT-5"}
    warm = run_warm(command(what, "more"), cwd=folder, env=env)
    cold = subprocess.run(
        command(what, "more"),
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (warm.returncode, warm.stdout) == (cold.returncode, cold.stdout)
    assert "collected" in warm.stderr.splitlines()
    assert _last_words(warm.stderr) == _last_words(cold.stderr)


def _last_words(text: str) -> list[str]:
    return [line for line in text.splitlines() if line != "collected"][-1:]


def test_it_is_killed_with_its_group(folder: Path) -> None:
    """A signal ends it as any child, and a session of its own is one from the start."""
    with WarmPopen(
        command("wait"), cwd=folder, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert os.getpgid(process.pid) == process.pid
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.01)
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=30) == -signal.SIGTERM
        assert process.poll() == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_many_at_once(folder: Path) -> None:
    """Threads start their processes side by side, and each gets the end of its own."""
    codes: dict[str, int] = {}

    def start(what: str, number: int) -> None:
        codes[f"{what}-{number}"] = run_warm(command(what), cwd=folder).returncode

    asked = [(what, number) for what in ("exit", "fail", "nothing") for number in range(5)]
    threads = [threading.Thread(target=start, args=one) for one in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {"exit": 7, "fail": 1, "nothing": 0}
    assert codes == {f"{what}-{number}": expected[what] for what, number in asked}


def test_only_a_module_is_taken(folder: Path) -> None:
    """A command that is no `python -m` is refused and not run as something else."""
    with pytest.raises(AssertionError, match="echo"):
        run_warm(["echo", "-m", "told"], cwd=folder)
