"""`shared/` names no platform: what one needs, its package brings."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from app import PLATFORMS
from tests.support.installation import REPOSITORY

# In any case, and also as a part of a longer name.
NAMES = {word for platform in PLATFORMS for word in (platform.name, platform.package)}
# Words of a brand that are also something else in small letters or inside of other words.
BRAND = r"\bMeta\b|\bMETA_|\bMessenger\b|\bInstagram\b|\b[Gg]raph\b|\bGRAPH_|\b(?i:fb)_"
PLATFORM = re.compile(f"(?i:{'|'.join(sorted(NAMES))})|{BRAND}")


def lines_that_name_a_platform() -> Iterator[str]:
    """Where, and the line; no file at all is a fault in the test."""
    paths = [path for path in (REPOSITORY / "shared").rglob("*") if path.suffix not in ("", ".pyc")]
    assert len(paths) > 30
    for path in sorted(paths):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if PLATFORM.search(line):
                yield f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"


def test_shared_names_no_platform() -> None:
    """Neither in code, nor in a text for a user, nor in a comment."""
    assert list(lines_that_name_a_platform()) == []


@pytest.mark.parametrize(
    "line",
    [
        "from shopify_integration.routes import x",
        'PROVIDERS = ("facebook", "shopify")',
        'SHOPIFY_NAMES = ("SHOPIFY_API_KEY",)',
        "def read_facebook(reader):",
        "# Meta retries for up to 36 hours",
        '"This bot answers your customers in Messenger."',
        '"fb_exchange_token",',
        'reader.value("META_APP_ID", "")',
        "raise ValueError('a version of the Graph API')",
    ],
)
def test_every_way_to_name_one_is_seen(line: str) -> None:
    """The rule above would not notice what the pattern overlooks."""
    assert PLATFORM.search(line)


@pytest.mark.parametrize(
    "line",
    [
        '<meta charset="utf-8">',
        "client.meta.events.register(name)",
        'metadata=error.response["ResponseMetadata"]',
        "from cryptography.fernet import Fernet",
        'add_parser("env", metavar="COMMAND")',
    ],
)
def test_other_words_are_no_brand(line: str) -> None:
    """A rule with false alarms would be switched off."""
    assert not PLATFORM.search(line)
