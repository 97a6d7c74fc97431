"""Three days in a row with new items each day: datasets that go on from one another, and a model that follows them."""

import io
import itertools
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas import codec, configuration
from schemas.errors import ConfigurationError
from schemas.manifest import Dataset

pytestmark = [pytest.mark.e2e, pytest.mark.spark]

DAY = 86_400
FIRST = 1_000_000_000 // DAY  # 2001-09-09
DATES = ("2001-09-12", "2001-09-13", "2001-09-14")
TAGS = ("red", "green", "blue", "grey", "pink", "gold")
GONE = 107  # leaves the item table on the last day


class Shop:
    """Clicks of six days; each of the last three brings three items, a tag and two users. Some clicks come late."""

    def __init__(self, root):
        rng = np.random.default_rng(3)
        self.root, rows = root, []
        self.items: dict[int, dict[str, Any]] = {}
        for number in range(20):
            day = (number - 11) // 3 + 3 if number > 10 else 0
            tags = [TAGS[number % 3]] + ([TAGS[day]] if day > 2 else [])
            self.items[100 + number] = {"item_id": 100 + number, "tags": tags, "price": float(number), "day": day}
        for day in range(6):
            there = [item for item in self.items.values() if item["day"] <= day]
            for _ in range(120):
                user = int(rng.integers(0, 12 + 2 * max(0, day - 2)))
                mine = [item for item in there if item["item_id"] % 3 == user % 3 or rng.random() < 0.2]
                item = mine[int(rng.integers(len(mine)))]["item_id"]
                if item == GONE and day == 5:
                    continue
                time = (FIRST + day) * DAY + int(rng.integers(DAY))
                late = int(rng.integers(1, 4)) if rng.random() < 0.1 else 0
                rows.append((user, item, time, FIRST + day + late))
        self.clicks = rows
        columns = [list(column) for column in zip(*rows, strict=True)]
        arrived = pa.array(columns[3], pa.int32()).cast(pa.date32())
        table = pa.table([*columns[:3], arrived], names=["user_id", "item_id", "timestamp", "arrived"])
        pq.write_table(table, root / "clicks.parquet")
        for day, date in enumerate(DATES, 3):
            folder = root / f"items/dt={date}"
            folder.mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(list(self.table(day).values())), folder / "items.parquet")

    def table(self, day):
        """The item table of a day."""
        return {key: item for key, item in self.items.items() if item["day"] <= day and (key != GONE or day < 5)}

    def job(self, date, output, **sections):
        return {
            "date": date,
            "inherit": "previous",
            "clicks": {
                "path": f"{self.root}/clicks.parquet", "user": "user_id", "item": "item_id", "time": "timestamp",
                "window": "4d", "arrived": "arrived", "watermark": "1d",
            },
            "items": {"path": f"{self.root}/items/dt={{date}}/items.parquet", "key": "item_id"},
            "features": {
                "user": {"user_id": {"encode": "vocabulary"}},
                "item": {
                    "item_id": {"encode": "vocabulary"}, "tags": {"encode": "vocabulary", "shape": "list"},
                    "price": {"encode": "buckets", "quantiles": 4},
                },
            },
            "history": {"features": ["item_id", "tags"], "length": 5},
            "negatives": {
                "proposal": {"mixture": [
                    {"popularity": {}, "share": 0.5}, {"uniform": {}, "share": 0.3}, {"log_uniform": {}, "share": 0.2},
                ]},
                "count": 4, "epochs": 2, "seed": 3, "exclude": "positive",
            },
            "layout": {"kind": "block", "clicks": 32},
            "split": {"kind": "time", "test_from": "-1d"},
            "output": {"path": str(output), "shards": 2},
            "limits": {"rejected_share": 0.2},
            **sections,
        }  # fmt: skip


def ran(spark, document, overwrite=False):
    """A day's dataset."""
    from pipelines import job
    from pipelines.config import Config
    from pipelines.days import for_date
    from pipelines.progress import Progress

    config = for_date(configuration.validate(Config, document, "test"))
    return job.run(spark, config, overwrite, Progress(io.StringIO(), live=False))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("days") / "out"


@pytest.fixture(scope="module")
def days(spark, shop, output):
    return [ran(spark, shop.job(date, output)) for date in DATES]


def catalogue(dataset, read_records):
    """Decoded items, by item_index."""
    found = [codec.decode(record) for _, record in read_records(dataset, "items")]
    assert [int(item["item.index"][0]) for item in found] == list(range(len(found)))
    return found


def test_indices_never_change_and_new_ones_follow(days, shop, read_records):
    for number, (before, after) in enumerate(itertools.pairwise(days), 4):
        old, new = catalogue(before, read_records), catalogue(after, read_records)
        assert [item["item.key"] for item in new[: len(old)]] == [item["item.key"] for item in old]
        added = {key for key, item in shop.items.items() if item["day"] == number}
        assert {int(item["item.key"][0]) for item in new[len(old) :]} == added
        counts = [int(item["item.count"][0]) for item in new[len(old) :]]
        assert counts == sorted(counts, reverse=True)
        for name in ("user_id", "item_id", "tags"):
            values = after.vocabulary(name)
            assert values[: len(before.vocabulary(name))] == before.vocabulary(name)
        assert len(after.vocabulary("item_id")) > len(before.vocabulary("item_id"))
        assert before.manifest.record.item[2].boundaries == after.manifest.record.item[2].boundaries
        told = after.manifest.statistics["inherited"]
        assert (after.root / told["path"]).resolve() == before.root.resolve()
        assert told["content_digest"] == before.manifest.content_digest
    assert "inherited" not in days[0].manifest.statistics


