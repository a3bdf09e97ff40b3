"""Rows of `tokens.db` and `sessions.db` that were exchanged or made up give nobody another's."""

from __future__ import annotations

import base64
import hashlib
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet

from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from shared.merchants.browser_sessions import SessionIds
from shopify_integration.grants import grant_of_text
from shopify_integration.shop_domain import shop_key
from shopify_integration.shops import shopify_access_token_key, user_uuid_key
from tests.support.bot import Bot
from tests.support.databases import connect
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.installation import TOKEN_ENCRYPTION_KEY
from tests.support.merchant import Merchant, connected, refused
from tests.support.older_tokens import exchange, put_older, set_version, version_of
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

VICTIM, ATTACKER = "victim.myshopify.com", "attacker.myshopify.com"
VICTIMS_TOKEN = shopify_access_token_key(shop_key(VICTIM))
VICTIMS_UUID, ATTACKERS_UUID = (user_uuid_key(shop_key(shop)) for shop in (VICTIM, ATTACKER))
CIPHER = TokenCipher((TOKEN_ENCRYPTION_KEY,))


@pytest.fixture
def bot(
    tmp_path: Path, graph: FakeGraph, shopify: FakeShopify, s3_server: S3Server
) -> Iterator[Bot]:
    """A bot to which a victim and an attacker have connected a shop each."""
    with Bot.started(tmp_path, graph, shopify, s3_server.settings_of_new_bucket()) as bot:
        for shop in (VICTIM, ATTACKER):
            bot.shopify.add_shop(shop)
            with Merchant(bot.app.url) as merchant:
                merchant.connect_shop(shop)
        yield bot


def values(bot: Bot) -> dict[str, str]:
    """What the rows of both hold, as the app reads them; a file that is being bound as well."""
    with closing(TokenStorage(bot.installation.tokens_path, CIPHER)) as tokens:
        keys = [key for key in tokens.keys() if "SHOP" in key or "UUID" in key]  # noqa: SIM118
        return {key: tokens.get(key) or "" for key in keys}


def while_stopped(bot: Bot, change: Callable[[Path], None]) -> None:
    """Change `tokens.db` while no app runs, as the restore of a planted set does."""
    bot.app.stop()
    change(bot.installation.tokens_path)
    bot.kill_and_start()


def as_older(bot: Bot, path: Path) -> None:
    """Make the file one of the version before, with the same values."""
    before = values(bot)
    set_version(path, 1)
    put_older(path, CIPHER, before)


def inside(state: str) -> str:
    """What anybody can read in a state, which is signed and compressed, and not encrypted."""
    text = state.removeprefix(".").split(".")[0]
    payload = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return (zlib.decompress(payload) if state.startswith(".") else payload).decode()


def shown_to(merchant: Merchant) -> str:
    """All that the bot has shown a merchant, with one more login."""
    merchant.leave_for_shop(ATTACKER)
    assert all('"nonce"' in inside(state) for state in merchant.states)
    texts = [answer.text + str(answer.headers) for answer in merchant.answers]
    return " ".join([*map(inside, merchant.states), *texts])


def users(bot: Bot) -> list[str]:
    """Whose sessions are stored."""
    with closing(sqlite3.connect(bot.installation.sessions_path)) as connection:
        return [row[0] for row in connection.execute("SELECT uuid FROM sessions ORDER BY 1")]


@pytest.mark.parametrize("form", ["bound", "older", "bound there"])
def test_a_login_never_shows_the_token_of_another(bot: Bot, form: str) -> None:
    """Where the attacker's UUID was, the victim's grant is now: it is decrypted for nobody."""
    before = values(bot)
    secrets = grant_of_text(before[VICTIMS_TOKEN])

    def plant(path: Path) -> None:
        if form == "older":
            as_older(bot, path)
        if form == "bound there":  # as an older version, which checked no shape, left it
            with closing(TokenStorage(path, CIPHER)) as tokens:
                tokens.put(ATTACKERS_UUID, before[VICTIMS_TOKEN], "uuid")
        else:
            exchange(path, VICTIMS_TOKEN, ATTACKERS_UUID)

    while_stopped(bot, plant)
    with Merchant(bot.app.url) as attacker:
        for _ in range(2):
            refused(attacker.get(attacker.begin_shop(ATTACKER)), 500, "unreadable")
        shown = f"{shown_to(attacker)} {users(bot)}"
    assert secrets.refresh_token
    for secret in (secrets.access_token, secrets.refresh_token):
        assert secret not in shown
        assert secret not in bot.app.output()
    if form == "older":  # what cannot be right is not bound, and is unreadable from then on
        unreadable = "2 values of tokens.db are not what their rows hold"
        eventually(lambda: unreadable in bot.app.output(), "all to be bound")
        assert version_of(bot.installation.tokens_path) == 4
        with Merchant(bot.app.url) as attacker:
            refused(attacker.get(attacker.begin_shop(ATTACKER)), 500, "unreadable")


