"""What happens later changes nothing that came before: clicks are planted in the future, and every byte is compared.

The planted clicks would betray a leak anywhere: they make a rare item the most popular one, bring values that no
vocabulary had, years that would move every quantile, and items that known users could then no longer draw.
"""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

pytestmark = pytest.mark.spark

START, DAY = 900_000_000, 86_400
FEATURES = {
    "user": {"user_id": {"encode": "vocabulary"}, "age": {"encode": "buckets", "quantiles": 3}},
    "item": {
        "item_id": {"encode": "vocabulary"},
        "brand": {"encode": "vocabulary"},
        "year": {"encode": "buckets", "quantiles": 3},
    },
}
NEGATIVES = {
    "proposal": {"mixture": [{"popularity": {"exponent": 1.0}, "share": 0.8}, {"uniform": {}, "share": 0.2}]},
    "count": 8, "exclude": "history", "seed": 3,
}  # fmt: skip


def past():
    """Clicks of ten users on items 1 to 20 over days 0 to 9; items 21 to 25 and users 11 and 12 are not among them."""
    rng = np.random.default_rng(5)
    return [
        (int(user), int(item), START + DAY * int(day) + int(second))
        for user, item, day, second in zip(
            rng.integers(1, 11, 200), rng.integers(1, 21, 200), rng.integers(0, 10, 200), rng.integers(0, 9, 200),
            strict=True,
        )
    ]  # fmt: skip


def future(day):
    """From that day on everybody clicks item 25 of an unheard-of brand and year, the unheard-of users 11 and 12 too."""
    return [(user, 25, START + DAY * day + again) for user in range(1, 13) for again in range(30)]


ITEMS = pa.table({
    "item_id": pa.array(range(1, 26)),
    "brand": [f"brand {i % 4}" if i < 21 else "unheard of" for i in range(1, 26)],
    "year": pa.array([1950 + i if i < 21 else 9999 for i in range(1, 26)]),
})  # fmt: skip
USERS = pa.table(
    {"user_id": pa.array(range(1, 13)), "age": pa.array([20 + u if u < 11 else 9999 for u in range(1, 13)])}
)


@pytest.fixture(scope="module")
def run(spark, jobs):
    def made(clicks, split, **sections):
        given = {"features": FEATURES, "negatives": NEGATIVES, "split": split}
        given |= {"history": {"features": ["item_id"], "length": 6, "ties": "order"}}
        return jobs.run(spark, jobs.document(jobs.inputs(clicks, ITEMS, USERS), **(given | sections)))

    return made


@pytest.fixture
def contents(read_records):
    def of(dataset, split):
        return sorted(hashlib.sha256(record).hexdigest() for _, record in read_records(dataset, split))

    return of


def frozen(dataset):
    """All that a record's numbers mean: vocabularies, sizes, boundaries, the proposal's expected draws."""
    spec = dataset.manifest.record
    vocabularies = {name: dataset.vocabulary(name) for name in dataset.manifest.vocabulary}
    return vocabularies, spec.user, spec.item, dataset.manifest.proposal


@pytest.mark.parametrize("layout", [{"kind": "row"}, {"kind": "block", "clicks": 16}], ids=["row", "block"])
def test_after_a_split_by_time_nothing_later_is_seen(run, contents, read_clicks, layout):
    split = {"kind": "time", "validation_from": START + 8 * DAY, "test_from": START + 10 * DAY}
    before, after = run(past(), split, layout=layout), run(past() + future(10), split, layout=layout)
    assert after.manifest.splits["test"].clicks == 12 * 30
    assert before.manifest.splits["test"].clicks == 0
    for name in ("train", "validation", "items"):
        assert contents(before, name) == contents(after, name)
    assert frozen(before) == frozen(after)
    # The test sees what is its past, planted clicks of the same users included.
    seen = [len(click["exclude.index"]) for click in read_clicks(after, "test") if click["user.key"] == b"1"]
    assert max(seen) == 1 + len({item for user, item, _ in past() if user == 1})


def test_validation_clicks_are_not_training(run, contents):
    split = {"kind": "time", "validation_from": START + 10 * DAY, "test_from": START + 20 * DAY}
    before, after = run(past(), split), run(past() + future(10), split)
    assert after.manifest.splits["validation"].clicks == 12 * 30
    assert contents(before, "train") == contents(after, "train")
    assert contents(before, "items") == contents(after, "items")
    assert frozen(before) == frozen(after)


def test_the_last_clicks_of_leave_last_are_seen_by_nobody_before_them(run, contents, read_clicks):
    """Two later clicks a user are held out; with them or with two others, the training set is the same byte by byte."""
    split = {"kind": "leave_last"}
    users = range(1, 11)
    last = [(user, 1 + (user + n) % 20, START + DAY * (50 + n)) for user in users for n in (0, 1)]
    planted = [(user, 25, START + DAY * (50 + n)) for user in users for n in (0, 1)]
    one, other = run(past() + last, split), run(past() + planted, split)
    assert contents(one, "train") == contents(other, "train")
    assert contents(one, "items") == contents(other, "items")
    assert frozen(one) == frozen(other)
    clicks = {name: read_clicks(other, name) for name in ("validation", "test")}
    positives = {name: {c["candidates"][0]["index"] for c in found} for name, found in clicks.items()}
    (planted_index,) = positives["test"] | positives["validation"]
    # The test's past holds the validation click, the validation's not the test's.
    assert all(planted_index in click["exclude.index"] for click in clicks["test"])
    assert not any(planted_index in click["exclude.index"] for click in clicks["validation"])
    assert all(click["history.index"][-1] == planted_index for click in clicks["test"])


def test_a_planted_past_does_change_what_follows(run, contents):
    """The comparison above can fail: the same clicks planted one day earlier than the split are seen."""
    split = {"kind": "time", "validation_from": START + 11 * DAY, "test_from": START + 12 * DAY}
    before, after = run(past(), split), run(past() + future(10), split)
    assert contents(before, "items") != contents(after, "items")
    assert before.vocabulary("brand") != after.vocabulary("brand")
    assert frozen(before)[1:3] != frozen(after)[1:3]
