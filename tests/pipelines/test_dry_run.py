"""The dry run's estimate holds against datasets that were really written, and it writes nothing itself."""

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines import estimate
from samplers.exclusion import Exclusion
from samplers.proposal import proposal
from samplers.unique import unique_pools
from schemas import configuration, wire
from schemas.record import Column

MIXTURE = {"mixture": [{"popularity": {"exponent": 0.75}, "share": 0.9}, {"uniform": {}, "share": 0.1}]}
LAYOUTS: dict[str, dict[str, Any]] = {
    "row": {"layout": {"kind": "row"}, "negatives": {"proposal": MIXTURE, "count": 20, "seed": 1}},
    "block": {"layout": {"kind": "block", "clicks": 512}, "negatives": {"proposal": MIXTURE, "count": 20, "seed": 1}},
    "pool": {
        "layout": {"kind": "block", "clicks": 512},
        "negatives": {"proposal": MIXTURE, "count": 300, "per": "block", "seed": 1},
    },
}
SEQUENCES: dict[str, dict[str, Any]] = {
    "different": {
        "layout": {"kind": "sequence", "positions": 1024, "window": 100},
        "negatives": {"proposal": MIXTURE, "count": 300, "per": "block", "seed": 1, "epochs": 2},
    },
    "repeated": {
        "layout": {"kind": "sequence", "positions": 1024, "window": 64},
        "negatives": {"proposal": MIXTURE, "count": 300, "per": "block", "seed": 1, "unique": False},
        "history": {"ties": "exclude"},
    },
}


def config_of(document):
    from pipelines.config import Config

    return configuration.validate(Config, document, "test")


@pytest.fixture(scope="module")
def movielens(jobs, ml_100k):
    """A job file on the clicks of 250 users of MovieLens-100k, with some sections."""

    def document(**sections):
        paths = {name: str(ml_100k / f"{name}.parquet") for name in ("clicks", "items", "users")}
        features = {
            "user": {"user_id": {"encode": "vocabulary"}, "age": {"encode": "buckets", "quantiles": 5}},
            "item": {"item_id": {"encode": "vocabulary"}, "genres": {"encode": "vocabulary", "shape": "list"}},
        }
        history = {"features": ["item_id", "genres"], "length": 50, "ties": "order"}
        common = {"features": features, "history": history, "split": {"kind": "leave_last"}}
        return jobs.document(paths, clicks={"filter": "user_id <= 250"}, **(common | sections))

    return document


@pytest.fixture(scope="module")
def surveys(spark, movielens):
    """What is found in all clicks, and in a sample of about a tenth of the users; both hold for every layout."""
    from pipelines.survey import survey

    config = config_of(movielens(**LAYOUTS["row"]))
    return survey(spark, config), survey(spark, config, sample_clicks=3000)


@pytest.mark.spark
@pytest.mark.parametrize("kind", LAYOUTS)
def test_estimate_holds_against_the_written_dataset(spark, jobs, movielens, surveys, kind):
    from pipelines import dry_run

    document = movielens(**LAYOUTS[kind])
    manifest = jobs.run(spark, document).manifest
    assert surveys[1].sample.users < 60 < surveys[0].sample.users == 250
    for found, allowed in zip(surveys, (0.03, 0.25), strict=True):
        volumes = dry_run.estimated(config_of(document), dataclasses.replace(found, record=manifest.record))
        for name, split in {**manifest.splits, "items": manifest.items}.items():
            assert (volumes[name].records, volumes[name].clicks) == (split.records, split.clicks)
            assert volumes[name].bytes == pytest.approx(split.bytes, rel=allowed)


@pytest.mark.spark
@pytest.mark.parametrize("kind", SEQUENCES)
def test_estimate_of_sequences_holds_against_the_written_dataset(spark, jobs, movielens, kind):
    """Where users are cut is one offset of many, so records are told within some percent."""
    from pipelines import dry_run
    from pipelines.survey import survey

    document = movielens(**SEQUENCES[kind])
    manifest = jobs.run(spark, document).manifest
    found = dataclasses.replace(survey(spark, config_of(document)), record=manifest.record)
    volumes = dry_run.estimated(config_of(document), found)
    train = manifest.splits["train"]
    assert volumes["train"].clicks == train.clicks
    assert volumes["train"].records == pytest.approx(train.records, rel=0.05)
    assert volumes["train"].bytes == pytest.approx(train.bytes, rel=0.03)
    for name in ("validation", "test"):
        assert volumes[name].records == manifest.splits[name].records
        assert volumes[name].bytes == pytest.approx(manifest.splits[name].bytes, rel=0.03)
    # Without its hits the estimate would be off by more than it may be.
    without = dataclasses.replace(found, sample=dataclasses.replace(found.sample, runs=0 * found.sample.runs))
    assert dry_run.estimated(config_of(document), without)["train"].bytes < 0.9 * train.bytes


