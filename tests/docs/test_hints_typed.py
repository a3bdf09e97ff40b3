"""Each state of status is made, the command in its hint is typed, and the state is over."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from backups.decisions.health import AMBER_CODES, FOUND_WARNING_CODES, PROBLEM_CODES
from backups.host.records import open_records
from backups.host.state import HostState
from shared.clock import SystemClock
from tests.docs.test_commands_parse import commands_in, filled_in
from tests.support import states
from tests.support.installation import REPOSITORY, installation_in
from tests.support.s3_server import S3Server
from tests.support.second import SecondBucket
from tests.support.states import Desk

# Of the plan of a restore, and of a live database in it.
NOT_OF_STATUS = {
    "status_unknown",  # of an alert, where status itself fails
    *("hollow", "not_proven", "unsigned", "unsigned_accepted", "foreign_source", "newer_unread"),
    *("identity_exposed", "identity_missing", "identity_wrong", "schema_changed", "schema_newer"),
    *("mounted_alone", "store_not_asked", "time_not_covered"),
}
# What a restore prints below "The next restore point is made at …, or now: ./bot backups run".
RELIEF = "With that, status turns green"
IN_ENV = "a line of .env is changed, and the app restarted"
AT_THE_APP = "the app is started or restarted as this host does it"
AT_THE_STORE = "somebody looks into the bucket, and at who has its key"
BY_ITSELF = "the app ends it by itself; the command shows why, or does it at once"

# What a person does elsewhere than at `./bot`: why, and which commands the hint has all the same.
ELSEWHERE: dict[str, tuple[str, list[str]]] = {
    "alerts_fail": (IN_ENV, ["doctor --notify"]),
    "cannot_begin": ("the hint is that of the error, such as a full disk", []),
    "changes_not_stored": (BY_ITSELF, ["doctor", "run"]),
    "chain_object_refused": (AT_THE_STORE, ["list"]),
    "documents_gone": ("the app brings them back", ["versions from-second"]),
    "copy_deletable": (AT_THE_STORE, ["doctor --write"]),
    "copy_disturbed": (AT_THE_STORE, []),
    "copy_failed": (BY_ITSELF, []),
    "copy_refused": ("what is damaged is in the first place", ["copy", "verify"]),
    "database_unreachable": ("the server, the network or DATABASE_URL", []),
    "document_unread": (AT_THE_STORE, ["list"]),
    "drill_not_possible": ("the identity stays elsewhere", ["drill --identity FILE"]),
    "first_place_away": (BY_ITSELF, ["doctor"]),
    "follow_stopped": (BY_ITSELF, ["doctor"]),
    "inbox_stuck": (AT_THE_APP, []),
    "inbox_unreadable": (AT_THE_APP, []),
    "lease_stuck": ("the process that hangs is ended", []),
    "local_sets_left": ("only a person says that nobody needs them", ["list"]),
    "mark_key_unknown": (IN_ENV, []),
    "mark_wrong": (AT_THE_STORE, ["restore ID --to DIR", "list"]),
    "marks_unchecked": (IN_ENV, []),
    "nobody_told": (IN_ENV, ["doctor --notify"]),
    "not_offsite": (IN_ENV, []),
    "not_same_instant": ("the mode of a file is changed", []),
    "not_scheduled": (AT_THE_APP, ["run"]),
    "not_wal": ("the file is switched with sqlite3", []),
    "over_budget": (IN_ENV, []),
    "points_without_set": ("the next prune ends it", ["prune --dry-run"]),
    "prune_failed": ("the hint is that of the error, or shows it", ["prune"]),
    "receiver_broken": (IN_ENV, ["doctor --notify"]),
    "records_damaged": ("the file that was moved aside is looked at, and removed", []),
    "records_unusable": ("the owner, the mode or the disk of BACKUP_DIR", []),
    "source_finding": ("another program has to check it", ["restore ID --to DIR"]),
    "thread_failing": (AT_THE_APP, []),
    "thread_stuck": (AT_THE_APP, []),
    "token_key_lost": (IN_ENV, []),
    "unknown_setting": (IN_ENV, []),
    "verdicts_unsigned": (AT_THE_STORE, ["verify SET"]),
}


@dataclass(frozen=True)
class Row:
    """How a state is made, and which of the commands in its hint are typed; None: all, in order."""

    code: str
    made: Callable[[Path], AbstractContextManager[Desk]]
    typed: tuple[int, ...] | None = None


ROWS = (
    Row("last_run_failed", states.last_run_failed),
    Row("no_restore_point", states.no_restore_point, (0,)),
    Row("overdue", states.overdue),
    Row("points_missing", states.points_missing),
    Row("not_seen", states.not_seen, (1,)),
    Row("started_empty", states.started_empty),
    Row("suspect", states.suspect, (1,)),
    Row("suspect", states.suspect, (0,)),
    Row("points_suspect", states.a_doubted_chain, (0,)),
    Row("points_suspect", states.a_doubted_chain, (1, 2)),
    Row("chain_differs", states.a_chain_that_differs),
    Row("two_writers", states.another_writer),
    Row("future_set", states.future_set),
    Row("source_missing", states.source_missing),
    Row("source_unreadable", states.source_unreadable),
    Row("host_is_empty", states.host_is_empty),
    Row("drill_failed", states.drill_failed),
    Row("drill_overdue", states.drill_overdue),
    Row("keys_unknown", states.keys_unknown),
    Row("attempts_unknown", states.attempts_unknown),
    Row("last_run_interrupted", states.last_run_interrupted),
    Row("earlier_installation", lambda folder: states.another_writer(folder, later=False)),
    Row("sets_unsigned", lambda folder: states.another_writer(folder, marked=False, later=False)),
    Row("kit_not_kept", states.kit_not_kept, (1,)),
    Row("updates_set_aside", states.updates_set_aside),
)
# Made where a second place is, by the test below.
WITH_A_SECOND_PLACE = ("copy_behind",)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.code}-{row.typed}")
def test_the_command_in_the_hint_ends_the_state(
    tmp_path: Path, row: Row, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is typed as it stands, succeeds, and status does not say it any more."""
    with row.made(tmp_path) as desk:
        found = desk.finding(row.code)
        assert found is not None
        hint = found.hint
        commands = list(commands_in(hint))
        chosen = commands if row.typed is None else [commands[number] for number in row.typed]
        assert chosen, hint
        for command in chosen:
            newest = next(desk.bench.service.catalogue.sets(), None)
            words = [newest.id if word == "SET" and newest else word for word in command]
            code = desk.type(words, monkeypatch)
            said = capsys.readouterr()
            # A run whose set looks damaged says so; the hint goes on with what is then to do.
            assert code == 0 or (code == 3 and words[1] == "run"), (words, said)
            desk.clock.advance(seconds=5)
            if RELIEF in said.out and desk.finding(row.code):  # the app makes it within a minute
                assert desk.type(["backups", "run"], monkeypatch) == 0
        assert desk.finding(row.code) is None, (desk.typed, hint)


