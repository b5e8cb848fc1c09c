"""Three stages, one after the other for each clip, beside one another for the clips of a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

__all__ = ["run_in_stages"]

Clip = TypeVar("Clip")
Read = TypeVar("Read")
Made = TypeVar("Made")
Done = TypeVar("Done")


def run_in_stages(
    clips: Iterable[Clip],
    *,
    read: Callable[[Clip], Read],
    make: Callable[[Clip, Read], Made],
    write: Callable[[Clip, Made], Done],
    ahead: int = 2,
    behind: int = 2,
) -> Generator[tuple[Clip, Done | Exception]]:
    """Yield each clip with what ``write`` returned, or what a stage raised, as they end.

    ``make`` is called in the caller's thread, for one clip at a time and in order. Meanwhile the next clips are read
    and the last ones written, in threads. What is not an ``Exception`` ends the batch; so does closing the iterator.
    Either way the stages that run in threads are waited for, so that what was made is written.

    :param ahead: clips that may be read before they are made, 1 or more; each takes memory.
    :param behind: clips that may wait to be written, 1 or more.
    """
    rest = iter(clips)
    with (
        ThreadPoolExecutor(ahead, thread_name_prefix="modelslab-read") as readers,
        ThreadPoolExecutor(behind, thread_name_prefix="modelslab-write") as writers,
    ):
        reading: deque[tuple[Clip, Future[Read]]] = deque()
        writing: dict[Future[Done], Clip] = {}
        try:
            while True:
                while len(reading) < ahead and (clip := next(rest, _END)) is not _END:
                    reading.append((clip, readers.submit(read, clip)))  # type: ignore[arg-type]
                if not reading:
                    break
                clip, coming = reading.popleft()
                try:
                    made = make(clip, coming.result())
                except Exception as error:  # noqa: BLE001 - it is this clip's; the caller is told
                    yield clip, error
                else:
                    writing[writers.submit(write, clip, made)] = clip
                yield from _ended(writing, leave=behind)
            yield from _ended(writing, leave=0)
        finally:
            for _, future in reading:
                future.cancel()


_END: object = object()


def _ended(writing: dict[Future[Done], Clip], *, leave: int) -> Iterator[tuple[Clip, Done | Exception]]:
    """Those that are written by now; waits until no more than ``leave`` are not."""
    while writing:
        done, open_ones = wait(writing, None if len(writing) > leave else 0, FIRST_COMPLETED)
        for future in done:
            clip, error = writing.pop(future), future.exception()
            if error is None:
                yield clip, future.result()
            elif isinstance(error, Exception):
                yield clip, error
            else:
                raise error
        if len(open_ones) <= leave:
            return
