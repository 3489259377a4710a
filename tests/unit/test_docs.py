"""README and docs against the program: commands, options, exit codes, failure codes, names of tests."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import typer.main
from typer.testing import CliRunner

import trax_ray
from trax_ray.cli import app as cli
from trax_ray.cli import batch as cli_batch
from trax_ray.cli.doctor import models as doctor_models
from trax_ray.cli.doctor import run as cli_doctor
from trax_ray.cli.submit import compose as compose_job
from trax_ray.codes import FailureClass, FailureCode, WarningCode
from trax_ray.providers import choice
from trax_ray.providers.openai_models import COMPATIBLE, MODELS, PRICES, SHUTDOWNS, model_of
from trax_ray.report.write import write_report

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(trax_ray.__file__).parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text()

GROUP = typer.main.get_command(cli.app)
assert isinstance(GROUP, click.Group) or hasattr(GROUP, "commands")
COMMANDS: dict[str, click.Command] = GROUP.commands


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(page: Path) -> list[str]:
    """The commands of ours that a page shows."""
    lines = [line.strip() for block in blocks(page.read_text(), "bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith("trax-ray ")]


QUESTIONS = (ROOT / "docs" / "report.md").read_text().split("\n## Ten questions\n")[1].split("\n## ")[0]

SHOWN = [
    *((page.name, command) for page in PAGES for command in commands(page)),
    *(("ten questions", command) for command in sorted(set(re.findall(r"`(trax-ray [^`]+)`", QUESTIONS)))),
]


NOT_RUN_HERE = {"up": "starts Ray", "down": "ends processes", "resume": "starts a batch"}
"""Commands that are parsed and not run; tests/ray/test_docs_on_ray.py and test_control_on_ray.py run them."""


def parsed(command: str) -> click.Context:
    """Parse a command without running it; an unknown flag or a wrong value raises."""
    _, name, *arguments = shlex.split(command)
    return COMMANDS[name].make_context(name, arguments)


# Commands and options


def test_pages_show_commands() -> None:
    assert {"README.md", "troubleshooting.md", "adding-a-provider.md"} <= {page for page, _ in SHOWN}
    assert len(SHOWN) >= 10


def test_ten_questions_have_two_answers_each() -> None:
    rows = [row.strip("|").split(" | ") for row in re.findall(r"^\|.*\|$", QUESTIONS, re.MULTILINE)][2:]
    assert len(rows) == 10
    assert all(len(row) == 3 and all(cell.strip() for cell in row) for row in rows)


@pytest.mark.parametrize(("page", "command"), SHOWN)
def test_commands_of_the_pages_are_accepted(
    page: str,
    command: str,
    tmp_path: Path,
    samples: Path,
    journal: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Flags exist and values are allowed: `batch` gets as far as `--dry-run` does, others find a batch in `out`."""
    given = parsed(command)
    if given.command.name == "submit":
        compose_job(given.params)
        return
    if " --model tone" in command:
        return  # tests/unit/test_provider_walkthrough.py does what that page says first
    if shlex.split(command)[1] in NOT_RUN_HERE:
        return
    journal()
    monkeypatch.setattr(choice, "choose_model", lambda language: "pocketsphinx")
    monkeypatch.setattr(doctor_models, "choose_model", lambda: "pocketsphinx")
    for folder in ("talks", "inbox"):
        shutil.copytree(samples / "talks", tmp_path / folder)
    (tmp_path / "transcripts").mkdir()
    (tmp_path / "transcripts" / "talk.txt").write_text("Something that was said.")
    (tmp_path / "terms.txt").write_text("Kubernetes")
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-0123456789")
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(command)[1:]
    if arguments[0] in ("search", "export"):
        write_report(tmp_path / "out", final=True)
    done = CliRunner().invoke(cli.app, [*arguments, *(["--dry-run"] if arguments[0] == "batch" else [])])
    nothing_found = done.exit_code == 1 and "nothing found" in done.output
    assert done.exit_code == 0 or nothing_found, done.output