def test_exchanged_uuids_make_nobody_another_user(bot: Bot) -> None:
    """The attacker's login is refused, and the victim's page has not become theirs."""
    before, sessions = values(bot), users(bot)
    while_stopped(bot, lambda path: exchange(path, VICTIMS_UUID, ATTACKERS_UUID))
    with Merchant(bot.app.url) as attacker:
        refused(attacker.get(attacker.begin_shop(ATTACKER)), 500, "unreadable")
        assert before[VICTIMS_UUID] not in shown_to(attacker)
        assert attacker.front()["session"] is False
    assert users(bot) == sessions


def test_one_bad_row_does_not_close_the_page_of_others(bot: Bot) -> None:
    """A merchant whose own rows are right sees their shops."""
    while_stopped(bot, lambda path: exchange(path, VICTIMS_UUID, ATTACKERS_UUID))
    other = "other.myshopify.com"
    bot.shopify.add_shop(other)
    with Merchant(bot.app.url) as merchant:
        merchant.connect_shop(other)
        assert [shop["account"] for shop in merchant.front()["shops"]] == [other]


def test_an_older_file_is_bound_and_serves_all(bot: Bot) -> None:
    """What the version before stored works before, while and after it is bound."""
    before = values(bot)
    while_stopped(bot, lambda path: as_older(bot, path))
    with Merchant(bot.app.url) as merchant:
        merchant.connect_shop(ATTACKER)
    eventually(lambda: version_of(bot.installation.tokens_path) == 4, "all to be bound")
    after = values(bot)
    assert after.keys() == before.keys()
    assert [after[key] for key in (VICTIMS_UUID, ATTACKERS_UUID, VICTIMS_TOKEN)] == [
        before[key] for key in (VICTIMS_UUID, ATTACKERS_UUID, VICTIMS_TOKEN)
    ]


def test_the_state_names_the_user_by_a_hash(bot: Bot) -> None:
    """The UUID passes through no address, and a state still fits only its user."""
    with Merchant(bot.app.url) as merchant:
        merchant.connect_shop(ATTACKER)
        user = values(bot)[ATTACKERS_UUID]
        merchant.leave_for_facebook()
        shown = shown_to(merchant)
        assert hashlib.sha256(f"user:{user}".encode()).hexdigest() in shown
        assert user not in shown
        connected(merchant.get(merchant.begin_shop(ATTACKER)))


IDS = SessionIds((TOKEN_ENCRYPTION_KEY,))
SOMEBODY = str(uuid4())


@pytest.mark.parametrize(
    ("user", "cookie", "seconds", "session"),
    [
        (SOMEBODY, IDS.new(SOMEBODY), 0, True),
        (SOMEBODY, IDS.new(SOMEBODY), 86400, False),
        (SOMEBODY, IDS.new(str(uuid4())), 0, False),
        (SOMEBODY, SessionIds((Fernet.generate_key().decode(),)).new(SOMEBODY), 0, False),
        (SOMEBODY, "x" * 43, 0, False),
        ("a token of somebody", IDS.new("a token of somebody"), 0, False),
    ],
    ids=["right", "from the future", "of another user", "of another key", "made up", "no UUID"],
)
def test_a_made_up_session_is_no_user(
    bot: Bot, user: str, cookie: str, seconds: int, session: bool
) -> None:
    """Only an id that was made for its user, with our keys, and within the hour."""
    with closing(connect(bot.installation.sessions_path)) as connection:
        connection.execute(
            "INSERT INTO sessions VALUES (?, ?, ?)",
            (hashlib.sha256(cookie.encode()).hexdigest(), user, int(time.time()) + seconds),
        )
    with Merchant(bot.app.url) as merchant:
        merchant.set_cookie("session", cookie)
        assert merchant.front()["session"] is session


def test_a_session_ends_with_the_last_key_that_signed_it(bot: Bot) -> None:
    """A key in front of it changes nothing for a browser; without it, one has to log in again."""
    with Merchant(bot.app.url) as merchant:
        merchant.connect_shop(ATTACKER)
        new = Fernet.generate_key().decode()
        bot.restart(TOKEN_ENCRYPTION_KEYS=f"{new},{TOKEN_ENCRYPTION_KEY}")
        assert merchant.front()["session"] is True
        bot.restart(TOKEN_ENCRYPTION_KEYS=new)
        assert merchant.front()["session"] is False
