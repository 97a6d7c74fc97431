"""Lists beside clicks through Spark: against a brute-force reading of the same logs, however they are cut."""

import io
import json
from collections import Counter, defaultdict
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config import Config
from schemas import configuration
from schemas.errors import ConfigurationError, DataError

pytestmark = pytest.mark.spark

START, HOUR = 900_000_000, 3_600
PROPOSAL = {
    "mixture": [
        {"popularity": {}, "share": 0.4}, {"impressions": {"window": "2h", "most": 3}, "share": 0.3},
        {"column": {}, "share": 0.15}, {"mined": {"path": "set below"}, "share": 0.15},
    ]
}  # fmt: skip


class Logs:
    """Clicks with a column of lists, impressions in milliseconds, and mined lists; identical clicks among them."""

    def __init__(self, folder):
        rng = np.random.default_rng(5)
        n, items = 260, 25
        user, hour, item = rng.integers(1, 9, n), rng.integers(0, 40, n), rng.integers(0, items, n)
        self.clicks = [
            (int(u), int(i), START + HOUR * int(h), None if rng.random() < 0.2 else self._ids(rng, items))
            for u, i, h in zip(user, item, hour, strict=True)
        ]
        self.clicks += [(u, i, t, self._ids(rng, items)) for u, i, t, _ in self.clicks[:20]]
        shown = rng.integers(0, n, 900)
        self.impressions = [
            (self.clicks[s][0] if rng.random() < 0.97 else 77, int(rng.integers(0, items + 1)),
             (self.clicks[s][2] - HOUR * int(rng.integers(-2, 5))) * 1000 + int(rng.integers(0, 1000)))
            for s in shown
        ]  # fmt: skip
        self.items = list(range(items))  # impressions and lists know one more
        # A mined list for two of three clicks; the last row is for none, and one id is of no item.
        self.occurrences = occurrences(self.clicks)
        self.mined = {key: [(key[1] + 1 + i) % items for i in range(4)] for key in self.occurrences if sum(key) % 3}
        self._write(folder)

    @staticmethod
    def _ids(rng, items):
        return rng.integers(0, items + 1, rng.integers(0, 6)).tolist()

    def _write(self, folder):
        self.paths = {name: str(folder / f"{name}.parquet") for name in ("clicks", "items", "impressions")}
        self.mined_path = folder / "mined"
        clicks = {
            "user_id": [c[0] for c in self.clicks], "item_id": [c[1] for c in self.clicks],
            "timestamp": [c[2] for c in self.clicks],
            "others": pa.array([c[3] for c in self.clicks], pa.list_(pa.int32())),
        }  # fmt: skip
        pq.write_table(pa.table(clicks), self.paths["clicks"])
        pq.write_table(pa.table({"item_id": pa.array(self.items)}), self.paths["items"])
        columns = zip(*self.impressions, strict=True)
        table = pa.table(dict(zip(("user_id", "item_id", "shown_at"), map(list, columns), strict=True)))
        pq.write_table(table, self.paths["impressions"])
        rows = [(*key, ids) for key, ids in self.mined.items()] + [(1, 1, 1, 1, [2, 3])]
        rows[0] = (*rows[0][:4], [*rows[0][4], 999])
        self.mined_path.mkdir()
        types = [pa.int64(), pa.int64(), pa.int64(), pa.int32(), pa.list_(pa.int64())]
        names = ("user", "item", "time", "occurrence", "negatives")
        arrays = [pa.array(list(values), kind) for values, kind in zip(zip(*rows, strict=True), types, strict=True)]
        for at in (0, 1):  # two files
            half = [array.take(pa.array(range(at, len(rows), 2))) for array in arrays]
            pq.write_table(pa.table(half, names), self.mined_path / f"part-{at}.parquet")
        (self.mined_path / "_mining.json").write_text(json.dumps({"time_unit": "seconds"}))

    def document(self, output, **sections):
        mixture = [dict(part) for part in PROPOSAL["mixture"]]
        mixture[3]["mined"] = {"path": str(self.mined_path)}
        return {
            "clicks": {
                "path": self.paths["clicks"], "user": "user_id", "item": "item_id", "time": "timestamp",
                "negatives": "others",
            },
            "items": {"path": self.paths["items"], "key": "item_id"},
            "impressions": {
                "path": self.paths["impressions"], "user": "user_id", "item": "item_id", "time": "shown_at"
            },
            "features": {"item": {"item_id": {"encode": "vocabulary"}}},
            "history": {"features": ["item_id"], "length": 3},
            "negatives": {"proposal": {"mixture": mixture}, "count": 7, "exclude": "positive"},
            "layout": {"kind": "row"},
            "split": {"kind": "leave_last"},
            "output": {"path": str(output)},
            "limits": {"rejected_share": 0.1},
            **sections,
        }  # fmt: skip


