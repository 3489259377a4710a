"""Failure codes and warning codes: one table of each, held against the source that gives and compares them."""

from __future__ import annotations

import ast
import json
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import trax_ray
from trax_ray import errors
from trax_ray.codes import Category, FailureClass, FailureCode, WarningCode, failure_code, warning_code
from trax_ray.core.spec import SECRET_VARIABLES
from trax_ray.core.state.events import AttemptEnded, decode_event, encode_event
from trax_ray.core.task import Failure, Outcome
from trax_ray.media.speech import Span
from trax_ray.providers.openai_answers import read_answer
from trax_ray.report.text import explained, reason

PACKAGE = Path(trax_ray.__file__).parent
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
    if "testing" not in path.relative_to(PACKAGE).parts and path.name != "codes.py"
}
"""The package's modules by name; what only tests use makes failures of its own."""

CONSTANTS: Mapping[str, list[ast.expr]] = {
    name: [
        statement.value
        for tree in TREES.values()
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == name for target in statement.targets)
    ]
    for tree in TREES.values()
    for statement in tree.body
    if isinstance(statement, ast.Assign)
    for target in statement.targets
    if isinstance(target, ast.Name) and (name := target.id).isupper()
}
"""What the constants of all modules are, by name."""


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """The calls in a module by the name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield node.func.id if isinstance(node.func, ast.Name) else node.func.attr, node


def given(tree: ast.AST, module: str) -> Iterator[ast.expr]:
    """The expressions in a module that give a failure its code."""
    takers = {
        node.name: [each.arg for each in node.args.args if each.arg != "self"].index("code")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and "code" in {each.arg for each in node.args.args}
    }
    for name, call in calls(tree):
        yield from (keyword.value for keyword in call.keywords if keyword.arg == "code")
        if name in ("Failure", "failure"):
            yield from call.args[2:3]
        elif name in takers:
            yield from call.args[takers[name] : takers[name] + 1]
    if module == "errors.py":
        for node in ast.walk(tree):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if isinstance(node, ast.Assign | ast.AnnAssign) and "code" in {getattr(each, "id", "") for each in targets}:
                yield node.value or node


def compared(tree: ast.AST) -> Iterator[ast.expr]:
    """What the codes of failures and errors are compared with."""
    for node in ast.walk(tree):
        sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        if any(isinstance(side, ast.Attribute) and side.attr == "code" for side in sides):
            yield from sides


def texts(node: ast.AST, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """The text constants in an expression, and in the constants of the package that it names."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value
        elif isinstance(part, ast.Name) and part.id not in seen:
            for value in CONSTANTS.get(part.id, ()):
                yield from texts(value, seen | {part.id})


def members(node: ast.AST, table: str) -> Iterator[str]:
    """The names of the members of a table that an expression uses."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == table:
            yield part.attr


def test_the_search_sees_what_it_looks_for() -> None:
    found = {module: list(given(tree, module)) for module, tree in TREES.items()}
    assert sum(map(len, found.values())) > 80
    assert found["errors.py"]
    assert sum(len(list(compared(tree))) for tree in TREES.values()) > 20
    assert list(texts(ast.parse("x.code in LOST and code == 'no_key'"))) == ["no_key"]
    assert set(texts(ast.parse("OUTPUT_FORMATS"))) >= {"txt", "srt"}


@pytest.mark.parametrize("module", TREES)
def test_failure_codes_are_given_and_compared_as_members(module: str) -> None:
    for node in (*given(TREES[module], module), *compared(TREES[module])):
        assert not list(texts(node)), f"{module}:{node.lineno}: expected a member of FailureCode"


def outside_comparisons(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a module that only look for a code left out: comparisons, and sets to compare with."""
    for part in ast.iter_child_nodes(node):
        if not isinstance(part, ast.Compare | ast.Set):
            yield part
            yield from outside_comparisons(part)


def test_every_failure_code_is_given_somewhere() -> None:
    used = {
        part.attr
        for tree in TREES.values()
        for part in outside_comparisons(tree)
        if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "FailureCode"
    }
    assert used == set(FailureCode.__members__)


def class_and_category(name: str, call: ast.Call) -> tuple[str | None, str | None]:
    """What a call that makes a failure or an error says of them; None for what can't be read from the source."""
    if name in ("Failure", "failure"):
        kind, category = (
            each.attr.lower() if isinstance(each, ast.Attribute) and each.attr.isupper() else None
            for each in call.args[:2]
        )
        return kind, category
    error = getattr(errors, name, None)
    if error is None:
        return None, None
    for keyword in call.keywords:
        if keyword.arg == "failure_class":
            return (keyword.value.value if isinstance(keyword.value, ast.Constant) else "?"), error.category
    return error.failure_class, error.category


def test_classes_and_categories_of_the_table_are_those_of_the_source() -> None:
    looked_at = set()
    for module, tree in TREES.items():
        for name, call in calls(tree):
            codes = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
            codes += call.args[2:3] if name in ("Failure", "failure") else []
            for code in (FailureCode[each] for node in codes for each in members(node, "FailureCode")):
                kind, category = class_and_category(name, call)
                where = f"{module}:{call.lineno}: {code}"
                assert kind is None or code.failure_class in (None, kind), where
                assert category is None or code.category in (None, category), where
                looked_at.add(code)
    for name in errors.__all__:
        error = getattr(errors, name)
        assert error.code.failure_class in (None, error.failure_class), name
        assert error.code.category in (None, error.category), name
    assert len(looked_at) > 40


