"""`index` and `recommend`: a model's folder and an index are all there is, and the answer is the exact ranking."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import ConfigurationError, CorruptDataset
from tests.trainer.raw_inputs import embed, raw_users
from trainer import index
from trainer.index import Options
from trainer.recommender import Recommender, Request, items_of

pytest.importorskip("faiss", reason="an extra: pip install '.[ann]'")
pytestmark = pytest.mark.tf

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def indexed(trained_as, tmp_path_factory):
    """A copy of a variant's model with its index: nothing points at the dataset any more."""
    made = {}

    def model(name):
        if name not in made:
            made[name] = shutil.copytree(trained_as(name)[0], tmp_path_factory.mktemp("served") / name)
            index.build(made[name], None, index.default(made[name]), Options(), print)
        return made[name]

    return model


@pytest.fixture(scope="module")
def recommender(indexed):
    return Recommender(indexed("weighted"), index.default(indexed("weighted")))


def exact(folder, tower, truth, click, k):
    """The ranking of a click's user by every product, from raw values put together here."""
    items = np.stack(pq.read_table(folder / "item_embeddings.parquet")["embedding"].to_numpy())
    scores = items @ embed(tower, raw_users(truth, [click], 5))[0]
    scores[click.known] = -np.inf
    return [f"i{i}" for i in np.argsort(-scores, kind="stable")[:k]], np.sort(scores)[::-1][:k]


@pytest.mark.parametrize("name", ["weighted", "matrix"])
def test_users_the_model_carries_get_the_exact_ranking_without_what_they_had(indexed, loaded, truth, name):
    found = Recommender(indexed(name), index.default(indexed(name)))
    for click in truth.test[::6]:
        expected, scores = exact(indexed(name), loaded(name)["user"], truth, click, 10)
        answer = found.recommend(Request(user=f"u{click.user}", k=10))
        assert [item for _, item, _ in answer.items] == expected
        np.testing.assert_allclose([score for score, _, _ in answer.items], scores, atol=1e-4)
        assert [title for _, _, title in answer.items] == [f"Film {item[1:]}" for item in expected]
        assert answer.notes == []


def test_features_and_a_history_given_by_hand_are_the_same_person(recommender, truth):
    click = truth.test[3]
    user = truth.users[click.user]
    genres = ["", "action", "comédie", "dra\\ma", "film\nnoir", "western"]
    features = {
        "age": ["", "3", "18", "49.5", "50"][user["age"]],
        "interests": ",".join(genres[i] if i else "?" for i in user["interests"]),
        "mood": ",".join(map(str, user["mood"])),
    }
    carried = recommender.recommend(Request(user=f"u{click.user}", k=5))
    history = [f"i{i}" for i in click.history]
    given = recommender.recommend(Request(None, features | {"user_id": f"u{click.user}"}, history, 38))
    shown = [row for row in given.items if row[1] not in {f"i{i}" for i in click.known}]
    assert [item for _, item, _ in shown[:5]] == [item for _, item, _ in carried.items]
    assert not {item for _, item, _ in given.items} & set(history)
    # A user the model does not carry: the id goes into the feature that holds it.
    alone = recommender.recommend(Request(f"u{click.user}", features, history, 38))
    assert alone.items == given.items


def test_what_is_unknown_is_told_and_handled(recommender):
    known = recommender.recommend(Request(history=["i3", "i5"]))
    mixed = recommender.recommend(Request(history=["nowhere", "i3", "i5"]))
    assert mixed.items == known.items
    assert "not in the index, left out of the history: nowhere" in mixed.notes
    assert "not given, so unknown to the tower: user_id, age, interests, mood" in known.notes
    nobody = recommender.recommend(Request(user="nobody"))
    assert len(nobody.items) == 10
    assert "user nobody is not among the 24 whose history the model carries: give --history" in nobody.notes
    everything = recommender.recommend(Request(history=["i3"], k=100))
    assert len(everything.items) == 39
    assert any("39 of 100 items" in note for note in everything.notes)


@pytest.mark.parametrize(
    ("features", "told"),
    [
        ({"aeg": "3"}, "did you mean 'age'"),
        ({"age": "old"}, "expected a number"),
        ({"mood": "1"}, "expected 2 numbers"),
    ],
)
def test_bad_features_are_refused(recommender, features, told):
    with pytest.raises(ConfigurationError, match=told):
        recommender.recommend(Request(features=features))


def test_the_order_of_a_history_matters_and_its_commas_do_not(recommender):
    ids = recommender.index.items["item_id"]
    assert items_of(["i3,i5", "i7"], ids) == ["i3", "i5", "i7"]
    assert items_of(["a,b", "a, c"], pa.chunked_array([["a,b"]])) == ["a,b", "a", "c"]
    forth, back = (
        recommender.recommend(Request(history=history)).items for history in (["i3", "i5", "i7"], ["i7", "i5", "i3"])
    )
    assert forth != back


