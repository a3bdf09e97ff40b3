"""The command line: the same verbs as the routes, and one table of exit codes.

One file, because what a command may do without settings, keys or the service is seen at one glance.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from datetime import datetime
from functools import partial
from pathlib import Path

from backups.cli import commands, deletion, keys, migrate, places
from backups.cli.commands import BUSY, DONE, FAILED, ONLY_LOOK, USAGE
from backups.cli.losses import LOSSES
from backups.cli.output import print_json, show
from backups.cli.owner import become_owner
from backups.cli.practice import DEFAULT_LOSS, practise
from backups.decisions.marks import unchecked
from backups.decisions.period import DEFAULT_SINCE
from backups.errors import (
    ConfirmationMissing,
    CopyInProgress,
    FileUnusable,
    IdentityInCheckout,
    KitNotShown,
    LeaseHeld,
    NoSecondPlace,
    NotDeletable,
    NotPinnable,
    PeriodInvalid,
    SetNotNamed,
    SourceUnknown,
)
from backups.operations.own_sets import LATEST
from backups.service import BackupService
from backups.vocabulary.second import SECOND
from backups.wiring import open_service
from shared.clock import read_time
from shared.errors import AppError, SettingsError
from shared.logs import configure_logging
from shared.settings.load import load_settings, read_called_from, read_environment
from shared.web.problem_documents import error_document

# The most particular class comes first; everything else is FAILED.
_EXIT_CODES: tuple[tuple[type[AppError], int], ...] = (
    (SettingsError, USAGE),
    (SourceUnknown, USAGE),
    (ConfirmationMissing, USAGE),
    (PeriodInvalid, USAGE),
    (SetNotNamed, USAGE),
    (NotPinnable, USAGE),
    (NotDeletable, USAGE),
    (KitNotShown, USAGE),
    (IdentityInCheckout, USAGE),
    (FileUnusable, USAGE),
    (NoSecondPlace, USAGE),
    (LeaseHeld, BUSY),
    (CopyInProgress, BUSY),
)

_WRITE_TO_THE_STORE = (
    *("run", "verify", "restore", "drill", "prune", "accept", "adopt"),
    *("pin", "unpin", "delete"),
)

_FORM_OF_TIME = "a UTC time such as 2026-11-22T09:41:07Z"

_Act = Callable[[BackupService, argparse.Namespace], int]

# What cron may do; the others are asked for what they show.
_CAN_BE_QUIET = ("run", "status", "verify", "drill", "prune", "doctor")
# What these show comes from settings that the service does not have.
_WITH_SETTINGS = {"doctor": commands.doctor, "kit": keys.kit}


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. Argparse exits with 2 on a usage error itself."""
    options = _parsed(arguments)
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        return _flushed(_dispatch(options))
    except AppError as error:
        return _explain(error, as_json=options.json)
    except BrokenPipeError:
        # Nobody reads any more (`... | head`); what is left is flushed to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        show("Interrupted. To see how far it got: ./bot backups runs", file=sys.stderr)
        return 128 + signal.SIGINT


def _dispatch(options: argparse.Namespace) -> int:
    if (alone := _WITHOUT_SETTINGS.get(options.name)) is not None:
        return alone(options)
    settings = load_settings(read_environment())
    watched = sys.stderr.isatty() and not options.json
    quiet = watched or options.quiet
    configure_logging(settings.log_format, level=logging.WARNING if quiet else logging.INFO)
    store = become_owner(settings)
    act: _Act = options.act
    if options.name in _WITH_SETTINGS:
        act = partial(_WITH_SETTINGS[options.name], settings=settings)
    has_keys = bool(settings.token_encryption_keys)
    if not has_keys and _needs_keys(options):
        raise SettingsError((f"TOKEN_ENCRYPTION_KEYS is not set, and `{options.name}` needs it",))
    with (
        open_service(settings, store=store, only_looks=options.name in ONLY_LOOK) as first,
        places.open_place(settings, first, options) as service,
    ):
        if has_keys and _makes_marks(options):
            service.refuse_another_key()
        if not has_keys and options.name in _SAYS_UNCHECKED:
            found = unchecked()
            show(f"{found.message}\n{found.hint}", file=sys.stderr)
        done = _quietly(act, service, options) if options.quiet else act(service, options)
        if has_keys and options.name in _WRITE_TO_THE_STORE:
            service.later_marks.finish()
        return done


def _quietly(act: _Act, service: BackupService, options: argparse.Namespace) -> int:
    """Do it, and show what it said only if it was not done well: cron sends what is shown."""
    if options.json:
        return act(service, options)
    with redirect_stdout(io.StringIO()) as said:
        code = act(service, options)
    if code != DONE:
        show(said.getvalue().rstrip("\n"))
    return code


