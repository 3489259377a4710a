"""URLs that hold several recordings, as a batch plans them: real yt-dlp, real feeds, a server on loopback."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.in_process import Ended, run_batch
from tests.support.media_server import Answer, Asked, MediaServer
from trax_ray import BatchSpec
from trax_ray.core.task import TaskType
from trax_ray.plan.expansion import Lists, expanded
from trax_ray.plan.inputs import scan
from trax_ray.plan.past import Past
from trax_ray.plan.plan import Plan
from trax_ray.plan.planner import make_plan
from trax_ray.web.fetch import Listing
from trax_ray.web.job import Entry

RSS = "application/rss+xml"


@pytest.fixture
def spec(tmp_path: Path) -> BatchSpec:
    return BatchSpec(output_dir=str(tmp_path / "out"), model="tiny.en", formats=("txt",), allow_private_network=True)


def rss(*items: str, title: str = "Talks") -> Answer:
    names = 'xmlns:podcast="https://podcastindex.org/namespace/1.0"'
    channel = f"<channel><title>{title}</title>{''.join(items)}</channel>"
    return Answer(f"<?xml version='1.0'?><rss version='2.0' {names}>{channel}</rss>".encode(), RSS)


def item(number: int, url: str = "", more: str = "", guid: str = "") -> str:
    return (
        f"<item><title>Episode {number}</title><guid>{guid or number}</guid>{more}"
        f"<enclosure url='{url or f'/{number}.ogg'}' type='audio/ogg'/></item>"
    )


def names(plan: Plan) -> list[str]:
    return [entry.name for entry in plan.recordings]


def kinds(plan: Plan, number: int) -> list[str]:
    file_id = plan.recordings[number].file_id
    return [task.kind for task in plan.tasks if task.file_id == file_id]


@pytest.mark.long
def test_a_feed_a_page_and_a_list_become_recordings(web: MediaServer, spec: BatchSpec, tmp_path: Path) -> None:
    web.answers |= {
        "/feed": rss(item(1), item(2), item(3, url="/2.ogg?utm_source=feed"), title="All/Talks"),
        "/page": Answer(b"<html><title>One</title><video src='/9.ogg'></video></html>", "text/html"),
    }
    urls = tmp_path / "urls.txt"
    urls.write_text(f"{web.url}/1.ogg#t=5\n{web.url}/gone\n")
    plan = make_plan([f"{web.url}/feed", str(urls.with_suffix(".none")), f"{web.url}/page"], spec, lists=[str(urls)])
    assert names(plan) == [
        "All-Talks/Episode 1",
        "All-Talks/Episode 2",
        "urls.none",
        "127-0-0-1-page",
        "127-0-0-1-gone",
    ]
    assert plan.recordings[0].output == "All-Talks/Episode 1"
    assert kinds(plan, 0) == ["youtube", "download", "transcribe"]
    assert kinds(plan, 4) == ["youtube", "download", "transcribe"]
    assert "2 named more than once" in plan.notes
    assert f"can't read {web.url}/gone: gone" in plan.notes
    (look,) = (task for task in plan.tasks if task.id == f"youtube-{plan.recordings[4].file_id}")
    assert (look.data["listing"], look.data["output"]) == (True, "metadata/127-0-0-1-gone")
    assert (
        plan.tasks
        == make_plan(
            [f"{web.url}/feed", str(urls.with_suffix(".none")), f"{web.url}/page"], spec, lists=[str(urls)]
        ).tasks
    )
    only = replace(spec, task="youtube")
    assert {task.task_type for task in make_plan([f"{web.url}/feed"], only).tasks} == {TaskType.YOUTUBE}


def test_files_of_media_are_asked_about_by_nobody(web: MediaServer, spec: BatchSpec) -> None:
    plan = make_plan([f"{web.url}/a.mp3", f"{web.url}/b.ogg?token=1"], spec)
    assert web.asked == []
    assert kinds(plan, 0) == ["download", "transcribe"]


def test_a_feed_that_has_not_changed_does_not_come_again(web: MediaServer, spec: BatchSpec) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.headers.get("If-None-Match") == '"1"':
            return Answer(status=304, headers={"ETag": '"1"'}, ranges=False)
        return replace(rss(item(1), item(2)), headers={"ETag": '"1"'})

    web.answers["/feed"] = answer
    lists = Lists()
    first, second = (list(lists([f"{web.url}/feed"], spec)) for _ in range(2))
    assert [each.entries for each in first] == [each.entries for each in second]
    assert len(first[0].entries) == 2
    assert web.bytes_sent("/feed") == len(rss(item(1), item(2)).body)


# What is behind URLs is given here, so that these ask nobody


def entry(number: int, **fields: Any) -> Entry:
    archive = (f"rss {number}", f"generic {number}")
    usual = {
        "title": f"Episode {number}",
        "key": f"guid {number}",
        "series": "Talks",
        "media": True,
        "archive": archive,
    }
    return Entry(f"https://cdn.example.org/{number}.mp3", **(usual | fields))


def found(spec: BatchSpec, past: Past, *lists: Listing) -> Any:
    given = scan([each.url for each in lists], Path(spec.output_dir)).found
    return expanded(given, spec, past, lambda urls, _: [each for each in lists if each.url in urls])


def test_a_recording_keeps_its_id_where_its_address_changes(spec: BatchSpec) -> None:
    past = Past()
    one = found(spec, past, Listing("https://example.org/feed", (entry(1),)))
    moved = replace(entry(1), url="https://other.example.org/x.mp3?signed=1")
    other = found(spec, past, Listing("https://mirror.example.org/feed", (moved,)))
    assert past.id_of(one.found[0].path, one.found[0].key) == past.id_of(other.found[0].path, other.found[0].key)
    both = found(
        spec,
        past,
        Listing("https://example.org/feed", (entry(1),)),
        Listing("https://mirror.example.org/feed", (moved,)),
    )
    assert len(both.found) == 1


def test_a_site_has_one_name_for_a_recording_however_it_is_addressed(spec: BatchSpec) -> None:
    alone = Entry("https://youtu.be/abc", id="abc", extractor="Youtube", key="youtube abc", archive=("youtube abc",))
    listed = replace(alone, url="https://www.youtube.com/watch?v=abc", title="A", series="Mix")
    there = found(
        spec,
        Past(),
        Listing("https://youtu.be/abc", (alone,), alone=True),
        Listing("https://www.youtube.com/playlist?list=1", (listed,), title="Mix"),
    )
    assert [each.path for each in there.found] == ["https://youtu.be/abc"]


def test_names_are_made_of_titles_and_stay_in_the_output_folder(spec: BatchSpec) -> None:
    titles = ("../../etc/passwd", ".hidden", "a\tb\x00c", "x" * 500, "é" * 200, "", "  ", "report")
    listing = Listing("https://example.org/feed", tuple(entry(n, title=title) for n, title in enumerate(titles)))
    there = found(replace(spec), Past(), listing).found
    for each in there:
        assert ".." not in each.relative.parts
        assert all(len(part.encode()) < 200 and not part.startswith(".") for part in each.relative.parts), each
    assert [each.relative.name for each in there][:3] == ["-..-etc-passwd.url", "hidden.url", "a b c.url"]
    assert there[5].relative.name == "5.mp3.url"


def test_what_an_archive_holds_is_left_out_and_said(spec: BatchSpec, tmp_path: Path) -> None:
    archive = tmp_path / "archive.txt"
    archive.write_text("youtube old\nrss 1\ngeneric 2\ngeneric media\n")
    spec = replace(spec, download_archive=str(archive))
    same = [entry(n, archive=(f"rss {n}", "generic media")) for n in (3, 4)]
    site = Entry("https://example.org/v", title="New name", key="site 5", archive=("site 5", "youtube old"))
    listing = Listing("https://example.org/feed", (entry(1), entry(2), *same, site))
    there = found(spec, Past(), listing)
    assert [each.entry.title for each in there.found] == ["Episode 3", "Episode 4"], "a name that all have says nothing"
    assert there.notes == (f"3 in the archive {archive} already, such as Episode 1",)


def test_what_cannot_be_a_recording(spec: BatchSpec) -> None:
    script = replace(entry(1), url="javascript:alert(1)")
    login = replace(entry(2), url="https://me:word@example.org/2.mp3")
    listing = Listing("https://example.org/feed", (script, login))
    there = found(spec, Past(), listing, Listing("https://example.org/empty"))
    assert [each.path for each in there.found] == ["https://example.org/2.mp3"]
    assert there.notes == ("1 without a URL left out", "no recording in https://example.org/empty")


# Whole batches


def statuses(ended: Ended) -> dict[str, str]:
    """What became of each input, by its name: the state of its last task."""
    found = {}
    for record in ended.state.records.values():
        found[str(record.task.data["name"])] = record.state.value
    return found


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_feed_of_thirty_episodes(web: MediaServer, weather: bytes, spec: BatchSpec) -> None:
    transcript = "<podcast:transcript url='/7.vtt' type='text/vtt'/>"
    items = [item(n, more=transcript if n == 7 else "") for n in range(1, 30)]
    items.append(item(30, url="/1.ogg"))
    web.answers |= {f"/{n}.ogg": Answer(weather + bytes(n), "audio/ogg") for n in range(1, 30) if n not in (3, 13, 23)}
    web.answers |= {"/feed": rss(*items), "/7.vtt": Answer(b"WEBVTT\n\n00:01.000 --> 00:02.000\nSaid\n", "text/vtt")}
    spec = replace(spec, captions="prefer", retry=replace(spec.retry, max_retries=0))
    ended = run_batch([f"{web.url}/feed"], spec)
    found = statuses(ended)
    assert len(found) == 29, "two are the same file"
    assert sum(state == "succeeded" for state in found.values()) == 26
    assert {name for name, state in found.items() if state == "failed"} == {f"Talks/Episode {n}" for n in (3, 13, 23)}
    assert (Path(spec.output_dir) / "Talks" / "Episode 7.txt").read_text() == "Said\n"
    assert web.bytes_sent("/7.ogg") == 0, "who has captions needs no media"
    assert sum(asked.path == "/1.ogg" for asked in web.asked) <= 2, "to see what it is, and to fetch it"
    # New episodes join, and nothing is done again.
    web.answers |= {"/feed": rss(item(31), *items), "/31.ogg": Answer(weather, "audio/ogg")}
    again = run_batch([f"{web.url}/feed"], spec)
    assert len(again.attempts) == 3, "the new one alone"


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_playlist_of_a_hundred(web: MediaServer, weather: bytes, spec: BatchSpec) -> None:
    dead = {5, 25, 45, 65, 85}
    media = "".join(f"<audio src='/list/{n}.ogg'></audio>" for n in range(100))
    web.answers |= {f"/list/{n}.ogg": Answer(weather, "audio/ogg") for n in range(100) if n not in dead}
    web.answers["/list"] = Answer(f"<html><title>Hundred</title>{media}</html>".encode(), "text/html")
    ended = run_batch([f"{web.url}/list"], replace(spec, task="download"))
    found = [record for record in ended.state.records.values() if record.task.kind == "download"]
    assert len(found) == 100
    failed = [record for record in found if record.state.value == "failed"]
    assert {record.task.data["url"] for record in failed} == {f"{web.url}/list/{n}.ogg" for n in dead}
    assert {(each.failure.code, each.failure.failure_class.value) for each in failed if each.failure} == {
        ("gone", "permanent")
    }
