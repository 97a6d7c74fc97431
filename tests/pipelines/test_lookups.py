"""Requests and answers without Spark: what a writing task is told of items is what the whole catalogue says of them."""

import dataclasses
import itertools

import numpy as np
import pyarrow as pa
import pytest

from pipelines import encoding, lookups, mapped_files
from pipelines.lookups import Lookups
from pipelines.partitions import Encoder, Partitions, read_partitions
from pipelines.plan import Plan
from pipelines.tallies import Cells
from samplers.proposal import proposal
from schemas import wire
from schemas.features import Plain, Vocabulary
from schemas.record import Field, RecordSpec

ITEMS, EDGES = 50, [0, 20, 21, 40, 50]  # the last part has no mass
SPECS = {
    "item_id": Vocabulary(encode="vocabulary"),
    "tags": Vocabulary(encode="vocabulary", shape="list"),
    "content": Plain(encode="none", shape=[2]),
}
FIELDS = (
    Field("item_id", "vocabulary", "item_id", "scalar", 41),
    Field("tags", "vocabulary", "tags", "list", 4),
    Field("content", "none", "content", 2),
)


def raw():
    random = np.random.default_rng(4)
    count = np.r_[np.sort(random.integers(1, 90, 40))[::-1], np.zeros(10, np.int64)]
    return pa.table({
        "key": pa.array(np.arange(100, 150)), "title": [f"title {i}" for i in range(ITEMS)], "count": pa.array(count),
        "number": pa.array(random.permutation(ITEMS)), "item_id": pa.array(np.arange(100, 150)),
        "tags": pa.array([["a", "b", "c", "z"][: i % 4] or None for i in range(ITEMS)], pa.list_(pa.string())),
        "content": pa.array(random.normal(size=(ITEMS, 2)).tolist(), pa.list_(pa.float32())),
    })  # fmt: skip


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """(lookups, the proposal over all items, fragments by feature of all items)."""
    work, table = tmp_path_factory.mktemp("work"), raw()
    drawn = proposal([("popularity", 1.0, {"exponent": 0.75})], table["count"].to_numpy())
    values = {"tags": ["[OOV]", "a", "b", "c"]}
    lists = pa.large_list(pa.large_string())
    mapped_files.store(
        work / "values.arrow", pa.table({name: pa.array([found], lists) for name, found in values.items()})
    )
    encoder = Encoder(work, FIELDS, str(work / "values.arrow"), (("item_id", 41),), (0, 1, 2))
    begin, paths = [*(drawn.end - drawn.mass)[EDGES[:-1]].tolist(), drawn.one], []
    for part, (first, behind) in enumerate(itertools.pairwise(EDGES)):
        own = table.slice(first, behind - first).combine_chunks()
        paths.append(encoder.store(part, own, first, begin[part], drawn.mass[first:behind]))
    cells = Cells(np.arange(ITEMS), drawn.table.probabilities, np.arange(ITEMS + 1))
    partitions = Partitions(np.array(EDGES), np.array(begin), cells, tuple(paths), "", (0, 1, 2))
    partitions.store(work / "partitions.json")
    record = RecordSpec((), FIELDS, ("item_id", "tags"), 5, "row", 1, 3, "click")
    plan = Plan(
        "", "", str(work / "partitions.json"), FIELDS, record, "exclude", (), "error", 1, 0, 2, "none",
        partitions=4,
    )  # fmt: skip
    expected = {}
    for field in FIELDS:
        ids = ["[OOV]", *map(str, range(100, 140))]
        known = None if field.encode == "none" else pa.array(values.get(field.name, ids), pa.large_string())
        expected[field.name] = encoding.encoded(field, known, table[field.name].combine_chunks())
    yield Lookups(plan), drawn, expected
    read_partitions.cache_clear()