def occurrences(clicks):
    """(user, item, time, which of identical ones) of every click."""
    return [(*key, 1 + i) for key, count in Counter(c[:3] for c in clicks).items() for i in range(count)]


def training(logs):
    """(user, item, time) of every training click; of identical ones at the end, some may be held out."""
    by_user = defaultdict(list)
    for user, item, time, _ in logs.clicks:
        by_user[user].append((time, item))
    return [(u, i, t) for u, rows in by_user.items() for t, i in sorted(rows)[: -2 if len(rows) > 2 else None]]


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return Logs(tmp_path_factory.mktemp("logs"))


def lists_of(spark, document):
    """(user, item, time, split and the lists of every click, what became of the input)."""
    from pipelines import given, job
    from pipelines.given import Lists
    from pipelines.mapped import MappedItems
    from pipelines.publication import Publication
    from pipelines.rejects import Used

    config = configuration.validate(Config, document, "test")
    with Publication(config.output.path, False) as publication, ExitStack() as kept:
        used = Used(config.limits.rejected_share)
        items = job.read_items(spark, config, publication, used)
        assert isinstance(items, MappedItems)
        clicks, _ = job.read_clicks(spark, config, items, publication, used, kept)
        found, used.given = given.counted(clicks, Lists.of(config))
        keys = items.checked.table["key"].to_pylist()
        rows = [
            (row.user, keys[row.number], row.time, row.split,
             *(tuple(keys[i] for i in row[f"given_{name}"]) for name in ("impressions", "column", "mined")))
            for row in found.collect()
        ]  # fmt: skip
    return rows, used


@pytest.fixture(scope="module")
def found(spark, logs, tmp_path_factory):
    return lists_of(spark, logs.document(tmp_path_factory.mktemp("lists") / "out"))


