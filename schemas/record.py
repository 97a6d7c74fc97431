"""Record keys and layouts: the only place that knows them.

A `RecordSpec` is what encoder, TensorFlow parse spec, schema.pbtxt and trainer agree on. It lists the columns of each
split: a key, its dtype, its shape and the keys of its row lengths. It is plain data, so that executors need no
pydantic.

Layouts of a train record, K negatives a click, C = 1 + K candidates with the positive first:

    row       one record = one click     user.* history.* click.*: one click        item.*: [C]
    block     one record = B clicks      user.* click.*: B clicks                   item.*: a table of U distinct items
              block.positive [B] and block.negatives ([B * K] own ones, or [N] shared) are slots in that table
              history.*: a table of V distinct items; block.history holds slots in it, block by block and click by click
    sequence  one record = W windows of at most P clicks    user.*: W windows       item.*: a table of U distinct items
              sequence.item [P] and block.negatives [N] are slots in it; what a window has before a click is its history
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

DType = Literal["int64", "float32", "bytes"]
# Fields that joined `RecordSpec` within a format, with their defaults.
LATER: dict[str, Any] = {"log_q": "item", "frequency": False, "unique": False, "gone": False}


@dataclass(frozen=True)
class Field:
    """A feature as it is stored. `size` counts the indices, 0 (out of vocabulary, missing) among them; 0 for floats."""

    name: str
    encode: Literal["vocabulary", "buckets", "none"]
    column: str
    shape: Literal["scalar", "list"] | int = "scalar"
    size: int = 0
    boundaries: tuple[float, ...] | None = None
    default: float = 0.0

    @property
    def dtype(self) -> DType:
        return "float32" if self.encode == "none" else "int64"

    @property
    def width(self) -> int | None:
        """Values an entity has: 1, n for a dense vector, None for a list."""
        if self.shape == "scalar":
            return 1
        return None if self.shape == "list" else int(self.shape)


@dataclass(frozen=True)
class Column:
    """One key of a record.

    shape: dense shape in the record where that is the same for all records (`()` is a scalar), else None.
    width: values of one entity where the shape is not dense: 1, n for a dense vector, or the candidates of a click.
    lengths: keys of the row lengths that partition the values, outermost first.
    """

    key: str
    dtype: DType
    shape: tuple[int, ...] | None = None
    width: int = 1
    lengths: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecordSpec:
    """The record format of a dataset.

    clicks: B, 1 in rows, the most P of a sequence. negatives: K, or N where a record shares its pool. window: the
    longest window of a sequence. ties: whether clicks of one user at one time know of each other: "order" for yes.
    log_q: "candidate" where it depends on the click beyond what is excluded, so that a block has one a candidate
    (block.log_q) instead of one an item (item.log_q) and one a click (block.log_allowed).
    frequency: whether proposals count something else than training clicks, and items/ says what.
    unique: a click's negatives are different items, and what a block says of a candidate's log_q is at most 0.
    gone: whether some items have left the item table since the dataset that this one inherits from, and items/ says
    which.
    """

    user: tuple[Field, ...]
    item: tuple[Field, ...]
    history: tuple[str, ...]
    history_length: int
    layout: Literal["row", "block", "sequence"]
    clicks: int
    negatives: int
    per: Literal["click", "block"]
    mask: bool = False
    window: int = 0
    ties: Literal["exclude", "order"] = "exclude"
    log_q: Literal["item", "candidate"] = "item"
    frequency: bool = False
    unique: bool = False
    gone: bool = False

    @property
    def history_fields(self) -> tuple[Field, ...]:
        """Item features that a history carries, in configured order."""
        by_name = {field.name: field for field in self.item}
        return tuple(by_name[name] for name in self.history)

    def train_columns(self) -> tuple[Column, ...]:
        """Keys of a train record, in the order they are written."""
        columns = {"row": self._row_columns, "block": self._block_columns, "sequence": self._sequence_columns}
        return columns[self.layout]()

    def held_out_columns(self) -> tuple[Column, ...]:
        """Keys of a validation or test record: one click, its positive, and the items to leave out when ranking."""
        columns = [column for column in self._row_columns(1) if column.key not in ("item.log_q", "item.mask")]
        return (
            *columns,
            Column("user.key", "bytes", ()),
            Column("history.index", "int64"),
            Column("exclude.index", "int64"),
        )

    def item_columns(self) -> tuple[Column, ...]:
        """Keys of a record in items/: one item of the catalogue."""
        return (
            *(_one(f"item.{field.name}", field) for field in self.item),
            Column("item.index", "int64", ()),
            Column("item.count", "int64", ()),
            *([Column("item.frequency", "float32", ())] if self.frequency else []),
            *([Column("item.gone", "int64", ())] if self.gone else []),
            Column("item.key", "bytes", ()),
            Column("item.title", "bytes", ()),
        )

    def _row_columns(self, candidates: int | None = None) -> tuple[Column, ...]:
        candidates = candidates or 1 + self.negatives
        columns = [_one(f"user.{field.name}", field) for field in self.user]
        for field in self.history_fields:
            columns.extend(_many(f"history.{field.name}", field))
        for field in self.item:
            columns.extend(_many(f"item.{field.name}", field, candidates))
        columns.append(Column("item.index", "int64", (candidates,)))
        columns.append(Column("item.log_q", "float32", (candidates,)))
        if self.mask:
            columns.append(Column("item.mask", "int64", (candidates,)))
        columns.append(Column("click.time", "int64", ()))
        columns.append(Column("click.weight", "float32", ()))
        return tuple(columns)

    def _block_columns(self) -> tuple[Column, ...]:
        columns = [column for field in self.user for column in _many(f"user.{field.name}", field)]
        if self.history:
            columns.append(Column("block.history", "int64", None, 1, ("history.lengths",)))
            columns.append(Column("history.lengths", "int64"))
            columns.append(Column("history.index", "int64"))
        for field in self.history_fields:
            columns.extend(_many(f"history.{field.name}", field))
        columns.extend(self._table_columns())
        columns.append(Column("block.positive", "int64"))
        if self.per == "click":
            columns.append(Column("block.negatives", "int64", None, self.negatives))
            own = self.log_q == "candidate"
            columns.append(
                Column("block.log_q", "float32", None, 1 + self.negatives)
                if own
                else Column("block.log_allowed", "float32")
            )
            if self.mask:
                columns.append(Column("block.mask", "int64", None, 1 + self.negatives))
        else:
            columns.extend(self._pool_columns())
        columns.append(Column("click.time", "int64"))
        columns.append(Column("click.weight", "float32"))
        return tuple(columns)

    def _sequence_columns(self) -> tuple[Column, ...]:
        columns = [column for field in self.user for column in _many(f"user.{field.name}", field)]
        columns.append(Column("sequence.item", "int64", None, 1, ("sequence.lengths",)))
        columns.append(Column("sequence.lengths", "int64"))
        columns.extend(self._table_columns())
        columns.extend(self._pool_columns())
        columns.append(Column("block.hit_length", "int64"))
        columns.append(Column("click.time", "int64"))
        columns.append(Column("click.weight", "float32"))
        return tuple(columns)

    def _table_columns(self) -> list[Column]:
        columns = [column for field in self.item for column in _many(f"item.{field.name}", field)]
        columns.append(Column("item.index", "int64"))
        return columns if self.log_q == "candidate" else [*columns, Column("item.log_q", "float32")]

    def _pool_columns(self) -> list[Column]:
        return [
            Column("block.negatives", "int64", (self.negatives,)),
            Column("block.hit_click", "int64"),
            Column("block.hit_pool", "int64"),
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain data for the manifest; `from_json` reads it back to an equal spec.

        Fields that came later are left out where they have their default, so that a dataset that does not use them
        keeps its fingerprint.
        """
        document = dataclasses.asdict(self)
        return {name: value for name, value in document.items() if name not in LATER or value != LATER[name]}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "RecordSpec":
        """The spec in a manifest's `record`."""
        values = dict(document)
        for side in ("user", "item"):
            values[side] = tuple(_field_from_json(field) for field in values[side])
        values["history"] = tuple(values["history"])
        return cls(**values)


