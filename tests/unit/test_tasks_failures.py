"""What an exception of an attempt means: FACTS's failure classes, one row each."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from trax_ray.core.task import Category, Failure, FailureClass
from trax_ray.errors import DiskFull, FileError, MediaError, NetworkError, ResourceError, SetupError, TraxRayError
from trax_ray.kinds.failures import MESSAGE_CHARACTERS, failure_of

T, P, C, U, R = (
    FailureClass.TRANSIENT,
    FailureClass.PERMANENT,
    FailureClass.CONFIG,
    FailureClass.UNKNOWN,
    FailureClass.RESOURCE,
)


def of(number: int, path: str = "/in/talk.mp3") -> Failure:
    return failure_of(OSError(number, os.strerror(number), path))


@pytest.mark.parametrize(
    ("number", "kind", "category"),
    [
        (errno.EAGAIN, T, Category.FILE),
        (errno.EINTR, T, Category.FILE),
        (errno.EBUSY, T, Category.FILE),
        (errno.ESTALE, T, Category.FILE),
        (errno.ECONNABORTED, T, Category.NETWORK),
        (errno.ECONNREFUSED, T, Category.NETWORK),
        (errno.ECONNRESET, T, Category.NETWORK),
        (errno.ENETUNREACH, T, Category.NETWORK),
        (errno.EHOSTUNREACH, T, Category.NETWORK),
        (errno.EPIPE, T, Category.NETWORK),
        (errno.EMFILE, R, Category.RESOURCE),
        (errno.ENFILE, R, Category.RESOURCE),
        (errno.ENOMEM, R, Category.RESOURCE),
        (errno.ENOSPC, C, Category.RESOURCE),
        (errno.EDQUOT, C, Category.RESOURCE),
        (errno.EROFS, C, Category.RESOURCE),
        (errno.ENOENT, P, Category.FILE),
        (errno.EACCES, P, Category.FILE),
        (errno.EPERM, P, Category.FILE),
        (errno.EISDIR, P, Category.FILE),
        (errno.ENAMETOOLONG, P, Category.FILE),
        (errno.EINVAL, P, Category.FILE),
        (errno.EIO, P, Category.FILE),
    ],
    ids=lambda value: errno.errorcode.get(value) if isinstance(value, int) else None,
)
def test_operating_system_errors_go_by_their_number(number: int, kind: FailureClass, category: Category) -> None:
    failure = of(number)
    assert (failure.failure_class, failure.category) == (kind, category)
    assert failure.message


def test_a_time_out_of_the_operating_system_is_transient() -> None:
    assert of(errno.ETIMEDOUT).failure_class is T


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_parks_everything(number: int) -> None:
    failure = of(number)
    assert (failure.parks, failure.code) == ("*", "disk_full")
    assert failure_of(DiskFull("no room")).parks == "*"


def test_nothing_else_parks_more_than_its_own_provider() -> None:
    for number in (errno.ENOENT, errno.ECONNRESET, errno.ENOMEM):
        assert of(number).parks == ""
    assert failure_of(SetupError("no key")) == Failure(C, Category.PROCESSING, "setup", "no key", None, "")


def test_out_of_memory_has_the_code_that_asks_for_more() -> None:
    for error in (MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")):
        failure = failure_of(error)
        assert (failure.failure_class, failure.category, failure.code) == (R, Category.RESOURCE, "out_of_memory")
    assert of(errno.EMFILE).code == "too_many_open_files"


def test_messages_name_the_file_and_the_reason() -> None:
    assert of(errno.ENOENT).message == "can't read /in/talk.mp3: No such file or directory"
    assert of(errno.ENOENT, "/in/caf\udce9.mp3").message == r"can't read /in/caf\xe9.mp3: No such file or directory"
    assert "a file" in failure_of(OSError(errno.EACCES, "Permission denied")).message
    assert of(errno.ECONNRESET).message.startswith("ConnectionResetError: ")
    of(errno.ENOENT, "/in/caf\udce9.mp3").message.encode()


def test_a_real_missing_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        (tmp_path / "none.mp3").read_bytes()
    failure = failure_of(caught.value)
    assert (failure.failure_class, failure.code) == (P, "not_found")
    assert str(tmp_path / "none.mp3") in failure.message


@pytest.mark.parametrize(
    "error",
    [
        NetworkError("no answer", code="timeout", retry_after_s=3.0),
        FileError("gone", failure_class="transient"),
        MediaError("no samples", code="no_samples"),
        ResourceError("too many"),
    ],
)
def test_our_own_errors_say_themselves_what_they_mean(error: TraxRayError) -> None:
    assert failure_of(error) == Failure(
        FailureClass(error.failure_class),
        Category(error.category),
        error.code,
        error.message,
        error.retry_after_s,
        "",
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("bad\n  value"), "ValueError: bad value"),
        (KeyError("x"), "KeyError: 'x'"),
        (RuntimeError(), "RuntimeError"),
        (AssertionError(), "AssertionError"),
        (OSError("without a number"), "OSError: without a number"),
    ],
)
def test_what_nobody_knows_is_unknown_and_named(error: Exception, message: str) -> None:
    assert failure_of(error) == Failure(U, Category.PROCESSING, "unexpected", message)


def test_endless_messages_are_cut() -> None:
    for error in (ValueError("x" * 10_000), ConnectionResetError(errno.ECONNRESET, "x" * 10_000)):
        assert len(failure_of(error).message) == MESSAGE_CHARACTERS


@pytest.mark.parametrize("error", [TimeoutError("slow"), ConnectionResetError("gone"), ConnectionError()])
def test_lost_connections_are_transient_even_without_a_number(error: OSError) -> None:
    failure = failure_of(error)
    assert (failure.failure_class, failure.category) == (FailureClass.TRANSIENT, Category.NETWORK)


def test_an_error_about_a_descriptor_names_no_file() -> None:
    assert failure_of(OSError(errno.EIO, "Input/output error", 7)).code == "unreadable"
