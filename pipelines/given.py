"""Lists of negatives beside each click: brought by the user, shown and left, or mined by a model. As item numbers.

Adds the columns `given_column`, `given_impressions` and `given_mined` (array<int>) to clicks, for the strategies of the
same names; samplers/given.py draws from them.

- Ids become numbers in one pass over the rows, without a shuffle: the item keys are one mapped file.
- Impressions and mined lists travel in the clicks' own shuffle by user, as rows of another `kind`, and meet the clicks
  in one pass over rows sorted by user and time. A range join would make a row of each click and showing before anything
  is left out; a join on a click's identity would shuffle the clicks again. Cost: in that shuffle 24 bytes an impression
  or a mined list, and 4 an item of such a list. A task holds some 32,768 rows, and of what came before only what the
  user was shown and clicked on within the window: nothing grows with how much a user was shown.

Ids that are not in the item table are left out and counted, as are a click's own item and repetitions; the manifest has
the counts under `statistics.given`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines import encoding, mapped_files
from pipelines.grouping import whole_groups
from pipelines.history import first_of_user
from pipelines.impressions import LOOK_BACK, Events, shown_not_clicked
from pipelines.split import TRAIN

if TYPE_CHECKING:  # a task needs no pydantic
    from pipelines.config import Config

Ints = npt.NDArray[np.int64]

CLICK, SHOWN, MINED = 0, 1, 2  # kinds of rows that share the shuffle by user
ROWS = 1 << 15  # rows a step holds at least
LEFT_OUT = ("unknown", "positive", "repeated")  # why an id of a list is no negative, in the order of *_left_out

_INTS = T.ArrayType(T.IntegerType())
_ARROW_INTS = pa.list_(pa.int32())


@dataclass(frozen=True)
class Keys:
    """Item keys by number, for executors: a mapped file that all of them see, or the keys themselves, sent along."""

    path: str = ""
    sent: Any = None

    def read(self) -> pa.Array:
        """The keys."""
        return self.sent if self.sent is not None else mapped_files.mapped(self.path)["key"].combine_chunks()


@dataclass(frozen=True)
class Lists:
    """The lists that a job draws from. impressions: (window, most). mined: the folder that pipelines/mine.py wrote."""

    column: bool = False
    impressions: tuple[str, int] | None = None
    mined: str | None = None

    @classmethod
    def of(cls, config: "Config") -> "Lists":
        """Those that the configured proposal asks for."""
        asked = {name: parameters for name, _, parameters in config.negatives.proposal.components}
        shown = asked.get("impressions")
        return cls(
            "column" in asked,
            None if shown is None else (shown["window"], shown["most"]),
            asked["mined"]["path"] if "mined" in asked else None,
        )

    @property
    def columns(self) -> list[str]:
        """What is added to the clicks."""
        there = {"column": self.column, "impressions": self.impressions is not None, "mined": self.mined is not None}
        return [f"given_{name}" for name, asked in there.items() if asked]


def numbered(rows: DataFrame, ids: str, name: str, keys: Keys) -> DataFrame:
    """Rows with their lists of item ids `ids` as `name`, item numbers, and `<name>_left_out`, counts by `LEFT_OUT`.

    keys: of the items, by number. A row's own `number` is left out of its list. A row without a list has nulls.
    """
    kept = [field for field in rows.schema.fields if field.name != ids]
    added = [T.StructField(name, _INTS), T.StructField(f"{name}_left_out", _INTS)]
    schema = T.StructType([*kept, *added])

    def task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        known = keys.read()
        for batch in batches:
            lists, left_out = as_numbers(batch[ids], batch["number"].to_numpy(), known)
            columns = [batch[field.name] for field in kept]
            yield pa.RecordBatch.from_arrays([*columns, lists, left_out], names=schema.names)

    return rows.mapInArrow(task, schema)


def as_numbers(ids: pa.Array, own: Ints, keys: pa.Array) -> tuple[pa.Array, pa.Array]:
    """(lists of the positions of ids among keys, counts by `LEFT_OUT`), each id once and none that is the row's own."""
    lists = ids.cast(pa.large_list(ids.type.value_type))
    values, owner = lists.flatten(), pc.list_parent_indices(lists).to_numpy().astype(np.int64)
    found = pc.fill_null(pc.index_in(values, value_set=keys.cast(values.type)), -1).to_numpy().astype(np.int64)
    unknown, positive = found < 0, found == own[owner]
    kept = ~(unknown | positive)
    first = np.sort(np.unique(owner[kept] * (len(keys) + 1) + found[kept], return_index=True)[1])
    repeated = np.ones(int(kept.sum()), bool)
    repeated[first] = False
    counts = np.stack(
        [np.bincount(rows, minlength=len(ids)) for rows in (owner[unknown], owner[positive], owner[kept][repeated])], 1
    )
    missing = pc.is_null(ids).to_numpy(zero_copy_only=False)
    lengths = np.bincount(owner[kept][first], minlength=len(ids))
    lists_out = _lists(found[kept][first], lengths, missing)
    return lists_out, _lists(counts.reshape(-1)[np.repeat(~missing, 3)], np.where(missing, 0, 3), missing)


