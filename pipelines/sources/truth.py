"""The model behind synthetic clicks: who likes what and when, with every click's probability in closed form.

A test of a sampler or a tower needs to know what was there to be found. The model is the simplest that has what real
clicks have: popularity by Zipf's law, tastes that go by an item's category, tastes that change, items that appear late.

At time t in [0, 1) the user u draws, with probability `1 - taste`, from all items that exist at t by popularity; else a
favourite category of theirs (shares 0.6, 0.3, 0.1), then an item of it that exists at t by popularity. A user has
favourites before and after: the later ones are used with probability `drift * t`.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConfigurationError

FAVOURITE_SHARES = np.array([0.6, 0.3, 0.1])

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the model is drawn from; the same parameters give the same bytes."""

    clicks: int = field(default=200_000, metadata={"help": "Number of clicks."})
    items: int = field(default=10_000, metadata={"help": "Number of items."})
    users: int = field(default=20_000, metadata={"help": "Number of users."})
    categories: int = field(default=50, metadata={"help": "Number of item categories, which tastes go by."})
    exponent: float = field(default=1.0, metadata={"help": "Popularity falls as rank to the power of minus this."})
    taste: float = field(default=0.7, metadata={"help": "Share of clicks that go by the user's taste."})
    drift: float = field(default=0.5, metadata={"help": "Share of tastes that has changed by the end."})
    late_share: float = field(default=0.2, metadata={"help": "Share of items that appear after the start."})
    days: int = field(default=365, metadata={"help": "Days between the first and the last click."})
    content: int = field(default=0, metadata={"help": "Length of each item's dense vector; 0 for none."})
    seed: int = field(default=1, metadata={"help": "Seed of everything."})

    def __post_init__(self) -> None:
        """Raises ConfigurationError with every parameter that cannot be, at once."""
        problems = [
            f"{name} must be at least {least}, got {getattr(self, name)}"
            for name, least in (("clicks", 0), ("users", 1), ("days", 1), ("content", 0), ("exponent", 0), ("seed", 0))
            if getattr(self, name) < least
        ]
        problems += [
            f"{name} must lie in [0, 1], got {getattr(self, name)}"
            for name in ("taste", "drift", "late_share")
            if not 0 <= getattr(self, name) <= 1
        ]
        if self.categories < len(FAVOURITE_SHARES):
            problems.append(f"categories must be at least {len(FAVOURITE_SHARES)}, got {self.categories}")
        if self.items < self.categories:
            problems.append(f"items must be at least as many as categories ({self.categories}), got {self.items}")
        if problems:
            raise ConfigurationError("synthetic: " + "; ".join(problems))


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The drawn model. Items are ordered by category, so that a category is a range of positions.

    popularity: [items], sums to 1. category: [items]. appears: [items] in [0, 1), when an item comes into being.
    bounds: [categories + 1], the category c holds the positions [bounds[c], bounds[c + 1]).
    activity: [users], sums to 1. before, after: [users, 3], favourite categories.
    """

    parameters: Parameters
    popularity: Floats
    category: Integers
    appears: Floats
    bounds: Integers
    activity: Floats
    before: Integers
    after: Integers

    def probabilities(self, user: int, time: float) -> Floats:
        """Returns the probability of each item, [items], for a click of `user` at `time` in [0, 1)."""
        parameters = self.parameters
        present = self.popularity * (self.appears <= time)
        result = (1 - parameters.taste) * present / present.sum()
        per_category = np.bincount(self.category, weights=present, minlength=parameters.categories)
        changed = parameters.drift * time
        for favourites, weight in ((self.before[user], 1 - changed), (self.after[user], changed)):
            for category, share in zip(favourites, FAVOURITE_SHARES, strict=True):
                inside = np.where(self.category == category, present / per_category[category], 0.0)
                result += parameters.taste * weight * share * inside
        return np.asarray(result)


def drawn_truth(parameters: Parameters) -> Truth:
    """Returns the model that `parameters` and their seed stand for.

    Every category gets an item, and its most popular item exists from the start: there is always something to click.
    """
    rng = np.random.default_rng([parameters.seed, 0])
    items, users, categories = parameters.items, parameters.users, parameters.categories
    category = np.concatenate([np.arange(categories), rng.integers(categories, size=items - categories)])
    category.sort()
    bounds = np.searchsorted(category, np.arange(categories + 1))
    weight = (1.0 + rng.permutation(items)) ** -parameters.exponent
    late = rng.random(items) < parameters.late_share
    appears = np.where(late, rng.random(items), 0.0)
    for begin, end in pairwise(bounds):
        appears[begin + np.argmax(weight[begin:end])] = 0.0
    activity = rng.lognormal(sigma=1.0, size=users)  # as in most logs: a few people click a hundred times the median
    return Truth(
        parameters=parameters,
        popularity=weight / weight.sum(),
        category=category.astype(np.int64),
        appears=appears,
        bounds=bounds.astype(np.int64),
        activity=activity / activity.sum(),
        before=_favourites(rng, users, categories),
        after=_favourites(rng, users, categories),
    )


def _favourites(rng: np.random.Generator, users: int, categories: int) -> Integers:
    """Returns three different categories a user, [users, 3], uniformly: the later ones step over those before them."""
    first = rng.integers(categories, size=users)
    second = (first + 1 + rng.integers(categories - 1, size=users)) % categories
    lower, upper = np.minimum(first, second), np.maximum(first, second)
    third = rng.integers(categories - 2, size=users)
    third += third >= lower
    third += third >= upper
    return np.stack([first, second, third], axis=1).astype(np.int64)
