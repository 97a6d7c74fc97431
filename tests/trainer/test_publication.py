"""Publishing: the gate, a pointer that is never missing, killed publishers, going back. Models here are files alone."""

import fcntl
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import ConfigurationError, OutputError, ProjectError
from trainer import publication
from trainer.gate import Gate
from trainer.index import model_digest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def made(tmp_path):
    """Writes a model's folder with a recall; its towers hold `text`."""

    def write(name, recall, text="", index=False):
        folder = tmp_path / "models" / name
        for path in ("user_tower/1/variables", "item_tower/1", "checkpoints", "logs", ".export-9"):
            (folder / path).mkdir(parents=True)
        for path in (
            "user_tower/1/saved_model.pb", "user_tower/1/variables/variables.index", "item_tower/1/saved_model.pb",
            "checkpoints/best.npz", "checkpoints/latest.npz", "logs/events", ".export-9/x", "config.yaml",
        ):  # fmt: skip
            (folder / path).write_text(f"{path} of {name} {text}")
        (folder / "metrics.json").write_text(json.dumps({"test": {"recall@50": recall, "mrr": 1 - recall}}))
        pq.write_table(pa.table({"item_id": [name]}), folder / "item_embeddings.parquet")
        if index:
            (folder / "index").mkdir()
            digest = model_digest(folder)
            files: dict[str, dict] = {"index.faiss": {}, "items.parquet": {}}
            (folder / "index" / "index.json").write_text(json.dumps({"model": digest, "files": files}))
        return folder

    return write


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


def publish(model, root, keep=5, **gate):
    said: list[str] = []
    return publication.publish(model, root, Gate(**gate), keep, said.append), "\n".join(said)


def served(root):
    """What stands behind `current`, as a server would see it."""
    folder = root / "current"
    (version,) = [path.name for path in (folder / "user_tower").iterdir()]
    return int(version), (folder / "user_tower" / version / "saved_model.pb").read_text()


def test_models_get_numbers_that_a_server_sees_as_new_versions(made, root):
    folder, said = publish(made("a", 0.5, index=True), root)
    assert folder == root / "1"
    assert "recall@50 0.5000, the first model" in said
    assert (root / "current").readlink() == Path("1")
    assert served(root) == (1, "user_tower/1/saved_model.pb of a ")
    _, said = publish(made("b", 0.495), root)
    assert "recall@50 0.4950, that of version 1 0.5000" in said
    assert served(root) == (2, "user_tower/1/saved_model.pb of b ")
    assert (root / "2/user_tower/2/variables/variables.index").is_file()
    assert (root / "2/item_tower/2/saved_model.pb").is_file()
    told = json.loads((root / "2/publication.json").read_text())
    assert (told["previous"], told["value"], told["compared_with"], told["metric"]) == (1, 0.495, 0.5, "recall@50")


def test_what_serving_or_going_on_needs_is_copied_and_nothing_else(made, root):
    folder, _ = publish(made("a", 0.5, index=True), root)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "user_tower/1/saved_model.pb", "user_tower/1/variables/variables.index", "item_tower/1/saved_model.pb",
        "checkpoints/best.npz", "config.yaml", "metrics.json", "item_embeddings.parquet", "index/index.json",
        "publication.json",
    }  # fmt: skip
    assert {path.name for path in root.iterdir()} == {"1", "current", ".lock"}


def test_a_model_that_is_worse_leaves_everything_as_it_was(made, root):
    publish(made("a", 0.5), root)
    with pytest.raises(ProjectError, match=r"recall@50 is 0\.4800, that of version 1 0\.5000; at least 0\.4900"):
        publish(made("b", 0.48), root)
    assert served(root)[0] == 1
    assert not (root / "2").exists()
    publish(made("c", 0.48), root, tolerance=0.05)
    assert served(root)[0] == 2
    # By another figure the same two models stand the other way round.
    publish(made("d", 0.1), root, metric="mrr")
    assert served(root)[0] == 3


def test_a_retry_publishes_nothing_twice(made, root):
    model = made("a", 0.5)
    publish(model, root)
    _, said = publish(model, root)
    assert "already serves this model" in said
    # From where it was published to as well: the version number is no part of what a model is.
    publish(root / "1", root)
    assert [path.name for path in root.iterdir() if path.name.isdecimal()] == ["1"]


def test_going_back_and_on(made, root):
    for name, recall in (("a", 0.5), ("b", 0.6), ("c", 0.7)):
        publish(made(name, recall), root)
    said: list[str] = []
    publication.roll_back(root, said.append)
    assert served(root)[0] == 2
    assert "2, from 3, which stays there" in said[0]
    # What is held against is what serves; what is gone back to is what served before, not the number before.
    publish(made("d", 0.59), root)
    assert served(root)[0] == 4
    publication.roll_back(root, said.append)
    assert served(root)[0] == 2
    publication.roll_back(root, said.append)
    assert served(root)[0] == 1
    with pytest.raises(ProjectError, match="nothing to go back to: current is 1"):
        publication.roll_back(root, said.append)
    assert served(root)[0] == 1


