"""Tables of fragments against Arrow's own `take`, for fragments of every size and of one; rows that are not there."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from schemas import wire
from schemas.table import Table

SIZES = {
    "none": [0], "one": [1], "three": [3], "four": [4], "float": [4], "vector": [256], "one or two": [1, 2],
    "up to two": [0, 1, 2], "up to three": [0, 1, 2, 3], "up to four": [1, 4], "long": [0, 1, 40],
}  # fmt: skip
RUNS = (np.arange(5001), np.arange(0, 5001, 100), np.array([0, 0, 7, 7, 40, 5000, 5000]))


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("sliced", [False, True])
def test_what_is_taken_is_what_arrow_takes(kind, sliced):
    random = np.random.default_rng(3)
    fragments = pa.array([random.bytes(size) for size in random.choice(SIZES[kind], 1000)], pa.large_binary())
    if sliced:
        fragments = fragments[17:-200]
    rows = random.integers(0, len(fragments), 5000)
    taken = fragments.take(pa.array(rows)).to_pylist()
    for starts in RUNS:
        joined = [b"".join(taken[begin:end]) for begin, end in pairwise(starts.tolist())]
        assert Table(fragments).runs(rows, starts).to_pylist() == joined
    assert Table(fragments).runs(rows[:0], np.zeros(3, np.int64)).to_pylist() == [b"", b""]
    assert Table(fragments[:0]).runs(rows[:0], np.zeros(1, np.int64)).to_pylist() == []


@pytest.mark.parametrize("kind", ["one", "up to two", "up to four", "long"])
def test_a_row_that_is_not_there_is_an_error(kind):
    random = np.random.default_rng(3)
    fragments = pa.array([random.bytes(size) for size in random.choice(SIZES[kind], 100)], pa.large_binary())
    with pytest.raises(IndexError):
        Table(fragments).runs(np.array([0, 100]), np.array([0, 1, 2]))


def test_sizes_are_told_apart_however_large_they_are():
    for sizes in ([5, 3, 5, 0], [7, 7], [1 << 40, 2, 1 << 40], []):
        distinct, place = wire.distinct_sizes(np.array(sizes, np.int64))
        assert distinct.tolist() == sorted(set(sizes))
        assert distinct[place].tolist() == sizes
