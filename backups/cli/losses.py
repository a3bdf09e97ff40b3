"""The losses of `practice`: what happens, and the lines of the runbook that bring it back."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet

from shared.databases.sample import add_sample_sessions, add_sample_tokens, count_readable_tokens
from shared.files import open_private

TOKENS, SESSIONS, LATER = 40, 10, 3
SURE = frozenset({0})
# What a look at a host in trouble may end with: all well, refused, red.
ANY = frozenset({0, 1, 3})


class SampleHost:
    """An installation with sample data in a folder: its `.env`, databases and store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.tokens = self.data / "tokens.db"
        self.sessions = self.data / "sessions.db"
        self.keys: tuple[str, ...] = (Fernet.generate_key().decode(),)

    def create(self) -> None:
        """Write `.env` and both databases."""
        self.write_env(*self.keys)
        add_sample_tokens(self.tokens, self.keys[0], 1, TOKENS)
        add_sample_sessions(self.sessions, SESSIONS)

    def write_env(self, *keys: str) -> None:
        """Write `.env` with these token keys; all else has its default."""
        path = self.folder / ".env"
        path.unlink(missing_ok=True)
        values = {
            "ADMIN_TOKEN": secrets.token_urlsafe(32),
            "STATE_TOKEN_SECRET": secrets.token_urlsafe(32),
            "TOKEN_ENCRYPTION_KEYS": ",".join(keys),
            "BACKUP_RUN_BY": "cron",  # no app runs here
        }
        with open_private(path) as file:
            file.write("".join(f"{name}={value}\n" for name, value in values.items()).encode())

    def readable_tokens(self) -> int:
        """How many tokens the current keys decrypt. Raises `DatabaseError`."""
        return count_readable_tokens(self.tokens, self.keys)


@dataclass(frozen=True)
class Step:
    """One line to type, or an `act` that a person does with other means, and what is said of it.

    `codes` are the exit codes with which the practice goes on.
    """

    words: str
    command: str = ""
    act: Callable[[SampleHost], None] | None = None
    codes: frozenset[int] = SURE


@dataclass(frozen=True)
class Loss:
    """What happens to the host, and what brings it back; `section` is the runbook's."""

    what: str
    section: str
    harm: tuple[Step, ...]
    remedy: tuple[Step, ...]
    tokens: int = TOKENS

    @property
    def link(self) -> str:
        """Where the section is."""
        return f"docs/bad-day.md#{self.section.lower().replace(' ', '-')}"


# The first lines of docs/bad-day.md, whatever has happened.
LOOK = (
    Step("What would be restored? This changes nothing.", "./bot backups restore", codes=ANY),
    Step("What is wrong, and what is there to do?", "./bot backups status", codes=ANY),
    Step("And everything else: files, keys, disk, store.", "./bot backups doctor", codes=ANY),
)
RESTORE = Step("Bring it back.", "./bot backups restore --in-place --yes")
# The app would make this backup by itself.
AFTERWARDS = (
    Step("Make a backup of what is there now.", "./bot backups run"),
    Step("Is all well again?", "./bot backups status"),
)


def _lose_disk(host: SampleHost) -> None:
    for file in (*host.data.glob("tokens.db*"), *host.data.glob("sessions.db*")):
        file.unlink()
    shutil.rmtree(host.data / "backups")


def _damage(host: SampleHost) -> None:
    host.tokens.write_bytes(b"this is no database any more. " * 400)


def _delete_rows(host: SampleHost) -> None:
    with closing(sqlite3.connect(host.tokens)) as connection, connection:
        connection.execute("DELETE FROM tokens WHERE rowid > ?", (TOKENS // 4,))


def _replace_key(host: SampleHost) -> None:
    host.keys = (Fernet.generate_key().decode(), *host.keys)
    host.write_env(host.keys[0])


def _put_key_back(host: SampleHost) -> None:
    host.write_env(*host.keys)


def _add_tokens(host: SampleHost) -> None:
    add_sample_tokens(host.tokens, host.keys[0], TOKENS + 1, LATER)


LOSSES = {
    "lost-disk": Loss(
        what="The disk died. A new host has the store and your copy of .env, and nothing else.",
        section="The host is gone",
        harm=(Step("Both databases and BACKUP_DIR are deleted.", act=_lose_disk),),
        remedy=(RESTORE, *AFTERWARDS),
    ),
    "damaged-file": Loss(
        what="The disk has written garbage: tokens.db is no database any more.",
        section="A file is gone or damaged",
        harm=(Step("tokens.db is overwritten.", act=_damage),),
        remedy=(RESTORE, *AFTERWARDS),
    ),
    "deleted-rows": Loss(
        what="A deploy deleted most of the tokens, and a backup was made since.",
        section="Rows are gone",
        harm=(
            Step(f"{TOKENS - TOKENS // 4} of {TOKENS} tokens are deleted.", act=_delete_rows),
            Step(
                "The next backup notices it: the set is suspect, and `latest` passes over it.",
                "./bot backups run",
                codes=ANY,
            ),
        ),
        remedy=(
            Step("Column ROWS: which set still has them?", "./bot backups list"),
            RESTORE,
            *AFTERWARDS,
        ),
    ),
    "wrong-key": Loss(
        what="Somebody replaced the key in TOKEN_ENCRYPTION_KEYS: no token can be decrypted.",
        section="The token keys are wrong or lost",
        harm=(Step("Another key is written into .env.", act=_replace_key),),
        remedy=(
            Step(
                "Put the old key, of your copy of .env, after the new one: "
                "TOKEN_ENCRYPTION_KEYS=new,old (done here for you).",
                act=_put_key_back,
            ),
            Step("Is all well again?", "./bot backups status"),
            Step("Does every value decrypt? A test restore looks.", "./bot backups drill"),
        ),
    ),
    "wrong-restore": Loss(
        what=f"Somebody restored a backup although all was well: {LATER} newer tokens are gone.",
        section="The restore was wrong",
        harm=(
            Step(f"{LATER} merchants connect after the backup.", act=_add_tokens),
            Step("The restore that nobody needed.", "./bot backups restore --in-place --yes"),
        ),
        remedy=(
            Step("What would the undo put back?", "./bot backups restore --undo"),
            Step("Put it back.", "./bot backups restore --undo --yes"),
            *AFTERWARDS,
        ),
        tokens=TOKENS + LATER,
    ),
}
