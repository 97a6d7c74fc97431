"""Files made to do harm: an error, in memory bounded by the file and not by what it claims, and never a wrong value.

Frames that are well formed but for what they claim have right checksums, as whoever makes them can compute those too.
Decoded values are held against protobuf's own parser.
"""

import contextlib
import gzip
import io
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.auditing import examples
from pipelines.auditing.frames import ShardFile
from schemas import codec, tfrecord, wire
from schemas.errors import CorruptDataset

bounded = settings(deadline=None, derandomize=True, max_examples=250)


def header(length):
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<I", tfrecord.masked_crc32c(packed))


def read(data):
    return list(tfrecord.read_frames(io.BytesIO(data), "shard"))


def audited(folder, data, name="shard.tfrecord"):
    (folder / name).write_bytes(data)
    return list(ShardFile(str(folder / name)).frames())


def peak_bytes(action):
    """The most memory that Python and numpy had at once while an action ran."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


FRAME = tfrecord.frame(b"a record")
CLAIMS = [2**64 - 1, 2**63, 2**63 - 1, 2**40, tfrecord.MAX_RECORD_BYTES + 1, tfrecord.MAX_RECORD_BYTES, 2**29, 9]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("length", CLAIMS)
def test_a_length_beyond_the_file_costs_no_memory(tmp_path, length, zipped):
    data = FRAME + header(length) + b"12345678"
    if zipped:
        data = gzip.compress(data)
    name = "shard.tfrecord.gz" if zipped else "shard.tfrecord"
    (tmp_path / name).write_bytes(data)

    def ours():
        with (gzip.open if zipped else open)(tmp_path / name, "rb") as stream:
            found = tfrecord.read_frames(stream, "shard")
            assert next(found) == b"a record"
            with pytest.raises(CorruptDataset, match=r"shard, record 1: (a length of|the shard ends inside)"):
                next(found)

    def the_audits():
        first, second = ShardFile(str(tmp_path / name)).frames()
        assert (first.complaint, first.data) == ("", b"a record")
        assert second.complaint

    assert peak_bytes(ours) < 16 << 20
    assert peak_bytes(the_audits) < 16 << 20


@given(st.binary(max_size=120), st.integers(0, 2**64 - 1))
@bounded
def test_random_bytes_are_no_frames(data, length):
    for hostile in (data, FRAME + data, header(length) + data, header(min(length, len(data))) + data):
        with contextlib.suppress(CorruptDataset):
            assert b"".join(map(tfrecord.frame, read(hostile))) == hostile


@given(st.binary(max_size=60), st.binary(max_size=60))
@bounded
def test_what_is_no_gzip_is_an_error(first, last):
    whole = gzip.compress(FRAME)
    for hostile in (first, whole[: len(first)] + last, whole + last, whole[:12] + last + whole[12:]):
        with contextlib.suppress(CorruptDataset):
            stream: Any = gzip.GzipFile(fileobj=io.BytesIO(hostile))
            found = list(tfrecord.read_frames(stream, "shard"))
            assert set(found) <= {b"a record"}


# Any nesting of fields, most of which an Example does not have; numbers and sizes may be claimed and not held.
def message(inner):
    varints = st.integers(0, 2**64 - 1).map(wire.varint)
    overlong = st.sampled_from([b"\x80" * 9 + b"\x01", b"\x80" * 10 + b"\x01", b"\xff" * 9 + b"\x7f", b"\x80\x00"])
    numbers = st.sampled_from([1, 1, 1, 2, 2, 3, 4, 15, 16, 2**29 - 1, 2**29, 0])
    lengths = st.one_of(st.none(), st.none(), st.none(), st.integers(0, 2**40), st.just(2**63))

    def field(parts):
        number, kind, number_bytes, content, claimed = parts
        tag = wire.varint(number << 3 | kind)
        if kind == 2:
            return tag + wire.varint(len(content) if claimed is None else claimed) + content
        return tag + {0: number_bytes, 1: bytes(8), 5: content[:4].ljust(4, b"x")}.get(kind, b"")

    kinds = st.sampled_from([2, 2, 2, 2, 0, 5, 1, 3, 7])
    fields = st.tuples(numbers, kinds, st.one_of(varints, overlong), inner, lengths).map(field)
    return st.lists(fields, max_size=3).map(b"".join)


leaves = st.one_of(st.binary(max_size=6), st.sampled_from([b"key", b"\xff\xfe", b"\x00\x01\x80\x01", bytes(8)]))
messages = message(message(message(message(message(leaves)))))


def entry(key, feature):
    inner = b"\x0a" + wire.varint(len(key)) + key + b"\x12" + wire.varint(len(feature)) + feature
    features = b"\x0a" + wire.varint(len(inner)) + inner
    return b"\x0a" + wire.varint(len(features)) + features


def same_as_protobuf(data):
    """Whether the bytes decode; if they do, protobuf has no other opinion."""
    try:
        ours: dict[str, Any] = {**codec.decode(data)}
    except CorruptDataset:
        return False
    theirs: dict[str, Any] = examples.values(data)
    assert ours.keys() == theirs.keys()
    for key, values in ours.items():
        if isinstance(values, list):
            assert values == theirs[key]
        else:
            assert values.dtype == theirs[key].dtype or not len(values)
            assert values.tobytes() == np.asarray(theirs[key]).tobytes()
    return True


@given(st.one_of(messages, st.tuples(st.sampled_from([b"a", b"item.index"]), message(message(leaves))).map(
    lambda pair: entry(*pair)
)))  # fmt: skip
@bounded
def test_what_decodes_is_what_protobuf_says(data):
    same_as_protobuf(data)


INTS, FLOATS, TEXTS = ("int64", wire.int_fragments), ("float32", wire.float_fragments), ("bytes", wire.bytes_fragments)


def example():
    from schemas.record import Column

    values: dict[str, Any] = {
        "click.time": [1, -1, 2**40, 300],
        "item.log_q": [0.5, -1e30],
        "item.key": [b"k", b"", b"long" * 40],
    }
    kinds: dict[str, Any] = {"click.time": INTS, "item.log_q": FLOATS, "item.key": TEXTS}
    columns = [Column(key, kinds[key][0]) for key in values]
    payloads = {
        key: wire.regrouped(kinds[key][1](held), np.array([0, len(held)])) for key, held in values.items()
    }  # fmt: skip
    return codec.encode(columns, payloads).joined()[0].as_py()


EXAMPLE = example()


@given(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 255), st.integers(0, len(EXAMPLE)), st.binary(max_size=3))
@bounded
def test_a_record_with_a_byte_changed_decodes_as_protobuf_says_or_not_at_all(place, byte, end, added):
    assert same_as_protobuf(EXAMPLE)
    changed = EXAMPLE[:place] + bytes([byte]) + EXAMPLE[place + 1 :]
    for hostile in (changed, EXAMPLE[:end], EXAMPLE[:end] + added + EXAMPLE[end:], changed[:end]):
        same_as_protobuf(hostile)


HUGE = wire.varint(2**40)
HARMFUL = {
    "a number for a list of bytes' value": entry(b"a", b"\x0a" + wire.varint(1 + len(HUGE)) + b"\x08" + HUGE),
    "a number for a key": b"\x0a\x0c\x0a\x0a\x08" + HUGE + b"\x12\x00\x00",
    "a list longer than all": entry(b"a", b"\x1a" + HUGE + b"\x01"),
    "a field longer than all": b"\x0a" + wire.varint(2**63 - 1),
    "a number that never ends": entry(b"a", b"\x1a\x0e\x0a\x0c" + b"\x80" * 12),
    "floats cut short": entry(b"a", b"\x12\x05\x0a\x03\x00\x00\x00"),
    "a float cut short": entry(b"a", b"\x12\x03\x0d\x00\x00"),
    "numbers that go on in the next list": entry(b"a", b"\x1a\x06\x0a\x01\x80\x0a\x01\x01"),
    "another field in a list": entry(b"a", b"\x0a\x03\x12\x01x"),
    "a deep nesting": b"\x0a\x00" * 3 + b"\x0a\x7f" * 5000,
    "no key": entry(b"", b"")[:4] + b"\x12\x00",
    "two values for a key": b"\x0a\x09\x0a\x07\x0a\x01a\x12\x00\x12\x00",
    "fixed 64 bits": entry(b"a", b"\x19" + bytes(8)),
}


@pytest.mark.parametrize("what", HARMFUL)
def test_harm_is_refused_in_little_memory(what):
    def refused():
        with pytest.raises(CorruptDataset):
            codec.decode(HARMFUL[what])

    assert peak_bytes(refused) < 1 << 20


def sized(tag, content):
    return tag + wire.varint(len(content)) + content


MANY = {
    "one list of numbers": (sized(b"\x1a", sized(b"\x0a", b"\x01" * 100_000)), 80),
    "twenty thousand lists": (b"\x1a\x02\x0a\x00" * 20_000, 200),
    "numbers that are not packed": (sized(b"\x1a", b"\x08\x01" * 20_000), 200),
}


@pytest.mark.parametrize("what", MANY)
def test_many_small_values_cost_memory_in_proportion(what):
    feature, times = MANY[what]
    data = entry(b"a", feature)
    assert peak_bytes(lambda: codec.decode(data)) < times * len(data)


def test_an_audit_survives_all_of_it(tmp_path):
    for number, (what, data) in enumerate(HARMFUL.items()):
        (frame,) = audited(tmp_path, tfrecord.frame(data), f"{number}.tfrecord")
        with contextlib.suppress(ValueError):
            assert isinstance(examples.values(frame.data), dict), what
