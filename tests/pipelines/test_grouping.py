"""Groups are never taken apart, rows never lost, whatever the batches; and records of rows are cut at all."""

import itertools

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.grouping import whole_groups, whole_users


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 9), max_size=12), st.lists(st.integers(0, 7), max_size=20), st.integers(1, 12))
def test_tables_hold_whole_groups_in_order(sizes, cuts, rows):
    groups = [number for number, size in enumerate(sizes) for _ in range(size)]
    batches, begin = [], 0
    for cut in [*cuts, len(groups)]:
        batches.append(pa.record_batch({"g": pa.array(groups[begin : begin + cut], pa.int64())}))
        begin += cut
    tables = [table["g"].to_pylist() for table in whole_groups(iter(batches), "g", rows)]
    assert [value for table in tables for value in table] == groups
    for earlier, later in itertools.pairwise(tables):
        assert earlier[-1] != later[0]
        assert len(earlier) >= rows
        # Not held back either: without its last group it would have been too small.
        assert len(earlier) - earlier.count(earlier[-1]) < rows


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3, st.integers(-3, 3)), max_size=12), st.integers(1, 12))
def test_clicks_alike_in_user_time_and_item_are_put_in_the_order_of_their_keys(rows, least):
    rows = sorted(rows, key=lambda row: row[:3])  # as Spark sorts them, those alike in any order
    names = ("user", "time", "number", "click_key")
    columns = [pa.array([row[at] for row in rows], pa.int64()) for at in range(4)]
    found = list(whole_users(pa.table(columns, names).to_batches(max_chunksize=5), least))
    assert [tuple(row[name] for name in names) for table in found for row in table.to_pylist()] == sorted(rows)


@pytest.mark.spark
@pytest.mark.parametrize("kind", ["row", "block"])
def test_records_are_made_a_bounded_number_of_clicks_at_a_time(spark, jobs, world_job, monkeypatch, kind):
    """A shard is as large as the data; the memory of the task that writes it must not be."""
    from pipelines import job, negatives, records

    kept: dict = {}

    def collected(clicks, plan):
        drawn = clicks.sortWithinPartitions("user", "time", "number", "click_key").mapInArrow(
            lambda batches: negatives.with_negatives(batches, plan), negatives.row_schema(plan)
        )
        parts = drawn.repartition(1).sortWithinPartitions("part", "place", "order").toArrow()
        sizes: list = []
        monkeypatch.setattr(records, "clicks_a_step", lambda plan: 20)
        original = records._Builder.records

        def counted(self, chunk, split, epoch):
            sizes.append(len(chunk))
            return original(self, chunk, split, epoch)

        monkeypatch.setattr(records._Builder, "records", counted)
        for part in sorted(set(parts["part"].to_pylist())):
            own = parts.filter(pa.compute.equal(parts["part"], part)).combine_chunks()
            list(records.written(own.to_batches(max_chunksize=33), plan))
        kept["sizes"] = sizes
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "write_records", collected)
    with pytest.raises(KeyboardInterrupt):
        jobs.run(spark, world_job(layout={"kind": "row"} if kind == "row" else {"kind": "block", "clicks": 32}))
    assert sum(kept["sizes"]) > 1000
    assert max(kept["sizes"]) <= (21 if kind == "row" else 20 + 32)