@pytest.mark.spark
def test_estimate_knows_of_groups(spark, jobs, movielens):
    """Half of the draws within the release year: other items stand in a block's table than popularity alone draws."""
    from pipelines import dry_run
    from pipelines.survey import survey

    features = {"item": {"item_id": {"encode": "vocabulary"}, "release_year": {"encode": "buckets", "quantiles": 60}}}
    mixture = [
        {"popularity": {}, "share": 0.5},
        {"same_attribute": {"feature": "release_year", "exponent": 0}, "share": 0.5},
    ]
    negatives = {"proposal": {"mixture": mixture}, "count": 20, "seed": 1}
    document = movielens(
        features=features, history={"features": [], "ties": "order"}, negatives=negatives,
        layout={"kind": "block", "clicks": 256},
    )  # fmt: skip
    train = jobs.run(spark, document).manifest.splits["train"]
    found = survey(spark, config_of(document))
    told = dry_run.estimated(config_of(document), found)["train"]
    assert (told.records, told.clicks) == (train.records, train.clicks)
    assert told.bytes == pytest.approx(train.bytes, rel=0.02)
    popular = dataclasses.replace(found.sample, drawn=found.catalogue.drawn)
    without = dry_run.estimated(config_of(document), dataclasses.replace(found, sample=popular))["train"]
    assert abs(without.bytes - train.bytes) > 2 * abs(told.bytes - train.bytes)


@pytest.mark.spark
def test_the_plan_of_sequences_is_told(spark, movielens):
    from pipelines import dry_run

    text = " ".join(dry_run.text(spark, config_of(movielens(**SEQUENCES["different"]))).split())
    assert "a pool of 300 different items shared by the clicks of a sequence, in 2 independent sets" in text
    assert "sequence: users' clicks in order, up to 1,024 a record in windows of up to 100" in text
    assert "pool slots will be accidental hits" in text


@pytest.mark.spark
def test_a_pool_without_enough_items_fails_before_anything_is_planned(spark, jobs):
    from pipelines import dry_run
    from schemas.errors import DataError

    sections = {"negatives": {"proposal": {"popularity": {}}, "per": "block", "count": 4, "unique": True}}
    document = jobs.document(
        jobs.inputs(FEW, ITEMS), layout={"kind": "block"}, limits={"rejected_share": 1}, **sections
    )
    with pytest.raises(DataError, match="4 different items wanted, 3 can be drawn"):
        dry_run.text(spark, config_of(document))
    sections["negatives"] |= {"unique": False}
    text = dry_run.text(spark, config_of(document | sections))
    assert "negatives.count 4 is larger than the 3 items that can be drawn: many will repeat" in text
    assert "have nothing left to draw" not in text  # a pool is drawn without exclusion


@pytest.mark.spark
def test_nothing_is_written_and_the_plan_is_told(spark, movielens, tmp_path):
    from pipelines import dry_run

    output = tmp_path / "new" / "out"
    text = dry_run.text(spark, config_of(movielens(**LAYOUTS["block"], output={"path": str(output)})))
    assert list(tmp_path.iterdir()) == []
    assert "943" in text
    assert "leave_last: each user's last click is the test" in text
    assert "block: 512 clicks a record" in text
    assert "with layout: {kind: row} instead" in text
    assert "never be a negative" not in text  # a tenth of the draws is uniform


ITEMS = pa.table({"item_id": pa.array([1, 2, 3, 4, 4], pa.int64())})
FEW = [(1, 1, 10), (1, 2, 20), (1, 3, 30), (2, 1, 15), (2, 2, 25), (2, 99, 26)]


ONLY_CLICKED = {
    "negatives": {"proposal": {"popularity": {}}, "count": 50},
    "output": {"shards": 1},
    "split": {"kind": "time", "test_from": 10_000},
}


