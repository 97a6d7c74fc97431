"""What a record says, click by click, as numbers: the layouts taken apart without TensorFlow.

Reports, inspection and tests read records through this one view, whatever the layout: a row, a block with negatives of
its own for each click, a block or a sequence with a shared pool all come out as clicks with their candidates, the
positive first.
It is for eyes, not for training: about 10 ms a block of 512 clicks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.history import known_to
from schemas import wire
from schemas.codec import Decoded
from schemas.errors import CorruptDataset
from schemas.record import Field, RecordSpec

Ints = npt.NDArray[np.int64]
Entity = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Click:
    """One click of a record, C candidates with the positive first.

    user: values by feature. history: the same for each earlier click, most recent last.
    slots: [C] rows of `table`, the record's items by feature. index: [C] their item_index. log_q: [C], None held out.
    masked: [C] what the softmax leaves out: accidental hits of a pool, or fillers where nothing could be drawn.
    Held-out clicks also have user_key, known (item_index of all the user had before) and history_index.
    """

    user: Entity
    history: list[Entity]
    time: int
    weight: float
    table: Sequence[Entity]
    slots: Ints
    index: Ints
    log_q: npt.NDArray[np.float32] | None
    masked: npt.NDArray[np.bool_]
    user_key: str | None = None
    known: Ints | None = None
    history_index: Ints | None = None


@dataclass(frozen=True)
class Item:
    """One item of the catalogue, as its record in items/ says."""

    index: int
    count: int
    key: str
    title: str
    features: Entity

    @property
    def name(self) -> str:
        """What a person calls it: its title, else its key."""
        return self.title or self.key


def clicks(record: Mapping[str, Decoded], spec: RecordSpec, held_out: bool = False) -> Iterator[Click]:
    """The clicks of one decoded record of train, or of validation and test where `held_out`.

    Raises:
      CorruptDataset: a key is missing, or lengths and values do not fit together.
    """
    try:
        yield from _clicks(record, spec, held_out)
    except (KeyError, IndexError, ValueError) as error:
        raise CorruptDataset(
            f"a record is not of the manifest's record format: {type(error).__name__}: {error}"
        ) from error


def item(record: Mapping[str, Decoded], spec: RecordSpec) -> Item:
    """The item of one decoded record of items/."""
    try:
        features = {field.name: _array(record, f"item.{field.name}", field.dtype) for field in spec.item}
        key, title = (_text(record, f"item.{name}") for name in ("key", "title"))
        return Item(int(_ints(record, "item.index")[0]), int(_ints(record, "item.count")[0]), key, title, features)
    except (KeyError, IndexError, ValueError) as error:
        raise CorruptDataset(
            f"a record is not an item of the manifest's format: {type(error).__name__}: {error}"
        ) from error


def key_bytes(record: Mapping[str, Decoded]) -> dict[str, int]:
    """Bytes that each key takes of a serialized record, its name and headers included."""
    sizes = {}
    for key, values in record.items():
        if isinstance(values, list):
            dtype, payload = "bytes", wire.lengths_of(wire.bytes_fragments(values)).sum()
        elif values.dtype == np.float32:
            dtype, payload = "float32", values.nbytes
        else:
            dtype, payload = "int64", wire.lengths_of(wire.int_fragments(values)).sum()
        header = wire.entry_headers(key, dtype, np.array([payload], np.int64))
        sizes[key] = int(payload) + len(header[0].as_py())
    return sizes


def _clicks(record: Mapping[str, Decoded], spec: RecordSpec, held_out: bool) -> Iterator[Click]:
    time, weight = _ints(record, "click.time"), _array(record, "click.weight", "float32")
    count = len(time)
    layout = "row" if held_out else spec.layout
    if len(weight) != count:
        raise ValueError(f"click.weight: {len(weight)} weights of {count} clicks")
    user = _users(record, layout, count)
    users = _entities(record, "user", spec.user, len(set(user.tolist())), alone=layout == "row")
    index = _within("item.index", _ints(record, "item.index"), None)
    table = _entities(record, "item", spec.item, len(index))
    histories = _histories(record, spec, layout, time, table)
    for click in range(count):
        slots, log_q, masked = _candidates(record, spec, click, count, len(index), held_out)
        extra: dict[str, Any] = {}
        if held_out:
            extra = {"user_key": _text(record, "user.key"), "known": _ints(record, "exclude.index")}
            extra["history_index"] = _ints(record, "history.index")
        yield Click(
            users[user[click]],
            histories[click],
            int(time[click]),
            float(weight[click]),
            table,
            slots,
            index[slots],
            log_q,
            masked,
            **extra,
        )


def _users(record: Mapping[str, Decoded], layout: str, count: int) -> Ints:
    """[clicks] whose features each click has: its own, or those of its window."""
    if layout != "sequence":
        return np.arange(count)
    lengths = _lengths(record, "sequence.lengths", count)
    return np.repeat(np.arange(len(lengths)), lengths)


def _candidates(
    record: Mapping[str, Decoded], spec: RecordSpec, click: int, clicks: int, items: int, held_out: bool
) -> tuple[Ints, npt.NDArray[np.float32] | None, npt.NDArray[np.bool_]]:
    """(slots, log_q, masked) of one of a record's clicks."""
    if held_out:
        return np.zeros(1, np.int64), None, np.zeros(1, bool)
    count = spec.negatives
    if spec.layout == "row":
        mask = _exactly(record, "item.mask", "int64", 1 + count) if spec.mask else np.ones(1 + count, np.int64)
        _as_many("item.index", _ints(record, "item.index"), 1 + count)
        return np.arange(items), _exactly(record, "item.log_q", "float32", items), mask == 0
    key = "sequence.item" if spec.layout == "sequence" else "block.positive"
    positive = _as_many(key, _slots(record, key, items), clicks)[click : click + 1]
    negatives = _slots(record, "block.negatives", items)
    if spec.per == "click":
        negatives = _as_many("block.negatives", negatives, clicks * count)[click * count : (click + 1) * count]
        slots = np.concatenate([positive, negatives])
        own, all_of_them = slice(click * (1 + count), (click + 1) * (1 + count)), clicks * (1 + count)
        mask = np.ones(1 + count, np.int64)
        if spec.mask:
            mask = _exactly(record, "block.mask", "int64", all_of_them)[own]
        if spec.log_q == "candidate":
            return slots, _exactly(record, "block.log_q", "float32", all_of_them)[own], mask == 0
        log_q = _exactly(record, "item.log_q", "float32", items)[slots]
        log_q[1:] -= _exactly(record, "block.log_allowed", "float32", clicks)[click]
        if spec.unique:
            log_q = np.minimum(log_q, np.float32(0))
        return slots, np.where(mask == 0, np.float32(np.log(count)), log_q), mask == 0
    slots = np.concatenate([positive, _as_many("block.negatives", negatives, count)])
    masked = np.zeros(len(slots), bool)
    first = _ints(record, "block.hit_click")
    length = np.ones(len(first), np.int64)
    if spec.layout == "sequence":
        length = _exactly(record, "block.hit_length", "int64", len(first))
    hit = _as_many("block.hit_pool", _slots(record, "block.hit_pool", count), len(first))
    masked[1 + hit[(first <= click) & (click - first < length)]] = True
    return slots, _exactly(record, "item.log_q", "float32", items)[slots], masked