# Warnings


def warned(tree: ast.AST) -> Iterator[ast.expr]:
    """The expressions in a module that give a warning."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("warnings.add"):
            yield from node.args
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            yield from (
                value
                for key, value in pairs
                if isinstance(key, ast.Constant) and key.value in ("warnings", "media_warnings")
            )


@pytest.mark.parametrize("module", TREES)
def test_warnings_are_given_as_members(module: str) -> None:
    codes = {code.value for code in WarningCode}
    for node in warned(TREES[module]):
        found = set(texts(node)) - {"warnings", "media_warnings"}
        assert not found & codes, f"{module}:{node.lineno}: expected a member of WarningCode"
    if module.startswith(("core/policy/", "media/")):
        assert not any(set(texts(node)) for node in warned(TREES[module])), module


def test_every_warning_code_is_given_somewhere() -> None:
    used = {WarningCode[name] for tree in TREES.values() for name in members(tree, "WarningCode")}
    answer = read_answer(b'{"text": "some words"}', duration_s=2.0, speech=[Span(0.0, 2.0)])
    made_up = {warning_code(f"made_up_{what}") for what in answer.made_up}
    assert made_up == {WarningCode.MADE_UP_SEGMENT_TIMES}
    assert used | made_up == set(WarningCode)


# Members are text


@pytest.mark.parametrize("code", [*FailureCode, *WarningCode], ids=str)
def test_a_code_is_its_text_everywhere(code: FailureCode | WarningCode) -> None:
    text = code.name.lower()
    assert code == text
    assert (str(code), f"{code}", f"{code:>30}".strip(), json.dumps([code])) == (text, text, text, f'["{text}"]')
    assert {code: 1}[text] == {text: 1}[code] == 1
    assert pickle.loads(pickle.dumps(code)) is code
    assert type(code)(text) is code


@pytest.mark.parametrize("code", [*FailureCode, *WarningCode], ids=str)
def test_sentences_fit_into_a_message_and_into_a_table(code: FailureCode | WarningCode) -> None:
    for sentence in (code.meaning, code.way_out):
        assert sentence == sentence.strip(" .\n")
        assert not set(sentence) & set("|\n\t")
        assert sentence.count("`") % 2 == 0
        assert sentence[0].islower() or sentence[0] == "`" or sentence.split()[0] in ("Ray", "Whisper")
        assert "  " not in sentence


# Codes from outside


def test_a_code_that_nobody_knows_passes_through() -> None:
    failure = Failure(FailureClass.PERMANENT, Category.FILE, "of_another_version", "it failed")
    event = AttemptEnded("a", 1, 1, Outcome(failure=failure), 0.5)
    again, _ = decode_event(json.loads(json.dumps(encode_event(event, 1.0))))
    assert again == event
    assert failure_code("of_another_version") is None
    assert warning_code("of_another_version") is None
    assert reason(failure) == "it failed"
    assert explained(["of_another_version"]) == {}


def test_a_known_code_reads_the_same_from_a_journal() -> None:
    failure = Failure(FailureClass.PERMANENT, Category.FILE, FailureCode.NOT_FOUND, "a.wav doesn't exist")
    event = AttemptEnded("a", 1, 1, Outcome(failure=failure), 0.5)
    record = json.loads(json.dumps(encode_event(event, 1.0)))
    again, _ = decode_event(record)
    assert again == event
    assert failure_code(failure.code) is FailureCode.NOT_FOUND


# In the report


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("not_found", "a.wav doesn't exist", "a.wav doesn't exist: correct the path, or bring the file back"),
        ("timed_out", "it took longer: give a larger --task-timeout", "it took longer: give a larger --task-timeout"),
        ("dependency_failed", "transcribe failed before it: a", "transcribe failed before it: a"),
    ],
)
def test_a_reason_says_the_way_out_once(code: Any, message: str, expected: str) -> None:
    assert reason(Failure(FailureClass.PERMANENT, Category.FILE, code, message)) == expected


# Names that are held once, too


def repeated_constants() -> dict[str, list[str]]:
    """Tuples of text that more than one module writes out as a constant, with the modules."""
    found: dict[str, list[str]] = {}
    for module, tree in TREES.items():
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Tuple):
                words = [each.value for each in statement.value.elts if isinstance(each, ast.Constant)]
                if (
                    len(words) > 1
                    and len(words) == len(statement.value.elts)
                    and ast.unparse(statement.targets[0]) != "__all__"
                ):
                    found.setdefault(ast.unparse(statement.value), []).append(module)
    return {value: modules for value, modules in found.items() if len(modules) > 1}


def test_no_list_of_names_is_written_out_twice() -> None:
    assert "OUTPUT_FORMATS" in CONSTANTS
    assert repeated_constants() == {}


def test_variables_with_keys_are_those_that_are_kept_from_children() -> None:
    named = {
        name
        for path in PACKAGE.rglob("*.py")
        if "testing" not in path.relative_to(PACKAGE).parts
        for name in re.findall(r"\b[A-Z]+_API_KEY\b", path.read_text())
    }
    assert named == set(SECRET_VARIABLES)