def clicks(drawn, count=40, clicks_a_place=4):
    """Rows as a task that draws emits them: places of several clicks, references by index and by position."""
    random = np.random.default_rng(7)
    negatives = -1 - random.integers(0, drawn.one, (count, 3))
    negatives[count // 8] = 47  # a click without draws names its own item, which has no mass
    history = random.integers(0, ITEMS, (count, 2)).astype("<i4")
    place = np.arange(count) // clicks_a_place
    positive = random.integers(0, ITEMS, count)
    positive[count // 8] = 47
    return pa.RecordBatch.from_pydict({
        "part": pa.array((place % 3).astype(np.int32)), "place": pa.array(place), "order": pa.array(np.arange(count)),
        "positive": pa.array(positive.astype(np.int32)),
        "history": wire.binary_array(history, np.arange(count + 1) * 8).cast(pa.binary()),
        "negatives": wire.binary_array(negatives.astype("<i8"), np.arange(count + 1) * 24).cast(pa.binary()),
    }), positive, history, negatives  # fmt: skip


def exchanged(found, batch, lost=None):
    """Rows by part, as Spark brings them to writing tasks: clicks that passed by, and answers; without those `lost`."""
    asked = list(found.asking(lambda batches: batches)([batch]))
    rows = pa.Table.from_batches(asked)
    answered = []
    for to in range(4):
        mine = rows.filter(pa.compute.equal(rows["to"], to)).sort_by("part").combine_chunks()
        if to != lost:
            answered += found._answering(mine.to_batches())
    table = pa.Table.from_batches(answered)
    for part in range(3):
        own = table.filter(pa.compute.equal(table["part"], part))
        yield own.sort_by([("place", "ascending")]).combine_chunks()


def taken(told, name, items):
    """One fragment an item."""
    return told.tables[name].runs(items, np.arange(len(items) + 1))


@pytest.mark.parametrize(("requests", "size"), [(1 << 20, 1 << 20), (10, 1)])
def test_a_writing_task_is_told_of_every_item_what_the_catalogue_says(stored, monkeypatch, requests, size):
    monkeypatch.setattr(lookups, "REQUESTS", requests)  # few: an item is asked for again after it was answered
    monkeypatch.setattr(lookups, "ANSWER_BYTES", size)
    found, drawn, expected = stored
    batch, positive, history, negatives = clicks(drawn)
    seen = 0
    for rows in exchanged(found, batch):
        table, told = found.told_to(rows)
        own = table["order"].to_numpy()
        seen += len(own)
        assert told.indices(table["positive"].to_numpy()).tolist() == positive[own].tolist()
        items = np.frombuffer(b"".join(table["history"].to_pylist()), "<i4")
        assert told.indices(items).tolist() == history[own].reshape(-1).tolist()
        items = np.frombuffer(b"".join(table["negatives"].to_pylist()), "<i4")
        named = negatives[own].reshape(-1)
        wanted = np.where(named < 0, drawn.items(np.maximum(-1 - named, 0)), named)
        assert told.indices(items).tolist() == wanted.tolist()
        assert told.proposal.mass.tolist() == drawn.mass[told.index].tolist()
        np.testing.assert_array_equal(told.log_expected(items, 3), drawn.log_expected(wanted, 3))
        assert told.cells.cell.tolist() == told.index.tolist()
        candidates = np.unique(np.r_[items, table["positive"].to_numpy()])
        for field in FIELDS:
            lengths, whole = f"{field.name}.lengths", expected[field.name]
            some = candidates if field.name == "content" else np.arange(len(told))
            index = pa.array(told.index[some])
            assert taken(told, field.name, some).equals(whole.values.take(index))
            assert (lengths in told.tables) == (whole.lengths is not None)
            if whole.lengths is not None:
                assert taken(told, lengths, some).equals(whole.lengths.take(index))
        assert taken(told, "index", candidates).equals(wire.int_fragments(told.index[candidates]))
    assert seen == 40


def test_what_a_record_mentions_several_times_is_answered_once(stored):
    found, drawn, _ = stored
    batch, *_ = clicks(drawn, clicks_a_place=40)
    (rows,) = [rows for rows in exchanged(found, batch) if rows.num_rows]
    answers = [np.frombuffer(row, "<i8").reshape(-1, 3) for row in rows["answer"].to_pylist() if row]
    index = np.concatenate(answers)[:, 0]
    assert len(np.unique(index)) == len(index)
    assert rows["features"].combine_chunks().nbytes < 60 * ITEMS


def test_histories_bring_their_own_features_alone(stored):
    found, drawn, _ = stored
    batch, positive, history, negatives = clicks(drawn, 3)
    assert negatives[0, 0] == positive[0] == 47
    negatives = negatives[1:]
    (rows,) = [rows for rows in exchanged(found, batch) if rows.num_rows]
    _, told = found.told_to(rows)
    bare = np.setdiff1d(history, np.r_[positive, drawn.items(-1 - negatives.reshape(-1))])
    assert len(bare) > 0
    content = taken(told, FIELDS[2].name, np.arange(len(told)))
    for number, index in enumerate(told.index.tolist()):
        assert len(content[number].as_py()) == (0 if index in bare else 8)


def test_a_part_that_does_not_answer_is_an_error_and_no_other_item(stored):
    found, drawn, _ = stored
    batch, *_ = clicks(drawn)
    parts = list(exchanged(found, batch, lost=1))
    with pytest.raises(ValueError, match="were not told"):
        list(map(found.told_to, parts))


def test_a_plan_with_partitions_is_served_by_them(stored):
    from pipelines.item_source import source_of

    found, *_ = stored
    assert source_of(found.plan) == found
    assert dataclasses.replace(found.plan, partitions=4) == found.plan
