"""Every option, by both ways in: it arrives in the spec from the command line and from Python, and nonsense is refused
with its name. A new option needs a case here."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from trax_ray import create_batch_processor
from trax_ray.cli import app as cli
from trax_ray.cli import batch as command_line
from trax_ray.core.spec import OUTPUT_FORMATS, BatchSpec
from trax_ray.errors import UsageError
from trax_ray.plan.options import OPTIONS, ROOMS, Option, make_spec, option
from trax_ray.plan.plan import Plan
from trax_ray.plan.planner import with_model
from trax_ray.report.result import BatchResult
from trax_ray.watching import Watch

HERE = "/HERE"
"""Stands for the test's folder, which is the working folder too."""


@dataclass(frozen=True)
class Case:
    """One option.

    Args:
        line: What the command line gives.
        python: What Python gives for the same.
        value: What both come to: in the spec, or for the processor.
        bad: What neither takes, as Python gives it; the command line as text, where that is something else there.
        bad_line: What the command line refuses besides.
        bad_python: What Python refuses besides.
        more: Other options that have to be there, by the keyword.
    """

    line: tuple[str, ...]
    python: Any
    value: Any
    bad: tuple[Any, ...] = ()
    bad_line: tuple[str, ...] = ()
    bad_python: tuple[Any, ...] = ()
    more: tuple[str, ...] = ()


NOT_WHOLE = ("3", True, 3.0, math.nan)
NOT_FINITE = (math.inf, math.nan)

