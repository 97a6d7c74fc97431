"""The manifest of a dataset: what was written, from what, and how it checks out.

Readers trust only the manifest. It is written last, by an atomic rename, so a dataset is there as a whole or not at
all; a shard it does not name does not exist, and a shard that differs from it is an error that names the shard. Shards
carry the run in their names, so a new run never touches the files of the dataset before it. The few files with fixed
names (vocabulary/, schema.pbtxt) wait in `STAGED` until the manifest is in place; a reader that comes in between finds
them there. The manifest vouches for every other file, and for itself with a CRC-32C of its own at its end.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

import google_crc32c

from schemas.errors import CorruptDataset, ProjectError
from schemas.files import stream_crc32c
from schemas.record import RecordSpec
from schemas.storage import Folder, LocalFolder, folder

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
    """A finished dataset: its folder, on a disk or a store, and its manifest.

    uri: where it is to be said to be, for a copy that is not what a person named.
    """

    def __init__(self, where: Path | Folder, manifest: Manifest, uri: str | None = None) -> None:
        self.folder: Folder = LocalFolder(where) if isinstance(where, Path) else where
        self.manifest = manifest
        self.uri = str(self.folder) if uri is None else uri

    @classmethod
    def open(cls, uri: str | Path) -> "Dataset":
        """The dataset at a path or URI.

        Raises:
          ProjectError: no manifest there. CorruptDataset: a manifest that cannot be understood, or that is not what was
            written; one without a CRC-32C (written before there was one) is taken as it is.
        """
        where = folder(uri)
        path = where.location(MANIFEST)
        try:
            data = where.read(MANIFEST)
        except FileNotFoundError as error:
            raise ProjectError(
                f"no dataset in {where}: it has no {MANIFEST}; write one with pipelines/prebatch.py"
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
            return cls(where, Manifest.from_json(document))
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, CorruptDataset) as error:
            raise CorruptDataset(f"{path}: {error}") from error

    @property
    def name(self) -> str:
        """The last part of where it is."""
        return PurePosixPath(self.uri).name

    @property
    def root(self) -> Path:
        """The folder on a disk, which a dataset on a store does not have."""
        if not isinstance(self.folder, LocalFolder):
            raise ProjectError(f"{self.uri}: expected a dataset on a disk; copy it there first")
        return self.folder.path

    def location(self, file: StoredFile) -> str:
        """The whole path or URI of a file of the manifest; never outside the dataset's folder."""
        return self.folder.location(self._found(file))

    def path(self, file: StoredFile) -> Path:
        """The same for a dataset on a disk."""
        return self.root / self._found(file)

    def opened(self, file: StoredFile) -> IO[bytes]:
        """A file of the manifest from its beginning."""
        return self.folder.opened(self._found(file))

    def check(self, file: StoredFile) -> None:
        """Raises a CorruptDataset where a file's size or CRC-32C is not that of the manifest; the message names it."""
        path = self._found(file)
        told = self.folder.location(path)
        try:
            size, crc = self.folder.size(path), None
            if size == file.bytes:
                with self.folder.opened(path) as stream:
                    crc = stream_crc32c(stream)
        except OSError as error:
            raise CorruptDataset(
                f"{told}: the manifest names this file, but it cannot be read: {error.strerror or error}"
            ) from error
        if crc is None:
            raise CorruptDataset(
                f"{told}: {file.bytes} bytes expected by the manifest, {size} found; write the dataset anew"
            )
        if crc != file.crc32c:
            raise CorruptDataset(
                f"{told}: its CRC-32C is not that of the manifest: the file has changed; write it anew"
            )

    def verify(self, file: StoredFile) -> Path:
        """The path of a checked file of a dataset on a disk."""
        self.check(file)
        return self.path(file)

    def vocabulary(self, feature: str) -> list[str]:
        """Values by index; position 0 is the placeholder of what is out of vocabulary."""
        file = self.manifest.vocabulary[feature]
        self.check(file)
        with self.opened(file) as stream:
            lines = stream.read().decode().split("\n")
        return [unescape(line) for line in lines[:-1]]

    def _found(self, file: StoredFile) -> str:
        """A file's path in the folder: among the staged ones, while it is there."""
        path = PurePosixPath(file.path)
        outside = path.is_absolute() or ".." in path.parts
        if isinstance(self.folder, LocalFolder):  # links may lead out as well
            outside |= not (self.root / path).resolve().is_relative_to(self.root.resolve())
        if outside:
            manifest = self.folder.location(MANIFEST)
            raise CorruptDataset(f"{manifest}: the path {file.path!r} leaves the dataset's folder")
        staged = f"{STAGED}/{self.manifest.run}/{file.path}"
        # Shards never are staged, and asking a store for each would cost a request a shard.
        if isinstance(file, Shard) or not self.manifest.run:
            return file.path
        return staged if self.folder.exists(staged) else file.path


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
