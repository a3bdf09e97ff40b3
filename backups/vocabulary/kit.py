"""The emergency kit: what an empty host needs to get the data back. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path


@dataclass(frozen=True)
class StoreAddress:
    """Where the backups are: a bucket, or a `folder` on this host; never a key of the store."""

    prefix: str
    endpoint: str | None = None
    region: str | None = None
    bucket: str | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Kit:
    """What the sheet is about; `token_keys` are fingerprints, the first in use, never keys.

    `second` is the place that has the copies, `database` where the PostgreSQL of several hosts is;
    never its user or password.
    """

    token_keys: tuple[str, ...]
    recipients: tuple[str, ...]
    identity_file: Path | None
    store: StoreAddress
    second: StoreAddress | None = None
    database: str | None = None

    @property
    def fingerprint(self) -> str:
        """See `fingerprint_of`."""
        return fingerprint_of(self.token_keys, self.recipients)


@dataclass(frozen=True)
class KeptKit:
    """A person confirmed at an instant that the kit with this fingerprint is kept elsewhere."""

    at: datetime
    fingerprint: str


def fingerprint_of(token_keys: Sequence[str], recipients: Sequence[str]) -> str:
    """What a kept sheet is bound to: the first token key's fingerprint, and the recipients.

    Another first key, or other recipients, and the sheet that is kept opens new backups no more.
    """
    named = [*token_keys[:1], "", *sorted(recipients)]
    return sha256("\n".join(named).encode()).hexdigest()[:16]