CASES: Mapping[str, Case] = {
    "max_workers": Case(("--workers", "3"), 3, 3, (0, 2.5), ("many",), NOT_WHOLE),
    "queue_size": Case((), 7, 7, (0, 2.5), (), NOT_WHOLE),
    "progress_interval": Case(("--progress-interval", "0.5"), 0.5, 0.5, (0, -1, *NOT_FINITE), ("often",), ("1", True)),
    "memory_limit_mb": Case(("--memory-limit", "1024"), 1024, 1024, (0, 512.5), ("much",), NOT_WHOLE),
    "cpu_limit_percent": Case(("--cpu-limit", "50"), 50, 50, (0, 101, *NOT_FINITE), ("all",), ("50", True)),
    "model": Case(("--model", "tiny"), "tiny", "tiny", ("", " "), (), (5,)),
    "base_url": Case(
        ("--base-url", "http://127.0.0.1:1/v1/"),
        "http://127.0.0.1:1/v1/",
        "http://127.0.0.1:1/v1",
        (
            "",
            " ",
            "ftp://host",
            "http://user:hunter2@host/v1",
            "http://host:99999/v1",
            "http://host:abc/v1",
            "http://host:0/v1",
            "http://[::1/v1",
            "http://[x]/v1",
        ),
        (),
        (5,),
    ),
    "max_cost_usd": Case(("--max-cost", "1.5"), 1.5, 1.5, (-1, *NOT_FINITE), ("little",), ("1", True)),
    "language": Case(("--language", "English"), "english", "en", ("", " ", "xx", "Englisch"), (), (5,)),
    "vad": Case(("--vad", "high"), "high", "high", ("", "loud"), (), (5,)),
    "chunk_size": Case(("--chunk-size", "60"), 60, 60, (9, 60.5), ("long",), NOT_WHOLE),
    "output_dir": Case(("-o", "results"), Path("results"), f"{HERE}/results", ("", " "), (), (5,)),
    "formats": Case(
        ("-f", "SRT,txt", "--output-format", "json"),
        ("srt", "Txt", "json"),
        ("srt", "txt", "json"),
        ("doc", "", "txt,doc"),
        (),
        (5, ("txt", 5), ()),
    ),
    "max_line_width": Case(("--max-line-width", "30"), 30, 30, (9, 0, 2.5), ("wide",), NOT_WHOLE),
    "max_line_count": Case(("--max-line-count", "3"), 3, 3, (0, 2.5), ("few",), NOT_WHOLE),
    "max_words_per_line": Case(("--max-words-per-line", "4"), 4, 4, (0, 2.5), ("few",), NOT_WHOLE),
    "subtitle_style": Case(("--subtitle-style", "bbc"), "bbc", "bbc", ("", "arte"), (), (5,)),
    "reference": Case(("--reference", "ref"), Path("ref"), f"{HERE}/ref", ("", "nothing", "a.wav"), (), (5,)),
    "max_retries": Case(("--max-retries", "0"), 0, 0, (-1, 1.5), ("often",), NOT_WHOLE),
    "priority": Case(("--priority", "7"), 7, 7, (-1, 1.5, 10**9), ("high",), NOT_WHOLE),
    "batch_priority": Case(("--batch-priority", "3"), 3, 3, (-1, 1.5, 10**9), ("high",), NOT_WHOLE),
    "initial_prompt": Case(
        ("--initial-prompt", "Names: Ada."), "Names: Ada.", "Names: Ada.", (), (), (5,), ("--model", "tiny")
    ),
    "word_timestamps": Case(("--word-timestamps",), True, True, (), (), ("yes", 1)),
    "task_timeout": Case(("--task-timeout", "90"), 90, 90.0, (0, -1, *NOT_FINITE), ("long",), ("1", True)),
    "grace": Case(("--grace", "5"), 5, 5.0, (-1, *NOT_FINITE), ("long",), ("1", True)),
    "start_at": Case(
        ("--start-at", "2031-11-21 22:00"),
        "2031-11-21 22:00",
        datetime(2031, 11, 21, 22).timestamp(),
        ("", "soon", "25:00"),
        (),
        (5,),
    ),
    "only_between": Case(
        ("--only-between", "22:00-06:00"), "22:00-06:00", "22:00-06:00", ("", "night", "08:00-08:00"), (), (5,)
    ),
    "channels": Case(("--channels", "split"), "split", "split", ("both", "stereo", ""), (), (5,)),
    "audio_track": Case(("--audio-track", "German"), "German", "de", ("", "0", "-1", "Klingon", "auto"), (), (5,)),
    "loudness": Case(("--loudness",), True, True, (), (), ("yes", 1), ("--preprocess",)),
    "preprocess": Case(("--preprocess",), True, True, (), (), ("yes", 1)),
    "keep_audio": Case(("--keep-audio",), True, True, (True,), (), ("yes", 1), ("--preprocess",)),
    "watch": Case(("--watch",), True, True, (), (), ("yes", 1)),
    "settle": Case(("--settle", "3"), 3, 3, (-1, 90_000, *NOT_FINITE), ("long",), ("1", True), ("--watch",)),
    "poll": Case(
        ("--poll", "90s"),
        "1.5m",
        90.0,
        ("", " ", "often", "1s", "8d", "-5m", "5 minutes"),
        (),
        (60, 60.0),
        ("--watch",),
    ),
    "task": Case(("--task", "Preprocess"), "preprocess", "preprocess", ("", "sing"), (), (5,)),
    "cookies": Case(("--cookies", __file__), __file__, __file__, ("", " ", "/not/there.txt"), (), (5,)),
    "max_items": Case(("--max-items", "3"), 3, 3, (0, -1, 1.5), ("all",), NOT_WHOLE),
    "since": Case(("--since", "2026-05-01"), "20260501", "20260501", ("", "May", "2026-13-01"), (), (5,)),
    "match": Case(("--match", "Interview"), "Interview", "Interview", ("", " "), (), (5,)),
    "download_archive": Case(
        ("--download-archive", "archive.txt"), Path("archive.txt"), f"{HERE}/archive.txt", ("", "no/folder"), (), (5,)
    ),
    "captions": Case(("--captions", "Prefer"), "prefer", "prefer", ("", "always"), (), (5,)),
    "keep_media": Case(("--keep-media",), True, True, (), (), ("yes", 1)),
    "prefetch_mb": Case(("--prefetch-mb", "300"), 300, 300, (0, 1.5), ("all",), NOT_WHOLE),
    "host_requests": Case(("--host-requests", "3"), 3, 3, (0, 1.5), ("all",), NOT_WHOLE),
    "host_pause": Case(("--host-pause", "1.5"), 1.5, 1.5, (-1, 4000.0, *NOT_FINITE), ("long",), ("1", True)),
    "allow_private_network": Case(("--allow-private-network",), True, True, (), (), ("yes", 1)),
    "enhance": Case(("--enhance",), "format", "format", ("", "loud", "True"), (), (5,)),
    "enhance_model": Case(
        ("--enhance-model", "deepseek-v4-pro"),
        "deepseek-v4-pro",
        "deepseek-v4-pro",
        ("", " "),
        (),
        (5,),
        ("--enhance",),
    ),
    "enhance_base_url": Case(
        ("--enhance-base-url", "http://127.0.0.1:1/v1/"),
        "http://127.0.0.1:1/v1/",
        "http://127.0.0.1:1/v1",
        ("", " ", "ftp://host", "http://user:hunter2@host/v1", "http://host:0/v1"),
        (),
        (5,),
        ("--enhance", "--enhance-model", "deepseek-flash"),
    ),
    "glossary": Case(
        ("--glossary", "terms.txt"), Path("terms.txt"), "Kubernetes\n", ("", "ref", "not/there"), (), (5,)
    ),
    "remove_fillers": Case(("--remove-fillers",), True, True, (), (), ("yes", 1), ("--enhance",)),
    "off_peak": Case(("--off-peak",), True, True, (), (), ("yes", 1), ("--enhance",)),
    "summary": Case(("--summary",), True, True, (), (), ("yes", 1), ("--enhance",)),
    "address": Case(
        ("--address", "127.0.0.1:6379"),
        "127.0.0.1:6379",
        "127.0.0.1:6379",
        ("", " ", "host:abc", "host:99999", "ray://host:0"),
        (),
        (5,),
    ),
    "lean": Case(("--lean",), True, True, (), (), ("yes", 1)),
}

