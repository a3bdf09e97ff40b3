"""What comes from outside reaches no terminal, log, message or page as it is."""

from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from backups.alerts.notifier import AppriseNotifier
from backups.cli.output import print_json, show
from backups.decisions.alarms import Message
from backups.format import naming
from backups.page import rendering
from shared.logs import HumanFormatter, JsonFormatter, fields
from tests.support.bench import PREFIX
from tests.support.installation import Installation, bot_secrets, installation_in
from tests.support.listener import Listener

ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202e\x9b31m"
SHOWN = r"\x1b[2J\x1b]0;owned\x07\u202e\x9b31m"
# All but the ends of lines: no control, no format character, no separator.
RAW = re.compile("[^\n -\x7e\xa1-\u1fff\u2010-\u2027\u2030-\u205e\u2070-\ud7ff]")
OLD = "20250704T010000Z"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An installation with a set, and a planted one that is all escape sequences."""
    installation = installation_in(tmp_path, **bot_secrets()).make_databases()
    done = installation.cli("run")
    assert done.returncode == 0, done.stderr
    (path,) = installation.stored(f"{PREFIX}sets").glob("*/manifest.json")
    good = json.loads(path.read_bytes())
    good.pop("mac", None)
    for number, change in enumerate((readable, broken_rows, broken_kind)):
        set_id = f"{OLD[:-2]}{number}Z"
        document = change(json.loads(json.dumps(good)))
        document |= {"id": set_id, "instant": f"2025-07-04T01:00:0{number}Z"}
        for stored in document["objects"]:
            stored["key"] = f"{PREFIX}{stored['source']}_2025-07-04.db"
        planted = installation.stored(naming.manifest_key(PREFIX, set_id))
        planted.parent.mkdir(parents=True)
        planted.write_text(json.dumps(document))
    return installation


def readable(document: dict[str, Any]) -> dict[str, Any]:
    """A manifest that is read, with escapes wherever a text may have any."""
    for stored in document["objects"]:
        stored |= {"rows": {ESCAPES: 7}, "finding": ESCAPES}
    return document | {"suspect": [ESCAPES, f"first\nsecond {ESCAPES}"], "application": ESCAPES}


def broken_rows(document: dict[str, Any]) -> dict[str, Any]:
    """One whose fault is in a member that is called by escapes."""
    document["objects"][0]["rows"] = {ESCAPES: -1}
    return document


def broken_kind(document: dict[str, Any]) -> dict[str, Any]:
    """One with escapes in the place of a word."""
    return document | {"kind": ESCAPES, "format": 1}


@pytest.mark.parametrize(
    "command",
    [
        ["list"],
        ["list", "--json"],
        ["status"],
        ["restore", OLD],
        ["restore", OLD, "--to", f"missing/{ESCAPES.replace('/', '')}/x"],
        ["verify", OLD],
        ["verify", f"none-{ESCAPES}"],
        ["restore", f"none-{ESCAPES}"],
        ["report"],
    ],
    ids=" ".join,
)
def test_no_command_prints_what_a_terminal_obeys(
    installation: Installation, command: list[str]
) -> None:
    """Planted manifests, ids and paths are shown: of no command is a raw control printed."""
    done = installation.cli(*command)
    assert not RAW.search(done.stdout), ascii(RAW.search(done.stdout))
    assert not RAW.search(done.stderr), ascii(RAW.search(done.stderr))
    assert "Traceback" not in done.stderr


def test_what_is_planted_is_shown(installation: Installation) -> None:
    """The text is not swallowed: a person sees what somebody has written."""
    done = installation.cli("list")
    assert "objects.0.rows" in done.stderr
    assert r"\x1b[2J" in done.stderr
    assert r"first\nsecond" in installation.cli("list", "--json").stdout.replace("\\\\", "\\")


def test_a_printed_text_has_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of ours stay; `show` writes to the stream that it is given."""
    show(f"one {ESCAPES}\ntwo")
    stream = io.StringIO()
    show(ESCAPES, file=stream)
    assert capsys.readouterr().out == f"one {SHOWN}\ntwo\n"
    assert stream.getvalue() == f"{SHOWN}\n"
    print_json({"text": ESCAPES})
    assert json.loads(capsys.readouterr().out) == {"text": ESCAPES}


def record(error: Exception | None = None) -> logging.LogRecord:
    """A line of a log with escapes in its message, a value and a traceback."""
    found = (type(error), error, None) if error else None
    made = logging.LogRecord("backups.run", logging.INFO, "", 0, "read %s", (ESCAPES,), found)
    made.__dict__.update(fields(key=ESCAPES))
    return made


@pytest.mark.parametrize("formatter", [HumanFormatter(), JsonFormatter()])
def test_no_line_of_a_log_has_it(formatter: logging.Formatter) -> None:
    """Neither in the message, nor in a value, nor in a traceback."""
    for error in (None, ValueError(f"first\nsecond {ESCAPES}")):
        text = formatter.format(record(error))
        assert not RAW.search(text)
        assert r"[2J" in text


def test_no_page_has_it() -> None:
    """A bidirectional mark is shown in a page as well, and markup of ours stays markup."""
    template = rendering._templates.from_string("{{ text }} {{ text | commands }} {{ 7 }}")
    page = template.render(text=f"./bot backups list {ESCAPES}<b>")
    assert not RAW.search(page)
    assert "<code>./bot backups list</code>" in page
    assert "&lt;b&gt;" in page
    assert page.count(r"\u202e") == 2
    assert page.endswith(" 7")


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_no_message_has_it() -> None:
    """What is sent to people has the lines of ours, and shows the rest."""
    with Listener() as listener:
        notifier = AppriseNotifier((f"json://127.0.0.1:{listener.port}/",), None)
        message = Message(f"problem {ESCAPES}", f"one {ESCAPES}\ntwo")
        assert notifier.send(notifier.receivers[0], message)
        (heard,) = listener.heard
    told = json.loads(heard.body)
    assert not RAW.search(told["title"] + told["message"])
    assert told["title"] == f"problem {SHOWN}"
    assert "\ntwo" in told["message"]
