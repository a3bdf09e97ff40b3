"""Tests of `backups.decisions.bot.findings`: how the inbox is, and what is said of it."""

from __future__ import annotations

import pytest

from backups.decisions.bot.findings import bot_problems, bot_warnings
from backups.vocabulary.bot import NO_BOT, BotFacts, InboxFacts


@pytest.mark.parametrize(
    ("bot", "problems", "warnings"),
    [
        (NO_BOT, [], []),
        (BotFacts(InboxFacts(0, 0.0, 0)), [], []),
        (BotFacts(InboxFacts(5000, 900.0, 0)), [], []),
        (BotFacts(InboxFacts(1, 900.1, 0)), ["inbox_stuck"], []),
        (BotFacts(InboxFacts(0, 0.0, 1)), ["updates_set_aside"], []),
        (BotFacts(InboxFacts(2, 86400.0, 3)), ["inbox_stuck", "updates_set_aside"], []),
        (BotFacts(None, fault="the disk is gone"), [], ["inbox_unreadable"]),
    ],
)
def test_what_each_state_means(bot: BotFacts, problems: list[str], warnings: list[str]) -> None:
    """Much that waits is no problem; what waits for long, or for a person, is one."""
    assert [found.code for found in bot_problems(bot)] == problems
    assert [found.code for found in bot_warnings(bot)] == warnings


def test_the_remedy_fits_the_cause() -> None:
    """What nobody has tried needs a thread; what fails needs its cause removed, and no more."""
    (untried,) = bot_problems(BotFacts(InboxFacts(1, 1200.0, 0)))
    (failing,) = bot_problems(BotFacts(InboxFacts(1, 1200.0, 0, attempts=7)))
    (aside,) = bot_problems(BotFacts(InboxFacts(0, 0.0, 2)))

    assert untried.message.startswith("1 update of the platforms waits in the inbox")
    assert untried.message.endswith("has waited for 20 minutes, and was not tried yet")
    assert untried.hint.startswith("Start the app")
    assert failing.message.endswith("was tried 7 times without success")
    assert failing.hint.endswith("the app tries again by itself")
    assert aside.hint.endswith("./bot shared inbox retry")
