"""What executors are sent is all that they need, and they have nothing of it before."""

import subprocess

import pytest

from tests.cluster import intact
from tests.cluster.standalone import ONE_EXECUTOR

pytestmark = pytest.mark.cluster


def test_executors_have_nothing_of_ours(cluster):
    code = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    rooms = ["pipelines", "samplers", "schemas", "trainer", "pandas", "pyspark", "tensorflow"]
    found = subprocess.run(
        [cluster.python, "-c", code, *rooms],
        cwd=cluster.neutral,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert found.stdout == "[]\n"


def test_without_the_zip_a_job_says_what_is_missing(cluster, job, tmp_path):
    run = cluster.submit(job(tmp_path / "out"), ship=False, conf=ONE_EXECUTOR)
    assert run.ended() == 1
    (line,) = run.errors
    assert "executors have no module" in line
    assert "--py-files dist/dist.zip" in line
    assert not (tmp_path / "out").exists()


def test_with_the_zip_it_makes_a_dataset(earlier, expected):
    assert intact.audited(earlier.root) == earlier.manifest.content_digest
    assert earlier.manifest.content_digest != expected
