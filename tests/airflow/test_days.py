"""The nightly DAG on MovieLens-100k, three days in the life of a model: good ones, one of bad data, one of a bad model.

Every command is the real one. Clicks lie in a folder a day, as they would come in; a day of MovieLens has some 500.
"""

import datetime as dt
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[2]
DAYS = ("1998-03-10", "1998-03-11", "1998-03-12")
WINDOW = 40
ALWAYS = {"prebatch", "audit", "train", "evaluate", "embed", "index", "publish"}
COMPARED = {"drift", "evaluate_published"}


class Place:
    """A day's inputs, the folders that the DAG writes to, and what is in them."""

    def __init__(self, folder, ml_100k):
        self.folder, self.source = folder, ml_100k
        job = yaml.safe_load((ROOT / "pipelines/examples/ml-100k.yaml").read_text(encoding="utf-8"))
        job["clicks"] |= {"path": f"{folder}/clicks", "window": f"{WINDOW}d"}
        job["items"]["path"], job["users"]["path"] = f"{ml_100k}/items.parquet", f"{ml_100k}/users.parquet"
        job |= {
            "inherit": "previous",
            "split": {"kind": "time", "test_from": "-1d", "validation_from": "-2d"},
            "output": {"path": "out"},
        }
        job["negatives"]["epochs"] = 1
        (folder / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
        self.variables = {
            "prebatch_home": ROOT, "prebatch_config": folder / "job.yaml", "prebatch_datasets": folder / "datasets",
            "prebatch_models": folder / "models", "prebatch_published": folder / "published",
            "prebatch_python": ROOT / ".venv/bin/python", "prebatch_train_options": "--set epochs=1",
            # Two models on the 500 clicks of a day differ by chance, and a day by much from the one before.
            "prebatch_publish_options": "--tolerance 0.4",
            "prebatch_drift_options": "--max-psi 9 --max-shift 9 --max-clicks 9 --max-new 9 --max-vanished 9",
        }  # fmt: skip
        clicks = pq.read_table(ml_100k / "clicks.parquet")
        for back in range(WINDOW + len(DAYS)):
            self.write_day(clicks, dt.date.fromisoformat(DAYS[-1]) - dt.timedelta(days=back))

    def write_day(self, clicks, day, spoiled=0):
        """The clicks of a day; of a spoiled one so many name no item."""
        begin = int(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp())
        mine = clicks.filter(
            pc.and_(pc.greater_equal(clicks["timestamp"], begin), pc.less(clicks["timestamp"], begin + 86_400))
        )
        bad = pa.table(
            {"user_id": [1] * spoiled, "item_id": [None] * spoiled, "timestamp": [begin] * spoiled},
            schema=mine.select(["user_id", "item_id", "timestamp"]).schema,
        )
        folder = self.folder / "clicks" / f"day={day:%Y%m%d}"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.concat_tables([mine.select(bad.column_names), bad]), folder / "part.parquet")

    def published(self):
        """(version that serves, digest of every published file)."""
        root, told = self.folder / "published", hashlib.sha256()
        for path in sorted(path for path in root.rglob("*") if path.is_file() and path.name != ".lock"):
            told.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
        return (root / "current").readlink().name, told.hexdigest()

    def metrics(self, name):
        return json.loads((self.folder / name / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def place(tmp_path_factory, ml_100k):
    return Place(tmp_path_factory.mktemp("days"), ml_100k)


@pytest.fixture(scope="module")
def story(airflow, place):
    """What became of each run, and what was published after it, by name; the days follow one another."""
    told = {}

    def run(name, date, **variables):
        succeeded, tasks, said = airflow.day(date, place.variables | variables)
        serving = place.published() if (place.folder / "published" / "current").exists() else None
        told[name] = {"succeeded": succeeded, "tasks": tasks, "said": said, "serving": serving}
        assert succeeded or name.startswith("bad"), said[-6000:]

    clicks = pq.read_table(place.source / "clicks.parquet")
    second = dt.date.fromisoformat(DAYS[1])
    run("first", DAYS[0])
    place.write_day(clicks, second, spoiled=2000)
    run("bad data", DAYS[1])
    place.write_day(clicks, second)
    run("mended", DAYS[1])
    run("bad model", DAYS[2], prebatch_train_options="--set epochs=1 --set optimizer.learning_rate=5")
    run("once more", DAYS[2])
    return told


def states(tasks, state):
    return {name for name, found in tasks.items() if found == state}


def test_the_first_day_is_made_and_serves(story, place):
    first = story["first"]
    assert states(first["tasks"], "success") == ALWAYS
    assert states(first["tasks"], "skipped") == COMPARED
    assert first["serving"][0] == "1"
    assert "--warm-start" not in first["said"]


def test_a_day_of_bad_data_fails_at_once_and_leaves_what_serves_alone(story):
    bad = story["bad data"]
    assert not bad["succeeded"]
    assert states(bad["tasks"], "failed") == {"prebatch"}
    assert states(bad["tasks"], "upstream_failed") == (ALWAYS | COMPARED) - {"prebatch"}
    assert "exit code 3" in bad["said"]
    assert "limits.rejected_share" in bad["said"]
    assert bad["serving"] == story["first"]["serving"]


def test_the_day_succeeds_once_its_data_is_mended(story, place):
    mended = story["mended"]
    assert states(mended["tasks"], "success") == ALWAYS | COMPARED
    assert mended["serving"][0] == "2"
    manifest = json.loads((place.folder / f"datasets/dt={DAYS[1]}/manifest.json").read_text(encoding="utf-8"))
    assert sum(manifest["rejected"].values()) == 0


def test_it_started_from_the_day_before_and_was_compared_with_it(story, place):
    said = story["mended"]["said"]
    assert f"'--warm-start={place.folder}/models/dt={DAYS[0]}'" in said
    assert f"'pipelines.inspect', '{place.folder}/datasets/dt={DAYS[0]}'" in said
    assert f"'--baseline={place.folder}/models/baseline/dt={DAYS[1]}/metrics.json'" in said
    # On the same clicks, or their figures could not be held against each other.
    own, served = (
        place.metrics(f"published/{story['mended']['serving'][0]}"),
        place.metrics(f"models/baseline/dt={DAYS[1]}"),
    )
    assert own["test"]["clicks"] == served["test"]["clicks"] > 100
    assert own["dataset"]["digest"] == served["dataset"]["digest"]


def test_a_bad_model_does_not_pass_the_gate_and_the_old_one_serves_on(story):
    bad = story["bad model"]
    assert not bad["succeeded"]
    assert states(bad["tasks"], "failed") == {"publish"}
    assert states(bad["tasks"], "success") == (ALWAYS | COMPARED) - {"publish"}
    assert "not published" in bad["said"]
    assert bad["serving"] == story["mended"]["serving"]


def test_the_same_day_with_a_good_model_serves(story, place):
    again = story["once more"]
    assert states(again["tasks"], "success") == ALWAYS | COMPARED
    assert again["serving"][0] == "3"
    # Not from the model of its own day that was refused.
    assert f"'--warm-start={place.folder}/models/dt={DAYS[1]}'" in again["said"]


def test_airflow_tells_downstream_of_each_model_that_came_to_serve(story, airflow):
    assert airflow.asset_events() == sum(run["succeeded"] for run in story.values()) == 3
