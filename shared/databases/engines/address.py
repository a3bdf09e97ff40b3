"""`DATABASE_URL`: which PostgreSQL, checked before anything connects to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

_SCHEMES = ("postgresql", "postgres")
# With these, and no weaker ones, libpq sends nothing over a connection without TLS:
# https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION
_ENCRYPTED = ("require", "verify-ca", "verify-full")
_SHAPE = (
    "is no URL; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=require, with what is "
    "special in the password as %XX"
)
_LOCAL = ("", "localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class DatabaseAddress:
    """The address of a PostgreSQL, as libpq reads it; `place` is what may be shown of it."""

    url: str = field(repr=False)
    place: str


def parse_address(text: str) -> DatabaseAddress:
    """Check a `DATABASE_URL`.

    Raises `ValueError` with what is wrong and what to write, without the password.
    """
    try:
        parts = urlsplit(text)
        ports = [_port(host) for host in _hosts(parts.netloc)]
        # parse_qsl takes no empty text for one without options.
        options = dict(parse_qsl(parts.query, True, True)) if parts.query else {}
    except ValueError:
        raise ValueError(_SHAPE) from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(
            f"begins with {parts.scheme or 'no scheme'}:; only postgresql:// and postgres:// are "
            "supported. Leave it blank for SQLite"
        )
    if not parts.path.strip("/"):
        raise ValueError("names no database; end it with /DATABASE")
    hosts = [_name(host) for host in _hosts(parts.netloc)]
    if "host" in options:
        hosts = options["host"].split(",")
    remote = [host for host in hosts if host not in _LOCAL and not host.startswith("/")]
    if "hostaddr" in options and options["hostaddr"] not in _LOCAL:
        remote.append(options["hostaddr"])
    if remote and options.get("sslmode") not in _ENCRYPTED:
        raise ValueError(
            f"names another host ({remote[0]}) without sslmode=require, verify-ca or verify-full; "
            "without one of these the data may travel unencrypted"
        )
    where = ",".join(f"{host or 'localhost'}" for host in hosts)
    shown = f"{where}:{ports[0]}" if len(ports) == 1 and ports[0] else where
    return DatabaseAddress(text, f"{unquote(parts.path.strip('/'))} at {shown}")


def _hosts(netloc: str) -> list[str]:
    return netloc.rpartition("@")[2].split(",")


def _name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return unquote(host.partition(":")[0])


def _port(host: str) -> str:
    port = host.rpartition("]")[2].rpartition(":")[2] if ":" in host.rpartition("]")[2] else ""
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(port)
    return port
