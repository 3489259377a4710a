"""What all tests share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from trax_ray.cluster.connect import Connection

# How long an example takes says nothing on a busy machine.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

ROOT = Path(__file__).resolve().parent.parent

# Processes that tests start, Ray's workers among them, find tests.support as the tests do: from the root.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


# What a user's own runs took says nothing here, and what tests take nothing of theirs.
_DATA = tempfile.TemporaryDirectory(prefix="trax-ray-tests-")
os.environ["XDG_DATA_HOME"] = _DATA.name


@pytest.fixture(scope="session")
def samples() -> Path:
    """The shipped recordings."""
    return ROOT / "samples"


@pytest.fixture(scope="session")
def speech() -> Path:
    """Recorded speech that isn't part of the project."""
    folder = Path(os.environ.get("TRAX_RAY_SPEECH_DIR", ROOT.parent / "shared" / "speech"))
    if not folder.is_dir():
        pytest.skip(f"no recorded speech in {folder}: set TRAX_RAY_SPEECH_DIR")
    return folder


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may reach a paid service by a key that happens to be set."""
    for name in ("OPENAI_API_KEY", "OPENAI_API_KEY_FILE", "DEEPSEEK_API_KEY", "ENHANCE_API_KEY", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def head() -> Iterator[Connection]:
    """One local Ray head for all tests that need Ray, with room for a few workers."""
    from trax_ray.cluster.connect import connect, disconnect

    connection = connect(name="tests", memory_limit_mb=4096)
    yield connection
    disconnect(connection)
