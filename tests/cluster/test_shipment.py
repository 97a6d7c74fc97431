"""What executors are sent is all that they need, and they have nothing of it before; what Spark is told it is told."""

import subprocess
import sys

import pytest

from pipelines import shipment
from tests.cluster import executor_python, intact
from tests.cluster.standalone import ONE_EXECUTOR, SETTINGS

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
    (told,) = run.events("SparkListenerEnvironmentUpdate")
    properties = told["Spark Properties"]
    given = SETTINGS | ONE_EXECUTOR | {"spark.master": cluster.master}
    # All that spark-submit was told, as it was told; Spark puts modules of its own before Java options.
    assert {name: value for name, value in given.items() if not properties.get(name, "").endswith(value)} == {}
    (line,) = run.errors
    assert "executors have no module" in line
    assert "--py-files dist/dist.zip" in line
    assert not (tmp_path / "out").exists()


def test_with_the_zip_it_makes_a_dataset(earlier, expected):
    assert intact.audited(earlier.root) == earlier.manifest.content_digest
    assert earlier.manifest.content_digest != expected


def test_a_python_without_any_package_makes_do_with_the_archive(cluster, job, tmp_path, expected):
    archive = tmp_path / "third-party.tar.gz"
    shipment.store(archive, shipment.distributions(shipment.requirements()))
    conf = ONE_EXECUTOR | {
        "spark.pyspark.driver.python": sys.executable,
        "spark.pyspark.python": str(executor_python.bare(tmp_path / "bare")),
        "spark.archives": f"{archive}#third_party",
        "spark.executorEnv.PYTHONPATH": "third_party",
    }
    document = job(tmp_path / "out")
    cluster.submit(document, conf=conf).succeeded()
    assert intact.audited(document["output"]["path"]) == expected
