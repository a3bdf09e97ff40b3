"""Casting named texts to values, and collecting a line for each that cannot be used."""

from __future__ import annotations

import ipaddress
import itertools
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from unicodedata import category

from shared.crontab import Crontab
from shared.databases.cipher import TokenCipher

T = TypeVar("T")

_QUOTES = ("'", '"', "\u201c", "\u201d", "\u2018", "\u2019")
# Of Unicode: controls, the separators of lines and paragraphs, and halves of characters.
_NEVER_IN_PATHS = ("Cc", "Zl", "Zp", "Cs")
_MOST_SHOWN = 200
_LONGEST_NAME = 255  # bytes: NAME_MAX of Linux

MAKE_SECRET = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"  # noqa: S105
MAKE_FERNET_KEY = (
    "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
)


class SettingReader:
    """Casts named texts, and collects a line for each that cannot be used.

    `names` are all that were asked for: the settings that there are. The text of those in
    `schedules` may be in quotes, wherever it is given.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.faults: list[str] = []
        self.names: set[str] = set()
        self.schedules: set[str] = set()

    def fault(self, name: str, why: str) -> None:
        """Note why the value of `name` cannot be used."""
        self.faults.append(f"{name}: {why}")

    def missing(self, name: str, command: str) -> None:
        """Note that `name` is needed, and the command that makes a value."""
        # A malformed one has its line already.
        if not any(line.startswith(f"{name}:") for line in self.faults):
            self.fault(name, f"is not set; make one with: {command}")

    def explain(self, name: str, why: str, *causes: str | None) -> None:
        """Note why `name` cannot be used, before and in place of the faults that follow from it:
        its own, and those of the names of which it is the cause."""
        explained = tuple(f"{one}: " for one in (name, *causes) if one)
        followed = [fault for fault in self.faults if not fault.startswith(explained)]
        self.faults = [f"{name}: {why}", *followed]

    def optional(self, name: str) -> str | None:
        """The text, or None when it is unset or blank."""
        self.names.add(name)
        text = self._values.get(name, "").strip()
        return text or None

    def value(self, name: str, default: str) -> str:
        """The text, or `default`."""
        return self.optional(name) or default

    def path(self, name: str, default: str) -> Path:
        """A path; `~` is the home directory."""
        return self.parsed(name, default, parse_path)

    def schedule(self, name: str, default: str) -> Crontab:
        """A crontab line. A shell that sources `.env` needs quotes around one, because of its
        spaces and stars; `docker run --env-file` leaves them in."""
        self.schedules.add(name)
        return self.parsed(name, default, lambda text: Crontab(_unquoted(text)))

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number from `least` to `most`."""
        text = self.value(name, str(default))
        # Twenty digits are enough for any of them; Python refuses to read some thousand.
        if re.fullmatch("[0-9]{1,20}", text) and least <= int(text) <= most:
            return int(text)
        self.fault(name, f"is {text!r}, must be a whole number from {least} to {most}")
        return default

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """One of `choices`."""
        text = self.value(name, default)
        if text in choices:
            return text
        self.fault(name, f"is {text!r}, must be one of: {', '.join(choices)}")
        return default

    def flag(self, name: str) -> bool:
        """`true` or `false`, the default."""
        return self.choice(name, "false", ("true", "false")) == "true"

    def count(self, name: str, default: str) -> int | None:
        """A whole number, or None for `forever`."""
        text = self.value(name, default)
        if text == "forever":
            return None
        if text.isascii() and text.isdigit() and len(text) <= 15:
            return int(text)
        self.fault(name, f"is {text!r}, must be a whole number, or forever")
        return None

    def parsed(self, name: str, default: str, parse: Callable[[str], T]) -> T:
        """What `parse` makes of the text; it raises `ValueError` to refuse it."""
        text = self.value(name, default)
        try:
            return parse(text)
        except ValueError as error:
            # Someone may have pasted the secret half of a key pair: that is not repeated.
            shown = "is a secret key" if "SECRET" in text.upper() else f"is {_beginning(text)}"
            self.fault(name, f"{shown}: {error}")
            return parse(default)

    def secret(self, name: str, least: int) -> str | None:
        """A secret of at least `least` characters, or None."""
        text = self.optional(name)
        if text is None:
            return None
        if len(text) < least or not text.isascii() or not text.isprintable() or " " in text:
            why = f"must have at least {least} printable ASCII characters and no space"
            self.fault(name, f"{why}; make one with: {MAKE_SECRET}")
            return None
        return text

    def fernet_keys(self, name: str) -> tuple[str, ...]:
        """Fernet keys, separated by commas."""
        text = self.optional(name)
        keys = tuple(part.strip() for part in (text or "").split(",") if part.strip())
        try:
            if text is not None:
                TokenCipher(keys)
        except ValueError as error:
            self.fault(name, f"{error}, several separated by commas; make one: {MAKE_FERNET_KEY}")
            return ()
        return keys


def _unquoted(text: str) -> str:
    """A text without the quotes around it, if they are the same."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _beginning(text: str) -> str:
    """A text in quotes, as far as a reader needs it: what follows a line break may be a secret."""
    shown = "".join(itertools.takewhile(str.isprintable, text))[:_MOST_SHOWN]
    return repr(shown) if shown == text else f"{shown!r} and more"


def parse_path(text: str) -> Path:
    """A path.

    Raises `ValueError` for the home of an unknown user, and for what no path that is meant has: a
    quote at its beginning or end without the same one at the other, a control character
    (such as a line break of another kind, so that the next line is part of it), and a part that is
    longer than a file system takes.
    """
    if (text[0] in _QUOTES or text[-1] in _QUOTES) and (text[0] != text[-1] or len(text) == 1):
        raise ValueError("a quote begins or ends a path; remove it, or write the other one")
    if any(category(one) in _NEVER_IN_PATHS for one in text):
        raise ValueError("a path has no control characters")
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in text.split("/")):
        raise ValueError(f"a name in a path has at most {_LONGEST_NAME} bytes")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("there is no user with that home directory") from None


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this host itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
