"""The whole of MovieLens-100k through the job, read back by a program that has TensorFlow and nothing of ours."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines import job
from pipelines.config import Config
from pipelines.progress import Progress
from schemas import configuration

pytestmark = [pytest.mark.e2e, pytest.mark.spark, pytest.mark.tf]

ROOT = Path(__file__).parents[2]
OPTIONS = {
    "row": ["layout={kind: row}"],
    "block": [],
    "pool": ["negatives.per=block", "negatives.count=256"],
    "sequence": ["layout={kind: sequence}", "negatives.per=block", "negatives.count=256"],
}
TRAINED = 100_000 - 2 * 943


@pytest.fixture(scope="module")
def datasets(spark, ml_100k, tmp_path_factory):
    """The example job file in every layout, one set of negatives each."""
    folder = tmp_path_factory.mktemp("ml-100k")
    made = {}
    for name, options in OPTIONS.items():
        paths = [f"{side}.path={ml_100k / side}.parquet" for side in ("clicks", "items", "users")]
        given = [*paths, f"output.path={folder / name}", "negatives.epochs=1", *options]
        config = configuration.load(Config, ROOT / "pipelines/examples/ml-100k.yaml", given)
        made[name] = job.run(spark, config, False, Progress(io.StringIO(), live=False))
    return made


@pytest.fixture(scope="module")
def read(datasets, ml_100k, tmp_path_factory):
    """What the plain reader says of them; it runs where no package of ours can be found."""
    command = [sys.executable, str(Path(__file__).with_name("plain_tensorflow_reader.py")), ml_100k / "items.parquet"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [*command, *(dataset.root for dataset in datasets.values())],
        cwd=tmp_path_factory.mktemp("elsewhere"), env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    told = json.loads(run.stdout)
    assert told["compared"] == 2  # rows against blocks
    return {name: told["datasets"][str(dataset.root)] for name, dataset in datasets.items()}


@pytest.fixture(scope="module")
def expectation(ml_100k):
    """(q, expected draws a click) by item id: the declared mixture, outside each click's own history."""
    table = pq.read_table(ml_100k / "clicks.parquet")
    user, item, time = (table[name].to_numpy() for name in ("user_id", "item_id", "timestamp"))
    order = np.lexsort((item, time, user))
    user, item = user[order], item[order]
    kept = np.concatenate([np.flatnonzero(user == u)[:-2] for u in np.unique(user)])
    items = np.unique(pq.read_table(ml_100k / "items.parquet")["item_id"].to_numpy())
    counts = np.bincount(item[kept], minlength=items.max() + 1)[items]
    powers = np.where(counts > 0, np.maximum(counts, 1) ** 0.75, 0)
    q = 0.9 * powers / powers.sum() + 0.1 / len(items)
    total = np.zeros(len(items))
    for one in np.unique(user):
        left = q.copy()
        for clicked in item[kept[user[kept] == one]]:
            left[np.searchsorted(items, clicked)] = 0
            total += left / left.sum()
    return {int(i): value for i, value in zip(items, q, strict=True)}, dict(zip(items.tolist(), total, strict=True))


@pytest.mark.parametrize("name", OPTIONS)
def test_every_candidate_of_every_shard_has_the_attributes_of_its_item(datasets, read, name):
    assert read[name]["clicks"] == TRAINED == datasets[name].manifest.splits["train"].clicks
    blocks = datasets[name].manifest.splits["train"].records
    assert sum(read[name]["draws"].values()) == (256 * blocks if name in ("pool", "sequence") else 20 * TRAINED)


@pytest.mark.parametrize("name", ["row", "block"])
def test_negatives_follow_the_proposal_outside_the_histories(read, expectation, chi_square_p, name):
    draws = read[name]["draws"]
    observed = [draws[str(item)] for item in expectation[1]]
    p = chi_square_p(observed, 20 * np.array(list(expectation[1].values())))
    assert p > 1e-3, p


def test_pools_follow_the_proposal(read, expectation, chi_square_p):
    draws = read["pool"]["draws"]
    observed = np.array([draws[str(item)] for item in expectation[0]])
    p = chi_square_p(observed, observed.sum() * np.array(list(expectation[0].values())))
    assert p > 1e-3, p
    assert read["pool"]["hits"] > TRAINED


def test_pools_of_sequences_hold_each_item_as_often_as_its_log_q_says(read, expectation, datasets):
    told, records = read["sequence"], datasets["sequence"].manifest.splits["train"].records
    q, low, high = np.array(list(expectation[0].values())), 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(1, middle * q).sum() < 256 else (low, middle)
    pi = dict(zip(expectation[0], np.minimum(1, high * q).tolist(), strict=True))
    assert len(told["log_q"]) > 1600
    for item, log_q in told["log_q"].items():
        assert log_q == pytest.approx(np.log(pi[int(item)]), abs=1e-5)
    for item, share in pi.items():
        spread = np.sqrt(share * (1 - share) * records)
        assert abs(told["draws"][str(item)] - share * records) <= 5 * spread + 1e-6
    assert told["hits"] > TRAINED


def test_a_click_takes_fewer_bytes_in_each_format_to_come(datasets):
    """Bytes a click of whole datasets: what the layouts are for. A block of format 1 took 384."""
    size = {name: dataset.manifest.statistics["bytes_per_click"] for name, dataset in datasets.items()}
    assert size["block"] < 200 < 384 < size["row"]
    assert size["sequence"] < 60
    assert {dataset.manifest.format_version for dataset in datasets.values()} == {2}
