"""One planted fault a test: the audit names it, under the check that is for it, and nothing unrelated with it.

Each fault is in the records, with a manifest that agrees with them, so that no other check can give it away. The list
is what others get wrong: joins on the wrong key, set differences, ranks and counts confused, weights ignored, seeds
that collide.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import audit
from tests.pipelines.audited import ITEMS, LAYOUTS, Crafted, K, features, framed, ints, proposal

pytestmark = pytest.mark.beam


@pytest.fixture
def audited(tmp_path):
    """A function that writes a crafted dataset and gives the checks with findings: {name: check}."""

    def run(crafted, damage=None, on_disk=None, source=None):
        dataset = crafted.write(tmp_path, damage)
        if on_disk:
            on_disk(dataset)
        findings = audit.audited(dataset, source)
        return {name: check for name, check in findings.checks.items() if check.found}

    return run


def only(found, name, *also, says=""):
    """The one check that must have found something; `also` may have too."""
    assert name in found, found
    assert found.keys() <= {name, *also}, found
    assert any(says in line for line in found[name].shown), found[name].shown


def trained(crafted, number=0):
    return crafted.records["train", number]


def put(crafted, record, place, item, log_q=None):
    """Puts an item into a candidate's place of a row, with its own attributes."""
    index = record["item.index"].tolist()
    index[place] = item
    record |= features("item", crafted.spec.item, [crafted.world.items[i] for i in index]) | {"item.index": ints(index)}
    if log_q is not None:
        record["item.log_q"][place] = log_q


def allowed(record, crafted):
    """log(1 - excluded mass) of a row."""
    return crafted.log_q[record["item.index"][1]] - record["item.log_q"][1]


def elsewhere(crafted, record):
    """The click of a row or of a held-out record."""
    user, time = record["user.user_id"][0] - 1, record["click.time"][0]
    return next(
        c for c in crafted.world.clicks["train"] if (c.user, c.time, c.item) == (user, time, record["item.index"][0])
    )


# Files and frames


@pytest.mark.parametrize(("offset", "says"), [(40, "CRC of its"), (3, "CRC of the length")])
def test_a_flipped_byte(audited, offset, says):
    def flip(path, data):
        return (
            data if path != "test/part-0-1.tfrecord" else data[:offset] + bytes([data[offset] ^ 4]) + data[offset + 1 :]
        )

    only(audited(Crafted("block"), flip), "frames", "counts", "held_out", "positives", says=f"record 0: the {says}"
         if "length" in says else says)  # fmt: skip


def test_a_shard_that_ends_early(audited):
    def cut(path, data):
        return data[:-5] if path == "validation/part-0-0.tfrecord" else data

    only(audited(Crafted("row"), cut), "frames", "counts", says="ends inside a record")


def test_a_compressed_shard_that_is_damaged(tmp_path):
    def flip(path, data):
        return data[:-12] if path == "test/part-0-0.tfrecord.gz" else data

    findings = audit.audited(Crafted("block").write(tmp_path, flip, gzipped=True))
    only({name: check for name, check in findings.checks.items() if check.found}, "frames", "counts", says="unpacked")


def test_data_that_is_no_example(audited):
    crafted = Crafted("block")

    def garble(path, data):
        return framed([b"\xff" * 9]) if path == "test/part-0-0.tfrecord" else data

    only(audited(crafted, garble), "frames", "counts", "held_out", says="no tf.train.Example")


def test_a_file_that_changed(audited):
    def touch(dataset):
        path = dataset.root / "vocabulary" / "genres.txt"
        path.write_bytes(path.read_bytes().replace(b"a", b"z"))

    only(audited(Crafted("block"), on_disk=touch), "files", says="CRC-32C")


def test_a_missing_shard(audited):
    found = audited(Crafted("block"), on_disk=lambda d: (d.root / "validation" / "part-0-1.tfrecord").unlink())
    only(found, "files", "frames", "counts", says="not there")


def test_a_shard_that_nobody_named(audited):
    def stray(dataset):
        (dataset.root / "train" / "part-9.tfrecord").write_bytes(b"")

    only(audited(Crafted("block"), on_disk=stray), "files", says="train/part-9.tfrecord: the manifest does not name")


def test_a_dropped_record(audited):
    crafted = Crafted("row")
    del trained(crafted, 1)[5]
    only(audited(crafted), "sets", "counts", "positives", says="set 1")


def test_rows_that_vanish(audited):
    crafted = Crafted("row")
    crafted.rows["clicks"]["read"] += 2
    only(audited(crafted), "counts", says="rows read")