UNSETS = {"task": ("model",), "enhance": ("enhance_model",)}
"""Options that take others their meaning: nothing is looked for that only they need."""

NAMED = [each for each in OPTIONS if each.name]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"a")
    (tmp_path / "ref").mkdir()
    (tmp_path / "terms.txt").write_text("Kubernetes\n")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-0123456789")
    monkeypatch.setattr("trax_ray.providers.choice.choose_model", lambda language: "pocketsphinx")


class Asked:
    """What a processor is made with."""

    watched = ()

    def __init__(
        self, spec: BatchSpec, *, address: str | None = None, lean: bool = False, watch: Watch | None = None
    ) -> None:
        self.spec, self.address, self.lean, self.watches = spec, address, lean, watch

    def watch(self, *_: Any, **__: Any) -> None:
        self.spec = with_model(self.spec)

    def take(self, plan: Plan) -> None:
        self.spec = plan.spec

    async def start(self, **_: Any) -> BatchResult:
        return BatchResult()


@pytest.fixture
def by_line(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Asked]:
    """Gives `trax-ray batch a.wav` options."""
    seen: list[Asked] = []

    def make(*arguments: Any, **more: Any) -> Asked:
        seen.append(Asked(*arguments, **more))
        return seen[-1]

    monkeypatch.setattr(command_line, "BatchProcessor", make)
    monkeypatch.setattr(command_line.summary, "show_result", lambda *_: None)

    def give(*arguments: str) -> Asked:
        done = CliRunner().invoke(cli.app, ["batch", *arguments, "--", "a.wav"])
        assert done.exit_code == 0, done.output
        return seen[-1]

    return give


@pytest.fixture
def by_python(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Asked]:
    """Gives `create_batch_processor` options."""
    monkeypatch.setattr("trax_ray.create.BatchProcessor", Asked)

    def give(**options: Any) -> Asked:
        made: Any = create_batch_processor(**options)
        assert isinstance(made, Asked)
        return made

    return give


