"""The manifest of a dataset: what was written, from what, and how it checks out.

Readers trust only the manifest. It is written last, by an atomic rename, so a dataset is there as a whole or not at
all; a shard it does not name does not exist, and a shard that differs from it is an error that names the shard. Shards
carry the run in their names, so a new run never touches the files of the dataset before it. The few files with fixed
names (vocabulary/, schema.pbtxt) wait in `STAGED` until the manifest is in place; a reader that comes in between finds
them there. The manifest vouches for every other file, and for itself with a CRC-32C of its own at its end.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c

from schemas.errors import CorruptDataset, ProjectError
from schemas.record import RecordSpec

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
STAGED = "_staged"
_CRC = "crc32c"
_BEFORE_CRC = f',\n "{_CRC}": '.encode()
PER_SECOND = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}  # what `time_unit` may be


@dataclass(frozen=True)
class StoredFile:
    """A file of the dataset by its path below the dataset's folder; crc32c is that of its bytes, unmasked."""

    path: str
    bytes: int
    crc32c: int


@dataclass(frozen=True)
class Shard(StoredFile):
    """One TFRecord file. `epoch` is the independent set of negatives that its records belong to."""

    records: int = 0
    clicks: int = 0
    epoch: int = 0


@dataclass(frozen=True)
class Split:
    """Totals and shards of one split; `epochs` independent sets of negatives stand side by side in `train`."""

    records: int
    clicks: int
    bytes: int
    shards: tuple[Shard, ...]
    epochs: int = 1

    @classmethod
    def of(cls, shards: list[Shard], epochs: int = 1) -> "Split":
        """The split that these shards make up, in the order of their paths."""
        ordered = tuple(sorted(shards, key=lambda shard: (shard.epoch, shard.path)))
        records, clicks, size = (sum(getattr(s, name) for s in ordered) for name in ("records", "clicks", "bytes"))
        return cls(records, clicks, size, ordered, epochs)


