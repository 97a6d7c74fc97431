"""Framing against TensorFlow and Beam in both directions; damaged and hostile files."""

import io
import struct

import pyarrow as pa
import pytest

from schemas import tfrecord, wire
from schemas.errors import CorruptDataset

RECORDS = [b"", b"a", b"\x00" * 1000, bytes(range(256)) * 40]


def read(data, **options):
    return list(tfrecord.read_frames(io.BytesIO(data), "shard", **options))


def test_what_is_framed_comes_back():
    assert read(tfrecord.frames(RECORDS)) == RECORDS


def test_many_records_are_framed_as_each_is():
    for records in (RECORDS, [], [b"", b""], [bytes(n) for n in range(300)]):
        array = pa.array([b"before", *records], pa.large_binary())[1:]
        whole, slices = tfrecord.framed(wire.Pieces.of(array))
        assert whole.tobytes() == tfrecord.frames(records)
        assert [record.tobytes() for record in slices] == records


@pytest.mark.tf
def test_tensorflow_reads_our_frames_and_we_read_its(tmp_path):
    import tensorflow as tf

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_bytes(tfrecord.frames(RECORDS))
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(ours))] == RECORDS
    with tf.io.TFRecordWriter(str(theirs)) as writer:
        for record in RECORDS:
            writer.write(record)
    assert theirs.read_bytes() == ours.read_bytes()


@pytest.mark.beam
def test_beam_reads_our_frames():
    from apache_beam.io.tfrecordio import _TFRecordUtil

    stream = io.BytesIO(tfrecord.frames(RECORDS))
    assert [_TFRecordUtil.read_record(stream) for _ in RECORDS] == RECORDS


def test_every_flipped_byte_is_found():
    data = tfrecord.frames([b"first record", b"second"])
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x41
        with pytest.raises(CorruptDataset, match="shard, record"):
            read(bytes(damaged))


def test_every_truncation_but_between_records_is_found():
    first = len(tfrecord.frame(b"first record"))
    data = tfrecord.frames([b"first record", b"second"])
    for length in set(range(1, len(data))) - {first}:
        with pytest.raises(CorruptDataset, match="shard, record"):
            read(data[:length])


def test_some_records_are_read_without_the_others():
    data = bytearray(tfrecord.frames(RECORDS))
    data[-8] ^= 1  # in the last record
    assert read(bytes(data), only={1, 2}) == RECORDS[1:3]
    assert read(bytes(data), only=()) == []
    with pytest.raises(CorruptDataset, match="record 3"):
        read(bytes(data), only={3})
    with pytest.raises(CorruptDataset, match=r"record 3: the shard ends inside a record"):
        read(bytes(data[:-1]), only={1})


def test_a_huge_length_costs_no_memory():
    length = struct.pack("<Q", 1 << 62)
    data = length + struct.pack("<I", tfrecord.masked_crc32c(length)) + b"x" * 100
    with pytest.raises(CorruptDataset, match="above the limit"):
        read(data)
