"""`SecondBucket`: the bucket of a second place, and what a thief with its key can do there."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from shared.store.spaces_access import SpacesSettings
from tests.support.installation import spaces
from tests.support.s3_server import S3Server

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


@dataclass(frozen=True)
class SecondBucket:
    """A bucket, and a plain client with all rights to it."""

    client: S3Client
    settings: SpacesSettings

    @classmethod
    def new(cls, server: S3Server, *, locks: bool = True, versions: bool = True) -> SecondBucket:
        """An empty one; one that locks objects keeps their versions, too."""
        client, name = server.client(), f"second-{uuid.uuid4().hex}"
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locks)
        if versions and not locks:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return cls(client, server.settings(name))

    @property
    def name(self) -> str:
        """What it is called."""
        return self.settings.bucket

    def environment(self, **more: str) -> dict[str, str]:
        """The settings that name it as the second place."""
        return {
            "COPY_API_KEY": self.settings.api_key,
            "COPY_API_SECRET": self.settings.api_secret,
            "COPY_REGION": self.settings.region,
            "COPY_BUCKET": self.name,
            "COPY_ENDPOINT": self.settings.endpoint,
            **more,
        }

    def beside(self, first: SpacesSettings, **more: str) -> dict[str, str]:
        """Those of both places; the second has another address, as the key must not be the same."""
        endpoint = self.settings.endpoint.replace("127.0.0.1", "localhost")
        return {**spaces(first), **self.environment(**more), "COPY_ENDPOINT": endpoint}

    def listed(self) -> list[str]:
        """The keys that a plain listing shows."""
        found = self.client.list_objects(Bucket=self.name).get("Contents", [])
        return [one["Key"] for one in found]

    def versions(self) -> list[dict[str, Any]]:
        """All versions of all objects."""
        return [dict(one) for one in self._listed().get("Versions", [])]

    def bytes_of(self, key: str) -> bytes:
        """What a plain request gets."""
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def hide(self, key: str) -> None:
        """Delete it as a plain request does."""
        self.client.delete_object(Bucket=self.name, Key=key)

    def plant(self, key: str, body: bytes, **metadata: str) -> None:
        """Put it, whatever is there."""
        self.client.put_object(Bucket=self.name, Key=key, Body=body, Metadata=metadata)

    def rob(self) -> None:
        """Delete for good all that can be deleted, and hide the rest."""
        for one in self.versions():
            with suppress(ClientError):
                self.client.delete_object(
                    Bucket=self.name,
                    Key=one["Key"],
                    VersionId=one["VersionId"],
                    BypassGovernanceRetention=True,
                )
            self.hide(one["Key"])

    def _listed(self) -> dict[str, Any]:
        return dict(self.client.list_object_versions(Bucket=self.name))
