"""Jobs: comparisons of one split and one seed each, run side by side in processes of their own, and kept when they are through."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from queue import Empty, Queue
from typing import Any

from threadpoolctl import threadpool_limits

from domain.errors import DataError
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
    """Run jobs, so many at a time, each in a process of its own. The first that fails, or an interrupt, ends them all.

    Args:
        jobs: what.
        processes: how many at a time; 1 runs them here.
        hear: told before each model.
        fitted: gets the fitted predictors of the last job that runs here.
        kept: gets what comes of each job as soon as it is through.

    Raises:
        DataError: when a process ended before its job did; and whatever a job raises.
    """
    if processes == 1 or len(jobs) <= 1:
        return [_run_one(job, hear, fitted, kept) for job in jobs]
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        said: Queue[tuple[str, str, int, int]] = manager.Queue()
        others = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(processes, mp_context=context)
        try:
            running = [pool.submit(_run_aside, job, said, kept) for job in jobs]
            while not all(one.done() for one in running) or not said.empty():
                try:
                    hear(*said.get(timeout=0.5))
                except Empty:
                    for one in running:
                        if one.done():
                            one.result()
            return [one.result() for one in running]
        except BrokenProcessPool as error:
            raise DataError(
                "a process of the comparison ended before its job did",
                found="most likely memory ran out, or somebody stopped it",
                next_step="fewer --processes, or fewer paths",
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()


def _run_aside(job: Job, said: Any, kept: KeptJobs | None) -> Done:
    return _run_one(job, lambda *heard: said.put(heard), None, kept)


def _run_one(job: Job, hear: Hear, fitted: dict[str, Predictor] | None, kept: KeptJobs | None) -> Done:
    with threadpool_limits(limits=1):  # so that a seed gives the same bits whatever the number of cores
        done = run(job, hear, fitted)
    if kept is not None:
        kept.write(job, done)
    return done