@pytest.mark.spark
@pytest.mark.parametrize(
    ("sections", "warnings"),
    [
        (
            ONLY_CLICKED,
            [
                "negatives.count 50 is larger than the 3 items",
                "1 item without a training click will never be a negative",
                "have nothing left to draw: they make the job fail",
                "1 train shard for 2 cores",
                "1 of 6 rows of clicks cannot be used, more than limits.rejected_share (1.00%) allows",
                "time leaves no click to validate or test on",
            ],
        ),
        (
            {"negatives": {"exclude": "none"}, "output": {"shards": 9}},
            ["negatives.exclude: none leaves accidental hits", "5 train records for 9 shards: some stay empty"],
        ),
    ],
)
def test_what_is_worth_knowing(spark, jobs, sections, warnings):
    from pipelines import dry_run

    text = dry_run.text(spark, config_of(jobs.document(jobs.inputs(FEW, ITEMS), **sections)))
    for warning in warnings:
        assert warning in text


@pytest.mark.spark
def test_rejected_rows_are_told_by_reason_and_a_sound_job_warns_of_nothing(spark, jobs):
    from pipelines import dry_run

    text = dry_run.text(spark, config_of(jobs.document(jobs.inputs(FEW, ITEMS))))
    assert "1 row of items would be rejected: duplicate_key" in text
    assert "1 row of clicks would be rejected: unknown_item" in text
    many = [(user, item, user + item) for user in range(20) for item in range(1, 9)]
    items = pa.table({"item_id": pa.array(range(1, 101), pa.int64())})
    text = dry_run.text(spark, config_of(jobs.document(jobs.inputs(many, items))))
    assert "worth knowing" not in text


@pytest.mark.spark
def test_an_output_that_is_taken_is_told(spark, jobs, tmp_path):
    from pipelines import dry_run

    (tmp_path / "manifest.json").write_text("{}")
    document = jobs.document(jobs.inputs(FEW, ITEMS), output={"path": str(tmp_path)})
    assert "holds a dataset already: the job needs --overwrite" in dry_run.text(spark, config_of(document))


@pytest.mark.parametrize("unique", [False, True])
def test_what_is_excluded_is_a_share_of_what_is_really_drawn(unique):
    """Without replacement a popular item is in every pool at most once, so less of a pool is an accidental hit."""
    from pipelines.catalogue import Catalogue

    q = np.array([0.7, 0.2, 0.06, 0.04])
    drawn = proposal([("popularity", 1.0, {"exponent": 1.0})], np.array([70, 20, 6, 4]))
    pools = unique_pools(drawn.table.probabilities, 2) if unique else None
    bare = Catalogue(pa.table({"count": [70, 20, 6, 4]}), (), np.arange(4))
    users = pa.array(["a", "a", "a", "b"])
    item, begin = np.array([0, 1, 0, 3]), np.array([0, 0, 0, 3])
    sample = estimate.sampled(
        users, np.array([1, 2, 3, 1]), item, np.zeros(4, np.int64), np.ones(4, bool),
        bare.with_proposal(drawn, pools), "order", 5,
        Exclusion(begin, np.arange(4), item, 4, history=True, positive=True), 0, 1.0, {},
    )  # fmt: skip
    share = np.array([1, 2 / 3, 0.2, 2 / 15]) / 2 if unique else q
    known = [{0}, {0, 1}, {0, 1}, {3}]
    assert sample.excluded == pytest.approx(np.mean([sum(share[i] for i in items) for items in known]))


def test_varint_bytes_are_those_of_the_wire():
    values = np.array([0, 1, 127, 128, 16383, 16384, 2**21 - 1, 2**21, 893286638, 2**40, -1])
    assert estimate.varint_bytes(values).tolist() == wire.lengths_of(wire.int_fragments(values)).tolist()


def test_record_bytes_are_those_of_an_encoded_and_framed_record():
    from schemas import codec, tfrecord

    columns = [Column("a", "int64"), Column("b", "float32"), Column("none", "int64")]
    payloads = {
        "a": wire.regrouped(wire.int_fragments(np.arange(300)), np.array([0, 300])),
        "b": wire.float_fragments(np.zeros(7), 7),
        "none": wire.binary_array(b"", np.zeros(2, np.int64)),
    }
    record = codec.encode(columns, payloads).joined()[0].as_py()
    sizes = {key: float(wire.lengths_of(payload)[0]) for key, payload in payloads.items()}
    assert estimate.record_bytes(columns, sizes) == len(tfrecord.frame(record))


def test_spread_is_none_without_sampling_and_grows_with_unlike_users():
    user = np.repeat([0, 1, 2, 3], 50)
    alike, unlike = np.tile(np.arange(50.0), 4), np.repeat([1.0, 50, 3, 80], 50)
    assert estimate._spread(unlike, user, 1.0) == 0
    assert estimate._spread(alike, user, 0.1) == pytest.approx(0, abs=1e-12)
    assert estimate._spread(unlike, user, 0.1) > 0.3
