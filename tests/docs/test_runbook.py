"""`docs/bad-day.md` and `docs/security.md` on a bad day: what they say to type brings it back."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from tests.support.doc_examples import examples_below
from tests.support.installation import REPOSITORY, Installation, bot_secrets
from tests.support.typed import type_in

BAD_DAY = REPOSITORY / "docs" / "bad-day.md"
SECURITY = REPOSITORY / "docs" / "security.md"
TOKENS = 60


@pytest.fixture
def host(tmp_path: Path) -> Installation:
    """A host with a good set of its data."""
    host = Installation(tmp_path, bot_secrets()).make_databases(tokens=TOKENS)
    host.json("run")
    return host


def printed_by(host: Installation, script: str) -> str:
    """What a block of a document prints, typed into a shell; it must succeed."""
    done = type_in(host, script)
    assert done.returncode == 0, f"{script}\n{done.stderr}"
    return done.stdout


def in_tokens(host: Installation, statement: str) -> int:
    """Execute a statement in the live `tokens.db`; the first number of its answer."""
    with closing(sqlite3.connect(host.tokens_path, isolation_level=None)) as connection:
        row = connection.execute(statement).fetchone()
    return int(row[0]) if row else 0


def tokens_of(host: Installation) -> int:
    return in_tokens(host, "SELECT count(*) FROM tokens")


def remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def test_rows_that_are_gone(host: Installation) -> None:
    """The first block brings the state of the set back, the second one only what is missing."""
    all_of_it, missing_rows = examples_below(BAD_DAY, "Rows are gone", "sh")
    in_tokens(host, "DELETE FROM tokens WHERE rowid <= 5")
    in_tokens(host, "INSERT INTO tokens VALUES ('since', 'x', 'token')")

    printed_by(host, missing_rows)
    assert tokens_of(host) == TOKENS + 1
    assert not (host.folder / "data" / "salvage").exists()

    printed_by(host, all_of_it)
    assert tokens_of(host) == TOKENS


def lose_both(host: Installation) -> None:
    remove(host.tokens_path)
    remove(host.sessions_path)


def damage(host: Installation) -> None:
    host.tokens_path.write_bytes(b"garbage" * 4096)


@pytest.mark.parametrize("lose", [lose_both, damage])
def test_a_file_that_is_gone_or_damaged(
    host: Installation, lose: Callable[[Installation], None]
) -> None:
    """One line, whatever state the files are in."""
    (line,) = examples_below(BAD_DAY, "A file is gone or damaged", "sh")
    lose(host)

    printed_by(host, line)

    assert tokens_of(host) == TOKENS
    assert host.json("doctor")["healthy"]


def test_a_host_that_is_gone(host: Installation) -> None:
    """On a new host, which has settings and a store and nothing else."""
    (block,) = examples_below(BAD_DAY, "The host is gone", "sh")
    lose_both(host)
    shutil.rmtree(host.folder / "data" / "backups")
    (told,) = host.json("status", exit_code=3)["problems"]
    assert told["code"] == "no_restore_point"

    printed_by(host, block)

    assert tokens_of(host) == TOKENS
    assert host.json("status")["healthy"]
    assert host.json("run")["status"] == "succeeded"
    assert host.json("status")["healthy"]  # the old host is no second writer


def test_a_restore_that_was_wrong(host: Installation) -> None:
    """Undo brings back what was there before."""
    (block,) = examples_below(BAD_DAY, "The restore was wrong", "sh")
    in_tokens(host, "INSERT INTO tokens VALUES ('since', 'x', 'token')")
    host.json("restore", "--in-place", "--yes")
    assert tokens_of(host) == TOKENS

    printed_by(host, block)

    assert tokens_of(host) == TOKENS + 1


def test_a_suspect_set(host: Installation) -> None:
    """The list says why; the remedy for damaged data makes status well again."""
    (block,) = examples_below(BAD_DAY, "A set is suspect", "sh")
    in_tokens(host, "DELETE FROM tokens WHERE rowid > 5")
    host.json("run", exit_code=3)
    assert host.json("status", exit_code=3)["problems"][0]["code"] == "suspect"

    assert "suspect: tokens.tokens has 5 rows" in printed_by(host, block)
    host.json("restore", "--in-place", "--yes")
    host.json("run")
    assert tokens_of(host) == TOKENS
    assert host.json("status")["healthy"]


def test_lost_token_keys(host: Installation) -> None:
    """A key that was replaced goes behind the new one; one that is lost means to begin anew."""
    (block,) = examples_below(BAD_DAY, "The token keys are wrong or lost", "bash")
    old, new = host.settings["TOKEN_ENCRYPTION_KEYS"], Fernet.generate_key().decode()
    replaced = host.with_settings(TOKEN_ENCRYPTION_KEYS=new)
    assert replaced.json("status", exit_code=3)["problems"][0]["code"] == "token_key_lost"
    both = host.with_settings(TOKEN_ENCRYPTION_KEYS=f"{new},{old}")
    assert both.json("status")["healthy"]
    assert both.json("drill")["drill"]["unreadable"] == 0

    before, _, after = as_this_user(block).partition("systemctl start messenger-bot")
    printed_by(replaced, before)
    TokenStorage(host.tokens_path, TokenCipher((new,))).close()  # what the start does
    printed_by(replaced, after)
    replaced.json("accept", replaced.json("list")["sets"][0]["id"])

    assert replaced.json("status")["healthy"]


def test_changing_the_token_key(host: Installation) -> None:
    """`docs/security.md`: after it, every token opens with the new key alone."""
    lines = [f"{name}={value}" for name, value in bot_secrets().items()]
    (host.folder / ".env").write_text("\n".join(lines) + "\n")
    host = Installation(host.folder)  # the settings are those of the file
    (block,) = examples_below(SECURITY, "Changing each secret", "bash")

    printed_by(host, as_this_user(block))

    keys = re.search(r"^TOKEN_ENCRYPTION_KEYS=(.+),(.+)$", (host.folder / ".env").read_text(), re.M)
    assert keys is not None
    assert keys[2] == bot_secrets()["TOKEN_ENCRYPTION_KEYS"]
    with closing(TokenStorage(host.tokens_path, TokenCipher((keys[1],)))) as storage:
        assert storage.count_readable()[:2] == (TOKENS, 0)
    assert host.json("status")["healthy"]


def as_this_user(block: str) -> str:
    """A block for the systemd unit, for a host that is a folder of the test."""
    block = re.sub(r"\bsudo (-u \S+ )?", "", block.replace(".venv/bin/python", "python"))
    return re.sub(r"^systemctl (stop|restart) messenger-bot$", ":", block, flags=re.MULTILINE)
