"""Who may import whom, and what importing loads: DESIGN's rooms, read from the source and tried in fresh processes."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import trax_ray
from trax_ray.store.layout import Layout

PACKAGE = Path(trax_ray.__file__).parent

ORDER = (
    "codes",
    "errors",
    "arrow",
    "logs",
    "core",
    "media",
    "store",
    "web",
    "providers",
    "enhance",
    "kinds",
    "plan",
    "watching",
    "report",
    "cluster",
    "processor",
    "create",
    "cli",
)
"""Each may import those before it, but for what stands below."""

APART = {
    "media": {"store"},
    "store": {"media"},
    "web": {"media", "store"},
    "providers": {"store", "web"},
    "enhance": {"store", "web", "providers"},
    "report": {"enhance", "kinds", "media", "providers", "watching", "web"},
}
"""Of those before it what a room may not import; media and store stand side by side."""

ROOMS: dict[str, set[str]] = {
    **{name: set(ORDER[:number]) - APART.get(name, set()) for number, name in enumerate(ORDER)},
    "places": {"codes", "errors"},
    "gcs": {"places"},
    "heads": {"codes", "errors", "core", "store", "gcs", "places"},
    "control": {"codes", "errors", "core", "store"},
    "experience": {"errors", "core", "store", "places", "plan", "heads"},
    "testing": {*ORDER},
    "__main__": {"cli"},
}
ROOMS["store"].add("places")
ROOMS["providers"].add("places")
for above in ("cluster", "processor", "cli"):
    ROOMS[above] |= {"heads", "gcs"}
ROOMS["processor"] |= {"experience"}
ROOMS["cli"] |= {"control", "experience", "places"}
"""What each room may import, itself apart."""

RAY = {"cluster"}
"""The rooms that may import Ray."""

HEAVY = {
    "jellyfish",
    "rapidfuzz",
    "regex",
    "text_to_num",
    "av",
    "ctranslate2",
    "docx",
    "faster_whisper",
    "huggingface_hub",
    "jinja2",
    "jiwer",
    "whisper_normalizer",
    "librosa",
    "numba",
    "numpy",
    "obstore",
    "onnxruntime",
    "openai",
    "pandas",
    "pocketsphinx",
    "pyarrow",
    "pysubs2",
    "ray",
    "scipy",
    "sklearn",
    "soundfile",
    "tokenizers",
    "torch",
    "yt_dlp",
}


def modules() -> list[str]:
    """The name of every module of the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def source(module: str) -> Path:
    """A module's file."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def room(module: str) -> str:
    """`trax_ray.core.task` is in `core`; the package itself is in no room."""
    return [*module.split("."), ""][1]


def imports(module: str) -> Iterator[tuple[int, str]]:
    """Line and name of all that a module imports, wherever in it; relative names are made absolute."""
    path = source(module)
    inside = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = inside[: len(inside) - node.level + 1] if node.level else []
            start = ".".join([*base, node.module] if node.module else base)
            yield node.lineno, start
            for alias in node.names:
                name = f"{start}.{alias.name}"
                if name in ALL:
                    yield node.lineno, name


ALL = modules()


def test_the_rooms_are_known() -> None:
    assert {room(module) for module in ALL} - {""} == set(ROOMS)


@pytest.mark.parametrize("module", [module for module in ALL if room(module)])
def test_imports_point_one_way(module: str) -> None:
    allowed = ROOMS[room(module)] | {room(module), ""}
    wrong = [
        f"{source(module)}:{line} imports {name}"
        for line, name in imports(module)
        if name.split(".")[0] == "trax_ray" and room(name) not in allowed
    ]
    assert not wrong


@pytest.mark.parametrize("module", [module for module in ALL if room(module) not in RAY])
def test_ray_stays_in_its_room(module: str) -> None:
    assert not [f"line {line} imports {name}" for line, name in imports(module) if name.split(".")[0] == "ray"]


def test_ray_is_looked_for_where_it_is() -> None:
    """Else the test above could be blind."""
    found = {room(module) for module in ALL for _, name in imports(module) if name.split(".")[0] == "ray"}
    assert found == RAY


@pytest.mark.parametrize("module", [module for module in ALL if room(module) in ("codes", "core", "errors")])
def test_core_imports_the_standard_library_and_itself(module: str) -> None:
    assert {name.split(".")[0] for _, name in imports(module)} <= {*sys.stdlib_module_names, "trax_ray"}


@pytest.mark.parametrize("module", [module for module in ALL if room(module) in ("codes", "core", "errors")])
def test_core_imports_nothing_by_name(module: str) -> None:
    """What is imported by name, none of the tests above sees."""
    assert "importlib" not in {name.split(".")[0] for _, name in imports(module)}
    assert "__import__" not in source(module).read_text()


def test_the_packages_own_rooms_do_not_lead_in_circles() -> None:
    done: set[str] = set()
    while left := set(ROOMS) - done:
        free = {name for name in left if ROOMS[name] <= done}
        assert free, f"a circle among {left}"
        done |= free


# In fresh processes


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after running `code`."""
    code += "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def bare() -> set[str]:
    """What an interpreter of this environment has anyway (path files of the environment may load things)."""
    return loaded_by("")


