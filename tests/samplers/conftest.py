"""Exclusion told as plain sets, for parts that depend on the click."""

import numpy as np
import pytest

from samplers.spans import Spans


class Told:
    """The items excluded for each click, one set a click; masses and labels by definition."""

    def __init__(self, sets, positive):
        self.sets, self.positive = [set(some) for some in sets], np.asarray(positive)

    def excluded(self, click, item):
        return np.array([int(i) in self.sets[int(c)] for c, i in zip(click, item, strict=True)], bool)

    def mass(self, mass, label=None):
        return np.array([
            sum(int(mass[i]) for i in some if label is None or label[i] == label[self.positive[row]])
            for row, some in enumerate(self.sets)
        ])  # fmt: skip

    availability = None

    def runs(self, label):
        pairs = [(row, i) for row, some in enumerate(self.sets) for i in sorted(some)]
        row, item = (
            np.array([(r, i) for r, i in pairs if label[i] == label[self.positive[r]]], np.int64).reshape(-1, 2).T
        )
        return [Spans(np.arange(len(self.sets)), item, row, row + 1)]

    def items_of(self, click):
        return np.array(sorted(self.sets[click]), np.int64)


@pytest.fixture
def told():
    return Told


@pytest.fixture
def assert_expected():
    """Mean counts of items among the draws of n keys [n, slots] against what was expected [items] of one."""

    def check(drawn, expected):
        counts = np.bincount(drawn[drawn >= 0], minlength=len(expected))
        assert counts[np.asarray(expected) == 0].sum() == 0
        # No part's count of an item varies more than a Poisson one.
        deviations = (counts - len(drawn) * expected) / np.sqrt(np.maximum(len(drawn) * expected, 1e-9))
        assert np.abs(deviations).max() < 4.5, deviations

    return check