@dataclass(frozen=True)
class Manifest:
    """Everything a reader needs to know before the first record. Field by field in schemas/README.md."""

    record: RecordSpec
    splits: dict[str, Split]
    items: Split
    vocabulary: dict[str, StoredFile]
    files: dict[str, StoredFile]
    config: dict[str, Any]
    seed: int
    content_digest: str
    time_unit: str
    proposal: dict[str, Any] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    unmatched_items: int = 0
    statistics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    timings_seconds: dict[str, float] = field(default_factory=dict)
    run: str = ""
    created: str = ""
    digest_algorithm: str = "blake2b-128"  # of manifests that do not say it, as they came before there was another
    format_version: int = FORMAT_VERSION

    @property
    def schema_fingerprint(self) -> str:
        """SHA-256 of the record format: equal for datasets whose records parse and embed alike."""
        text = json.dumps({"format_version": self.format_version, "record": self.record.to_json()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def stored_files(self) -> list[StoredFile]:
        """Every file that the manifest vouches for."""
        shards = [shard for split in (*self.splits.values(), self.items) for shard in split.shards]
        return [*shards, *self.vocabulary.values(), *self.files.values()]

    def to_json(self) -> dict[str, Any]:
        """The document of manifest.json."""
        document = dataclasses.asdict(self) | {"record": self.record.to_json()}
        document["layout"] = self.record.layout
        document["schema_fingerprint"] = self.schema_fingerprint
        order = (
            "format_version", "schema_fingerprint", "content_digest", "digest_algorithm", "created", "run", "layout",
            "seed",
        )  # fmt: skip
        return {name: document.pop(name) for name in order} | document

    def serialized(self) -> bytes:
        """The bytes of manifest.json: the document, and as its last field the CRC-32C of all that stands before it."""
        body = json.dumps(self.to_json(), indent=1, ensure_ascii=False).removesuffix("\n}").encode()
        return body + _ending(body)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Manifest":
        """The manifest in a document.

        Raises:
          CorruptDataset: a field is missing or of the wrong form, or the fingerprint is not that of the record format.
        """
        version = document.get("format_version")
        if version != FORMAT_VERSION:
            raise CorruptDataset(f"format_version {FORMAT_VERSION} expected, {version!r} found; write the dataset anew")
        values = {name: value for name, value in document.items() if name not in ("schema_fingerprint", "layout")}
        try:
            values["record"] = RecordSpec.from_json(values["record"])
            values["splits"] = {name: _split(split) for name, split in values["splits"].items()}
            values["items"] = _split(values["items"])
            values["vocabulary"] = {name: StoredFile(**file) for name, file in values["vocabulary"].items()}
            values["files"] = {name: StoredFile(**file) for name, file in values["files"].items()}
            manifest = cls(**values)
            for file in manifest.stored_files():
                _check_inside(file.path)
                sizes: list[Any] = [file.bytes, file.crc32c]
                if not all(isinstance(size, int) for size in sizes):
                    raise CorruptDataset(f"{file.path}: bytes and crc32c are whole numbers")
            _check_inside(manifest.run or "none", parts=1)  # it names a folder below STAGED
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptDataset(f"a field is missing or malformed: {error!r}") from error
        if manifest.schema_fingerprint != document.get("schema_fingerprint"):
            raise CorruptDataset("schema_fingerprint is not that of the record format in the same file")
        return manifest


class Dataset:
    """A finished dataset on disk: its folder and its manifest."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root = root
        self.manifest = manifest

    @classmethod
    def open(cls, uri: str | Path) -> "Dataset":
        """The dataset in a folder.

        Raises:
          ProjectError: no manifest there. CorruptDataset: a manifest that cannot be understood, or that is not what was
            written; one without a CRC-32C (written before there was one) is taken as it is.
        """
        root = local_path(uri)
        path = root / MANIFEST
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise ProjectError(
                f"no dataset in {root}: it has no {MANIFEST}; write one with pipelines/prebatch.py"
            ) from error
        except OSError as error:
            raise ProjectError(f"{path} cannot be read: {error}") from error
        try:
            document = json.loads(data.decode())
            if not isinstance(document, dict):
                raise CorruptDataset("expected a JSON object")
            if _CRC in document and not data.endswith(_ending(data.rpartition(_BEFORE_CRC)[0])):
                raise CorruptDataset("its CRC-32C is not that of its text: it has changed; write the dataset anew")
            document.pop(_CRC, None)
            return cls(root, Manifest.from_json(document))
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, CorruptDataset) as error:
            raise CorruptDataset(f"{path}: {error}") from error

    def path(self, file: StoredFile) -> Path:
        """Where a file of the manifest lies; never outside the dataset's folder."""
        found = (self.root / file.path).resolve()
        if not found.is_relative_to(self.root.resolve()):
            raise CorruptDataset(f"{self.root / MANIFEST}: the path {file.path!r} leaves the dataset's folder")
        staged = self.root / STAGED / self.manifest.run / file.path
        return staged if staged.exists() else found

    def verify(self, file: StoredFile) -> Path:
        """The path of a file whose size and CRC-32C are those of the manifest.

        Raises:
          CorruptDataset: it is missing, or differs; the message names it.
        """
        path = self.path(file)
        try:
            size = path.stat().st_size
            crc = file_crc32c(path) if size == file.bytes else None
        except OSError as error:
            raise CorruptDataset(
                f"{path}: the manifest names this file, but it cannot be read: {error.strerror}"
            ) from error
        if crc is None:
            raise CorruptDataset(
                f"{path}: {file.bytes} bytes expected by the manifest, {size} found; write the dataset anew"
            )
        if crc != file.crc32c:
            raise CorruptDataset(
                f"{path}: its CRC-32C is not that of the manifest: the file has changed; write it anew"
            )
        return path

    def vocabulary(self, feature: str) -> list[str]:
        """Values by index; position 0 is the placeholder of what is out of vocabulary."""
        lines = self.verify(self.manifest.vocabulary[feature]).read_text(encoding="utf-8").split("\n")
        return [unescape(line) for line in lines[:-1]]


def local_path(uri: str | Path) -> Path:
    """The local path of a URI; only plain paths and file: are served by this version."""
    text = re.sub(r"^file:(//)?(?=/)", "", str(uri))
    if "://" in text:
        raise ProjectError(f"expected a local path or file: URI, got {text!r}: other storage is not served yet")
    return Path(text)


def file_crc32c(path: Path, chunk_bytes: int = 4 << 20) -> int:
    """CRC-32C of a whole file, read in pieces."""
    crc = 0
    with path.open("rb") as stream:
        while chunk := stream.read(chunk_bytes):
            crc = google_crc32c.extend(crc, chunk)
    return crc


def file_sha256(path: Path) -> str:
    """SHA-256 of a whole file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Puts data under a name as a whole: a reader sees what was there before, or all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Waits until the disk has the names in a folder, which a file's own fsync does not promise.

    Some shared file systems refuse this; they have their own ways, and it is no reason to fail.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def escape(value: str) -> str:
    """A vocabulary value on one line: backslash, newline and carriage return are escaped."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def unescape(line: str) -> str:
    """The value of a vocabulary line."""
    if "\\" not in line:
        return line
    kept = {"n": "\n", "r": "\r", "\\": "\\"}
    parts = iter(line)
    return "".join(kept.get(next(parts, ""), "") if part == "\\" else part for part in parts)


def _check_inside(path: str, parts: int | None = None) -> None:
    """Raises where a path of a manifest may lead out of the dataset's folder, or has not so many parts."""
    names = path.split("/")
    if {"", ".", ".."} & set(names) or "\\" in path or "\0" in path or (parts and len(names) != parts):
        raise CorruptDataset(f"the path {path!r} leaves the dataset's folder, or is none")


def _ending(body: bytes) -> bytes:
    """What follows the body of a manifest: its CRC-32C, and nothing behind it."""
    return _BEFORE_CRC + b"%d\n}\n" % google_crc32c.value(body)


def _split(document: dict[str, Any]) -> Split:
    values = dict(document)
    values["shards"] = tuple(Shard(**shard) for shard in values["shards"])
    return Split(**values)
