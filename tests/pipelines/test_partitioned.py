"""A partitioned catalogue gives the dataset that a mapped one gives, bit by bit, and keeps its items to itself."""

import pytest

pytestmark = pytest.mark.spark

PARTITIONED = {"kind": "partitioned", "partition_bytes": 700}
KINDS: dict = {
    "row": {"layout": {"kind": "row"}},
    "block": {"layout": {"kind": "block", "clicks": 32}},
}


@pytest.mark.parametrize("layout", list(KINDS))
def test_both_kinds_give_the_same_dataset(spark, jobs, world_job, layout):
    document = world_job(**KINDS[layout])
    mapped = jobs.run(spark, document | {"catalogue": {"kind": "mapped"}}).manifest
    document = world_job(**KINDS[layout])
    found = jobs.run(spark, document | {"catalogue": PARTITIONED}).manifest
    assert found.statistics["catalogue"]["partitions"] > 3
    assert found.content_digest == mapped.content_digest
    assert found.proposal["observed"] == pytest.approx(mapped.proposal["observed"])
    left_out = ("catalogue", "bytes_per_click")
    assert {k: v for k, v in found.statistics.items() if k not in left_out} == {
        k: v for k, v in mapped.statistics.items() if k not in left_out
    }
    assert found.schema_fingerprint == mapped.schema_fingerprint
