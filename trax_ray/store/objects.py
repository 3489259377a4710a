"""Objects of a store: what is there, what it holds, and what a refusal means.

One request each, apart from repetitions by the client; see `credentials` for how it gets there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from trax_ray.codes import FailureCode
from trax_ray.core.ids import digest
from trax_ray.errors import FileError, NetworkError, StoreError, TraxRayError, UsageError
from trax_ray.store.credentials import client_for
from trax_ray.store.uris import ObjectPath

if TYPE_CHECKING:
    from obstore import GetOptions

    from trax_ray.store.credentials import Client

__all__ = [
    "ObjectStat",
    "client_of",
    "explain_refusal",
    "explained",
    "forget_clients",
    "is_denied_alone",
    "list_below",
    "list_folder",
    "read_object",
    "read_range",
    "stat_of",
    "stats_of",
    "versioned",
]

_STATUS = re.compile(r"status code: (\d{3})\b")
_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
_NO_CREDENTIALS = re.compile(r"169\.254\.169\.254|metadata\.google|MissingAccount|[Cc]redential")
_NO_OBJECT = {"NoSuchKey", "BlobNotFound"}
"""What an answer with a body says of an object alone: its bucket is there."""

_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "InvalidBucketName", "InvalidResourceName"}
_BUSY = {"SlowDown", "TooManyRequests", "ServerBusy", "RequestLimitExceeded", "Throttling", "ThrottlingException"}
_ELSEWHERE = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}

Doing = Literal["read", "write", "list"]

T = TypeVar("T")

_TRIES = 3

_AT_ONCE = 32
"""Requests at the same time where many objects are looked up."""

_LISTED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What tells one state of an object from another.

    Args:
        size_bytes: Its size.
        etag: Its ETag without quotes, which some stores leave out in lists; empty where the store gives none.
        modified_s: When it was written, whole seconds since the epoch: not all answers are more exact.
    """

    size_bytes: int
    etag: str
    modified_s: int

    @property
    def state(self) -> tuple[int, str | int]:
        """The same as long as the bytes are; an ETag that stays says more than a time that doesn't."""
        return self.size_bytes, self.etag or self.modified_s

    @property
    def number(self) -> int:
        """A number in the place of an inode's: another one after another ETag."""
        return int(digest(["etag", self.etag])[:15], 16) if self.etag else 0


def stat_of(path: ObjectPath) -> ObjectStat:
    """What is known of an object.

    Raises:
        FileError: `not_found`: permanent.
        StoreError: The bucket isn't there, or the store refuses: config.
        NetworkError: The store is busy, or away: transient.
    """
    return _asked(path, "read", lambda: _stat(client_of(path).head(path.key)))


def _asked(path: ObjectPath, doing: Doing, ask: Callable[[], T]) -> T:
    """The answer to a request that changes nothing; it is repeated where an answer broke off, which the client
    doesn't do for all of them."""
    for number in range(_TRIES):
        try:
            with explained(path, doing):
                return ask()
        except NetworkError as error:
            if number + 1 == _TRIES or error.code != FailureCode.CONNECTION:
                raise
    raise AssertionError("unreachable")


