"""Keys of chains, both ways. Pure.

PREFIX chains/20261122T010000Z-<instance>/head.json        the full that a chain hangs on
PREFIX chains/<chain>/i/0000000017.inc[.age]               an increment
PREFIX chains/<chain>/d/0000003600.inc[.age]               a differential: all since the full
PREFIX chains/<chain>/p/0000000001-0000003600.pack         increments of an hour, end to end
PREFIX chains/<chain>/check-20261122T130000Z.json          a verdict on a chain
PREFIX chains/<chain>/mark-20261122T130000Z.json           a later mark: it vouches for these
PREFIX chains/<chain>/end.json                             why nothing follows

The id of a chain is that of its full and of the installation that made it; the id of a point in it
is that of its full, a dot and its number. Older versions of this program neither list nor sweep
what is below `chains/`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from backups.format import naming

HIGHEST_NUMBER = 9_999_999_999
_SET = r"\d{8}T\d{6}Z"
_CHAIN = rf"{_SET}-[0-9a-f]{{8,64}}"
_POINT_ID = re.compile(rf"(?P<set_id>{_SET})\.(?P<number>[1-9]\d{{0,9}})", re.ASCII)
_CHAIN_ID = re.compile(rf"(?P<set_id>{_SET})-(?P<instance>[0-9a-f]{{8,64}})", re.ASCII)
_KEY = re.compile(
    rf"chains/(?P<chain>{_CHAIN})/(?:"
    r"(?P<document>head|end)\.json"
    rf"|(?P<later>check|mark)-(?P<stamp>{_SET})\.json"
    r"|(?P<folder>[id])/(?P<number>\d{10})\.inc(?P<sealed>\.age)?"
    r"|p/(?P<first>\d{10})-(?P<last>\d{10})\.pack)",
    re.ASCII,
)

ChainKind = Literal["head", "end", "check", "mark", "increment", "differential", "pack"]
# They are read whole, and cover no numbers.
DOCUMENTS: tuple[ChainKind, ...] = ("head", "end", "check", "mark")
_FOLDERS: dict[str, ChainKind] = {"i": "increment", "d": "differential"}

ChainId = Annotated[str, Field(pattern=rf"^{_CHAIN}$")]


@dataclass(frozen=True)
class ChainKey:
    """What a key below `chains/` says: the object's kind, and the numbers that it covers.

    `first` and `last` are 0 for a document; `sealed` says whether its bodies are encrypted.
    """

    chain: str
    kind: ChainKind
    first: int = 0
    last: int = 0
    sealed: bool = False


def chain_id(set_id: str, instance: str) -> str:
    """The id of the chain that hangs on a set."""
    return f"{set_id}-{instance}"


def set_of(chain: str) -> str:
    """The id of the set that a chain hangs on."""
    return chain.partition("-")[0]


def instance_of(chain: str) -> str:
    """The installation that made a chain."""
    return chain.partition("-")[2]


def is_chain_id(text: str) -> bool:
    """Whether `text` can be the id of a chain."""
    found = _CHAIN_ID.fullmatch(text)
    return found is not None and naming.is_set_id(found["set_id"])


def point_id(chain: str, number: int) -> str:
    """`20261122T010000Z.17`: the id of a point of a chain."""
    return f"{set_of(chain)}.{number}"


def parse_point_id(text: str) -> tuple[str, int] | None:
    """`(id of the full, number)`; None for what is no id of a point of a chain."""
    found = _POINT_ID.fullmatch(text)
    if found is None or not naming.is_set_id(found["set_id"]):
        return None
    return found["set_id"], int(found["number"])


def chains_prefix(prefix: str) -> str:
    """Below which all chains are."""
    return f"{prefix}chains/"


def chain_prefix(prefix: str, chain: str) -> str:
    """Below which all objects of a chain are."""
    return f"{chains_prefix(prefix)}{chain}/"


def head_key(prefix: str, chain: str) -> str:
    """The key of the document that begins a chain."""
    return f"{chain_prefix(prefix, chain)}head.json"


def end_key(prefix: str, chain: str) -> str:
    """The key of the document that ends a chain."""
    return f"{chain_prefix(prefix, chain)}end.json"


def checks_prefix(prefix: str, chain: str) -> str:
    """With which the keys of all verdicts on a chain begin."""
    return f"{chain_prefix(prefix, chain)}check-"


def check_key(prefix: str, chain: str, at: datetime) -> str:
    """The key of a verdict on a chain."""
    return f"{checks_prefix(prefix, chain)}{naming.stamp(at)}.json"


def mark_key(prefix: str, chain: str, at: datetime) -> str:
    """The key of a later mark of a chain."""
    return f"{chain_prefix(prefix, chain)}mark-{naming.stamp(at)}.json"


def increments_prefix(prefix: str, chain: str) -> str:
    """Below which the increments of a chain are that are in no pack yet."""
    return f"{chain_prefix(prefix, chain)}i/"


def increment_key(prefix: str, chain: str, number: int, *, sealed: bool) -> str:
    """The key of an increment; numbers count from 1."""
    return f"{increments_prefix(prefix, chain)}{number:010}.inc{'.age' if sealed else ''}"


def differential_key(prefix: str, chain: str, number: int, *, sealed: bool) -> str:
    """The key of a differential: the state after increment `number`, from the full."""
    return f"{chain_prefix(prefix, chain)}d/{number:010}.inc{'.age' if sealed else ''}"


def pack_key(prefix: str, chain: str, first: int, last: int) -> str:
    """The key of a pack of the increments `first` to `last`."""
    return f"{chain_prefix(prefix, chain)}p/{first:010}-{last:010}.pack"


def parse_chain_key(prefix: str, key: str) -> ChainKey | None:
    """What a key says, or None for any other key."""
    found = _KEY.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
    if found is None or not is_chain_id(found["chain"]):
        return None
    chain = found["chain"]
    if found["document"]:
        return ChainKey(chain, "head" if found["document"] == "head" else "end")
    if found["stamp"]:
        later: ChainKind = "check" if found["later"] == "check" else "mark"
        return ChainKey(chain, later) if naming.is_set_id(found["stamp"]) else None
    if found["folder"]:
        number = int(found["number"])
        kind = _FOLDERS[found["folder"]]
        return ChainKey(chain, kind, number, number, bool(found["sealed"])) if number else None
    first, last = int(found["first"]), int(found["last"])
    return ChainKey(chain, "pack", first, last) if 1 <= first <= last else None
