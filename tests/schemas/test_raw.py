"""Raw values as tower inputs and as columns: there and back, with what is missing."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas import raw
from schemas.record import Field

UNKNOWN = raw.UNKNOWN.encode()
CASES = {
    "text": (Field("f", "vocabulary", "f"), np.array([b"a", UNKNOWN, "é\n".encode()], object), ["a", None, "é\n"]),
    "texts": (
        Field("f", "vocabulary", "f", "list"),
        np.array([[b"a", UNKNOWN], [b"", b""], [b"b", b""]], object),
        [["a", None], [], ["b"]],
    ),
    "bucket": (Field("f", "buckets", "f", boundaries=(1.0,)), np.array([0.5, np.nan, 1.0]), [0.5, None, 1.0]),
    "number": (Field("f", "none", "f", default=-1.0), np.array([1.5, 2.5], np.float32), [1.5, 2.5]),
    "vector": (Field("f", "none", "f", 2), np.array([[1, 2], [3, 4]], np.float32), [[1.0, 2.0], [3.0, 4.0]]),
}


@pytest.mark.parametrize("name", CASES)
def test_inputs_and_columns_say_the_same(tmp_path, name):
    field, values, plain = CASES[name]
    column = raw.column(field, values)
    assert column.to_pylist() == plain
    assert column.type == raw.column_type(field)
    pq.write_table(pa.table({"f": column}), tmp_path / "t.parquet")
    read = pq.read_table(tmp_path / "t.parquet")["f"]
    for stored in (column, read):
        again = raw.inputs(field, stored)
        np.testing.assert_array_equal(again, values)
        assert again.dtype == values.dtype


def test_what_is_missing_is_unknown_or_the_default():
    for field, expected in (
        (CASES["text"][0], [UNKNOWN]), (CASES["texts"][0], [[b""]]), (CASES["number"][0], [-1.0]),
        (CASES["vector"][0], [[0.0, 0.0]]),
    ):  # fmt: skip
        assert raw.inputs(field, pa.nulls(1, raw.column_type(field))).tolist() == expected
    assert np.isnan(raw.inputs(CASES["bucket"][0], pa.nulls(1, pa.float64()))).all()


@pytest.mark.parametrize("name", CASES)
def test_no_rows_are_no_rows(name):
    field = CASES[name][0]
    assert len(raw.inputs(field, pa.array([], raw.column_type(field)))) == 0


def test_lists_are_padded_to_the_longest():
    values = np.array([b"a", b"b", b"c"], object)
    assert raw.padded(values, np.array([0, 2, 1])).tolist() == [[b"", b""], [b"a", b"b"], [b"c", b""]]
    assert raw.padded(values[:0], np.array([0, 0])).tolist() == [[b""], [b""]]
