"""A folder is the same few verbs, whether it lies on a disk, on S3, or on any other file system of pyarrow's."""

import gzip
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from pyarrow import fs

from schemas import remote, s3, storage
from schemas.errors import ConfigurationError, EnvironmentProblem
from schemas.files import local_path, write_atomically


@pytest.fixture(params=["local", "s3", "pyarrow"])
def folder(request, tmp_path):
    """`pyarrow` is what gs and hdfs come through, over a disk."""
    if request.param == "local":
        return storage.folder(tmp_path / "some" / "folder")
    if request.param == "s3":
        return storage.folder(f"{request.getfixturevalue('bucket').uri}/some/folder/")
    return remote.RemoteFolder("hdfs://host/some/folder", fs.LocalFileSystem(), str(tmp_path / "some" / "folder"))


@pytest.fixture(params=["s3", "pyarrow"])
def store(request, tmp_path):
    if request.param == "s3":
        return storage.folder(f"{request.getfixturevalue('bucket').uri}/some/folder")
    return remote.RemoteFolder("hdfs://host/some/folder", fs.LocalFileSystem(), str(tmp_path / "some" / "folder"))


def listed(folder, below=""):
    return {stored.path: stored.bytes for stored in folder.files(below)}


def test_what_is_written_is_there(folder):
    assert listed(folder) == {}
    folder.write("a/b.txt", b"first")
    folder.write("a/b.txt", b"second one")
    assert folder.read("a/b.txt") == b"second one"
    assert (folder.exists("a/b.txt"), folder.exists("a/c.txt"), folder.exists("b.txt")) == (True, False, False)
    assert folder.size("a/b.txt") == 10
    with folder.opened("a/b.txt") as stream:
        assert (stream.read(6), stream.read()) == (b"second", b" one")
    with storage.opened(folder.location("a/b.txt")) if "hdfs" not in str(folder) else folder.opened("a/b.txt") as file:
        assert file.read() == b"second one"
    assert folder.name == "folder"
    assert folder.location("a/b.txt") == f"{folder}/a/b.txt"


def test_written_bytes_go_to_the_disk_as_they_come_and_out_of_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_SENT_TOGETHER", 1000)
    told, kept, original = [], 0, os.posix_fadvise

    def advise(*advice):
        told.append(advice[1:])
        original(*advice)

    monkeypatch.setattr(os, "posix_fadvise", advise)
    writer = storage.folder(tmp_path).writer("some")
    for number, size in enumerate((1, 999, 1500, 700, 40_000)):
        writer.write(np.full(size, number, np.uint8))
        kept += size
        ends = [begin + count for begin, count, _ in told]
        assert kept - max(ends, default=0) < 1000
    begins = [begin for begin, _, _ in told]
    assert begins == [0, 0, 500]  # what was on its way before is let go of with the next
    writer.close()
    assert told[-1] == (0, kept, os.POSIX_FADV_DONTNEED)
    assert np.bincount(np.fromfile(tmp_path / "some", np.uint8)).tolist() == [1, 999, 1500, 700, 40_000]


@pytest.mark.parametrize("system", ["does not know", "refuses"])
def test_advice_to_the_system_is_no_more_than_that(tmp_path, monkeypatch, system):
    def refused(*_):
        raise OSError(22, "Invalid argument")

    if system == "refuses":
        monkeypatch.setattr(os, "posix_fadvise", refused)
    else:
        monkeypatch.delattr(os, "posix_fadvise")
    monkeypatch.setattr(storage, "_SENT_TOGETHER", 10)
    writer = storage.folder(tmp_path).writer("some")
    for _ in range(5):
        writer.write(b"123456789")
    writer.close()
    assert (tmp_path / "some").read_bytes() == b"123456789" * 5


def test_files_are_listed_at_any_depth(folder):
    for path in ("x", "a/y", "a/b/z", "ab/q"):
        folder.write(path, path.encode())
    assert listed(folder) == {"x": 1, "a/y": 3, "a/b/z": 5, "ab/q": 4}
    assert listed(folder, "a") == {"a/y": 3, "a/b/z": 5}
    assert listed(folder, "nothing") == {}
    folder.delete("a/y")
    folder.delete("a/y")
    assert listed(folder, "a") == {"a/b/z": 5}


def test_a_missing_file_is_the_same_error_everywhere(folder):
    folder.write("there", b"x")
    for ask in (folder.read, folder.size, folder.opened):
        with pytest.raises(FileNotFoundError):
            ask("not/there")


def test_a_file_written_in_pieces(folder):
    whole = b"".join(bytes([n]) * (3 << 20) for n in range(5))  # more than one part of an upload
    writer = folder.writer("train/part-1")
    for n in range(5):
        writer.write(bytes([n]) * (3 << 20) if n % 2 else np.full(3 << 20, n, np.uint8))
    writer.close()
    assert folder.read("train/part-1") == whole
    broken = folder.writer("train/part-2")
    broken.write(b"half")
    broken.discard()
    assert listed(folder) == {"train/part-1": len(whole)}
    zipped = gzip.compress(b"as it is")
    folder.write("train/part-3.gz", zipped)  # a name that pyarrow would unzip by, or zip once more
    assert folder.read("train/part-3.gz") == zipped


def test_a_write_that_breaks_leaves_nothing(store, monkeypatch):
    """An exception inside pyarrow's `with open_output_stream` publishes what was written so far."""

    def broken(writer, data):
        writer._stream.write(data[:3])
        raise OSError("the connection is gone")

    monkeypatch.setattr(remote.RemoteWriter, "write", broken)
    with pytest.raises(OSError, match="the connection is gone"):
        store.write("vocabulary/x.txt", b"whole")
    assert listed(store) == {}


