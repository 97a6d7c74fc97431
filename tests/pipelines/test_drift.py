"""Drift between two datasets: the measures against closed forms and samples, planted changes found, none in none."""

import json
import math
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pipelines import divergence
from pipelines.distributions import Bucketed, Counted, Dense, Distributions
from pipelines.drift import Drift, Limits, rebucketed
from pipelines.inspect import main

FORTY = {"a": 30.0, "b": 10.0}


def made(name="a", clicks=40, rows=None, rejected=None, vocabularies=None, users=None, **by_name):
    rows = {"clicks": {"read": 100, "used": 90, "rejected": 10}} if rows is None else rows
    return Distributions(name, clicks, rows, rejected or {}, vocabularies or {}, by_name, users)


def exceeded(before, after, **limits):
    return list(Drift.between(before, after).exceeded(Limits(**limits)))


def test_psi_and_kl_are_those_of_the_formula():
    before, after = np.array([29.5, 9.5]), np.array([9.5, 29.5])  # and half a click each: 3/4, 1/4 against 1/4, 3/4
    assert divergence.psi(before, after) == pytest.approx(2 * 0.5 * math.log(3))
    assert divergence.kl(before, after) == pytest.approx(0.75 * math.log(3) + 0.25 * math.log(1 / 3))


def test_psi_is_symmetric_kl_is_not_and_both_are_nothing_for_the_same_shares():
    before, after = np.array([100.0, 20.0, 3.0]), np.array([50.0, 50.0, 0.0])
    assert divergence.psi(before, after) == pytest.approx(divergence.psi(after, before))
    assert divergence.kl(before, after) != pytest.approx(divergence.kl(after, before), rel=0.01)
    assert divergence.psi(before, before) == divergence.kl(before, before) == 0
    both_ways = divergence.kl(before, after) + divergence.kl(after, before)
    assert divergence.psi(before, after) == pytest.approx(both_ways)


def test_what_chance_explains_is_what_samples_of_one_distribution_show():
    """Mean of 300 pairs of samples; the standard error of that mean is about 1%."""
    rng = np.random.default_rng(3)
    shares = rng.dirichlet(np.full(50, 5.0))
    pairs = [(rng.multinomial(4000, shares), rng.multinomial(9000, shares)) for _ in range(300)]
    seen = np.mean([divergence.psi(first.astype(float), second.astype(float)) for first, second in pairs])
    assert seen == pytest.approx(divergence.by_chance(50, 4000, 9000), rel=0.08)


def test_rare_cells_are_one():
    before, after = np.array([100.0, 1.0, 5.0, 0.0]), np.array([90.0, 2.0, 5.0, 300.0])
    first, second = divergence.pooled(before, after)
    assert first.tolist() == [100, 0, 6]
    assert second.tolist() == [90, 300, 7]


def test_cells_that_neither_has_are_none():
    before, after = np.array([0.0, 60.0, 40.0, 0.0]), np.array([0.0, 30.0, 70.0, 0.0])
    first, second = divergence.pooled(before, after)
    assert (first.tolist(), second.tolist()) == ([60, 40], [30, 70])
    drift = Drift.between(made(age=Bucketed((1.0, 2.0), before)), made(age=Bucketed((1.0, 2.0), after)))
    assert drift.shifts[0].by_chance == pytest.approx(1 / 100 + 1 / 100)  # of two cells
    p, q = 60.5 / 101, 30.5 / 101
    psi = (p - q) * math.log(p / q) + (q - p) * math.log((1 - p) / (1 - q))
    assert drift.shifts[0].psi == pytest.approx(psi)


