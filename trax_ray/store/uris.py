"""Addresses in object stores: `s3://bucket/key`, `gs://bucket/key`, `az://container/key`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from trax_ray.errors import UsageError

__all__ = ["ObjectPath", "Place", "is_object_uri", "place_of"]

_URI = re.compile(r"\s*(s3|s3a|gs|az|abfss?)://", re.IGNORECASE)
_SAME = {"s3a": "s3"}


@dataclass(frozen=True, slots=True, order=True)
class ObjectPath:
    """An object, or what the names of several begin with, as a path. Nothing is looked up.

    Args:
        scheme: `s3`, `gs`, `az`, `abfs` or `abfss`.
        bucket: Bucket or container; for `abfs` with its account: `container@account.dfs.core.windows.net`.
        key: Name in the bucket, parts between slashes; none at its ends. Empty for the bucket itself.
    """

    scheme: str
    bucket: str
    key: str = ""

    @classmethod
    def of(cls, uri: str) -> ObjectPath:
        """The path that a URI stands for.

        Raises:
            UsageError: No bucket, or a name that can't be asked for.
        """
        match = _URI.match(uri)
        if match is None:
            raise UsageError(f"expected a URI such as s3://bucket/folder, got {uri!r:.200}")
        bucket, _, key = uri[match.end() :].rstrip().partition("/")
        if ":" in bucket:
            # Not repeated in the message: it may be a password.
            raise UsageError(
                f"a URI such as {match[1].lower()}://bucket/folder has no credentials in it, nor a port: set the "
                "store's environment variables, or a profile"
            )
        key = key.rstrip("/")
        try:
            key.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{uri!r:.200} isn't UTF-8, as names in an object store are") from None
        parts = key.split("/") if key else []
        if not bucket or any(part in ("", ".", "..") or _has_control(part) for part in parts):
            raise UsageError(
                f"{uri!r:.200}: expected a bucket and a name without empty parts, `.`, `..` and control characters"
            )
        scheme = match[1].lower()
        return cls(_SAME.get(scheme, scheme), bucket, key)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> ObjectPath:
        return replace(self, key=f"{self.key}/{name}" if self.key else name)

    @property
    def name(self) -> str:
        """The last part of its key; empty for a bucket."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """As of pathlib: `.mp3`."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> ObjectPath:
        """What stands before its last part."""
        return replace(self, key=self.key.rpartition("/")[0])

    def is_below(self, other: ObjectPath) -> bool:
        """Whether its key begins with all parts of the other's, and has more."""
        same = (self.scheme, self.bucket) == (other.scheme, other.bucket)
        return same and self != other and (not other.key or self.key.startswith(f"{other.key}/"))

    def below(self, other: ObjectPath) -> str:
        """The rest of its key, where it is below the other one."""
        return self.key[len(other.key) + 1 :] if other.key else self.key


Place = Path | ObjectPath
"""Where a file is: on a disk, or in an object store."""


def is_object_uri(text: str) -> bool:
    """Whether text is an address in an object store."""
    return _URI.match(text) is not None


def place_of(text: str) -> Place:
    """What a path or a URI stands for.

    Raises:
        UsageError: As `ObjectPath.of`.
    """
    return ObjectPath.of(text) if is_object_uri(text) else Path(text)


def _has_control(part: str) -> bool:
    return any(ord(character) < 32 or ord(character) == 127 for character in part)
