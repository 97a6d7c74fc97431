"""Whole runs: what decides them, what they survive."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import ProjectError

pytestmark = pytest.mark.tf

ROOT = Path(__file__).parents[2]


def trained(dataset, config, folder, said=None):
    from trainer import loop

    return loop.train(dataset, config, folder, (said if said is not None else []).append)


@pytest.fixture(scope="module")
def first(crafted, configured, tmp_path_factory):
    return trained(crafted(layout="block"), configured(epochs=2), tmp_path_factory.mktemp("first"))


def test_a_run_learns_and_is_reproducible(crafted, configured, first, tmp_path):
    assert first.progress.curve[-1]["loss"] < first.progress.curve[0]["loss"]
    again = trained(crafted(layout="block"), configured(epochs=2), tmp_path / "again")
    np.testing.assert_array_equal(again.items, first.items)
    assert again.assessed["test"].model == first.assessed["test"].model
    other = trained(crafted(layout="block"), configured(epochs=2, seed=1), tmp_path / "other")
    assert np.abs(other.items - first.items).max() > 0.01


def test_the_best_epoch_by_validation_is_kept(first):
    values = [point["recall"] for point in first.progress.curve]
    assert first.progress.best_epoch == values.index(max(values))
    best = first.progress.curve[first.progress.best_epoch]
    for name in ("recall@10", "ndcg@10", "mrr"):
        assert first.assessed["validation"].model[name] == pytest.approx(best[name])


def test_metrics_are_those_of_brute_force_over_the_vectors(first, truth):
    ranks = []
    for click, user in zip(truth.test, first.users["test"], strict=True):
        scores = first.items @ user
        ahead = [i for i in range(len(scores)) if scores[i] >= scores[click.item] and i not in click.known]
        ranks.append(len(ahead) - 1)
    assert first.assessed["test"].ranking.rank.tolist() == ranks
    assert first.assessed["test"].model["recall@10"] == pytest.approx(np.mean(np.array(ranks) < 10))


def test_excluding_the_history_is_an_option(crafted, configured, first, tmp_path):
    """It decides how vectors are ranked, and not how they are trained."""
    kept = trained(crafted(layout="block"), configured(epochs=2, evaluation__exclude_history=False), tmp_path)
    assert [point["loss"] for point in kept.progress.curve] == [point["loss"] for point in first.progress.curve]
    assert all(a["mrr"] < b["mrr"] for a, b in zip(kept.progress.curve, first.progress.curve, strict=True))
    for found, excluded in ((kept, False), (first, True)):
        top = found.assessed["test"].ranking.top
        known = np.repeat(np.arange(len(top)), found.held_out["test"].exclude[1])
        seen = (top[known] == found.held_out["test"].exclude[0][:, np.newaxis]).any()
        assert seen != excluded


def test_patience_ends_a_run_that_does_not_improve(crafted, configured, tmp_path):
    config = configured(epochs=9, evaluation__patience=1, optimizer__learning_rate=1e-9)
    said: list[str] = []
    found = trained(crafted(layout="block"), config, tmp_path, said)
    assert found.progress.epoch == 2
    assert len(said) == 2


def test_other_metrics_choose_the_best_epoch(crafted, configured, tmp_path):
    found = trained(crafted(layout="block"), configured(epochs=3, evaluation__best_by="mrr"), tmp_path)
    values = [point["mrr"] for point in found.progress.curve]
    assert found.progress.best_value == max(values)


def test_without_held_out_clicks_the_last_epoch_is_kept(crafted, configured, tmp_path):
    found = trained(crafted(layout="block", splits=()), configured(), tmp_path)
    assert found.progress.best_epoch == 1
    assert found.assessed["test"].model == {"clicks": 0}
    assert found.items.shape == (40, 8)


@pytest.mark.parametrize(
    ("user", "history"), [((), ("item_id",)), (None, ()), ((), ("genres",))], ids=["history", "features", "list"]
)
def test_towers_of_half_the_features(crafted, configured, tmp_path, user, history):
    options = {"layout": "block", "history": history} | ({} if user is None else {"user": user})
    found = trained(crafted(**options), configured(epochs=1), tmp_path)
    assert np.isfinite(found.users["test"]).all()
    assert found.progress.curve[0]["loss"] > 0


def test_a_dataset_without_user_features_and_history_is_refused(crafted, configured, tmp_path):
    with pytest.raises(ProjectError, match="neither user features nor histories"):
        trained(crafted(layout="row", user=(), history=()), configured(), tmp_path)


def test_a_loss_that_is_no_number_names_the_step(crafted, configured, tmp_path):
    config = configured(optimizer__learning_rate=1e38, model__temperature=1e-30)
    with pytest.raises(ProjectError, match=r"the loss is (nan|inf) at step \d+ of epoch 1"):
        trained(crafted(layout="block"), config, tmp_path)


def test_speed_is_measured(first):
    speed = first.speed
    assert 0 < speed["input_share"] < 1
    assert speed["examples_per_second"] == pytest.approx(16 * 1000 / speed["step_ms"], rel=1e-6)


RUN = """
import json, sys
from pathlib import Path
from schemas import configuration
from trainer import dataset, loop
from trainer.config import Configuration

config = configuration.load(Configuration, None, sys.argv[3:])
run = loop.train(dataset.open_verified(sys.argv[1]), config, Path(sys.argv[2]), lambda line: print(line, flush=True))
assessed = {name: [vars(part)["model"], vars(part)["cold"]] for name, part in run.assessed.items()}
print(json.dumps({"assessed": assessed, "best": run.progress.best_epoch, "items": run.items.tolist()}))
"""
SETTINGS = ("epochs=12", "model.dimension=8", "model.user.hidden=[8]", "batch=8", "jit=false")


def test_a_killed_run_goes_on_to_the_same_result(crafted, tmp_path):
    """kill -9 after some epochs; the run that follows must say that it goes on, and end as an undisturbed one."""

    def started(name):
        command = [sys.executable, "-c", RUN, str(crafted(layout="row").root), str(tmp_path / name), *SETTINGS]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    whole, killed = started("whole"), started("killed")
    for line in killed.stdout:
        if line.startswith("epoch  2/"):
            os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    after = started("killed")
    texts = [process.communicate()[0].splitlines() for process in (whole, after)]
    assert "going on after epoch" not in texts[0][0]
    assert "going on after epoch" in texts[1][0]
    results = [json.loads(lines[-1]) for lines in texts]
    assert results[0]["best"] == results[1]["best"]
    np.testing.assert_allclose(results[0]["items"], results[1]["items"], atol=1e-5)
    for split in ("test", "validation"):
        for one, two in zip(results[0]["assessed"][split], results[1]["assessed"][split], strict=True):
            assert one == pytest.approx(two, abs=1e-6)
