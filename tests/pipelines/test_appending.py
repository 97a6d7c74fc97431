"""--epoch-from: what is appended is what a longer first run would have drawn, and a failed append leaves no trace."""

import io
import json
import shutil
import signal
import subprocess
import sys
import textwrap

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pipelines import appending
from pipelines import differences as differing
from pipelines.config import Config
from pipelines.progress import Progress
from pipelines.rejects import Used
from samplers.goodness import upper_gamma
from schemas import configuration
from schemas.errors import ConfigurationError, DataError
from schemas.manifest import Dataset

TWO = ("--set", "negatives.epochs=2")


def config_of(document, **negatives):
    return configuration.validate(Config, document | {"negatives": document["negatives"] | negatives}, "test")


def append(spark, document, epoch_from, epochs):
    from pipelines import job

    progress = Progress(io.StringIO(), live=False)
    return job.run(spark, config_of(document, epochs=epochs), False, progress, epoch_from)


def changeable(root):
    """The manifest's document without its checksum, so that a test may write it back changed."""
    document = json.loads((root / "manifest.json").read_text())
    document.pop("crc32c", None)
    return document


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*")
            if path.is_file() and path.name not in (".lock", "report.html")}  # fmt: skip


@pytest.fixture(scope="module")
def sections(sequence_sections):
    return {"block": {"layout": {"kind": "block", "clicks": 32}}, "sequence": sequence_sections}


@pytest.fixture(scope="module")
def first_set(spark, jobs, world_job, sections):
    """A function that copies a dataset of one set, (its job file, its folder); each is written once."""
    written: dict = {}

    def copied(kind):
        if kind not in written:
            document = world_job(**sections[kind])
            jobs.run(spark, document | {"negatives": document["negatives"] | {"epochs": 1}})
            written[kind] = document
        document = written[kind]
        root = jobs.folder() / "out"
        shutil.copytree(document["output"]["path"], root)
        return document | {"output": document["output"] | {"path": str(root)}}, root

    return copied


@pytest.mark.spark
@pytest.mark.parametrize("kind", ["block", "sequence"])
def test_appended_sets_are_those_of_a_run_from_the_start(
    spark, block, sequence, first_set, kind, read_records, read_clicks
):
    whole = {"block": block, "sequence": sequence}[kind]
    document, root = first_set(kind)
    before = files(root)
    dataset = append(spark, document, epoch_from=1, epochs=2)
    assert dataset.manifest.content_digest == whole.manifest.content_digest
    for split in ("train", "validation", "test", "items"):
        assert sorted(read_records(dataset, split)) == sorted(read_records(whole, split))
    assert {click["epoch"] for click in read_clicks(dataset)} == {0, 1}
    # The shards of the first set, held-out clicks and items are the very files, and nothing lies around.
    after = files(root)
    for path, data in before.items():
        assert path == "manifest.json" or after[path] == data
    assert set(after) == {"manifest.json"} | {file.path for file in dataset.manifest.stored_files()}
    assert Dataset.open(root).manifest == dataset.manifest


@pytest.mark.spark
def test_the_manifest_of_an_append_adds_up(spark, block, first_set):
    from pipelines import dry_run

    document, _ = first_set("block")
    plan = dry_run.text(spark, config_of(document, epochs=2), Progress(io.StringIO(), live=False), epoch_from=1)
    assert "1 set of negatives would be appended to the 1 that are there" in plan
    assert "holds a dataset already" not in plan
    manifest, whole = append(spark, document, epoch_from=1, epochs=2).manifest, block.manifest
    assert manifest.splits["train"].epochs == 2
    for name in ("train", "validation", "test"):
        for figure in ("records", "clicks", "bytes"):
            assert getattr(manifest.splits[name], figure) == getattr(whole.splits[name], figure)
    for name in ("positives_by_decile", "negatives_by_decile", "history_lengths", "examples", "inputs", "digests"):
        assert manifest.statistics[name] == whole.statistics[name]
    assert manifest.statistics["bytes_per_click"] == whole.statistics["bytes_per_click"]
    curve, told = manifest.statistics["draws_by_cell"], whole.statistics["draws_by_cell"]
    assert (curve["rank"], curve["observed"]) == (told["rank"], told["observed"])
    assert curve["expected"] == pytest.approx(told["expected"], abs=0.002)
    assert manifest.rows == whole.rows
    assert manifest.proposal["observed"]["draws"] == whole.proposal["observed"]["draws"]
    (mine,), (theirs,) = manifest.proposal["strategies"], whole.proposal["strategies"]
    assert [mine[name] for name in ("draws", "refused")] == [theirs[name] for name in ("draws", "refused")]
    assert 1e-3 < manifest.proposal["observed"]["p_value"] <= 1
    assert manifest.config["negatives"]["epochs"] == 2


