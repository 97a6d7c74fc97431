"""What a dataset must be whatever happened on the way: whole, right to an independent reader, alone in its folder."""

from pathlib import Path

from pipelines import audit, inspect
from schemas.manifest import MANIFEST, STAGED, Dataset

BESIDE = {MANIFEST, "report.html", ".lock"}


def readable(root):
    """The content digest of a dataset all of whose files are what its manifest says."""
    dataset = Dataset.open(root)
    inspect.verified(dataset)
    return dataset.manifest.content_digest


def audited(root):
    """The same of one in which an audit finds nothing, and in whose folder nothing else is left."""
    digest, dataset = readable(root), Dataset.open(root)
    findings = audit.audited(dataset)
    assert not findings.found, findings.to_json()
    assert strays(root) == []
    return digest


def strays(root):
    """Files in the folder that the manifest does not name."""
    root, manifest = Path(root), Dataset.open(root).manifest
    named = {file.path for file in manifest.stored_files()} | BESIDE
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    return sorted(found - named - {f"{STAGED}/{manifest.run}/{name}" for name in named})