def _histories(
    record: Mapping[str, Decoded], spec: RecordSpec, layout: str, time: Ints, table: list[Entity]
) -> list[list[Entity]]:
    """[clicks] the history entities of each click."""
    count = len(time)
    if not spec.history:
        return [[] for _ in range(count)]
    if layout == "sequence":
        known = [{name: item[name] for name in spec.history} for item in table]
        slots, window = _slots(record, "sequence.item", len(table)), _users(record, layout, count)
        _as_many("sequence.item", slots, count)
        begin = np.searchsorted(window, window)
        ends = known_to(begin, time, spec.ties)
        return [[known[slot] for slot in slots[begin[i] : ends[i]]] for i in range(count)]
    if layout == "block":
        known = _entities(record, "history", spec.history_fields, len(_ints(record, "history.index")))
        slots = _slots(record, "block.history", len(known))
        lengths = _as_many("history.lengths", _lengths(record, "history.lengths", len(slots)), count)
        ends = np.cumsum(lengths)
        return [[known[slot] for slot in slots[ends[i] - lengths[i] : ends[i]]] for i in range(count)]
    first = next((field for field in spec.history_fields if field.width is not None), None)
    if first is not None:
        length = len(record[f"history.{first.name}"]) // (first.width or 1)
    else:
        length = len(record[f"history.{spec.history[0]}.lengths"])
    return [_entities(record, "history", spec.history_fields, length)]