def test_old_versions_go_but_never_the_one_that_serves(made, root):
    for number in range(1, 5):
        publish(made(str(number), 0.5 + number / 100), root, keep=3)
    assert sorted(path.name for path in root.iterdir() if path.name.isdecimal()) == ["2", "3", "4"]
    publication.roll_back(root, print)
    publication.roll_back(root, print)
    publish(made("5", 0.9), root, keep=1)
    assert sorted(path.name for path in root.iterdir() if path.name.isdecimal()) == ["5"]
    with pytest.raises(ProjectError, match="versions there: 5"):
        publication.roll_back(root, print)


def test_the_pointer_is_never_missing_and_always_whole(made, root, monkeypatch):
    """A reader that never rests, through publications and thousands of swaps: a gap of microseconds would be seen."""
    models = [made(str(number), 0.5 + number / 100) for number in range(6)]
    publish(models[0], root, keep=2)
    faults, seen, done = [], set(), threading.Event()

    def read():
        while not done.is_set():
            try:
                seen.add((root / "current").readlink())
                (root / "current" / "publication.json").read_text()
            except OSError as error:
                faults.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for model in models[1:]:
            publish(model, root, keep=2)
        monkeypatch.setattr(publication, "sync_folder", lambda folder: None)
        for number in range(4_000):
            publication._point(root, root / str(5 + number % 2))
    finally:
        done.set()
        reader.join()
    assert not faults
    assert len(seen) > 1
    assert served(root)[0] == 6


@pytest.mark.parametrize("stage", ["_copy", "_point", "incoming.replace(folder)"])
def test_a_publisher_killed_on_the_way_leaves_the_old_model_serving(made, root, stage):
    publish(made("a", 0.5), root)
    model = made("b", 0.6)
    code = f"""
        import os
        from pathlib import Path
        from trainer import publication
        from trainer.gate import Gate

        def die(*arguments):
            os._exit(9)

        stage = {stage!r}
        if stage == "_copy":  # in the middle of the copy
            publication.os.fsync = die
        elif stage == "_point":  # after the copy, before the swap
            publication._point = die
        else:  # all is copied, but has no number yet
            publication.sync_folder = die
        publication.publish(Path({str(model)!r}), Path({str(root)!r}), Gate(), 5, print)
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line[8:] for line in code.splitlines())], cwd=ROOT, check=False
    )
    assert done.returncode == 9
    assert served(root) == (1, "user_tower/1/saved_model.pb of a ")
    assert any(path.name.startswith(".incoming-") for path in root.iterdir()) == (stage != "_point")
    publish(model, root)
    assert served(root) == (2, "user_tower/1/saved_model.pb of b ")
    assert {path.name for path in root.iterdir()} == {"1", "2", "current", ".lock"}


def test_one_publisher_at_a_time(made, root):
    root.mkdir()
    with (root / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for act in (lambda: publish(made("a", 0.5), root), lambda: publication.roll_back(root, print)):
            with pytest.raises(OutputError, match="another run holds it"):
                act()
    assert not (root / "current").exists()


def test_a_model_that_changes_meanwhile_is_not_published(made, root, monkeypatch):
    model = made("a", 0.5)
    copy = shutil.copyfile

    def changing(source, target):
        copy(source, target)
        (model / "user_tower/1/saved_model.pb").write_text("another")

    monkeypatch.setattr(shutil, "copyfile", changing)
    with pytest.raises(ProjectError, match="changed while it was copied"):
        publish(model, root)
    assert {path.name for path in root.iterdir()} == {".lock"}


def test_half_a_model_and_an_index_of_another_are_refused(made, root):
    model = made("a", 0.5, index=True)
    (made("b", 0.5) / "item_embeddings.parquet").replace(model / "item_embeddings.parquet")
    with pytest.raises(ConfigurationError, match="was built of another model"):
        publish(model, root)
    shutil.rmtree(model / "user_tower")
    with pytest.raises(ConfigurationError, match="user_tower"):
        publish(model, root)
    assert not (root / "1").exists()


@pytest.mark.parametrize("kind", ["a folder", "to nothing"])
def test_a_pointer_that_is_none_is_told(made, root, kind):
    root.mkdir()
    if kind == "a folder":
        (root / "current").mkdir()
    else:
        (root / "current").symlink_to("7")
    with pytest.raises(ProjectError, match="current"):
        publish(made("a", 0.5), root)


def trainer(*arguments):
    command = [sys.executable, "-m", "trainer", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_and_its_exit_codes(made, root):
    assert trainer("publish", "--model", made("a", 0.5), "--to", root).returncode == 0
    worse = trainer("publish", "--model", made("b", 0.4), "--to", root)
    assert worse.returncode == 1
    (line,) = worse.stderr.splitlines()
    assert "0.4000" in line
    assert "0.5000" in line
    assert trainer("publish", "--model", made("c", 0.4), "--to", root, "--tolerance", "0.3").returncode == 0
    assert trainer("publish", "--to", root, "--rollback").returncode == 0
    assert served(root)[0] == 1
    for arguments in (["--to", root], ["--model", "m", "--to", root, "--rollback"], ["--model", "m", "--to", "s3://b"]):
        wrong = trainer("publish", *arguments)
        assert wrong.returncode == 2
        assert len(wrong.stderr.splitlines()) == 1
