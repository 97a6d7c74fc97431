"""A dataset that was damaged after it was written: no byte of it can change without an error that names the file.

The three ways to read with verification are held against the same damage: the files of the manifest one by one
(`inspect --verify`, and what the trainer opens), the manifest itself, and the audit's own reader.
"""

import gzip
import io
import itertools
import re
import zlib

import pytest

from pipelines import inspect
from pipelines.auditing import totals
from pipelines.auditing.findings import Findings
from pipelines.auditing.frames import ShardFile
from schemas import tfrecord
from schemas.errors import CorruptDataset
from schemas.manifest import MANIFEST, Dataset

KINDS = [("row", False), ("block", True), ("sequence", False)]


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}{'-gzip' * kind[1]}")
def dataset(small_dataset, request):
    return small_dataset(*request.param)


def flips(data):
    """(the data with one byte changed, in one bit, which one) for every byte."""
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        yield bytes(changed), position


def shards_of(manifest):
    return [shard for split in (*manifest.splits.values(), manifest.items) for shard in split.shards]


def audit_names(dataset, path):
    """Whether the audit's totals say of a file that it differs."""
    findings = Findings()
    sizes = {path: (*audit_reads(dataset.root / path), 0, 0)} if "part-" in path else {}
    totals.files(dataset, sizes, findings)
    return [line for check in findings.checks.values() for line in check.shown if line.startswith(f"{path}:")]


def audit_reads(path):
    """(bytes, CRC-32C) of a shard by the audit's reader, which must come to its end whatever it meets."""
    read = ShardFile(str(path))
    assert len(list(read.frames())) < 100
    return read.bytes, read.crc32c


def test_every_byte_of_every_file_counts(dataset):
    assert {file.path for file in dataset.manifest.stored_files()} | {MANIFEST} == {
        path.relative_to(dataset.root).as_posix() for path in dataset.root.rglob("*") if path.is_file()
    }
    for file in dataset.manifest.stored_files():
        path = dataset.root / file.path
        whole, number = path.read_bytes(), 0
        for changed, number in flips(whole):
            path.write_bytes(changed)
            with pytest.raises(CorruptDataset, match=re.escape(str(path))):
                dataset.verify(file)
            assert audit_reads(path) != (file.bytes, file.crc32c), number
        assert number == len(whole) - 1
        with pytest.raises(CorruptDataset, match=f"1 of .* files .*{re.escape(str(path))}"):
            inspect.verified(dataset)
        assert audit_names(dataset, file.path)
        path.write_bytes(whole)
    inspect.verified(dataset)


def test_every_byte_of_the_manifest_counts(small_dataset):
    """Flips that are still JSON, and numbers that only the manifest holds, are found as well."""
    dataset = small_dataset("pool")
    path = dataset.root / MANIFEST
    whole, parsed = path.read_bytes(), 0
    for changed, _ in flips(whole):
        path.write_bytes(changed)
        with pytest.raises(CorruptDataset, match=re.escape(str(path))) as raised:
            Dataset.open(dataset.root)
        parsed += "CRC-32C" in str(raised.value)
    assert parsed > len(whole) / 3
    path.write_bytes(whole)
    assert Dataset.open(dataset.root).manifest == dataset.manifest


def test_a_manifest_of_any_other_length_is_refused(small_dataset):
    dataset = small_dataset("row")
    path = dataset.root / MANIFEST
    whole = path.read_bytes()
    shorter = (whole[:length] for length in range(0, len(whole), 7))
    for there in (*shorter, whole[:-1], whole[:-2], whole + b" ", whole + b"\n", whole + b"}", whole + whole[-40:]):
        path.write_bytes(there)
        with pytest.raises(CorruptDataset, match=re.escape(str(path))):
            Dataset.open(dataset.root)


def test_a_shard_of_any_other_length_is_named(dataset):
    for shard in shards_of(dataset.manifest):
        path = dataset.root / shard.path
        whole = path.read_bytes()
        for length in range(len(whole) + 2):
            path.write_bytes((whole + b"\0")[:length] if length <= len(whole) else whole + b"\0")
            if length == len(whole):
                continue
            with pytest.raises(CorruptDataset, match=re.escape(str(path))):
                dataset.verify(shard)
            assert audit_reads(path) != (shard.bytes, shard.crc32c), length
        path.unlink()
        with pytest.raises(CorruptDataset, match=re.escape(str(path))):
            inspect.verified(dataset)
        assert audit_names(dataset, shard.path)
        path.write_bytes(whole)


def test_shards_in_each_others_place_are_named(dataset):
    """Also where they are of the same size, so that only the checksum can tell."""
    for one, other in itertools.permutations(shards_of(dataset.manifest), 2):
        mine, theirs = (dataset.root / shard.path for shard in (one, other))
        whole, foreign = mine.read_bytes(), theirs.read_bytes()
        for there in (foreign, (foreign * (1 + len(whole) // len(foreign)))[: len(whole)]):
            mine.write_bytes(there)
            theirs.write_bytes(whole)
            with pytest.raises(CorruptDataset, match=re.escape(str(mine))):
                inspect.verified(dataset)
            assert audit_names(dataset, one.path)
        mine.write_bytes(whole)
        theirs.write_bytes(foreign)


def test_frames_alone_never_give_a_wrong_record(dataset):
    """Without a manifest at hand: what comes before the error is what was written, and there is an error.

    Frames do not see all of a gzip file: in its header and between its blocks bits may change that touch nothing.
    """
    for shard in shards_of(dataset.manifest):
        whole = (dataset.root / shard.path).read_bytes()
        zipped = shard.path.endswith(".gz")
        records = list(tfrecord.read_frames(opened(whole, zipped), shard.path))
        for changed, position in flips(whole):
            found = []
            try:
                for record in tfrecord.read_frames(opened(changed, zipped), shard.path):
                    found.append(record)  # noqa: PERF402 - what came before an error is kept
            except CorruptDataset as error:
                named = str(error).startswith(shard.path)
                assert named
            except (OSError, EOFError, zlib.error):
                assert zipped
            else:
                assert zipped, position
                assert len(found) == len(records), position
            assert found == records[: len(found)]


def opened(data, zipped):
    return gzip.GzipFile(fileobj=io.BytesIO(data)) if zipped else io.BytesIO(data)
