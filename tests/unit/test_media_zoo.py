"""A dozen of the zoo, which `make chaos` tries whole; the ones that need no program but Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.zoo.animals import SPECIMENS
from tests.support.zoo.bench import Bench
from tests.support.zoo.table import read_table, shown_name
from trax_ray.errors import TraxRayError
from trax_ray.media import decode

BY_HAND = (
    "inverted.wav",
    "size-0.wav",
    "size-small.wav",
    "size-large.wav",
    "rate-1.wav",
    "channels-65535.wav",
    "bits-64.wav",
    "no-fmt.wav",
    "nested.mkv",
    "hls-encrypted.wav",
    "list.m4a",
    "noise.mp3",
    "packed.wav",
    "device.wav",
    "round.mp3",
)
TABLE = read_table()
ALL = {each.name: each for group in SPECIMENS.values() for each in group}


def test_the_page_has_every_specimen() -> None:
    names = [shown_name(name) for name in ALL]
    assert len(names) == len(set(names)) >= 80
    assert set(names) == set(TABLE)


@pytest.mark.parametrize("name", BY_HAND)
def test_a_file_does_what_the_page_says(name: str, tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    (tmp_path / "scratch").mkdir()
    path = ALL[name].put(Bench(tmp_path / "zoo", tmp_path / "scratch"))
    outcome, length_s, warnings = TABLE[name]
    if length_s is None:
        with pytest.raises(TraxRayError) as caught:
            decode.read(path)
        assert caught.value.code == outcome
        return
    with decode.stream(path) as blocks:
        assert len(blocks.rest()) / decode.SAMPLE_RATE_HZ == pytest.approx(length_s, abs=0.1)
        assert set(blocks.warnings) <= set(warnings)
