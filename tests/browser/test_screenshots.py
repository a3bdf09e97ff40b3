"""The pictures of the documents: six states of the page, each looked at before it is taken."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from shared.store.spaces import SpacesStore
from tests.browser.conftest import PHONE, Picture, Visit, quiet_app
from tests.support.history import fail_now, give_history
from tests.support.installation import spaces
from tests.support.s3_server import S3Server

# As a person names it; only one test uses it.
BUCKET = "shop-backups"


def test_empty(tmp_path: Path, visit: Visit, picture: Picture) -> None:
    """Before the first backup the headline says that there is none, and what to press."""
    with quiet_app(tmp_path) as (installation, start):
        held = installation.backup_dir.run_lease.try_acquire()
        assert held is not None
        page = visit(start()).log_in()
        expect(page.get_by_role("heading", level=1)).to_have_text("No backup yet")
        picture(page, "empty")
        held.release()


def test_healthy(tmp_path: Path, visit: Visit, picture: Picture, s3_server: S3Server) -> None:
    """On a good day the headline says so, on a desk, in the dark, and on a phone."""
    s3_server.create_bucket(BUCKET)
    place = s3_server.settings(BUCKET)
    told = {"BACKUP_HEARTBEAT_URL": "http://127.0.0.1:9/"}
    with quiet_app(tmp_path, **spaces(place), **told) as (installation, start):
        store = SpacesStore(place)
        give_history(installation, failed=[31], missed=[57, 58], smaller=100, store=store)
        assert installation.cli("kit", "--kept").returncode == 0
        app = start()
        page = visit(app).log_in()
        expect(page.get_by_role("heading", level=1)).to_have_text("Protected")
        picture(page, "healthy")
        dark = visit(app, color_scheme="dark").log_in()
        picture(dark, "dark")
        phone = visit(app, viewport=PHONE).log_in()
        picture(phone, "phone")


def test_failing(tmp_path: Path, visit: Visit, picture: Picture) -> None:
    """When backups fail, the headline says why, with the remedy."""
    with quiet_app(tmp_path) as (installation, start):
        give_history(installation, missed=[0], failed=[40])
        fail_now(installation)
        page = visit(start()).log_in()
        expect(page.get_by_role("heading", level=1)).to_have_text("The last backup failed")
        picture(page, "failing")


def test_suspect(tmp_path: Path, visit: Visit, picture: Picture) -> None:
    """A set that looks damaged is the headline, and its page says what to do with it."""
    with quiet_app(tmp_path) as (installation, start):
        give_history(installation, suspect=[0])
        visitor = visit(start())
        page = visitor.log_in()
        expect(page.get_by_role("heading", level=1)).to_have_text(
            "The data in the newest backup looks damaged"
        )
        picture(page, "suspect")
