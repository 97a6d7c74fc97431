"""Tables of fragments against Arrow's own `take`, for fragments of every size and of one; rows that are not there."""

import numpy as np
import pyarrow as pa
import pytest

from schemas import wire
from schemas.table import Table

SIZES = {
    "none": [0], "one": [1], "three": [3], "four": [4], "float": [4], "vector": [256], "one or two": [1, 2],
    "up to two": [0, 1, 2], "up to three": [0, 1, 2, 3], "up to four": [1, 4], "long": [0, 1, 40],
}  # fmt: skip


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("sliced", [False, True])
def test_what_is_taken_is_what_arrow_takes(kind, sliced):
    random = np.random.default_rng(3)
    fragments = pa.array([random.bytes(size) for size in random.choice(SIZES[kind], 1000)], pa.large_binary())
    if sliced:
        fragments = fragments[17:-200]
    rows = random.integers(0, len(fragments), 5000)
    assert Table(fragments).take(rows).to_pylist() == fragments.take(pa.array(rows)).to_pylist()
    assert Table(fragments).take(rows[:0]).to_pylist() == []
    assert Table(fragments[:0]).take(rows[:0]).to_pylist() == []


@pytest.mark.parametrize("kind", ["one", "up to two", "up to four", "long"])
def test_a_row_that_is_not_there_is_an_error(kind):
    random = np.random.default_rng(3)
    fragments = pa.array([random.bytes(size) for size in random.choice(SIZES[kind], 100)], pa.large_binary())
    with pytest.raises(IndexError):
        Table(fragments).take(np.array([0, 100]))


def test_sizes_are_told_apart_however_large_they_are():
    for sizes in ([5, 3, 5, 0], [7, 7], [1 << 40, 2, 1 << 40], []):
        distinct, place = wire.distinct_sizes(np.array(sizes, np.int64))
        assert distinct.tolist() == sorted(set(sizes))
        assert distinct[place].tolist() == sizes
