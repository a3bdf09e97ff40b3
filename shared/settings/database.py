"""`DATABASE_URL`, and what several hosts that share a database cannot have of their own."""

from __future__ import annotations

from shared.databases.engines.address import DatabaseAddress, parse_address
from shared.settings.reader import SettingReader
from shared.store.spaces_access import SpacesSettings


def read_database(reader: SettingReader, spaces: SpacesSettings | None) -> DatabaseAddress | None:
    """The database that hosts share, or None where this host has its own files."""
    given = reader.optional("DATABASE_URL")
    if given is None:
        return None
    try:
        address = parse_address(given)
    except ValueError as error:
        reader.fault("DATABASE_URL", str(error))
        return None
    if spaces is None:
        reader.fault(
            "DATABASE_URL",
            "needs a bucket: a local folder as store is not shared between hosts; set SPACES_*",
        )
    if reader.optional("BACKUP_EXTRA_SOURCES") is not None:
        reader.fault(
            "BACKUP_EXTRA_SOURCES",
            "names files of one host, which cannot be in the sets of several; leave it out with "
            "DATABASE_URL",
        )
    return address
