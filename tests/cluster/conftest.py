"""One cluster for all tests, one job, and what it writes when nothing disturbs it."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines import shipment
from schemas.manifest import Dataset
from tests.cluster.standalone import ROOT, Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    archive = folder / "dist.zip"
    archive.write_bytes(shipment.zipped(ROOT))
    with Cluster(folder, archive) as running:
        yield running


@pytest.fixture(scope="session")
def job(jobs):
    """Makes the job file: 3,000 clicks in 12 shards, the new dataset's unless another seed is given."""
    rng = np.random.default_rng(5)
    clicks = [
        (int(user), int(item), 900_000_000 + int(time))
        for user, item, time in zip(
            rng.integers(0, 200, 3000), rng.zipf(1.3, 3000) % 300, rng.integers(0, 10**6, 3000), strict=True
        )
    ]
    items = pa.table({"item_id": pa.array(range(300), pa.int64()), "content": rng.random((300, 16)).tolist()})
    paths = jobs.inputs(clicks, items)

    def made(output, seed=43):
        return jobs.document(
            paths,
            features={
                "user": {"user_id": {"encode": "vocabulary"}},
                "item": {"item_id": {"encode": "vocabulary"}, "content": {"encode": "none", "shape": [16]}},
            },
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
    cluster.submit(document).succeeded()
    return Dataset.open(document["output"]["path"])


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"
