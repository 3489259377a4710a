"""A large made-up batch: what its report and its page take, and how soon the page opens and finds something.

The journal, the artifacts and the report are real; the words are drawn from a list. The report is written by a process
of its own, whose peak of memory is told. Where Chromium and Playwright are there (`make test-page`) the page is opened
from the disk: until its files are listed, until all transcripts are ready for the search, and what searches take.

    .venv/bin/python benchmarks/report.py [--files 10000] [--segments 60] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from trax_ray.core.spec import BatchSpec
from trax_ray.core.state.events import (
    AttemptEnded,
    CoordinatorStarted,
    InputsClosed,
    Started,
    TasksAdded,
    encode_event,
)
from trax_ray.core.task import Category, Failure, FailureClass, Outcome, ResourceRequest
from trax_ray.plan.tasks import InputFile, plan_file
from trax_ray.store import files
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.epochs import open_journal
from trax_ray.store.layout import Layout

_COMMON = (
    "about after again always another because before began below between bridge called children city country "
    "different door early evening every example family father field friend garden great ground group hand head heard "
    "high house important keep kind large last later learn leave letter life light line little live long made meeting "
    "money morning mother mountain music name never next night nothing number often old once open other over page "
    "paper part people picture place plant point question quick rain read right river road room school second sentence "
    "several ship side small something song sound spell stand start station stop story street study table talk "
    "thought together town train travel tree under until voice walk watch water weather while white winter without "
    "wood word work world write year young"
)
WORDS = _COMMON.split()
TRANSCRIPTS = 1000
GROUP = 1000
START = 1767225600.0


def transcript(number: int, segments: int) -> dict[str, Any]:
    """A transcript of so many segments."""
    draw = random.Random(number)
    rows = []
    for at in range(segments):
        text = " ".join(draw.choice(WORDS) for _ in range(10)).capitalize() + "."
        rows.append(
            {"start_s": at * 5.0, "end_s": at * 5.0 + 4.5, "text": text, "confidence": round(draw.uniform(0.4, 1), 3)}
        )
    return {
        "text": " ".join(str(row["text"]) for row in rows),
        "language": "en",
        "model": "base",
        "duration_s": segments * 5.0,
        "segments": rows,
        "uncovered": [[1.0, 3.0]] if number % 50 == 0 else [],
    }


def make_batch(out: Path, count: int, segments: int) -> None:
    """The journal and the artifacts of a batch."""
    layout = Layout(out)
    store = ArtifactStore(layout.artifacts)
    keys = []
    for number in range(min(TRANSCRIPTS, count)):
        keys.append(store.key(f"{number:064d}", "transcript", {}, "base", 1))
        store.put(keys[-1], transcript(number, segments))
    spec = BatchSpec(output_dir=str(out), name="made up", model="base")
    journal = open_journal(layout.journal, "a benchmark", START)
    ask = ResourceRequest(num_cpus=1, memory_mb=512)
    broken = Failure(FailureClass.PERMANENT, Category.PROCESSING, "not_decodable", "no decoder accepts it")
    journal.append([encode_event(CoordinatorStarted(journal.epoch, spec.to_dict()), START)])
    for first in range(0, count, GROUP):
        numbers = range(first, min(count, first + GROUP))
        names = [f"{number // 1000:03d}/recording {number:06d}.mp3" for number in numbers]
        tasks = [
            plan_file(
                InputFile(path=f"/recordings/{name}", name=name, output=name[:-4], size_bytes=10**6), spec, "x", ask
            )
            for name in names
        ]
        journal.append([encode_event(TasksAdded(tuple(tasks)), START + first)])
        journal.append([encode_event(Started(tuple((task.id, 1) for task in tasks)), START + first)])
        ended = []
        for number, task in zip(numbers, tasks, strict=True):
            figures = {
                "duration_s": segments * 5.0, "speech_s": segments * 4.5, "processing_s": 9.0, "language": "en",
                "model": "base", "words": segments * 10, "segments": segments, "estimated_accuracy": 60 + number % 40,
                "warnings": ["low_confidence"] if number % 7 == 0 else [], "outputs": [f"{task.data['output']}.txt"],
            }  # fmt: skip
            outcome = Outcome(artifact_key=keys[number % len(keys)], metrics=figures, node="node-1", pid=number % 8 + 1)
            if number % 100 == 99:
                outcome = Outcome(failure=broken, node="node-1", pid=1)
            at = START + first + (number - first) / GROUP * 990
            ended.append(encode_event(AttemptEnded(task.id, journal.epoch, 1, outcome), at))
        journal.append(ended)
    journal.append([encode_event(InputsClosed(), START + count)])
    journal.close()


def write_report(out: Path) -> dict[str, Any]:
    """Write the report in a process of its own."""
    code = (
        "import json, resource, sys, time\n"
        "from trax_ray.arrow import spare_pandas\n"
        "from trax_ray.report.write import write_report\n"
        "spare_pandas()\n"  # as `trax-ray report` does
        "began = time.monotonic()\n"
        "told = write_report(sys.argv[1], final=True)\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "print(json.dumps({'s': time.monotonic() - began, 'peak_mb': peak, 'segments': told['segments']}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(out)], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def find(out: Path) -> None:
    """Search, the first time and again."""
    from trax_ray.report.search import search

    for query in ("river", "river", '"river station"', "riv* NOT train", "the OR river"):
        began = time.perf_counter()
        found = search(out, query)
        print(f"search {query!r}: {found.total:,} places in {1000 * (time.perf_counter() - began):.0f} ms")
    print(f"index: {(out / 'report' / 'search.sqlite').stat().st_size / 1e6:.1f} MB")


def look(out: Path) -> None:
    """Open the page in Chromium."""
    program = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        program = None
    if program is None:
        print("the page isn't opened: there is no Chromium, or no Playwright")
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--enable-precise-memory-info"]
        )
        page = browser.new_page()
        began = time.perf_counter()
        page.goto((out / "report" / "index.html").as_uri())
        page.wait_for_selector("#table tbody tr")
        print(f"page: files listed after {time.perf_counter() - began:.2f} s")
        page.wait_for_selector("body[data-ready]", state="attached", timeout=120_000)
        print(f"page: all transcripts ready for the search after {time.perf_counter() - began:.2f} s")
        for query in ("river", "river station", '"river station"', "nowhere"):
            page.fill("#query", query)
            page.wait_for_timeout(300)
            took = page.evaluate("() => document.body.dataset.searchMs")
            print(f"page: search {query!r} in {took} ms: {page.inner_text('#shown')}")
        memory = page.evaluate("() => performance.memory.usedJSHeapSize")
        print(f"page: {memory / 1e6:.0f} MB of JavaScript's heap")
        browser.close()


def main() -> None:
    """Measure, and print it."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--files", type=int, default=10_000)
    given.add_argument("--segments", type=int, default=60)
    given.add_argument("--keep", type=Path, help="where the batch is made, and stays")
    asked = given.parse_args()
    files.fsync = lambda fd: None
    files.fsync_folder = lambda folder: None
    with tempfile.TemporaryDirectory(prefix="trax_ray_bench_") as folder:
        out = asked.keep or Path(folder) / "out"
        make_batch(out, asked.files, asked.segments)
        print(f"{asked.files:,} files with {asked.segments} segments each, Python {platform.python_version()}")
        told = write_report(out)
        print(f"report: {told['s']:.1f} s, {told['peak_mb']:.0f} MB at the peak, {told['segments']:,} segments")
        print(f"page: {(out / 'report' / 'index.html').stat().st_size / 1e6:.1f} MB")
        find(out)
        look(out)


if __name__ == "__main__":
    main()
