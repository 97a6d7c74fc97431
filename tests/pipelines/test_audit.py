"""The audit as a command: clean datasets pass, whatever wrote them; what cannot be checked is said; exit codes."""

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from pipelines import audit
from pipelines.auditing import agreement, declared
from pipelines.auditing.clicks import mixed
from pipelines.auditing.examples import values
from pipelines.auditing.findings import CHECKS
from schemas.manifest import Dataset
from tests.pipelines.audited import LAYOUTS, Crafted, inclusion


def rewritten(root, change):
    """The dataset again, with another manifest that is consistent in itself."""
    dataset = Dataset.open(root)
    document = dataset.manifest.to_json()
    change(document)
    (root / "manifest.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.beam
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_crafted_dataset_passes_and_every_check_looked_at_it(tmp_path, layout):
    findings = audit.audited(Crafted(layout).write(tmp_path))
    assert findings.found == 0, findings
    assert [name for name in CHECKS if not findings.checks[name].checked] == ["source"]
    assert not any(check.skipped for name, check in findings.checks.items() if name != "source")


@pytest.mark.beam
def test_compressed_shards_pass(tmp_path):
    findings = audit.audited(Crafted("row").write(tmp_path, gzipped=True))
    assert findings.found == 0, findings
    assert findings.checks["frames"].checked == 940


def passes(dataset):
    """Asserts that nothing was found, and that probabilities and draws were really looked at."""
    findings = audit.audited(dataset)
    assert findings.found == 0, findings
    assert findings.checks["log_q"].checked > 100
    assert findings.checks["distribution"].checked > 100


@pytest.mark.beam
@pytest.mark.spark
@pytest.mark.parametrize("layout", ["row", "block", "pool", "sequence"])
def test_datasets_of_the_producer_pass(layout, request):
    passes(request.getfixturevalue(layout))


@pytest.mark.beam
@pytest.mark.spark
def test_a_dataset_of_groups_and_of_other_clicks_of_the_block_passes(spark, jobs, world_job):
    """Groups have a log_q a candidate; without them the catalogue is one distribution, in_batch with it."""
    layout = {"kind": "block", "clicks": 32}
    group = {"same_attribute": {"feature": "year", "exponent": 0.5, "least": 3}, "share": 0.4}
    for more, levels in ((group, ["history"]), ({"in_batch": {}, "share": 0.4}, ["user"])):
        mixture = [{"popularity": {}, "share": 0.3}, {"log_uniform": {}, "share": 0.3}, more]
        negatives = {"proposal": {"mixture": mixture}, "count": 6, "epochs": 2, "exclude": levels}
        passes(jobs.run(spark, world_job(layout=layout, negatives=negatives)))


@pytest.mark.beam
def test_strategies_that_depend_on_the_click_are_said_to_be_unchecked(tmp_path):
    crafted = Crafted("block")
    crafted.declared = [*crafted.declared, {"strategy": "mined", "share": 0.1, "slots": 1}]
    findings = audit.audited(crafted.write(tmp_path))
    assert any("mined" in reason for reason in findings.checks["distribution"].skipped)
    assert findings.checks["distribution"].checked == 0


@pytest.mark.beam
def test_users_that_nothing_tells_apart_are_said_to_be_unchecked(tmp_path):
    root = Crafted("row").write(tmp_path).root
    rewritten(root, lambda document: document["config"]["clicks"].update(user="somebody"))
    findings = audit.audited(Dataset.open(root))
    assert findings.found == 0, findings
    assert sum(findings.checks["distribution"].skipped.values()) == 840
    assert any("user" in reason for reason in findings.checks["exclusion"].skipped)


@pytest.mark.beam
def test_exit_codes_and_report(tmp_path):
    root = Crafted("block").write(tmp_path / "data").root
    run = CliRunner()
    clean = run.invoke(audit.main, [str(root), "--report", str(tmp_path / "clean.html")])
    assert clean.exit_code == 0, clean.output
    assert "no findings" in clean.output
    (root / "test" / "stray<b>.tfrecord").write_bytes(b"")
    found = run.invoke(audit.main, [str(root), "--report", str(tmp_path / "found.html")])
    assert found.exit_code == 1
    assert "stray<b>.tfrecord: the manifest does not name this file" in found.output
    page = (tmp_path / "found.html").read_text()
    assert "stray&lt;b&gt;" in page
    assert "stray" not in (tmp_path / "clean.html").read_text()


@pytest.mark.beam
def test_events_are_all_that_is_told_where_they_are_asked_for(tmp_path, capfd):
    """By the file descriptors, so that what Beam or another library prints would be seen, too."""

    def told(*arguments):
        with pytest.raises(SystemExit) as end:
            audit.main([*map(str, arguments), "--log", "json"])
        out, err = capfd.readouterr()
        assert out == ""
        found = [json.loads(line) for line in err.splitlines()]
        assert all({"time", "level", "event", "message"} <= set(event) for event in found)
        return end.value.code, found

    dataset = Crafted("block").write(tmp_path / "data")
    code, (event,) = told(dataset.root)
    assert (code, event["event"], event["level"], event["findings"]) == (0, "audited", "info", 0)
    assert (event["dataset"], event["content_digest"]) == (str(dataset.root), dataset.manifest.content_digest)
    assert list(event["checked"]) == list(CHECKS)
    assert event["checked"]["frames"] > 100

    (dataset.root / "test" / "stray.tfrecord").write_bytes(b"")
    shard = dataset.path(dataset.manifest.splits["train"].shards[0])
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    code, (*findings, event) = told(dataset.root)
    assert (code, event["event"], event["level"]) == (1, "audited", "error")
    assert {(found["event"], found["level"]) for found in findings} == {("finding", "error")}
    shown = {found["check"]: found["shown"] for found in findings}
    assert any("stray.tfrecord" in line for line in shown["files"])
    assert any(shard.name in line for line in shown["frames"])
    assert sum(found["found"] for found in findings) == event["findings"] > 1

    code, (event,) = told("nowhere")
    assert (code, event["event"], event["kind"], event["exit_code"]) == (2, "error", "ConfigurationError", 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "no manifest.json"),
        (["ftp://host/data"], "expected a path or a URI of file, s3"),
        (["{root}", "--items", "nowhere.parquet"], "--items: expected a file"),
        (["{root}", "--report", "{root}"], "--report: expected a file"),
        (["{root}", "--frob"], "--frob"),
    ],
)
@pytest.mark.beam
def test_bad_arguments_end_with_2(tmp_path, arguments, says):
    root = Crafted("block").write(tmp_path).root
    result = CliRunner().invoke(audit.main, [argument.format(root=root) for argument in arguments])
    assert result.exit_code == 2
    assert says in result.output


