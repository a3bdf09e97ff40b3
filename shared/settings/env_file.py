"""Writing the first `.env`: the example with fresh secrets. An existing one is never touched."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet


def write_env_file(example: Path, target: Path) -> bool:
    """Make `target` (0600) from `example`; False, and nothing done, when it exists.

    Raises `OSError` when it cannot be written.
    """
    fresh = {
        "ADMIN_TOKEN": secrets.token_urlsafe(32),
        "STATE_TOKEN_SECRET": secrets.token_urlsafe(32),
        "TOKEN_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
    }
    lines = example.read_text().splitlines()
    filled = "\n".join(f"{line}{fresh.get(line.removesuffix('='), '')}" for line in lines)
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{filled}\n")
    return True
