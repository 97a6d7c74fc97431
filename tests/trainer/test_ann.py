"""Nearest items against every product, and recall against counting by hand."""

import numpy as np
import pytest

from trainer.ann import Nearest, recall, thresholds

pytest.importorskip("faiss", reason="an extra: pip install '.[ann]'")

K = 20


@pytest.fixture(scope="module")
def world():
    """Items in clumps, so that cells mean something; queries near them."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(30, 8))
    items = centres[rng.integers(0, 30, 2_000)] + rng.normal(0, 0.5, (2_000, 8))
    queries = centres[rng.integers(0, 30, 90)] + rng.normal(0, 0.5, (90, 8))
    return items.astype(np.float32), queries.astype(np.float32)


def best(items, queries, k):
    return np.argsort(-(queries.astype(float) @ items.T.astype(float)), axis=1, kind="stable")[:, :k]


def test_flat_is_the_exact_ranking_after_a_round_by_disk(world, tmp_path):
    items, queries = world
    Nearest.flat(items).write(tmp_path / "index.faiss")
    scores, found = Nearest.read(tmp_path / "index.faiss", "flat", 0).search(queries, K)
    expected = best(items, queries, K)
    assert (found == expected).mean() > 0.99  # sums are in another order, so near ties may swap
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ items.T, expected, 1), rtol=1e-4, atol=1e-4)
    assert recall(found, queries, items, thresholds(queries, items, K), K) == 1.0


def test_recall_is_what_counting_by_hand_gives(world):
    items, queries = world
    nearest = Nearest.ivf(items, 60)
    _, found = nearest.search(queries, K)
    expected = best(items, queries, K)
    by_hand = np.mean([len(set(a) & set(b)) / K for a, b in zip(found.tolist(), expected.tolist(), strict=True)])
    measured = recall(found, queries, items, thresholds(queries, items, K), K)
    assert measured == pytest.approx(by_hand, abs=1e-3)
    assert 0.1 < measured < 0.95
    none = np.full_like(found, -1)
    assert recall(none, queries, items, thresholds(queries, items, K), K) == 0.0


def test_of_items_with_equal_scores_any_will_do(world):
    items, queries = world
    twins = np.concatenate([items, items])
    least = thresholds(queries, twins, 1)
    for twin in (0, len(items)):
        assert recall(best(items, queries, 1) + twin, queries, twins, least, 1) == 1.0


def test_probes_are_doubled_until_the_recall_is_there(world, tmp_path):
    items, queries = world
    least, probes = thresholds(queries, items, K), []
    for target in (0.0, 0.9, 1.1):
        nearest = Nearest.ivf(items, 60)
        nearest.reach(target, queries, items, K)
        probes.append(nearest.probes)
        nearest.write(tmp_path / "index.faiss")
        read = Nearest.read(tmp_path / "index.faiss", "ivf", nearest.probes)
        assert recall(read.search(queries, K)[1], queries, items, least, K) >= min(target, 1)
    assert probes[0] == 1 < probes[1] < probes[2] == 60