@pytest.mark.beam
def test_an_item_table_without_the_columns_ends_with_2(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = Crafted("block").write(tmp_path / "data").root
    pq.write_table(pa.table({"id": [1]}), tmp_path / "items.parquet")
    result = CliRunner().invoke(audit.main, [str(root), "--items", str(tmp_path / "items.parquet")])
    assert result.exit_code == 2, result.output
    assert len(result.output.strip().split("\n")) == 1


def test_without_beam_it_says_what_to_install():
    code = """
import sys
sys.modules["apache_beam"] = None
from pipelines.auditing import graph
try:
    graph.run([], None)
except Exception as error:
    print(type(error).__name__, error)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "EnvironmentProblem" in told
    assert "prebatch[beam]" in told


def test_inclusion_probabilities_are_those_of_a_bisection():
    rng = np.random.default_rng(0)
    for count in (1, 3, 10, 29):
        q = rng.dirichlet(np.full(30, 0.3))
        assert declared.inclusion(q, count) == pytest.approx(inclusion(q, count), abs=1e-9)
        assert declared.inclusion(q, count).sum() == pytest.approx(count)


def test_chi_square_of_what_is_drawn_as_declared_is_seldom_small():
    rng = np.random.default_rng(1)
    q = rng.dirichlet(np.ones(50))
    p = []
    for _ in range(300):
        observed = rng.multinomial(5000, q).astype(float)
        expected = 5000 * q
        p.append(agreement.survival(*agreement.statistic(observed, expected, expected)))
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=0.05)
    uniform = np.full(50, 100.0)
    far = agreement.statistic(rng.multinomial(5000, q).astype(float), uniform, uniform)
    assert agreement.survival(*far) < agreement.LEAST_P


@pytest.mark.tf
def test_examples_read_as_tensorflow_writes_them():
    import tensorflow as tf

    made = {
        "whole": tf.train.Feature(int64_list=tf.train.Int64List(value=[-(2**63), 0, 2**63 - 1])),
        "parts": tf.train.Feature(float_list=tf.train.FloatList(value=[0.1, -2.5])),
        "text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"", b"\x00\xff"])),
        "none": tf.train.Feature(),
    }
    read = values(tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString())
    assert list(read["whole"]) == [-(2**63), 0, 2**63 - 1]
    assert list(read["parts"]) == np.array([0.1, -2.5], np.float32).tolist()
    assert read["text"] == [b"", b"\x00\xff"]
    assert len(read["none"]) == 0
    with pytest.raises(ValueError, match="Example"):
        values(b"\xff\xff")


def test_hashes_take_any_number_of_arrays_and_tell_their_order():
    parts = np.random.default_rng(2).integers(0, 5, (100, 300))
    hashes = mixed(*parts)
    assert len(set(hashes.tolist())) == 300
    assert mixed(*parts).tolist() == hashes.tolist()
    assert (mixed(parts[0], parts[1]) != mixed(parts[1], parts[0])).sum() == (parts[0] != parts[1]).sum()
