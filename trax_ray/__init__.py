"""trax_ray: transcribe thousands of recordings on Ray, with a report you can trust.

The public names below are loaded when they are used: importing trax_ray loads neither Ray nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trax_ray.cli.notebook import show_progress
    from trax_ray.control import BatchControl, BatchStatus
    from trax_ray.core.progress import BatchProgress
    from trax_ray.core.spec import (
        DEFAULT_CPU_LIMIT_PERCENT,
        DEFAULT_MEMORY_LIMIT_MB,
        DEFAULT_PROGRESS_INTERVAL,
        DEFAULT_QUEUE_SIZE,
        DEFAULT_WORKERS,
        BatchSpec,
    )
    from trax_ray.core.task import BatchTask, TaskType
    from trax_ray.errors import FileError, NetworkError, ProcessingError, ResourceError, TraxRayError
    from trax_ray.processor import BatchProcessor
    from trax_ray.report.result import BatchResult

__all__ = [
    "BatchControl",
    "BatchProcessor",
    "BatchProgress",
    "BatchResult",
    "BatchSpec",
    "BatchStatus",
    "BatchTask",
    "DEFAULT_CPU_LIMIT_PERCENT",
    "DEFAULT_MEMORY_LIMIT_MB",
    "DEFAULT_PROGRESS_INTERVAL",
    "DEFAULT_QUEUE_SIZE",
    "DEFAULT_WORKERS",
    "FileError",
    "NetworkError",
    "ProcessingError",
    "ResourceError",
    "TaskType",
    "TraxRayError",
    "create_batch_processor",
    "show_progress",
]

NOT_INSTALLED = "0.0.0"

try:
    __version__ = version("trax-ray")
except PackageNotFoundError:  # run from a checkout that isn't installed
    __version__ = NOT_INSTALLED

_HOMES = {
    "trax_ray.cli.notebook": ("show_progress",),
    "trax_ray.control": ("BatchControl", "BatchStatus"),
    "trax_ray.core.progress": ("BatchProgress",),
    "trax_ray.core.spec": (
        "DEFAULT_CPU_LIMIT_PERCENT",
        "DEFAULT_MEMORY_LIMIT_MB",
        "DEFAULT_PROGRESS_INTERVAL",
        "DEFAULT_QUEUE_SIZE",
        "DEFAULT_WORKERS",
        "BatchSpec",
    ),
    "trax_ray.core.task": ("BatchTask", "TaskType"),
    "trax_ray.errors": ("FileError", "NetworkError", "ProcessingError", "ResourceError", "TraxRayError"),
    "trax_ray.report.result": ("BatchResult",),
    "trax_ray.create": ("create_batch_processor",),
    "trax_ray.processor": ("BatchProcessor",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
