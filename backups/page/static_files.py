"""The style sheets and scripts of the page: from the package, for everybody, and no other files."""

from __future__ import annotations

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from backups.page.rendering import FOLDER


class PageFiles(StaticFiles):
    """The folder `static`; a browser asks each time whether a file has changed."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER / "static", check_dir=False)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, which a browser must not take for anything else."""
        response = await super().get_response(path, scope)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Content-Security-Policy"] = "default-src 'none'"
        return response