def window_classes(window: int) -> tuple[int, ...]:
    """Lengths that windows are sorted by, rising, the last one `window` itself.

    All windows of a record are of one class, so that padding them to its length costs little and shapes are few.
    """
    return tuple(sorted({-(-window * eighths // 8) for eighths in (1, 2, 3, 4, 6, 8)}))


def _one(key: str, field: Field) -> Column:
    """The column of one feature of one entity."""
    if field.width is None:
        return Column(key, field.dtype)
    return Column(key, field.dtype, () if field.shape == "scalar" else (field.width,))


def _many(key: str, field: Field, entities: int | None = None, outer: tuple[str, ...] = ()) -> list[Column]:
    """Columns of one feature of several entities; a list feature brings its lengths, one an entity."""
    dense = None if entities is None else (entities,)
    if field.width is None:
        lengths = f"{key}.lengths"
        return [Column(key, field.dtype, None, 1, (*outer, lengths)), Column(lengths, "int64", dense, 1, outer)]
    if dense is not None and field.shape != "scalar":
        return [Column(key, field.dtype, (*dense, field.width), field.width, outer)]
    return [Column(key, field.dtype, dense, field.width, outer)]


def _field_from_json(document: dict[str, Any]) -> Field:
    values = dict(document)
    if values.get("boundaries") is not None:
        values["boundaries"] = tuple(values["boundaries"])
    return Field(**values)
