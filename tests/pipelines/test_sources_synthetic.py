"""Synthetic clicks follow the model that they claim, every option acts, and the same parameters give the same bytes."""

import hashlib
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.sources import synthetic
from pipelines.sources.truth import Parameters, drawn_truth
from schemas.errors import ConfigurationError, OutputError

SMALL = {"clicks": 4_000, "items": 300, "users": 50, "categories": 6, "days": 10}


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def clicks(**changed):
    tables = list(synthetic.click_blocks(drawn_truth(Parameters(**{**SMALL, **changed}))))
    return {name: np.concatenate([table[name].to_numpy() for table in tables]) for name in tables[0].column_names}


@pytest.mark.parametrize(
    ("taste", "drift", "time"), [(0.7, 0.5, 0.9), (0.0, 0.0, 0.3), (1.0, 1.0, 0.99), (1.0, 0.0, 0.0)]
)
def test_drawn_items_have_the_stated_probabilities(taste, drift, time):
    truth = drawn_truth(Parameters(**SMALL, taste=taste, drift=drift, late_share=0.5, seed=3))
    draws = 200_000
    user = np.full(draws, 7)
    drawn = synthetic.drawn_items(truth, user, np.full(draws, time), np.random.default_rng(5))
    expected = draws * truth.probabilities(7, time)
    assert expected.sum() == pytest.approx(draws)
    observed = np.bincount(drawn, minlength=len(expected)).astype(float)
    assert observed[expected == 0].sum() == 0
    often = expected >= 5
    # Rare items together are one cell; the statistic is then chi-square, whose mean is its degrees of freedom.
    observed = np.append(observed[often], observed[~often].sum())
    expected = np.append(expected[often], expected[~often].sum())
    cells = expected > 0
    statistic = ((observed - expected)[cells] ** 2 / expected[cells]).sum()
    freedom = cells.sum() - 1
    assert statistic < freedom + 4 * np.sqrt(2 * freedom)


def test_popularity_follows_zipf_where_no_taste_interferes():
    observed = np.bincount(clicks(clicks=100_000, taste=0.0, late_share=0.0)["item_id"])
    harmonic = (1 / np.arange(1, SMALL["items"] + 1)).sum()
    top = np.sort(observed)[::-1]
    assert top[0] / 100_000 == pytest.approx(1 / harmonic, rel=0.05)
    assert top[0] / top[9] == pytest.approx(10, rel=0.15)
    flat = np.bincount(clicks(clicks=100_000, taste=0.0, late_share=0.0, exponent=0.0)["item_id"])[1:]
    assert flat.max() < 2 * flat.min()


def test_nobody_clicks_what_does_not_exist_yet(tmp_path):
    synthetic.generate(tmp_path / "late", Parameters(**SMALL, late_share=0.9))
    rows = pq.read_table(tmp_path / "late" / "clicks.parquet")
    items = pq.read_table(tmp_path / "late" / "items.parquet")
    since = dict(zip(items["item_id"].to_pylist(), items["available_from"].to_pylist(), strict=True))
    late = [item for item, seconds in since.items() if seconds > synthetic.START_SECONDS]
    assert 0.7 * len(since) < len(late) < len(since)
    pairs = list(zip(rows["item_id"].to_pylist(), rows["timestamp"].to_pylist(), strict=True))
    assert all(time >= since[item] for item, time in pairs)
    assert any(item in set(late) for item, _ in pairs)


def test_no_item_is_late_unless_asked():
    assert (drawn_truth(Parameters(**SMALL, late_share=0.0)).appears == 0).all()


def test_drift_moves_users_to_their_later_favourites():
    def share_of_before(drift):
        truth = drawn_truth(Parameters(**SMALL, taste=1.0, drift=drift, late_share=0.0))
        user = np.repeat(np.arange(SMALL["users"]), 200)
        drawn = synthetic.drawn_items(truth, user, np.full(len(user), 0.999), np.random.default_rng(0))
        return (truth.category[drawn][:, None] == truth.before[user]).any(axis=1).mean()

    assert share_of_before(0.0) == 1.0
    assert share_of_before(1.0) < 0.8  # what is left are favourites that stayed by chance


def test_tastes_go_by_category_and_the_segment_tells_some_of_it():
    truth = drawn_truth(Parameters(**SMALL))
    segments = synthetic.users(truth)["segment"].to_pylist()
    told = np.mean(
        [segment == f"category-{first}" for segment, first in zip(segments, truth.before[:, 0], strict=True)]
    )
    assert 0.4 < told < 0.85  # half of them, and one in six of the others by chance


