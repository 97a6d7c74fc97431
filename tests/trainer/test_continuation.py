"""Going on from an earlier model: which rows are whose, and every reason to refuse."""

import dataclasses
import json
import shutil

import google_crc32c
import numpy as np
import pytest
import yaml

from schemas.errors import ConfigurationError
from schemas.manifest import Dataset, StoredFile

pytestmark = pytest.mark.tf

NEW_ITEMS, NEW_USERS = 3, 30


def reworded(dataset, root, change):
    """A copy of a crafted dataset whose vocabularies `change` has made others; records are the same."""
    shutil.copytree(dataset.root, root)
    manifest, vocabulary, sizes = dataset.manifest, {}, {}
    for name in manifest.vocabulary:
        values = change(name, dataset.vocabulary(name))
        data = "".join(f"{value}\n" for value in values).encode()
        (root / "vocabulary" / f"{name}.txt").write_bytes(data)
        vocabulary[name] = StoredFile(f"vocabulary/{name}.txt", len(data), google_crc32c.value(data))
        sizes[name] = len(values)
    sides = {
        side: tuple(dataclasses.replace(f, size=sizes.get(f.name, f.size)) for f in getattr(manifest.record, side))
        for side in ("user", "item")
    }
    record = dataclasses.replace(manifest.record, **sides)
    manifest = dataclasses.replace(manifest, record=record, vocabulary=vocabulary, content_digest="of the next day")
    (root / "manifest.json").write_text(json.dumps(manifest.to_json()), encoding="utf-8")
    return Dataset.open(root)


def grown(name, values):
    """Some items and users more, the latter enough to widen the vector of a new model's users."""
    more = {"item_id": NEW_ITEMS, "user_id": NEW_USERS}.get(name, 0)
    escaped = [value.replace("\\", "\\\\").replace("\n", "\\n") for value in values]
    return [*escaped, *(f"new {n}" for n in range(more))]


@pytest.fixture(scope="module")
def today(crafted):
    return crafted(layout="block", history=("item_id",))


@pytest.fixture(scope="module")
def tomorrow(today, tmp_path_factory):
    return reworded(today, tmp_path_factory.mktemp("days") / "tomorrow", grown)


def config_of(configured, **options):
    return configured(**{"model__dimension": 16, "epochs": 1, **options})


def model_of(trained, dataset, config, folder):
    """What `run.train` leaves of a trained model, but for its export."""
    from trainer import continuation
    from trainer.dataset import record_spec

    spec = record_spec(dataset, config.model.user.history_length)
    continuation.write(folder, dataset, spec, trained.catalogue, trained.model.user_tower.widths)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def first(today, configured, tmp_path_factory):
    from trainer import loop

    folder, config = tmp_path_factory.mktemp("first"), config_of(configured)
    trained = loop.train(today, config, folder, lambda line: None)
    return trained, model_of(trained, today, config, folder)


def tables(model):
    """By path, the variables with a row for each value."""
    return {variable.path: variable.numpy() for variable in model.variables if variable.name == "table"}


def following(dataset, configured, folder, warm_start, **options):
    from trainer import loop

    said: list[str] = []
    return loop.train(dataset, config_of(configured, **options), folder, said.append, warm_start=warm_start)


def test_old_rows_are_yesterdays_and_new_ones_those_of_a_new_model(tomorrow, configured, first, tmp_path):
    trained, folder = first
    still = {"optimizer__learning_rate": 1e-12}
    found = following(tomorrow, configured, tmp_path / "warm", folder, **still)
    fresh = following(tomorrow, configured, tmp_path / "fresh", None, seed=42, **still)
    before, after = tables(trained.model), tables(found.model)
    assert set(before) == set(after)
    grew = {path: len(after[path]) - len(table) for path, table in before.items() if len(after[path]) > len(table)}
    assert sorted(grew.values()) == [NEW_ITEMS, NEW_USERS]
    for path, table in before.items():
        np.testing.assert_allclose(after[path][: len(table)], table, atol=1e-9)
        assert np.abs(table - tables(fresh.model).get(path, table + 1)[: len(table), : table.shape[1]]).max() > 1e-3
    (items,) = (path for path, count in grew.items() if count == NEW_ITEMS)
    np.testing.assert_allclose(after[items][-NEW_ITEMS:], tables(fresh.model)[items][-NEW_ITEMS:], atol=1e-9)
    assert found.before.to_json(tomorrow, found.catalogue) == {
        "model": str(folder),
        "dataset": trained_on(folder)["content_digest"],
        "new_values": {"user_id": NEW_USERS, "item_id": NEW_ITEMS, "genres": 0, "interests": 0},
        "new_items": 0,
    }


def trained_on(folder):
    return json.loads((folder / "trained_on.json").read_text(encoding="utf-8"))


def test_user_vectors_stay_as_wide_as_they_were(tomorrow, configured, first, tmp_path):
    """A new model of so many users would have wider ones, and nothing of the earlier weights would fit."""
    widths = following(tomorrow, configured, tmp_path / "warm", first[1]).model.user_tower.widths
    assert widths == first[0].model.user_tower.widths == trained_on(first[1])["user_widths"]
    assert following(tomorrow, configured, tmp_path / "new", None).model.user_tower.widths != widths


def test_it_begins_where_yesterday_ended(tomorrow, configured, first, tmp_path):
    warm = following(tomorrow, configured, tmp_path / "warm", first[1])
    new = following(tomorrow, configured, tmp_path / "new", None)
    assert warm.progress.curve[0]["loss"] < new.progress.curve[0]["loss"] - 0.01


