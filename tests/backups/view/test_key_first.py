"""What a person reads who came from the old scripts, with a new key or before any set."""

from __future__ import annotations

from backups.decisions.health import assess
from backups.format.legacy import legacy_object
from backups.view import text
from tests.backups.decisions.test_health import facts
from tests.support.records import a_set, a_stored_object


def test_the_key_is_advised_before_restore_and_accept() -> None:
    """Where values cannot be decrypted the first advice is the key; elsewhere there is none."""
    objects = (a_stored_object("tokens", unreadable=3), a_stored_object("sessions"))
    locked = a_set(suspect=("no key",), objects=objects, token_key="fit")
    (problem,) = assess(facts(newest_made=locked)).problems
    hint = problem.hint
    assert (
        hint.index("TOKEN_ENCRYPTION_KEYS=new,old") < hint.index("restore") < hint.index("accept")
    )

    emptied = a_set(suspect=("it is empty",), token_key="fit")
    (problem,) = assess(facts(newest_made=emptied)).problems
    assert "TOKEN_ENCRYPTION_KEYS" not in problem.hint


def test_rows_that_nobody_counted_are_not_called_none() -> None:
    """An object of the old scripts may hold rows: the list says that they were not counted."""
    old = a_set(
        kind="legacy", objects=(legacy_object("tokens", "backups/tokens_2025-07-04.db", 9),)
    )
    table = text.sets([old], more=False)
    assert "not counted" in table
    assert "tokens=0" not in table
