"""Shards as they lie on the disk: frames, compression, checksums, a digest without order, and disks that refuse."""

import gzip
import subprocess
import sys
import textwrap

import google_crc32c
import numpy as np
import pyarrow as pa
import pytest
import xxhash

from pipelines import sink
from schemas import tfrecord, wire

RECORDS = [np.random.default_rng(0).bytes(n) for n in (0, 1, 100, 70_000)]


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_shard_is_what_its_figures_say(tmp_path, compression):
    writer = sink.ShardWriter(str(tmp_path), "train", "x", compression)
    writer.write(wire.Pieces.of(pa.array(RECORDS[:2], pa.large_binary())))
    writer.write(wire.Pieces.of(pa.array(RECORDS[2:], pa.large_binary())))
    writer.close()
    data = (tmp_path / writer.path).read_bytes()
    assert (writer.records, writer.bytes, writer.crc32c) == (4, len(data), google_crc32c.value(data))
    plain = gzip.decompress(data) if compression == "gzip" else data
    assert plain == b"".join(tfrecord.frame(record) for record in RECORDS)
    assert writer.path.endswith(".tfrecord.gz" if compression == "gzip" else ".tfrecord")


def test_the_digest_knows_every_record_but_not_their_order():
    whole = sink.digest(RECORDS)
    assert sink.digest(RECORDS[::-1]) == whole
    parts = sink.digest(RECORDS[:1]) + sink.digest(RECORDS[1:])
    assert parts % sink.DIGEST_MODULUS == whole
    flipped = RECORDS[3][:-1] + bytes([RECORDS[3][-1] ^ 1])
    others: list = [[*RECORDS[:3], flipped], RECORDS[:3], [*RECORDS, RECORDS[0]], [*RECORDS[:3], b"x"], []]
    assert len({whole, *map(sink.digest, others)}) == 6


def test_the_digest_is_the_sum_of_each_records_hash():
    hashes = [xxhash.xxh3_128(record).intdigest() for record in RECORDS * 300]
    assert sink.digest(RECORDS * 300) == sum(hashes) % (1 << 128)


def test_two_attempts_at_one_shard_never_share_a_name(tmp_path):
    writers = [sink.ShardWriter(str(tmp_path), "train", "x", "none") for _ in range(3)]
    assert len({writer.path for writer in writers}) == 3
    for writer in writers:
        writer.discard()
    assert list((tmp_path / "train").iterdir()) == []


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_disk_that_fills_is_said_and_leaves_no_file(tmp_path, compression):
    """A limit to the size of files stands for the disk: it needs no rights and is there on every machine."""
    code = f"""
        import resource, sys
        import numpy as np, pyarrow as pa
        from pipelines import sink
        from schemas import wire
        from schemas.errors import EnvironmentProblem
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        writer = sink.ShardWriter({str(tmp_path)!r}, "train", "x", {compression!r})
        try:
            for seed in range(100):
                record = pa.array([np.random.default_rng(seed).bytes(5000)], pa.large_binary())
                writer.write(wire.Pieces.of(record))
            writer.close()
        except EnvironmentProblem as error:
            writer.discard()
            sys.exit(f"{{error.exit_code}} {{error}}")
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.stderr.startswith(f"1 writing {tmp_path}/train/part-x-"), run.stderr
    assert "File too large; make room there or change output.path" in run.stderr
    assert "Traceback" not in run.stderr
    assert list((tmp_path / "train").iterdir()) == []
