"""`python -m benchmarks.putting SECONDS`: puts files to addresses, whenever its input says so.

It imports no SDK and hashes nothing. A line of input is a JSON list of files with their addresses;
all are put one after the other, and again until `SECONDS` have passed. Prints `ready`, and `put`
after each line.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

_CHUNK = 1024 * 1024


def put(path: Path, address: str) -> None:
    """One PUT of a file to an address that is signed; raises `RuntimeError` when it is refused."""
    parts = urlsplit(address)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, blocksize=_CHUNK)
    with closing(connection), path.open("rb") as body:
        size = str(path.stat().st_size)
        target = f"{parts.path}?{parts.query}"
        connection.request("PUT", target, body, {"Content-Length": size})
        answer = connection.getresponse()
        told = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"PUT of {path.name}: {answer.status} {told!r}")


def main(seconds: str) -> None:
    """Put until the input ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        order, ends = json.loads(line), time.monotonic() + float(seconds)
        while True:
            for path, address in order:
                put(Path(path), address)
            if time.monotonic() >= ends:
                break
        print("put", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
