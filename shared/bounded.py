"""Types for what comes from outside: bounded in size, and printable. Pure.

They are checked where a document is read (`pydantic`), and not when a record is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field, PlainSerializer

from shared.printable import printable

# What the documents of the store may say; checked where one is read, and not when a record is made.
FIRST_YEAR = 1970
MOST_OBJECTS = 8  # as many as the settings take sources
MOST_RECIPIENTS = 500  # so many fit in the header of an age file (`sets/seal.py`)
MOST_REASONS = 100
MOST_TEXT = 1000
HIGHEST_SEQUENCE = 2**53  # what every reader of JSON can count to (RFC 8259, section 6)


def _instant(instant: datetime) -> datetime:
    try:
        found = instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time that does not exist in UTC") from None
    if found.year < FIRST_YEAR:
        raise ValueError(f"a time before the year {FIRST_YEAR}")
    return found


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a text with characters that cannot be printed")
    return text


Instant = Annotated[AwareDatetime, AfterValidator(_instant)]
# Texts for people are shown as far as they can be; a name is refused unless it can.
Text = Annotated[str, AfterValidator(lambda text: printable(text, MOST_TEXT))]
Texts = Annotated[tuple[Text, ...], AfterValidator(lambda texts: texts[:MOST_REASONS])]
Printable = Annotated[str, AfterValidator(_printable)]
Name = Annotated[Printable, Field(max_length=200)]
SetId = Annotated[Printable, Field(max_length=20)]
Key = Annotated[Printable, Field(max_length=1024)]
# A file of SQLite has at most 2^32 - 2 pages of 65,536 bytes (https://www.sqlite.org/limits.html).
Size = Annotated[int, Field(ge=0, le=2**48)]
PageCount = Annotated[int, Field(ge=0, le=2**32)]
PageSize = Annotated[int, Field(ge=512, le=65536)]
UserVersion = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Count = Annotated[int, Field(ge=0, le=2**53)]
RowCounts = Annotated[  # of any kind of mapping; a table may have any name
    Mapping[Annotated[str, Field(max_length=MOST_TEXT)], Count], PlainSerializer(dict)
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Sequence = Annotated[int, Field(ge=1, le=HIGHEST_SEQUENCE)]
SourceName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