@contextmanager
def explained(
    path: ObjectPath, doing: Doing, passes: type[Exception] | tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Raise our errors in place of the client's.

    Args:
        path: What is asked for in the block.
        doing: What for.
        passes: Errors of the client's that are left as they are.
    """
    from obstore.exceptions import BaseError

    try:
        yield
    except passes:
        raise
    except (BaseError, OSError, ValueError, NotImplementedError) as error:
        if isinstance(error, FileNotFoundError) and doing == "read" and _code_in(str(error)) not in _NO_OBJECT:
            _expect_bucket(path)
        # Without the cause: its text may hold names of keys.
        raise explain_refusal(error, path, doing) from None


def versioned(path: ObjectPath) -> tuple[ObjectStat | None, str | None]:
    """What is known of an object, None where there is none, and its generation, where the store counts them.

    Raises:
        StoreError, NetworkError: As `stat_of`.
    """
    try:
        meta = _asked(path, "read", lambda: client_of(path).head(path.key))
    except FileError as error:
        if error.code != FailureCode.NOT_FOUND:
            raise
        return None, None
    return _stat(meta), meta.get("version")


def stats_of(paths: Iterable[ObjectPath]) -> dict[ObjectPath, ObjectStat | None]:
    """What is known of objects; None for those that aren't there. Many are asked for at the same time.

    Raises:
        StoreError, NetworkError: As `stat_of`.
    """
    wanted = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(max_workers=max(1, min(_AT_ONCE, len(wanted)))) as pool:
        return dict(zip(wanted, pool.map(_stat_or_none, wanted), strict=True))


def _stat_or_none(path: ObjectPath) -> ObjectStat | None:
    try:
        return stat_of(path)
    except FileError as error:
        if error.code != FailureCode.NOT_FOUND:
            raise
        return None


def list_below(folder: ObjectPath) -> Iterator[tuple[ObjectPath, ObjectStat]]:
    """All objects below a folder, however deep, in the store's order: a request for a thousand of them.

    Raises:
        StoreError, NetworkError: As `stat_of`.
        UsageError: There is an object whose name can't be asked for; the others are found with `list_folder`.
    """
    listed = client_of(folder).list
    yield from _asked(
        folder,
        "list",
        lambda: [
            each for chunk in listed(folder.key or None, chunk_size=_LISTED_AT_ONCE) for each in _listed(folder, chunk)
        ],
    )


def list_folder(folder: ObjectPath) -> tuple[list[ObjectPath], list[tuple[ObjectPath, ObjectStat]]]:
    """The folders and the objects that lie in a folder; raises as `list_below`."""
    found = _asked(folder, "list", lambda: client_of(folder).list_with_delimiter(folder.key or None))
    folders = [ObjectPath(folder.scheme, folder.bucket, key) for key in found["common_prefixes"]]
    return folders, list(_listed(folder, found["objects"]))


def _listed(folder: ObjectPath, metas: Iterable[Any]) -> Iterator[tuple[ObjectPath, ObjectStat]]:
    for meta in metas:
        path = ObjectPath(folder.scheme, folder.bucket, meta["path"])
        if path.is_below(folder):  # an object that stands for an empty folder isn't
            yield path, _stat(meta)


def read_range(path: ObjectPath, start: int, end: int) -> tuple[bytes, ObjectStat]:
    """Bytes of an object, and what is known of the object that they are of; raises as `stat_of`.

    Args:
        path: The object.
        start: The first byte.
        end: The byte after the last one, behind `start` and not behind the object's end.
    """
    return _asked(path, "read", lambda: _read(path, {"range": (start, end)}))


def read_object(path: ObjectPath) -> tuple[bytes, ObjectStat]:
    """All of an object, and what is known of it; raises as `stat_of`."""
    return _asked(path, "read", lambda: _read(path, {}))


def _read(path: ObjectPath, options: GetOptions) -> tuple[bytes, ObjectStat]:
    answer = client_of(path).get(path.key, options=options)
    return bytes(answer.bytes()), _stat(answer.meta)


def is_denied_alone(path: ObjectPath) -> bool:
    """Whether an object that may not be read lies among others that may: then it is to blame and not the key."""
    try:
        _, beside = list_folder(path.parent)
        for other in [each for each, _ in beside if each != path][:2]:
            stat_of(other)
            return True
    except TraxRayError:
        return False
    return False


def client_of(path: ObjectPath) -> Client:
    """The client of a path's bucket, one in a process."""
    return _client(path.scheme, path.bucket)


@lru_cache(maxsize=64)
def _client(scheme: str, bucket: str) -> Client:
    return client_for(scheme, bucket)


def forget_clients() -> None:
    """Take up what has changed in the environment since."""
    _client.cache_clear()


def _stat(meta: Any) -> ObjectStat:
    etag = str(meta.get("e_tag") or "").removeprefix("W/").strip('"')
    return ObjectStat(int(meta["size"]), etag, int(meta["last_modified"].timestamp()))


def _expect_bucket(path: ObjectPath) -> None:
    """Raise where it isn't only the object that is missing: of its bucket, no answer to HEAD tells."""
    try:
        with explained(path, "list"):
            next(iter(client_of(path).list(path.key, chunk_size=1)), None)
    except (StoreError, NetworkError) as error:
        # Whoever may read objects may not always list them.
        if error.code != FailureCode.ACCESS_DENIED:
            raise
    except UsageError:
        pass  # there is one, and in it a name that can't be asked for


def explain_refusal(error: Exception, path: ObjectPath, doing: Doing) -> TraxRayError:
    """One of our errors for one of the client's. Of its text, which may hold keys' names, only codes are taken over.

    Args:
        error: What the client raised.
        path: What was asked for.
        doing: What for.
    """
    from obstore import exceptions

    text = str(error)
    status = int(match[1]) if (match := _STATUS.search(text)) else 0
    code = _code_in(text)
    said = " ".join(filter(None, (f"HTTP {status}" if status else "", code))) or type(error).__name__
    if code in _NO_BUCKET:
        return StoreError(
            f"there is no bucket {path.bucket}, or not at this endpoint ({said}): correct {path}, "
            "or the endpoint and the region in the environment",
            code=FailureCode.NO_SUCH_BUCKET,
        )
    if isinstance(error, FileNotFoundError):
        return FileError(f"{path} isn't there", code=FailureCode.NOT_FOUND)
    if isinstance(error, exceptions.InvalidPathError):
        return UsageError(f"{path}: there is an object whose name can't be asked for: rename it in the store")
    if status in (401, 403) or isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        return StoreError(
            f"can't {doing} {path}: the store refuses ({said}): see whether the credentials in the environment, or "
            "the profile, are right and may do it",
            code=FailureCode.ACCESS_DENIED,
        )
    if not status and _NO_CREDENTIALS.search(text):
        return StoreError(
            f"can't {doing} {path}: no credentials for the store: set its environment variables, or a profile",
            code=FailureCode.ACCESS_DENIED,
        )
    if status in (408, 409, 425, 429) or status >= 500 or code in _BUSY:
        busy = status in (429, 503) or code in _BUSY
        return NetworkError(
            f"can't {doing} {path} just now: the store is {'asked too much' if busy else 'in trouble'} ({said})",
            code=FailureCode.RATE_LIMITED if busy else FailureCode.SERVER_ERROR,
        )
    if status in (412, 416):
        return FileError(
            f"{path} changed while it was read: is it still being written? Try again later",
            failure_class="transient",
            code=FailureCode.CHANGED_WHILE_READ,
        )
    if 300 <= status < 400 or code in _ELSEWHERE:
        return StoreError(
            f"can't {doing} {path}: the store refuses ({said}): are its endpoint and its region right?",
            code=FailureCode.WRONG_STORE,
        )
    if status:
        refused = FailureCode.NOT_WRITABLE if doing == "write" else FailureCode.UNREADABLE
        return FileError(f"can't {doing} {path}: the store refuses ({said})", code=refused)
    return NetworkError(
        f"can't {doing} {path} just now: no whole answer from the store ({said})", code=FailureCode.CONNECTION
    )


def _code_in(text: str) -> str:
    """The store's own word for a refusal; empty where its answer had none."""
    return match[1] if (match := _CODE.search(text)) else ""