_WITHOUT_SETTINGS: dict[str, Callable[[argparse.Namespace], int]] = {
    "keygen": keys.keygen,
    "migrate": migrate.migrate,
    "practice": practise,
}
# `status` and `doctor` have it among what they find.
_SAYS_UNCHECKED = ("list", "runs", "restore")
_WITHOUT_KEYS = ("status", "list", "runs", "doctor", "report")


def _needs_keys(options: argparse.Namespace) -> bool:
    """Whether a command writes to the store, or chooses a restore point."""
    if options.name == "restore":
        chooses = options.set == LATEST and options.from_path is None
        return not options.undo and (options.in_place or chooses)
    return options.name not in _WITHOUT_KEYS


def _makes_marks(options: argparse.Namespace) -> bool:
    """Whether a command makes sets, or documents with marks."""
    if options.name == "restore":
        return bool(options.in_place)
    return options.name in ("run", "verify", "drill", "accept", "adopt", "pin", "unpin", "delete")


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; what would be ignored silently is a usage error, too."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.name == "restore":
        named = options.set != LATEST
        given = options.from_path or options.identity
        if options.undo and (named or options.at or options.only or given):
            parser.error(
                "restore --undo takes no SET, --at, --only, --from or --identity: it undoes the "
                "last restore"
            )
        if named and options.at:
            parser.error(
                "restore takes a SET or --at TIME, not both: a SET names one restore point already"
            )
        if options.accept_unsigned and not (named or options.from_path):
            parser.error(
                "restore --accept-unsigned takes a SET (the id of one restore point), or --from"
            )
    if options.name in places.CAN_READ_SECOND:
        if options.stored_before and options.place != SECOND:
            parser.error("--stored-before needs --place second: the first place deletes")
        if options.place and options.name == "restore" and (options.undo or options.from_path):
            parser.error("restore --undo and --from read from no place: leave --place out")
    if options.name == "accept" and options.missing == (options.set is not None):
        parser.error("accept takes a SET or --missing")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./bot backups",
        description="Backups of the bot's databases.",
        epilog="Exit codes: 0 done, 1 failed, 2 usage or settings, 3 unhealthy, 4 another run is"
        " in progress.",
    )
    added = parser.add_subparsers(required=True, metavar="COMMAND", dest="name")

    def command(name: str, act: _Act | None, help_: str) -> argparse.ArgumentParser:
        one = added.add_parser(name, help=help_, description=help_)
        one.add_argument("--json", action="store_true", help="print one JSON document")
        if name in _CAN_BE_QUIET:
            one.add_argument("--quiet", action="store_true", help="say only what is wrong")
        one.set_defaults(act=act, quiet=False)
        return one

    run = command("run", commands.run, "Make a set now: snapshot, store, read back, prove.")
    run.add_argument(
        "--only",
        metavar="SOURCE",
        help="back up one database only; does not count as a full backup",
    )
    command("status", commands.status, "Health, schedule, last run and newest restore point.")
    listing = command("list", commands.list_sets, "Restore points, newest first.")
    _add_paging(listing)
    runs = command("runs", commands.list_runs, "The run log, newest first, or one run.")
    runs.add_argument("run", nargs="?", metavar="ID")
    _add_paging(runs)
    verify = command("verify", commands.verify, "Prove a stored set again, by default the newest.")
    verify.add_argument("set", nargs="?", default=LATEST, metavar="SET", help="default: latest")
    restore = command("restore", commands.restore, "Show what a restore would do, or do it.")
    _add_restore(restore)
    drill = command("drill", commands.drill, "Rehearse a full restore from the store, timed.")
    drill.add_argument("--identity", type=_path, metavar="FILE", help="the age identity to use")
    places.add_place((listing, verify, restore, drill), _time, _FORM_OF_TIME)
    places.add_copy(command("copy", places.copy, "Bring the second place up to date, or compare."))
    prune = command(
        "prune", commands.prune, "Apply retention, and delete objects that belong to no set."
    )
    prune.add_argument("--dry-run", action="store_true", help="show the plan, with reasons")
    accept = command(
        "accept",
        commands.accept,
        "Mark a suspect set as good: its data is fine. Or accept that sets are missing.",
    )
    accept.add_argument("set", nargs="?", metavar="SET", help="an id, or latest")
    accept.add_argument(
        "--missing",
        action="store_true",
        help="the loss of the restore points that vanished or are hollow is known",
    )
    _add_keeping(command)
    adopt = command(
        "adopt", commands.adopt, "Count the sets of an earlier installation as this one's."
    )
    adopt.add_argument("instance", metavar="INSTANCE", help="its id, as `status` names it")
    adopt.add_argument(
        "--accept-unsigned",
        action="store_true",
        help="prove its sets that have no mark, and mark those that prove; also of this one",
    )
    doctor = command("doctor", None, "Check everything that can be wrong.")
    doctor.add_argument("--write", action="store_true", help="also put and delete a probe")
    doctor.add_argument("--notify", action="store_true", help="also send a test message")
    report = command(
        "report", commands.report, "Evidence: every run, drill, restore and alert of a period."
    )
    report.add_argument(
        "--since",
        default=DEFAULT_SINCE,
        metavar="TIME",
        help="12h, 90d, 2w, or a UTC time such as 2026-09-01; default: 90d",
    )
    kit = command("kit", None, "The emergency kit: what an empty host needs, with the token keys.")
    how = kit.add_mutually_exclusive_group()
    how.add_argument("--to", type=_path, metavar="FILE", help="write it into this new file, 0600")
    how.add_argument(
        "--kept", action="store_true", help="note that you keep it elsewhere, since today"
    )
    migrate.add_to(command("migrate", None, "Move all to the other engine; stop the app first."))
    _add_keygen(command("keygen", None, "Make an age key pair to encrypt backups with."))
    practice = command(
        "practice",
        None,
        "Lose sample data in a scratch folder, and bring it back; nothing of yours.",
    )
    practice.add_argument(
        "--loss",
        choices=LOSSES,
        default=DEFAULT_LOSS,
        metavar="KIND",
        help=f"{', '.join(LOSSES)}; default: {DEFAULT_LOSS}",
    )
    practice.add_argument("--keep", action="store_true", help="keep the folder, to type on in it")
    return parser