def test_clicks_are_ordered_in_time_and_span_the_days():
    rows = clicks(days=10)
    assert (np.diff(rows["timestamp"]) >= 0).all()
    span = rows["timestamp"][-1] - rows["timestamp"][0]
    assert 9.9 * 86_400 < span < 10 * 86_400


def test_ids_start_at_one_and_say_nothing():
    truth = drawn_truth(Parameters(**SMALL))
    assert sorted(synthetic.item_ids(truth)) == list(range(1, SMALL["items"] + 1))
    assert abs(np.corrcoef(synthetic.item_ids(truth), truth.popularity)[0, 1]) < 0.2


def test_items_carry_attributes_of_their_category(tmp_path):
    truth = drawn_truth(Parameters(**SMALL, content=8))
    items = synthetic.items(truth)
    position = np.argsort(synthetic.item_ids(truth))
    assert items["category"].to_pylist() == [f"category-{number}" for number in truth.category[position]]
    owner: dict[str, str] = {}
    for brand, category in zip(items["brand"].to_pylist(), items["category"].to_pylist(), strict=True):
        assert owner.setdefault(brand, category) == category
    assert {len(tags) for tags in items["tags"].to_pylist()} == {1, 2, 3, 4, 5}
    assert {len(vector) for vector in items["content"].to_pylist()} == {8}
    assert "content" not in synthetic.items(drawn_truth(Parameters(**SMALL))).column_names


def test_same_parameters_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        synthetic.generate(tmp_path / name, Parameters(**SMALL, seed=seed))
    assert digests(tmp_path / "one") == digests(tmp_path / "again")
    other = digests(tmp_path / "two")
    assert not [name for name, digest in digests(tmp_path / "one").items() if other[name] == digest]


def test_truth_is_written_beside_the_clicks(tmp_path):
    synthetic.generate(tmp_path / "x", Parameters(**SMALL))
    truth = drawn_truth(Parameters(**SMALL))
    items = pq.read_table(tmp_path / "x" / "truth_items.parquet").to_pydict()
    position = np.argsort(synthetic.item_ids(truth))
    np.testing.assert_array_equal(items["popularity"], truth.popularity[position])
    users = pq.read_table(tmp_path / "x" / "truth_users.parquet").to_pydict()
    np.testing.assert_array_equal(users["before"], truth.before)
    assert sum(users["activity"]) == pytest.approx(1)


def test_many_clicks_come_in_row_groups(tmp_path):
    synthetic.generate(tmp_path / "x", Parameters(**{**SMALL, "clicks": 600_000}))
    metadata = pq.read_metadata(tmp_path / "x" / "clicks.parquet")
    assert metadata.num_rows == 600_000
    assert metadata.num_row_groups == 3


def test_no_clicks_is_a_table_without_rows(tmp_path):
    synthetic.generate(tmp_path / "x", Parameters(**{**SMALL, "clicks": 0}))
    assert pq.read_table(tmp_path / "x" / "clicks.parquet").num_rows == 0


def test_second_run_finds_the_first_and_other_parameters_are_refused(tmp_path):
    assert synthetic.generate(tmp_path / "x", Parameters(**SMALL))
    assert not synthetic.generate(tmp_path / "x", Parameters(**SMALL))
    with pytest.raises(OutputError, match="--overwrite"):
        synthetic.generate(tmp_path / "x", Parameters(**SMALL, seed=9))
    assert synthetic.generate(tmp_path / "x", Parameters(**SMALL, seed=9), overwrite=True)


def test_every_bad_parameter_is_named_at_once():
    with pytest.raises(ConfigurationError, match=r"clicks must.*taste must.*items must"):
        Parameters(clicks=-1, items=2, taste=1.5)


def test_command_takes_every_parameter_and_ends_with_the_right_code(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "pipelines.sources", "synthetic", "--output", str(tmp_path / "x"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    given = {**SMALL, "exponent": 0.8, "taste": 0.5, "drift": 0.1, "late_share": 0.3, "content": 4, "seed": 11}
    flat = [word for name, value in given.items() for word in ("--" + name.replace("_", "-"), str(value))]
    ended = run(*flat)
    assert ended.returncode == 0, ended.stderr
    synthetic.generate(tmp_path / "y", Parameters(**given))  # type: ignore[arg-type]
    assert digests(tmp_path / "x") == digests(tmp_path / "y")
    refused = run("--seed", "12")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (4, 1)
    bad = run("--items", "1")
    assert (bad.returncode, len(bad.stderr.splitlines())) == (2, 1)
