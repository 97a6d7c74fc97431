"""What executors are sent is all that they need, and they have nothing of it before."""

import subprocess

import pytest

pytestmark = pytest.mark.cluster


def test_executors_have_nothing_of_ours(cluster):
    for room in ("pipelines", "samplers", "schemas", "trainer"):
        said = subprocess.run(
            [cluster.python, "-c", f"import {room}"], cwd=cluster.folder / "neutral", capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        assert f"No module named '{room}'" in said.stderr


def test_without_the_zip_a_job_says_what_is_missing(cluster, job, output):
    run = cluster.submit(job(output), ship=False)
    assert run.ended() == 1
    assert "ModuleNotFoundError: No module named 'pipelines'" in run.said
    assert not output.exists()


def test_the_zip_alone_makes_a_dataset(earlier, expected):
    assert earlier.manifest.content_digest != expected
