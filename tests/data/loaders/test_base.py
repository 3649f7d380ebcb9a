from hypothesis import given
from hypothesis import strategies as st

from ssd.data.loaders.base import Shard


@given(st.integers(1, 200), st.integers(1, 20))
def test_shares_are_the_whole_batch_in_order_and_differ_by_one_at_most(size: int, workers: int) -> None:
    parts = [Shard(rank, workers).of(size) for rank in range(workers)]
    assert [place for part in parts for place in part] == list(range(size))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_worker_has_everything() -> None:
    assert Shard().of(7) == range(7)
