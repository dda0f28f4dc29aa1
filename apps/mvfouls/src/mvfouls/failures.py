"""What a user reads about an error that ended a run."""

from __future__ import annotations

import torch

from common.engine.fit import peak_memory
from common.engine.loading import BatchTimeout, WorkerError
from common.engine.recovery import is_out_of_memory
from common.engine.step import StepMemoryError, TrainingError

ADVICE = (
    "less memory is needed with a smaller --batch_size, --max_views, --frames_per_clip or --img_height and "
    "--img_width, or with --activation_checkpointing"
)


def explain(error: BaseException) -> str | None:
    """Return why training ended and what helps; None for an error that only a programmer can read."""
    if isinstance(error, TrainingError | WorkerError | BatchTimeout):
        advice = f"\n       {ADVICE}" if isinstance(error.__cause__, StepMemoryError) else ""
        return f"training stopped: {error}{advice}"
    if not is_out_of_memory(error):
        return None
    return f"out of memory: {str(error) or type(error).__name__}\n       {ADVICE}\n{memory_summary()}"


def memory_summary() -> str:
    """Return how much memory the device holds and for what, without one the peak of this process."""
    if torch.cuda.is_available():
        return str(torch.cuda.memory_summary(abbreviated=True))
    return f"       peak of this process {peak_memory(torch.device('cpu')) / 2**30:.2f} GiB"