def test_no_page_names_a_command_that_is_not_there() -> None:
    named = {name for page in PAGES for name in re.findall(r"trax-ray ([a-z][a-z-]+)", page.read_text())}
    assert named
    assert named <= set(COMMANDS)


def test_no_message_names_a_command_that_is_not_there() -> None:
    sources = [path.read_text() for path in PACKAGE.rglob("*.py")]
    named = {name for source in sources for name in re.findall(r"`trax-ray ([a-z][a-z-]+)", source)}
    assert named <= set(COMMANDS)


def options(command: str) -> dict[str, click.Parameter]:
    """The options of a command by their long flag, `--help` apart."""
    return {max(each.opts, key=len): each for each in COMMANDS[command].params if each.opts[0].startswith("-")}


def page_options() -> dict[str, tuple[set[str], str]]:
    """Flags and default of each row of the table of options."""
    rows = re.findall(r"^\| (`-.*?) \| .* \| (.*?) \|$", (ROOT / "docs" / "options.md").read_text(), re.MULTILINE)
    found = {}
    for cell, default in rows:
        for flags in cell.split(" / "):
            names = re.findall(r"`(-[\w-]+)`", flags)
            found[max(names, key=len)] = (set(names), default)
    return found


def test_the_page_has_every_option_of_batch_and_no_other() -> None:
    assert set(page_options()) == set(options("batch"))


def test_the_page_has_the_short_flags_and_the_defaults() -> None:
    for flag, (names, default) in page_options().items():
        option = options("batch")[flag]
        assert names == set(option.opts), flag
        value = option.default
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            assert default.strip("`") == str(value), flag
        elif value is False:
            assert default == "off", flag


def control_commands() -> dict[str, list[str]]:
    """Arguments of each command in README's table of control."""
    section = README.read_text().split("\n## Control from another terminal\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `trax-ray ([a-z-]+)(.*?)` \|", section, re.MULTILINE)
    return {name: arguments.split() for name, arguments in rows}


def test_the_readme_has_every_command_and_every_flag_of_those_that_look_and_steer() -> None:
    table = control_commands()
    assert set(table) == set(COMMANDS) - {"batch", "doctor"}
    for name, arguments in table.items():
        own = set(options(name)) - (set(options("batch")) if name == "submit" else set())
        assert {word.strip("[]") for word in arguments if word.startswith("[")} == own, name
        takes_a_folder = any(each.name == "output_dir" and each.opts[0][0] != "-" for each in COMMANDS[name].params)
        assert ("OUT" in arguments) is takes_a_folder, name


def test_every_command_is_explained_with_its_exit_codes() -> None:
    for name, command in COMMANDS.items():
        assert "Exit codes: 0 " in (command.help or ""), name


def test_the_founding_options() -> None:
    defaults = {
        "--workers": 8,
        "--progress-interval": 5.0,
        "--memory-limit": 2048,
        "--cpu-limit": 90,
        "--language": None,
        "--chunk-size": 600,
        "--enhance": None,
    }
    batch = options("batch")
    assert {flag: batch[flag].default for flag in defaults} == defaults
    assert "--model" in batch


# Codes


