"""Synthetic clicks: any number of them, drawn from the model in truth.py and written a block at a time.

A block is 262,144 clicks whatever the size of the whole, so that 5 million clicks (of 100,000 items) need 4 seconds of
one core and 285 MB. Blocks are equal slices of time, each with random numbers of its own; the clicks come in time's
order.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.sources.folder import is_present, staged
from pipelines.sources.truth import FAVOURITE_SHARES, Floats, Integers, Parameters, Truth, drawn_truth

START_SECONDS = 1_735_689_600  # 2025-01-01 00:00 UTC
_DAY_SECONDS = 24 * 60 * 60
_BLOCK_CLICKS = 1 << 18
_BRANDS_PER_CATEGORY = 8
_TAGS_PER_CATEGORY = 6
_CLICKS = pa.schema([("user_id", pa.int64()), ("item_id", pa.int64()), ("timestamp", pa.int64())])


def generate(output: Path, parameters: Parameters, overwrite: bool = False) -> bool:
    """Returns whether anything was written: False when `output` holds the clicks of these parameters already.

    Writes clicks, items and users as the other sources do, and the truth in truth_items.parquet, truth_users.parquet.
    """
    identity = {"source": "synthetic", "parameters": asdict(parameters), "layout": 1}
    if is_present(output, identity, overwrite):
        return False
    truth = drawn_truth(parameters)
    with staged(output, identity) as folder:
        with pq.ParquetWriter(folder / "clicks.parquet", _CLICKS) as writer:
            for block in click_blocks(truth):
                writer.write_table(block)
        pq.write_table(items(truth), folder / "items.parquet")
        pq.write_table(users(truth), folder / "users.parquet")
        pq.write_table(_true_items(truth), folder / "truth_items.parquet")
        pq.write_table(_true_users(truth), folder / "truth_users.parquet")
    return True


def click_blocks(truth: Truth) -> Iterator[pa.Table]:
    """Yields the clicks in order of time, a table a block: user_id, item_id (both from 1), timestamp in seconds."""
    parameters = truth.parameters
    blocks = -(-parameters.clicks // _BLOCK_CLICKS)
    item_id, by_activity = item_ids(truth), np.cumsum(truth.activity)
    for block in range(blocks):
        rng = np.random.default_rng([parameters.seed, 1, block])
        begin, end = block * _BLOCK_CLICKS, min((block + 1) * _BLOCK_CLICKS, parameters.clicks)
        time = np.sort(rng.uniform(begin / parameters.clicks, end / parameters.clicks, size=end - begin))
        user = _from_cumulative(by_activity, rng.random(end - begin))
        position = drawn_items(truth, user, time, rng)
        timestamp = START_SECONDS + (time * parameters.days * _DAY_SECONDS).astype(np.int64)
        yield pa.table([1 + user, item_id[position], timestamp], schema=_CLICKS)


def drawn_items(truth: Truth, user: Integers, time: Floats, rng: np.random.Generator) -> Integers:
    """Returns a position a click, [clicks], distributed as `Truth.probabilities` says.

    Items that do not exist yet are drawn and thrown away, which leaves exactly the distribution over those that do.
    """
    parameters = truth.parameters
    clicks = len(user)
    by_taste = rng.random(clicks) < parameters.taste
    changed = rng.random(clicks) < parameters.drift * time
    rank = _from_cumulative(np.cumsum(FAVOURITE_SHARES), rng.random(clicks))
    favourite = np.where(changed, truth.after[user, rank], truth.before[user, rank])
    begin = np.where(by_taste, truth.bounds[favourite], 0)
    end = np.where(by_taste, truth.bounds[favourite + 1], parameters.items)

    cumulative = np.concatenate([[0.0], np.cumsum(truth.popularity)])
    position = np.zeros(clicks, dtype=np.int64)
    open_clicks = np.arange(clicks)
    while len(open_clicks):
        low, high = begin[open_clicks], end[open_clicks]
        mass = rng.uniform(cumulative[low], cumulative[high])
        # Rounding may carry a draw at the very edge into the neighbouring category.
        drawn = np.clip(np.searchsorted(cumulative, mass, side="right") - 1, low, high - 1)
        position[open_clicks] = drawn
        open_clicks = open_clicks[truth.appears[drawn] > time[open_clicks]]
    return position


def item_ids(truth: Truth) -> Integers:
    """Returns the id of each position, [items]: 1 to items, shuffled, so that an id tells neither category nor rank."""
    return 1 + np.random.default_rng([truth.parameters.seed, 2]).permutation(truth.parameters.items)


def items(truth: Truth) -> pa.Table:
    """Returns the items by id: title, category, brand, price, tags, available_from (seconds).

    A brand belongs to one category, and every other tag is one of the category's own. With `content`, a float32 vector
    besides: its category's direction plus noise of the same length.
    """
    parameters = truth.parameters
    rng = np.random.default_rng([parameters.seed, 3])
    count, category, item_id = parameters.items, truth.category, item_ids(truth)
    brand = category * _BRANDS_PER_CATEGORY + rng.integers(_BRANDS_PER_CATEGORY, size=count)
    price = np.round(rng.lognormal(mean=2.0 + 0.5 * rng.standard_normal(parameters.categories)[category]), 2)
    tag_counts = rng.integers(1, 6, size=count)
    owner = np.repeat(category, tag_counts)
    own = owner * _TAGS_PER_CATEGORY + rng.integers(_TAGS_PER_CATEGORY, size=len(owner))
    any_tag = rng.integers(parameters.categories * _TAGS_PER_CATEGORY, size=len(owner))
    tag = np.where(rng.random(len(owner)) < 0.5, own, any_tag)
    tags = pa.ListArray.from_arrays(np.concatenate([[0], np.cumsum(tag_counts)]).astype(np.int32), _named("tag", tag))
    columns = {
        "item_id": pa.array(item_id),
        "title": _named("Item", item_id, " "),
        "category": _named("category", category),
        "brand": _named("brand", brand),
        "price": pa.array(price.astype(np.float32)),
        "tags": tags,
        "available_from": pa.array(_seconds(truth)),
    }
    if parameters.content:
        direction = rng.standard_normal((parameters.categories, parameters.content))
        vector = direction[category] + rng.standard_normal((count, parameters.content))
        flat = pa.array(vector.astype(np.float32).ravel())
        columns["content"] = pa.FixedSizeListArray.from_arrays(flat, parameters.content).cast(pa.list_(pa.float32()))
    return pa.table(columns).take(pa.array(np.argsort(item_id)))


def users(truth: Truth) -> pa.Table:
    """Returns the users: user_id, age (18 to 79), segment: the first favourite for half of them, else any category."""
    parameters = truth.parameters
    rng = np.random.default_rng([parameters.seed, 4])
    told = rng.random(parameters.users) < 0.5
    segment = np.where(told, truth.before[:, 0], rng.integers(parameters.categories, size=parameters.users))
    age = rng.integers(18, 80, size=parameters.users, dtype=np.int32)
    user_id = np.arange(1, parameters.users + 1, dtype=np.int64)
    return pa.table({"user_id": user_id, "age": age, "segment": _named("category", segment)})


def _true_items(truth: Truth) -> pa.Table:
    item_id = item_ids(truth)
    columns = {
        "item_id": item_id,
        "popularity": truth.popularity,
        "category": truth.category,
        "available_from": _seconds(truth),
    }
    return pa.table(columns).take(pa.array(np.argsort(item_id)))


def _true_users(truth: Truth) -> pa.Table:
    user_id = np.arange(1, truth.parameters.users + 1, dtype=np.int64)
    favourites = {"before": list(truth.before), "after": list(truth.after)}
    return pa.table({"user_id": user_id, "activity": truth.activity, **favourites})


def _seconds(truth: Truth) -> Integers:
    """Returns when each item appears, [items], in seconds, rounded down as clicks are: never after its first click."""
    seconds = truth.appears * truth.parameters.days * _DAY_SECONDS
    return START_SECONDS + np.floor(seconds).astype(np.int64)


def _from_cumulative(cumulative: Floats, uniform: Floats) -> Integers:
    """Returns indices drawn with the probabilities that `cumulative` sums up."""
    drawn = np.searchsorted(cumulative, uniform, side="right")
    return np.minimum(drawn, len(cumulative) - 1).astype(np.int64)


def _named(kind: str, numbers: Integers, joint: str = "-") -> pa.Array:
    """Returns "kind-number" as text, one value a number."""
    return pa.array(np.char.add(f"{kind}{joint}", numbers.astype(str)))
