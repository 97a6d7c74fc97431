"""What counts from a day: output, placeholders, moments before its end; and which clicks it reads, by brute force."""

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from pipelines import words
from pipelines.config import Config, TimeSplit
from pipelines.days import for_date
from schemas import configuration
from schemas.errors import ConfigurationError

DAY = 86_400
END = 1_000_000_000 // DAY * DAY + DAY  # of 2001-09-09
JOB: dict[str, Any] = {
    "clicks": {"path": "clicks/{first}..{last}", "user": "u", "item": "i", "time": "t", "filter": "dt >= '{first}'"},
    "items": {"path": "items/dt={date}", "key": "i", "filter": "name rlike '[0-9]{2}'"},
    "features": {"item": {"i": {"encode": "vocabulary"}}},
    "output": {"path": "out/x/"},
}


def job(clicks=None, **sections):
    return configuration.validate(Config, {**JOB, "clicks": {**JOB["clicks"], **(clicks or {})}, **sections}, "test")


def test_a_day_fills_in_what_counts_from_it():
    split = {"kind": "time", "test_from": "-1d", "validation_from": "-36h"}
    clicks = {"window": "30d", "arrived": "at", "watermark": "2d"}
    found = for_date(job(clicks, date="2026-11-20", split=split))
    assert found.output.path == "out/x/dt=2026-11-20"
    assert found.items.path == "items/dt=2026-11-20"
    assert found.items.filter == "name rlike '[0-9]{2}'"
    assert found.clicks.path == "clicks/2026-10-22..2026-11-22"
    assert found.clicks.filter == "dt >= '2026-10-22'"
    assert isinstance(found.split, TimeSplit)
    assert found.split.test_from == dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
    assert found.split.validation_from == dt.datetime(2026, 11, 19, 12, tzinfo=dt.UTC)
    document = found.model_dump(mode="json", exclude_none=True)
    assert configuration.validate(Config, document, "of a manifest") == found


def test_a_plan_says_what_a_day_reads():
    clicks = {"window": "30d", "arrived": "at", "watermark": "2d"}
    dated = job(clicks, date="2026-11-20", inherit="previous").model_dump(mode="json", exclude_none=True)
    told = dict(words.choices(dated))
    assert told["day"] == ("2026-11-20 (UTC): clicks of 30d before its end, as far as they had arrived by 2d after it")
    assert told["indices"] == "those of the latest day before stay, new ones follow"
    plain = {"path": "x", "filter": None}
    undated = job(plain, items={"path": "y", "key": "i"}).model_dump(mode="json", exclude_none=True)
    assert not {"day", "indices"} & dict(words.choices(undated)).keys()


def test_without_a_day_nothing_changes():
    plain = {"path": "x", "filter": None}
    config = job(plain, items={"path": "y", "key": "i"})
    assert for_date(config) is config


@pytest.mark.parametrize(
    ("clicks", "sections", "said"),
    [
        ({"window": "3d"}, {}, "clicks.window: counts from the day that the job is for; give --date"),
        ({"window": "3d"}, {}, "items.path: counts from the day"),
        ({"arrived": "at"}, {}, "clicks.arrived: counts from"),
        ({"watermark": "1d"}, {"date": "2026-11-20"}, "give clicks.arrived"),
        ({}, {"date": "2026-11-20"}, r"clicks.filter: \{first\} is the day in which clicks.window begins"),
        ({}, {"inherit": "previous"}, "inherit: previous: counts from"),
        ({}, {"split": {"kind": "time", "test_from": "-1d"}}, "split.test_from: counts from"),
        ({}, {"split": {"kind": "time", "test_from": "1d"}}, "a span before the end of the day such as -1d"),
        (
            {"window": "3d"},
            {"date": "2026-11-20", "split": {"kind": "time", "test_from": "-2d", "validation_from": "-1d"}},
            "validation_from -1d comes after test_from -2d",
        ),
        (
            {"window": "3d"},
            {"date": "2026-11-20", "inherit": "x", "catalogue": {"kind": "partitioned"}},
            "partitioned does not serve inherit",
        ),
    ],
)
def test_what_lacks_a_day_or_contradicts_itself_is_told(clicks, sections, said):
    with pytest.raises(ConfigurationError, match=said):
        job(clicks, **sections)


