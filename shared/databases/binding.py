"""The value of a row of `tokens.db`, bound to it: in another row nobody can use it.

What is encrypted begins with the byte 0x01, which no value of an older version does. Then come the
number of this form, the row's type and key, and the value: each as four bytes with its length (the
first counts most), and its bytes in UTF-8.

The `user_version` of the file says which form its rows have: up to 1 the old one, the value alone;
at 2 both; from 3 on only the new one. So nobody can bring an old value into a new file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from shared.databases.cipher import TokenCipher
from shared.databases.engines.database import Connection
from shared.errors import CipherError, ValueUnreadable

BINDING, BOUND = 2, 3

_FIRST = b"\x01"
_FORM = b"1"
_LENGTH_BYTES = 4
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TOKEN = re.compile(r"[!-z|~]+")  # no braces: those begin a document
_REMEDY = (
    "Restore it from a set in which it is right (./bot backups list), or delete the row and "
    "connect the account again."
)


@dataclass(frozen=True)
class Row:
    """A row as it is stored. Bytes, because a damaged text may be no UTF-8."""

    key: bytes
    kind: bytes
    value: bytes

    # For `SELECT`; the rowid is for whoever changes the value.
    COLUMNS = "rowid, CAST(key AS BLOB), CAST(type AS BLOB), CAST(value AS BLOB)"

    @classmethod
    def of(cls, columns: tuple[int, bytes | None, bytes | None, bytes | None]) -> Self:
        """The row of `COLUMNS`; what is NULL is empty."""
        return cls(columns[1] or b"", columns[2] or b"", columns[3] or b"")

    @property
    def name(self) -> str:
        """The key, for messages and logs."""
        return ascii(self.key[:100].decode(errors="replace"))


def sealed_value(cipher: TokenCipher, version: int, key: str, kind: str, value: str) -> str:
    """What is stored for a value in a file of this `user_version`."""
    if version < BINDING:
        return cipher.encrypt(value)
    return cipher.encrypt(_begin(key.encode(), kind.encode()) + _part(value.encode()))


def opened_value(cipher: TokenCipher, version: int, row: Row) -> str:
    """The value of a row in a file of this `user_version`.

    Raises `CipherError` when no key opens it, and `ValueUnreadable` when it is not the row's.
    """
    plain = cipher.decrypt(row.value)
    if not is_bound(plain):
        if version < BOUND:
            return _text(plain, row)
        raise ValueUnreadable(
            f"the value of {row.name} in tokens.db is not bound to its row, as it was before "
            "values were: it was brought here from somewhere else",
            _REMEDY,
        )
    begin = _begin(row.key, row.kind)
    value = plain[len(begin) + _LENGTH_BYTES :]
    if version < BINDING or plain != begin + _part(value):
        raise ValueUnreadable(
            f"the value of {row.name} in tokens.db belongs to another row or file", _REMEDY
        )
    return _text(value, row)


def is_bound(plain: bytes) -> bool:
    """Whether decrypted bytes have the new form."""
    return plain.startswith(_FIRST)


def is_uuid(text: str) -> bool:
    """Whether this is a UUID, as each user has one."""
    return bool(_UUID.fullmatch(text))


def is_token(text: object) -> bool:
    """Whether this can be a platform's token: one printable word of ASCII, and no UUID."""
    return isinstance(text, str) and bool(_TOKEN.fullmatch(text)) and not is_uuid(text)


@dataclass
class Tally:
    """How many rows there are, and which of them cannot be used."""

    rows: int = 0
    undecryptable: int = 0
    misplaced: int = 0
    first_misplaced: str = ""

    def count(self, cipher: TokenCipher, version: int, row: Row) -> None:
        """Look at one more row."""
        self.rows += 1
        try:
            opened_value(cipher, version, row)
        except ValueUnreadable as error:
            self.misplaced += 1
            self.first_misplaced = self.first_misplaced or error.message
        except CipherError:
            self.undecryptable += 1

    def result(self) -> tuple[int, int, str]:
        """`(rows, unreadable, what is wrong with those that a key opens)`."""
        if not self.misplaced:
            return self.rows, self.undecryptable, ""
        about = f"{self.misplaced} of them decrypt, and are not the values of their rows: "
        return self.rows, self.undecryptable + self.misplaced, about + self.first_misplaced


def tally(connection: Connection, cipher: TokenCipher, version: int, query: str) -> Tally:
    """Look at all rows that `query` (with `Row.COLUMNS`) gives."""
    found = Tally()
    for columns in connection.execute(query):
        found.count(cipher, version, Row.of(columns))
    return found


def _begin(key: bytes, kind: bytes) -> bytes:
    return _FIRST + _part(_FORM) + _part(kind) + _part(key)


def _part(data: bytes) -> bytes:
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


def _text(data: bytes, row: Row) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueUnreadable(f"the value of {row.name} in tokens.db is no text", _REMEDY) from None
