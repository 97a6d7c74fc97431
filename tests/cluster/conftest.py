"""One cluster for all tests, one job, and what it writes when nothing disturbs it."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines import shipment
from schemas.manifest import Dataset
from tests.cluster.standalone import ONE_EXECUTOR, ROOT, Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    archive = folder / "dist.zip"
    archive.write_bytes(shipment.zipped(ROOT))
    with Cluster(folder, archive) as running:
        yield running


@pytest.fixture(scope="session")
def job(jobs):
    """Makes the job file: 3,000 clicks, two sets of negatives and two held-out splits in 3 shards each.

    Seed 43 is that of the new dataset in every test, 42 that of the one before it.
    """
    rng = np.random.default_rng(5)
    users, items, times = rng.integers(0, 200, 3000), rng.zipf(1.3, 3000) % 300, rng.integers(0, 10**6, 3000)
    clicks = list(zip(users.tolist(), items.tolist(), (900_000_000 + times).tolist(), strict=True))
    content = pa.array(rng.random((300, 16)).tolist(), pa.list_(pa.float32()))
    paths = jobs.inputs(clicks, pa.table({"item_id": pa.array(range(300), pa.int64()), "content": content}))

    def made(output, seed=43):
        return jobs.document(
            paths,
            features={"item": {"item_id": {"encode": "vocabulary"}, "content": {"encode": "none", "shape": [16]}}},
            negatives={"count": 10, "epochs": 2, "seed": seed},
            split={"kind": "leave_last"},
            output={"path": str(output), "shards": 3},
        )

    return made


@pytest.fixture(scope="session")
def earlier(cluster, job, tmp_path_factory):
    """A finished dataset; tests copy it."""
    return undisturbed(cluster, job(tmp_path_factory.mktemp("earlier") / "out", seed=42))


@pytest.fixture(scope="session")
def expected(cluster, job, tmp_path_factory):
    """The content digest of the job when nothing disturbs it."""
    return undisturbed(cluster, job(tmp_path_factory.mktemp("expected") / "out")).manifest.content_digest


def undisturbed(cluster, document):
    cluster.submit(document, conf=ONE_EXECUTOR).succeeded()
    return Dataset.open(document["output"]["path"])


@pytest.fixture
def output(tmp_path, earlier):
    """A folder with the earlier dataset in it."""
    return Path(shutil.copytree(earlier.root, tmp_path / "out", dirs_exist_ok=True))
