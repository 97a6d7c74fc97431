"""Values on their way into a record: text of every kind, numbers at the edges, very long lists."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import encoding
from schemas.features import Buckets, Vocabulary
from schemas.manifest import escape, unescape
from schemas.record import Field

AWKWARD = ["ö", "三十", "\U0001f600", "a\nb", "a\\nb", "\\", "\r\n", "a\\", " ", "", "\u2028", "\x85", "\x00", "[OOV]"]


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.text())
def test_a_vocabulary_line_gives_its_value_back(value):
    line = escape(value)
    assert unescape(line) == value
    assert "\n" not in line
    assert "\r" not in line


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array([1, None, -3]), ["1", None, "-3"]),
        (pa.array([1.0, 2.5, np.nan, None, -0.0]), ["1", "2.5", None, None, "0"]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array(["x", None, ""]), ["x", None, ""]),
        (pa.array([2**62, -(2**63)]), [str(2**62), str(-(2**63))]),
    ],
)
def test_values_become_text_alike_whatever_their_type(column, texts):
    assert encoding.texts(column).to_pylist() == texts


def test_seven_is_seven_in_every_type():
    columns = [pa.array([7], kind) for kind in (pa.int8(), pa.int64(), pa.float32(), pa.float64())]
    assert {encoding.texts(column).to_pylist()[0] for column in [*columns, pa.array(["7"])]} == {"7"}


def test_vocabularies_are_by_falling_weight_then_by_value():
    def ordered(values, **options):
        spec = Vocabulary(encode="vocabulary", **options)
        table = pa.table({"value": list(values), "weight": list(values.values())})
        return encoding.vocabulary(spec, table)[1:]

    assert ordered({"10": 1, "9": 1, "8": 5}) == ["8", "9", "10"]
    assert ordered({"10": 1, "9": 1, "x": 1}) == ["10", "9", "x"]
    assert ordered({"a": 1, "b": 2, "c": 3}, min_count=2) == ["c", "b"]
    assert ordered({"a": 1, "b": 2, "c": 3}, max_size=1) == ["c"]
    assert ordered({"-": 1, "--1": 1, "007": 1}) == ["-", "--1", "007"]


WHOLE = st.integers(-(10**25), 10**25) | st.integers(-12, 12)


def weighed(values):
    return st.dictionaries(values, st.integers(1, 3), max_size=9)


ANY = st.text(st.sampled_from("0-19+ \n\u0663é\uffff\U0001f600"), max_size=3)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(weighed(WHOLE.map(str)) | weighed(ANY), st.integers(0, 2), st.integers(1, 2), st.none() | st.integers(1, 6))
def test_vocabularies_are_ordered_as_python_orders_numbers_and_texts(values, inherited, least, most):
    """Numbers where each value is a number's own text, whatever its size; else texts by code point."""
    before = ["[OOV]", *list(values)[:inherited]]
    try:
        whole = all(str(int(value)) == value for value in values)
    except ValueError:
        whole = False
    new = [(-weight, int(value) if whole else value, value) for value, weight in values.items() if weight >= least]
    expected = [value for _, _, value in sorted(new) if value not in before[1:]]
    room = None if most is None else max(0, 1 + most - len(before))
    table = pa.table(
        {"value": pa.array(list(values), pa.string()), "weight": pa.array(list(values.values()), pa.int64())}
    )
    spec = Vocabulary(encode="vocabulary", min_count=least, max_size=most)
    assert encoding.vocabulary(spec, table, before) == [*before, *expected[:room]]


def test_buckets_are_closed_on_the_left():
    field = Field("f", "buckets", "f", size=4, boundaries=(1.0, 2.0))
    column = pa.array([0.9, 1.0, 1.5, 2.0, None, -1e300, 1e300])
    fragments = encoding.encoded(field, None, column).values.to_pylist()
    assert [int(fragment[0]) for fragment in fragments] == [1, 2, 2, 3, 0, 1, 3]


