"""`Resigner`: stands before a real S3 server when the tests run under a faked clock.

The server is a static binary that no preload reaches, and it refuses a skew of 15 minutes. This
program runs outside faketime. It checks the signature that was made with the faked date, signs
anew with that date moved to the real clock, and moves the dates of the answer the other way. A
request whose signature is wrong is signed with a wrong secret, one of an unknown key with that
key: the server itself refuses them, as it does a date that is skewed beside the faked clock.

Signature Version 4: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_AMZ = "%Y%m%dT%H%M%SZ"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,]+)/\d{8}/(?P<region>[^/]*)/s3/aws4_request,\s*"
    r"SignedHeaders=(?P<signed>[^,]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)
_DATED = re.compile(rb"(<(LastModified|Initiated|CreationDate)>)([^<]+)(</\2>)")
_DATED_HEADERS = ("date", "last-modified")
_NOT_PASSED_ON = {"connection", "keep-alive", "transfer-encoding", "expect", "content-length"}
# Not by `env=`, which under faketime keeps the faked clock: see tests/faked_clock.
_REAL_CLOCK = ("env", "-u", "LD_PRELOAD", "-u", "FAKETIME_SHARED")


def clock_offset() -> timedelta:
    """How far this clock is ahead of the real one, in whole seconds; 0 without faketime."""
    if "faketime" not in os.environ.get("LD_PRELOAD", ""):
        return timedelta(0)
    real = subprocess.run(
        [*_REAL_CLOCK, "date", "+%s.%N"], capture_output=True, check=True, text=True
    ).stdout
    return timedelta(seconds=round(time.time() - float(real)))


def start(order: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start it outside faketime; `order`: upstream and own ports, keys, certificate, offset."""
    return subprocess.Popen(
        [*_REAL_CLOCK, sys.executable, "-m", "tests.support.resigner", json.dumps(order)],
        stdin=subprocess.DEVNULL,
        cwd=Path(__file__).resolve().parents[2],
    )


def signature(
    secret: str, method: str, target: str, headers: dict[str, str], signed: str, region: str
) -> str:
    """The signature of a request, whose `headers` have lower-case names."""
    path, _, query = target.partition("?")
    pairs = sorted(part if "=" in part else f"{part}=" for part in query.split("&") if part)
    canonical = "\n".join(
        [
            method,
            path,
            "&".join(pairs),
            *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in signed.split(";")),
            "",
            signed,
            headers.get("x-amz-content-sha256", ""),
        ]
    )
    date = headers["x-amz-date"]
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in (date[:8], region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, to_sign.encode(), "sha256").hexdigest()


class Resigner:
    """What one server does to requests and answers; pure, but for `keys` that it is given."""

    def __init__(self, keys: dict[str, str], offset: timedelta, upstream: str) -> None:
        self._keys = keys
        self._offset = offset
        self._upstream = upstream

    def request(self, method: str, target: str, headers: dict[str, str]) -> dict[str, str]:
        """The headers for the server; those of a request without a signature as they came."""
        found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        sent = {**headers, "host": self._upstream}
        if found is None or "x-amz-date" not in headers:
            return sent
        key, region, signed = found["key"], found["region"], found["signed"]
        secret = self._keys.get(key, "")
        right = signature(secret, method, target, headers, signed, region)
        if not hmac.compare_digest(right, found["signature"]):
            secret += "wrong"
        at = datetime.strptime(headers["x-amz-date"], _AMZ).replace(tzinfo=UTC) - self._offset
        sent["x-amz-date"] = at.strftime(_AMZ)
        new = signature(secret, method, target, sent, signed, region)
        sent["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={key}/{at:%Y%m%d}/{region}/s3/aws4_request, "
            f"SignedHeaders={signed}, Signature={new}"
        )
        return sent

    def answer_header(self, name: str, value: str) -> str:
        """A header of the answer, on the faked clock."""
        if name.lower() not in _DATED_HEADERS:
            return value
        return format_datetime(parsedate_to_datetime(value) + self._offset, usegmt=True)

    def answer_body(self, body: bytes) -> bytes:
        """A document of the server, on the faked clock; objects do not come here."""

        def moved(found: re.Match[bytes]) -> bytes:
            at = datetime.fromisoformat(found[3].decode()) + self._offset
            text = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            return found[1] + text.encode() + found[4]

        return _DATED.sub(moved, body)


def _handler(resigner: Resigner, upstream: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _pass_on(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self._body(headers)
            sent = resigner.request(self.command, self.path, headers)
            connection = http.client.HTTPConnection(upstream, timeout=60)
            try:
                connection.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in sent.items():
                    if name not in _NOT_PASSED_ON:
                        connection.putheader(name, value)
                if body or self.command in ("PUT", "POST"):
                    connection.putheader("content-length", str(len(body)))
                connection.endheaders(body)
                answer = connection.getresponse()
                content = answer.read()
                if b"xml" in (answer.getheader("content-type") or "").encode():
                    content = resigner.answer_body(content)
                self._answer(answer, content)
            finally:
                connection.close()

        def _answer(self, answer: http.client.HTTPResponse, content: bytes) -> None:
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in _NOT_PASSED_ON:
                    self.send_header(name, resigner.answer_header(name, value))
            told = answer.getheader("content-length") if self.command == "HEAD" else None
            if told or answer.status not in (204, 304):
                self.send_header("Content-Length", told or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _body(self, headers: dict[str, str]) -> bytes:
            if "chunked" in headers.get("transfer-encoding", ""):
                chunks = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return b"".join(chunks)
            length = int(headers.get("content-length", 0))
            body = self.rfile.read(length)
            if len(body) < length:
                raise ConnectionAbortedError("the client stopped in the middle of a body")
            return body

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass_on  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Not a line: the server has a log of its own."""

    return Handler


def main(order: dict[str, Any]) -> None:
    """Serve http and https until killed, or until the process that started this one is gone."""
    upstream = urlsplit(order["upstream"]).netloc
    handler = _handler(
        Resigner(order["keys"], timedelta(seconds=order["offset"]), upstream), upstream
    )

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients that go away in the middle are part of the tests."""

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(order["certificate"], order["private_key"])
    plain = Server(("127.0.0.1", order["http"]), handler)
    secure = Server(("127.0.0.1", order["https"]), handler)
    secure.socket = tls.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
    for server in (plain, secure):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.1)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
