"""Exported towers: raw values in, the trainer's own vectors out, in a process that knows nothing of us."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from schemas.errors import ConfigurationError, ProjectError
from tests.trainer.models import VARIANTS
from tests.trainer.raw_inputs import embed, raw_items, raw_users

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def model(trained_as):
    return trained_as("weighted")


@pytest.fixture(scope="module")
def towers(loaded):
    return loaded("weighted")


@pytest.mark.parametrize("name", VARIANTS)
def test_the_towers_rank_as_metrics_json_says(trained_as, loaded, truth, name):
    """From raw values put together here: vectors, and recall@10 counted by hand."""
    model, towers = trained_as(name), loaded(name)
    raw = raw_items(truth, range(len(truth.items)))
    items = embed(towers["item"], {"item_id": raw["item_id"]} if name == "matrix" else raw)
    users = embed(towers["user"], raw_users(truth, truth.test, 5))
    if name == "matrix":
        np.testing.assert_array_equal(users[:, -1], np.ones(len(users)))
    else:
        np.testing.assert_allclose(np.linalg.norm(np.r_[items, users], axis=1), 1, atol=1e-5)
    hits = 0
    for click, scores in zip(truth.test, users @ items.T, strict=True):
        scores[click.known] = -np.inf
        hits += (scores >= scores[click.item]).sum() <= 10
    metrics = json.loads((model[0] / "metrics.json").read_text())
    assert metrics["test"]["recall@10"] == pytest.approx(hits / len(truth.test))
    table = pq.read_table(model[0] / "item_embeddings.parquet")
    assert table["item_id"].to_pylist() == [f"i{i}" for i in range(len(truth.items))]
    np.testing.assert_allclose(np.stack(table["embedding"].to_numpy()), items, atol=1e-5)


def test_unknown_values_are_out_of_vocabulary(towers, truth):
    known = raw_items(truth, [3, 3])
    unknown = known | {"item_id": np.array([b"never seen", b"[OOV]"], object)}
    found = embed(towers["item"], unknown)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert np.abs(found[0] - embed(towers["item"], known)[0]).max() > 1e-3


def test_a_matrix_knows_its_own_items_alone(loaded):
    ids = np.array([b"i3", b"never seen", b"", b"i4"], object)
    found = embed(loaded("matrix")["item"], {"item_id": ids})
    assert (np.abs(found).max(axis=1) > 0).tolist() == [True, False, False, True]


@pytest.mark.parametrize("name", VARIANTS)
def test_histories_longer_than_trained_on_and_padding_are_ignored(loaded, truth, name):
    towers = loaded(name)
    click = next(click for click in truth.test if len(click.history) == 5)
    inputs = raw_users(truth, [click], 5)
    expected = embed(towers["user"], inputs)
    longer = {
        name: np.concatenate([values[:, :1], values, values[:, :2]], axis=1)
        if name.startswith("history_") and name != "history_lengths"
        else values
        for name, values in inputs.items()
    }
    found = embed(towers["user"], longer | {"history_lengths": np.array([6])})
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_user_without_history(loaded, truth, name):
    towers = loaded(name)
    inputs = raw_users(truth, [truth.test[0]], 5)
    nothing = {
        name: values[:, :0] if name.startswith("history_") and name != "history_lengths" else values
        for name, values in inputs.items()
    } | {"history_lengths": np.array([0])}
    found = embed(towers["user"], nothing)
    assert np.isfinite(found).all()
    stated = embed(towers["user"], inputs | {"history_lengths": np.array([0])})
    np.testing.assert_allclose(found, stated, atol=1e-6)


@pytest.mark.parametrize("name", ["weighted", "matrix"])
def test_evaluate_recomputes_the_metrics_from_what_was_exported(crafted, trained_as, tmp_path, capfd, name):
    from trainer.__main__ import commands

    model = trained_as(name)
    before = json.loads((model[0] / "metrics.json").read_text())
    arguments = ["evaluate", "--model", str(model[0]), "--data", str(crafted(layout="block").root)]
    capfd.readouterr()
    commands.main([*arguments, "--output", str(tmp_path), "--log", "json"], standalone_mode=False)
    out, err = capfd.readouterr()
    assert out == ""
    *said, last = events(err)
    assert {event["event"] for event in said} == {"said"}
    after = json.loads((tmp_path / "metrics.json").read_text())
    assert (last["event"], last["output"]) == ("evaluated", str(tmp_path))
    assert after.items() <= last.items()
    for name in ("test", "validation", "cold", "warm", "most_popular"):
        assert after[name] == pytest.approx(before[name], abs=1e-6)
    assert before["dataset"]["digest"] == crafted(layout="block").manifest.content_digest


@pytest.mark.parametrize("name", ["weighted", "gru"])
def test_training_tells_events_and_nothing_else(trained_as, name):
    """The folder's model was trained by the command with `--log json`; all that came out of it by any way."""
    folder, told = trained_as(name)
    *said, last = events(told.read_text(encoding="utf-8"))
    assert {event["event"] for event in said} == {"said"}
    words = " ".join(event["message"] for event in said)
    for part in ("starting TensorFlow", "576 train", "best epoch", "recall@10", str(folder / "report.html")):
        assert part in words
    assert last["event"] == "trained"
    assert json.loads((folder / "metrics.json").read_text()).items() <= last.items()