def test_exit_codes() -> None:
    known = {0, cli.EXIT_USAGE, cli.EXIT_SETUP, cli.EXIT_DEFECT, cli_doctor.EXIT_SETUP}
    known |= {cli_batch.EXIT_FAILED, cli_batch.EXIT_SETUP, cli_batch.EXIT_STOPPED}
    section = TROUBLESHOOTING.split("\n## Exit codes\n")[1].split("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)} == known
    usual = known - {cli.EXIT_DEFECT}
    (sentence,) = re.findall(r"Exit codes: (.*?)\n\n", README.read_text(), re.MULTILINE | re.DOTALL)
    assert {int(code) for code in re.findall(r"\b\d+\b", sentence)} >= usual
    assert {int(code) for code in re.findall(r"\b\d+\b", COMMANDS["batch"].help or "")} == usual


def test_failure_classes() -> None:
    section = TROUBLESHOOTING.split("\n## Failure classes\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \|", section, re.MULTILINE)
    assert set(rows) - {"class"} == {each.value for each in FailureClass}


def test_the_tables_of_codes_are_those_of_the_program() -> None:
    """A new code needs no more than its row in `trax_ray.codes`, and this script run."""
    script = runpy.run_path(str(ROOT / "docs" / "make_tables.py"))
    assert script["with_tables"](TROUBLESHOOTING) == TROUBLESHOOTING, "run python docs/make_tables.py"
    report = (ROOT / "docs" / "report.md").read_text("utf-8")
    assert script["with_tables"](report, script["COLUMN_TABLES"]) == report, "run python docs/make_tables.py"
    for code in (*FailureCode, *WarningCode):
        assert TROUBLESHOOTING.count(f"\n| `{code}` | ") == 1, code


def test_sections_that_a_code_points_to_are_there() -> None:
    named = {name for code in FailureCode for name in re.findall(r"\(see (.*?)\)", code.way_out)}
    assert named
    assert named <= set(re.findall(r"^## (.*)$", TROUBLESHOOTING, re.MULTILINE))


def test_options_that_a_code_names_are_there() -> None:
    sentences = [sentence for code in (*FailureCode, *WarningCode) for sentence in (code.meaning, code.way_out)]
    named = {flag for sentence in sentences for flag in re.findall(r"`(--[a-z-]+)", sentence)}
    assert {"--chunk-size", "--vad"} <= named <= set(options("batch"))


# Services


def test_the_table_of_services_is_the_programs() -> None:
    section = (ROOT / "docs" / "services.md").read_text()
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\|.*\|$", section, re.MULTILINE)
    ]
    assert rows[0][5] == "`--initial-prompt`"
    told = {row[0].strip("`"): row[1:] for row in rows[2:]}
    assert list(told) == [*(row.models for row in MODELS), "any other, on your server"]
    for row in MODELS:
        confidence = row.logprobs or row.response_format == "verbose_json"
        known = ["yes" if has else "no" for has in (row.words, confidence, row.speakers)]
        expected = ["yes" if row.segments else "made up", *known, row.prompt or "refused", f"{row.longest_s:g}"]
        assert told[row.models][:6] == expected, row.models
        named = {PRICES.rows[model].minute for model in PRICES.rows if model_of(model) is row}
        assert {float(price) for price in re.findall(r"[\d.]+", told[row.models][6])} == named, row.models
    *gives, prompt, longest, _ = told["any other, on your server"]
    assert all(cell.startswith("if it gives") for cell in gives)
    assert (prompt, longest) == (COMPATIBLE.prompt, f"{COMPATIBLE.longest_s:g}")
    for shutdown in SHUTDOWNS:
        assert f"`{shutdown.models}`" in section
        assert str(shutdown.on) in section


# Names


def test_files_that_the_readme_names_are_there() -> None:
    text = README.read_text()
    linked = re.findall(r"\]\((docs/[\w./-]+)", text)
    rooms = re.findall(r"^    (trax_ray/\w+|samples|docs/\w+)  ", text, re.MULTILINE)
    named = [*rooms, *linked, *re.findall(r"`((?:trax_ray|docs|tests|samples)/[\w./-]+)`", text)]
    assert len(rooms) >= 9
    assert not [name for name in named if not (ROOT / name).exists()]


def test_targets_that_the_readme_names_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"make ([a-z-]+) ", README.read_text()))
    assert {"demo", "test"} <= named
    assert not [name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)]


def names_of_tests(path: Path) -> set[str]:
    """The tests of a file, as pytest writes them: `test_a`, `TestB::test_c`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}::{member.name}"
                for member in node.body
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return found


def test_the_founding_promises_name_tests_that_are_there() -> None:
    page = (ROOT / "docs" / "founding.md").read_text()
    rows = [
        line for line in page.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "| plan"))
    ]
    assert len(rows) > 50
    for row in rows:
        _, _, how, tests, _ = re.split(r"\s*\|\s*", row)
        named = re.findall(r"`([\w/]+\.py)::([\w:]+)`", tests)
        assert named or "**not yet**" in how, f"neither a test nor `not yet`: {row}"
        for file, test in named:
            assert test in names_of_tests(ROOT / "tests" / file), f"no such test: {file}::{test}"
