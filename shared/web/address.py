"""Whether the app can listen where it should, asked before anything is opened."""

from __future__ import annotations

import errno
import socket
from typing import Any

from shared.errors import AddressUnusable, SettingsError

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
                raise AddressUnusable(
                    f"PORT: {port} of {host} is in use by another process",
                    f"Find it: ss -tlnp 'sport = :{port}'. End it, or set another PORT.",
                ) from error
            raise AddressUnusable(
                f"HOST: {host!r} ({host_place}) cannot be bound: {error.strerror}", _HINT
            ) from error


_HINT = "Set HOST to an address of this host, such as 127.0.0.1, or to 0.0.0.0 for all of them."


def _bind(probe: socket.socket, address: tuple[Any, ...]) -> None:
    """As asyncio binds a server."""
    with probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if probe.family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(address)
