"""`./bot shared`: `env` writes the first `.env`, `rotate-keys` re-encrypts the tokens.

`rotate-keys` then marks the backups again with the first key. `inbox retry` has the events tried
again that failed for a day. `versions` lists what conversations were, and brings one back.
"""

from __future__ import annotations

from shared.interpreter import explain_missing_packages

if __name__ == "__main__":
    explain_missing_packages()

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path

from shared.clock import SystemClock, format_utc, read_time
from shared.databases.cipher import TokenCipher
from shared.databases.engines.database import Database
from shared.databases.tokens import TokenStorage
from shared.errors import AppError, DatabaseMissing, SettingsError
from shared.merchants.history.copies import conversations_there, lacking
from shared.merchants.history.versions import Versions, request_of
from shared.merchants.inbox import Inbox, open_inbox
from shared.printable import printable_lines
from shared.settings.env_file import write_env_file
from shared.settings.load import Settings, load_settings, read_environment
from shared.words import counted


def build_parser() -> argparse.ArgumentParser:
    """What reads the arguments."""
    parser = argparse.ArgumentParser(prog="./bot shared")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    env = commands.add_parser("env", help="write .env from .env.example with fresh secrets")
    env.set_defaults(run=_env)
    rotation = commands.add_parser(
        "rotate-keys", help="re-encrypt all tokens with the first key, and mark the backups with it"
    )
    rotation.set_defaults(run=_rotate_keys)
    inbox = commands.add_parser("inbox", help="the events of the platforms that were set aside")
    acts = inbox.add_subparsers(required=True, metavar="ACT")
    acts.add_parser("retry", help="try them again").set_defaults(run=_retry_inbox)
    versions = commands.add_parser("versions", help="what conversations were in the last 30 days")
    acts = versions.add_subparsers(required=True, metavar="ACT")
    listing = acts.add_parser("list", help="list them, the oldest day of a Page first")
    listing.add_argument("text", nargs="?", default="", help="only keys with this in them")
    listing.set_defaults(run=_list_versions)
    back = acts.add_parser("bring-back", help="add what a version has to the conversation")
    back.add_argument("key", help="the key of the version, as `versions list` prints it")
    back.set_defaults(run=_bring_back)
    second = acts.add_parser(
        "from-second", help="bring back what the second place has of conversations"
    )
    second.add_argument("text", nargs="?", default="", help="only keys with this in them")
    second.add_argument(
        "--stored-before",
        type=_time,
        metavar="TIME",
        help="only what that place received before this time, such as 2026-11-28T03:00:00Z",
    )
    second.add_argument("--yes", action="store_true", help="do it; without it, only say what")
    second.set_defaults(run=_from_second)
    return parser


def _time(given: str) -> datetime:
    try:
        return read_time(given)
    except ValueError:
        raise argparse.ArgumentTypeError("a time such as 2026-11-28T03:00:00Z") from None


