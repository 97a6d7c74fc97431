"""Records against TensorFlow's own messages and parser, for every layout; decoding of hostile bytes."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec, wire
from schemas.errors import CorruptDataset
from schemas.record import Column, DType, Field, RecordSpec

SPEC = RecordSpec(
    user=(Field("age", "buckets", "age", size=5), Field("tags", "vocabulary", "tags", "list", 9)),
    item=(
        Field("item_id", "vocabulary", "item_id", size=10),
        Field("genres", "vocabulary", "genres", "list", 9),
        Field("content", "none", "content", 3),
        Field("price", "none", "price"),
    ),
    history=("item_id", "genres", "content"),
    history_length=5,
    layout="row",
    clicks=1,
    negatives=2,
    per="click",
)
BLOCK = dataclasses.replace(SPEC, layout="block", clicks=4)
POOL = dataclasses.replace(BLOCK, per="block", negatives=6)
MASKED = dataclasses.replace(BLOCK, mask=True)
SEQUENCE = dataclasses.replace(POOL, layout="sequence", window=2, ties="order")

INT64 = st.integers(-(2**63), 2**63 - 1)


def one_column(key, dtype, fragments, starts):
    return codec.encode([Column(key, dtype)], {key: wire.regrouped(fragments, np.asarray(starts))}).joined()


@given(st.lists(INT64, max_size=30), st.integers(0, 30))
@settings(deadline=None, derandomize=True)
def test_whole_numbers_come_back(values, cut):
    cut = min(cut, len(values))
    records = one_column("k", "int64", wire.int_fragments(np.array(values, np.int64)), [0, cut, len(values)])
    decoded = [list(codec.decode(record.as_py())["k"]) for record in records]
    assert decoded == [values[:cut], values[cut:]]


@pytest.mark.tf
@given(
    st.lists(INT64, max_size=8),
    st.lists(st.floats(width=32, allow_nan=False), max_size=5),
    st.lists(st.binary(max_size=300), max_size=4),
)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_records_are_tensorflows_byte_for_byte(numbers, floats, texts):
    import tensorflow as tf

    columns = [Column("a", "int64"), Column("é", "float32"), Column("c", "bytes")]
    ends = {"a": len(numbers), "é": len(floats), "c": len(texts)}
    fragments = {
        "a": wire.int_fragments(np.array(numbers, np.int64)),
        "é": wire.float_fragments(np.array(floats, np.float32)),
        "c": wire.bytes_fragments(texts),
    }
    payloads = {key: wire.regrouped(values, np.array([0, ends[key]])) for key, values in fragments.items()}
    record = codec.encode(columns, payloads).joined()[0].as_py()
    example = tf.train.Example.FromString(record)
    assert list(example.features.feature["a"].int64_list.value) == numbers
    assert np.array_equal(
        np.array(example.features.feature["é"].float_list.value, np.float32), np.array(floats, np.float32)
    )
    assert list(example.features.feature["c"].bytes_list.value) == texts
    assert len(record) == example.ByteSize()  # no byte more than TensorFlow would write


@pytest.mark.tf
def test_tensorflow_parses_a_row_to_its_shapes():
    import tensorflow as tf

    dense = {"item.item_id": [3, 1, 2], "item.index": [2, 0, 1], "item.log_q": [0.0, -1.0, -2.0]}
    record = example(
        {
            **dense, "user.age": [4], "user.tags": [1, 2], "history.item_id": [7, 8],
            "history.genres": [1, 2, 3], "history.genres.lengths": [0, 3], "history.content": np.arange(6.0),
            "item.genres": [5, 6], "item.genres.lengths": [1, 0, 1], "item.content": np.arange(9.0),
            "item.price": [1.0, 2.0, 3.0], "click.time": [99], "click.weight": [1.0],
        }
    )  # fmt: skip
    parsed = tf.io.parse_example([record, record], codec.parse_spec(SPEC.train_columns()))
    assert parsed["item.item_id"].numpy().tolist() == [[3, 1, 2]] * 2
    assert parsed["item.content"].shape == (2, 3, 3)
    assert parsed["item.genres"].to_list() == [[[5], [], [6]]] * 2
    assert parsed["history.genres"].to_list() == [[[], [1, 2, 3]]] * 2
    assert parsed["history.content"].to_list() == [[[0, 1, 2], [3, 4, 5]]] * 2
    assert parsed["user.tags"].to_list() == [[1, 2]] * 2
    assert parsed["click.time"].numpy().tolist() == [99, 99]


@pytest.mark.tf
@pytest.mark.parametrize("spec", [BLOCK, POOL], ids=["own", "pool"])
def test_tensorflow_parses_a_block_to_its_clicks(spec):
    import tensorflow as tf

    own = {"block.negatives": [0, 1, 2, 0], "block.log_allowed": [-0.5, 0.0]}
    pool = {
        "block.negatives": [0, 1, 2, 0, 1, 2],
        "block.hit_click": [1],
        "block.hit_pool": [4],
    }
    record = example(
        {
            **(own if spec is BLOCK else pool), "block.positive": [2, 0], "user.age": [4, 1], "user.tags": [1, 2],
            "user.tags.lengths": [0, 2], "block.history": [1, 0, 1], "history.lengths": [1, 2],
            "history.index": [6, 4], "history.item_id": [7, 8], "history.genres": [1, 2],
            "history.genres.lengths": [0, 2], "history.content": np.arange(6.0), "item.item_id": [3, 1, 2],
            "item.log_q": [0.0, 1.0, 2.0], "item.index": [2, 0, 1], "item.genres": [5, 6],
            "item.genres.lengths": [1, 0, 1], "item.content": np.arange(9.0), "item.price": [1.0, 2.0, 3.0],
            "click.time": [99, 98], "click.weight": [1.0, 1.0],
        }
    )  # fmt: skip
    parsed = tf.io.parse_example([record], codec.parse_spec(spec.train_columns()))
    assert parsed["user.tags"].to_list() == [[[], [1, 2]]]
    assert parsed["block.history"].to_list() == [[[1], [0, 1]]]
    assert parsed["history.index"].to_list() == [[6, 4]]
    assert parsed["history.item_id"].to_list() == [[7, 8]]
    assert parsed["history.genres"].to_list() == [[[], [1, 2]]]
    assert parsed["history.content"].to_list() == [[[0, 1, 2], [3, 4, 5]]]
    assert parsed["item.log_q"].to_list() == [[0, 1, 2]]
    assert parsed["item.content"].to_list() == [[[0, 1, 2], [3, 4, 5], [6, 7, 8]]]
    assert parsed["item.genres"].to_list() == [[[5], [], [6]]]
    if spec is BLOCK:
        assert parsed["block.negatives"].to_list() == [[[0, 1], [2, 0]]]
        assert parsed["block.log_allowed"].to_list() == [[-0.5, 0]]
    else:
        assert parsed["block.negatives"].numpy().tolist() == [[0, 1, 2, 0, 1, 2]]


@pytest.mark.tf
def test_tensorflow_parses_a_sequence_to_its_windows():
    import tensorflow as tf

    values = {
        "user.age": [4, 1], "user.tags": [1, 2], "user.tags.lengths": [0, 2], "sequence.item": [2, 0, 1],
        "sequence.lengths": [1, 2], "item.item_id": [3, 1, 2], "item.genres": [5, 6], "item.genres.lengths": [1, 0, 1],
        "item.content": np.arange(9.0), "item.price": [1.0, 2.0, 3.0], "item.index": [2, 0, 1],
        "item.log_q": [0.0, -1.0, -2.0], "block.negatives": [0, 1, 2, 0, 1, 2], "block.hit_click": [1],
        "block.hit_pool": [4], "block.hit_length": [2], "click.time": [99, 98, 97], "click.weight": [1.0, 1.0, 2.0],
    }  # fmt: skip
    columns = SEQUENCE.train_columns()
    assert [column.key for column in columns] == list(values)
    parsed = tf.io.parse_example([example(values)], codec.parse_spec(columns))
    assert parsed["sequence.item"].to_list() == [[[2], [0, 1]]]
    assert parsed["user.tags"].to_list() == [[[], [1, 2]]]
    assert parsed["item.content"].to_list() == [[[0, 1, 2], [3, 4, 5], [6, 7, 8]]]
    assert parsed["block.negatives"].numpy().tolist() == [[0, 1, 2, 0, 1, 2]]
    assert parsed["block.hit_length"].to_list() == [[2]]
    assert parsed["click.weight"].to_list() == [[1, 1, 2]]


@pytest.mark.parametrize("spec", [SPEC, BLOCK, POOL, SEQUENCE, MASKED], ids=["row", "own", "pool", "sequence", "mask"])
def test_a_spec_survives_the_manifest(spec):
    assert RecordSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    keys = [column.key for column in spec.train_columns()]
    assert len(set(keys)) == len(keys)
    assert all(length in keys for column in spec.train_columns() for length in column.lengths)
    held_out = [column.key for column in spec.held_out_columns()]
    assert held_out == [column.key for column in SPEC.held_out_columns()]  # the same for every layout


def test_columns_and_payloads_must_agree():
    with pytest.raises(KeyError, match="'b'"):
        codec.encode([Column("a", "int64")], {"a": wire.int_fragments([1]), "b": wire.int_fragments([1])})


@given(st.binary(max_size=200))
@settings(deadline=None, derandomize=True, max_examples=500)
def test_random_bytes_decode_or_are_refused(data):
    with contextlib.suppress(CorruptDataset):
        codec.decode(data)


@given(st.data())
@settings(deadline=None, derandomize=True, max_examples=300)
def test_a_damaged_record_decodes_or_is_refused(data):
    record = bytearray(one_column("history.item_id", "int64", wire.int_fragments(range(200, 240)), [0, 40])[0].as_py())
    record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CorruptDataset):
        codec.decode(bytes(record[: data.draw(st.integers(0, len(record)))]))


@given(st.data())
@settings(deadline=None, derandomize=True, max_examples=300)
def test_one_key_is_what_decoding_all_of_them_gives(data):
    keys = ["a", "item.key", "item.key.lengths", "b" * 200]
    payloads = {
        "a": wire.int_fragments([data.draw(st.integers(0, 1 << 40))]),
        "item.key": wire.bytes_fragments([data.draw(st.binary(max_size=300))]),
        "item.key.lengths": wire.float_fragments([1.5]),
        "b" * 200: wire.bytes_fragments(
            [b"\x0a\x08item.key\x12\x03\x0a\x01x"]
        ),  # what looks like an entry, but is a value
    }
    kinds: dict[str, DType] = {"a": "int64", "item.key": "bytes", "item.key.lengths": "float32", "b" * 200: "bytes"}
    order = data.draw(st.permutations(keys))
    record = codec.encode([Column(key, kinds[key]) for key in order], payloads).joined()[0].as_py()
    whole = codec.decode(record)
    for key in keys:
        assert repr(codec.decode_one(record, key)) == repr(whole[key])
    assert codec.decode_one(record, "item") is None
    damaged = bytearray(record)
    damaged[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CorruptDataset):
        codec.decode_one(bytes(damaged), "item.key")


def example(values):
    """A record as TensorFlow writes it."""
    import tensorflow as tf

    features = {}
    for key, value in values.items():
        numbers = np.asarray(value)
        if numbers.dtype.kind == "f":
            features[key] = tf.train.Feature(float_list=tf.train.FloatList(value=numbers))
        else:
            features[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=numbers))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def test_numbers_come_back_from_their_fragments():
    values = np.array([0, 1, 127, 128, 16_383, 16_384, 2**40, 2**63 - 1, -1])
    assert wire.numbers_of(wire.int_fragments(values)).tolist() == values.tolist()
    assert wire.numbers_of(wire.int_fragments(values)[2:5]).tolist() == [127, 128, 16_383]
    assert len(wire.numbers_of(wire.int_fragments([]))) == 0
