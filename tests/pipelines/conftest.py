"""A five-item dataset written by hand, without Spark: the same clicks in every layout.

In a sequence, whose histories are what a window has before a click, the first and the third click are one window.
"""

import gzip
from typing import Any, Literal

import numpy as np
import pytest

from schemas import codec, tfrecord, wire
from schemas.files import file_crc32c, write_atomically
from schemas.manifest import MANIFEST, Dataset, Manifest, Shard, Split, StoredFile
from schemas.record import Field, RecordSpec

ITEMS: list[dict[str, Any]] = [
    {"key": "i1", "title": "Amélie", "item_id": 1, "genres": [2, 1], "year": 3, "taste": [0.5, -1.0], "count": 9},
    {
        "key": "i2",
        "title": "<script>alert('x')</script>",
        "item_id": 2,
        "genres": [],
        "year": 0,
        "taste": [0, 1],
        "count": 4,
    },
    {"key": "i3", "title": "", "item_id": 3, "genres": [1], "year": 1, "taste": [2, 2], "count": 2},
    {"key": "i4", "title": "Esc\x1b[2J\nape", "item_id": 4, "genres": [0], "year": 2, "taste": [3, 0], "count": 1},
    {"key": "i5", "title": "Unclicked", "item_id": 0, "genres": [2], "year": 2, "taste": [0, 0], "count": 0},
]
CLICKS: list[dict[str, Any]] = [
    {
        "user_id": 1,
        "likes": [2, 1],
        "age": 2,
        "history": [3],
        "items": [0, 3, 4],
        "log_allowed": -0.05,
        "log_q": [0.0, 0.35, 0.45],
        "time": 893286638,
    },
    {
        "user_id": 2,
        "likes": [],
        "age": 0,
        "history": [0, 3],
        "items": [1, 4, 2],
        "log_allowed": -0.1,
        "log_q": [0.1, 0.5, 0.3],
        "time": 893286639,
    },
    {
        "user_id": 1,
        "likes": [2, 1],
        "age": 2,
        "history": [],
        "items": [2, 1, 1],
        "log_allowed": 0.0,
        "log_q": [0.2, 0.1, 0.1],
        "time": 893286640,
    },
]
POOL = [3, 1, 4]
HITS = [(1, 0), (2, 1)]
RUNS = [(0, 2, 2), (1, 1, 1), (2, 0, 1)]  # (click, slot, clicks) where the third click comes second
VOCABULARY = {
    "user_id": ["[OOV]", "u<1>", "u2"],
    "likes": ["[OOV]", "jazz", "back\\slash\nbreak"],
    "item_id": ["[OOV]", "i1", "i2", "i3", "i4"],
    "genres": ["[OOV]", "Drama & <b>", "Comedy"],
}
USER = (
    Field("user_id", "vocabulary", "user", size=3),
    Field("likes", "vocabulary", "likes", "list", 3),
    Field("age", "buckets", "age", size=4, boundaries=(18.0, 35.0)),
)
ITEM = (
    Field("item_id", "vocabulary", "id", size=5),
    Field("genres", "vocabulary", "genres", "list", 3),
    Field("year", "buckets", "year", size=4, boundaries=(1990.0, 2000.0)),
    Field("taste", "none", "taste", 2),
)


def spec_of(kind):
    layout: Literal["row", "block", "sequence"] = "block" if kind == "pool" else kind
    per: Literal["click", "block"] = "block" if kind in ("pool", "sequence") else "click"
    return RecordSpec(USER, ITEM, ("item_id", "genres"), 5, layout, {"row": 1, "block": 2, "sequence": 4}[layout],
                      len(POOL) if per == "block" else 2, per, window=2 if kind == "sequence" else 0)  # fmt: skip


def fragment(column, values):
    """The payload of one record's key."""
    if column.dtype == "bytes":
        pieces = wire.bytes_fragments(values)
    elif column.dtype == "float32":
        pieces = wire.float_fragments(np.array(values, np.float32))
    else:
        pieces = wire.int_fragments(np.array(values, np.int64))
    return wire.regrouped(pieces, np.array([0, len(pieces)]))