def arrived(asked: Asked, each: Option) -> Any:
    """What has become of an option."""
    if each.name == "watch":
        return asked.watches is not None
    if each.name in ("settle", "poll"):
        return getattr(asked.watches or Watch(), f"{each.name}_s")
    if not each.field:
        return getattr(asked, each.name, None)
    part: Any = asked.spec
    for name in each.field.split("."):
        part = getattr(part, name)
    return part


def here(value: Any) -> Any:
    return value.replace(HERE, str(Path.cwd())) if isinstance(value, str) else value


def test_every_option_has_a_case() -> None:
    assert set(CASES) == {each.name for each in NAMED}
    assert all(bool(CASES[each.name].line) == bool(each.flags) for each in NAMED)


@pytest.mark.parametrize("each", [each for each in NAMED if each.flags], ids=lambda each: each.name)
def test_from_the_command_line_it_arrives(each: Option, by_line: Callable[..., Asked]) -> None:
    case = CASES[each.name]
    before, after = by_line(*case.more), by_line(*case.line, *case.more)
    assert arrived(after, each) == here(case.value)
    if case.line:
        assert arrived(before, each) != arrived(after, each), "or this says nothing"
    others = [other for other in NAMED if other.name not in (each.name, *UNSETS.get(each.name, ()))]
    if each.name not in ("model", "base_url"):
        assert [arrived(after, other) for other in others] == [arrived(before, other) for other in others]


@pytest.mark.parametrize("each", NAMED, ids=lambda each: each.name)
def test_from_python_it_arrives(each: Option, by_python: Callable[..., Asked]) -> None:
    case = CASES[each.name]
    more = {name: True for name in ("preprocess", "watch") if f"--{name}" in case.more}
    before, after = by_python(**more), by_python(**{each.name: case.python}, **more)
    assert arrived(after, each) == here(case.value)
    others = [other for other in NAMED if other.name != each.name]
    assert [arrived(after, other) for other in others] == [arrived(before, other) for other in others]


LINES = [
    (each, str(value)) for each in NAMED if each.flags and each.kind is not bool for value in CASES[each.name].bad
] + [(each, value) for each in NAMED for value in CASES[each.name].bad_line]


@pytest.mark.parametrize(("each", "value"), LINES, ids=lambda part: part.name if isinstance(part, Option) else part)
def test_the_command_line_refuses_nonsense_and_names_the_flag(each: Option, value: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["batch", f"{each.flags[0]}={value}", "--", "a.wav"])
    assert done.exit_code == 2, done.output
    assert each.flags[0] in done.stderr
    assert "hunter2" not in done.stderr
    assert not list(tmp_path.glob("trax_ray_output"))


