"""The proxy example: Caddy reads it, and it lets in what the platforms and the merchants need."""

from __future__ import annotations

import re
import shutil
import subprocess

from app import create_app
from shared.merchants.webhook_requests import MOST_BYTES, MOST_SECONDS
from tests.support.installation import REPOSITORY

CADDYFILE = REPOSITORY / "deploy" / "caddy" / "Caddyfile"
# caddyserver.com/docs/caddyfile: what may begin a line inside these blocks.
DIRECTIVES = {
    "": {"bot.example.com"},
    "{": {"servers"},
    "servers": {"max_header_size", "timeouts"},
    "timeouts": {"read_header", "read_body", "idle"},
    "bot.example.com": {"request_body", "@open", "handle"},
    "request_body": {"max_size"},
    "handle": {"reverse_proxy", "respond"},
}


def lines() -> list[tuple[str, list[str]]]:
    """The words of each line, with the block that it is in; fails where braces do not match."""
    found, blocks = [], [""]
    for line in CADDYFILE.read_text().splitlines():
        words = line.split("#")[0].split()
        if words == ["}"]:
            blocks.pop()
        elif words:
            if words != ["{"]:
                found.append((blocks[-1], words))
            if words[-1] == "{":
                blocks.append(words[0])
    assert blocks == [""]
    return found


def test_every_line_is_one_that_its_block_may_have() -> None:
    """Caddy itself says so where it is installed; elsewhere the names of its documentation do."""
    for block, words in lines():
        assert words[0] in DIRECTIVES[block], (block, words)
    if caddy := shutil.which("caddy"):
        command = [caddy, "validate", "--adapter", "caddyfile", "--config", str(CADDYFILE)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


def test_its_limits_are_those_of_the_app() -> None:
    """What the app would refuse does not reach it, and what it takes does."""
    values = {words[0]: words[1] for _, words in lines() if len(words) == 2}
    assert values["max_size"] == f"{MOST_BYTES // 1024**2}MiB"
    assert values["read_body"] == f"{MOST_SECONDS:.0f}s"


def test_only_what_is_for_everybody_passes() -> None:
    """Every route of the bot, and none of the admin's."""
    (patterns,) = [words[2:] for _, words in lines() if words[0] == "@open"]

    def passes(path: str) -> bool:
        return any(re.fullmatch(one.replace("*", ".*"), path) for one in patterns)

    paths = list(create_app().openapi()["paths"])
    bots = [path for path in paths if path.startswith(("/shopify", "/facebook"))]
    assert bots
    assert all(passes(path) for path in (*bots, "/", "/healthz"))
    closed = [path for path in paths if path.startswith(("/admin", "/metrics"))]
    assert closed
    assert not any(passes(path) for path in closed)
