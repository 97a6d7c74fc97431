"""S3: pyarrow.fs moves the bytes, boto3 writes on a condition, which is the lock that pyarrow does not have.

Tasks and readers need no boto3; the run that publishes does (extra `s3`). Both take what the AWS environment variables
say: AWS_ENDPOINT_URL (or AWS_ENDPOINT_URL_S3) for stores that are not Amazon's, AWS_REGION, AWS_ACCESS_KEY_ID, ..., and
all else that AWS' own chain of credentials knows.
"""

import functools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from pyarrow import fs

from schemas.errors import EnvironmentProblem
from schemas.remote import RemoteFolder

_OTHER_VERSION = (404, 412)  # If-Match of an object that is gone; either condition not met
_CONFLICT = 409  # another conditional write is under way: ask again
_TRIES = 5


class S3Folder(RemoteFolder):
    """A folder of a bucket, with conditional writes."""

    def __init__(self, uri: str, bucket: str, prefix: str) -> None:
        super().__init__(uri, _system(*_where()), f"{bucket}/{prefix}".rstrip("/"))
        self._bucket, self._prefix = bucket, prefix

    def version(self, path: str) -> str | None:
        """The object's ETag; None where there is none."""
        client = self._client
        with _as_os_errors(self.location(path)):
            try:
                return str(client.head_object(Bucket=self._bucket, Key=self._key(path))["ETag"])
            except _client_error() as error:
                if _status(error) == 404:
                    return None
                raise

    def write_if(self, path: str, data: bytes, version: str | None) -> str | None:
        """Writes an object if it is still of that `version` (None: if there is none); the new version, else None.

        One step of the store's: of any number that write at once, one succeeds.
        """
        client, condition = self._client, {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        with _as_os_errors(self.location(path)):
            for attempt in range(_TRIES):
                try:
                    done = client.put_object(Bucket=self._bucket, Key=self._key(path), Body=data, **condition)
                    return str(done["ETag"])
                except _client_error() as error:
                    if _status(error) in _OTHER_VERSION and error.response["Error"].get("Code") != "NoSuchBucket":
                        return self._written(path, data)
                    if _status(error) != _CONFLICT or attempt == _TRIES - 1:
                        raise
                time.sleep(0.1 * 2**attempt)
        return None

    def delete(self, path: str) -> None:
        """Removes an object, which need not be there."""
        try:
            client = self._client
        except EnvironmentProblem:
            super().delete(path)  # leaves an object that stands for the folder
            return
        with _as_os_errors(self.location(path)):
            client.delete_object(Bucket=self._bucket, Key=self._key(path))

    def _written(self, path: str, data: bytes) -> str | None:
        """The version, where the object is what was to be written: an answer was lost, and the client asked again."""
        version = self.version(path)
        return version if version is not None and self.read(path) == data else None

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}".lstrip("/")

    @property
    def _client(self) -> Any:
        return _client(*_where())


def _where() -> tuple[str | None, str | None]:
    """(endpoint, region) of the environment."""
    known = os.environ.get
    endpoint = known("AWS_ENDPOINT_URL_S3") or known("AWS_ENDPOINT_URL") or None
    return endpoint, known("AWS_REGION") or known("AWS_DEFAULT_REGION") or ("us-east-1" if endpoint else None)


@functools.lru_cache(maxsize=16)
def _system(endpoint: str | None, region: str | None) -> fs.FileSystem:
    if endpoint is None:
        return fs.S3FileSystem(region=region)
    parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    return fs.S3FileSystem(region=region, scheme=parts.scheme, endpoint_override=parts.netloc)


@functools.lru_cache(maxsize=16)
def _client(endpoint: str | None, region: str | None) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise EnvironmentProblem(
            f"boto3 is missing ({error}), without which no run can publish on S3; pip install 'prebatch[s3]'"
        ) from error
    # Checksums that only newer stores know are left out where the protocol does not ask for them.
    retries = {"mode": "standard", "total_max_attempts": _TRIES}
    config = Config(retries=retries, request_checksum_calculation="when_required")
    return boto3.client("s3", endpoint_url=endpoint, region_name=region, config=config)


def _client_error() -> Any:
    from botocore.exceptions import ClientError

    return ClientError


def _status(error: Any) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


@contextmanager
def _as_os_errors(location: str) -> Iterator[None]:
    """What boto3 raises, as the OSError that pyarrow would have raised."""
    from botocore.exceptions import BotoCoreError

    try:
        yield
    except (BotoCoreError, _client_error()) as error:
        raise OSError(f"{location}: {' '.join(str(error).split())}") from error
