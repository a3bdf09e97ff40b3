"""The emergency kit of this installation, read from its settings."""

from __future__ import annotations

from backups.vocabulary.kit import Kit, StoreAddress
from shared.databases.cipher import key_fingerprint
from shared.settings.load import Settings


def kit_of(settings: Settings) -> Kit:
    """What an empty host needs, without any secret."""
    backup, spaces = settings.backup, settings.spaces
    if spaces is None:
        store = StoreAddress(backup.prefix, folder=backup.local_store)
    else:
        store = StoreAddress(backup.prefix, spaces.endpoint, spaces.region, spaces.bucket)
    second = None
    if (copy := settings.copy) is not None:
        bucket = copy.bucket
        second = StoreAddress(backup.prefix, bucket.endpoint, bucket.region, bucket.bucket)
    return Kit(
        token_keys=tuple(key_fingerprint(key) for key in settings.token_encryption_keys),
        recipients=backup.age_recipients,
        identity_file=backup.age_identity_file,
        store=store,
        second=second,
        database=settings.database.place if settings.database else None,
    )