def test_a_run_that_was_begun_otherwise_is_not_gone_on_with(tomorrow, configured, first, tmp_path):
    """An unfinished run of a new model lies in the folder: its weights are not the earlier model's."""
    following(tomorrow, configured, tmp_path, None, epochs=2)
    warm = following(tomorrow, configured, tmp_path, first[1], epochs=2)
    alone = following(tomorrow, configured, tmp_path / "alone", first[1], epochs=2)
    np.testing.assert_array_equal(warm.items, alone.items)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda name, values: [values[0], *values[:0:-1]], "the vocabulary of '.*' does not begin with the"),
        (lambda name, values: values[:-1] if name == "item_id" else values, "vocabulary of 'item_id' does not begin"),
    ],
)
def test_vocabularies_that_do_not_go_on_are_refused(today, configured, first, tmp_path, change, said):
    def escaped(name, values):
        return [value.replace("\\", "\\\\").replace("\n", "\\n") for value in change(name, values)]

    other = reworded(today, tmp_path / "other", escaped)
    with pytest.raises(ConfigurationError, match=said):
        following(other, configured, tmp_path / "model", first[1])


def test_another_tower_or_other_features_are_refused(crafted, tomorrow, configured, first, tmp_path):
    for options, said in (
        ({"model__dimension": 8}, "model.dimension is 16 there and 8 here"),
        ({"model__user__encoder": "mean", "model__user__heads": None}, "model.user.encoder is 'weighted' there"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            following(tomorrow, configured, tmp_path / "model", first[1], **options)
    other = crafted(layout="block", history=("item_id", "genres"))
    with pytest.raises(ConfigurationError, match="histories hold"):
        following(other, configured, tmp_path / "model", first[1])
    with pytest.raises(ConfigurationError, match="expected a model that python -m trainer train wrote"):
        following(tomorrow, configured, tmp_path / "model", tmp_path / "absent")


def test_a_matrix_grows_with_the_catalogue_and_only_with_the_same_items(today, tomorrow, configured, tmp_path):
    from trainer import continuation, loop
    from trainer.dataset import read_catalogue, record_spec

    matrix = {"model__item__kind": "matrix", "loss__kind": "sampled_softmax", "loss__negatives": 5}
    config = config_of(configured, **matrix)
    folder = tmp_path / "first"
    trained = loop.train(today, config, folder, lambda line: None)
    model_of(trained, today, config, folder)
    spec, catalogue = record_spec(tomorrow), read_catalogue(tomorrow, record_spec(tomorrow))
    found = continuation.of(folder, tomorrow, spec, catalogue, config)
    from trainer.towers import TwoTowers

    larger = TwoTowers(spec, config.model, 1, len(catalogue) + 2, found.widths)
    initial = larger.item_tower.weights_matrix.numpy()
    found.put_into(larger.variables)
    weights = larger.item_tower.weights_matrix.numpy()
    np.testing.assert_array_equal(weights[:-2], trained.model.item_tower.weights_matrix.numpy())
    np.testing.assert_array_equal(weights[-2:], initial[-2:])
    moved = dataclasses.replace(catalogue, key=[*catalogue.key[1:], catalogue.key[0]])
    with pytest.raises(ConfigurationError, match="items are numbered otherwise"):
        continuation.of(folder, tomorrow, spec, moved, config)


def test_log_uniform_in_the_graph_needs_items_by_falling_clicks(today, configured, tmp_path):
    config = {"loss__kind": "in_graph_softmax", "loss__negatives": 5}
    inherited = dataclasses.replace(today.manifest, statistics={"inherited": {"items": 40}})
    with pytest.raises(ConfigurationError, match="inherits its indices"):
        following(Dataset(today.root, inherited), configured, tmp_path, None, loss__sampler="log_uniform", **config)
    following(Dataset(today.root, inherited), configured, tmp_path, None, loss__sampler="uniform", **config)


def test_what_is_gone_is_neither_ranked_nor_counted_as_popular(today, configured, first):
    from trainer import evaluation

    trained = first[0]
    gone = np.zeros(len(trained.catalogue), bool)
    gone[np.setdiff1d(trained.assessed["test"].ranking.top, trained.held_out["test"].positive)[:4]] = True
    users, held_out = trained.users["test"], trained.held_out["test"]
    catalogue = dataclasses.replace(trained.catalogue, gone=gone)
    found = evaluation.assess(users, trained.items, held_out, catalogue, True)
    assert gone.sum() > 0
    assert not gone[found.ranking.top[found.ranking.top >= 0]].any()
    scores = users @ trained.items.T
    for click, positive in enumerate(held_out.positive):
        ends = np.cumsum(held_out.exclude[1])
        known = held_out.exclude[0][ends[click] - held_out.exclude[1][click] : ends[click]]
        others = np.setdiff1d(np.flatnonzero(~gone), [*known, positive])
        assert found.ranking.rank[click] == (scores[click, others] >= scores[click, positive]).sum()


def test_deciles_are_of_clicks_and_not_of_indices(first):
    trained = first[0]
    assert (np.diff(trained.catalogue.count) > 0).any()  # the crafted items are in no order
    place = np.argsort(np.argsort(-trained.catalogue.count, kind="stable"))
    positive = trained.held_out["test"].positive
    found = [part["clicks"] for part in trained.assessed["test"].deciles]
    assert found == [(place[positive] // 4 == part).sum() for part in range(10)]