def test_used_clicks_that_are_nowhere(audited):
    crafted = Crafted("row")
    crafted.rows["clicks"] = {"read": 484, "used": 481, "rejected": 3}
    only(audited(crafted), "counts", says="421 expected")


# Candidates


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_negative_with_the_positives_attributes(audited, layout):
    """What a join on the wrong key gives: the right index beside the wrong genres."""
    crafted = Crafted(layout)
    record = trained(crafted)[3]
    index = record["item.index"].tolist()
    shown = [*index[:1], index[0], *index[2:]]
    record |= features("item", crafted.spec.item, [crafted.world.items[i] for i in shown])
    only(audited(crafted), "attributes", says=f"item_index {index[1]} ")


@pytest.mark.parametrize("feature", ["item_id", "genres", "content", "shop"])
def test_one_wrong_value_of_one_feature(audited, feature):
    crafted = Crafted("block")
    values = trained(crafted)[5][f"item.{feature}"]
    values[len(values) // 2] += 1
    found = audited(crafted)
    only(found, "attributes", says=f"item.{feature} of item_index")
    assert found["attributes"].found == 1


def test_an_item_that_the_catalogue_lacks(audited):
    crafted = Crafted("block")
    del crafted.records["items", 0][7]
    only(audited(crafted), "items", says="39 readable records")


def test_a_masked_positive(audited):
    crafted = Crafted("row")
    crafted.spec = dataclasses.replace(crafted.spec, mask=True)
    for number in range(2):
        for record in trained(crafted, number):
            record["item.mask"] = ints([1] * (1 + K))
    assert not audited(crafted)
    trained(crafted)[4]["item.mask"][0] = 0
    only(audited(crafted), "positives", says="record 2, click 0: its positive is masked")


def test_attributes_that_two_items_swapped_in_the_catalogue(audited):
    crafted = Crafted("block")
    first, second = crafted.records["items", 0][4], crafted.records["items", 0][5]
    for key in ("item.genres", "item.content"):
        first[key], second[key] = second[key], first[key]
    only(audited(crafted), "attributes", says="item_index 5 ")


def test_attributes_that_two_items_swapped_before_the_first_record(audited, tmp_path_factory):
    crafted = Crafted("block")
    items: list[dict[str, Any]] = [dict(item) for item in crafted.world.items]
    other = next(i for i in range(5, ITEMS) if items[i]["genres"] != items[4]["genres"])
    items[4]["genres"], items[other]["genres"] = items[other]["genres"], items[4]["genres"]
    path = item_table(items, tmp_path_factory.mktemp("source"))
    only(audited(crafted, source=path), "source", says=f"item.genres of key {items[4]['key']} ")


def item_table(items, folder, **more):
    """The path of the table that items came from, as Parquet."""
    letters = [[" abcde"[genre] for genre in item["genres"]] for item in items]
    table = pa.table({
        "id": [int(item["key"]) for item in items], "genres": letters,
        "content": pa.array([item["content"] for item in items], pa.list_(pa.float32())),
        "shop": [" xyz"[item["shop"]].strip() or None for item in items],
    } | more)  # fmt: skip
    pq.write_table(table, folder / "items.parquet")
    return str(folder / "items.parquet")


@pytest.mark.parametrize("layout", ["row", "block", "pool"])
@pytest.mark.parametrize("late", [False, True])
def test_a_negative_that_could_not_be_had_at_the_time(audited, tmp_path_factory, layout, late):
    """Limits around when each item stands as a negative; then one of them is narrowed by a second."""
    crafted = Crafted(layout)
    crafted.availability = {"available_from": "since", "available_to": "until"}
    shown: dict[int, set[int]] = {item: set() for item in range(ITEMS)}
    for number in range(2):
        for record in trained(crafted, number):
            masked = [record.get(f"block.hit_{of}", ints(())).tolist() for of in ("click", "pool")]
            hits = set(zip(*masked, strict=True))
            index = record["item.index"].tolist()
            slots = record.get("block.negatives", ints(range(1, len(index)))).tolist()
            for click, time in enumerate(record["click.time"].tolist()):
                own = slots if layout == "pool" else slots[click * K : (click + 1) * K]
                for place, slot in enumerate(own):
                    if (click, place) not in hits:
                        shown[index[slot]].add(time)
    folder = tmp_path_factory.mktemp("source")

    def source(since, until):
        """Item 3 comes so many seconds later, or goes earlier; all go within a second, which they still have."""
        begin = [min(times) + since * (item == 3) if times else None for item, times in shown.items()]
        end = [(max(times) - until * (item == 3)) * 10**6 + 500_000 if times else None for item, times in shown.items()]
        limits = {"since": pa.array(begin), "until": pa.array(end, pa.timestamp("us", "UTC"))}
        return item_table(crafted.world.items, folder, **limits)

    assert not audited(crafted, source=source(0, 0))
    only(audited(crafted, source=source(not late, late)), "exclusion", says="the negative 3 ")
    assert not audited(crafted)  # without the table nobody can tell


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_excluded_item_among_the_negatives(audited, layout):
    """In a row it is older than what the record shows, in a block part of it; in a pool a hit is missing."""
    crafted = Crafted(layout)
    records = trained(crafted)
    if layout == "row":
        record = next(r for r in records if len(elsewhere(crafted, r).before) > 8)
        click = elsewhere(crafted, record)
        item = next(i for i in click.before if i not in click.before[-6:] and i != click.item)
        put(crafted, record, 3, item, crafted.log_q[item] - allowed(record, crafted))
    elif layout == "block":
        record = records[2]
        known = record["history.index"][record["block.history"]]
        place = next(c for c in range(16) if record["history.lengths"][c] > 2)
        item = known[record["history.lengths"][:place].sum()]
        record["block.negatives"][place * K] = record["item.index"].tolist().index(item)
    else:
        record = records[1]
        for key in [key for key in record if key.startswith("block.hit")]:
            record[key] = np.delete(record[key], len(record[key]) // 2)
    only(audited(crafted), "exclusion", says="what the user had" if layout in ("row", "block") else "is ")


def test_an_item_masked_without_a_reason(audited):
    crafted = Crafted("pool")
    record = trained(crafted)[1]
    hits = set(zip(record["block.hit_click"].tolist(), record["block.hit_pool"].tolist(), strict=True))
    click, slot = next((c, s) for c in range(16) for s in range(8) if (c, s) not in hits)
    both = sorted([*hits, (click, slot)])
    record |= {"block.hit_click": ints(c for c, _ in both), "block.hit_pool": ints(s for _, s in both)}
    only(audited(crafted), "exclusion", says="nothing excludes it")


def test_a_negative_that_is_the_positive(audited):
    crafted = Crafted("row")
    record = next(r for r in trained(crafted) if r["item.index"][0] not in elsewhere(crafted, r).before)
    item = int(record["item.index"][0])
    put(crafted, record, 2, item, crafted.log_q[item] - allowed(record, crafted))
    only(audited(crafted), "exclusion", says="the positive itself")


@pytest.mark.parametrize("layout", ["row", "block"])
def test_fewer_negatives_than_declared(audited, layout):
    """What is left of a set difference of candidates and history."""
    crafted = Crafted(layout)
    record = trained(crafted)[7]
    if layout == "row":
        index = record["item.index"][:-1]
        record |= features("item", crafted.spec.item, [crafted.world.items[i] for i in index])
        record |= {"item.index": index, "item.log_q": record["item.log_q"][:-1]}
    else:
        record["block.negatives"] = record["block.negatives"][:-1]
    only(audited(crafted), "format", "positives", "sets", "held_out", says="record 3")


def test_a_positive_that_is_not_first(audited):
    crafted = Crafted("row")
    record = next(r for r in trained(crafted, 1) if allowed(r, crafted) < -0.2)
    index, log_q = record["item.index"], record["item.log_q"].copy()
    log_q[[0, 2]] = log_q[[2, 0]]
    first, third = int(index[0]), int(index[2])
    put(crafted, record, 0, third)
    put(crafted, record, 2, first)
    record["item.log_q"] = log_q
    only(audited(crafted), "positives", "sets", "log_q", "exclusion", says="set 1")


def test_wrong_counts_in_the_catalogue(audited):
    crafted = Crafted("block")
    crafted.records["items", 0][0]["item.count"] += 3
    only(audited(crafted), "positives", "log_q", says=f"item_index 0 (key {crafted.world.items[0]['key']})")


# log_q


def test_log_q_without_log_k(audited):
    crafted = Crafted("block")
    for number in range(2):
        for record in trained(crafted, number):
            record["item.log_q"] -= np.float32(math.log(K))
    only(audited(crafted), "log_q", says="declared")


@pytest.mark.parametrize("layout", ["row", "sequence"])
def test_log_q_of_a_component_instead_of_the_mixture(audited, layout):
    crafted = Crafted(layout)
    popular = proposal([crafted.world.declared[0] | {"share": 1.0}], crafted.world.counts)
    record = next(r for r in trained(crafted) if popular[r["item.index"][2]] > 0)
    item = record["item.index"][2]
    record["item.log_q"][2] += np.float32(math.log(popular[item] / crafted.world.q[item]))
    only(audited(crafted), "log_q")


def test_log_uniform_fed_with_counts(audited):
    crafted = Crafted("block", declared=[{"strategy": "log_uniform", "share": 1.0}])
    assert not audited(crafted)
    counts = crafted.world.counts
    wrong = np.log((counts + 2) / (counts + 1))
    crafted.log_q = np.log(wrong / wrong.sum()) + math.log(K)
    for number in range(2):
        for record in trained(crafted, number):
            record["item.log_q"] = crafted.log_q[record["item.index"]].astype(np.float32)
    only(audited(crafted), "log_q")


@pytest.mark.parametrize("layout", ["row", "block"])
def test_log_q_before_exclusion(audited, layout):
    crafted = Crafted(layout)
    for record in trained(crafted):
        if layout == "row":
            record["item.log_q"] = crafted.log_q[record["item.index"]].astype(np.float32)
        else:
            record["block.log_allowed"] *= 0
    only(audited(crafted), "log_q", says="excluded mass")


def test_log_q_of_a_pool_as_if_drawn_with_repetition(audited):
    crafted = Crafted("sequence")
    for record in trained(crafted):
        record["item.log_q"] = (np.log(crafted.world.q[record["item.index"]]) + math.log(8)).astype(np.float32)
    only(audited(crafted), "log_q")


SHOPS = [
    {"strategy": "popularity", "share": 0.4, "slots": 2.0, "exponent": 0.75},
    {"strategy": "uniform", "share": 0.2, "slots": 1.0},
    {"strategy": "same_attribute", "share": 0.4, "slots": 2, "feature": "shop", "exponent": 0.5, "least": 6},
]


def test_log_q_without_the_group_that_half_the_negatives_came_from(audited):
    crafted = Crafted("row", declared=SHOPS, kind="shop")
    assert not audited(crafted)
    click = crafted.world.shuffled[0]
    crafted.world.kind = "independent"
    record = trained(crafted)[0]
    record["item.log_q"] = crafted.world.log_q(click, record["item.index"], crafted.log_q).astype(np.float32)
    only(audited(crafted), "log_q", says="it can be")


def test_log_q_of_different_negatives_as_if_they_could_repeat(audited):
    declared = [{"strategy": "popularity", "share": 0.9, "exponent": 2.0}, {"strategy": "uniform", "share": 0.1}]
    crafted = Crafted("row", declared=declared, kind="unique")
    assert not audited(crafted)
    crafted.world.kind = "independent"
    for record, click in zip(trained(crafted), crafted.world.shuffled, strict=True):
        record["item.log_q"][1:] = crafted.world.log_q(click, record["item.index"], crafted.log_q)[1:]
        record["item.log_q"] = np.minimum(record["item.log_q"], 0)
    only(audited(crafted), "log_q", "distribution", says="inclusion probabilities sum to")


def test_log_q_of_another_number_of_tries(audited):
    crafted = Crafted("pool", kind="tensorflow")
    assert not audited(crafted)
    record = trained(crafted)[6]
    item = record["item.index"][0]
    record["item.log_q"][0] = np.log(1 - (1 - crafted.world.q[item]) ** 40)
    only(audited(crafted), "log_q", says="1 of ")


def test_negatives_that_repeat_where_they_are_to_be_different(audited):
    crafted = Crafted("row", kind="unique")
    record = trained(crafted)[11]
    put(crafted, record, 2, int(record["item.index"][1]), record["item.log_q"][1])
    only(audited(crafted), "repetition", says="an item twice")


# Draws


@pytest.mark.parametrize("layout", ["row", "pool", "sequence"])
def test_a_weighted_sampler_that_ignores_its_weights(audited, layout):
    declared = [{"strategy": "popularity", "share": 0.95, "exponent": 1.5}, {"strategy": "uniform", "share": 0.05}]
    crafted = Crafted(layout, declared=declared, weighed=np.ones(ITEMS))
    only(audited(crafted), "distribution", says="chi-square")


def test_weights_ignored_by_draws_without_repetition(audited):
    """log_q says what was declared; uniform draws exclude right, but do not weigh."""
    declared = [{"strategy": "popularity", "share": 0.95, "exponent": 1.5}, {"strategy": "uniform", "share": 0.05}]
    only(audited(Crafted("row", declared=declared, weighed=np.ones(ITEMS), kind="unique")), "distribution")


def test_an_item_that_cannot_be_drawn(audited):
    """Popularity gives an item without training clicks no probability."""
    crafted = Crafted("row", declared=[{"strategy": "popularity", "share": 1.0, "exponent": 0.75}])
    assert crafted.world.counts[-1] == 0
    put(crafted, trained(crafted)[9], 4, ITEMS - 1)
    only(audited(crafted), "distribution", "log_q", says=f"item_index {ITEMS - 1} ")


def test_rows_whose_seeds_collide(audited):
    """Every fourth click has the negatives of another one, as far as it may draw them."""
    crafted = Crafted("row")
    clicks = crafted.world.shuffled
    for number, (record, click) in enumerate(zip(trained(crafted), clicks, strict=True)):
        other = clicks[number - 1]
        if number % 2 and not {*click.before, click.item} & set(other.negatives[0]):
            taken = allowed(record, crafted)
            for place, item in enumerate(other.negatives[0], 1):
                put(crafted, record, place, item, crafted.log_q[item] - taken)
    only(audited(crafted), "repetition", says="pairs")


@pytest.mark.parametrize("layout", ["row", "pool"])
def test_a_set_that_is_the_one_before_once_more(audited, layout):
    crafted = Crafted(layout)
    crafted.records["train", 1] = trained(crafted)
    only(audited(crafted), "repetition", "distribution", says="pairs")


# Time


@pytest.mark.parametrize("layout", ["row", "block"])
def test_a_click_of_the_future_in_a_history(audited, layout):
    crafted = Crafted(layout)
    world = crafted.world
    click = next(
        c for c in world.shuffled
        if len(c.before) > 4 and (later := [o for o in world.clicks["train"] if o.user == c.user and o.time > c.time
                                            and o.item not in {*c.before, c.item} and o.item not in c.negatives[0]])
    )  # fmt: skip
    future = later[0].item
    place = world.shuffled.index(click)
    if layout == "row":
        recent = [*click.before[-6:-1], future]
        trained(crafted)[place] |= features("history", crafted.spec.history_fields, [world.items[i] for i in recent])
    else:
        record, inside = trained(crafted)[place // 16], place % 16
        known = record["history.index"].tolist()
        known += [future] if future not in known else []
        record["history.index"] = ints(known)
        record |= features("history", crafted.spec.history_fields, [world.items[i] for i in known])
        record["block.history"][record["history.lengths"][:inside].sum()] = known.index(future)
    only(audited(crafted), "history", says=f"item_index {future} ")


@pytest.mark.parametrize("key", ["history.index", "exclude.index"])
def test_a_held_out_click_that_knows_its_future(audited, key):
    crafted = Crafted("block")
    world = crafted.world
    click, test = next((c, t) for c, t in zip(world.clicks["validation"], world.clicks["test"], strict=True)
                       if t.item not in {*c.before, c.item} and t.time > c.time)  # fmt: skip
    record = crafted.records["validation", 0][world.clicks["validation"].index(click)]
    if key == "history.index":
        recent = [*click.before[-5:], test.item]
        record |= features("history", crafted.spec.history_fields, [world.items[i] for i in recent])
        record["history.index"] = ints(recent)
    record["exclude.index"] = ints([*record["exclude.index"].tolist(), test.item])
    only(audited(crafted), "history", says=f"item_index {test.item} ")


def test_a_window_that_runs_back_in_time(audited):
    crafted = Crafted("sequence")
    record = trained(crafted)[2]
    time = record["click.time"]
    place = next(i for i in range(record["sequence.lengths"][0] - 1) if time[i] < time[i + 1])
    record["click.time"][[place, place + 1]] = time[[place + 1, place]]
    only(audited(crafted), "history", "sets", "exclusion", says="in one window")


def test_held_out_clicks_that_are_trained_on(audited):
    """One user's last click is for training, and one before it for the test; all numbers add up."""
    only(audited(Crafted("block", swapped=(4,))), "held_out", "history", says="user 5 ")


def test_a_test_click_that_is_a_training_click_too(audited):
    crafted = Crafted("row")
    world = crafted.world
    test = next(t for t in world.clicks["test"] if t.item not in t.before)
    number = next(i for i, c in enumerate(world.shuffled) if c.user == test.user)
    for each in range(2):
        record = {key: value.copy() for key, value in trained(crafted, each)[number].items()}
        put(crafted, record, 0, test.item, crafted.log_q[test.item])
        record["click.time"] = ints([test.time])
        trained(crafted, each).append(record)
    also = ("counts", "positives", "exclusion", "log_q", "history", "repetition")
    only(audited(crafted), "held_out", *also, says=f"user {test.user + 1} ")
    assert any("in test too" in line for line in audited(crafted)["held_out"].shown)
