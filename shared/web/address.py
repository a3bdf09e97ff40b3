"""Whether the app can listen where it should, asked before anything is opened."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from shared.errors import AddressUnusable, SettingsError
from shared.printable import printable

# These stay until somebody corrects the setting; whatever else may be over at the next start.
_NO_SUCH_HOST = {socket.EAI_NONAME, socket.EAI_FAMILY, getattr(socket, "EAI_NODATA", None)}


def check_address(host: str, port: int, host_place: str = "by default") -> None:
    """Bind to `host` and `port`, and let go. The server binds last: after the databases are open.

    Raises `SettingsError` when `HOST`, which was given `host_place`, names no host, or this user
    may not use `PORT`; `AddressUnusable` for what may be over at the next start.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        why = f"is {host!r} ({host_place}), which is not an address of this host. Set an address"
        if host_place == "in the environment":
            why += ": a shell (conda, csh) may have set this one, and it takes precedence over .env"
        if isinstance(error, socket.gaierror) and error.errno not in _NO_SUCH_HOST:
            raise AddressUnusable(f"HOST: {why} ({error.strerror})", _HINT) from error
        raise SettingsError((f"HOST: {why}",)) from error
    for family, kind, protocol, _, address in found:
        try:
            _bind(socket.socket(family, kind, protocol), address)
        except OSError as error:
            if error.errno == errno.EACCES:
                raise SettingsError(
                    (f"PORT: is {port}, which this user may not use; take one from 1024 up",)
                ) from error
            if error.errno == errno.EADDRINUSE:
                raise AddressUnusable(*_in_use(host, port)) from error
            raise AddressUnusable(
                f"HOST: {host!r} ({host_place}) cannot be bound: {error.strerror}", _HINT
            ) from error


def _in_use(host: str, port: int) -> tuple[str, str]:
    """Message and hint: who listens there, as far as Linux shows it to this user."""
    for pid in _listeners(port):
        with suppress(OSError):
            name = printable(Path(f"/proc/{pid}/comm").read_text(errors="replace").strip())
            return (
                f"PORT: {port} of {host} is in use by process {pid} ({name})",
                "Does the app run already? Stop its service, or end the process: "
                f"kill {pid}. Or set another PORT.",
            )
    return (
        f"PORT: {port} of {host} is in use by another process",
        f"Find it: ss -tlnp 'sport = :{port}'. End it, or set another PORT.",
    )


def _listeners(port: int) -> Iterator[int]:
    """The processes that listen at a port; none on a host without Linux's `/proc`. See proc(5)."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == _LISTENS:
                    sockets.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*") if sockets else ():
        with suppress(OSError):  # of another user, or gone
            if any(str(file.readlink()) in sockets for file in (process / "fd").iterdir()):
                yield int(process.name)


_LISTENS = "0A"  # TCP_LISTEN of include/net/tcp_states.h
_HINT = "Set HOST to an address of this host, such as 127.0.0.1, or to 0.0.0.0 for all of them."


def _bind(probe: socket.socket, address: tuple[object, ...]) -> None:
    """As asyncio binds a server."""
    with probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if probe.family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(address)
