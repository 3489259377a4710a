"""The JavaScript runtime beside yt-dlp: the one program that may be started, which may do nothing itself."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from trax_ray.web.javascript import runtime_for

TRIES = r"""
import os, subprocess, sys
from pathlib import Path
from trax_ray.web.child import _limit, _yt_dlp
from trax_ray.web.guard import Guard
from trax_ray.web.javascript import runtime_for
from trax_ray.web.job import Job

folder, port = Path(sys.argv[1]), sys.argv[2]
os.environ |= {"HOME": str(folder), "TMPDIR": str(folder)}
job = Job("https://www.youtube.com/watch?v=BaW_jenozKc", "look", str(folder))
path = runtime_for(job.url)
_limit()
Guard(folder, programs=frozenset({path})).install()
ydl = _yt_dlp(job, sys.stdout)
info = ydl._js_runtimes["deno"].info
print("supported", info.supported, info.path == path)
from yt_dlp.extractor.youtube.jsc._builtin.deno import DenoJCP

for code in (
    "console.log(6 * 7)",
    f"fetch('http://127.0.0.1:{port}/').then(() => console.log('reached'), () => console.log('kept in'))",
    "try { Deno.readTextFileSync('/etc/passwd'); console.log('read') } catch { console.log('kept in') }",
    f"try {{ Deno.writeTextFileSync('{folder}/a', ''); console.log('wrote') }} catch {{ console.log('kept in') }}",
    "try { new Deno.Command('/bin/true').outputSync(); console.log('started') } catch { console.log('kept in') }",
    "try { Deno.env.get('HOME'); console.log('told') } catch { console.log('kept in') }",
):
    own = [path, "run", *DenoJCP._DENO_BASE_OPTIONS, "--no-npm", "--cached-only", "-"]
    print(subprocess.run(own, input=code, text=True, capture_output=True).stdout.strip())
for other in (["/bin/true"], [path + "2"], ["deno"]):
    try:
        subprocess.run(other)
        print("started")
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.mark.parametrize(
    "url", ["https://example.org/youtube.com", "https://notyoutube.com/", "http://youtube.com.example.org/", ""]
)
def test_nobody_else_gets_one(url: str) -> None:
    assert runtime_for(url) == ""


@pytest.mark.skipif(not (find_spec("deno") and find_spec("yt_dlp_ejs")), reason="the extra `youtube` isn't installed")
def test_it_may_compute_and_nothing_else(tmp_path: Path) -> None:
    from tests.support.media_server import MediaServer

    assert runtime_for("https://www.youtube.com/watch?v=a") == runtime_for("https://youtu.be/a") != ""
    with MediaServer() as server:
        port = server.url.rpartition(":")[2]
        done = subprocess.run(
            [sys.executable, "-c", TRIES, str(tmp_path), port], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert server.asked == []
    assert done.stdout.splitlines() == ["supported True True", "42", *["kept in"] * 5, *["Refused"] * 3]