def _entities(
    record: Mapping[str, Decoded], side: str, fields: Sequence[Field], count: int, alone: bool = False
) -> list[Entity]:
    """[count] values by feature; an `alone` entity has no lengths of its own."""
    parts = {field.name: _parts(record, f"{side}.{field.name}", field, count, alone) for field in fields}
    return [{name: values[row] for name, values in parts.items()} for row in range(count)]


def _parts(record: Mapping[str, Decoded], key: str, field: Field, count: int, alone: bool) -> list[npt.NDArray[Any]]:
    values = _array(record, key, field.dtype)
    if field.width is None:
        lengths = np.array([len(values)]) if alone else _lengths(record, f"{key}.lengths", len(values))
    else:
        lengths = np.full(count, field.width)
    if len(lengths) != count or int(lengths.sum()) != len(values):
        raise ValueError(f"{key}: {len(values)} values do not make {count} entities")
    return np.split(values, np.cumsum(lengths)[:-1]) if count else []


def _slots(record: Mapping[str, Decoded], key: str, items: int) -> Ints:
    """Places in a table; numpy would count negative ones from its end."""
    return _within(key, _ints(record, key), items)


def _lengths(record: Mapping[str, Decoded], key: str, total: int) -> Ints:
    """Lengths that make up `total`; each is looked at, as sums wrap around."""
    lengths = _within(key, _ints(record, key), total + 1)
    if int(lengths.sum()) != total:
        raise ValueError(f"{key}: lengths of {int(lengths.sum())} in all, of {total} values")
    return lengths


def _exactly(record: Mapping[str, Decoded], key: str, dtype: str, count: int) -> npt.NDArray[Any]:
    return _as_many(key, _array(record, key, dtype), count)


def _as_many(key: str, values: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    if len(values) != count:
        raise ValueError(f"{key}: {len(values)} values where {count} are expected")
    return values


def _within(key: str, values: Ints, end: int | None) -> Ints:
    if len(values) and (values.min() < 0 or (end is not None and values.max() >= end)):
        raise ValueError(f"{key}: a number is negative{'' if end is None else f' or not below {end}'}")
    return values


def _ints(record: Mapping[str, Decoded], key: str) -> Ints:
    return _array(record, key, "int64")


def _array(record: Mapping[str, Decoded], key: str, dtype: str) -> npt.NDArray[Any]:
    """Numbers of a key. Texts in their place are refused: numpy would read numbers, or pad each one."""
    values = record[key]
    if isinstance(values, list) or (len(values) and values.dtype != dtype):
        found = "bytes" if isinstance(values, list) else str(values.dtype)
        raise ValueError(f"{key}: {dtype} expected, {found} found")
    return values.astype(dtype, copy=False)


def _text(record: Mapping[str, Decoded], key: str) -> str:
    values = record[key]
    if not isinstance(values, list):
        raise ValueError(f"{key}: bytes expected, {values.dtype} found")
    return values[0].decode("utf-8", "replace") if values else ""
