"""The error tree: one root, the founding four, and what survives a process border."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

import trax_ray
from trax_ray import errors
from trax_ray.core.task import Category, FailureClass
from trax_ray.errors import TraxRayError

KINDS = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_pickling_with_all_that_it_carries(kind: type[TraxRayError]) -> None:
    for error in (
        kind("plain"),
        kind("caf\udce9", failure_class="transient", code="special", retry_after_s=2.5),
    ):
        for back in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(back) is kind
            assert str(back) == str(error) == error.message
            assert back.args == error.args
            for name in ("message", "failure_class", "category", "code", "retry_after_s"):
                assert getattr(back, name) == getattr(error, name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_valid_class_category_and_code(kind: type[TraxRayError]) -> None:
    error = kind("x")
    assert isinstance(error, TraxRayError)
    assert FailureClass(error.failure_class)
    assert Category(error.category)
    assert re.fullmatch(r"[a-z_]+", error.code)
    assert error.retry_after_s is None


def test_codes_tell_errors_apart() -> None:
    codes = [kind("x").code for kind in KINDS]
    assert len(set(codes)) == len(codes)


def test_what_is_given_to_one_error_does_not_reach_the_next() -> None:
    errors.NetworkError("x", failure_class="permanent", code="gone")
    assert (errors.NetworkError("y").failure_class, errors.NetworkError("y").code) == ("transient", "network")


@pytest.mark.parametrize(
    ("kind", "failure_class", "category"),
    [
        (errors.NetworkError, "transient", "network"),
        (errors.FileError, "permanent", "file"),
        (errors.JournalError, "permanent", "file"),
        (errors.ProcessingError, "permanent", "processing"),
        (errors.MediaError, "permanent", "processing"),
        (errors.ResourceError, "resource", "resource"),
        (errors.QueueFull, "permanent", "resource"),
        (errors.DiskFull, "config", "resource"),
        (errors.SetupError, "config", "processing"),
        (errors.UsageError, "permanent", "processing"),
    ],
)
def test_classes_and_categories(kind: type[TraxRayError], failure_class: str, category: str) -> None:
    assert (kind("x").failure_class, kind("x").category) == (failure_class, category)


def test_the_founding_four_are_public_and_under_one_root() -> None:
    four = {
        "NetworkError": "network",
        "FileError": "file",
        "ProcessingError": "processing",
        "ResourceError": "resource",
    }
    for name, category in four.items():
        kind = getattr(trax_ray, name)
        assert kind is getattr(errors, name)
        assert issubclass(kind, trax_ray.TraxRayError)
        assert kind("x").category == category


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    told: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"( {4,})([A-Z]\w+) {2,}", line + "  ")
        if found:
            told.append((len(found[1]), found[2]))
    assert {name for _, name in told} == set(errors.__all__)
    stack: list[tuple[int, str]] = []
    for indent, name in told:
        while stack and stack[-1][0] >= indent:
            stack.pop()
        parent = stack[-1][1] if stack else "Exception"
        assert getattr(errors, name).__bases__[0].__name__ == parent
        stack.append((indent, name))
