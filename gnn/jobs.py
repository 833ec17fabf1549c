"""Jobs: comparisons of one split and one seed each, run side by side in processes of their own, and kept when they are through."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from queue import Empty, Queue
from typing import Any

from gnn.comparison import Done, Hear, Job, run
from gnn.kept_jobs import KeptJobs
from gnn.predictor import Predictor


def run_all(
    jobs: Sequence[Job],
    processes: int,
    hear: Hear,
    *,
    fitted: dict[str, Predictor] | None = None,
    kept: KeptJobs | None = None,
) -> list[Done]:
    """Run jobs, so many at a time, each in a process of its own.

    Args:
        jobs: what.
        processes: how many at a time; 1 runs them here.
        hear: told before each model.
        fitted: gets the fitted predictors of the last job that runs here.
        kept: gets what comes of each job as soon as it is through.
    """
    if processes == 1 or len(jobs) <= 1:
        return [_run_one(job, hear, fitted, kept) for job in jobs]
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        said: Queue[tuple[str, str, int, int]] = manager.Queue()
        with ProcessPoolExecutor(processes, mp_context=context) as pool:
            running = [pool.submit(_run_aside, job, said, kept) for job in jobs]
            while not all(one.done() for one in running) or not said.empty():
                try:
                    hear(*said.get(timeout=0.5))
                except Empty:
                    if any(one.done() and one.exception() is not None for one in running):
                        break
            for one in running:
                if one.done() and one.exception() is not None:
                    pool.shutdown(wait=False, cancel_futures=True)
            return [one.result() for one in running]


def _run_aside(job: Job, said: Any, kept: KeptJobs | None) -> Done:
    return _run_one(job, lambda *heard: said.put(heard), None, kept)


def _run_one(job: Job, hear: Hear, fitted: dict[str, Predictor] | None, kept: KeptJobs | None) -> Done:
    done = run(job, hear, fitted)
    if kept is not None:
        kept.write(job, done)
    return done