@pytest.mark.spark
def test_other_inputs_are_found_before_anything_is_drawn(spark, jobs, monkeypatch):
    clicks = [(user, item, 900_000_000 + item) for user in range(1, 6) for item in range(1, 8)]
    items = pa.table({"item_id": pa.array(range(1, 30))})
    paths = jobs.inputs(clicks, items, pa.table({"user_id": range(1, 6), "age": [20] * 5}))
    user = {"user_id": {"encode": "vocabulary"}, "age": {"encode": "buckets", "boundaries": [18, 30]}}
    document = jobs.document(paths, features={"user": user, "item": {"item_id": {"encode": "vocabulary"}}})
    jobs.run(spark, document)
    root = Dataset.open(document["output"]["path"]).root
    before = files(root)
    monkeypatch.setattr("pipelines.job.write_records", lambda *_: pytest.fail("drew negatives all the same"))
    older = pa.table({"user_id": range(1, 6), "age": [20] * 4 + [21]})
    others = {
        # Another time of one click that reorders nothing; another age in the same bucket; one more item.
        "clicks": jobs.inputs([(1, 1, 900_000_000), *clicks[1:]], items),
        "users": jobs.inputs(clicks, items, older),
        "items": jobs.inputs(clicks, pa.table({"item_id": pa.array(range(1, 31))})),
    }
    for said, path in others.items():
        kept = pq.read_table(paths[said])
        pq.write_table(pq.read_table(path[said]), paths[said])
        with pytest.raises(DataError, match=f"--epoch-from: {said} have changed since") as raised:
            append(spark, document, epoch_from=1, epochs=2)
        assert raised.value.exit_code == 3
        pq.write_table(kept, paths[said])
        assert files(root) == before


@pytest.mark.spark
def test_a_failed_append_leaves_the_dataset_as_it_was(spark, first_set, monkeypatch):
    from pipelines import job

    document, root = first_set("block")
    before = files(root)
    original = job.write_records

    def fails(*arguments):
        original(*arguments)
        assert len(files(root)) > len(before)
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "write_records", fails)
    with pytest.raises(KeyboardInterrupt):
        append(spark, document, epoch_from=1, epochs=2)
    assert files(root) == before


def test_digests_of_two_kinds_are_never_compared(small_dataset):
    root = small_dataset("row").root
    document = changeable(root)
    del document["digest_algorithm"]  # as it was before there was a choice
    (root / "manifest.json").write_text(json.dumps(document))
    before = Dataset.open(root).manifest
    before.statistics.update(inputs={}, digests={"items": "0"})
    with pytest.raises(DataError, match=r"sums blake2b-128 and this version's xxh3-128.*write the dataset anew"):
        appending.check_inputs(before, Used(0.0), before.record, 0, before.vocabulary)


