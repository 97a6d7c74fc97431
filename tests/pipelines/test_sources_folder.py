"""A source's folder appears whole or not at all, and is never mistaken for another's."""

import subprocess
import sys
import textwrap

import pytest

from pipelines.sources.folder import is_present, staged
from schemas.errors import EnvironmentProblem, OutputError

IDENTITY = {"source": "test", "parameters": {"seed": 1}}


def write(output, text="new", identity=IDENTITY):
    with staged(output, identity) as folder:
        (folder / "clicks.parquet").write_text(text)


def test_folder_is_there_after_writing_and_found_again(tmp_path):
    output = tmp_path / "data" / "test"
    assert not is_present(output, IDENTITY)
    write(output)
    assert is_present(output, IDENTITY)
    assert (output / "clicks.parquet").read_text() == "new"
    assert [path.name for path in output.parent.iterdir()] == ["test"]


def test_error_inside_leaves_the_previous_folder_and_nothing_else(tmp_path):
    output = tmp_path / "test"
    write(output, "old")

    def write_half():
        with staged(output, IDENTITY) as folder:
            (folder / "clicks.parquet").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert (output / "clicks.parquet").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["test"]


def test_killed_run_leaves_nothing_under_the_outputs_name(tmp_path):
    output = tmp_path / "test"
    code = f"""
        import os, pathlib
        from pipelines.sources.folder import staged
        with staged(pathlib.Path({str(output)!r}), {IDENTITY!r}) as folder:
            (folder / "clicks.parquet").write_text("half")
            os.kill(os.getpid(), 9)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert run.returncode == -9
    assert not output.exists()
    assert not is_present(output, IDENTITY)
    write(output)
    assert is_present(output, IDENTITY)


def test_other_parameters_are_refused_until_overwrite(tmp_path):
    output = tmp_path / "test"
    write(output, "old")
    other = {"source": "test", "parameters": {"seed": 2}}
    with pytest.raises(OutputError, match=r"differing in parameters.*--overwrite"):
        is_present(output, other)
    assert not is_present(output, other, overwrite=True)
    write(output, "new", other)
    assert is_present(output, other)
    assert (output / "clicks.parquet").read_text() == "new"


def test_overwrite_never_replaces_what_no_source_wrote(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="no source wrote"):
        is_present(tmp_path, IDENTITY, overwrite=True)


def test_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "test").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        is_present(tmp_path / "test", IDENTITY)


def test_empty_folder_is_filled(tmp_path):
    output = tmp_path / "test"
    output.mkdir()
    assert not is_present(output, IDENTITY)
    write(output)
    assert is_present(output, IDENTITY)


def test_unwritable_place_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        write(tmp_path / "file" / "test")
