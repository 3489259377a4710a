"""README and docs against the program: commands, options, exit codes, failure codes, names of tests."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import typer.main
from typer.testing import CliRunner

import trax_ray
from trax_ray.cli import app as cli
from trax_ray.cli import batch as cli_batch
from trax_ray.cli import doctor as cli_doctor
from trax_ray.core.task import FailureClass
from trax_ray.providers import choice
from trax_ray.providers.openai_models import COMPATIBLE, MODELS, PRICES, SHUTDOWNS, model_of

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


SHOWN = [(page.name, command) for page in PAGES for command in commands(page)]


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
    parsed(command)
    if " --model tone" in command:
        return  # tests/unit/test_provider_walkthrough.py does what that page says first
    if shlex.split(command)[1] in NOT_RUN_HERE:
        return
    journal()
    monkeypatch.setattr(choice, "choose_model", lambda language: "pocketsphinx")
    monkeypatch.setattr(cli_doctor, "choose_model", lambda: "pocketsphinx")
    shutil.copytree(samples / "talks", tmp_path / "talks")
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(command)[1:]
    done = CliRunner().invoke(cli.app, [*arguments, *(["--dry-run"] if arguments[0] == "batch" else [])])
    assert done.exit_code == 0, done.output


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


def readme_options() -> dict[str, tuple[set[str], str]]:
    """Flags and default of each row of README's table of options."""
    rows = re.findall(r"^\| (`-.*?) \| .* \| (.*?) \|$", README.read_text(), re.MULTILINE)
    found = {}
    for cell, default in rows:
        for flags in cell.split(" / "):
            names = re.findall(r"`(-[\w-]+)`", flags)
            found[max(names, key=len)] = (set(names), default)
    return found


def test_the_readme_has_every_option_of_batch_and_no_other() -> None:
    assert set(readme_options()) == set(options("batch"))


def test_the_readme_has_the_short_flags_and_the_defaults() -> None:
    for flag, (names, default) in readme_options().items():
        option = options("batch")[flag]
        assert names == set(option.opts), flag
        value = option.default
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            assert default.strip("`") == str(value), flag
        elif value is False:
            assert default == "off", flag


def control_commands() -> dict[str, list[str]]:
    """Arguments of each command in README's table of control."""
    section = README.read_text().split("\n### Control from another terminal\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `trax-ray ([a-z-]+)(.*?)` \|", section, re.MULTILINE)
    return {name: arguments.split() for name, arguments in rows}


def test_the_readme_has_every_command_and_every_flag_of_those_that_look_and_steer() -> None:
    table = control_commands()
    assert set(table) == set(COMMANDS) - {"batch", "doctor"}
    for name, arguments in table.items():
        assert {word.strip("[]") for word in arguments if word.startswith("[")} == set(options(name)), name
        takes_a_folder = any(each.name == "output_dir" for each in COMMANDS[name].params)
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
        "--enhance": False,
    }
    batch = options("batch")
    assert {flag: batch[flag].default for flag in defaults} == defaults
    assert "--model" in batch


# Codes


def codes_of_table(text: str, heading: str) -> set[str]:
    """The words in backquotes in the first column of the tables below a heading."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)
    return {code for cell in cells for code in re.findall(r"`(\w+)`", cell)}


def test_exit_codes() -> None:
    known = {0, cli.EXIT_USAGE, cli.EXIT_SETUP, cli.EXIT_DEFECT, cli_doctor.EXIT_MISSING}
    known |= {cli_batch.EXIT_FAILED, cli_batch.EXIT_SETUP, cli_batch.EXIT_STOPPED}
    section = TROUBLESHOOTING.split("\n## Exit codes\n")[1].split("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)} == known
    usual = known - {cli.EXIT_DEFECT}
    (sentence,) = re.findall(r"^Exit codes: (.*?)\n\n", README.read_text(), re.MULTILINE | re.DOTALL)
    assert {int(code) for code in re.findall(r"\b\d+\b", sentence)} >= usual
    assert {int(code) for code in re.findall(r"\b\d+\b", COMMANDS["batch"].help or "")} == usual


def test_failure_classes() -> None:
    section = TROUBLESHOOTING.split("\n## Failure classes\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \|", section, re.MULTILINE)
    assert set(rows) - {"class"} == {each.value for each in FailureClass}


def words_in(node: ast.AST, constants: dict[str, str]) -> Iterator[str]:
    """The text constants in an expression, by value or by the name of a constant."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value
        elif isinstance(part, ast.Name) and part.id in constants:
            yield constants[part.id]


def codes_of_the_package() -> set[str]:
    """Every failure code in the source: `code=`, class attributes, `Failure(...)`, and tables of codes."""
    trees = {path: ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py") if "testing" not in path.parts}
    constants = {
        target.id: statement.value.value
        for tree in trees.values()
        for statement in tree.body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
        for target in statement.targets
        if isinstance(target, ast.Name) and isinstance(statement.value.value, str) and target.id.isupper()
    }
    found: set[str] = set()
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "code":
                found |= set(words_in(node.value, constants))
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Failure", "failure"):
                found |= set(words_in(node.args[2], constants)) if len(node.args) > 2 else set()
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "_lost":
                found |= set(words_in(node.args[1], constants))
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = {target.id for target in targets if isinstance(target, ast.Name)}
                if "code" in names and path.name == "errors.py":
                    found |= set(words_in(node.value, constants))
                elif names & {"_READ_CODES", "_SCARCE"}:
                    assert isinstance(node.value, ast.Dict)
                    found |= {word for value in node.value.values for word in words_in(value, constants)}
                elif names == {"_UNKNOWN"} and path.parent.name == "cluster":
                    assert isinstance(node.value, ast.Tuple)
                    rows = [row for row in node.value.elts if isinstance(row, ast.Tuple)]
                    found |= {word for row in rows for word in words_in(row.elts[3], constants)}
    return found


def test_every_failure_code_has_a_way_out() -> None:
    """A new code needs a row in docs/troubleshooting.md."""
    section = TROUBLESHOOTING.split("\n## Failure codes\n")[1].split("\n## ")[0]
    general = {"usage", "setup", "file", "network", "processing", "resource", "error"} | {
        "illegal_transition",
        "closed",
    }
    assert all(f"`{code}`" in section for code in general)
    documented = codes_of_table(TROUBLESHOOTING, "Failure codes") | general
    package = codes_of_the_package()
    assert {"worker_died", "dependency_failed", "too_many_open_files", "stalled"} <= package, "the search is blind"
    assert package - documented == set(), "no row for these"
    assert documented - package == set(), "nobody uses these"


# Services


def test_the_table_of_services_is_the_programs() -> None:
    section = README.read_text().split("\n### Services\n")[1].split("\n### ")[0]
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
    rooms = re.findall(r"^    (trax_ray/\w+|samples|docs/\w+)  ", text, re.MULTILINE)
    named = [*rooms, *re.findall(r"`((?:trax_ray|docs|tests|samples)/[\w./-]+)`", text)]
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