def encoded(columns, values):
    return codec.encode(columns, {c.key: fragment(c, values[c.key]) for c in columns}).joined()[0].as_py()


def features(side, fields, rows):
    values = {}
    for field in fields:
        flat = [row[field.name] for row in rows]
        if field.shape == "list":
            values[f"{side}.{field.name}.lengths"] = [len(one) for one in flat]
        nested = field.shape != "scalar"
        values[f"{side}.{field.name}"] = [v for one in flat for v in one] if nested else flat
    return values


def click_values(spec, clicks):
    earlier = [ITEMS[i] for click in clicks for i in click["history"]]
    return {
        **features("user", spec.user, clicks),
        **features("history", spec.history_fields, earlier),
        "click.time": [click["time"] for click in clicks],
        "click.weight": [1.0 for _ in clicks],
    }


def train_records(kind, spec):
    if kind == "row":
        for click in CLICKS:
            items = features("item", spec.item, [ITEMS[i] for i in click["items"]])
            yield (
                1,
                {**click_values(spec, [click]), **items, "item.index": click["items"], "item.log_q": click["log_q"]},
            )
        return
    if kind == "sequence":
        yield 3, sequence_values(spec)
        return
    for begin in (0, 2):
        clicks = CLICKS[begin : begin + 2]
        used = [i for click in clicks for i in (click["items"][:1] if kind == "pool" else click["items"])]
        table = sorted({*used, *(POOL if kind == "pool" else [])})
        earlier = sorted({i for click in clicks for i in click["history"]})
        values = {**click_values(spec, clicks), **features("item", spec.item, [ITEMS[i] for i in table])}
        values |= features("history", spec.history_fields, [ITEMS[i] for i in earlier])
        values |= {"history.index": earlier, "history.lengths": [len(click["history"]) for click in clicks]}
        values["block.history"] = [earlier.index(i) for click in clicks for i in click["history"]]
        values |= {"item.index": table, "block.positive": [table.index(click["items"][0]) for click in clicks]}
        values["item.log_q"] = [i / 10 for i in table]
        if kind == "pool":
            hits = [(click - begin, slot) for click, slot in HITS if begin <= click < begin + 2]
            values["block.negatives"] = [table.index(i) for i in POOL]
            values |= {"block.hit_click": [c for c, _ in hits], "block.hit_pool": [s for _, s in hits]}
        else:
            values["block.negatives"] = [table.index(i) for click in clicks for i in click["items"][1:]]
            values["block.log_allowed"] = [click["log_allowed"] for click in clicks]
        yield len(clicks), values


def sequence_values(spec):
    """One record: the two clicks of the first user, then the other's."""
    clicks = [CLICKS[0], CLICKS[2], CLICKS[1]]
    table = sorted({*POOL, *(click["items"][0] for click in clicks)})
    values = {**click_values(spec, clicks), **features("item", spec.item, [ITEMS[i] for i in table])}
    values |= features("user", spec.user, [CLICKS[0], CLICKS[1]])
    values |= {"sequence.lengths": [2, 1], "sequence.item": [table.index(click["items"][0]) for click in clicks]}
    values |= {"item.index": table, "item.log_q": [i / 10 for i in table]}
    values["block.negatives"] = [table.index(i) for i in POOL]
    for position, key in enumerate(("block.hit_click", "block.hit_pool", "block.hit_length")):
        values[key] = [run[position] for run in RUNS]
    return values


def store(root, path, records, clicks, gzipped=False):
    data = tfrecord.frames(records)
    write_atomically(root / path, gzip.compress(data) if gzipped else data)
    return Shard(path, (root / path).stat().st_size, file_crc32c(root / path), len(records), clicks)


