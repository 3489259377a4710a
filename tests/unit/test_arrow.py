"""pyarrow without pandas, seen in fresh processes."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from trax_ray.arrow import _NoPandas

ARRAY = "import pyarrow as pa, sys; pa.array([1]); print('pandas' in sys.modules)"
SPARED = "from trax_ray.arrow import spare_pandas; spare_pandas(); "
FRAME = "; import pyarrow as pa; print(pa.table({'a': [1]}).to_pandas().a.tolist(), pa.Table.from_pandas("
FRAME += "__import__('pandas').DataFrame({'a': [2]})).to_pylist())"


def said(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_an_array_loads_no_pandas_where_it_is_spared() -> None:
    assert said(ARRAY) == "True", "what this is for"
    assert said(SPARED + ARRAY) == "False"


def test_another_thread_may_load_it_meanwhile() -> None:
    finder = _NoPandas()
    with pytest.raises(ModuleNotFoundError, match="pandas"):
        finder.find_spec("pandas")
    with ThreadPoolExecutor(1) as other:
        assert other.submit(finder.find_spec, "pandas").result() is None


@pytest.mark.parametrize("before", ["", "import pandas; "], ids=["not loaded", "loaded"])
def test_tables_become_frames_and_frames_tables_all_the_same(before: str) -> None:
    assert said(before + SPARED + "import sys" + FRAME) == "[1] [{'a': 2}]"
