"""MovieLens-100k: 100,000 ratings of 943 people on 1,682 films, 1997-98; small enough to train on while one waits.

GroupLens' data, under GroupLens' terms (README.md); read from the copy that RecBole's wheel carries for its examples.
Genres are separated by spaces there, which is unambiguous as none of MovieLens' names holds one ("Children's",
"Film-Noir", "Sci-Fi").
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipelines.sources.folder import is_present, staged
from pipelines.sources.wheel import Wheel, fetched, member

WHEEL = Wheel(
    requirement="recbole==1.2.1",
    file="recbole-1.2.1-py3-none-any.whl",
    sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
)
_FOLDER = "recbole/dataset_example/ml-100k/ml-100k"
_IDENTITY = {"source": "ml-100k", "wheel": WHEEL.file, "sha256": WHEEL.sha256, "layout": 1}


def write(output: Path, cache: Path, overwrite: bool = False) -> bool:
    """Returns whether anything was written: False when `output` holds the data already."""
    if is_present(output, _IDENTITY, overwrite):
        return False
    wheel = fetched(WHEEL, cache)
    tables = {
        "clicks": clicks(member(wheel, f"{_FOLDER}.inter")),
        "items": items(member(wheel, f"{_FOLDER}.item")),
        "users": users(member(wheel, f"{_FOLDER}.user")),
    }
    with staged(output, _IDENTITY) as folder:
        for name, table in tables.items():
            pq.write_table(table, folder / f"{name}.parquet")
    return True


def clicks(text: bytes) -> pa.Table:
    """Returns the ratings, in the file's order: user_id, item_id, rating (1 to 5), timestamp (seconds since 1970)."""
    columns = {"user_id": pa.int64(), "item_id": pa.int64(), "rating": pa.float32(), "timestamp": pa.int64()}
    return _table(text, columns)


def items(text: bytes) -> pa.Table:
    """Returns the films: item_id, movie_title, release_year, genres.

    Two rows' years are not years. A title that ends in one, as "(1995)", gives it; the film without any has null.
    """
    columns = {"item_id": pa.int64(), "movie_title": pa.string(), "release_year": pa.string(), "class": pa.string()}
    table = _table(text, columns)
    year = pc.if_else(pc.match_substring_regex(table["release_year"], r"^\d{4}$"), table["release_year"], None)
    titled = pc.extract_regex(table["movie_title"], r" \((?P<year>\d{4})\)$")
    misplaced = pc.and_(pc.is_null(year), pc.is_valid(titled))
    year = pc.if_else(misplaced, pc.struct_field(titled, "year"), year)
    bare = pc.replace_substring_regex(table["movie_title"], r" \(\d{4}\)$", "")
    return pa.table(
        {
            "item_id": table["item_id"],
            "movie_title": pc.if_else(misplaced, bare, table["movie_title"]),
            "release_year": year.cast(pa.int32()),
            "genres": pc.split_pattern(table["class"], " "),
        }
    )


def users(text: bytes) -> pa.Table:
    """Returns the people who rated: user_id, age (years), gender, occupation, zip_code (text: some are Canadian)."""
    columns = {
        "user_id": pa.int64(),
        "age": pa.int32(),
        "gender": pa.string(),
        "occupation": pa.string(),
        "zip_code": pa.string(),
    }
    return _table(text, columns)


def _table(text: bytes, columns: Mapping[str, pa.DataType]) -> Any:
    """Returns RecBole's tab-separated text as a table; its header `name:kind` is replaced by our names, in order."""
    return pyarrow.csv.read_csv(
        pa.BufferReader(text),
        read_options=pyarrow.csv.ReadOptions(column_names=list(columns), skip_rows=1),
        parse_options=pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=pyarrow.csv.ConvertOptions(column_types=dict(columns), strings_can_be_null=False),
    )
