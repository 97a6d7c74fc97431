"""What `make dist` makes: all modules that executors import, always the same bytes. tests/cluster runs jobs on it."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from pathlib import Path

from click.testing import CliRunner

from pipelines import shipment
from pipelines.session import explained

ROOT = Path(__file__).parents[2]


def test_the_zip_holds_the_modules_of_three_rooms_and_nothing_else():
    names = zipfile.ZipFile(io.BytesIO(shipment.zipped(ROOT))).namelist()
    assert names == sorted(set(names))
    assert {name.partition("/")[0] for name in names} == {"pipelines", "samplers", "schemas"}
    assert {Path(name).suffix for name in names} == {".py"}
    assert {"pipelines/__init__.py", "pipelines/auditing/__init__.py", "schemas/codec.py"} < set(names)


def test_the_same_sources_give_the_same_bytes(tmp_path):
    """Whatever the order and the times of files in the folder."""
    for room in shipment.ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room)
        for number, path in enumerate(sorted((tmp_path / room).rglob("*.py"), reverse=True)):
            os.utime(path, (number, number))
    assert shipment.zipped(tmp_path) == shipment.zipped(ROOT)
    (tmp_path / "schemas" / "codec.py").write_text("changed = 1\n")
    assert shipment.zipped(tmp_path) != shipment.zipped(ROOT)


def test_the_command_says_what_executors_need(tmp_path):
    ran = CliRunner().invoke(shipment.main, ["--output", str(tmp_path / "new" / "dist.zip")])
    assert ran.exit_code == 0, ran.output
    assert (tmp_path / "new" / "dist.zip").read_bytes() == shipment.zipped(ROOT)
    first, second = ran.output.splitlines()
    assert "--py-files" in first
    assert all(name in second for name in ("numpy>=", "pyarrow>=", "google-crc32c>=", "pydantic>=", "pyyaml>="))
    assert not any(name in second for name in ("tensorflow", "pyspark", "beam"))


def test_an_archive_holds_packages_that_work_where_nothing_is_installed(tmp_path):
    """A small one, whose compiled part is in it; tests/cluster runs a job on the real one."""
    names = shipment.distributions(["google-crc32c>=1", "not-installed-here; sys_platform == 'elsewhere'", "PyYAML"])
    assert names == {"google-crc32c", "pyyaml"}
    sizes = [shipment.store(tmp_path / name, names) for name in ("one.tar.gz", "two.tar.gz")]
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    assert sizes[0] == (tmp_path / "one.tar.gz").stat().st_size
    with tarfile.open(tmp_path / "one.tar.gz") as archive:
        members = archive.getnames()
    (tmp_path / "third_party").mkdir()
    subprocess.run(["tar", "-xzf", tmp_path / "one.tar.gz", "-C", tmp_path / "third_party"], check=True)
    assert members == sorted(members)
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import google_crc32c as g, yaml
        print(g.implementation, g.value(b"123456789"), yaml.safe_load("[1]"), g.__file__)
    """
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", textwrap.dedent(code), str(tmp_path / "third_party")],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert said.stdout.split()[:3] == ["c", str(0xE3069283), "[1]"]
    assert str(tmp_path) in said.stdout


def test_an_executor_s_packages_are_what_the_project_needs_and_no_spark():
    executor = shipment.distributions(shipment.requirements())
    assert {"numpy", "pyarrow", "google-crc32c", "pydantic", "pydantic-core", "click", "pyyaml"} <= executor
    assert not {"pandas", "pyspark", "tensorflow", "apache-beam"} & executor
    driver = shipment.distributions(shipment.requirements("spark"))
    assert executor | {"pandas", "pyspark", "py4j"} <= driver
    assert "tensorflow" not in driver


def test_modules_are_imported_from_the_zip_alone(tmp_path):
    path = tmp_path / "dist.zip"
    path.write_bytes(shipment.zipped(ROOT))
    code = "import sys; sys.path.insert(0, sys.argv[1]); import pipelines.records as r; print(r.__file__)"
    said = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    assert said.stdout.strip() == f"{path}/pipelines/records.py"


def test_a_job_whose_code_was_not_shipped_says_so():
    known = explained(RuntimeError("in a task\nModuleNotFoundError: No module named 'schemas.wire'\n"))
    assert str(known).startswith("executors have no module schemas:")
    assert "--py-files dist/dist.zip" in str(known)
    assert explained(RuntimeError("No module named 'numpy'")) is None
