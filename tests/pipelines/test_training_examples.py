"""Which training clicks are examples: a brute-force cap, an even choice, and whole jobs with events and a cap."""

import io
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import Config
from pipelines.plan import Plan
from pipelines.training_examples import Examples, at_most, chosen
from samplers import rng
from samplers.goodness import compare
from schemas import configuration
from schemas.errors import ConfigurationError, DataError
from schemas.record import RecordSpec

START = 900_000_000
WEIGHTS = {"purchase": 3.0, "cart": 0.5, "view": 0.0}
EVENTS = {"column": "event", "values": {"purchase": 3, "cart": 0.5}, "default": 0}
CAP = 4


def plan_of(per_user, seed=3):
    spec = RecordSpec((), (), (), 5, "row", 1, 4, "click")
    return Plan(
        "root", "run", "catalogue", (), spec, "order", ("history",), "error", 3, seed, 2, "none",
        examples_per_user=per_user,
    )  # fmt: skip


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=9), max_size=8), st.integers(0, 5))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_of_each_user_those_with_the_lowest_keys_are_taken(users, per_user):
    able = np.array([one for user in users for one in user], bool)
    counts = np.array([len(user) for user in users], np.int64)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    keys = rng.keyed(5, np.arange(len(able))) if len(able) else np.zeros(0, np.uint64)
    expected = set()
    for begin, user in zip(np.unique(first).tolist(), users, strict=True):
        rows = sorted((int(keys[begin + i]), begin + i) for i, one in enumerate(user) if one)
        expected |= {row for _, row in (rows[:per_user] if per_user else rows)}
    assert set(np.flatnonzero(at_most(first, able, per_user, keys)).tolist()) == expected


def test_the_choice_is_even_other_in_each_set_and_the_users_own():
    """3 of 7 clicks of 20,000 users: each place is taken as often as any other, and sets are independent."""
    users, clicks, taken = 20_000, 7, 3
    first = np.repeat(np.arange(users) * clicks, clicks)
    able = np.ones(len(first), bool)
    keys = rng.mixed(np.arange(len(first))).view(np.int64)
    found = [chosen(first, able, keys, plan_of(taken), epoch) for epoch in (0, 1)]
    for one in found:
        assert set(one.reshape(users, clicks).sum(axis=1).tolist()) == {taken}
        share = one.reshape(users, clicks).sum(axis=0)
        assert compare(share, np.full(clicks, users * taken / clicks)).p_value > 1e-3
    # In both sets with the chance of independent ones, 3/7 * 3/7.
    both = int((found[0] & found[1]).sum())
    assert both == pytest.approx(users * taken * taken / clicks, abs=5 * np.sqrt(users * taken * taken / clicks))
    assert not np.array_equal(found[0], chosen(first, able, keys, plan_of(taken, seed=4), 0))
    # A user's choice depends on nobody else, and not on where the user stands.
    half = first[users // 2 * clicks :] - users // 2 * clicks
    alone = chosen(half, able[: len(half)], keys[-len(half) :], plan_of(taken), 0)
    np.testing.assert_array_equal(alone, found[0][-len(half) :])


def test_counts_add_up():
    counts = Examples(100, without_weight=7, over_cap=30, capped_users=2)
    assert counts.to_json() == {
        "training_clicks": 100, "without_weight": 7, "over_cap": 30, "capped_users": 2, "a_set": 63,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["clicks.weight={column: e, values: {a: -1}}"], "clicks.weight.values.a: input should be greater"),
        (["clicks.weight={column: e, values: {}}"], "clicks.weight.values"),
        (["clicks.weight={column: e, default: 1}"], "give values, or leave default out"),
        (["clicks.weight={colum: e}"], "did you mean 'column'?"),
        (["frequencies.weighted=true"], "no weights are known; give clicks.weight"),
        (["frequencies={halflife: 3d}"], "did you mean 'half_life'?"),
        (["frequencies.window=3d", "features.item.frequency={encode: vocabulary}"], "'frequency' is taken"),
        (["examples.per_user=0"], "examples.per_user"),
    ],
)
def test_what_cannot_work_is_said(overrides, said):
    with pytest.raises(ConfigurationError) as error:
        configuration.load(Config, "pipelines/examples/ml-100k.yaml", overrides)
    assert said in str(error.value)