def test_what_people_had_stays_where_the_model_says_so(indexed, tmp_path):
    model = shutil.copytree(indexed("weighted"), tmp_path / "groceries")
    told = json.loads((model / "serving.json").read_text())
    (model / "serving.json").write_text(json.dumps(told | {"exclude_history": False}))
    answer = Recommender(model, model / "index").recommend(Request(history=["i3"], k=40))
    assert "i3" in {item for _, item, _ in answer.items}


def test_the_recall_of_an_index_is_measured_on_users(indexed, tmp_path):
    model = indexed("weighted")
    said: list[str] = []
    flat = index.build(model, None, tmp_path / "flat", Options(k=10), said.append)
    assert (flat["kind"], flat["recall"], flat["queries_of"], flat["items"]) == ("flat", 1.0, "user", 40)
    assert "recall: 1.0000 of the exact top 10, over 12 user vectors" in said[0]
    cells = index.build(model, None, tmp_path / "ivf", Options(flat_below=0, target=0.0, k=10), said.append)
    assert (cells["kind"], cells["probes"]) == ("ivf", 1)
    assert 0 < cells["recall"] < 1
    reached = index.build(model, None, tmp_path / "ivf", Options(flat_below=0, target=1.0, k=10), said.append)
    assert reached["recall"] == 1.0
    assert reached["probes"] > 1
    answer = Recommender(model, tmp_path / "ivf").recommend(Request(user="u3", k=5))
    assert answer.items == Recommender(model, tmp_path / "flat").recommend(Request(user="u3", k=5)).items


def test_an_index_that_is_damaged_or_of_another_model_is_refused(indexed, tmp_path):
    folder = shutil.copytree(index.default(indexed("weighted")), tmp_path / "index")
    with pytest.raises(ConfigurationError, match="another model"):
        Recommender(indexed("matrix"), folder)
    path = folder / "index.faiss"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptDataset, match=r"index\.faiss"):
        Recommender(indexed("weighted"), folder)
    (folder / "index.json").unlink()
    with pytest.raises(ConfigurationError, match="trainer index"):
        Recommender(indexed("weighted"), folder)


def test_no_users_go_along_where_nobody_wants_that(crafted, configured, trained_as, truth, tmp_path):
    """`export.users`: evenly spaced over those there are, none for 0; an index is measured on items then."""
    from trainer import companions, dataset
    from trainer.raw import RawValues

    data = crafted(layout="block")
    spec = dataset.record_spec(data)
    held_out, catalogue = dataset.read_held_out(data, spec, "test"), dataset.read_catalogue(data, spec)
    vectors = np.random.default_rng(0).normal(size=(len(held_out), 8)).astype(np.float32)
    found = companions.users(held_out, vectors, catalogue, spec, RawValues(data, spec), 5)
    assert found.num_rows == 5
    place = {key.decode(): row for row, key in enumerate(held_out.key)}
    for row in found.to_pylist():
        click = truth.test[place[row["user"]]]
        assert row["history"] == [f"i{i}" for i in click.history]
        assert sorted(row["seen"]) == sorted(f"i{i}" for i in click.known)
        assert row["embedding"] == vectors[place[row["user"]]].tolist()
    model = shutil.copytree(trained_as("weighted")[0], tmp_path / "model")
    pq.write_table(
        companions.users(held_out, vectors, catalogue, spec, RawValues(data, spec), 0), model / "users.parquet"
    )
    assert pq.read_metadata(model / "users.parquet").num_rows == 0
    assert index.build(model, None, tmp_path / "index", Options(), print)["queries_of"] == "item"


def test_the_command_prints_titles_without_any_training_code(indexed, tmp_path):
    """From another folder, with nothing but the model: what was imported is told at the end."""
    code = """
        import sys
        sys.argv = ["trainer", *sys.argv[1:]]
        from trainer.__main__ import main
        try:
            main()
        except SystemExit as end:
            print("modules", *sorted(sys.modules))
            sys.exit(end.code)
    """
    code = "\n".join(line[8:] for line in code.splitlines())
    arguments = ["recommend", "--model", str(indexed("weighted")), "--user", "u3", "-k", "4", "age=30"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *rows, modules = done.stdout.splitlines()
    assert rows[0].split() == ["rank", "score", "item", "title"]
    assert [row.split()[0] for row in rows[1:]] == ["1", "2", "3", "4"]
    assert all("Film i" not in row and "Film " in row for row in rows[1:])
    imported = set(modules.split()[1:])
    training = ("loop", "towers", "step", "losses", "embeddings", "batches", "dataset", "export", "serving")
    assert not {f"trainer.{name}" for name in training} & imported
    assert not {"pyspark", "apache_beam", "pipelines", "samplers"} & imported
    assert "tensorflow" in imported


def trainer(*arguments):
    command = [sys.executable, "-m", "trainer", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["recommend", "--model", "m"], "nothing was given"),
        (["recommend", "--model", "m", "--history", "1"], "expected a model's folder"),
        (["recommend", "--model", "m", "age"], "expected FEATURE=VALUE"),
        (["index", "--model", "m"], "trainer train"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_arguments_exit_with_2_before_tensorflow_starts(arguments, told):
    done = trainer(*arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert told in line
