"""A table of the report as a DataFrame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from trax_ray.errors import UsageError
from trax_ray.report.parquet import read_columns
from trax_ray.report.schemas import TABLES
from trax_ray.store.layout import Layout

if TYPE_CHECKING:
    import pandas

__all__ = ["read_table"]


def read_table(output_dir: str | Path, table: str) -> pandas.DataFrame:
    """One table of a batch's report.

    Args:
        output_dir: The batch's output folder.
        table: `files`, `tasks`, `attempts` or `segments`.

    Returns:
        A row per input, task, attempt or segment; columns and units in `schemas`. Whole numbers and truth
        values that may be missing have pandas' nullable types, so that they stay what they are.

    Raises:
        FileError: The table isn't there, or is damaged; permanent, `trax-ray report OUT` builds it.
        UsageError: There is no such table.
    """
    if table not in TABLES:
        raise UsageError(f"expected a table of {', '.join(TABLES)}, got {table!r}")
    import pandas

    kinds = {pa.int32(): pandas.Int32Dtype(), pa.int64(): pandas.Int64Dtype(), pa.bool_(): pandas.BooleanDtype()}
    frame: pandas.DataFrame = read_columns(Layout.of(output_dir).table(table)).to_pandas(types_mapper=kinds.get)
    return frame
