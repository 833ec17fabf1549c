"""Jobs: comparisons of one split and one seed each, run side by side in processes of their own, and kept when they are through."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
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
    done: dict[int, Done] = {}
    left = iter(enumerate(jobs))
    with _workers(min(processes, len(jobs)), kept) as idle:
        busy: dict[Connection, int] = {}
        while len(done) < len(jobs):
            for pipe, (number, job) in zip(idle, left, strict=False):
                _send(pipe, job)
                busy[pipe] = number
            idle = []
            ready = wait(list(busy))
            for pipe in [pipe for pipe in busy if pipe in ready]:
                told = _receive(pipe)
                if isinstance(told, Exception):
                    raise told
                if isinstance(told, Done):
                    done[busy.pop(pipe)] = told
                    idle.append(pipe)
                else:
                    hear(*told)
    return [done[number] for number in range(len(jobs))]


@contextmanager
def _workers(count: int, kept: KeptJobs | None) -> Iterator[list[Connection]]:
    """Processes that wait for jobs, by the pipes to them; left, they end at once, whatever they do.

    Each has a pipe of its own, whose other end is held by nobody else: one that dies in the middle of a word ends that pipe, and nothing
    waits for the rest. (`ProcessPoolExecutor` has one pipe for all, which it holds open itself, and waits for ever.)
    """
    context = multiprocessing.get_context("spawn")
    processes, pipes = [], []
    resource_tracker.ensure_running()  # which would unblock what is blocked below
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT}
    )  # a Ctrl-C is for this process; they inherit the mask
    try:
        for _ in range(count):
            here, there = context.Pipe()
            pipes.append(here)
            with there:
                process = context.Process(target=_work, args=(there, kept), daemon=True)
                process.start()
            processes.append(process)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield pipes
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for process in processes:
            process.terminate()
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join()


def _work(pipe: Connection, kept: KeptJobs | None) -> None:
    """Run what the pipe brings, and tell it what came of it, until it or the parent ends."""
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    while True:
        try:
            try:
                job = pipe.recv()
            except EOFError:
                return
            pipe.send(_run_one(job, lambda *heard: pipe.send(heard), None, kept))
        except Exception as error:  # noqa: BLE001 - raised again in the parent
            pipe.send(_portable(error))


def _portable(error: Exception) -> Exception:
    """An exception that arrives as it is, with where it was raised; one that cannot is told in words."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - written in the same line
    except Exception:  # noqa: BLE001 - an exception may be made of anything
        error = DataError("a job of the comparison failed", found=f"{type(error).__name__}: {error}")
    error.add_note(traceback.format_exc())
    return error


def _end_with(parent: BaseProcess | None) -> None:
    if parent is not None:
        parent.join()
        os._exit(1)


def _send(pipe: Connection, job: Job) -> None:
    try:
        pipe.send(job)
    except OSError as error:
        raise _gone() from error


def _receive(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (EOFError, OSError) as error:
        raise _gone() from error


def _gone() -> DataError:
    return DataError(
        "a process of the comparison ended before its job did",
        found="most likely memory ran out, or somebody stopped it",
        next_step="fewer --processes, or fewer paths",
    )


def _run_one(job: Job, hear: Hear, fitted: dict[str, Predictor] | None, kept: KeptJobs | None) -> Done:
    with threadpool_limits(limits=1):  # so that a seed gives the same bits whatever the number of cores
        done = run(job, hear, fitted)
    if kept is not None:
        kept.write(job, done)
    return done
