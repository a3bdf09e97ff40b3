"""`PackageIndex`: a package index on 127.0.0.1 with one small package, which records who got it."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import ClassVar, Self

_FILES = {
    "smallest.py": "HERE = True\n",
    "smallest-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: smallest\nVersion: 1.0\n",
    "smallest-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\n"
    "Root-Is-Purelib: true\nTag: py3-none-any\n",
}


def wheel() -> bytes:
    """The file of `smallest` 1.0: a module and what pip and uv demand of a wheel."""
    record, buffer = [], io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in _FILES.items():
            archive.writestr(zipfile.ZipInfo(name), text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            record.append(f"{name},sha256={digest.decode().rstrip('=')},{len(text)}\n")
        record.append("smallest-1.0.dist-info/RECORD,,\n")
        archive.writestr(zipfile.ZipInfo("smallest-1.0.dist-info/RECORD"), "".join(record))
    return buffer.getvalue()


class PackageIndex:
    """Serves for the length of a `with` block; if `silent_on_uv`, without an answer about uv.

    `tag` says where the wheel fits, such as `cp311-cp311-manylinux_2_28_x86_64`.
    """

    def __init__(self, *, silent_on_uv: bool = False, tag: str = "py3-none-any") -> None:
        self.silent_on_uv = silent_on_uv
        self.wheel_name = f"smallest-1.0-{tag}.whl"
        self.programs: set[str] = set()
        """The first word of the user agents that fetched the wheel, such as `pip` or `uv`."""
        self.ended = threading.Event()
        index = self

        class _BoundHandler(_Handler):
            owner = index

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _BoundHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/simple"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    owner: ClassVar[PackageIndex]

    def do_GET(self) -> None:
        """Answer with the page of the package, with its wheel, or with 404."""
        if self.path.startswith("/simple/uv/") and self.owner.silent_on_uv:
            self.owner.ended.wait()
        elif self.path == "/simple/smallest/":
            name, digest = self.owner.wheel_name, hashlib.sha256(wheel()).hexdigest()
            self._answer(f'<a href="/{name}#sha256={digest}">{name}</a>'.encode(), "text/html")
        elif self.path == f"/{self.owner.wheel_name}":
            self.owner.programs.add(self.headers["User-Agent"].partition("/")[0])
            self._answer(wheel(), "application/octet-stream")
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815 - the name given

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name given
        """Keep quiet."""