def main(arguments: Sequence[str]) -> int:
    """Run one command; 0 done, 1 failed, 2 usage or settings."""
    given = build_parser().parse_args(arguments)
    try:
        return int(given.run(given))
    except AppError as error:
        print(printable_lines(f"{error.message}\n{error.hint}"), file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1


def _env(_given: argparse.Namespace) -> int:
    if write_env_file(Path(".env.example"), Path(".env")):
        print("Wrote .env with fresh secrets. Keep a copy of TOKEN_ENCRYPTION_KEYS elsewhere.")
    return 0


def _retry_inbox(_given: argparse.Namespace) -> int:
    with _inbox(load_settings(read_environment())) as inbox:
        count = inbox.retry()
    print(f"{counted(count, 'event')} will be tried again." if count else "Nothing was set aside.")
    return 0


@contextmanager
def _inbox(settings: Settings) -> Iterator[Inbox]:
    """The inbox of the app; raises `DatabaseMissing`."""
    if settings.database is not None:
        with _shared(settings, "inbox") as shared:
            yield Inbox(shared, SystemClock())
        return
    path = settings.inbox_db_path
    if not path.exists():
        raise DatabaseMissing(
            f"{path} is missing", "Start the app once, which makes it, or correct INBOX_DB_PATH."
        )
    with closing(open_inbox(path)) as database:
        yield Inbox(database, SystemClock())


@contextmanager
def _shared(settings: Settings, source: str) -> Iterator[Database]:
    """The tables of a source in the database that hosts share."""
    # Only who has a DATABASE_URL needs the driver.
    from shared.databases.engines.opening import open_postgres  # noqa: PLC0415
    from shared.databases.engines.postgres import PostgresDatabase  # noqa: PLC0415

    if settings.database is None:
        raise SettingsError(("DATABASE_URL is not set",))
    with open_postgres(settings.database) as connections:
        yield PostgresDatabase(connections, source)


def _list_versions(given: argparse.Namespace) -> int:
    count = 0
    for version, info in _versions(load_settings(read_environment())).found():
        if given.text in version.key:
            count += 1
            print(printable_lines(f"{version.key}  {info.size:,} bytes"))
    if not count:
        print("There is no such version.")
    return 0


def _bring_back(given: argparse.Namespace) -> int:
    settings = load_settings(read_environment())
    version, event = _versions(settings).request(given.key)
    with _inbox(settings) as inbox:
        inbox.add([event])
    print(
        f"The app will add what this version has to {version.document}: within seconds, or when it "
        "starts next. What came since stays. Its log says when it has (brought back)."
    )
    return 0


def _from_second(given: argparse.Namespace) -> int:
    # See `_rotate_keys`.
    from backups.cli.owner import become_owner  # noqa: PLC0415
    from backups.wiring import build_second_bucket, build_store  # noqa: PLC0415

    settings, clock = load_settings(read_environment()), SystemClock()
    first = become_owner(settings) or build_store(settings)
    second = build_second_bucket(settings)
    there = {
        key: stored
        for key, stored in conversations_there(second, given.stored_before).items()
        if given.text in key
    }
    if not there:
        text = f" with {given.text!r} in its key" if given.text else ""
        at = given.stored_before
        before = f", as it was before {format_utc(at)}" if at else ""
        print(printable_lines(f"The second place has no conversation{text}{before}."))
        return 1
    found = list(lacking(first, second, there))
    if not found:
        print(
            f"The store has what the second place has of {counted(len(there), 'conversation')}. "
            "If some are gone all the same, somebody has changed that place, too: name a time "
            "before that with --stored-before"
        )
        return 0
    for one in found:
        how = "missing" if one.missing else "differs"
        at = format_utc(one.stored.modified_at)
        print(printable_lines(f"{how}  {one.version.document}  of {at}"))
    if not given.yes:
        print(
            f"{counted(len(found), 'conversation')} would be brought back: what the second place "
            "has is added to what is there. To do it: the same command with --yes"
        )
        return 0
    with _inbox(settings) as inbox:
        inbox.add(request_of(one.version, format_utc(clock.now())) for one in found)
    print(
        f"The app will bring {counted(len(found), 'conversation')} back: within minutes, or when "
        "it starts next. Of an account that has no user any more, or another one, nothing comes "
        "back. Its log names each (brought back)."
    )
    return 0


def _versions(settings: Settings) -> Versions:
    # See `_rotate_keys`.
    from backups.cli.owner import become_owner  # noqa: PLC0415
    from backups.wiring import build_store  # noqa: PLC0415

    return Versions(become_owner(settings) or build_store(settings), SystemClock())


def _rotate_keys(_given: argparse.Namespace) -> int:
    # This command line puts the parts of the program together, as `app.py` does: nothing else of
    # `shared` knows the backups. They are imported only here: `env` works without them.
    from backups.cli.owner import become_owner  # noqa: PLC0415
    from backups.wiring import open_service  # noqa: PLC0415

    settings = load_settings(read_environment(), for_app=True)
    store = become_owner(settings)
    cipher = TokenCipher(settings.token_encryption_keys)
    with ExitStack() as stack:
        place: Path | Database = settings.token_db_path
        if settings.database is not None:
            place = stack.enter_context(_shared(settings, "tokens"))
        elif not settings.token_db_path.exists():
            raise DatabaseMissing(f"{settings.token_db_path} is missing", "Check TOKEN_DB_PATH.")
        count = stack.enter_context(closing(TokenStorage(place, cipher))).rotate_keys()
    print(
        f"Re-encrypted {counted(count, 'value')} with the first key. Keep the older keys in "
        "TOKEN_ENCRYPTION_KEYS for as long as you keep backups made with them."
    )
    with open_service(settings, store=store) as service:
        sets, chains = service.rotation.mark_again()
    what = counted(sets, "set") + (f" and {counted(chains, 'chain')}" if chains else "")
    print(f"Marked {what} again with the first key.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
