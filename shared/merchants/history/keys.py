"""The keys of merchants' documents: whose they are, and which go to the second place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

DOCUMENTS = "users/"

# A document that somebody asks to be deleted must not be locked for longer.
MOST_LOCKED = timedelta(days=30)

# Larger ones do not go to the second place, and no version of one is brought back.
MOST_BYTES = 64 * 1024 * 1024

_FOLDER = re.compile(r"users/(?P<user>[^/]+)/(?P<platform>[^/]+)/(?P<account>[^/]+)/")


@dataclass(frozen=True)
class AccountFolder:
    """The folder that has all documents of an account; `text` ends with a slash."""

    text: str
    user: str
    platform: str
    account: str

    @classmethod
    def of_key(cls, key: str) -> AccountFolder | None:
        """The folder that this key is in, or is; None for a key of anything else."""
        found = _FOLDER.match(key)
        return None if found is None else cls(found[0], *found.groups())


def copied_folder(key: str) -> str | None:
    """The folder of a document that goes to the second place; None for a key of anything else.

    The versions that the bot keeps do not go: the second place has its own.
    """
    folder = AccountFolder.of_key(key)
    if folder is None or key == folder.text or key.startswith(f"{folder.text}versions/"):
        return None
    return folder.text


def exists_once(key: str) -> bool:
    """Whether a document is a conversation: of others the platform tells all again."""
    folder = AccountFolder.of_key(key)
    return folder is not None and key.startswith(f"{folder.text}conversations/")
