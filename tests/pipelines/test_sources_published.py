"""The published sources arrive complete, with the types that the examples expect. Fetches MovieLens-100k (2 MB)."""

import datetime as dt
import subprocess
import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipelines.sources import complete_journey, ml_100k
from pipelines.sources.wheel import default_cache

GENRES = {
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("sources") / "ml-100k"
    assert ml_100k.write(output, default_cache())
    return output


def test_clicks_are_the_ratings(folder):
    table = pq.read_table(folder / "clicks.parquet")
    assert table.schema.names == ["user_id", "item_id", "rating", "timestamp"]
    assert table.schema.types == [pa.int64(), pa.int64(), pa.float32(), pa.int64()]
    assert table.slice(0, 1).to_pylist() == [{"user_id": 196, "item_id": 242, "rating": 3.0, "timestamp": 881250949}]
    assert table.num_rows == 100_000
    assert sum(column.null_count for column in table.columns) == 0
    # What GroupLens says of it: from 20 September 1997 to 22 April 1998 (UTC: 23rd), ratings 1 to 5, 20 and more each.
    times = pc.min_max(table["timestamp"]).as_py()
    assert dt.datetime.fromtimestamp(times["min"], dt.UTC).date() == dt.date(1997, 9, 20)
    assert dt.datetime.fromtimestamp(times["max"], dt.UTC).date() in {dt.date(1998, 4, 22), dt.date(1998, 4, 23)}
    assert set(table["rating"].to_pylist()) == {1, 2, 3, 4, 5}
    assert min(entry["counts"] for entry in pc.value_counts(table["user_id"]).to_pylist()) == 20


def test_items_are_the_films(folder):
    table = pq.read_table(folder / "items.parquet")
    assert table.schema.names == ["item_id", "movie_title", "release_year", "genres"]
    assert table.schema.types == [pa.int64(), pa.string(), pa.int32(), pa.list_(pa.string())]
    films = {row["item_id"]: row for row in table.to_pylist()}
    assert sorted(films) == list(range(1, 1683))
    assert films[1]["genres"] == ["Animation", "Children's", "Comedy"]
    assert films[1623]["movie_title"] == "Cérémonie, La"
    assert {genre for film in films.values() for genre in film["genres"]} == GENRES
    assert sum(len(film["genres"]) for film in films.values()) == 2893


def test_misplaced_year_is_found_and_a_missing_one_is_null(folder):
    films = {row["item_id"]: row for row in pq.read_table(folder / "items.parquet").to_pylist()}
    assert films[1412]["release_year"] == 1995
    assert films[1412]["movie_title"] == "Land Before Time III: The Time of the Great Giving"
    assert [film["item_id"] for film in films.values() if film["release_year"] is None] == [267]
    assert min(film["release_year"] for film in films.values() if film["release_year"]) == 1922


def test_users_are_the_people(folder):
    table = pq.read_table(folder / "users.parquet")
    assert table.schema.types == [pa.int64(), pa.int32(), pa.string(), pa.string(), pa.string()]
    expected = {"user_id": 1, "age": 24, "gender": "M", "occupation": "technician", "zip_code": "85711"}
    assert table.slice(0, 1).to_pylist() == [expected]
    assert table.num_rows == 943
    # Zip codes are text, as a number would lose the zeros in front and the Canadian ones.
    codes = table["zip_code"].to_pylist()
    assert any(code.startswith("0") for code in codes)
    assert any(not code.isdigit() for code in codes)


def test_second_run_writes_nothing(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert not ml_100k.write(folder, default_cache())
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_title_with_a_quote_and_a_year_inside_stay():
    text = b'h\th\th\th\n1\t"Quoted" (1990) story\t1991\tDrama\n2\tNo year\tV\tWar\n'
    assert ml_100k.items(text).to_pylist() == [
        {"item_id": 1, "movie_title": '"Quoted" (1990) story', "release_year": 1991, "genres": ["Drama"]},
        {"item_id": 2, "movie_title": "No year", "release_year": None, "genres": ["War"]},
    ]


def test_purchases_get_an_instant_in_microseconds():
    time = pa.array([1_483_271_606_000_000_123], pa.timestamp("ns"))  # 2017-01-01 11:53:26
    line = {"household_id": [900], "store_id": [330], "basket_id": [31198570044], "product_id": [1095275]}
    table = complete_journey.clicks(
        pa.table({**line, "quantity": [1], "sales_value": [0.5], "transaction_timestamp": time})
    )
    assert table.schema.field("timestamp").type == pa.timestamp("us", "UTC")
    assert table.to_pylist() == [
        {
            "household_id": 900,
            "product_id": 1095275,
            "timestamp": dt.datetime(2017, 1, 1, 11, 53, 26, tzinfo=dt.UTC),
            "quantity": 1,
            "sales_value": 0.5,
            "basket_id": 31198570044,
        }
    ]


def run(*arguments, **environment):
    command = [sys.executable, "-m", "pipelines.sources", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment or None)


def test_command_says_what_it_wrote_and_whose_it_is(tmp_path):
    first = run("ml-100k", "--output", str(tmp_path / "ml"))
    assert first.returncode == 0, first.stderr
    assert "100,000 clicks, 1,682 items, 943 users written" in first.stderr
    assert "GroupLens" in first.stderr
    second = run("ml-100k", "--output", str(tmp_path / "ml"))
    assert second.returncode == 0
    assert "already" in second.stderr


def test_command_ends_with_one_line_where_there_is_no_network(tmp_path):
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null", "PATH": "/usr/bin:/bin"}
    ended = run("ml-100k", "--output", str(tmp_path / "ml"), "--cache", str(tmp_path / "cache"), **offline)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: pip could not download recbole==1.2.1")
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "ml").exists()
