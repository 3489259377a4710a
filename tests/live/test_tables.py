"""The report's tables in Polars and in Hugging Face's datasets, there and back; they live in `.live/tables`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.in_process import run_batch
from trax_ray.core.spec import BatchSpec
from trax_ray.report.write import write_report

PYTHON = Path(os.environ.get("TRAX_RAY_LIVE", ".live")).absolute() / "tables" / "bin" / "python"

POLARS = """
import json, sys, polars
files = polars.read_parquet(sys.argv[1] + "/files.parquet")
segments = polars.read_parquet(sys.argv[1] + "/segments.parquet")
files.write_parquet(sys.argv[2])
print(json.dumps({
    "same": polars.read_parquet(sys.argv[2]).equals(files),
    "quiet": files.filter(polars.col("warnings").str.contains("no_speech"))["file_name"].to_list(),
    "joined": files.join(segments, on="file_id", suffix="_of_segment").height,
    "zone": files["ended_at"].dtype.time_zone,
}))
"""

DATASETS = """
import json, sys
from datasets import Audio, Dataset
files = Dataset.from_parquet(sys.argv[1] + "/files.parquet")
files = files.map(lambda row: {"audio": row["path_bytes"].decode()}).cast_column("audio", Audio(decode=False))
files.to_parquet(sys.argv[2])
again = Dataset.from_parquet(sys.argv[2])
print(json.dumps({
    "same": again["text"][:] == files["text"][:],
    "audio": files[0]["audio"]["path"],
    "zone": str(files.features["ended_at"]),
}))
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a real batch over two samples."""
    if not PYTHON.exists():
        pytest.skip(f"there is no {PYTHON}: make live-tables installs it")
    out = tmp_path_factory.mktemp("tables") / "out"
    samples = Path(__file__).parents[2] / "samples"
    run_batch([samples / "quiet_room.flac", samples / "talks" / "interview.m4a"], BatchSpec(str(out), model="tiny.en"))
    write_report(out, final=True)
    return out / "report"


def told(program: str, report: Path, tmp_path: Path) -> dict[str, object]:
    """What a program prints."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_DATASETS_CACHE": str(tmp_path)}
    done = subprocess.run(
        [PYTHON, "-c", program, report, tmp_path / "again.parquet"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_polars(report: Path, tmp_path: Path) -> None:
    segments = pq.read_table(report / "segments.parquet").num_rows
    expected = {"same": True, "quiet": ["quiet_room.flac"], "joined": segments, "zone": "UTC"}
    assert told(POLARS, report, tmp_path) == expected


def test_datasets(report: Path, tmp_path: Path) -> None:
    found = told(DATASETS, report, tmp_path)
    assert found["same"] is True
    assert str(found["audio"]).endswith(("/samples/quiet_room.flac", "/samples/talks/interview.m4a"))
    assert "UTC" in str(found["zone"])
