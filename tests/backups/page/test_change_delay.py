"""The page says how long a change waits, where a setting makes points rarer than each second."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.app_process import AppProcess
from tests.support.installation import ADMIN_TOKEN, installation_in


@pytest.mark.slow
@pytest.mark.parametrize(("delay", "is_said"), [("60", True), ("1", False)])
def test_the_overview_says_the_delay(tmp_path: Path, delay: str, *, is_said: bool) -> None:
    """In the words of `doctor`."""
    installation = installation_in(tmp_path, BACKUP_CHANGE_DELAY=delay).make_databases()
    with AppProcess.start(installation) as app, app.client(token=None) as client:
        assert client.post("/admin/login", data={"token": ADMIN_TOKEN}).status_code == 303
        text = client.get("/admin/").text
    said = "BACKUP_CHANGE_DELAY=60: a change is stored within a minute"
    assert (said in text) == is_said
    assert ("BACKUP_CHANGE_DELAY=" in text) == is_said