def _add_keeping(command: Callable[[str, _Act | None, str], argparse.ArgumentParser]) -> None:
    """What a person decides about one set."""
    pin = command("pin", commands.pin, "Keep a set, whatever the rules of retention say.")
    pin.add_argument("set", metavar="SET", help="an id, or latest")
    pin.add_argument("--label", default="", metavar="TEXT", help="why; shown wherever the set is")
    unpin = command("unpin", commands.unpin, "Keep a set no longer than the rules say.")
    unpin.add_argument("set", metavar="SET", help="an id, or latest")
    delete = command(
        "delete",
        deletion.delete,
        "Delete one set on purpose, and the points that are made from it. It cannot be undone.",
    )
    delete.add_argument("set", metavar="SET", help="an id")
    delete.add_argument(
        "--confirm", metavar="ID", help="the id once more; else it is asked for at a terminal"
    )


def _add_keygen(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--to", type=_path, metavar="FILE", help="new file; default: backup-identity.txt in ~"
    )
    parser.add_argument(
        "--in-checkout", action="store_true", help="FILE may be in the folder of the program"
    )


def _add_restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("set", nargs="?", default=LATEST, metavar="SET", help="default: latest")
    parser.add_argument(
        "--at",
        type=_time,
        metavar="TIME",
        help=f"the newest restore point at or before this time: {_FORM_OF_TIME}",
    )
    parser.add_argument("--only", metavar="SOURCE", help="restore one source only")
    parser.add_argument(
        "--from",
        dest="from_path",
        type=_path,
        metavar="FILE|DIR",
        help="a downloaded object, a copy of a set, of a chain or of the bucket, or a folder of the"
        " old scripts, in place of the store; it is only read",
    )
    parser.add_argument(
        "--identity", type=_path, metavar="FILE", help="the age identity to use, for this once"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--to", type=_path, metavar="DIR", help="write the files there")
    where.add_argument("--in-place", action="store_true", help="replace the live data")
    where.add_argument(
        "--undo", action="store_true", help="put back what the last restore replaced"
    )
    parser.add_argument("--yes", action="store_true", help="confirm --in-place or --undo")
    parser.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="have SQLite check what comes; by default only what has no valid mark, as the rest was"
        " checked when it was made",
    )
    parser.add_argument(
        "--accept-unsigned",
        action="store_true",
        help="restore SET although it has no mark, or that of a key that is not here",
    )


def _add_paging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=_limit, default=100, metavar="N", help="default: 100")
    parser.add_argument("--before", metavar="ID", help="list only what is older than this id")


def _limit(given: str) -> int:
    if not given.isdigit() or not 1 <= int(given) <= 100_000:
        raise argparse.ArgumentTypeError("a whole number from 1 to 100000")
    return int(given)


def _path(given: str) -> Path:
    """A file or folder as a person means it: `./bot` goes to its own folder before it begins."""
    return read_called_from() / given


def _time(given: str) -> datetime:
    try:
        return read_time(given)
    except ValueError:
        raise argparse.ArgumentTypeError(_FORM_OF_TIME) from None


def _explain(error: AppError, *, as_json: bool) -> int:
    exit_code = next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), FAILED)
    if as_json:
        print_json(error_document(0, "The command failed", error))
    show(f"{error.message}\n{error.hint}", file=sys.stderr)
    return exit_code


def _flushed(exit_code: int) -> int:
    sys.stdout.flush()  # here, and not at the interpreter's end, where a fault is not caught
    return exit_code


def _on_sigterm(_signal: int, _frame: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)
