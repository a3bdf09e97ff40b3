"""Sets, objects and runs as they could have been made, for tests of what is done with them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from backups.format import naming
from backups.format.manifest import dump_manifest
from backups.model import BackupSet, Run, RunError, StoredObject
from tests.support.marks import MARK_KEY, signed_manifest

INSTANT = datetime(2026, 11, 22, 1, tzinfo=UTC)

# Instants from 1970 to 9998, to the microsecond.
INSTANTS = st.integers(86_400 * 10**6, 253_339_228_800 * 10**6).map(
    lambda microseconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
)
SOURCE_NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=32).filter(
    lambda name: name[0].islower()
)


def a_stored_object(
    source: str = "tokens", instant: datetime = INSTANT, **other: Any
) -> StoredObject:
    """An unsealed object of a source under its dated key; `other` are fields."""
    values: dict[str, Any] = {
        "source": source,
        "key": naming.data_key("backups/", source, instant, dated=True),
        "bytes": 8192,
        "sha256": "a" * 64,
        "snapshot_bytes": 8192,
        "snapshot_sha256": "a" * 64,
        "page_size": 4096,
        "page_count": 2,
        "user_version": 1,
        "rows": {source: 3},
        "same_instant": True,
        "journal_mode": "wal",
    }
    return StoredObject(**{**values, **other})


def a_set(instant: datetime = INSTANT, **other: Any) -> BackupSet:
    """A complete, proven set of both databases, with a valid mark; `other` are fields."""
    values: dict[str, Any] = {
        "id": naming.set_id(instant),
        "kind": "set",
        "created_at": instant,
        "trigger": "scheduled",
        "instance": "0123456789abcdef",
        "complete": True,
        "proven_at": instant,
        "proof": "full",
        "suspect": None,
        "objects": (a_stored_object("tokens", instant), a_stored_object("sessions", instant)),
        "mark": "valid",
        "mark_key": MARK_KEY.fingerprint,
    }
    return BackupSet(**{**values, **other})


def a_manifest(backup_set: BackupSet) -> bytes:
    """Its manifest, which is marked if the set is."""
    document = dump_manifest(backup_set, application="the tests", sqlite="3.40.1")
    return signed_manifest(backup_set.id, document) if backup_set.mark == "valid" else document


def a_run(run_id: str = "20261122T010000Z-0000", **other: Any) -> Run:
    """A backup run that has succeeded; `other` are fields."""
    values: dict[str, Any] = {
        "id": run_id,
        "operation": "backup",
        "trigger": "scheduled",
        "status": "succeeded",
        "started_at": INSTANT,
        "finished_at": INSTANT,
        "set_id": naming.set_id(INSTANT),
        "stage": "manifest",
    }
    return Run(**{**values, **other})


def a_failed_run(run_id: str = "20261122T010000Z-ffff", **other: Any) -> Run:
    """A backup run that has failed."""
    error = RunError("store_unreachable", "there was no answer", "Check the network.")
    return a_run(run_id, **{"status": "failed", "set_id": None, "error": error, **other})
