"""Batches that are counted in rows are no larger than those that are counted in bytes, and limits come back."""

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from pipelines import batches
from pipelines.config import Config
from pipelines.split import constant
from schemas import configuration

NONE = {"kind": "none"}
MIXTURE = [{"same_attribute": {"feature": "kind"}, "share": 0.5}, {"popularity": {}, "share": 0.5}]
POOL = {"split": NONE, "layout": {"kind": "block", "clicks": 8}, "negatives": {"per": "block", "count": 9}}


@pytest.fixture(scope="module")
def document(jobs):
    """Job files on clicks of users with 1 to 40 of them."""
    clicks = [(user, item * user % 60, 900_000_000 + item) for user in range(1, 41) for item in range(user)]
    items = pa.table({"item_id": range(60), "kind": [item % 3 for item in range(60)]})
    paths = jobs.inputs(clicks, items)
    coded = {"encode": "vocabulary"}
    features = {"user": {"user_id": coded}, "item": {"item_id": coded, "kind": coded}}
    return lambda **sections: jobs.document(paths, features=features, **sections)


@pytest.fixture
def rows(spark, jobs, monkeypatch):
    """(bytes that a job's clicks are said to take, bytes that the largest of them took into and out of the task)."""
    from pipelines import job, negatives

    class Seen(BaseException):
        pass

    def of(document):
        def stop(clicks, plan):
            drawn = clicks.sortWithinPartitions("user", "time", "number", "click_key").mapInArrow(
                lambda given: negatives.with_negatives(given, plan), negatives.row_schema(plan)
            )
            taken = [sum(size(value) for value in row) for frame in (clicks, drawn) for row in frame.collect()]
            raise Seen(batches.row_bytes(plan, clicks), max(taken))

        monkeypatch.setattr(job, "write_records", stop)
        with pytest.raises(Seen) as caught:
            jobs.run(spark, document)
        return caught.value.args

    return of


def size(value):
    """Bytes of a value beside an offset of eight."""
    return 8 + (len(value) if isinstance(value, bytes | bytearray | str) else 8)


@pytest.mark.spark
@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"negatives": {"count": 50}},
        {"negatives": {"count": 20, "proposal": {"mixture": MIXTURE}}},
        {"history": {"length": 30}},
    ],
    ids=["few", "many", "log_q", "history"],
)
def test_no_click_takes_more_bytes_than_is_said(rows, document, sections):
    said, taken = rows(document(split=NONE, **sections))
    assert taken <= said < 10 * taken


@pytest.mark.spark
@pytest.mark.parametrize("sections", [{"split": {"kind": "leave_last"}}, POOL], ids=["held out", "pool"])
def test_what_only_the_data_tell_is_left_to_spark(rows, document, sections):
    """What a user knows travels with a held-out click, and a click's hits in a pool with it."""
    assert rows(document(**sections))[0] is None


@pytest.mark.spark
@pytest.mark.parametrize(
    ("sections", "more"),
    [
        ({"split": NONE}, set()),
        ({"split": {"kind": "leave_last"}}, {"split"}),
        ({"split": NONE, "clicks": {"weight": {"column": "timestamp"}}}, {"weight"}),
    ],
    ids=["alike", "held out", "weighted"],
)
def test_tasks_are_shown_what_differs_between_clicks(spark, jobs, document, monkeypatch, sections, more):
    from pipelines import blocks

    class Seen(BaseException):
        pass

    def stop(clicks):
        raise Seen(set(clicks.columns))

    monkeypatch.setattr(blocks, "by_user", stop)
    with pytest.raises(Seen) as caught:
        jobs.run(spark, document(**sections))
    assert caught.value.args == ({"user", "number", "time", "click_key"} | more,)


@pytest.mark.spark
def test_a_plan_knows_them_by_name(document):
    """So that it can be made where there is no session, as the encoder's benchmark does."""
    told = {}
    for kind in ("none", "leave_last"):
        for weight in (None, {"column": "timestamp"}):
            clicks = {} if weight is None else {"clicks": {"weight": weight}}
            config = configuration.validate(Config, document(split={"kind": kind}, **clicks), "test")
            told[kind, weight is not None] = constant(config)
    assert told == {
        ("none", False): ("weight", "split"), ("none", True): ("split",),
        ("leave_last", False): ("weight",), ("leave_last", True): (),
    }  # fmt: skip


class Conf(dict):
    set = dict.__setitem__


@pytest.mark.parametrize(("row_bytes", "most"), [(100, 1024), (1 << 20, 16), (1 << 40, 1)])
def test_the_limits_of_the_session_come_back(row_bytes, most):
    spark: Any = SimpleNamespace(conf=Conf(batches.LIMITS))
    inside = []

    def fail():
        with batches.of_rows(spark, row_bytes):
            inside.extend(spark.conf.values())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert inside == [str(most), "2147483647"]
    assert spark.conf == batches.LIMITS


def test_where_nothing_is_known_the_limits_stay():
    spark: Any = SimpleNamespace(conf=Conf(batches.LIMITS))
    with batches.of_rows(spark, None):
        assert spark.conf == batches.LIMITS
