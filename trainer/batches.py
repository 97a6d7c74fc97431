"""The one form in which the towers and the loss see data, whatever layout it was stored in.

Rows, blocks with own negatives and blocks with a shared pool all become a `Batch`: a table of distinct items, slots in
it, and dense [clicks, 1 + K] log_q and mask. Rows are de-duplicated by item_index on the way, so the item tower runs
once an item for them too. Sizes that vary are padded to a few round ones, as XLA compiles once a shape.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from schemas.record import Field, RecordSpec

Tensor = Any


class Bag(NamedTuple):
    """Values of a list feature of n entities, flat: nothing is cut off and nothing padded to the longest list.

    values: int64 [V]. rows: int64 [V], the entity of each value; -1 is padding.
    """

    values: Tensor
    rows: Tensor


class Queries(NamedTuple):
    """The user side of n clicks, history included.

    user: by feature, [n], [n, width] or a Bag of n entities.
    history: by feature, [n, length], [n, length, width] or a Bag of n * length entities; the most recent item comes
      FIRST, at position 0, and what a history does not fill is zeros.
    lengths: int64 [n], items in each history; 0 where there are none.
    """

    user: dict[str, Any]
    history: dict[str, Any]
    lengths: Tensor


class Items(NamedTuple):
    """Attributes of n distinct items by feature: [n], [n, width] or a Bag. index: int64 [n]; -1 is padding."""

    features: dict[str, Any]
    index: Tensor


class Batch(NamedTuple):
    """Clicks to train on. `slots` are rows of `items`.

    slots: int64 [clicks, 1 + K], the positive first; or [clicks + N] where all clicks share N negatives: the clicks'
      positives, then the pool.
    log_q: float32 [clicks, 1 + K]. mask: bool [clicks, 1 + K], True for a real candidate. weight: float32 [clicks].
    """

    queries: Queries
    items: Items
    slots: Tensor
    log_q: Tensor
    mask: Tensor
    weight: Tensor


def from_rows(parsed: dict[str, Any], spec: RecordSpec, clicks: int) -> Batch:
    """The batch of parsed row records, padded to `clicks` with clicks of weight 0."""
    index = tf.reshape(parsed["item.index"], [-1])
    distinct, slots = tf.unique(index, out_idx=tf.int64)
    count = tf.size(distinct, tf.int64)
    first = tf.math.unsorted_segment_min(tf.range(tf.size(index, tf.int64)), slots, count)
    padded = _round_up(count)
    features: dict[str, Any] = {}
    for field in spec.item:
        values = parsed[f"item.{field.name}"]
        if field.shape == "list":
            features[field.name] = _bag(tf.gather(values.merge_dims(0, 1), first))
        else:
            width = [] if field.shape == "scalar" else [int(field.shape)]
            features[field.name] = _pad(tf.gather(tf.reshape(values, [-1, *width]), first), padded)
    mask = parsed["item.mask"] > 0 if spec.mask else tf.ones_like(parsed["item.index"], tf.bool)
    return Batch(
        queries=_queries(parsed, spec, clicks),
        items=Items(features, _pad(distinct, padded, -1)),
        slots=_pad(tf.reshape(slots, [-1, 1 + spec.negatives]), clicks),
        log_q=_pad(parsed["item.log_q"], clicks),
        mask=_pad(mask, clicks, True),
        weight=_pad(parsed["click.weight"], clicks),
    )


def from_block(parsed: dict[str, Any], spec: RecordSpec) -> Batch:
    """The batch of one parsed block record ([1, ...] by parse_example), padded to the clicks of a full block."""
    block = {key: value[0] for key, value in parsed.items()}
    clicks = spec.clicks
    padded = _round_up(tf.size(block["item.index"], tf.int64))
    features = {field.name: _entities(block[f"item.{field.name}"], field, padded) for field in spec.item}
    positive = block["block.positive"]
    if spec.per == "click":
        own = _tensor(block["block.negatives"])
        slots = _pad(tf.concat([positive[:, tf.newaxis], tf.reshape(own, [-1, spec.negatives])], 1), clicks)
        log_q = _pad(tf.reshape(_tensor(block["block.log_q"]), [-1, 1 + spec.negatives]), clicks)
        if spec.mask:
            mask = _pad(tf.reshape(_tensor(block["block.mask"]), [-1, 1 + spec.negatives]) > 0, clicks, True)
        else:
            mask = tf.ones_like(log_q, tf.bool)
    else:
        pool = block["block.negatives"]
        table = block["item.log_q"]
        slots = tf.concat([_pad(positive, clicks), pool], 0)
        shared = tf.broadcast_to(tf.gather(table, pool), [clicks, spec.negatives])
        log_q = tf.concat([_pad(tf.gather(table, positive), clicks)[:, tf.newaxis], shared], 1)
        hits = tf.stack([block["block.hit_click"], 1 + block["block.hit_pool"]], axis=1)
        struck = tf.scatter_nd(hits, tf.ones_like(hits[:, 0], tf.int32), [clicks, 1 + spec.negatives])
        mask = struck == 0
    return Batch(
        queries=_queries(block, spec, clicks),
        items=Items(features, _pad(block["item.index"], padded, -1)),
        slots=slots,
        log_q=log_q,
        mask=mask,
        weight=_pad(block["click.weight"], clicks),
    )


def grown(batch: Batch, sizes: dict[str, int]) -> Batch:
    """The batch with whatever varies padded to the largest size met so far, which `sizes` remembers from call to call.

    XLA compiles a step anew for every combination of shapes, 3 seconds each. `sizes` is state: part of a checkpoint.
    """
    count = _remembered(sizes, "items", batch.items.index)
    features = {
        name: _grown_bag(values, sizes, f"item.{name}") if isinstance(values, Bag) else _pad(values, count)
        for name, values in batch.items.features.items()
    }
    user, history = (
        {name: _grown_bag(v, sizes, f"{side}.{name}") if isinstance(v, Bag) else v for name, v in values.items()}
        for side, values in (("user", batch.queries.user), ("history", batch.queries.history))
    )
    return batch._replace(
        queries=Queries(user, history, batch.queries.lengths),
        items=Items(features, _pad(batch.items.index, count, -1)),
    )


def _grown_bag(bag: Bag, sizes: dict[str, int], name: str) -> Bag:
    count = _remembered(sizes, name, bag.values)
    return Bag(_pad(bag.values, count), _pad(bag.rows, count, -1))


def _remembered(sizes: dict[str, int], name: str, values: Tensor) -> int:
    sizes[name] = max(sizes.get(name, 0), int(values.shape[0]))
    return sizes[name]


def from_held_out(parsed: dict[str, Any], spec: RecordSpec) -> Queries:
    """The user side of parsed validation or test records."""
    return _queries(parsed, spec, tf.shape(parsed["click.time"], tf.int64)[0])


def from_items(parsed: dict[str, Any], spec: RecordSpec) -> Items:
    """The attributes of parsed records of items/."""
    count = tf.shape(parsed["item.index"], tf.int64)[0]
    features = {field.name: _entities(parsed[f"item.{field.name}"], field, count) for field in spec.item}
    return Items(features, parsed["item.index"])


def _queries(parsed: dict[str, Any], spec: RecordSpec, clicks: Any) -> Queries:
    user = {field.name: _entities(parsed[f"user.{field.name}"], field, clicks) for field in spec.user}
    if not spec.history:
        return Queries(user, {}, tf.zeros([clicks], tf.int64))
    length = spec.history_length
    first = parsed[f"history.{spec.history[0]}"]
    stored = first.row_lengths()
    history = {}
    for field in spec.history_fields:
        values = parsed[f"history.{field.name}"]
        if field.shape == "list":
            history[field.name] = _history_bag(values, stored, length)
        else:
            recent_first = tf.reverse_sequence(values.to_tensor(), stored, seq_axis=1)[:, :length]
            history[field.name] = _pad(_pad(recent_first, length, axis=1), clicks)
    return Queries(user, history, _pad(tf.minimum(stored, length), clicks))


def _history_bag(values: Any, stored: Tensor, length: int) -> Bag:
    """A nested ragged [clicks, (items), (values)] as a Bag over clicks * length entities, most recent item first."""
    click = tf.cast(values.value_rowids(), tf.int64)  # [items], the click of each history item
    start = tf.gather(values.row_starts(), click)
    position = tf.gather(stored, click) - 1 - (tf.range(tf.size(click, tf.int64)) - start)
    entity = tf.where(position < length, click * length + position, -1)
    inner = values.values
    return _padded_bag(inner.values, tf.gather(entity, inner.value_rowids()))


def _entities(values: Any, field: Field, count: Any) -> Any:
    """One feature of up to `count` entities, padded to them."""
    if field.shape == "list":
        return _bag(values)
    values = _tensor(values)
    if field.shape != "scalar":
        values = tf.reshape(values, [-1, int(field.shape)])
    return _pad(values, count)


def _bag(ragged: Any) -> Bag:
    return _padded_bag(ragged.values, ragged.value_rowids())


def _padded_bag(values: Tensor, rows: Tensor) -> Bag:
    padded = _round_up(tf.size(values, tf.int64))
    return Bag(_pad(values, padded), _pad(tf.cast(rows, tf.int64), padded, -1))


def _tensor(values: Any) -> Tensor:
    """A dense tensor: the width that parse_example splits off a block's values ([B, (K)]) is uniform, never ragged."""
    return values.to_tensor() if isinstance(values, tf.RaggedTensor) else values


def _pad(values: Tensor, count: Any, value: Any = 0, axis: int = 0) -> Tensor:
    """`values` with an axis filled up to `count`."""
    if isinstance(count, int) and values.shape[axis] == count:
        return values
    missing = tf.cast(count, tf.int64) - tf.shape(values, tf.int64)[axis]
    rank = values.shape.rank
    padded = tf.pad(
        values, [[0, missing if i == axis else 0] for i in range(rank)], constant_values=tf.cast(value, values.dtype)
    )
    shape = values.shape.as_list()
    shape[axis] = count if isinstance(count, int) else None
    padded.set_shape(shape)
    return padded


def _round_up(count: Tensor) -> Tensor:
    """The next of 256, 320, 384, 448, 512, 640, ...: four sizes to each doubling, at most a quarter is padding."""
    wanted = tf.maximum(count, 256)
    exponent = tf.math.floor(tf.math.log(tf.cast(wanted, tf.float64) - 0.5) / tf.math.log(tf.constant(2.0, tf.float64)))
    grain = tf.cast(2.0**exponent, tf.int64) // 4
    return (wanted + grain - 1) // grain * grain
