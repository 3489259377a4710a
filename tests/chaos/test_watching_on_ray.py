"""A batch that watches: files come in every way there is, a feed grows; each is transcribed once, whole."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pytest
from batch_program import Command
from feedgen.feed import FeedGenerator

from tests.chaos.test_fetching import tone
from tests.support.media_server import Answer, MediaServer
from trax_ray.report.fold import read_history

pytestmark = pytest.mark.timeout(1500)

SEED, FILES, SETTLE_S = 7, 100, 5


def bring(ready: list[Path], inbox: Path, away: Path, chance: random.Random) -> dict[str, int]:
    """Bring files into a folder: slowly copied, renamed in, half-written and moved away. The sizes of what stays."""
    stays: dict[str, int] = {}
    writers = []

    def slowly(source: Path, target: Path) -> None:
        data = source.read_bytes()
        with target.open("wb") as file:
            for at in range(0, len(data), len(data) // 4 + 1):
                file.write(data[at : at + len(data) // 4 + 1])
                file.flush()
                time.sleep(chance.uniform(0.2, SETTLE_S / 3))

    for number, source in enumerate(ready):
        name, size = source.name, source.stat().st_size
        if number % 4 == 0:
            writers.append(threading.Thread(target=slowly, args=(source, inbox / name)))
            writers[-1].start()
            stays[name] = size
        elif number % 4 == 1:
            (inbox / f"{name}.part").write_bytes(source.read_bytes())
            (inbox / f"{name}.part").rename(inbox / name)
            stays[name] = size
        elif number % 4 == 2:
            (inbox / name).write_bytes(source.read_bytes()[: size // 2])
            time.sleep(chance.uniform(0.0, 0.3))
            (inbox / name).rename(away / name)
        else:
            os.link(source, inbox / name)
            stays[name] = size
    for writer in writers:
        writer.join()
    return stays


def test_what_comes_in_every_way_is_transcribed_once_and_whole(
    samples: Path, tmp_path: Path, record: Callable[..., None]
) -> None:
    chance = random.Random(SEED)
    inbox, away, ready = tmp_path / "inbox", tmp_path / "away", tmp_path / "ready"
    for folder in (inbox, away, ready):
        folder.mkdir()
    lengths_s = {f"{number}.wav": 1 + number % 7 for number in range(FILES)}
    for name, length_s in lengths_s.items():
        tone(ready / name, length_s)
        with (ready / name).open("ab") as file:  # no two have the same content
            file.write(name.encode())
    made = sorted(ready.iterdir(), key=lambda path: int(path.stem))
    more = ("--watch", "--settle", str(SETTLE_S), "-f", "txt")
    with Command(samples, tmp_path, [str(inbox)], more) as command:
        stays = bring(made[: FILES // 2], inbox, away, chance)

        def transcribed() -> set[str]:
            return {path.stem for path in command.out.glob("*.txt")}

        command.until(lambda: len(transcribed()) > 10, 600, what="some of them")
        command.killed()  # a restart goes on, and finds what came meanwhile
        stays |= bring(made[FILES // 2 :], inbox, away, chance)
        command.start()
        command.until(lambda: transcribed() == {Path(name).stem for name in stays}, 900, what="all of them")
        command.signalled(signal.SIGTERM)
        command.process.communicate(timeout=10)
        assert command.process.returncode == 130
        files = pd.read_parquet(command.out / "report" / "files.parquet").set_index("file_name")
        assert set(files.index) == set(stays)
        assert set(files["status"]) == {"succeeded"}
        for name in stays:
            assert files["duration"][name] == pytest.approx(lengths_s[name], abs=0.01), "all of it"
        history = read_history(command.out)
        times = Counter(attempt.task_id for attempt in history.attempts if attempt.outcome == "succeeded")
        assert set(times.values()) == {1}
    found = f"{len(stays)} that stayed were transcribed once, whole; {FILES - len(stays)} moved away half-written never"
    record(what="a watched folder, with kill -9 in the middle", runs=FILES, seeds=str(SEED), found=found)


def feed_of(url: str, episodes: Iterable[int]) -> Answer:
    """A feed as another program makes it, the newest episode first."""
    made = FeedGenerator()
    made.title("Talks")
    made.link(href=url)
    made.description("All talks")
    for number in episodes:
        item = made.add_entry(order="prepend")
        item.id(f"{url}/talks/{number}")
        item.title(f"Talk {number}")
        item.enclosure(f"{url}/{number}.wav", "0", "audio/wav")
    return Answer(made.rss_str(), "application/rss+xml")


def test_episodes_of_a_watched_feed_are_fetched_and_transcribed_once(
    samples: Path, tmp_path: Path, record: Callable[..., None]
) -> None:
    dead = 4
    with MediaServer() as web:
        for number in {*range(8)} - {dead}:
            body = tone(tmp_path / f"{number}.wav", 2 + number)
            web.answers[f"/{number}.wav"] = Answer(body, "audio/wav")
        web.answers["/feed"] = feed_of(web.url, range(3))
        more = ("--watch", "--poll", "10s", "--allow-private-network", "--max-retries", "0", "-f", "txt")
        with Command(samples, tmp_path, [f"{web.url}/feed"], more) as command:

            def expect(episodes: Iterable[int]) -> None:
                wanted = {f"Talk {number}" for number in episodes}
                command.until(lambda: {path.stem for path in command.out.rglob("*.txt")} == wanted, 120, what="them")

            expect(range(3))
            web.answers["/feed"] = feed_of(web.url, range(6))
            expect({*range(6)} - {dead})
            command.killed()
            web.answers["/feed"] = feed_of(web.url, range(8))
            command.start()
            expect({*range(8)} - {dead})
            command.signalled(signal.SIGTERM)
            command.process.communicate(timeout=10)
            assert command.process.returncode == 130
            history = read_history(command.out)
            failed = {each.task_id for each in history.attempts if each.outcome == "failed"}
            assert len(failed) == 1
            times = Counter(each.task_id for each in history.attempts if each.outcome == "succeeded")
            assert set(times.values()) == {1}
        for number in {*range(8)} - {dead}:
            asked = sum(each.path == f"/{number}.wav" for each in web.asked)
            assert asked <= 2, "to see what it is, and to fetch it"
    found = "7 episodes of a feed that grew were fetched and transcribed once, one was dead, through a kill -9"
    record(what="a watched feed, with kill -9 in the middle", runs=8, seeds="", found=found)