@pytest.mark.parametrize("big", [2**53 + 1, 2**62, -(2**63)])
def test_integers_beyond_what_a_double_holds_are_bucketed_all_the_same(big):
    assert encoding.numbers(pa.array([big, None])).tolist()[0] == float(big)
    spec = Buckets(encode="buckets", boundaries=[0])
    assert [rows.tolist() for _, rows in encoding.faults("f", spec, pa.array([big, None]))] == [[False, False]]


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60), st.integers(2, 12), st.integers(1, 3))
@settings(deadline=None, derandomize=True)
def test_quantiles_are_numpys_to_the_last_bit(numbers, quantiles, repeated):
    values = np.array(numbers * repeated)
    expected = np.unique(np.quantile(values, np.arange(1, quantiles) / quantiles))
    assert encoding.quantile_boundaries(values, quantiles) == tuple(expected.tolist())


def test_quantiles_part_what_is_there():
    values = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, np.nan])
    assert encoding.quantile_boundaries(values, 4) == (2.75, 4.5, 6.25)
    assert encoding.quantile_boundaries(np.array([5.0, 5, 5]), 4) == (5.0,)
    assert encoding.quantile_boundaries(np.array([np.nan]), 4) == ()


@pytest.mark.spark
def test_awkward_ids_and_lists_of_ten_thousand_come_back_as_they_were(spark, jobs, read_clicks, read_records):
    from schemas import codec

    ids = [*AWKWARD, "plain"]
    tags = [f"tag {number}" for number in range(10_000)]
    items = pa.table({"item_id": ids, "tags": [tags if number == 1 else tags[:number] for number in range(len(ids))]})
    clicks = pa.table({
        "user_id": [user for user in ids for _ in ids],
        "item_id": [item for _ in ids for item in ids],
        "timestamp": [900_000_000 + number for _ in ids for number in range(len(ids))],
    })  # fmt: skip
    document = jobs.document(
        jobs.inputs(clicks, items), split={"kind": "leave_last"},
        history={"features": ["item_id", "tags"], "length": 3},
        negatives={"exclude": "none", "count": 2}, layout={"kind": "block", "clicks": 16},
    )  # fmt: skip
    document["features"]["item"]["tags"] = {"encode": "vocabulary", "shape": "list"}
    dataset = jobs.run(spark, document)
    assert sorted(dataset.vocabulary("user_id")[1:]) == sorted(ids)
    names, words = dataset.vocabulary("item_id"), dataset.vocabulary("tags")
    assert dataset.manifest.rejected == {}
    keys = [codec.decode(record)["item.key"][0] for _, record in read_records(dataset, "items")]
    assert sorted(key.decode() for key in keys) == sorted(ids)
    assert sorted(click["user.key"].decode() for click in read_clicks(dataset, "test")) == sorted(ids)
    longest = 0
    for click in read_clicks(dataset):
        for candidate in click["candidates"]:
            number = ids.index(names[candidate["item_id"]]) if candidate["item_id"] else None
            if number is not None:
                assert [words[i] for i in candidate["tags"]] == (tags if number == 1 else tags[:number])
                longest = max(longest, len(candidate["tags"]))
        history_names = [names[i] for i in click["history.item_id"]]
        due = [tags if n == ids[1] else tags[: ids.index(n)] for n in history_names]
        assert [[words[i] for i in told] for told in click["history.tags"]] == due
    assert longest == 10_000


def test_rows_without_training_clicks_are_encoded_but_teach_nothing():
    weights = np.array([3, 0, 1, 2, 0, 1])
    prices = pa.array([1.0, 1000.0, 2.0, 3.0, -50.0, 4.0])
    buckets = Buckets(encode="buckets", quantiles=2)
    field, _, fragments = encoding.learned("price", buckets, prices, weights)
    assert field.boundaries == (2.5,)  # the median of 1, 2, 3, 4, each counted once
    assert [codec_value(value) for value in fragments.values] == [1, 2, 1, 2, 1, 2]
    colours = pa.array(["red", "never clicked", "blue", "red", None, "blue"])
    field, values, fragments = encoding.learned("colour", Vocabulary(encode="vocabulary"), colours, weights)
    assert values == ["[OOV]", "red", "blue"]
    assert field.size == 3
    assert [codec_value(value) for value in fragments.values] == [1, 0, 2, 1, 0, 2]


def codec_value(fragment):
    (byte,) = fragment.as_py()  # indices below 128 are one byte
    return byte