def test_what_the_second_place_lacks_is_copied(tmp_path: Path, s3_server: S3Server) -> None:
    """`copy_behind` ends with the command in its hint."""
    bucket = SecondBucket.new(s3_server)
    host = installation_in(tmp_path, **bucket.environment(COPY_LOCK_DAYS="1")).make_databases()
    host.json("run")
    with closing(open_records(host.backup_dir.path)) as records:
        since = SystemClock().now() - timedelta(days=2)
        HostState(records).second.begin(f"{bucket.name} at {bucket.settings.endpoint}", since)
    (found,) = [
        one for one in host.json("status", exit_code=3)["problems"] if one["code"] == "copy_behind"
    ]
    ((package, *command),) = commands_in(found["hint"])
    assert package == "backups"
    assert host.cli(*command).returncode == 0
    after = host.json("status")
    assert "copy_behind" not in [one["code"] for one in (*after["problems"], *after["warnings"])]


# --- completeness -------------------------------------------------------------------------


def hints_of_the_code() -> dict[str, list[str]]:
    """The code of each finding that the program can make -> the commands in its text."""
    found: dict[str, list[str]] = {}
    for path in sorted((REPOSITORY / "backups").rglob("*.py")):
        tree = ast.parse(path.read_text())
        named = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding"):
                continue
            code, *texts = (named.get(getattr(one, "id", ""), one) for one in node.args)
            if isinstance(code, ast.Constant):
                found.setdefault(str(code.value), []).extend(
                    " ".join(command[1:]) for text in texts for command in commands_below(text)
                )
    return found


def commands_below(node: ast.AST) -> Iterator[list[str]]:
    """The commands in the texts of an expression."""
    inner = {
        id(part)
        for text in ast.walk(node)
        if isinstance(text, ast.JoinedStr)
        for part in text.values
    }
    for text in ast.walk(node):
        if isinstance(text, ast.JoinedStr):
            yield from commands_in(filled_in(text))
        elif isinstance(text, ast.Constant) and id(text) not in inner:
            yield from commands_in(str(text.value))


def test_every_code_of_status_has_a_row_or_a_reason() -> None:
    """A new one without either fails; and none of them is both."""
    codes = {
        *hints_of_the_code(),
        *PROBLEM_CODES,
        *FOUND_WARNING_CODES,
        *AMBER_CODES,
    } - NOT_OF_STATUS
    typed = {row.code for row in ROWS} | {*WITH_A_SECOND_PLACE}
    assert typed.isdisjoint(ELSEWHERE)
    assert codes - NOT_OF_STATUS == typed | ELSEWHERE.keys()


@pytest.mark.parametrize("code", sorted(ELSEWHERE))
def test_what_is_done_elsewhere_names_these_commands(code: str) -> None:
    """The hint has the commands of its entry, and no other: they show why, and end nothing."""
    _, expected = ELSEWHERE[code]
    found = {re.sub(r"\d{8}T\d{6}Z", "ID", one) for one in hints_of_the_code().get(code, [])}
    assert found == {*expected}
