"""The JSON documents, as those who read them know them."""

from __future__ import annotations

import json

from backups.format.legacy import legacy_object
from backups.view.documents import set_document
from tests.support.records import a_set, a_stored_object


def test_the_members_of_an_object() -> None:
    """Of a stored object the document has these members in this order, and none of the others."""
    described = a_stored_object(schema="abc", unreadable=2)
    legacy = legacy_object("sessions", "backups/sessions_2025-07-04.db", 4096)
    document = set_document(a_set(objects=(described, legacy)))

    assert json.dumps(document["objects"]) == json.dumps(
        [
            {
                "source": "tokens",
                "key": "backups/tokens_2026-11-22.db",
                "bytes": 8192,
                "sha256": "a" * 64,
                "snapshot_bytes": 8192,
                "snapshot_sha256": "a" * 64,
                "rows": {"tokens": 3},
                "same_instant": True,
                "finding": "",
            },
            {
                "source": "sessions",
                "key": "backups/sessions_2025-07-04.db",
                "bytes": 4096,
                "sha256": "",
                "snapshot_bytes": 0,
                "snapshot_sha256": "",
                "rows": {},
                "same_instant": False,
                "finding": "",
            },
        ]
    )