class Log:
    """Clicks with events; every fourth or so is a view, which weighs nothing."""

    def __init__(self):
        chance = np.random.default_rng(8)
        self.clicks = [
            (int(user), int(item), START + 3_600 * int(hour), ("purchase", "cart", "view")[int(event)])
            for user, item, hour, event in zip(
                chance.integers(1, 13, 260), chance.integers(1, 21, 260), chance.permutation(260),
                chance.choice(3, 260, p=[0.3, 0.4, 0.3]), strict=True,
            )
        ]  # fmt: skip
        self.clicks += [(99, 1, START, "view"), (99, 2, START + 1, "view")]  # somebody who only looks

    def table(self):
        kinds = (pa.int64(), pa.int64(), pa.int64(), pa.string())
        columns = [pa.array(values, kind) for values, kind in zip(zip(*self.clicks, strict=True), kinds, strict=True)]
        return pa.table(columns, ["user_id", "item_id", "timestamp", "event"])

    def by_user(self):
        """user: [(time, item, event)] in order."""
        found: dict = {}
        for user, item, time, event in sorted(self.clicks, key=lambda click: click[2]):
            found.setdefault(user, []).append((time, item, event))
        return found

    def splits(self):
        """(split, user, position, time, item, event) of every click, by what its user has ahead that counts."""
        for user, clicks in self.by_user().items():
            counting = [position for position, click in enumerate(clicks) if WEIGHTS[click[2]] > 0]
            for position, click in enumerate(clicks):
                ahead = sum(other > position for other in counting)
                split = {0: "test", 1: "validation"}.get(ahead, "train") if len(counting) >= 3 else "train"
                yield split, user, position, *click


@pytest.fixture(scope="module")
def log():
    return Log()


@pytest.fixture(scope="module")
def document(jobs, log):
    """A job file on the log, with sections of its own."""
    paths = jobs.inputs(log.table(), pa.table({"item_id": pa.array(range(1, 23), pa.int64())}))

    def made(**sections):
        given = {
            "clicks": {"weight": EVENTS},
            "split": {"kind": "leave_last"},
            "examples": {"per_user": CAP},
            "history": {"length": 300},
            "negatives": {"exclude": "positive", "epochs": 3, "proposal": {"popularity": {"exponent": 1.0}}},
        }
        return jobs.document(paths, **(given | sections))

    return made


@pytest.fixture(scope="module")
def capped(spark, jobs, document):
    return jobs.run(spark, document())


def told(dataset, clicks, split):
    """(epoch, user, time, item, weight, items before) of read clicks in raw ids."""
    users, items = dataset.vocabulary("user_id"), dataset.vocabulary("item_id")
    for click in clicks:
        user = click["user.key"].decode() if split != "train" else users[click["user.user_id"]]
        yield (
            click["epoch"], int(user), click["time"], int(items[click["candidates"][0]["item_id"]]), click["weight"],
            [int(items[i]) for i in click["history.item_id"]],
        )  # fmt: skip


@pytest.mark.spark
def test_examples_are_capped_and_weighed_and_their_histories_hold_everything(capped, log, read_clicks):
    past = {(user, time): [item for _, item, _ in log.by_user()[user][:position]]
            for _, user, position, time, _, _ in log.splits()}  # fmt: skip
    weight = {(user, time): WEIGHTS[event] for _, user, _, time, _, event in log.splits()}
    able = Counter(user for split, user, _, _, _, e in log.splits() if split == "train" and WEIGHTS[e] > 0)
    found = list(told(capped, read_clicks(capped), "train"))
    sets = [{(user, time) for epoch, user, time, *_ in found if epoch == number} for number in range(3)]
    training = {(user, time) for split, user, _, time, _, _ in log.splits() if split == "train"}
    for one in sets:
        assert one <= {click for click in training if weight[click] > 0}
        assert Counter(user for user, _ in one) == {user: min(CAP, count) for user, count in able.items()}
    assert sets[0] != sets[1] != sets[2]
    assert len(found) == sum(map(len, sets)) == capped.manifest.splits["train"].clicks
    for _, user, time, item, seen, before in found:
        assert seen == pytest.approx(weight[user, time])
        assert before == past[user, time]  # views and capped clicks included
        assert (time, item) in {(t, i) for t, i, _ in log.by_user()[user]}
    for name in ("validation", "test"):
        expected = {(user, time): (item, past[user, time]) for split, user, _, time, item, event in log.splits()
                    if split == name and WEIGHTS[event] > 0}  # fmt: skip
        held_out = {(user, time): (item, before)
                    for _, user, time, item, _, before in told(capped, read_clicks(capped, name), name)}  # fmt: skip
        assert held_out == expected


