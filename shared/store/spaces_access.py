"""How to reach a bucket, apart from boto3, which takes long to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

SettingNames = Literal["SPACES", "COPY"]


@dataclass(frozen=True)
class SpacesSettings:
    """Where the bucket is and how to reach it. The keys are left out of its `repr`.

    `names` is what the names of these settings begin with, for messages.
    """

    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)
    region: str
    bucket: str
    endpoint: str
    ca_bundle: str | None = None
    names: SettingNames = "SPACES"
