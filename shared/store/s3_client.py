"""The boto3 client, set up for what Spaces (a Ceph RADOS Gateway) does in practice.

Each comment names the behaviour that made the choice.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from shared.errors import StoreError
from shared.store.s3_errors import CONFLICTS, refuse_web_page
from shared.store.spaces_access import SpacesSettings

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

_FIRST_WAIT_SECONDS = 0.1


def make_client(
    settings: SpacesSettings, connect_timeout: float, read_timeout: float, attempts: int
) -> S3Client:
    """A client for the bucket of `settings` alone, whatever else this host has set for AWS.

    The time limits are seconds for each wait on a socket. Raises `StoreError` when the
    settings make no client.
    """
    # Without these, a stray AWS_PROFILE, or a broken ~/.aws/config, stops the client even
    # when key, secret, region and endpoint are all given.
    session = boto3.session.Session(
        botocore_session=botocore.session.Session(
            session_vars={
                "profile": (None, None, None, None),
                "config_file": (None, None, os.devnull, None),
                "credentials_file": (None, None, os.devnull, None),
                "ca_bundle": (None, None, None, None),
            }
        )
    )
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path", "payload_signing_enabled": True},
        # A CRC32 trailer over https gets 411 from older gateways.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        tcp_keepalive=True,
    )
    try:
        client = session.client(
            "s3",
            endpoint_url=settings.endpoint,
            region_name=settings.region,
            aws_access_key_id=settings.api_key,
            aws_secret_access_key=settings.api_secret,
            verify=settings.ca_bundle,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise StoreError(
            f"an S3 client for {settings.endpoint} could not be created ({type(error).__name__})",
            f"Check the five {settings.names}_ settings.",
        ) from error
    # With two wildcards it is called before botocore makes a "500, try again" of such an answer.
    client.meta.events.register("before-parse.*.*", refuse_web_page)
    client.meta.events.register(
        "needs-retry.s3",
        partial(_wait_after_conflict, attempts),  # type: ignore[arg-type] # its answer counts
    )
    return client


def _wait_after_conflict(most: int, response: Any, attempts: int, **_: Any) -> float | None:
    """For botocore's `needs-retry`: how many seconds to wait, for what it does not retry itself."""
    if response is None or attempts >= most:
        return None
    code = response[1].get("Error", {}).get("Code")
    return min(_FIRST_WAIT_SECONDS * 2**attempts, 1.0) if code in CONFLICTS else None
