"""Who is notified, in the words of status and of the page, and in JSON."""

from __future__ import annotations

from pathlib import Path

from backups.view import documents
from backups.view.notified import notified
from tests.support.bench import open_bench
from tests.support.clock import FixedClock
from tests.support.records import INSTANT


def test_status_says_who_is_notified_and_how_the_last_message_ended(tmp_path: Path) -> None:
    """Nobody; receivers that were sent nothing yet; the result of the last message, and when."""
    with open_bench(tmp_path / "nobody", clock=FixedClock(INSTANT), receivers=()) as bench:
        assert notified(bench.service.status()) == "nobody"
    with open_bench(tmp_path, clock=FixedClock(INSTANT), has_heartbeat=True) as bench:
        count = len(bench.service.config.receivers)
        assert count > 0
        words = f"{count} receiver{'s' if count > 1 else ''} and a heartbeat URL"
        assert notified(bench.service.status()) == f"{words}; no message was sent yet"
        bench.service.alerts.send_test_message()
        status = bench.service.status()
        assert notified(status) == f"{words}; the last message was sent, 2026-11-22T01:00:00Z"
        assert documents.status_document(status)["notified"] == {
            "receivers": count,
            "heartbeat": True,
            "last_at": "2026-11-22T01:00:00Z",
            "last_result": "sent",
        }