def test_a_catalogue_sampled_twice_has_not_drifted_though_its_psi_is_large():
    """5,000 items, two days of 8,000 clicks: a plain PSI of more than 0.25 would stop the pipeline every day."""
    rng = np.random.default_rng(8)
    shares = 1 / np.arange(1, 5001) ** 0.6
    days = [rng.multinomial(8000, shares / shares.sum()) for _ in range(2)]
    names = [str(n) for n in range(5000)]
    first, second = (made(items=Counted(dict(zip(names, map(float, day), strict=True)))) for day in days)
    (shift,) = Drift.between(first, second).shifts
    assert divergence.psi(*(day.astype(float) for day in days)) > 0.25
    assert shift.beyond_chance < 0.05
    assert exceeded(first, second) == []
    turned = days[1][::-1]  # the head of the catalogue is another one
    moved = made(items=Counted(dict(zip(names, map(float, turned), strict=True))))
    assert len(exceeded(first, moved)) == 1


def test_the_same_has_not_drifted():
    one = made(
        items=Counted(FORTY), age=Bucketed((1.0, 2.0), np.array([1.0, 2, 3, 4])),
        taste=Dense(40, np.array([1.0, 2.0]), np.array([0.5, 0.0])), vocabularies={"item_id": frozenset("ab")},
    )  # fmt: skip
    drift = Drift.between(one, one)
    assert list(drift.exceeded(Limits(0, 0, 0, 0, 0, 0))) == []
    assert [(shift.psi, shift.kl, shift.movers) for shift in drift.shifts] == [(0, 0, ())] * 2
    assert [move.shift for move in drift.moves] == [0]


@pytest.mark.parametrize(
    ("limit", "change"),
    [
        ("psi", {"items": Counted({"a": 400.0, "c": 600.0})}),
        ("shift", {"taste": Dense(40, np.array([1.0, 2.5]), np.array([1.0, 1.0]))}),
        ("rejected", {"rows": {"clicks": {"read": 100, "used": 80, "rejected": 20}}}),
        ("clicks", {"clicks": 100}),
        ("clicks", {"clicks": 10}),
        ("new", {"vocabularies": {"genres": frozenset("abcdefg")}}),
        ("vanished", {"vocabularies": {"genres": frozenset("a")}}),
    ],
)
def test_each_limit_stops_what_goes_beyond_it_and_nothing_else(limit, change):
    before = {
        "items": Counted({"a": 500.0, "b": 500.0}), "taste": Dense(40, np.array([1.0, 1.0]), np.array([1.0, 1.0])),
        "vocabularies": {"genres": frozenset("abc")},
    }  # fmt: skip
    old, new = made(**before), made(**(before | change))
    (line,) = exceeded(old, new)
    assert f"(--max-{limit})" in line
    assert exceeded(old, new, **{limit: 1e9}) == []


def test_a_reason_that_comes_up_is_told_by_its_name():
    rows = {"clicks": {"read": 100, "used": 80, "rejected": 20}}
    old, new = made(rows=rows, rejected={"clicks.null_user": 20}), made(rows=rows, rejected={"clicks.unknown_item": 20})
    (line,) = exceeded(old, new)
    assert line.startswith("rejected clicks.unknown_item: 0.00% to 20.00%")


def test_users_may_come_and_go():
    old = made(vocabularies={"user_id": frozenset("abc")}, users="user_id")
    new = made(vocabularies={"user_id": frozenset("defghijkl")}, users="user_id")
    assert exceeded(old, new) == []
    (growth,) = Drift.between(old, new).vocabularies
    assert (growth.new, growth.vanished) == (9, 3)


def test_a_feature_that_is_gone_or_another_is_drift():
    old, new = made("a", taste=Dense(1, np.ones(2), np.ones(2))), made("b", taste=Dense(1, np.ones(3), np.ones(3)))
    assert exceeded(old, new) == ["taste: of another kind"]
    assert exceeded(old, made("b")) == ["taste: only in a"]
    assert exceeded(made("b"), old) == ["taste: only in a"]


def test_a_constant_that_becomes_another_has_moved():
    old, new = (made(price=Dense(9, np.array([value]), np.zeros(1))) for value in (1.0, 2.0))
    assert len(exceeded(old, new)) == 1
    assert exceeded(old, old) == []