def _lists(values: Ints, lengths: Ints, missing: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Lists of so many numbers each, as Spark's array<int>; null where one is missing."""
    return encoding.list_array(values.astype(np.int32), lengths, missing)


def together(clicks: DataFrame, others: list[DataFrame]) -> DataFrame:
    """Clicks and rows of other kinds in one table, told apart by `kind`."""
    rows = clicks.withColumn("kind", F.lit(CLICK))
    for other in others:
        rows = rows.unionByName(other, allowMissingColumns=True)
    return rows


def matched(rows: DataFrame, lists: Lists, window: int) -> DataFrame:
    """The clicks among rows `together`, clustered by user, with given_impressions and given_mined beside them.

    window: of impressions, in the unit of the clicks' times.
    """
    kept = [field for field in rows.schema.fields if field.name not in ("kind", "listed", "listed_left_out")]
    names = ["given_impressions"] if lists.impressions else []
    names += ["given_mined", "given_mined_left_out"] if lists.mined else []
    schema = T.StructType([*kept, *[T.StructField(name, _INTS) for name in names]])
    # Rows of one user and time stand together whatever their kind; a collision would only put two such groups together.
    ordered = rows.withColumn("moment", F.xxhash64("user", "time")).sortWithinPartitions(
        "user", "time", "kind", "number", "click_key"
    )
    columns = [field.name for field in kept]
    return ordered.mapInArrow(lambda batches: matched_batches(batches, lists, window, columns), schema)


def matched_batches(
    batches: Iterable[pa.RecordBatch], lists: Lists, window: int, kept: list[str]
) -> Iterator[pa.RecordBatch]:
    """The clicks among rows sorted by user and time, their columns `kept` and the lists."""
    most = 0 if lists.impressions is None else lists.impressions[1]
    earlier: pa.Table | None = None
    for table in whole_groups(batches, "moment", ROWS):
        before = 0 if earlier is None else earlier.num_rows
        whole = table if earlier is None else pa.concat_tables([earlier, table]).combine_chunks()
        found = _Met(whole, before)
        columns = {name: found.clicks[name].combine_chunks() for name in kept}
        if lists.impressions:
            columns["given_impressions"] = found.shown_lists(window, most)
            earlier = found.needed_later(window, LOOK_BACK * most)
        if lists.mined:
            columns |= found.mined_lists()
        yield pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


class _Met:
    """Rows of some users, sorted by user and time, of which those before row `before` were seen already."""

    def __init__(self, table: pa.Table, before: int) -> None:
        self._table = table
        self._kind, self._split = table["kind"].to_numpy(), table["split"].to_numpy()
        self._new = np.flatnonzero((self._kind == CLICK) & (np.arange(len(self._kind)) >= before))
        self.clicks = table.take(pa.array(self._new))
        self._first = first_of_user(table["user"].combine_chunks())

    def shown_lists(self, window: int, most: int) -> pa.Array:
        """What was shown and left before each new training click; empty lists for the other clicks."""
        time, number = (self._table[name].to_numpy().astype(np.int64) for name in ("time", "number"))
        events = Events(self._first, time, number)
        train = (self._kind == CLICK) & (self._split == TRAIN)
        wanted = self._split[self._new] == TRAIN
        shown = events.part(self._kind == SHOWN)
        values, counts = shown_not_clicked(events.part(self._new[wanted]), events.part(train), shown, window, most)
        lengths = np.zeros(len(self._new), np.int64)
        lengths[wanted] = counts
        return _lists(values, lengths)

    def needed_later(self, window: int, most: int) -> pa.Table:
        """What later clicks of the last user may need: training clicks within the window, the latest showings in it."""
        rows = np.arange(int(self._first[-1]), len(self._kind))
        time = self._table["time"].to_numpy()
        rows = rows[time[rows] > time[-1] - window]  # what comes is later
        shown = rows[self._kind[rows] == SHOWN][-most:]
        clicked = rows[(self._kind[rows] == CLICK) & (self._split[rows] == TRAIN)]
        return self._table.take(pa.array(np.sort(np.concatenate([shown, clicked]))))

    def mined_lists(self) -> dict[str, pa.Array]:
        """The lists mined for the new clicks; nulls where there is none."""
        mined = self._table.filter(pa.array(self._kind == MINED))
        row = pc.index_in(self.clicks["click_key"].combine_chunks(), value_set=mined["click_key"].combine_chunks())
        columns = {"given_mined": "listed", "given_mined_left_out": "listed_left_out"}
        return {name: mined[source].combine_chunks().take(row).cast(_ARROW_INTS) for name, source in columns.items()}


def counted(clicks: DataFrame, lists: Lists) -> tuple[DataFrame, dict[str, dict[str, int]]]:
    """(clicks with their lists alone, empty where there is none and for held-out clicks; counts by list).

    The counts are of training clicks: how many there are, with how many a list came, how many items stand in the
    lists, and how many ids were left out, by reason. Costs a pass over the clicks.
    """
    names = lists.columns
    if not names:
        return clicks, {}
    train = F.col("split") == TRAIN
    sums = [F.count_if(train).alias("clicks")]
    for name in names:
        has = F.col(name).isNotNull() if name != "given_impressions" else F.size(name) > 0
        sums += [F.count_if(train & has).alias(f"{name}:with_list")]
        sums += [F.sum(F.when(train & has, F.size(name))).alias(f"{name}:items")]
        if f"{name}_left_out" in clicks.columns:
            counts = F.col(f"{name}_left_out")
            sums += [F.sum(F.when(train, counts[at])).alias(f"{name}:{why}") for at, why in enumerate(LEFT_OUT)]
    found: dict[str, Any] = clicks.agg(*sums).collect()[0].asDict()
    figures = {
        name.removeprefix("given_"): {
            "clicks": found["clicks"],
            **{key.partition(":")[2]: value or 0 for key, value in found.items() if key.startswith(f"{name}:")},
        }
        for name in names
    }
    nothing = F.array().cast(_INTS)
    for name in names:
        clicks = clicks.withColumn(name, F.when(train & F.col(name).isNotNull(), F.col(name)).otherwise(nothing))
        clicks = clicks.drop(f"{name}_left_out")
    return clicks, figures
