"""What a process of ours logs that has something to hide, through every kind of logger.

`python -m tests.support.logging_process human|json FOLDER`: the server's logging, then ours,
then lines and tracebacks with secrets in them, which all hold the word SECRET.
"""

from __future__ import annotations

import logging
import logging.config
import sys
from pathlib import Path
from typing import cast

import uvicorn.config

from app import PLATFORMS
from shared.logs import LogFormat, configure_logging, fields, log_files

LOGGERS = (
    "app",
    "backups",
    "shared.merchants.http_client",
    "facebook_integration.graph",
    "shopify_integration.admin_api",
    "uvicorn.error",
    "httpx2",
    "asyncio",
)
LINES = (
    "GET /a?access_token=SECRET-1&code=SECRET-2",
    '{"client_secret": "SECRET-3", "refresh_token":"SECRET-4"}',
    "{'appsecret_proof': 'SECRET-5', 'hmac': b'SECRET-6'}",
    "[('state', 'SECRET-7'), (b'signed_request', b'SECRET-8')]",
    "/x?back=https%3A%2F%2Fy%3Fcode%3DSECRET-9%26state%3DSECRET-10",
    "hub.verify_token=SECRET-11&fb_exchange_token=SECRET-12&input_token=SECRET-13",
    "[(b'X-Shopify-Access-Token', b'SECRET-14')] HMAC=SECRET-15",
    '{\\"access_token\\": \\"SECRET-16\\"}',
    "hub%2Everify_token=SECRET-17",
)


def main(log_format: str, folder: str) -> None:
    """Log them all."""
    logging.config.dictConfig(uvicorn.config.LOGGING_CONFIG)
    configure_logging(
        cast(LogFormat, log_format),
        packages=[platform.package for platform in PLATFORMS],
        secret_names=[name for platform in PLATFORMS for name in platform.secret_names],
    )
    with log_files(Path(folder), {"all.log": ("backups",)}):
        for name in LOGGERS:
            for line in LINES:
                _log(logging.getLogger(name), line)
        access = logging.getLogger("uvicorn.access")
        for line in LINES:
            access.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", line, "1.1", 200)


def _log(logger: logging.Logger, line: str) -> None:
    logger.error(line)
    logger.error("an argument: %s", line)
    logger.error("named: %(line)s", {"line": line})
    logger.error("an object: %r", [line])
    logger.error("a field", extra=fields(told=line, state="SECRET-20"))
    try:
        try:
            raise KeyError(line)
        except KeyError as cause:
            raise ValueError(line) from cause
    except ValueError:
        logger.exception("a traceback")


if __name__ == "__main__":
    main(*sys.argv[1:])