def test_other_boundaries_are_read_off_by_interpolation():
    found = Bucketed((0.0, 10.0, 20.0), np.array([5.0, 0, 40, 40, 20]))  # 5 missing, 40 in 0-10, 40 in 10-20, 20 above
    assert rebucketed(found, (0.0, 5.0, 20.0)).tolist() == [5, 0, 20, 60, 20]
    assert rebucketed(found, found.edges) is found.clicks


def test_quantiles_of_the_same_values_on_other_days_have_not_drifted():
    rng = np.random.default_rng(4)

    def day(mean):
        values = rng.normal(mean, 1, 20_000)
        edges = np.quantile(values, np.linspace(0, 1, 21)[1:-1])
        counts = np.bincount(np.searchsorted(edges, values, "right"), minlength=20).astype(float)
        return made(price=Bucketed(tuple(edges.tolist()), np.concatenate([[0.0], counts])))

    assert exceeded(day(0.0), day(0.0)) == []
    assert len(exceeded(day(0.0), day(1.0))) == 1


def test_a_dataset_s_distributions_are_those_of_its_items_by_clicks(small_dataset):
    """tests/pipelines/conftest.py has the items: 9, 4, 2, 1 and 0 clicks."""
    found = Distributions.of(small_dataset("block"))
    assert found.clicks == 3
    assert found.by_name["items"] == Counted({"i1": 9, "i2": 4, "i3": 2, "i4": 1, "i5": 0})
    assert found.by_name["item.genres"] == Counted({"Comedy": 9, "Drama & <b>": 11, "(none)": 4, "[OOV]": 1})
    year: Any = found.by_name["item.year"]
    taste: Any = found.by_name["item.taste"]
    age: Any = found.by_name["user.age"]
    assert (year.edges, year.clicks.tolist()) == ((1990.0, 2000.0), [4, 2, 1, 9])
    assert taste.mean.tolist() == pytest.approx([(9 * 0.5 + 2 * 2 + 3) / 16, (-9 + 4 + 4) / 16])
    second = (9 * 0.25 + 2 * 4 + 9) / 16
    assert taste.deviation[0] == pytest.approx(math.sqrt(second - taste.mean[0] ** 2))
    assert age.clicks.tolist() == [1, 0, 2, 0]
    assert found.by_name["user.likes"] == Counted({"jazz": 2, "back\\slash\nbreak": 2, "(none)": 1})
    assert found.vocabularies["genres"] == {"Drama & <b>", "Comedy"}


@pytest.mark.parametrize("kind", ["row", "pool", "sequence"])
def test_the_layout_makes_no_difference(small_dataset, kind):
    drift = Drift.between(Distributions.of(small_dataset("block")), Distributions.of(small_dataset(kind)))
    assert list(drift.exceeded(Limits(0, 0, 0, 0, 0, 0))) == []


def compared(before, after, *options):
    return CliRunner().invoke(main, [str(before.root), str(after.root), *map(str, options)])


def test_two_days_are_compared_and_a_planted_change_is_code_1(small_dataset, written_items, monkeypatch, tmp_path):
    first = small_dataset("row")
    monkeypatch.setitem(written_items[1], "count", 900)
    second = small_dataset("block")
    same = compared(first, first, "--json", tmp_path / "same.json")
    assert same.exit_code == 0, same.output
    assert json.loads((tmp_path / "same.json").read_text())["exceeded"] == []
    changed = compared(first, second, "--json", tmp_path / "changed.json")
    assert changed.exit_code == 1
    lines = changed.stderr.splitlines()
    assert lines == [f"drift: {line}" for line in json.loads((tmp_path / "changed.json").read_text())["exceeded"]]
    assert any(line.startswith("drift: items: PSI") and "i2 25.0% to 98.7%" in line for line in lines)
    assert compared(first, second, "--max-psi", 99, "--max-shift", 99).exit_code == 0


def test_limits_without_a_second_dataset_are_refused(small_dataset):
    result = CliRunner().invoke(main, [str(small_dataset("row").root), "--max-psi", "0.1"])
    assert result.exit_code == 2
    assert "name the second one" in result.stderr
