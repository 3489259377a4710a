"""What a machine reaches, tried out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.store_proxy import StoreProxy
from tests.support.store_servers import StoreServer
from trax_ray.store.layout import Layout
from trax_ray.store.objects import forget_clients
from trax_ray.store.reach import out_of_reach, samples, sign


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "out")


@pytest.fixture
def talk(tmp_path: Path) -> str:
    (tmp_path / "talk.wav").write_bytes(b"RIFF")
    return str(tmp_path / "talk.wav")


def test_what_is_there_is_reached_and_nothing_is_left(layout: Layout, talk: str) -> None:
    with sign(layout) as (path, token):
        assert out_of_reach([talk], path, token) == ""
        assert [each.name for each in layout.private.iterdir()] == [Path(path).name]
    assert list(layout.private.iterdir()) == []


def test_what_isnt_there_is_named(layout: Layout, talk: str, tmp_path: Path) -> None:
    with sign(layout) as (path, token):
        assert "away.wav" in out_of_reach([talk, str(tmp_path / "away.wav")], path, token)
        assert "another output folder" in out_of_reach([], path, "other")
        os.unlink(path)
        assert "isn't there, or is another one" in out_of_reach([], path, token)
        layout.private.rmdir()
        assert str(layout.output_dir) in out_of_reach([], path, token)


def test_one_of_each_bucket_is_tried_and_what_nobody_reads_is_nobodys_fault(
    stores: Callable[[str], StoreServer],
    reach: Callable[[StoreServer], StoreProxy],
    talk: str,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = stores("moto")
    for bucket in ("reach-a", "reach-b"):
        server.create_bucket(bucket)
        server.put(bucket, "one.mp3", b"1")
        server.put(bucket, "empty.mp3", b"")
    proxy = reach(server)
    paths = [f"s3://reach-{bucket}/{name}.mp3" for bucket in "ab" for name in ("gone", "one", "empty")]
    assert samples(["/no/where.wav", talk, *paths]) == [talk, "s3://reach-a/one.mp3", "s3://reach-b/one.mp3"]
    with sign(layout) as (path, token):
        assert out_of_reach(["s3://reach-a/one.mp3", "s3://reach-b/empty.mp3"], path, token) == ""
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        forget_clients()
        assert "no credentials for S3" in out_of_reach(["s3://reach-a/one.mp3"], path, token)
    assert proxy.methods()["GET"] <= 8
