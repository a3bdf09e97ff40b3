"""From how the bot's inbox is to what a person must know. Pure."""

from __future__ import annotations

from backups.model import Finding
from backups.vocabulary.bot import BotFacts, InboxFacts
from shared.words import counted

# What cannot be done at once is tried again within a minute; this is many attempts.
STUCK_AFTER_SECONDS = 15 * 60.0


def bot_problems(bot: BotFacts) -> tuple[Finding, ...]:
    """The oldest update waits for too long, or some were given up until a person says."""
    if bot.inbox is None:
        return ()
    stuck = bot.inbox.oldest_seconds > STUCK_AFTER_SECONDS
    return (
        *((_stuck(bot.inbox),) if stuck else ()),
        *((_set_aside(bot.inbox.set_aside),) if bot.inbox.set_aside else ()),
    )


def bot_warnings(bot: BotFacts) -> tuple[Finding, ...]:
    """How the inbox is cannot be seen; whether the app can use it, its threads say."""
    if not bot.fault:
        return ()
    return (
        Finding(
            "inbox_unreadable",
            f"whether updates of the platforms wait is not known: {bot.fault}",
            "Check the owner, the mode and the disk of INBOX_DB_PATH. The app makes a damaged "
            "inbox anew by itself.",
        ),
    )


def _stuck(inbox: InboxFacts) -> Finding:
    minutes = int(inbox.oldest_seconds // 60)
    waits = "waits" if inbox.waiting == 1 else "wait"
    tried = (
        f"was tried {counted(inbox.attempts, 'time')} without success"
        if inbox.attempts
        else "was not tried yet"
    )
    return Finding(
        "inbox_stuck",
        f"{counted(inbox.waiting, 'update')} of the platforms {waits} in the inbox of the bot; the "
        f"oldest has waited for {minutes:,} minutes, and {tried}",
        'Look into the log of the app for "events failed": it names the account and the error. '
        "When the cause is gone, nothing else is to do: the app tries again by itself"
        if inbox.attempts
        else "Start the app if it does not run; put the settings of a platform back if they were "
        "removed; or else restart the app. What waits is kept",
    )


def _set_aside(count: int) -> Finding:
    are = "was" if count == 1 else "were"
    return Finding(
        "updates_set_aside",
        f"{counted(count, 'update')} of the platforms failed for a day and {are} set aside",
        'Look into the log of the app for "set aside": it names the account and the error. When '
        "the cause is gone: ./bot shared inbox retry",
    )
