"""`docs/bot.md` names all that has to be entered, ticked and found at the platforms."""

from __future__ import annotations

import re

from facebook_integration.graph import SCOPES, SUBSCRIBED_FIELDS
from facebook_integration.wiring import PLATFORM as FACEBOOK
from shared.settings.reader import SettingReader
from shopify_integration.wiring import PLATFORM as SHOPIFY
from tests.support.installation import REPOSITORY

TEXT = (REPOSITORY / "docs" / "bot.md").read_text()


def test_the_source_of_each_value_is_named() -> None:
    """Every setting that a platform needs has a row that says where its value is found."""
    for platform in (SHOPIFY, FACEBOOK):
        reader = SettingReader({f"{platform.name.upper()}_PROBE": "x"})
        assert platform.read_settings(reader) is None
        needed = {name for name in reader.names if not re.search("VERSION|SCOPES|_URL$", name)}
        assert len(needed) >= 4
        for name in needed:
            assert f"\n| `{name}` | " in TEXT, name


def test_what_is_to_be_ticked_is_named() -> None:
    """The permissions and the fields of webhooks that the bot uses are those of the document."""
    for word in (*SCOPES, *SUBSCRIBED_FIELDS):
        assert f"`{word}`" in TEXT, word
