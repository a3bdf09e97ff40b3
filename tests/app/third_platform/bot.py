"""The app with a platform more: `uvicorn tests.app.third_platform.bot:app`."""

from __future__ import annotations

from app import PLATFORMS, create_app
from tests.app.third_platform.acme import ACME

app = create_app(platforms=(*PLATFORMS, ACME))