@pytest.mark.spark
def test_the_manifest_counts_what_is_no_example(capped, log):
    manifest = capped.manifest
    training = [(user, event) for split, user, _, _, _, event in log.splits() if split == "train"]
    able = Counter(user for user, event in training if WEIGHTS[event] > 0)
    over = {user: count - CAP for user, count in able.items() if count > CAP}
    assert manifest.statistics["examples"] == {
        "training_clicks": len(training), "without_weight": len(training) - able.total(),
        "over_cap": sum(over.values()), "capped_users": len(over), "a_set": able.total() - sum(over.values()),
    }  # fmt: skip
    assert manifest.rows["clicks"] == {"read": len(log.clicks), "used": len(log.clicks), "rejected": 0}
    observed = manifest.proposal["observed"]
    assert observed["draws"] == 3 * manifest.splits["train"].clicks
    assert observed["p_value"] > 1e-3  # what is expected of the draws knows which clicks are examples


@pytest.mark.spark
def test_items_are_counted_by_all_training_clicks(capped, log, read_records):
    from schemas import codec

    counts = Counter(item for split, _, _, _, item, _ in log.splits() if split == "train")
    records = [codec.decode(record) for _, record in read_records(capped, "items")]
    assert {int(r["item.key"][0]): int(r["item.count"][0]) for r in records} == {i: counts[i] for i in range(1, 23)}
    assert not any("item.frequency" in record for record in records)


@pytest.mark.spark
def test_blocks_hold_the_same_examples_for_any_partitioning(spark, changed, jobs, document, capped, read_clicks):
    with changed({"spark.sql.shuffle.partitions": "5"}):
        blocks = jobs.run(spark, document(layout={"kind": "block", "clicks": 16}))

    def plain(dataset):
        return sorted((c["epoch"], c["time"], c["weight"], [x["index"] for x in c["candidates"]],
                       c["history.item_id"]) for c in read_clicks(dataset))  # fmt: skip

    assert plain(blocks) == plain(capped)
    sizes = Counter((click["epoch"], click["record"]) for click in read_clicks(blocks))
    assert sum(size < 16 for size in sizes.values()) <= 3  # every block is full but the last of its set


@pytest.mark.spark
def test_a_sequence_keeps_all_clicks_and_gives_those_that_are_no_examples_weight_0(
    spark, jobs, document, capped, log, read_clicks
):
    layout = {"kind": "sequence", "positions": 60, "window": 30}
    negatives = {"per": "block", "count": 4, "epochs": 3, "exclude": "positive", "proposal": {"uniform": {}}}
    dataset = jobs.run(spark, document(layout=layout, negatives=negatives))
    found = list(told(dataset, read_clicks(dataset), "train"))
    training = {(user, time) for split, user, _, time, _, _ in log.splits() if split == "train"}
    for epoch in range(3):
        assert {(user, time) for number, user, time, *_ in found if number == epoch} == training
        weights = {(user, time): w for number, user, time, _, w, _ in found if number == epoch and w > 0}
        same = {(user, time): w for number, user, time, _, w, _ in told(capped, read_clicks(capped), "train")
                if number == epoch}  # fmt: skip
        assert weights == same  # the choice depends on the click and the set alone


@pytest.mark.spark
def test_the_dry_run_tells_what_the_cap_does(spark, document, capped):
    from pipelines import dry_run, summary
    from pipelines.progress import Progress

    config = configuration.validate(Config, document(), "test")
    text = dry_run.text(spark, config, Progress(io.StringIO(), live=False))
    counts = capped.manifest.statistics["examples"]
    for told_ in (text, summary.table(capped.manifest)):
        assert f"{counts['without_weight']:,} training clicks without weight, no examples" in told_
        assert f"{counts['over_cap']:,} training clicks of {counts['capped_users']} users over" in told_
    assert "at most 4 clicks of a user in each set of negatives" in text
    assert "by event: purchase 3, cart 0.5, any other 0" in text
    train = next(line for line in text.splitlines() if line.startswith("train ")).split()
    assert int(train[1].replace(",", "")) == capped.manifest.splits["train"].clicks
    each = capped.manifest.statistics["bytes_per_click"]
    assert float(train[-1]) == pytest.approx(each, rel=0.1)


@pytest.mark.spark
def test_events_that_nobody_weighs_are_rejected_and_a_log_of_views_is_no_data(spark, jobs, document, log):
    events = {"column": "event", "values": {"purchase": 3, "cart": 1}}
    dataset = jobs.run(spark, document(clicks={"weight": events}, limits={"rejected_share": 1}))
    views = sum(event == "view" for *_, event in log.clicks)
    assert dataset.manifest.rejected == {"clicks.unknown_event": views}
    only = document(clicks={"weight": EVENTS, "filter": "event = 'view'"})
    with pytest.raises(DataError, match=r"all \d+ training clicks have weight 0"):
        jobs.run(spark, only)
