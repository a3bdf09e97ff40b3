"""The command line: the same verbs as the routes, and one table of exit codes."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from backups import documents, text
from backups.errors import LeaseHeld, SourceUnknown
from backups.model import Run
from backups.service import BackupService
from backups.terminal import terminal_progress
from backups.wiring import open_service
from shared.errors import AppError, SettingsError
from shared.logs import configure_logging
from shared.settings import load_settings, read_environment

DONE, FAILED, USAGE, UNHEALTHY, BUSY = 0, 1, 2, 3, 4

# The most particular class comes first; everything else is FAILED.
_EXIT_CODES: tuple[tuple[type[AppError], int], ...] = (
    (SettingsError, USAGE),
    (SourceUnknown, USAGE),
    (LeaseHeld, BUSY),
)


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. Argparse exits with 2 on a usage error itself."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        settings = load_settings(read_environment())
        watched = sys.stderr.isatty() and not options.json
        configure_logging(settings.log_format, level=logging.WARNING if watched else logging.INFO)
        with open_service(settings) as service:
            command: Callable[[BackupService, argparse.Namespace], int] = options.command
            return _flushed(command(service, options))
    except AppError as error:
        return _explain(error, as_json=options.json)
    except BrokenPipeError:
        # Nobody reads any more (`... | head`); what is left is flushed to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        print("Stopped. See how far it came with: python -m backups runs", file=sys.stderr)
        return 128 + signal.SIGINT


def _flushed(exit_code: int) -> int:
    sys.stdout.flush()  # here, and not at the interpreter's end, where a fault is not caught
    return exit_code


def _run(service: BackupService, options: argparse.Namespace) -> int:
    with terminal_progress(sys.stderr) as progress:
        run = service.begin_backup(only=options.only, progress=progress).execute()
    made = service.catalogue.get(run.set_id) if run.set_id else None
    if options.json:
        document = documents.run_document(run)
        _print_json({**document, "set": documents.set_document(made) if made else None})
    elif made is not None:
        print(text.set_made(made, service.status()))
    return _outcome(run, options)


def _verify(service: BackupService, options: argparse.Namespace) -> int:
    with terminal_progress(sys.stderr) as progress:
        run = service.begin_verify(options.set, progress=progress).execute()
    if options.json:
        _print_json(documents.run_document(run))
    elif run.error is None:
        print(f"Set {run.set_id} was read back and is proven.")
    return _outcome(run, options)


def _outcome(run: Run, options: argparse.Namespace) -> int:
    if run.error is None:
        return DONE
    if not options.json:
        print(f"{run.error.message}\n{run.error.hint}", file=sys.stderr)
    return FAILED


def _status(service: BackupService, options: argparse.Namespace) -> int:
    status = service.status()
    if options.json:
        _print_json(documents.status_document(status))
    else:
        print(text.status(status))
    return DONE if status.health.healthy else UNHEALTHY


def _list(service: BackupService, options: argparse.Namespace) -> int:
    if error := service.refresh():
        print(f"From local records only: {error.message}\n{error.hint}", file=sys.stderr)
    found, more = service.list_sets(options.limit, options.before)
    if options.json:
        _print_json(documents.sets_document(found, more=more))
    else:
        print(text.sets(found, more=more))
    return DONE


def _runs(service: BackupService, options: argparse.Namespace) -> int:
    if options.run is not None:
        run = service.runlog.get(options.run)
        found, more = [run], False
        document = documents.run_document(run)
    else:
        found, more = service.list_runs(options.limit, options.before)
        document = documents.runs_document(found, more=more)
    if options.json:
        _print_json(document)
    else:
        print(text.runs(found, more=more))
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m backups",
        description="Backups of the bot's databases.",
        epilog="Exit codes: 0 done, 1 failed, 2 usage or settings, 3 unhealthy, 4 another run is"
        " in progress.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, act: Callable[[BackupService, argparse.Namespace], int], help_: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help_, description=help_)
        added.add_argument("--json", action="store_true", help="print one JSON document")
        added.set_defaults(command=act)
        return added

    run = command("run", _run, "Make a set now: snapshot, store, read back, prove.")
    run.add_argument("--only", metavar="SOURCE", help="one source; the set does not protect")
    command("status", _status, "Health, schedule, last run and newest restore point.")
    _add_paging(command("list", _list, "Restore points, newest first."))
    runs = command("runs", _runs, "The run log, newest first, or one run.")
    runs.add_argument("run", nargs="?", metavar="ID")
    _add_paging(runs)
    verify = command("verify", _verify, "Prove a stored set again, by default the newest.")
    verify.add_argument("set", nargs="?", metavar="SET")
    return parser


def _add_paging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=_limit, default=100, metavar="N", help="default: 100")
    parser.add_argument("--before", metavar="ID", help="only what is older than this id")


def _limit(given: str) -> int:
    if not given.isdigit() or not 1 <= int(given) <= 100_000:
        raise argparse.ArgumentTypeError("a whole number from 1 to 100000")
    return int(given)


def _explain(error: AppError, *, as_json: bool) -> int:
    exit_code = next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), FAILED)
    if as_json:
        _print_json(documents.error_document(0, "The command failed", error))
    print(f"{error.message}\n{error.hint}", file=sys.stderr)
    return exit_code


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2))


def _on_sigterm(_signal: int, _frame: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)
