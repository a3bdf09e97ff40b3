"""`python -m benchmarks`: that it runs, and what it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import TOPICS, main, parser
from benchmarks.topics import bot, bot_traffic
from tests.support.installation import REPOSITORY

PAGE = (REPOSITORY / "docs" / "performance.md").read_text()
FIELDS = {"topic", "megabytes", "who", "what", "unit", "median", "least", "most", "values"}


def test_a_quick_run_prints_its_table_and_leaves_its_results(tmp_path: Path) -> None:
    """A run on tiny databases measures ours sealed in two ways, and writes what it printed."""
    path = tmp_path / "results.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--quick", "--peers", "none", "--only", "backup"),
            *("--sizes", "0.1", "--runs", "1", "--results", str(path)),
        ],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(path.read_text())
    assert document.keys() == {
        *("format", "command", "host", "versions", "notes", "measures", "budgets")
    }
    found = {
        (one["who"], one["what"]): one for one in document["measures"] if one["topic"] == "backup"
    }
    for sealing in ("plain", "zstd"):
        for way in ("in the app", "as a command"):
            sent, whole = (
                found[f"ours {way}, {sealing}", until]
                for until in ("to the last data PUT", "with the proof")
            )
            assert sent.keys() == FIELDS
            assert 0 < sent["median"] < whole["median"]
            assert f"ours {way}, {sealing}" in done.stdout
    assert {one["what"] for one in document["measures"] if one["topic"] == "stages"} >= {
        *("snapshot", "store", "proof", "manifest")
    }
    assert list(tmp_path.iterdir()) == [path], "it leaves nothing else behind"


@pytest.mark.soak
def test_a_quick_run_measures_the_bot(tmp_path: Path) -> None:
    """The inbox, a change of a product, `GET /` and a running bot have their rows."""
    path = tmp_path / "results.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--quick", "--peers", "none", "--only", "bot"),
            *("--runs", "1", "--results", str(path)),
        ],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measures = json.loads(path.read_text())["measures"]
    found = {one["what"]: one for one in measures if one["topic"] == bot.TOPIC}
    assert found.keys() == {
        *(bot.LOOK, f"{bot.CHANGE}: processor time", bot.FIRST_FRONT, bot.FRONT),
        *(bot_traffic.STORED, bot_traffic.STORED_P99, bot_traffic.INBOX),
        *(bot_traffic.HELD_MEMORY, bot_traffic.HELD_SECONDS),
    }
    assert all(one["least"] > 0 for one in found.values())


# Python as after `make run` alone: what only requirements-dev.txt has cannot be imported.
_RUNTIME_ALONE = """
import re, runpy, sys
from importlib.metadata import packages_distributions
from pathlib import Path

def locked(name):
    text = Path(name).read_text()
    names = re.findall(r"^([\\w.-]+)==", text, re.MULTILINE)
    return {name.replace("_", "-").lower() for name in names}

only_dev = locked("requirements-dev.txt") - locked("requirements.txt")
hidden = {
    module for module, names in packages_distributions().items()
    if all(name.replace("_", "-").lower() in only_dev for name in names)
}
assert {"pytest", "trustme"} <= hidden

class Hides:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hides())
runpy.run_module("benchmarks", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("option", "code", "said"),
    [("--help", 0, "usage: python -m benchmarks"), ("--quick", 2, "make bench installs them")],
)
def test_without_the_packages_of_the_tests_it_says_what_to_do(
    option: str, code: int, said: str
) -> None:
    """After `make run` alone, `--help` prints help, and measuring names the command to type."""
    done = subprocess.run(
        [sys.executable, "-c", _RUNTIME_ALONE, option],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_page_names_every_topic_and_option() -> None:
    """Who reads docs/performance.md finds each option and each topic of the command."""
    options = {name for action in parser()._actions for name in action.option_strings}
    named = {name for name in options if name.startswith("--")} - {"--help"}
    assert sorted(name for name in named if f"`{name}" not in PAGE and f" {name}" not in PAGE) == []
    assert sorted(name for name in TOPICS if f"`{name}`" not in PAGE) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sizes", "nonsense"], "name megabytes above 0"),
        (["--sizes", "0"], "name megabytes above 0"),
        (["--runs", "0"], "not a number of rounds"),
        (["--peers", "tar"], "choose from aws"),
        (["--results", "/nowhere/results.json"], "is no folder that can be written"),
        (["--results", "/nowhere/results.json", "--shown"], "measure without --shown"),
        (["--results", __file__, "--shown"], "measure without --shown"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    """The command ends with 2 and says what would do; nobody waits for a result that is lost."""
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert said in capsys.readouterr().err
