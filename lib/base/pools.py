"""Processes side by side, one way to start them for the whole project; and threads."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial


def cores() -> int:
    """Cores that this process may use: on Slurm those that its job asked for, which not every cluster enforces."""
    return int(os.environ.get("SLURM_CPUS_PER_TASK") or len(os.sched_getaffinity(0)))


def pool(workers: int, start: Callable[[], None] | None = None, preload: Iterable[str] = ()) -> ProcessPoolExecutor:
    """A pool of `workers` clean processes, each calling `start` first.

    A worker ends when this process does, however that ends: killed without a word, it would leave gigabytes behind.
    Nothing is forked from this process: once torch or ITK have started threads, a fork may hang. Where the system has it,
    processes come from a small server that loads the modules named in `preload` once; the first pool of a process decides.
    """
    known = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in known else "spawn")
    if preload and context.get_start_method() == "forkserver":
        context.set_forkserver_preload(list(preload))
    return ProcessPoolExecutor(max(1, workers), mp_context=context, initializer=partial(_begin, start))


def _begin(start: Callable[[], None] | None) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def one_thread() -> None:
    """For `start`: torch computes with one thread in this process."""
    import torch

    torch.set_num_threads(1)


@contextmanager
def one_thread_each() -> Iterator[int]:
    """Gives the number of threads that torch had, for whoever shares out the work; meanwhile it takes one in each of them.

    The threads of torch wait for each other hundreds of times a second, and spin: where another program has a core, all do,
    and `register` took 138 s in place of 15. Threads that share no loop do not wait.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def side_by_side(*works: Callable[[], object], threads: int = 2) -> list:
    """What each of `works` returns, each in a thread of its own; one after the other where there is one thread. Raises what
    the first one that failed raised, without waiting for those after it: Ctrl-C ends them with the program."""
    if threads == 1:
        return [work() for work in works]
    found: list[Future] = [Future() for _ in works]

    def go(work, future):
        try:
            future.set_result(work())
        except BaseException as error:  # it is raised where the result is asked for
            future.set_exception(error)

    for work, future in zip(works, found, strict=True):
        threading.Thread(target=go, args=(work, future), daemon=True).start()
    return [future.result() for future in found]
