"""What a person may delete, and what goes with it. Pure.

Who deletes on purpose stands above the rules of retention, but not above what protects all of them:
the newest good set stays, what was pinned, what is not ours, and what the newest points need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backups.decisions.chains.retention import Chain, uses_of_fulls
from backups.decisions.order import newest_first
from backups.decisions.retention import Retainable, RetentionFacts, chain_facts, newest_good
from backups.errors import NotDeletable
from backups.format.chain_keys import chain_id, set_of
from backups.model import BackupSet

_NEWER = "Make a newer one first: ./bot backups run"


@dataclass(frozen=True)
class DeletionPlan:
    """A set that may be deleted, and the chain that hangs on it, if there is one; `again` where an
    earlier deletion of it did not come to its end."""

    backup_set: BackupSet
    chain: Chain | None = None
    again: bool = False


def plan_deletion(
    chosen: BackupSet,
    points: Sequence[Retainable],
    chains: Sequence[Chain],
    facts: RetentionFacts,
    *,
    own: str,
) -> DeletionPlan:
    """What goes with a set; `points` are all restore points. Raises `NotDeletable`."""
    _refuse_others(chosen, facts)
    if (label := facts.pinned.get(chosen.id)) is not None:
        raise NotDeletable(
            f"{chosen.id} is pinned" + (f" ({label})" if label else ""),
            f"Let it go first: ./bot backups unpin {chosen.id}",
        )
    if chosen.id in facts.unread:
        raise NotDeletable(
            f"a note beside {chosen.id} cannot be read, and it may say that the set is pinned",
            "See which one, and why: ./bot backups list",
        )
    good = newest_good(newest_first(points, facts.ours, facts.now), facts)
    if any(one.id == chosen.id for one, _ in good):
        what = "the newest complete, proven set" if chosen.protects else "the newest set there is"
        raise NotDeletable(f"{chosen.id} is {what}, and is never deleted", _NEWER)
    use = uses_of_fulls(chains, None, chain_facts(points, facts, own)).get(chosen.id)
    if use is not None and use.protected:
        raise NotDeletable(
            f"the newest points are made from {chosen.id}, and it is never deleted while they are",
            f"{_NEWER}. The next points are made from that",
        )
    return DeletionPlan(chosen, chain_of(chosen, chains))


def chain_of(chosen: BackupSet, chains: Sequence[Chain]) -> Chain | None:
    """The chain that hangs on a set, and goes with it."""
    wanted = chain_id(chosen.id, chosen.instance)
    return next((one for one in chains if one.id == wanted and one.mark == "valid"), None)


def _refuse_others(chosen: BackupSet, facts: RetentionFacts) -> None:
    """Only what is proven ours is deleted."""
    if chosen.point is not None:
        full = set_of(chosen.point.chain)
        raise NotDeletable(
            f"{chosen.id} is a point between sets, and is deleted with the set that it follows",
            f"To delete that set and all of its points: ./bot backups delete {full}",
        )
    if chosen.kind == "legacy" or chosen.mark != "valid":
        raise NotDeletable(
            f"{chosen.id} has no valid mark, so nothing shows that this program made it",
            "Look at what it is, then delete its objects with a tool of the store.",
        )
    if chosen.instance not in facts.ours:
        raise NotDeletable(
            f"{chosen.id} was made by another installation, {chosen.instance}",
            f"Type the command on its host. If that is gone: ./bot backups adopt {chosen.instance}",
        )
    if chosen.instance in facts.busy:
        raise NotDeletable(
            f"{chosen.id} was made by installation {chosen.instance}, which was taken over, and "
            "may still make sets",
            "Stop it, and wait until two backups of this one have followed its last.",
        )
