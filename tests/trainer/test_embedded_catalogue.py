"""`pipelines.embed` against the trainer's own vectors: the same catalogue, and one that has grown since."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pipelines import embed, item_tower
from schemas.errors import ConfigurationError, OutputError
from schemas.manifest import Dataset
from schemas.model import Serving
from tests.trainer.raw_inputs import raw_items
from trainer import index
from trainer.index import Options
from trainer.recommender import Recommender, Request

pytestmark = [pytest.mark.beam, pytest.mark.tf]


def read(folder):
    """All rows by item_index."""
    return pa.concat_tables([pq.read_table(path) for path in folder.glob("*.parquet")]).sort_by("item_index")


@pytest.mark.parametrize("name", ["weighted", "matrix"])
def test_the_whole_catalogue_gets_the_trainers_vectors(crafted, trained_as, truth, tmp_path, monkeypatch, name):
    monkeypatch.setattr(embed, "BATCH", 7)
    model, dataset = trained_as(name)[0], crafted(layout="row", compression="GZIP")
    report = embed.run(model, dataset, str(tmp_path / "out"))
    found, own = read(tmp_path / "out"), pq.read_table(model / "item_embeddings.parquet")
    assert found["item_id"].to_pylist() == own["item_id"].to_pylist()
    assert found["item_index"].to_pylist() == list(range(40))
    assert found["title"].to_pylist() == [f"Film {i}" for i in range(40)]
    np.testing.assert_allclose(
        np.stack(found["embedding"].to_numpy()), np.stack(own["embedding"].to_numpy()), atol=1e-5
    )
    assert found["features"].to_pylist() == pq.read_table(model / "items.parquet")["features"].to_pylist()
    assert (report["items"], report["unknown_items"], report["dimension"]) == (40, 0, 9 if name == "matrix" else 8)
    told = json.loads((tmp_path / "out" / "_embeddings.json").read_text())
    assert told == report
    assert sum(file["items"] for file in told["files"].values()) == 40
    with pytest.raises(OutputError, match="--overwrite"):
        embed.run(model, dataset, str(tmp_path / "out"))


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_features_are_the_worlds_own_values(crafted, trained_as, truth, request, where):
    """What a batch sends to the tower, without Beam: texts, numbers and lists of items put together by hand."""
    dataset, serving = crafted(layout="row"), Serving.read(trained_as("weighted")[0])
    if where == "s3":
        dataset = Dataset.open(request.getfixturevalue("bucket").upload(dataset.root, "data"))
    (shard,) = dataset.manifest.items.shards
    (batch,) = embed.batches(dataset.location(shard), dataset.uri, serving)
    order = batch.rows["item_index"].to_pylist()
    expected = raw_items(truth, order)
    assert batch.inputs.keys() == expected.keys()
    width = batch.inputs["genres"].shape[1]
    assert batch.inputs["genres"].tolist() == expected["genres"][:, :width].tolist()
    for name in ("item_id", "content", "price"):
        np.testing.assert_array_equal(batch.inputs[name], expected[name])


def test_a_tower_is_not_asked_what_it_would_misunderstand(crafted, trained_as, tmp_path):
    """Buckets that lie elsewhere, features that are not there: told before Beam starts."""
    dataset, model = crafted(layout="row"), trained_as("weighted")[0]
    manifest = dataset.manifest
    item = tuple(
        dataclasses.replace(field, encode="buckets", boundaries=(1.0,), size=3) if field.name == "price" else field
        for field in manifest.record.item
    )
    for fields, told in ((item, "'price' differs from the model's in encode"), (item[1:], "no item feature 'item_id'")):
        record = dataclasses.replace(manifest.record, item=fields)
        other = Dataset(dataset.root, dataclasses.replace(manifest, record=record))
        with pytest.raises(ConfigurationError, match=told):
            embed.run(model, other, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_items_a_matrix_does_not_know_are_left_out(tmp_path):
    import tensorflow as tf

    class Known(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[{"item_id": tf.TensorSpec([None], tf.string, "item_id")}])
        def serve(self, inputs):
            known = tf.cast(inputs["item_id"] != "new", tf.float32)
            return {"embedding": tf.stack([known, 2 * known], 1)}

    module = Known()
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.serve})
    batch = item_tower.Batch(pa.table({"item_index": [0, 1, 2]}), {"item_id": np.array(["a", "new", "b"], object)})
    found = item_tower.embedded(batch, tf.saved_model.load(str(tmp_path)))
    assert found.to_pylist() == [{"item_index": i, "embedding": [1.0, 2.0]} for i in (0, 2)]


def test_an_index_of_a_newer_catalogue_answers_with_its_items(crafted, crafting, trained_as, truth, tmp_path):
    """Titles have changed since; vectors of another model are refused."""
    pytest.importorskip("faiss", reason="an extra: pip install '.[ann]'")
    model = trained_as("weighted")[0]
    newer = crafting(tmp_path / "newer", truth, title="Reel")
    embed.run(model, newer, str(tmp_path / "out"))
    built = index.build(model, tmp_path / "out", tmp_path / "index", Options(), print)
    assert (built["items"], built["recall"]) == (40, 1.0)
    answer = Recommender(model, tmp_path / "index").recommend(Request(user="u3"))
    assert all(title == f"Reel {item[1:]}" for _, item, title in answer.items)
    with pytest.raises(ConfigurationError, match="made by another model"):
        index.build(trained_as("matrix")[0], tmp_path / "out", tmp_path / "index", Options(), print)


def test_the_command(crafted, trained_as, tmp_path):
    root, model = str(crafted(layout="row").root), str(trained_as("weighted")[0])

    def run(*arguments):
        return CliRunner().invoke(embed.main, list(map(str, arguments)))

    done = run("--model", model, "--data", root, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "40 items, 8 numbers" in done.output
    assert run("--model", model, "--data", root, "--output", tmp_path / "out").exit_code == 4
    assert run("--model", tmp_path, "--data", root, "--output", tmp_path / "new").exit_code == 2
    assert run("--model", model, "--data", tmp_path, "--output", tmp_path / "new").exit_code == 1
    assert not (tmp_path / "new").exists()
