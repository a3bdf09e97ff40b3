"""Log lines: their two forms, the named values in them, and the files beside the stream."""

from __future__ import annotations

import io
import json
import logging
import re
import stat
import sys
import threading
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path

import pytest

from shared import logs
from shared.logs import LogFormat, configure_logging, fields, lines_of_run, log_files

OURS = ("app", "backups", "shared")
LINES_OF_THE_SERVER: tuple[tuple[LogFormat, int], ...] = (("human", 0), ("json", 2))
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (.*)")


@pytest.fixture(autouse=True)
def _restored_loggers() -> Iterator[None]:
    names = (*OURS, *logs._THIRD_PARTY, *logs._UVICORN, "backups.tokens", "backups.sessions")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


def without_time(line: str) -> str:
    match = LINE.fullmatch(line)
    assert match, line
    return match[1]


def test_a_human_line_names_time_level_logger_and_values() -> None:
    """One line: time with Z, level, logger, message, then the values by name."""
    stream = io.StringIO()
    configure_logging("human", stream)

    logging.getLogger("backups.tokens").info(
        "stored %s", "it", extra=fields(key="backups/tokens.db", size=7, absent=None)
    )

    assert without_time(stream.getvalue().rstrip("\n")) == (
        "INFO backups.tokens: stored it key=backups/tokens.db size=7"
    )


def test_a_json_line_is_one_object() -> None:
    """One object per line, whatever is in the message and the values."""
    stream = io.StringIO()
    configure_logging("json", stream)

    logging.getLogger("shared").warning(
        'two\nlines "quoted" ä', extra=fields(path=Path("/a"), count=3, absent=None)
    )

    [line] = stream.getvalue().splitlines()
    document = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document.pop("time"))
    assert document == {
        "level": "warning",
        "logger": "shared",
        "message": 'two\nlines "quoted" ä',
        "path": "/a",
        "count": 3,
    }


def test_an_exception_is_written_in_both_forms() -> None:
    """A traceback follows the line for a person, and is one string for a machine."""
    texts = {}
    for log_format in ("human", "json"):
        stream = io.StringIO()
        configure_logging(log_format, stream)
        try:
            raise KeyError("the cause")
        except KeyError:
            logging.getLogger("app").exception("it failed", extra=fields(step="seal"))
        texts[log_format] = stream.getvalue()

    first, *rest = texts["human"].splitlines()
    assert without_time(first) == "ERROR app: it failed step=seal"
    assert rest[0].startswith("Traceback")
    assert rest[-1] == "KeyError: 'the cause'"
    [line] = texts["json"].splitlines()
    assert json.loads(line)["exception"].endswith("KeyError: 'the cause'")


@pytest.mark.parametrize("name", OURS)
def test_every_part_of_ours_is_written(name: str) -> None:
    """The app, the backups and what they share all write to the stream, from INFO on."""
    stream = io.StringIO()
    configure_logging("human", stream)

    logging.getLogger(f"{name}.part").info("told")
    logging.getLogger(f"{name}.part").debug("not told")

    assert without_time(stream.getvalue().rstrip("\n")) == f"INFO {name}.part: told"


def test_configuring_again_does_not_double_the_lines() -> None:
    """The second call replaces the first, and lines do not reach the root logger as well."""
    first, second, root = io.StringIO(), io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(root)
    logging.getLogger().addHandler(handler)
    try:
        configure_logging("human", first)
        configure_logging("human", second)
        logging.getLogger("app").info("once")
    finally:
        logging.getLogger().removeHandler(handler)

    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1
    assert root.getvalue() == ""


def test_the_default_stream_is_standard_error_of_the_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A standard error that was replaced after the import is the one that is written to."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)

    configure_logging("human")
    logging.getLogger("app").info("here")

    assert "app: here" in stream.getvalue()


def test_every_line_of_a_run_has_its_id(tmp_path: Path) -> None:
    """Inside the block each line names the run: of any logger, in both formats and in files."""
    texts = {}
    for log_format in ("human", "json"):
        stream = io.StringIO()
        configure_logging(log_format, stream)
        with lines_of_run("R1"), log_files(tmp_path, {f"{log_format}.log": ["backups.tokens"]}):
            logging.getLogger("backups.tokens").info("stored", extra=fields(size=7))
            logging.getLogger("shared.store.spaces").warning("slow")
            logging.getLogger("botocore.retries").warning("again")
            with lines_of_run("R2"):
                logging.getLogger("backups.run").info("inner")
            logging.getLogger("backups.run").info("of another", extra=fields(run="R0"))
        logging.getLogger("app").info("outside")
        texts[log_format] = stream.getvalue().splitlines()
        (filed,) = (tmp_path / f"{log_format}.log").read_text().splitlines()
        assert filed.endswith("INFO backups.tokens: stored size=7 run=R1")

    assert [without_time(line) for line in texts["human"]] == [
        "INFO backups.tokens: stored size=7 run=R1",
        "WARNING shared.store.spaces: slow run=R1",
        "WARNING botocore.retries: again run=R1",
        "INFO backups.run: inner run=R2",
        "INFO backups.run: of another run=R0",
        "INFO app: outside",
    ]
    runs = [json.loads(line).get("run") for line in texts["json"]]
    assert runs == ["R1", "R1", "R1", "R2", "R0", None]


