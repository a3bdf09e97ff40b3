"""The emergency kit as a sheet to print, as JSON, and what is said of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from backups.vocabulary.kit import Kit
from shared.clock import format_utc

# The identity's secret half, where no setting says that it is on this host.
NOT_HERE = "not on this host: wherever you put the file that `./bot backups keygen` wrote"

# From nothing to the data, with the lines of `env_lines` and the two keys of the store in `.env`.
STEPS = (
    "install the code into an empty folder: docs/deployment.md has the commands; then, in it:",
    "./bot shared env",
    "put the lines above into .env, in place of those that it has of the same names",
    "./bot backups restore",
    "./bot backups restore --in-place --yes",
)


def env_lines(kit: Kit, keys: Sequence[str]) -> tuple[str, ...]:
    """The lines of `.env` that an empty host needs; `keys` are the token keys to show in them."""
    return tuple(_env_lines(kit, keys))


def _env_lines(kit: Kit, keys: Sequence[str]) -> Iterator[str]:
    yield f"TOKEN_ENCRYPTION_KEYS={','.join(keys)}"
    store = kit.store
    if store.folder is not None:
        yield f"BACKUP_LOCAL_STORE={store.folder}"
    else:
        yield f"SPACES_ENDPOINT={store.endpoint}"
        yield f"SPACES_REGION={store.region}"
        yield f"SPACES_BUCKET={store.bucket}"
        yield "SPACES_API_KEY="
        yield "SPACES_API_SECRET="
    if (second := kit.second) is not None:
        yield f"COPY_ENDPOINT={second.endpoint}"
        yield f"COPY_REGION={second.region}"
        yield f"COPY_BUCKET={second.bucket}"
        yield "COPY_API_KEY="
        yield "COPY_API_SECRET="
    yield f"BACKUP_PREFIX={store.prefix}"
    if kit.database is not None:
        yield "DATABASE_URL="
    if kit.recipients:
        yield f"BACKUP_AGE_RECIPIENTS={','.join(kit.recipients)}"
        yield "BACKUP_AGE_IDENTITY_FILE="


def to_look_up(kit: Kit) -> tuple[str, ...]:
    """What the sheet does not have, and where a person finds it."""
    return tuple(_to_look_up(kit))


def _to_look_up(kit: Kit) -> Iterator[str]:
    if kit.store.folder is None:
        yield (
            "SPACES_API_KEY and SPACES_API_SECRET: make a new access key for the bucket in the "
            "control panel of the store (DigitalOcean: Spaces Object Storage, Access Keys)"
        )
    else:
        yield (
            "the backups are on the disk of this host alone: an empty host needs a copy of "
            f"{kit.store.folder}"
        )
    if kit.second is not None:
        yield (
            "COPY_API_KEY and COPY_API_SECRET: the same at the provider of the second place, which "
            "a restore takes where the first is gone"
        )
    if kit.database is not None:
        yield (
            f"DATABASE_URL: the data of all hosts is in the PostgreSQL {kit.database}. Copy the "
            "URL from the .env of another host, or get it, with a new password, from whoever runs "
            "the database (docs/several-hosts.md). If that database is there, nothing is to be "
            "restored: start the app. If it is gone, name a new, empty one; or leave the line "
            "blank, and the data comes into files of this one host"
        )
    if kit.recipients:
        yield (
            "the age identity, the secret that decrypts the backups: "
            f"{kit.identity_file or NOT_HERE}. Put a copy on the new host, and its path into "
            "BACKUP_AGE_IDENTITY_FILE"
        )
    yield (
        "keys of Shopify and Facebook: in the settings of your app there (docs/bot.md). "
        "ADMIN_TOKEN and STATE_TOKEN_SECRET can be new ones"
    )


def sheet(kit: Kit, keys: Sequence[str], *, now: datetime) -> str:
    """The sheet to keep elsewhere, with the token keys that it is given."""
    names = [f"  {one}" for one in kit.token_keys]
    lines = [
        f"EMERGENCY KIT of the bot's backups, {format_utc(now)}",
        "Whoever has this sheet can decrypt the tokens in the backups. Keep it away from this "
        "host and from the bucket.",
        "",
        "Fingerprints of the token keys, the one in use first:",
        *names,
        "Public keys that the backups are encrypted for:",
        *([f"  {one}" for one in kit.recipients] or ["  none: the backups are not encrypted"]),
        "",
        "Lines for .env on an empty host:",
        *(f"  {line}" for line in env_lines(kit, keys)),
        "",
        "To look up:",
        *(f"  - {line}" for line in to_look_up(kit)),
        "",
        "To get the data back:",
        *(f"  {number}. {line}" for number, line in enumerate(STEPS, 1)),
    ]
    return "\n".join(lines)


def document(kit: Kit, kept_at: datetime | None) -> dict[str, Any]:
    """The kit as JSON: fingerprints, never a key."""
    store = kit.store
    return {
        "token_keys": list(kit.token_keys),
        "recipients": list(kit.recipients),
        "identity_file": str(kit.identity_file) if kit.identity_file else None,
        "store": {
            "endpoint": store.endpoint,
            "region": store.region,
            "bucket": store.bucket,
            "prefix": store.prefix,
            "folder": str(store.folder) if store.folder else None,
        },
        "database": kit.database,
        "kept_at": format_utc(kept_at) if kept_at else None,
    }


def written(path: Path) -> str:
    """After the sheet was written into a file."""
    return (
        f"The emergency kit, with the token keys, is in {path}. Take it away from this host and "
        "from the bucket (print it, or put it into a password manager), delete the file, then:\n"
        "  ./bot backups kit --kept"
    )


def printed() -> str:
    """After the sheet was printed to a terminal."""
    return "When you keep it elsewhere, confirm it: ./bot backups kit --kept"


def confirmed(at: datetime) -> str:
    """After a person confirmed that the kit is kept."""
    return (
        f"Noted at {format_utc(at)}: you keep the emergency kit elsewhere. You will be asked again "
        "when the first token key or BACKUP_AGE_RECIPIENTS changes."
    )
