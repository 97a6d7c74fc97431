"""What is no clean table: columns and types that do not fit, times in every guise, inputs that are empty."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import history, inputs
from pipelines.config import TimeSplit
from pipelines.input_config import Clicks, Items, Users
from pipelines.split import with_split
from schemas.errors import ConfigurationError, DataError
from schemas.features import Buckets, Plain, Vocabulary

pytestmark = pytest.mark.spark

DAY = 86_400
DAYS = [5, 3, 3, 9, 1, 5]
USER = [1, 1, 2, 1, 2, 2]
ITEM = [1, 2, 3, 1, 1, 3]
MIDNIGHTS = [dt.datetime(1998, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=days) for days in DAYS]
SECONDS = [int(moment.timestamp()) for moment in MIDNIGHTS]
NAIVE = [moment.replace(tzinfo=None) for moment in MIDNIGHTS]
TIMES = {
    "seconds": pa.array(SECONDS),
    "seconds_32": pa.array(SECONDS, pa.int32()),
    "milliseconds": pa.array([s * 1000 for s in SECONDS]),
    "microseconds": pa.array([s * 1_000_000 for s in SECONDS]),
    "double": pa.array(map(float, SECONDS)),
    "decimal": pa.array([s / 1 for s in SECONDS], pa.float64()).cast(pa.decimal128(20, 3)),
    "timestamp": pa.array(MIDNIGHTS, pa.timestamp("us", "UTC")),
    "timestamp_elsewhere": pa.array(MIDNIGHTS, pa.timestamp("us", "America/New_York")),
    "ntz": pa.array(NAIVE, pa.timestamp("us")),
    "date": pa.array([m.date() for m in MIDNIGHTS], pa.date32()),
    "text": pa.array([f"{m:%Y-%m-%d %H:%M:%S}" for m in MIDNIGHTS]),
    "text_date": pa.array([f"{m:%Y-%m-%d}" for m in MIDNIGHTS]),
    "text_zone": pa.array([f"{m:%Y-%m-%dT%H:%M:%S}+00:00" for m in MIDNIGHTS]),
}


@pytest.fixture(scope="module")
def numbers(spark):
    return spark.createDataFrame(pa.table({"key": pa.array([1, 2, 3]), "number": pa.array([0, 1, 2], pa.int32())}))


@pytest.fixture
def written(tmp_path):
    def write(**columns):
        path = tmp_path / "table.parquet"
        pq.write_table(pa.table(columns), path)
        return str(path)

    return write


def clicks_at(path, **options):
    return Clicks(path=path, user="user_id", item="item_id", time="t", **options)


def time_is_counted(spark, source):
    return inputs.time_is_counted(inputs.read(spark, source, "clicks"), source)


def checked_clicks(spark, source, numbers):
    return inputs.checked_clicks(inputs.read(spark, source, "clicks"), source, numbers)


@pytest.mark.parametrize("kind", TIMES)
def test_times_in_every_guise_give_the_same_histories(spark, numbers, written, kind):
    source = clicks_at(written(user_id=USER, item_id=ITEM, t=TIMES[kind]))
    checked = checked_clicks(spark, source, numbers)
    rows = checked.select("user", "number", "time", "reason").collect()
    assert [row.reason for row in rows] == [None] * len(rows)
    times = [row.time for row in rows]
    unit = inputs.time_unit(source, time_is_counted(spark, source), min(times), max(times))
    in_seconds = {"seconds": 1, "milliseconds": 1000, "microseconds": 1_000_000}[unit]
    assert sorted(zip([r.user for r in rows], [r.number + 1 for r in rows], times, strict=True)) == sorted(
        zip(USER, ITEM, [s * in_seconds for s in SECONDS], strict=True)
    )
    ordered = sorted(rows, key=lambda row: (row.user, row.time, row.number))
    spans = history.ranges(pa.array([r.user for r in ordered]), np.array([r.time for r in ordered]), "exclude")
    assert (spans.end - spans.start).tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("kind", ["seconds", "milliseconds", "timestamp", "text"])
def test_a_time_split_by_date_means_the_same_in_every_unit(spark, numbers, written, kind):
    source = clicks_at(written(user_id=USER, item_id=ITEM, t=TIMES[kind]))
    checked = checked_clicks(spark, source, numbers).select("user", "number", "time", "weight")
    unit = inputs.time_unit(
        source,
        time_is_counted(spark, source),
        *checked.selectExpr("min(time)", "max(time)").collect()[0],
    )
    split = TimeSplit(kind="time", test_from=dt.date(1998, 1, 10), validation_from=dt.date(1998, 1, 6))
    roles = with_split(checked, split, unit).groupBy("split").count().collect()
    assert {row.split: row["count"] for row in roles} == {0: 3, 1: 2, 2: 1}


def test_fractional_milliseconds_need_the_option_and_then_are_read_so(spark, numbers, written):
    path = written(user_id=USER, item_id=ITEM, t=pa.array([s * 1000.0 for s in SECONDS]))
    rows = checked_clicks(spark, clicks_at(path), numbers).select("reason").collect()
    assert {row.reason for row in rows} == {"bad_time"}
    told = checked_clicks(spark, clicks_at(path, time_unit="milliseconds"), numbers).select("time").collect()
    assert sorted(row.time for row in told) == sorted(s * 1_000_000 for s in SECONDS)


def test_a_time_unit_for_what_is_no_number_is_refused_not_ignored(spark, numbers, written):
    path = written(user_id=USER, item_id=ITEM, t=TIMES["timestamp"])
    with pytest.raises(DataError, match="time_unit"):
        checked_clicks(spark, clicks_at(path, time_unit="seconds"), numbers)


def test_seconds_and_milliseconds_in_one_column_are_refused():
    with pytest.raises(DataError, match="milliseconds and seconds"):
        inputs.time_unit(clicks_at("x"), True, 900_000_000, 900_000_000_000)
    assert inputs.time_unit(clicks_at("x", time_unit="seconds"), True, 900_000_000, 900_000_000_000) == "seconds"


def test_text_that_is_no_time_is_rejected_not_lost(spark, numbers, written):
    path = written(user_id=[1, 1, 1], item_id=[1, 1, 1], t=pa.array(["yesterday", "1998-02-30", None]))
    rows = checked_clicks(spark, clicks_at(path), numbers).select("reason").collect()
    assert sorted(row.reason for row in rows) == ["bad_time", "bad_time", "null_time"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"user": "nobody"}, r"clicks\.user: no column 'nobody' .*it has user_id, item_id, t"),
        ({"item": "nothing"}, r"clicks\.item: no column 'nothing'"),
        ({"time": "never"}, r"clicks\.time: no column 'never'"),
        ({"weight": "heavy"}, r"clicks\.weight: no column 'heavy'"),
        ({"user": "real"}, r"clicks\.user: expected whole numbers or text in column 'real' .*double"),
        ({"item": "text"}, r"clicks\.item is string, items\.key is bigint"),
        ({"time": "truth"}, r"clicks\.time: expected numbers, timestamps or text .*boolean"),
        ({"weight": "text"}, r"clicks\.weight: expected numbers .*string"),
        ({"path": "/nowhere.parquet"}, r"clicks\.path: nothing to read at '/nowhere.parquet'"),
    ],
)
def test_clicks_that_do_not_fit_are_an_error_that_names_the_option(spark, numbers, written, changed, message):
    path = written(user_id=[1], item_id=[1], t=[900_000_000], real=[1.5], text=["a"], truth=[True])
    source = Clicks(**{"path": path, "user": "user_id", "item": "item_id", "time": "t", **changed})
    with pytest.raises(DataError, match=message) as raised:
        checked_clicks(spark, source, numbers)
    assert "\n" not in str(raised.value)


def test_items_and_users_that_do_not_fit_are_an_error_that_names_the_option(spark, written):
    path = written(item_id=[1], price=[1.0])
    vocabulary = Vocabulary(encode="vocabulary")
    for call, message in [
        (lambda: inputs.entities(spark, Items(path=path, key="id"), "items", {}), r"items\.key: no column 'id'"),
        (lambda: inputs.entities(spark, Items(path=path, key="price"), "items", {}), r"items\.key: expected whole"),
        (
            lambda: inputs.entities(spark, Items(path=path, key="item_id"), "items", {"brand": vocabulary}),
            r"features\.item\.brand: no column 'brand'",
        ),
        (lambda: inputs.entities(spark, Items(path=path, key="item_id"), "items", {}, "name"), r"items\.title: no col"),
        (
            lambda: inputs.entities(spark, Users(path=path, key="item_id"), "users", {"age": vocabulary}),
            r"features\.user\.age: no column 'age'",
        ),
    ]:
        with pytest.raises(DataError, match=message):
            call()


@pytest.mark.parametrize(
    ("spec", "column", "message"),
    [
        (Vocabulary(encode="vocabulary"), pa.array([["a"]]), "shape: list"),
        (Vocabulary(encode="vocabulary", shape="list"), pa.array(["a"]), "expects lists"),
        (Vocabulary(encode="vocabulary"), pa.array([b"a"]), "expects text or numbers"),
        (Buckets(encode="buckets", boundaries=[1]), pa.array(["a"]), "expects numbers"),
        (Plain(encode="none"), pa.array([dt.date(2000, 1, 1)]), "expects numbers"),
        (Plain(encode="none", shape=[2]), pa.array([1.0]), "expects lists"),
    ],
)
def test_a_feature_of_the_wrong_type_is_an_error(spec, column, message):
    from pipelines import catalogue
    from pipelines.input_config import Features

    table = pa.table({"key": pa.array([1]), "title": pa.array([""]), "f": column})
    with pytest.raises(DataError, match=f"'f'.*{message}"):
        catalogue.checked_items(table, Features(item={"f": spec}), "items (x)")


def test_a_filter_acts_and_a_broken_one_is_a_configuration_error(spark, written):
    path = written(user_id=[1, 2], item_id=[1, 1], t=[1, 2])
    assert inputs.read(spark, clicks_at(path, filter="user_id > 1"), "clicks").count() == 1
    for broken in ("no_such > 1", "user_id >"):
        with pytest.raises(ConfigurationError, match=r"clicks:.*filter"):
            inputs.read(spark, clicks_at(path, filter=broken), "clicks")


@pytest.mark.parametrize("empty", ["clicks", "items", "filtered"])
def test_empty_inputs_are_an_error(spark, jobs, empty):
    clicks = pa.table({"user_id": pa.array([1]), "item_id": pa.array([1]), "timestamp": pa.array([9])})
    items = pa.table({"item_id": pa.array([1, 2])})
    paths = jobs.inputs(clicks.slice(0, 0 if empty == "clicks" else 1), items.slice(0, 0 if empty == "items" else 2))
    document = jobs.document(paths, **({"clicks": {"filter": "user_id > 5"}} if empty == "filtered" else {}))
    messages = {"clicks": "has no rows", "items": "no usable item", "filtered": "that pass clicks.filter"}
    with pytest.raises(DataError, match=messages[empty]):
        jobs.run(spark, document)


def test_a_file_that_is_no_parquet_is_an_error(spark, tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(DataError, match=r"clicks\.path: .*cannot be read as parquet"):
        inputs.read(spark, clicks_at(str(tmp_path / "x.parquet")), "clicks")


def test_a_split_that_leaves_no_training_clicks_is_an_error(spark, jobs):
    items = pa.table({"item_id": pa.array([1, 2])})
    document = jobs.document(jobs.inputs([(1, 1, 10**9), (1, 2, 10**9 + 1)], items))
    document["split"] = {"kind": "time", "test_from": "1970-01-01"}
    with pytest.raises(DataError, match=r"no training click is left \(0 for validation, 2 for test\).*test_from"):
        jobs.run(spark, document)


@pytest.mark.parametrize(
    "split", [{"kind": "none"}, {"kind": "time", "test_from": "1998-08-01"}], ids=["late", "first"]
)
@pytest.mark.parametrize("kind", ["mapped", "partitioned"])
def test_times_of_two_units_in_one_column_are_an_error_wherever_they_are_counted(spark, jobs, kind, split):
    """With the clicks that are kept, or in a pass before them; the earliest and the latest tell."""
    items = pa.table({"item_id": pa.array([1, 2])})
    times = (900_000_000, 900_000_001, 900_000_000_000)
    paths = jobs.inputs([(user, item, time) for user, time in enumerate(times) for item in (1, 2)], items)
    message = r"clicks\.time: values from 900000000 to 900000000000 look like milliseconds and seconds in one column"
    with pytest.raises(DataError, match=message):
        jobs.run(spark, jobs.document(paths, split=split, catalogue={"kind": kind}))
