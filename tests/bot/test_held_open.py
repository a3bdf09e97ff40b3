"""Requests that strangers hold open cost the running app little memory, and come to an end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.app_process import AppProcess, free_port
from tests.support.fake_graph import FakeGraph
from tests.support.held_open import held_open, resident_bytes
from tests.support.installation import Installation, bot_secrets
from tests.support.waiting import eventually

BODIES, HEADS, FORMS, SIZE = 500, 300, 20, 1_000_000
# All unsigned bodies together may have 16 MB.
ADMITTED = 16 * 1024**2 // SIZE
MOST_BYTES = 64 * 1024**2
PATIENCE = 120  # the limits are 30 s and some, on a machine that does other things as well


@pytest.mark.slow
def test_what_is_held_open_is_bounded_and_ends(tmp_path: Path, graph: FakeGraph) -> None:
    """500 bodies, 300 heads and 20 logins that drip are refused by name or ended."""
    graph.reset()
    port = free_port()
    installation = Installation(
        tmp_path, {**bot_secrets(), **graph.settings(f"http://127.0.0.1:{port}")}
    )
    with (
        AppProcess.start(installation, port=port, as_script=True) as app,
        app.client(token=None) as client,
    ):
        assert graph.send_raw_webhook(b'{"object": "page"}').status == 200
        assert client.post("/admin/login", content=b"token=").status_code != 404
        idle = resident_bytes(app.pid)  # with all that a first request imports
        with held_open(port, bodies=BODIES, heads=HEADS, forms=FORMS, size=SIZE) as held:
            eventually(
                lambda: held.answers["HTTP/1.1 503 Service Unavailable"] >= BODIES - ADMITTED,
                "the bodies beyond the budget are refused",
                seconds=PATIENCE,
            )
            assert client.get("/healthz").status_code == 200
            eventually(lambda: held.has_ended, "all of them to end", seconds=PATIENCE)

        most = resident_bytes(app.pid, "VmHWM") - idle
        assert graph.send_raw_webhook(b'{"object": "page"}').status == 200
    assert most <= MOST_BYTES, f"{most / 1e6:.0f} MB above idle"
    assert set(held.answers) == {
        "HTTP/1.1 503 Service Unavailable",
        "HTTP/1.1 408 Request Timeout",
        "HTTP/1.1 403 Forbidden",
    }
    assert held.answers.total() == BODIES + FORMS
    assert held.answers["HTTP/1.1 403 Forbidden"] == FORMS
    for code in ("bodies_too_many", "body_too_slow", "did not arrive as a whole"):
        assert code in str(held.texts)