def test_a_day_reads_its_window_as_far_as_it_had_arrived(days, shop):
    for day, dataset in enumerate(days, 3):
        begin, end = (FIRST + day - 3) * DAY, (FIRST + day + 1) * DAY
        read = [c for c in shop.clicks if begin <= c[2] < end and c[3] < FIRST + day + 2]
        known = [c for c in read if c[1] in shop.table(day)]
        manifest = dataset.manifest
        assert manifest.rows["clicks"] == {"read": len(read), "used": len(known), "rejected": len(read) - len(known)}
        assert manifest.splits["test"].clicks == sum(c[2] >= end - DAY for c in known)
    assert days[2].manifest.unmatched_items == 1


def test_every_candidate_has_its_own_row_and_what_is_gone_is_never_drawn(days, shop, read_clicks, read_records):
    for day, dataset in enumerate(days, 3):
        items = catalogue(dataset, read_records)
        ids = [int(item["item.key"][0]) for item in items]
        vocabulary = {name: dict(enumerate(dataset.vocabulary(name)[1:], 1)) for name in ("item_id", "tags")}
        seen = set()
        for click in read_clicks(dataset):
            for candidate in click["candidates"]:
                item = shop.table(day)[ids[candidate["index"]]]
                seen.add(item["item_id"])
                assert vocabulary["item_id"].get(candidate["item_id"], str(item["item_id"])) == str(item["item_id"])
                assert [vocabulary["tags"].get(tag) for tag in candidate["tags"]] == [
                    tag if tag in vocabulary["tags"].values() else None for tag in item["tags"]
                ]
        assert seen == set(shop.table(day))
    (gone,) = (item for item in catalogue(days[2], read_records) if int(item["item.gone"][0]))
    assert (int(gone["item.key"][0]), int(gone["item.count"][0])) == (GONE, 0)
    before = catalogue(days[1], read_records)[int(gone["item.index"][0])]
    assert "item.gone" not in before
    assert all(np.array_equal(gone[f"item.{name}"], before[f"item.{name}"]) for name in ("item_id", "tags", "price"))


@pytest.mark.beam
def test_an_audit_finds_nothing(days, shop):
    from pipelines.audit import audited

    found = audited(days[2], f"{shop.root}/items/dt={DATES[2]}/items.parquet")
    assert not found.found, found


def test_the_same_chain_gives_the_same_digests_in_any_order_of_runs(spark, days, shop, output, tmp_path):
    """A rerun replaces a day; days that stand behind it are no earlier ones; another folder gives the same."""
    again = ran(spark, shop.job(DATES[1], output), overwrite=True)
    assert again.manifest.content_digest == days[1].manifest.content_digest
    assert again.manifest.run != days[1].manifest.run
    alone = ran(spark, shop.job(DATES[2], tmp_path / "alone", inherit=str(again.root)))
    assert alone.manifest.content_digest == days[2].manifest.content_digest
    fresh = ran(spark, shop.job(DATES[2], tmp_path / "fresh"))  # no day before it there
    assert fresh.manifest.content_digest != days[2].manifest.content_digest
    assert "inherited" not in fresh.manifest.statistics


def test_a_job_file_that_gives_indices_another_meaning_is_refused(spark, days, shop, output, tmp_path):
    document = shop.job(DATES[2], output)
    features = json.loads(json.dumps(document["features"]))
    features["item"]["price"]["quantiles"] = 5
    with pytest.raises(ConfigurationError, match=r"features\.item\.price\.quantiles: 4 there, 5 here"):
        ran(spark, {**document, "features": features}, overwrite=True)
    with pytest.raises(ConfigurationError, match=r"inherit: .*absent"):
        ran(spark, shop.job(DATES[2], tmp_path / "x", inherit=str(tmp_path / "absent")))
    with pytest.raises(ConfigurationError, match="is the output itself"):
        ran(spark, shop.job(DATES[2], output, inherit=str(days[2].root)), overwrite=True)
    assert Dataset.open(days[2].root).manifest.content_digest == days[2].manifest.content_digest


@pytest.mark.tf
def test_a_model_follows_the_days(days, tmp_path, monkeypatch):
    from trainer import run
    from trainer.config import Configuration

    monkeypatch.setattr(run, "export", lambda *_: {})  # what is exported is told elsewhere, and takes long
    settings = ["epochs=2", "model.dimension=8", "model.user.hidden=[8]", "jit=false"]
    config = configuration.load(Configuration, None, settings)
    said: list[str] = []
    models = [tmp_path / dataset.root.name for dataset in days]
    for number, (dataset, model) in enumerate(zip(days, models, strict=True)):
        run.train(str(dataset.root), config, model, said.append, warm_start=models[number - 1] if number else None)
        told = json.loads((model / "metrics.json").read_text(encoding="utf-8"))["warm_start"]
        if not number:
            assert told is None
            continue
        assert told["model"] == str(models[number - 1])
        assert told["dataset"] == days[number - 1].manifest.content_digest
        sizes = [len(days[n].vocabulary("item_id")) for n in (number - 1, number)]
        assert told["new_values"]["item_id"] == sizes[1] - sizes[0] > 0
        assert told["new_items"] == 3
    with pytest.raises(ConfigurationError, match="does not begin with the"):  # backwards: today's values are no longer
        run.train(str(days[0].root), config, tmp_path / "back", said.append, warm_start=models[1])
    with pytest.raises(ConfigurationError, match="is the output itself"):
        run.train(str(days[1].root), config, models[1], said.append, warm_start=models[1])