def events(text):
    """All lines as events, none of which is anything else."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "event", "message"} <= set(event) for event in found)
    assert {event["level"] for event in found} == {"info"}
    return found


@pytest.mark.parametrize("name", ["weighted", "matrix"])
def test_items_that_are_not_stored_get_what_the_item_tower_says(crafted, trained_as, truth, tmp_path, name):
    """The file of vectors without its first items stands for a catalogue that has grown since."""
    from trainer.dataset import read_catalogue, record_spec
    from trainer.raw import RawValues
    from trainer.served import Served

    folder = shutil.copytree(trained_as(name)[0], tmp_path / "older")
    table = pq.read_table(folder / "item_embeddings.parquet")
    pq.write_table(table.slice(10), folder / "item_embeddings.parquet")
    dataset = crafted(layout="block")
    spec = record_spec(dataset)
    vectors = Served(folder).item_vectors(read_catalogue(dataset, spec), RawValues(dataset, spec))
    np.testing.assert_allclose(vectors, np.stack(table["embedding"].to_numpy()), atol=1e-5)


def test_differences_are_shares_of_the_largest_number():
    from trainer import verification

    expected = np.array([[300.0, -1.0]], np.float32)
    assert verification._difference(expected + np.float32(0.03), expected) == pytest.approx(1e-4, rel=1e-2)
    assert verification._difference(expected / 1000 + np.float32(0.03), expected / 1000) == pytest.approx(
        0.03, rel=1e-3
    )
    assert verification._difference(expected[:, :1], expected) == float("inf")
    assert not verification._difference(expected * np.float32("nan"), expected) <= 1


def test_an_export_that_differs_is_an_error(model, crafted, configured, tmp_path):
    """Probes of another model stand for a tower that computes something else."""
    from trainer import export

    folder = shutil.copytree(model[0], tmp_path / "broken")
    vectors = np.stack(pq.read_table(folder / "item_embeddings.parquet")["embedding"].to_numpy())
    np.savez(folder / "probes.npz", embeddings=vectors[::-1])
    with pytest.raises(ProjectError, match="differ from the trainer's own vectors"):
        export.verify(folder)
    shutil.rmtree(folder / "item_tower")
    with pytest.raises(ProjectError, match="cannot be loaded by a fresh process"):
        export.verify(folder)


def test_what_a_model_folder_holds(model):
    folder, told = model
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {
        "metrics.json", "user_tower", "item_tower", "item_embeddings.parquet", "items.parquet", "users.parquet",
        "serving.json", "config.yaml", "report.html", "trained_on.json", "checkpoints", "logs",
    }  # fmt: skip
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["test"]) == {
        "recall@10", "recall@50", "recall@100", "ndcg@10", "mrr", "coverage@10", "clicks",
    }  # fmt: skip
    assert {"validation", "cold", "most_popular", "speed", "dataset"} <= metrics.keys()
    assert metrics["warm_start"] is None
    assert set(metrics["speed"]) == {"examples_per_second", "step_ms", "input_share"}
    text = "\n".join(event["message"] for event in events(told.read_text(encoding="utf-8")))
    assert text.count("ranked") == 3
    assert "Film " in text
    assert "most popular" in text


def test_the_report_opens_without_a_network(model, crafted, configured, tmp_path):
    page = (model[0] / "report.html").read_text(encoding="utf-8")
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page
    assert page.count("<svg") == 3


def test_titles_are_escaped_in_the_report(crafted, configured, tmp_path):
    from trainer import loop, recommendations, report

    dataset = crafted(layout="block", title="<b>Film</b> &")
    config = configured(epochs=1)
    trained = loop.train(dataset, config, tmp_path, print)
    found = recommendations.samples(trained.held_out["test"], trained.catalogue, trained.assessed["test"].ranking)
    page = report.page(trained, config, dataset, found)
    assert "<b>Film" not in page
    assert "&lt;b&gt;Film&lt;/b&gt; &amp; " in page


def test_a_folder_without_a_model_is_refused(tmp_path):
    from trainer.served import Served

    with pytest.raises(ConfigurationError, match="user_tower is missing"):
        Served(tmp_path)
