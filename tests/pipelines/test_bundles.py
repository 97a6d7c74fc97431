"""Clicks come out of bundles as they went in: each once, in the order of its shard, few of them at a time."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines import bundles
from pipelines.plan import NO_CLICK, range_of, signed

SHARDS, EPOCHS, RANGES, CLASSES = 2, 2, 5, (1, 2, 4)


def plan_of(layout: str, ranges: int = RANGES, **record: Any) -> Any:
    spec = {"layout": layout, "user": (), "history_length": 0, "negatives": 20, "per": "click", "log_q": "item"}
    return SimpleNamespace(
        shards=SHARDS, ranges=ranges, drawn_epochs=range(EPOCHS), classes=CLASSES if layout == "sequence" else (1,),
        record=SimpleNamespace(**spec | record),
    )  # fmt: skip


def clicks(layout: str, count: int, seed: int) -> pa.RecordBatch:
    """Rows as they are drawn, in any order: held-out ones among them, and the one that is none at the end."""
    rng = np.random.default_rng(seed)
    order = rng.integers(0, 1 << 64, count, np.uint64)
    group = rng.integers(0, EPOCHS + 2, count)  # sets of negatives, validation, test
    place, shard = (order >> np.uint64(1)).astype(np.int64), range_of(order, SHARDS)
    position = np.zeros(count, np.int64)
    if layout != "row":
        kinds = len(CLASSES) if layout == "sequence" else 1
        for one in range(EPOCHS):
            own = np.flatnonzero(group == one)
            rank = np.argsort(np.argsort(order[own]))
            if layout == "sequence":  # windows of three clicks
                order[own] = np.sort(order[own])[rank // 3 * 3]
                position[own], rank = rank % 3, rank // 3
            kind, record = rank % kinds, rank // kinds // 2
            place[own] = (record << 32) // (record.max(initial=0) + 1) * kinds + kind
            shard[own] = (record + kind) % SHARDS
    columns: dict[str, Any] = {
        "part": (group * SHARDS + shard).astype(np.int32), "place": place, "order": signed(order),
        "told": pa.array([bytes([byte]) * length for byte, length in rng.integers(0, 90, (count, 2))], pa.binary()),
    }  # fmt: skip
    if layout == "sequence":
        columns["position"] = position.astype(np.int32)
    rows = pa.table(columns)
    nothing = {"part": [0], "place": [NO_CLICK], "told": [b"expected"]}
    last = pa.table(
        {
            name: pa.array(nothing.get(name, [None]), kind)
            for name, kind in zip(rows.column_names, rows.schema.types, strict=True)
        }
    )
    return pa.concat_tables([rows, last]).combine_chunks().to_batches()[0]


def shuffled(packed: list[pa.RecordBatch], seed: int) -> dict[int, list[pa.RecordBatch]]:
    """What Spark makes of the tasks' bundles: by part, sorted by range, those of a range in any order."""
    table = pa.Table.from_batches(packed)
    table = table.take(np.random.default_rng(seed).permutation(len(table))).combine_chunks()
    table = table.sort_by("range").combine_chunks()
    parts = table["part"].unique().to_pylist()
    return {part: table.filter(pa.compute.equal(table["part"], part)).to_batches(max_chunksize=3) for part in parts}


@pytest.mark.parametrize("layout", ["row", "block", "sequence"])
def test_each_shard_has_its_clicks_in_their_order(layout, monkeypatch):
    monkeypatch.setattr(bundles, "HELD_BYTES", 3_000)
    monkeypatch.setattr(bundles, "BUNDLE_BYTES", 700)
    rows = clicks(layout, 600, seed=4)
    tasks = [rows.slice(begin, 130).slice(0, 130) for begin in range(0, len(rows), 130)]
    packed = [
        batch
        for task in tasks
        for batch in bundles.packed((task.slice(at, 40) for at in range(0, len(task), 40)), plan_of(layout))
    ]
    assert max(len(value.as_py()) for batch in packed for value in batch["rows"]) < 2_000
    found = []
    for part, batches in shuffled(packed, seed=5).items():
        opened = pa.Table.from_batches(bundles.opened(iter(batches), rows.schema)).to_pylist()
        assert {row["part"] for row in opened} == {part}
        if part == 0:
            assert (opened[0]["place"], opened[0]["told"]) == (NO_CLICK, b"expected")
        keys = [(row["place"], row["order"], row.get("position", 0)) for row in opened if row["place"] >= 0]
        assert keys == sorted(keys)
        found += opened

    def same(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple((value is not None, value) for value in row.values())

    assert sorted(map(same, found)) == sorted(map(same, rows.to_pylist()))


@pytest.mark.parametrize("layout", ["row", "block", "sequence"])
def test_a_task_that_writes_sorts_a_few_clicks_at_a_time(layout, monkeypatch):
    monkeypatch.setattr(bundles, "RANGE_CLICKS", 500)
    count = bundles.ranges(plan_of(layout), 20_000)
    assert count == -(-20_000 // SHARDS // 500)
    rows = clicks(layout, 50_000, seed=6)
    for batches in shuffled(list(bundles.packed([rows], plan_of(layout, count))), seed=7).values():
        sizes = [len(batch) for batch in bundles.opened(iter(batches), rows.schema)]
        assert max(sizes) < 500 * 1.5
        assert count <= len(sizes) <= count + 1  # one with the row that is no click


def test_the_more_a_click_brings_the_fewer_are_sorted_at_a_time():
    few = bundles.ranges(plan_of("block", negatives=5), 10_000_000)
    many = bundles.ranges(plan_of("block", negatives=1_000), 10_000_000)
    pool = bundles.ranges(plan_of("block", negatives=1_000, per="block"), 10_000_000)
    assert few == pool == -(-10_000_000 // SHARDS // bundles.RANGE_CLICKS) < many / 7
