"""Records that parse and lie: lengths, slots and types that do not fit are refused, not read as something else.

Every number of a record is changed, one at a time; what still comes out as clicks must be within the record, and the
same as an independent reading by plain Python slices.
"""

import contextlib
import io
import json

import google_crc32c
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import contents, readable
from pipelines.inspect import main
from schemas import tfrecord
from schemas.errors import CorruptDataset
from schemas.files import file_crc32c
from schemas.manifest import MANIFEST

bounded = settings(deadline=None, derandomize=True, max_examples=150)
NUMBERS = st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 7, 2**31, 2**62, 2**63 - 1])
KINDS = ["row", "block", "pool", "sequence"]


def records(dataset):
    return list(readable.decoded(dataset, "train"))


def clicks(record, dataset):
    return list(contents.clicks(record, dataset.manifest.record))


def within(click, record, spec):
    """Whether all that a click shows is in its record."""
    items = record["item.index"].tolist()
    candidates = len(click.slots)
    assert all(0 <= slot < len(items) for slot in click.slots.tolist())
    assert click.index.tolist() == [items[slot] for slot in click.slots.tolist()]
    assert len(click.log_q) == len(click.masked) == candidates
    assert candidates == (1 + spec.negatives)
    assert all(set(entity) == set(spec.history) for entity in click.history)


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_does_not_fit_is_refused_or_harmless(small_dataset, kind):
    dataset = small_dataset(kind)
    found = records(dataset)

    @given(st.data())
    @bounded
    def holds(data):
        record = dict(data.draw(st.sampled_from(found)))
        key = data.draw(st.sampled_from(sorted(key for key, values in record.items() if len(values))))
        values = record[key].copy()
        values[data.draw(st.integers(0, len(values) - 1))] = data.draw(NUMBERS)
        record[key] = values
        with contextlib.suppress(CorruptDataset):
            for click in clicks(record, dataset):
                within(click, record, dataset.manifest.record)

    holds()


@pytest.mark.parametrize("kind", KINDS)
def test_values_too_many_or_too_few_or_of_another_kind_are_refused(small_dataset, kind):
    dataset = small_dataset(kind)
    found = records(dataset)
    for record in found:
        for key, values in record.items():
            another = values.astype(np.float32 if values.dtype == np.int64 else np.int64)
            changes = [None, another, [b"1"] * len(values)]
            if (kind, key) != ("row", "user.likes"):  # the one list whose length nothing else tells
                changes += [np.append(values, values[-1:]), values[:-1]]
            for changed in changes if len(values) else ():
                harmed = {name: held for name, held in record.items() if name != key or changed is not None}
                if changed is not None:
                    harmed[key] = changed
                with pytest.raises(CorruptDataset, match=r"not of the manifest's record format"):
                    clicks(harmed, dataset)


@pytest.mark.parametrize(
    ("kind", "key", "values"),
    [
        ("block", "block.positive", [-1, 0]),
        ("block", "history.lengths", [-1, 4]),
        ("block", "user.likes.lengths", [-1, 3]),
        ("block", "block.history", [-1, -1, -1]),
        ("pool", "block.hit_pool", [-1]),
        ("sequence", "sequence.lengths", [-(2**63), 2**63 - 1]),
        ("sequence", "sequence.lengths", [2**62, 2**62]),
        ("row", "click.weight", [1.0, 2.0]),
    ],
)
def test_what_numpy_would_read_from_the_end_or_wrap_around_is_refused(small_dataset, kind, key, values):
    dataset = small_dataset(kind)
    record = dict(records(dataset)[0])
    assert key in record
    record[key] = np.array(values, record[key].dtype)
    with pytest.raises(CorruptDataset, match=r"not of the manifest's record format"):
        clicks(record, dataset)


def test_texts_in_place_of_numbers_take_no_memory(small_dataset):
    """As an array each text would be as long as the longest: 100,000 of 100 kB."""
    dataset = small_dataset("row")
    record = dict(records(dataset)[0])
    record["user.age"] = [bytes(100_000), *[b""] * 100_000]
    with pytest.raises(CorruptDataset, match="bytes found"):
        clicks(record, dataset)


def replaced(dataset, data):
    """Puts other bytes into the first train shard, and a manifest that vouches for them."""
    shard = dataset.manifest.splits["train"].shards[0]
    path = dataset.root / shard.path
    path.write_bytes(data)
    document = dataset.manifest.to_json()
    for stored in document["splits"]["train"]["shards"]:
        if stored["path"] == shard.path:
            stored |= {"bytes": len(data), "crc32c": file_crc32c(path)}
    body = json.dumps(document, indent=1).removesuffix("\n}").encode()
    (dataset.root / MANIFEST).write_bytes(body + b',\n "crc32c": %d\n}\n' % google_crc32c.value(body))


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_shard_made_to_harm_that_the_manifest_vouches_for_is_one_line(small_dataset, gzipped):
    """The bytes of a real shard changed or cut: in its frames, or in a record whose frame is right again."""
    dataset = small_dataset("block", gzipped=gzipped)
    whole = (dataset.root / dataset.manifest.splits["train"].shards[0].path).read_bytes()

    @given(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 10_000), st.booleans())
    @settings(bounded, max_examples=60)
    def holds(place, byte, end, framed):
        data = whole
        if framed and not gzipped:
            (data,) = tfrecord.read_frames(io.BytesIO(whole), "shard")
        data = bytearray(data)
        data[place % len(data)] = byte
        data = bytes(data[: end % len(data)] if end % 2 else data)
        replaced(dataset, tfrecord.frame(data) if framed and not gzipped else data)
        result = CliRunner().invoke(main, [str(dataset.root), "--records", "2"])
        assert result.exit_code in (0, 1), result.output
        if result.exit_code:
            (line,) = result.stderr.splitlines()
            assert line.startswith("error: train/part-0"), line

    holds()
