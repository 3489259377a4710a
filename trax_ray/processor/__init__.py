"""The Python API: the `BatchProcessor` that `create_batch_processor` makes.

    processor = create_batch_processor(max_workers=4, model="tiny.en")
    await processor.add("talks/")
    await processor.add_task(TaskType.TRANSCRIBE, {"file_path": "talk.mp3"})
    result = await processor.start(progress_callback=print)

The command line drives the same class. Ray is loaded when a batch with tasks starts, not before. `batch` is what the
user has in hand, `intake` holds the tasks that aren't with the coordinator yet, `run` brings one run to its end on Ray,
and `folder` is what holds of the output folder before and instead of that.
"""

from trax_ray.processor.batch import BatchProcessor

__all__ = ["BatchProcessor"]
