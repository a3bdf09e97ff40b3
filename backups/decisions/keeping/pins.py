"""What pinned sets mean for the room that all sets may take. Pure."""

from __future__ import annotations

from collections.abc import Mapping

_MOST_NAMED = 3


def pins_in_the_way(excess: int, pinned: Mapping[str, int], labels: Mapping[str, str]) -> str:
    """What to add to the warning that the sets have `excess` bytes too many, where these `pinned`
    ones (bytes by id), which nothing else keeps, are the reason; else nothing."""
    if sum(pinned.values()) < excess:
        return ""
    largest = sorted(pinned, key=lambda one: (-pinned[one], one))
    named = [f"{one} ({labels[one]})" if labels[one] else one for one in largest[:_MOST_NAMED]]
    more = f" and {len(largest) - _MOST_NAMED} more" if len(largest) > _MOST_NAMED else ""
    return (
        f". Without the pinned sets it would not be: {', '.join(named)}{more}. To let one go: "
        f"./bot backups unpin {largest[0]}"
    )
