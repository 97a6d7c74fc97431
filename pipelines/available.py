"""When items can be had: the limits of the item table, checked, and in the unit of the clicks' times.

An item is available from `available_from` on and before `available_to`, both at the time of a click; null is no limit.
Whole numbers are of the clicks' unit, as a column of numbers says nothing of it; timestamps are converted, upwards, so
that a click within the second in which an item comes does not have it yet. Costs 16 bytes an item on the driver, the
same again in the mapped catalogue, nothing where no limit is configured.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from samplers.availability import ALWAYS, NEVER
from schemas.errors import DataError
from schemas.manifest import PER_SECOND

Ints = npt.NDArray[np.int64]

LIMITS = {"available_from": ALWAYS, "available_to": NEVER}  # and what stands for no limit


def faults(table: pa.Table) -> Iterator[tuple[str, Ints]]:
    """(reason, rows) of limits that are given but are no times."""
    for name in LIMITS:
        if name in table.column_names:
            given, time = table[f"{name}_given"].combine_chunks(), table[name].combine_chunks()
            yield f"bad_{name}", np.flatnonzero(pc.and_(given, pc.is_null(time)).to_numpy(zero_copy_only=False))


def checked(table: pa.Table) -> pa.Table:
    """Items without what only `faults` asks for."""
    return table.drop_columns([f"{name}_given" for name in LIMITS if name in table.column_names])


def in_unit(table: pa.Table, unit: str, guessed: bool) -> pa.Table:
    """Items with both limits as int64 in the unit of the clicks' times; as they are where no limit is configured.

    guessed: the unit was told from the size of the clicks' times, so that of the limits must agree.

    Raises:
      DataError: numbers that look like another unit.
    """
    if not LIMITS.keys() & set(table.column_names):
        return table
    for name, unlimited in LIMITS.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.array(np.full(table.num_rows, unlimited)))
            continue
        values = _converted(table[name].combine_chunks(), name, unit, guessed)
        table = table.set_column(table.column_names.index(name), name, pc.fill_null(values, unlimited))
    return table


def _converted(values: pa.Array, name: str, unit: str, guessed: bool) -> pa.Array:
    if pa.types.is_timestamp(values.type):
        step = PER_SECOND["microseconds"] // PER_SECOND[unit]
        micros = values.cast(pa.timestamp("us", values.type.tz)).cast(pa.int64())
        numbers = -(-pc.fill_null(micros, 0).to_numpy() // step)
        return pa.array(numbers, mask=pc.is_null(micros).to_numpy(zero_copy_only=False))
    from pipelines.inputs import unit_by_size  # a task needs neither that nor pydantic behind it

    large = pc.drop_null(values).to_numpy()
    large = large[large > 10**8]
    typical = int(np.sort(large)[len(large) // 2]) if len(large) else 0
    if guessed and typical and unit_by_size(typical) != unit:
        raise DataError(
            f"items.{name}: values such as {typical} look like {unit_by_size(typical)}, clicks.time is in {unit}; "
            "give both in one unit, or timestamps, or set clicks.time_unit"
        )
    return values