def written(root, kind, gzipped=False):
    spec = spec_of(kind)
    ending = ".tfrecord.gz" if gzipped else ".tfrecord"
    pairs = list(train_records(kind, spec))
    shards = [
        store(root, f"train/part-{n}{ending}", [encoded(spec.train_columns(), values)], count, gzipped)
        for n, (count, values) in enumerate(pairs)
    ]
    last = CLICKS[1]
    held_out = {**click_values(spec, [last]), **features("item", spec.item, [ITEMS[1]]), "item.index": [1]}
    held_out |= {"user.key": ["zoë".encode()], "history.index": last["history"], "exclude.index": [0, 2, 3]}
    test = store(root, f"test/part-0{ending}", [encoded(spec.held_out_columns(), held_out)], 1, gzipped)
    rows = []
    for index, item in enumerate(ITEMS):
        texts: dict[str, Any] = {f"item.{name}": [item[name].encode()] for name in ("key", "title")}
        values: dict[str, Any] = {
            **features("item", spec.item, [item]),
            **texts,
            "item.index": [index],
            "item.count": [item["count"]],
        }
        rows.append(encoded(spec.item_columns(), values))
    catalogue = store(root, f"items/part-0{ending}", rows, 0, gzipped)
    vocabulary = {}
    for name, entries in VOCABULARY.items():
        escaped = [value.replace("\\", "\\\\").replace("\n", "\\n") for value in entries]
        write_atomically(root / f"vocabulary/{name}.txt", "".join(f"{value}\n" for value in escaped).encode())
        path = root / f"vocabulary/{name}.txt"
        vocabulary[name] = StoredFile(f"vocabulary/{name}.txt", path.stat().st_size, file_crc32c(path))
    negatives = {
        "proposal": {"uniform": {}},
        "per": spec.per,
        "count": spec.negatives,
        "exclude": "history",
        "epochs": 1,
    }
    manifest = Manifest(
        record=spec,
        splits={"train": Split.of(shards), "validation": Split.of([]), "test": Split.of([test])},
        items=Split.of([catalogue]),
        vocabulary=vocabulary,
        files={},
        config={
            "items": {"key": "id"},
            "negatives": {**negatives, "seed": 7, "shortage": "error"},
            "layout": {"kind": spec.layout, "clicks": spec.clicks}
            if kind != "sequence"
            else {"kind": kind, "positions": spec.clicks, "window": spec.window},
            "history": {"features": list(spec.history), "length": 5, "ties": "exclude"},
            "split": {"kind": "time", "test_from": "<b>1998</b>"},
        },
        seed=7,
        content_digest="d" * 64,
        time_unit="seconds",
        proposal={
            "declared": [{"strategy": "uniform", "share": 1.0}],
            "observed": {"draws": 6, "chi_square": 1.5, "degrees": 4, "p_value": 0.83, "kl": 0.1},
            "clicks_without_draws": 0,
        },
        rejected={"clicks.unknown_item": 3, "clicks.null_user<i>": 1},
        rows={"clicks": {"read": 8, "used": 4, "rejected": 4}, "items": {"read": 5, "used": 5, "rejected": 0}},
        unmatched_items=2,
        statistics={
            "items": 5,
            "items_clicked": 4,
            "unmatched_users": 1,
            "bytes_per_click": 99.5,
            "decile_items": [1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
            "positives_by_decile": [1.0, 1.0, 1.0, 0, 0, 0, 0, 0, 0, 0],
            "negatives_by_decile": [0, 2.0, 1.0, 1.0, 2.0, 0, 0, 0, 0, 0],
            "draws_by_cell": {
                "rank": [0, 1, 3], "items": [1, 2, 2], "observed": [0, 3, 3], "expected": [1.2, 2.4, 2.4],
            },
            "history_lengths": {"edges": [0, 1, 2, 5, 10], "clicks": [1, 1, 1, 0, 0]},
        },
        versions={"python": "3.11"},
        timings_seconds={"items": 1.0, "total": 65.0},
        run="r<1>",
        created="2026-11-22T10:00:00+00:00",
    )  # fmt: skip
    write_atomically(root / MANIFEST, manifest.serialized())
    return Dataset.open(root)


@pytest.fixture
def small_dataset(tmp_path):
    """A function that writes the dataset as `row`, `block`, `pool` or `sequence` and opens it."""

    def write(kind, gzipped=False):
        return written(tmp_path / kind, kind, gzipped)

    return write


@pytest.fixture
def written_items():
    return ITEMS


@pytest.fixture
def written_clicks():
    return CLICKS