# Times from two days before the end of the day to one behind it, and when each click arrived, in hours.
CLICKS = [(hours, hours + late) for hours in (-49, -48, -47, -24, -1, 0, 1) for late in (0, 1, 12, 24, 25, 72)]


def kept(spark, times, kind, clicks, arrivals=None):
    """Positions of the clicks that a job for the day reads."""
    from pipelines import inputs
    from pipelines.period import Period

    columns = {"u": [1] * len(times), "i": [1] * len(times), "t": pa.array(times, kind), "n": list(range(len(times)))}
    columns |= {"at": arrivals} if arrivals is not None else {}
    config = job({"filter": None, **clicks}, date="2001-09-09")
    numbers = spark.createDataFrame(pa.table({"key": [1], "number": pa.array([0], pa.int32())}))
    rows = spark.createDataFrame(pa.table(columns))
    checked = inputs.checked_clicks(rows, config.clicks, numbers)
    unit = config.clicks.time_unit if inputs.time_is_counted(rows, config.clicks) else "microseconds"
    period = Period.of(config)
    assert period is not None
    found = period.kept(checked, unit).selectExpr("get_json_object(row, '$.n') as n", "reason").collect()
    return {int(row.n): row.reason for row in found}


@pytest.mark.spark
@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, "timestamp"])
def test_a_window_is_a_span_of_time_before_the_end_of_the_day(spark, unit):
    hours = sorted({hour for hour, _ in CLICKS})
    times = [END + 3_600 * hour for hour in hours] + [None]
    kind = pa.timestamp("us", tz="UTC") if unit == "timestamp" else pa.int64()
    factor = 1_000_000 if unit == "timestamp" else unit
    times = [None if time is None else time * factor for time in times]
    expected = {place for place, hour in enumerate(hours) if -48 <= hour < 0} | {len(hours)}
    found = kept(spark, times, kind, {"window": "2d"})
    assert set(found) == expected
    assert found[len(hours)] == "null_time"  # of no day, so that it is told and not lost
    assert set(kept(spark, times, kind, {"window": "90000d"})) == expected | {0}


@pytest.mark.spark
@pytest.mark.parametrize("watermark", [None, "1d"])
def test_late_clicks_are_read_up_to_the_watermark(spark, watermark):
    times, arrivals = ([END + 3_600 * hours for hours in column] for column in zip(*CLICKS, strict=True))
    until = END + (DAY if watermark else 0)
    expected = {
        n
        for n, (time, at) in enumerate(zip(times, arrivals, strict=True))
        if END - 2 * DAY <= time < END and at < until
    }
    options = {"window": "2d", "arrived": "at", **({"watermark": watermark} if watermark else {})}
    found = kept(spark, times, pa.int64(), options, arrivals)
    assert set(found) == expected
    assert len(expected) < sum(END - 2 * DAY <= time < END for time in times)
    dates = [dt.datetime.fromtimestamp(at, dt.UTC).date() for at in arrivals]  # a partition column: dt=2001-09-09
    by_date = {n for n, date in enumerate(dates) if date < dt.datetime.fromtimestamp(until, dt.UTC).date()}
    assert set(kept(spark, times, pa.int64(), options, dates)) == by_date & {
        n for n, time in enumerate(times) if END - 2 * DAY <= time < END
    }


@pytest.mark.spark
def test_a_number_that_is_no_time_of_arrival_is_told(spark):
    found = kept(spark, [END - 1] * 3, pa.int64(), {"window": "2d", "arrived": "at"}, [20010909, None, END - 1])
    assert found == {0: "bad_arrived", 1: "bad_arrived", 2: None}
