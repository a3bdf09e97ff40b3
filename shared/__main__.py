"""`./bot shared`: `env` writes the first `.env`, `rotate-keys` re-encrypts the tokens.

`rotate-keys` then marks the backups again with the first key. `inbox retry` has the events tried
again that failed for a day.
"""

from __future__ import annotations

from shared.interpreter import explain_missing_packages

if __name__ == "__main__":
    explain_missing_packages()

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from shared.clock import SystemClock
from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from shared.errors import AppError, DatabaseMissing, SettingsError
from shared.merchants.inbox import Inbox, open_inbox
from shared.printable import printable_lines
from shared.settings.env_file import write_env_file
from shared.settings.load import load_settings, read_environment
from shared.words import counted


def build_parser() -> argparse.ArgumentParser:
    """What reads the arguments."""
    parser = argparse.ArgumentParser(prog="./bot shared")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    commands.add_parser("env", help="write .env from .env.example with fresh secrets")
    commands.add_parser(
        "rotate-keys", help="re-encrypt all tokens with the first key, and mark the backups with it"
    )
    inbox = commands.add_parser("inbox", help="the events of the platforms that were set aside")
    acts = inbox.add_subparsers(required=True, metavar="ACT")
    acts.add_parser("retry", help="try them again")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one command; 0 done, 1 failed, 2 usage or settings."""
    run = {"env": _env, "rotate-keys": _rotate_keys, "inbox": _retry_inbox}
    try:
        return run[build_parser().parse_args(arguments).command]()
    except AppError as error:
        print(printable_lines(f"{error.message}\n{error.hint}"), file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1


def _env() -> int:
    if write_env_file(Path(".env.example"), Path(".env")):
        print("Wrote .env with fresh secrets. Keep a copy of TOKEN_ENCRYPTION_KEYS elsewhere.")
    return 0


def _retry_inbox() -> int:
    path = load_settings(read_environment()).inbox_db_path
    if not path.exists():
        raise DatabaseMissing(f"{path} is missing", "Check INBOX_DB_PATH.")
    with closing(open_inbox(path)) as database:
        count = Inbox(database, SystemClock()).retry()
    print(f"{counted(count, 'event')} will be tried again." if count else "Nothing was set aside.")
    return 0


def _rotate_keys() -> int:
    # This command line puts the parts of the program together, as `app.py` does: nothing else of
    # `shared` knows the backups. They are imported only here: `env` works without them.
    from backups.cli.owner import become_owner  # noqa: PLC0415
    from backups.wiring import open_service  # noqa: PLC0415

    settings = load_settings(read_environment(), for_app=True)
    if not settings.token_db_path.exists():
        raise DatabaseMissing(f"{settings.token_db_path} is missing", "Check TOKEN_DB_PATH.")
    store = become_owner(settings)
    cipher = TokenCipher(settings.token_encryption_keys)
    with closing(TokenStorage(settings.token_db_path, cipher)) as storage:
        count = storage.rotate_keys()
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
