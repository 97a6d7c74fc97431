"""Indices that stay: catalogues that go on from earlier ones, without Spark; and which dataset is gone on from."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from pipelines import catalogue, encoding, inheritance
from pipelines.config import Config
from pipelines.input_config import Features
from pipelines.mapped import MappedCatalogue, with_proposal
from pipelines.tallies import Cells
from schemas import configuration
from schemas.features import Vocabulary
from schemas.manifest import MANIFEST

FEATURES = Features.model_validate({
    "item": {
        "item_id": {"encode": "vocabulary"}, "tags": {"encode": "vocabulary", "shape": "list"},
        "price": {"encode": "buckets", "quantiles": 2}, "vector": {"encode": "none", "shape": [2]},
    }
})  # fmt: skip


def built(rows, counts, before=None):
    """The catalogue of items (key, tags, price) with training clicks by key."""
    keys, tags, prices = zip(*sorted(rows), strict=True)
    table = pa.table({
        "key": list(keys), "title": [f"item {key}" for key in keys], "item_id": list(keys),
        "tags": pa.array(tags, pa.list_(pa.string())), "price": [float(price) for price in prices],
        "vector": pa.array([[float(key), 1.0] for key in keys], pa.list_(pa.float32())),
    })  # fmt: skip
    items = catalogue.checked_items(table, FEATURES, "items")
    return catalogue.build(items, np.array([counts.get(key, 0) for key in keys]), FEATURES, before)


class Before:
    """What a built catalogue leaves to the next day, told without a dataset."""

    def __init__(self, found, vocabularies):
        self.found, self.vocabularies = found, vocabularies
        self.boundaries = {field.name: field.boundaries for field in found.fields if field.encode == "buckets"}
        self.keys = found.table["key"].combine_chunks()

    def __len__(self):
        return len(self.found)

    indices = inheritance.Inherited.indices

    def rows(self, gone, fields, schema):
        del fields
        taken = self.found.table.take(pa.array(gone)).select(schema.names)
        taken = taken.set_column(schema.names.index("count"), "count", pa.array([0] * len(gone)))
        return taken.append_column("gone", pa.array([True] * len(gone)))


FIRST = [(1, ["a"], 5), (2, ["b", "a"], 7), (3, [], 1), (4, ["c"], 9)]
SECOND = [(2, ["b", "d"], 7), (3, ["d"], 100), (4, ["c"], 9), (5, ["e"], 2), (6, ["a"], 3), (7, [], 8)]


@pytest.fixture
def days():
    first = built(FIRST, {4: 9, 2: 5, 3: 5})
    return first, built(SECOND, {3: 50, 6: 7, 5: 8, 7: 8}, Before(*first))


def keys(found):
    return [int(key) for key in found.table["key"].to_pylist()]


def test_items_keep_their_indices_and_new_ones_follow_by_clicks(days):
    (first, _), (second, _) = days
    assert keys(first) == [4, 2, 3, 1]
    assert keys(second) == [4, 2, 3, 1, 5, 7, 6]
    assert second.counts.tolist() == [0, 0, 50, 0, 8, 8, 7]
    assert second.gone.tolist() == [False, False, False, True, False, False, False]
    numbers = [2, 3, 4, 5, 6, 7]  # items of the second day by number
    assert [keys(second)[index] for index in second.index_of_number[: len(numbers)]] == numbers
    assert second.index_of_number[len(numbers) :].tolist() == [-1]


def test_vocabularies_and_boundaries_stay_and_grow(days):
    (first, before), (second, after) = days
    assert before["item_id"] == ["[OOV]", "4", "2", "3"]
    assert after["item_id"] == ["[OOV]", "4", "2", "3", "5", "7", "6"]
    assert after["tags"][: len(before["tags"])] == before["tags"]
    assert after["tags"][len(before["tags"]) :] == ["d", "e"]  # by falling clicks
    assert [field.boundaries for field in first.fields] == [field.boundaries for field in second.fields]
    assert [field.size for field in second.fields] == [7, len(after["tags"]), 3, 0]


def test_rows_hold_the_attributes_of_their_own_item(days):
    """Of the day for those that are there, of the last day that had them for those that are gone."""
    _, (second, after) = days
    today = {key: (tags, price) for key, tags, price in [*FIRST, *SECOND]}
    low = next(field for field in second.fields if field.name == "price").boundaries[0]
    for index, key in enumerate(keys(second)):
        tags, price = today[key]
        stored = {field.name: second.fragments(field) for field in second.fields}
        expected = encoding.list_fragments(
            np.array([after["tags"].index(tag) for tag in tags], np.int64), np.zeros(len(tags), np.int64), 1
        )
        assert stored["tags"].values[index] == expected.values[0]
        lengths = stored["tags"].lengths
        assert lengths is not None
        assert expected.lengths is not None
        assert lengths[index] == expected.lengths[0]
        assert stored["price"].values[index].as_py() == bytes([1 + (price >= low)])
        assert np.frombuffer(stored["vector"].values[index].as_py(), "<f4").tolist() == [key, 1.0]
        assert second.table["title"][index].as_py() == f"item {key}"


def test_an_item_that_comes_back_has_its_index_again(days):
    third = built([(1, ["z"], 3), (8, [], 1)], {1: 2, 8: 1}, Before(*days[1]))[0]
    assert keys(third) == [4, 2, 3, 1, 5, 7, 6, 8]
    assert third.gone.tolist() == [True, True, True, False, True, True, True, False]


def test_a_full_vocabulary_takes_no_new_values():
    frequencies = pa.table({"value": ["x", "y", "z", "a"], "weight": [3, 9, 1, 5]})
    spec = Vocabulary(encode="vocabulary", max_size=3, min_count=2)
    assert encoding.vocabulary(spec, frequencies, ["[OOV]", "a", "gone"]) == ["[OOV]", "a", "gone", "y"]
    assert encoding.vocabulary(spec, frequencies, ["[OOV]", "a", "b", "c", "d"]) == ["[OOV]", "a", "b", "c", "d"]


def drawn(found, proposal):
    """[items] probabilities of a proposal."""
    config = configuration.validate(
        Config,
        {
            "clicks": {"path": "x", "user": "u", "item": "i", "time": "t"}, "items": {"path": "x", "key": "item_id"},
            "features": {"item": {"item_id": {"encode": "vocabulary"}}}, "output": {"path": "x"},
            "negatives": {"proposal": proposal, "count": 2},
        },
        "test",
    )  # fmt: skip
    return with_proposal(found, config)


def test_what_is_gone_is_never_drawn_and_ranks_go_by_clicks(days):
    _, (second, _) = days
    ranks = {3: 0, 5: 1, 7: 2, 6: 3, 4: 4, 2: 5}  # by falling clicks, then index; item 1 is gone
    weights = {key: np.log((rank + 2) / (rank + 1)) for key, rank in ranks.items()}
    expected = [weights.get(key, 0.0) / sum(weights.values()) for key in keys(second)]
    np.testing.assert_allclose(drawn(second, {"log_uniform": {}}).drawn, expected, rtol=1e-12)
    uniform = [0.0 if key == 1 else 1 / 6 for key in keys(second)]
    np.testing.assert_allclose(drawn(second, {"uniform": {}}).drawn, uniform, rtol=1e-12)


def test_deciles_and_cells_go_by_clicks(days):
    _, (second, vocabularies) = days
    found = drawn(second, {"popularity": {"exponent": 1}})
    figures = MappedCatalogue(found, vocabularies, {}).figures
    assert (figures.items, figures.clicked, figures.gone) == (7, 4, 1)
    assert figures.decile_edges[:4].tolist() == [0, 1, 1, 1]  # the first item by clicks has more than half of them
    assert found.cells.cell[2] == 0
    assert found.cells.first.tolist() == list(range(8))
    probability = np.random.default_rng(5).dirichlet(np.full(10_000, 0.1))
    order = np.argsort(-probability, kind="stable")
    cells = Cells.of(probability, order)
    np.testing.assert_allclose(np.bincount(cells.cell, probability), cells.probability, rtol=1e-9)
    assert (np.diff(cells.cell[order]) >= 0).all()
    assert cells.first[-1] == 10_000


def test_previous_is_the_latest_finished_day_before(tmp_path):
    for name in ("dt=2026-11-01", "dt=2026-11-03", "dt=2026-11-04", "dt=2026-11-06", "dt=latest", "other"):
        (tmp_path / name).mkdir()
        if name != "dt=2026-11-04":  # one that is not finished
            (tmp_path / name / MANIFEST).touch()
    assert inheritance.previous_day(tmp_path, dt.date(2026, 11, 5)) == tmp_path / "dt=2026-11-03"
    assert inheritance.previous_day(tmp_path, dt.date(2026, 11, 3)) == tmp_path / "dt=2026-11-01"
    assert inheritance.previous_day(tmp_path, dt.date(2026, 11, 1)) is None
    assert inheritance.previous_day(tmp_path / "absent", dt.date(2026, 11, 1)) is None