def test_a_thread_of_a_run_has_its_id() -> None:
    """A thread that runs in a copy of the context logs as a part of the run."""
    stream = io.StringIO()
    configure_logging("human", stream)
    log = logging.getLogger("backups.tokens")

    with lines_of_run("R1"):
        context = copy_context()
        for target in (lambda: context.run(log.info, "with"), lambda: log.info("without")):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()

    lines = [without_time(line) for line in stream.getvalue().splitlines()]
    assert lines == ["INFO backups.tokens: with run=R1", "INFO backups.tokens: without"]


def test_the_server_logs_json_too() -> None:
    """As JSON, what uvicorn logs is in the same form and place; for a person it is its own."""
    for log_format, lines in LINES_OF_THE_SERVER:
        stream = io.StringIO()
        configure_logging(log_format, stream)
        logging.getLogger("uvicorn.error").info("Application startup complete.")
        logging.getLogger("uvicorn.access").info('%s - "%s"', "127.0.0.1:1", "GET /healthz")
        documents = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert len(documents) == lines
    assert documents[1]["message"] == '127.0.0.1:1 - "GET /healthz"'


def test_log_files_are_private_and_hold_their_loggers_only(tmp_path: Path) -> None:
    """Each file is 0600 in a 0700 directory and has the lines of the loggers named for it."""
    configure_logging("json", io.StringIO())
    directory = tmp_path / "logs"

    with log_files(
        directory, {"tokens.log": ["backups.tokens", "app"], "sessions.log": ["backups.sessions"]}
    ):
        logging.getLogger("backups.tokens").info("one", extra=fields(rows=1))
        logging.getLogger("backups.sessions").info("two")
        logging.getLogger("app").info("three")
        logging.getLogger("backups").info("four")

    tokens = (directory / "tokens.log").read_text().splitlines()
    sessions = (directory / "sessions.log").read_text().splitlines()
    assert [without_time(line) for line in tokens] == [
        "INFO backups.tokens: one rows=1",
        "INFO app: three",
    ]
    assert [without_time(line) for line in sessions] == ["INFO backups.sessions: two"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_log_files_are_open_only_inside_the_block(tmp_path: Path) -> None:
    """After the block, also one that raised, nothing is written and no handler is left."""
    configure_logging("human", io.StringIO())
    logger = logging.getLogger("backups.tokens")

    def work_that_fails() -> None:
        with log_files(tmp_path, {"tokens.log": ["backups.tokens"]}):
            logger.info("inside")
            raise KeyError

    with pytest.raises(KeyError):
        work_that_fails()
    logger.info("outside")

    assert logger.handlers == []
    assert "inside" in (tmp_path / "tokens.log").read_text()
    assert "outside" not in (tmp_path / "tokens.log").read_text()


def test_lines_are_added_to_a_file_that_is_there(tmp_path: Path) -> None:
    """A second run appends; what the first wrote stays."""
    configure_logging("human", io.StringIO())

    for text in ("first", "second"):
        with log_files(tmp_path, {"tokens.log": ["backups.tokens"]}):
            logging.getLogger("backups.tokens").info(text)

    lines = (tmp_path / "tokens.log").read_text().splitlines()
    assert [without_time(line) for line in lines] == [
        "INFO backups.tokens: first",
        "INFO backups.tokens: second",
    ]


def test_log_files_rotate_and_stay_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full file moves aside, five old ones are kept, and each of them is 0600."""
    configure_logging("human", io.StringIO())
    monkeypatch.setattr(logs, "_LOG_FILE_BYTES", 200)

    with log_files(tmp_path, {"tokens.log": ["backups.tokens"]}):
        for number in range(60):
            logging.getLogger("backups.tokens").info("line %s", number)

    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["tokens.log", *(f"tokens.log.{number}" for number in range(1, 6))]
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    assert all(path.stat().st_size <= 200 for path in tmp_path.iterdir())
    assert "line 59" in (tmp_path / "tokens.log").read_text()


def test_a_directory_that_cannot_be_written_only_warns(tmp_path: Path) -> None:
    """A log that cannot be opened costs a warning, and the work goes on."""
    stream = io.StringIO()
    configure_logging("human", stream)
    (tmp_path / "file").touch()
    worked = False

    with log_files(tmp_path / "file" / "logs", {"tokens.log": ["backups.tokens"]}):
        logging.getLogger("backups.tokens").info("working")
        worked = True

    warning, line = stream.getvalue().splitlines()
    assert worked
    assert without_time(warning).startswith("WARNING shared.logs: log files cannot be written: ")
    assert warning.endswith(f" path={tmp_path / 'file' / 'logs'}")
    assert without_time(line) == "INFO backups.tokens: working"


def test_no_directory_means_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a directory nothing is written beside the stream."""
    monkeypatch.chdir(tmp_path)
    configure_logging("human", io.StringIO())

    with log_files(None, {"tokens.log": ["backups.tokens"]}):
        logging.getLogger("backups.tokens").info("working")

    assert list(tmp_path.iterdir()) == []