def shown_by_hand(logs, train, user, item, time, window=2 * HOUR, most=3):
    near = [(t // 1000, i) for u, i, t in logs.impressions if u == user and i in logs.items]
    last = {i: (t, i) for t, i in sorted(near) if time - window <= t <= time}
    taken = {i for u, i, t in train if u == user and time - window <= t <= time} | {item}
    return tuple(i for _, i in sorted(place for i, place in last.items() if i not in taken))[-most:]


def test_impressions_are_what_was_shown_and_left_before_the_click(found, logs):
    train = training(logs)
    rows = [row for row in found[0] if row[3] == 0]
    assert Counter(row[:3] for row in rows) == Counter(train)
    for user, item, time, _, shown, _, _ in rows:
        assert shown == shown_by_hand(logs, train, user, item, time)
    assert sum(len(row[4]) for row in rows) > 100
    assert max(len(row[4]) for row in rows) == 3


def kept_ids(ids, item):
    return tuple(dict.fromkeys(i for i in ids or () if i < 25 and i != item))


def test_columns_and_mined_lists_are_those_of_their_own_click(found, logs):
    """Identical clicks may swap their lists with one another, but none is lost and none comes twice."""
    own, mined = defaultdict(list), defaultdict(list)
    for user, item, time, ids in logs.clicks:
        own[user, item, time].append(kept_ids(ids, item))
    for key in logs.occurrences:
        mined[key[:3]].append(tuple(logs.mined.get(key, ())))
    got = defaultdict(list)
    for user, item, time, split, *lists in found[0]:
        if split == 0:
            got[user, item, time].append(lists)
    for key, lists in got.items():
        for at, expected in ((1, own[key]), (2, mined[key])):
            there = Counter(each[at] for each in lists)
            assert there <= Counter(expected), (key, at)
            if len(lists) == len(expected):
                assert there == Counter(expected)
    assert sum(map(len, got.values())) > 200


def test_held_out_clicks_have_no_lists(found):
    rows = [row for row in found[0] if row[3] > 0]
    assert len(rows) == 16
    assert all(row[4:] == ((), (), ()) for row in rows)


def test_what_is_left_out_is_counted(found, logs):
    rows, used = found
    train = [row for row in rows if row[3] == 0]
    assert used.rows["impressions"]["read"] == 900
    unknown = sum(i == 25 for _, i, _ in logs.impressions)
    assert used.rejected["impressions.unknown_item"] == used.rows["impressions"]["rejected"] == unknown > 5
    figures = used.given
    for name, at in (("impressions", 4), ("column", 5), ("mined", 6)):
        assert figures[name]["clicks"] == len(train)
        assert figures[name]["items"] == sum(len(row[at]) for row in train)
    assert figures["impressions"]["with_list"] == sum(bool(row[4]) for row in train)
    assert figures["mined"]["with_list"] == sum(bool(row[6]) for row in train)
    assert figures["mined"]["unknown"] <= 1
    # Which of some identical clicks is held out decides a few of these.
    ids = [i for c in logs.clicks for i in c[3] or ()]
    for reason in ("unknown", "positive", "repeated"):
        assert figures["column"][reason] > 0
    left = sum(figures["column"][reason] for reason in ("items", "unknown", "positive", "repeated"))
    assert 0.85 * len(ids) < left <= len(ids)
    assert figures["column"]["unknown"] <= sum(i == 25 for i in ids)


def test_partitions_files_and_their_order_do_not_matter(spark, changed, logs, found, tmp_path):
    table = pq.read_table(logs.paths["clicks"])
    shuffled = table.take(pa.array(np.random.default_rng(1).permutation(table.num_rows)))
    (tmp_path / "clicks").mkdir()
    for at in range(3):
        pq.write_table(shuffled.slice(at * 100, 100), tmp_path / "clicks" / f"{at}.parquet")
    document = logs.document(tmp_path / "out")
    document["clicks"]["path"] = str(tmp_path / "clicks")
    with changed({"spark.sql.shuffle.partitions": "5"}):
        rows, used = lists_of(spark, document)
    assert sorted(rows) == sorted(found[0])
    assert used.given == found[1].given


def test_a_whole_job_draws_from_the_lists(spark, jobs, logs, found, read_clicks, read_records, tmp_path):
    from schemas import codec

    dataset = jobs.run(spark, logs.document(tmp_path / "out"))
    records = [codec.decode(record) for _, record in read_records(dataset, "items")]
    ids = {int(record["item.index"][0]): int(record["item.key"][0]) for record in records}
    lists = defaultdict(list)
    for user, item, time, split, *rest in found[0]:
        if split == 0:
            lists[item, time].append((user, rest))
    from_lists = 0
    for click in read_clicks(dataset):
        positive, *negatives = (ids[candidate["index"]] for candidate in click["candidates"])
        # Records tell no user here; one of the clicks of this item and time must fit, with 2, 1 and 1 slots.
        fitting = [
            rest for _, rest in lists[positive, click["time"]]
            if all(
                len(set(negatives) & set(own)) >= min(slots, len(own))
                for own, slots in zip(rest, (2, 1, 1), strict=True)
            )
        ]  # fmt: skip
        assert fitting
        from_lists += bool(set(negatives) & set(fitting[0][0]))
    assert from_lists > 50
    assert dataset.manifest.statistics["given"] == found[1].given


def changed(document, path, value):
    *parents, last = path.split(".")
    node = document
    for parent in parents:
        node = node[parent]
    node[last] = value
    return document


def test_inputs_that_give_no_lists_are_an_error_that_names_the_option(spark, logs, tmp_path):
    from pipelines import inputs, intake, mined
    from pipelines.given import Keys

    text = tmp_path / "clicks.csv"
    text.write_text("user_id,item_id,timestamp,others\n1,1,900000000,1|2|3\n")
    words = tmp_path / "words.parquet"
    rows = {"user_id": [1], "item_id": [1], "timestamp": [START], "others": pa.array([["a"]])}
    pq.write_table(pa.table(rows), words)
    (tmp_path / "_mining.json").write_text('{"time_unit": "milliseconds"}')
    numbers = spark.createDataFrame(pa.table({"key": pa.array([1]), "number": pa.array([0], pa.int32())}))

    def read(document):
        config = configuration.validate(Config, document, "test")
        clicks = inputs.checked_clicks(inputs.read(spark, config.clicks, "clicks"), config.clicks, numbers)
        assert config.impressions is not None
        intake.impressions(spark, config.impressions, numbers, clicks)
        mined.rows(str(tmp_path), clicks, numbers, "seconds", Keys())

    for path, value, told in [
        ("clicks.path", str(text), r"clicks\.negatives: expected lists .*got string; .*give Parquet, ORC or JSON"),
        ("clicks.path", str(words), r"clicks\.negatives: .*array<string>; items\.key is bigint"),
        ("clicks.negatives", "nothing", r"clicks\.negatives: no column 'nothing'"),
        ("impressions.user", "nobody", r"impressions\.user: no column 'nobody'"),
        ("impressions.time", "never", r"impressions\.time: no column 'never'"),
        ("impressions.path", "/nowhere.parquet", r"impressions\.path: nothing to read"),
        ("impressions.filter", "user_id < 0", r"impressions: none of 0 rows"),
        ("limits.rejected_share", 0.1, r"mined with times in milliseconds, clicks\.time is in seconds"),
    ]:
        with pytest.raises(DataError, match=told) as raised:
            read(changed(logs.document("x"), path, value))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("impressions", None, "impressions has nothing to draw from; give impressions"),
        ("clicks.negatives", None, r"column has nothing to draw from; give clicks\.negatives"),
        ("negatives.proposal", {"uniform": {}}, "impressions: given, but not drawn from"),
    ],
)
def test_strategies_and_their_inputs_come_together(logs, path, value, told):
    with pytest.raises(ConfigurationError, match=told):
        configuration.validate(Config, changed(logs.document("x"), path, value), "test")


def test_a_mined_folder_that_is_not_there_is_found_before_spark_starts(logs, tmp_path, monkeypatch):
    import yaml
    from click.testing import CliRunner

    from pipelines import prebatch, session

    monkeypatch.setattr(session, "spark_session", lambda name: pytest.fail("Spark was started"))
    document = logs.document(tmp_path / "out")
    document["negatives"]["proposal"]["mixture"][3]["mined"]["path"] = str(tmp_path / "missing")
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(document))
    run = CliRunner().invoke(prebatch.main, ["--config", str(tmp_path / "job.yaml")])
    assert run.exit_code == 2
    assert "mined.path" in run.output
    assert "write one with pipelines/mine.py" in run.output


def test_a_dry_run_reads_impressions_too(spark, logs, tmp_path):
    from pipelines import dry_run
    from pipelines.progress import Progress

    config = configuration.validate(Config, logs.document(tmp_path / "out"), "test")
    text = dry_run.text(spark, config, Progress(io.StringIO(), live=False))
    assert "impressions" in text
    assert "rows of impressions would be rejected: unknown_item" in text
