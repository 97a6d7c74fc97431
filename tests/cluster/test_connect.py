"""A whole job through Spark Connect: the dataset of a Spark of one's own, with code sent along and no Java here."""

import json

import numpy as np
import pyarrow as pa
import pytest

from tests.cluster import intact
from tests.cluster.connect import ConnectServer

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ConnectServer(tmp_path_factory.mktemp("connect")) as running:
        yield running


@pytest.fixture(scope="module")
def documents(jobs, tmp_path_factory):
    """Job files by layout, for an output folder of that name: users, lists, two sets of negatives, held-out clicks."""
    rng = np.random.default_rng(9)
    users, items, times = rng.integers(0, 60, 1500), rng.zipf(1.3, 1500) % 100, rng.integers(0, 10**6, 1500)
    clicks = list(zip(users.tolist(), items.tolist(), (900_000_000 + times).tolist(), strict=True))
    tags = pa.array([[f"tag {n % 7}", f"tag {n % 5}"] for n in range(100)])
    people = pa.table({"user_id": pa.array(range(60), pa.int64()), "age": pa.array(range(60), pa.int64())})
    paths = jobs.inputs(clicks, pa.table({"item_id": pa.array(range(100), pa.int64()), "tags": tags}), people)
    root = tmp_path_factory.mktemp("datasets")

    def made(layout, name):
        return jobs.document(
            paths,
            features={
                "user": {"user_id": {"encode": "vocabulary"}, "age": {"encode": "buckets", "quantiles": 4}},
                "item": {"item_id": {"encode": "vocabulary"}, "tags": {"encode": "vocabulary", "shape": "list"}},
            },
            negatives={"count": 5, "epochs": 2} if layout["kind"] != "sequence" else {"count": 8, "per": "block"},
            layout=layout,
            split={"kind": "leave_last"},
            output={"path": str(root / name), "shards": 2},
        )

    return made


LAYOUTS = {
    "row": {"kind": "row"},
    "block": {"kind": "block", "clicks": 64},
    "sequence": {"kind": "sequence", "positions": 128, "window": 32},
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_dataset_is_that_of_a_spark_of_ones_own(server, documents, jobs, spark, kind):
    document = documents(LAYOUTS[kind], f"remote-{kind}")
    ran = server.run(document)
    assert ran.returncode == 0, ran.stderr[-3000:] + server.log[-3000:]
    local = jobs.run(spark, documents(LAYOUTS[kind], f"local-{kind}"))
    assert intact.audited(document["output"]["path"]) == local.manifest.content_digest


def test_an_estimate_and_its_steps_as_events(server, documents):
    document = documents(LAYOUTS["block"], "estimated")
    ran = server.run(document, "--dry-run", "--log", "json")
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "dry run: nothing is written" in ran.stdout
    told = [json.loads(line) for line in ran.stderr.splitlines() if line.startswith("{")]
    assert [event["step"] for event in told if event["event"] == "step_ended"] == ["spark", "survey"]


def test_an_error_in_a_task_is_the_line_that_it_is_elsewhere(server, documents):
    """All items are in the history of somebody, so that nothing is left to draw."""
    document = documents(LAYOUTS["row"], "refused")
    document["negatives"] |= {"unique": True, "count": 90, "epochs": 1}
    ran = server.run(document)
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    assert ran.returncode == 3
    assert "negatives.shortage" in line
    assert "Traceback" not in ran.stderr
