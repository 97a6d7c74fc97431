"""A user of very many clicks is drawn for by several tasks, and the dataset is the same to the last record."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines import heavy_users
from pipelines.heavy_users import in_share


def test_each_click_is_in_one_share_and_shares_are_alike():
    rng = np.random.default_rng(3)
    counts = {"a": 9_000, "b": 4_000, "c": 1}
    of = {"a": 5, "b": 2, "c": 1}
    first = np.repeat([0, 9_000, 13_000], list(counts.values()))
    user = pa.array(np.repeat(list(counts), list(counts.values())))
    keys = rng.integers(-(1 << 63), 1 << 63, len(first))
    mine = np.array([in_share(number, of, first, user, keys) for number in range(5)])
    assert (mine.sum(axis=0) == 1).all()
    for name, pieces in of.items():
        sizes = mine[:, np.array(user.to_pylist()) == name].sum(axis=1)
        assert (sizes[pieces:] == 0).all()
        assert np.abs(sizes[:pieces] - counts[name] / pieces).max() < 5 * np.sqrt(counts[name])


@pytest.mark.spark
@pytest.mark.parametrize("name", ["row", "block", "pool", "sequence"])
def test_shares_change_nothing(spark, jobs, request, monkeypatch, world_job, name):
    whole = request.getfixturevalue(name)
    sections = {} if name in ("row", "block") else request.getfixturevalue(f"{name}_sections")
    if name == "block":
        sections = {"layout": {"kind": "block", "clicks": 32}}
    tasks = []
    original = heavy_users.parted

    def parted(clicks, of):
        tasks.append(dict(of))
        yield from original(clicks, of)

    monkeypatch.setattr(heavy_users, "SHARE", 10)
    monkeypatch.setattr(heavy_users, "SAMPLE", 1)
    monkeypatch.setattr(heavy_users, "parted", parted)
    shared = jobs.run(spark, world_job(**sections))
    assert len(tasks[0]) > 10
    assert len(set(tasks[0].values())) > 1
    assert shared.manifest.content_digest == whole.manifest.content_digest
    one, other = (dataset.manifest.proposal for dataset in (shared, whole))
    assert one.keys() == other.keys()
    for told in one:
        assert one[told] == (pytest.approx(other[told]) if isinstance(other[told], float) else other[told])


@pytest.mark.spark
def test_who_is_heavy_is_told_by_a_sample(spark, monkeypatch):
    rng = np.random.default_rng(5)
    counts = {1: 40_000, 2: 21_000, 3: 9_000, **dict.fromkeys(range(4, 104), 100)}
    user = np.repeat(list(counts), list(counts.values()))
    keys = rng.integers(-(1 << 63), 1 << 63, len(user))
    clicks = spark.createDataFrame(pa.table({"user": user, "click_key": keys}))
    monkeypatch.setattr(heavy_users, "SHARE", 8_000)
    found = heavy_users.found(clicks, len(user))
    assert found.keys() == {1, 2}
    assert 4 <= found[1] <= 6
    assert 2 <= found[2] <= 4
    monkeypatch.setattr(heavy_users, "MOST", 3)
    assert heavy_users.found(clicks, len(user))[1] == 3
    assert heavy_users.found(clicks, 15_999) == {}  # too few for anybody to be heavy: no pass over them
