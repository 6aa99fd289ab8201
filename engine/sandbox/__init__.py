"""Where a stranger's input may take any time: processes that can be stopped, shared fairly by whoever asks.

Knows processes, clocks and owners. Knows nothing of what is computed in them.
"""

from engine.sandbox.mapped import Outcome
from engine.sandbox.pool import Pool, shared_pool
from engine.sandbox.stopped import Stopped
from engine.sandbox.task import Answer, Job, Task

__all__ = ["Answer", "Job", "Outcome", "Pool", "Stopped", "Task", "shared_pool"]
