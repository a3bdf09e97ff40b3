"""`./bot shared inbox retry`: what was set aside is tried again when a person says so."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from shared.clock import SystemClock
from shared.merchants.inbox import Event, Inbox, open_inbox
from tests.support.installation import installation_in
from tests.support.typed import type_in


def test_what_was_set_aside_waits_again(tmp_path: Path) -> None:
    """All of it, once; the command says how much, and that nothing is left the second time."""
    installation = installation_in(tmp_path)
    path = installation.folder / "data" / "inbox.db"
    with closing(open_inbox(path)) as database:
        inbox = Inbox(database, SystemClock())
        inbox.add([Event("facebook", f"{number}", "1", "message", "{}") for number in range(3)])
        inbox.set_aside(1)
        inbox.set_aside(3)

        first = type_in(installation, "./bot shared inbox retry")
        second = type_in(installation, "./bot shared inbox retry")

        assert (first.returncode, first.stdout) == (0, "2 events will be tried again.\n")
        assert (second.returncode, second.stdout) == (0, "Nothing was set aside.\n")
        assert inbox.state().waiting == 3


def test_an_inbox_that_is_not_there_is_named(tmp_path: Path) -> None:
    """None is made: the path may be wrong."""
    installation = installation_in(tmp_path)

    done = type_in(installation, "./bot shared inbox retry")

    assert done.returncode == 1
    assert "inbox.db is missing" in done.stderr
    assert "INBOX_DB_PATH" in done.stderr
    assert not (installation.folder / "data" / "inbox.db").exists()