def test_a_copy_inside_the_store(store):
    store.write("a/x", b"of old")
    store.write("b", b"new")
    store.copy("b", "a/x")
    assert (store.read("a/x"), store.read("b")) == (b"new", b"new")


def test_a_conditional_write_is_for_the_version_that_was_seen(store):
    assert store.version("manifest.json") is None
    assert store.write_if("manifest.json", b"of nothing", '"0123"') is None
    first = store.write_if("manifest.json", b"one", None)
    assert first is not None
    assert first == store.version("manifest.json")
    assert store.write_if("manifest.json", b"other", None) is None
    second = store.write_if("manifest.json", b"three", first)
    assert second not in (None, first)
    assert store.write_if("manifest.json", b"other", first) is None
    assert store.read("manifest.json") == b"three"
    # Whoever asks again because an answer was lost has written it all the same.
    assert store.write_if("manifest.json", b"three", first) == second


def test_of_many_that_write_at_once_one_succeeds(bucket):
    store, won = remote.folder(f"{bucket.uri}/x"), []
    barrier = threading.Barrier(8)

    def write(number):
        barrier.wait()
        if store.write_if("manifest.json", b"%d" % number, None) is not None:
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert bucket.read("x/manifest.json") == b"%d" % won[0]


def test_a_conditional_write_that_meets_another_one_asks_again(bucket, monkeypatch):
    """409: neither written nor refused, as the store is at another write of the same object."""
    from botocore.exceptions import ClientError

    folder = remote.folder(f"{bucket.uri}/x")
    assert isinstance(folder, s3.S3Folder)
    put, conflicts = folder._client.put_object, [1, 2, 3]
    waits: list[float] = []

    def meeting(**given):
        if conflicts:
            conflicts.pop()
            told = {"Error": {"Code": "ConditionalRequestConflict"}, "ResponseMetadata": {"HTTPStatusCode": 409}}
            raise ClientError(told, "PutObject")
        return put(**given)

    monkeypatch.setattr(folder._client, "put_object", meeting)
    monkeypatch.setattr("schemas.s3.time.sleep", waits.append)
    first = folder.write_if("manifest.json", b"one", None)
    assert first is not None
    assert (bucket.read("x/manifest.json"), len(waits)) == (b"one", 3)
    conflicts += range(100)
    with pytest.raises(OSError, match="ConditionalRequestConflict"):
        folder.write_if("manifest.json", b"two", first)
    assert bucket.read("x/manifest.json") == b"one"


def test_a_file_that_cannot_be_put_in_place_leaves_no_half_of_it(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "taken", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_schemes_that_mean_the_same(bucket, tmp_path):
    bucket.put("x/y", b"z")
    for scheme in ("s3", "s3a", "s3n", "S3"):
        folder = storage.folder(f"{scheme}://{bucket.name}/x/")
        assert (str(folder), folder.read("y")) == (f"s3://{bucket.name}/x", b"z")
    (tmp_path / "y").write_bytes(b"z")
    for uri in (tmp_path, f"file://{tmp_path}", f"file:{tmp_path}"):
        assert storage.folder(uri).read("y") == b"z"
        assert not storage.is_remote(uri)
    assert storage.is_remote(bucket.uri)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA:hush@bucket/x", "s3a://AKIA@bucket/x", "hdfs://me:hush@host/x",
        "s3://bucket/x?endpoint_override=hush", "gs://hush@bucket/x",
    ],
)  # fmt: skip
def test_credentials_in_a_uri_are_refused_and_not_repeated(uri):
    with pytest.raises(ConfigurationError, match="AWS_ACCESS_KEY_ID") as raised:
        storage.folder(uri)
    assert "hush" not in str(raised.value)
    assert "AKIA" not in str(raised.value)


def test_what_is_no_store_is_refused():
    with pytest.raises(ConfigurationError, match="ftp://: expected a path or a URI of file, s3, s3a, gs or hdfs"):
        storage.folder("ftp://host/x")
    with pytest.raises(ConfigurationError, match="name of a bucket"):
        storage.folder("s3:///x")
    with pytest.raises(ConfigurationError, match="s3://"):
        local_path("s3://bucket/x")


def test_a_bucket_that_is_not_there_is_one_line(bucket):
    folder = remote.folder("s3://b-nowhere/x")
    assert folder.version("x") is None
    for write in (lambda: folder.write("x", b""), lambda: folder.write_if("x", b"", None)):
        with pytest.raises(OSError, match=r"(?i)bucket") as raised:
            write()
        assert "\n" not in str(raised.value)


def test_readers_need_no_boto3_and_writers_are_told(bucket, monkeypatch):
    bucket.put("x/y", b"z")
    monkeypatch.setitem(sys.modules, "boto3", None)
    s3._client.cache_clear()
    folder = remote.folder(f"{bucket.uri}/x")
    assert (folder.read("y"), listed(folder)) == (b"z", {"y": 1})
    writer = folder.writer("part")
    writer.write(b"half")
    writer.discard()
    assert bucket.names() == ["x/y"]
    for ask in (lambda: folder.version("y"), lambda: folder.write_if("y", b"", None)):
        with pytest.raises(EnvironmentProblem, match=r"pip install 'prebatch\[s3\]'"):
            ask()
    s3._client.cache_clear()


def test_local_folders_load_no_store():
    code = (
        "import sys; from schemas.manifest import Dataset; from schemas import storage; storage.folder('/x'); "
        "sys.exit(sum(name in sys.modules for name in ('pyarrow._s3fs', 'boto3', 'schemas.remote')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
