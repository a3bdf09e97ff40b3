"""What `make test-fast` leaves out: the S3 server, the app and the stand-ins for the platforms.

Each of them starts for seconds. A test that takes one as a fixture gets the mark `slow` by
itself; another that starts one carries the mark, or is refused where the mark is left out.
"""

from __future__ import annotations

FIXTURES = frozenset({"s3_server", "running_graph", "running_shopify", "postgres"})

_refused = False


def refuse() -> None:
    """Let nothing of this process start a server from now on."""
    global _refused  # noqa: PLW0603 - pytest decides it once for the process
    _refused = True


def allow(server: str) -> None:
    """Return if `server` may be started; raises `AssertionError` when servers are refused."""
    assert not _refused, f"no {server} starts in `make test-fast`: mark the test `slow`"
