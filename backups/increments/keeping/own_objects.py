"""Whether an object in the store says itself of which chain it is, before it is deleted."""

from __future__ import annotations

from collections.abc import Mapping

from backups.errors import ManifestInvalid
from backups.format import chain as chain_format
from backups.format.chain import End, Head
from backups.format.chain_keys import instance_of, parse_chain_key
from backups.format.document import MOST_BYTES
from shared.errors import ObjectMissing, ObjectTooLarge
from shared.store.object_store import ObjectStore, get_document


def is_of(metadata: Mapping[str, str], chain: str) -> bool:
    """Whether an object says that it was put for a chain, by the installation that made it."""
    return metadata.get("instance") == instance_of(chain) and metadata.get("chain") == chain


def is_of_chain(
    store: ObjectStore, prefix: str, key: str, metadata: Mapping[str, str], chain: str
) -> bool:
    """The same of the object under `key`; raises `StoreError`.

    Earlier versions named no chain in the metadata of heads and ends: what is in these says it.
    """
    parsed = parse_chain_key(prefix, key)
    if "chain" in metadata or parsed is None or parsed.kind not in ("head", "end"):
        return is_of(metadata, chain)
    if metadata.get("instance") != instance_of(chain):
        return False
    try:
        document = get_document(store, key, MOST_BYTES)
        if parsed.kind == "head":
            chain_format.load(Head, document, key=key, chain=chain)
        else:
            chain_format.load(End, document, key=key, chain=chain)
    except (ManifestInvalid, ObjectMissing, ObjectTooLarge):
        return False
    return True
