"""What a run says and leaves: events with their figures, jobs with the names of steps, and no secret anywhere."""

import json
import logging

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from pipelines import prebatch
from pipelines.commands import reporting_errors
from schemas.errors import DataError
from schemas.manifest import Dataset

SECRET = "hunter2hunter2"
STEPS = ["spark", "items", "clicks", "catalogue", "users", "plan", "records", "publish"]


def run(document, folder, *options):
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return CliRunner().invoke(prebatch.main, ["--config", str(path), *options])


def events(result):
    return [json.loads(line) for line in result.stderr.splitlines()]


@pytest.fixture(scope="module")
def document(jobs):
    import pyarrow as pa

    rng = np.random.default_rng(2)
    clicks = [(int(u), int(i), 900_000_000 + t) for t, (u, i) in enumerate(rng.integers(0, 20, (300, 2)))]
    clicks.append((1, 999, 900_000_400))
    paths = jobs.inputs(clicks, pa.table({"item_id": pa.array(range(20), pa.int64())}))
    made = jobs.document(paths, limits={"rejected_share": 0.1})
    made["clicks"]["filter"] = f"'jdbc:x://me:{SECRET}@host/?password={SECRET}' <> ''"
    return made


@pytest.fixture(scope="module")
def told(spark, document, tmp_path_factory):
    """A run with `--log json`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.progress.PLAIN_SECONDS", 0.2)
        result = run(document, tmp_path_factory.mktemp("told"), "--log", "json", "--debug")
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.spark
def test_each_step_is_two_events_and_the_end_has_the_figures(told, document):
    found = events(told)
    assert told.stdout == ""
    assert {"time", "level", "event", "message"} <= set.intersection(*(set(event) for event in found))
    assert {event["level"] for event in found} == {"info"}
    for kind in ("step_started", "step_ended"):
        assert [event["step"] for event in found if event["event"] == kind] == STEPS
    ended = {event["step"]: event for event in found if event["event"] == "step_ended"}
    assert (ended["items"]["usable"], ended["items"]["read"]) == (20, 20)
    assert ended["clicks"]["train"] == 300
    manifest = Dataset.open(document["output"]["path"]).manifest
    train = manifest.splits["train"]
    assert (ended["records"]["records"], ended["records"]["bytes"]) == (train.records, train.bytes)
    last = found[-1]
    assert (last["event"], last["dataset"]) == ("published", document["output"]["path"])
    assert last["content_digest"] == manifest.content_digest
    assert last["rows"]["clicks"] == {"read": 301, "used": 300, "rejected": 1}
    assert last["rejected"] == {"clicks.unknown_item": 1}
    assert last["splits"]["train"] == {"clicks": 300, "records": 300, "bytes": train.bytes, "shards": 2}
    running = [event for event in found if event["event"] == "step_running"]
    assert all(event["seconds"] >= 0 and event["step"] in STEPS for event in running)
    assert any("tasks_done" in event for event in running)


@pytest.mark.spark
def test_the_manifest_has_the_time_of_each_step(told, document):
    seconds = Dataset.open(document["output"]["path"]).manifest.timings_seconds
    assert list(seconds) == [*STEPS[:-1], "total"]
    assert all(value >= 0 for value in seconds.values())
    assert sum(seconds.values()) - seconds["total"] <= seconds["total"] + 0.01
    ended = {event["step"]: event["seconds"] for event in events(told) if event["event"] == "step_ended"}
    assert {name: ended[name] for name in STEPS[:-1]} == {name: seconds[name] for name in STEPS[:-1]}


@pytest.mark.spark
def test_spark_s_jobs_have_the_names_of_steps(told, spark):
    jobs = spark.sparkContext._jsc.sc().statusStore().jobsList(None)
    told_of = [jobs.apply(place).description() for place in range(jobs.size())]
    names = {name.get() for name in told_of if name.isDefined()}  # other tests of this session name none
    assert {"reading items", "reading and splitting clicks", "drawing negatives, writing records"} <= names
    assert spark.sparkContext.getLocalProperty("spark.job.description") is None


@pytest.mark.spark
def test_a_secret_of_the_job_file_is_nowhere(told, document):
    """Neither in the log, nor in any file of the dataset; the condition that holds it was used as it is."""
    from pathlib import Path

    files = [path for path in Path(document["output"]["path"]).rglob("*") if path.is_file()]
    assert {"manifest.json", "report.html"} <= {path.name for path in files}
    assert [path.name for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in told.output
    stored = Dataset.open(document["output"]["path"]).manifest.config["clicks"]["filter"]
    assert stored == "'jdbc:x://***@host/?password=***' <> ''"


@pytest.mark.spark
def test_sets_can_be_appended_to_a_dataset_whose_secrets_are_hidden(told, spark, document, tmp_path):
    result = run(document, tmp_path, "--epoch-from", "1", "--set", "negatives.epochs=2", "--no-progress")
    assert result.exit_code == 0, result.output
    assert SECRET not in result.output


@pytest.mark.spark
@pytest.mark.parametrize("log", ["text", "json"])
def test_an_input_that_cannot_be_read_is_told_without_its_secret(spark, document, tmp_path, log):
    clicks = {**document["clicks"], "path": f"s3a://key:{SECRET}@bucket/clicks.parquet"}
    broken = {**document, "clicks": clicks, "output": {"path": str(tmp_path / "out")}}
    result = run(broken, tmp_path, "--debug", "--log", log)
    assert result.exit_code in (1, 3)
    assert SECRET not in result.output
    if log == "json":
        lines = [line for line in result.stderr.splitlines() if line.startswith("{")]
        failed, error = (json.loads(line) for line in lines[-2:])
        assert (failed["event"], failed["level"], failed["step"]) == ("step_failed", "error", "clicks")
        assert (error["event"], error["exit_code"]) == ("error", result.exit_code)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--log", "json"], 2),
        (["--log=json", "--config", "nowhere.yaml"], 2),
        (["--log", "json", "--config", "x", "--unknown"], 2),
    ],
)
def test_bad_arguments_are_one_event_too(options, code):
    result = CliRunner().invoke(prebatch.main, options)
    assert result.exit_code == code
    (event,) = events(result)
    assert (event["event"], event["level"], event["exit_code"]) == ("error", "error", code)


def test_an_error_is_one_event_with_its_code(capsys):
    with pytest.raises(SystemExit) as end, reporting_errors(debug=False, log="json"):
        raise DataError(f"jdbc:x://me:{SECRET}@host cannot be read")
    assert end.value.code == 3
    event = json.loads(capsys.readouterr().err)
    assert (event["kind"], event["exit_code"]) == ("DataError", 3)
    assert event["message"] == "jdbc:x://***@host cannot be read"


def test_a_traceback_hides_secrets_too(capsys):
    with pytest.raises(SystemExit), reporting_errors(debug=True):
        raise RuntimeError(f"jdbc:x://me:{SECRET}@host\nsecond line")
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert SECRET not in said


def test_what_libraries_log_is_what_is_shown(caplog):
    import io

    from pipelines.progress import Progress

    with caplog.at_level(logging.INFO, "pipelines.progress"), Progress(io.StringIO()).step("a", f"x://me:{SECRET}@h"):
        pass
    assert SECRET not in caplog.text
    assert "x://***@h" in caplog.text