def test_core_loads_the_standard_library_only(bare: set[str]) -> None:
    names = [module for module in ALL if room(module) in ("codes", "core", "errors")]
    assert len(names) > 10
    loaded = loaded_by("\n".join(f"import {name}" for name in names))
    assert loaded - bare - set(sys.stdlib_module_names) == {"trax_ray"}


def test_core_pulls_in_no_other_room() -> None:
    names = [module for module in ALL if room(module) == "core"]
    code = "\n".join(f"import {name}" for name in names)
    code += "\nimport sys; print(*[name for name in sys.modules if name.startswith('trax_ray.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {room(name) for name in done.stdout.split()} == {"codes", "core", "errors"}


def test_importing_trax_ray_loads_nothing_heavy(bare: set[str]) -> None:
    loaded = loaded_by("import trax_ray; assert 'BatchProcessor' in dir(trax_ray); trax_ray.__version__")
    assert loaded - bare - set(sys.stdlib_module_names) == {"trax_ray"}


def test_the_public_names_are_there_and_load_neither_ray_nor_what_analyses_audio() -> None:
    loaded = loaded_by("import trax_ray\nfor name in trax_ray.__all__: getattr(trax_ray, name)")
    assert not loaded & HEAVY
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        trax_ray.Nonsense  # noqa: B018


HELP = """
import sys
from trax_ray.cli.app import main
sys.argv = ["trax-ray", *{arguments}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


CONTROL = """
import os, sys
from trax_ray.cli.app import main
from trax_ray.control import BatchControl
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease
BatchControl._waits = lambda self, name: False
BatchControl._news = lambda self, since: self.status()
lease = Lease(Layout({out!r}).lock)
if {at_work}:
    lease.acquire("a test")
sys.argv = ["trax-ray", {command!r}, {out!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize(
    ("command", "at_work"),
    [
        *((command, False) for command in ("status", "watch", "pause", "stop", "retry-failed", "clean")),
        *((command, True) for command in ("status", "pause", "resume", "stop", "retry-failed")),
    ],
)
def test_looking_at_a_batch_and_steering_it_loads_nothing_heavy(
    command: str, at_work: bool, layout: Layout, journal: Callable[..., None]
) -> None:
    journal()
    loaded = loaded_by(CONTROL.format(command=command, out=str(layout.output_dir), at_work=at_work))
    assert "typer" in loaded
    assert not loaded & HEAVY


def test_ending_heads_loads_nothing_heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    loaded = loaded_by(HELP.format(arguments=["down"]))
    assert "psutil" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["batch", "--help"], ["--version"]])
def test_asking_for_help_loads_nothing_heavy(arguments: list[str]) -> None:
    loaded = loaded_by(HELP.format(arguments=arguments))
    assert "typer" in loaded
    assert not loaded & HEAVY
    assert not loaded & {"pygments", "markdown_it"}, "rich's heavy parts"


def test_python_m_trax_ray_helps() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "trax_ray", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "batch" in done.stdout
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "trax_ray" in loaded
    assert not loaded & HEAVY