@pytest.mark.parametrize("stage", ["shards", "manifest"])
def test_a_killed_append_leaves_the_dataset_or_is_complete(tmp_path, small_dataset, stage):
    """SIGKILL before the manifest's rename and right after it."""
    root = small_dataset("row").root
    # Shards as a run names them, so that cleaning up would remove what the manifest does not name.
    document = changeable(root)
    shards = [shard for split in (*document["splits"].values(), document["items"]) for shard in split["shards"]]
    for number, shard in enumerate(shards):
        ours = f"{shard['path'].split('/')[0]}/part-{number}-20261122T000000-abcdef-01234567.tfrecord"
        (root / shard["path"]).rename(root / ours)
        shard["path"] = ours
    document["run"] = "20261122T000000-abcdef"
    document["statistics"]["digests"] = {"train": "1", "validation": "0", "test": "2", "items": "3"}
    (root / "manifest.json").write_text(json.dumps(document))
    before = files(root)
    code = f"""
        import dataclasses, time
        from pipelines import appending, publication
        from pipelines.sink import ShardWriter
        from schemas import wire
        from schemas.manifest import Dataset, Shard, Split
        import pyarrow as pa

        def stop(*arguments):
            print("ready", flush=True)
            time.sleep(600)

        with publication.Publication({str(root)!r}, False, appending=True) as held:
            there = Dataset.open({str(root)!r}).manifest
            writer = ShardWriter({str(root)!r}, "train", f"001-00000-of-00001-{{held.run}}", "none")
            writer.write(wire.Pieces.of(pa.array([b"new"], pa.large_binary())))
            writer.close()
            shard = Shard(writer.path, writer.bytes, writer.crc32c, 1, 1, 1)
            statistics = there.statistics | {{"digests": {{"train": f"{{writer.digest:x}}"}}}}
            added = dataclasses.replace(there, splits={{"train": Split.of([shard], 2)}}, statistics=statistics,
                                        run=held.run)
            if {stage!r} == "shards":
                stop()
            publication._roll_forward = stop
            held.commit(appending.appended(there, added))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        with process.stdout as said:
            assert said.readline() == "ready\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    from pipelines.publication import Publication

    for _ in range(2):  # as the dead run left it, and as the next one found and cleaned it
        dataset = Dataset.open(root)
        assert dataset.manifest.splits["train"].epochs == (1 if stage == "shards" else 2)
        assert [dataset.verify(file).exists() for file in dataset.manifest.stored_files()]
        with pytest.raises(RuntimeError), Publication(str(root), True):
            raise RuntimeError
    after = files(root)
    assert {path: after[path] for path in before if path != "manifest.json"} == {
        path: data for path, data in before.items() if path != "manifest.json"
    }
    assert set(after) - set(before) == {
        shard.path for shard in dataset.manifest.splits["train"].shards if shard.epoch == 1
    }


def test_what_differs_from_the_datasets_job_file_is_named(tmp_path, jobs):
    paths = {"clicks": "clicks.parquet", "items": "items.parquet"}
    document = jobs.document(paths, split={"kind": "time", "test_from": "1998-03-01"})
    resolved = config_of(document).model_dump(mode="json", exclude_none=True)
    told = config_of(document | {"negatives": document["negatives"] | {"epochs": 3, "count": 5}}, seed=8)
    two = document["features"] | {"item": {"a": {"encode": "vocabulary"}, "b": {"encode": "vocabulary"}}}
    turned = two | {"item": dict(reversed(two["item"].items()))}
    history = {"history": {"features": ["a"]}}

    def differences(old, new):
        return list(differing.differences(differing.resolved(old), differing.resolved(new), appending.FREE))

    assert differences(resolved, told.model_dump(mode="json", exclude_none=True)) == [
        "negatives.count: 3 there, 5 here", "negatives.seed: 7 there, 8 here",
    ]  # fmt: skip
    moved = document | {"output": {"path": "elsewhere", "shards": 2}}
    assert differences(resolved, config_of(moved, epochs=9).model_dump(mode="json", exclude_none=True)) == []
    # A manifest that knows nothing of newer keys is one with their defaults.
    older = {name: value for name, value in resolved.items() if name not in ("frequencies", "examples")}
    assert differences(older, resolved) == []
    assert differences(older, resolved | {"frequencies": {"window": "3d"}}) == [
        "frequencies.window: nothing there, '3d' here"
    ]
    assert differences(document | history | {"features": two}, document | history | {"features": turned}) == [
        "features.item: in the order a, b there, b, a here"
    ]


@pytest.fixture
def finished(small_dataset, jobs):
    """(job file, folder) of a dataset of one set that a job file describes."""
    dataset = small_dataset("row")
    document = jobs.document({"clicks": "clicks.parquet", "items": "items.parquet"}, output={"path": str(dataset.root)})
    text = changeable(dataset.root)
    text["config"] = config_of(document).model_dump(mode="json", exclude_none=True)
    (dataset.root / "manifest.json").write_text(json.dumps(text))
    return document, dataset.root


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--epoch-from", "2", *TWO], "has 1 set of negatives, so --epoch-from 1 is expected"),
        (["--epoch-from", "1"], "negatives.epochs is 1, so nothing is to be appended"),
        (["--epoch-from", "1", *TWO, "--set", "negatives.count=9"], "the job file is not the one of"),
        (["--epoch-from", "1", *TWO, "--set", "negatives.count=9"], "negatives.count: 3 there, 9 here"),
        (["--epoch-from", "1", *TWO, "--output", "{root}/none"], "nothing to append to"),
        (["--epoch-from", "1", *TWO, "--overwrite"], "give one of them"),
        (["--epoch-from", "0"], "0 is not in the range x>=1"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_found_before_spark_starts(finished, tmp_path, monkeypatch, options, said):
    from pipelines import session
    from pipelines.prebatch import main

    document, root = finished
    (tmp_path / "job.yaml").write_text(json.dumps(document))
    monkeypatch.setattr(session, "spark_session", lambda *_: pytest.fail("Spark was started"))
    before = files(root)
    ran = CliRunner().invoke(
        main, ["--config", str(tmp_path / "job.yaml"), *(option.format(root=tmp_path) for option in options)]
    )
    assert ran.exit_code == 2, ran.output
    assert said in ran.output
    assert files(root) == before


def test_a_set_that_is_there_is_not_drawn_again(finished):
    document, root = finished
    text = changeable(root)
    text["splits"]["train"]["epochs"] = 2
    (root / "manifest.json").write_text(json.dumps(text))
    with pytest.raises(ConfigurationError, match="has 2 sets of negatives, so --epoch-from 2 is expected"):
        appending.checked(config_of(document, epochs=4), 1)
    with pytest.raises(ConfigurationError, match="seed: 7 there, 9 here"):
        appending.checked(config_of(document, epochs=4, seed=9), 2)
    assert appending.checked(config_of(document, epochs=4), 2).splits["train"].epochs == 2


def test_two_comparisons_together_are_chi_square_again():
    one = {"draws": 100, "chi_square": 3.0, "degrees": 4, "p_value": 0.5578, "kl": 0.02}
    other = {"draws": 300, "chi_square": 9.0, "degrees": 6, "p_value": 0.1736, "kl": 0.04}
    both = appending.together(one, other)
    assert both == {
        "draws": 400, "chi_square": 12.0, "degrees": 10, "kl": pytest.approx(0.035),
        "p_value": pytest.approx(0.2851, abs=1e-4),  # 1 - chi2.cdf(12, 10) = e^-6 (1 + 6 + 18 + 36 + 54)
    }  # fmt: skip
    assert both["p_value"] == pytest.approx(upper_gamma(5, 6))
    impossible = appending.together(one, other | {"p_value": 0.0})
    assert impossible["p_value"] == 0.0
    nothing = {"draws": 0, "chi_square": 0.0, "degrees": 0, "p_value": 1.0, "kl": 0.0}
    assert appending.together(nothing, nothing) == nothing


def test_each_strategy_is_told_over_all_sets():
    def told(draws, refused, fallen_back):
        figures = {"draws": draws, "chi_square": 2.0, "degrees": 3, "p_value": 0.57, "kl": 0.01}
        return {
            "strategy": "column",
            "share": 0.2,
            "slots": 4,
            **figures,
            "refused": refused,
            "fallen_back": fallen_back,
        }

    before, added = ({"observed": told(*n), "strategies": [told(*n)]} for n in ((10, 1, 2), (30, 4, 8)))
    (both,) = appending._proposal(before, added)["strategies"]
    assert both == told(40, 5, 10) | {
        "chi_square": 4.0, "degrees": 6, "p_value": pytest.approx(0.6767, abs=1e-4), "kl": pytest.approx(0.01),
    }  # fmt: skip


def test_items_that_can_be_had_at_other_times_are_other_inputs():
    import numpy as np

    from pipelines.catalogue import Catalogue

    def limits(*columns):
        table = pa.table(dict(zip(("available_from", "available_to"), columns, strict=False)) | {"key": ["a", "b"]})
        return Catalogue(table, (), np.arange(2)).limits

    assert limits() == limits()
    found = [limits(), limits([1, 2], [3, 4]), limits([1, 2], [3, 5]), limits([2, 1], [3, 4])]
    assert len(set(found)) == 4


def test_an_append_needs_a_dataset(tmp_path, jobs):
    document = jobs.document({"clicks": "c", "items": "i"}, output={"path": str(tmp_path / "none")})
    with pytest.raises(ConfigurationError, match="nothing to append to") as raised:
        appending.checked(config_of(document, epochs=2), 1)
    assert raised.value.exit_code == 2
    assert not (tmp_path / "none").exists()
