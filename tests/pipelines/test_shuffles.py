"""Each shuffle of a job, told by what rows are brought together by: a new one is noticed here before it costs anybody.

pipelines/README.md says why each is there. Spark's own record of the plans that ran is read, whose text is as it was
planned, since adaptive execution is off.
"""

import re
from collections import Counter

import pyarrow as pa
import pytest

pytestmark = pytest.mark.spark

EXCHANGE = re.compile(r"^\(\d+\) Exchange.*?^Arguments: (.*?plan_id=(\d+))", re.MULTILINE | re.DOTALL)
# What crosses the network once a job and does not grow with the clicks.
SMALL = {"one": 1, "number": 1}
BY_USER, TO_SHARDS = {"user": 1}, {"part": 1}


def queries(store):
    """Of the queries that Spark remembers the last 200, oldest first."""
    ran = store.executionsList(max(store.executionsCount() - 200, 0), 200)
    return [ran.apply(number) for number in range(ran.size())]


@pytest.fixture
def shuffles(spark, jobs):
    """Runs a job and counts its shuffles by the columns that rows are sent by; a persisted one counts once."""
    adaptive = spark.conf.get("spark.sql.adaptive.enabled")
    spark.conf.set("spark.sql.adaptive.enabled", "false")

    def of(document):
        store = spark._jsparkSession.sharedState().statusStore()
        # Spark keeps the last 1,000 queries, so that how many it has is not where the next one will stand.
        before = max((query.executionId() for query in queries(store)), default=-1)
        jobs.run(spark, document)
        ran = [query.physicalPlanDescription() for query in queries(store) if query.executionId() > before]
        found = {name: arguments for plan in ran for arguments, name in EXCHANGE.findall(plan)}
        return Counter(", ".join(re.findall(r"(\w+)#\d+", arguments)) or "one" for arguments in found.values())

    yield of
    spark.conf.set("spark.sql.adaptive.enabled", adaptive)


@pytest.fixture(scope="module")
def document(jobs):
    clicks = [(user, item % 7, 900_000_000 + item) for user in range(9) for item in range(user)]
    paths = jobs.inputs(clicks, pa.table({"item_id": pa.array(range(9))}))
    return lambda **sections: jobs.document(paths, **sections)


def test_rows_cross_twice(shuffles, document):
    assert shuffles(document()) == Counter(SMALL | BY_USER | TO_SHARDS)


def test_heavy_users_cost_none(shuffles, document, monkeypatch):
    monkeypatch.setattr("pipelines.heavy_users.SHARE", 2)
    monkeypatch.setattr("pipelines.heavy_users.SAMPLE", 1)
    # Who they are is told, and their shares are read, by clicks that are kept by user.
    assert shuffles(document()) == Counter(SMALL | BY_USER | TO_SHARDS)


def test_blocks_cost_their_boundaries_and_users_small_ones(shuffles, world_job):
    found = shuffles(world_job(layout={"kind": "block", "clicks": 32}))
    # Users checked by reason, told from each other by key, and those without a row counted.
    users = {"reason": 1, "key": 1, "one": 2, "feature, value": 1}
    assert found == Counter(SMALL | users | BY_USER | {"part": 2})