@pytest.mark.parametrize(
    ("each", "value"),
    [(each, value) for each in NAMED for value in (*CASES[each.name].bad, *CASES[each.name].bad_python)],
    ids=lambda part: part.name if isinstance(part, Option) else repr(part),
)
def test_python_refuses_nonsense_and_names_the_keyword(each: Option, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        create_batch_processor(**{each.name: value})
    assert any(name in caught.value.message for name in (each.name, *each.flags[:1]))
    assert "hunter2" not in caught.value.message


def test_options_that_need_others() -> None:
    assert CliRunner().invoke(cli.app, ["batch", "a.wav", "--keep-audio"]).exit_code == 2
    for flag in ("--summary", "--off-peak", "--remove-fillers", "--enhance-model=deepseek-flash"):
        done = CliRunner().invoke(cli.app, ["batch", "a.wav", flag])
        assert done.exit_code == 2, done.output
        assert flag.partition("=")[0] in done.stderr
        assert "--enhance" in done.stderr


def test_enhancement_without_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPSEEK_API_KEY")
    done = CliRunner().invoke(cli.app, ["batch", "--enhance", "a.wav"])
    assert done.exit_code == 3, done.output
    assert "set DEEPSEEK_API_KEY" in done.stderr


@pytest.mark.parametrize(
    ("given", "level"),
    [
        (["--enhance", "a.wav"], "format"),
        (["a.wav", "--enhance"], "format"),
        (["--enhance=words", "a.wav"], "words"),
        (["a.wav", "--glossary", "rules.txt", "--enhance=rules"], "rules"),
        (["a.wav", "--glossary", "rules.txt"], "rules"),
        (["a.wav", "--glossary", "terms.txt"], ""),
        (["a.wav"], ""),
    ],
)
def test_what_stands_behind_enhance_is_no_level(
    given: list[str], level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rules.txt").write_text("kuber netties -> Kubernetes\n")
    plans: list[Plan] = []
    monkeypatch.setattr(command_line.outlook, "show_plan", lambda outlook: plans.append(outlook.plan))
    done = CliRunner().invoke(cli.app, ["batch", "--dry-run", *given])
    assert done.exit_code == 0, done.output
    (plan,) = plans
    assert plan.spec.enhance.level == level
    assert [task.task_type.value for task in plan.tasks] == ["transcribe", *(["enhance"] if level else [])]


# One table


def test_pythons_keywords_are_those_of_the_table() -> None:
    parameters = inspect.signature(create_batch_processor).parameters
    assert set(parameters) == {each.name for each in NAMED}
    founding = ["max_workers", "queue_size", "progress_interval", "memory_limit_mb", "cpu_limit_percent", "output_dir"]
    assert list(parameters)[:11] == [*founding, "model", "language", "chunk_size", "enhance", "address"]
    words = {int: "int", float: "float", str: "str", bool: "bool", list: "Sequence[str]"}
    for each in NAMED:
        parameter = parameters[each.name]
        assert parameter.default == each.default, each.name
        assert type(parameter.default) is type(each.default), each.name
        kinds = parameter.annotation.split(" | ")
        assert words[each.kind] in kinds, each.name
        assert ("None" in kinds) is each.optional, each.name


def test_every_keyword_is_explained_in_the_order_of_the_signature() -> None:
    text = inspect.getdoc(create_batch_processor)
    assert text is not None
    section = text.split("\nArgs:\n")[1].split("\n\n")[0]
    explained = [line.strip().partition(":")[0] for line in section.splitlines() if line.startswith("    ")]
    assert explained == list(inspect.signature(create_batch_processor).parameters)


def test_the_command_lines_flags_are_those_of_the_table() -> None:
    group: Any = typer.main.get_command(cli.app)
    parameters = {each.name: each for each in group.commands["batch"].params}
    table = {each.key: each for each in OPTIONS if each.flags}
    assert list(parameters) == list(table)
    for key, each in table.items():
        assert parameters[key].help == each.help
        if each.flags[0].startswith("-"):
            assert tuple(parameters[key].opts) == each.flags
            assert not parameters[key].secondary_opts


def test_fields_that_options_name_are_there_and_named_once() -> None:
    named = [each.field for each in OPTIONS if each.field]
    assert len(named) == len(set(named))
    assert arrived(Asked(BatchSpec("/o")), option("max_retries")) == 3
    for each in NAMED:
        arrived(Asked(BatchSpec("/o")), each)


def test_what_is_not_given_has_the_specs_default() -> None:
    spec = make_spec({"model": None, "formats": None})
    assert spec == BatchSpec(str(Path.cwd() / "trax_ray_output"))
    assert make_spec({"formats": "all"}).formats == make_spec({"formats": ["txt", "all"]}).formats == OUTPUT_FORMATS
    with pytest.raises(UsageError, match=r"settle \(--settle\) goes with watch \(--watch\)"):
        make_spec({"settle": 5.0})
    assert make_spec({"formats": "srt, txt"}).formats == ("srt", "txt")


def test_help_shows_every_option_in_its_room() -> None:
    shown = CliRunner().invoke(cli.app, ["batch", "--help"]).stdout
    sections = re.split(r"^(\S.*):$", shown, flags=re.MULTILINE)
    by_title = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert [*by_title] == [*ROOMS, "Other"]
    for title, options in ROOMS.items():
        told = set(re.findall(r"^  (?:-\w, )?(--[\w-]+|INPUT)", by_title[title], re.MULTILINE))
        assert told == {each.flags[0] for each in options if each.flags}, title
