"""Work on long sequences: a part of one, evenly spread, and one that threads work off a little ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, evenly over the sequence, first and last among them."""
    places = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[place] for place in places] if len(items) else []


def read_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], ahead: int, threads: int | None = None
) -> Iterator[Result]:
    """work(item) of every item, in order, done by threads; at most `ahead` results are waiting or in work.

    An exception of `work` is raised in its place. What is in work when the iterator is closed is still finished.
    threads: as ThreadPoolExecutor takes them.
    """
    with ThreadPoolExecutor(threads) as pool:
        upcoming = (pool.submit(work, item) for item in items)
        waiting: deque[Future[Result]] = deque(islice(upcoming, ahead))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(islice(upcoming, 1))
        finally:
            for future in waiting:
                future.cancel()
