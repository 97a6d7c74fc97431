"""What the manifest says of files and numbers, held against the files and records themselves."""

import numpy as np

from pipelines.auditing.findings import Findings
from pipelines.auditing.frames import ShardFile
from pipelines.auditing.items import Items
from pipelines.auditing.tally import Tally
from schemas.manifest import MANIFEST, STAGED, Dataset, Manifest, Shard, StoredFile

# Written beside the dataset, and vouched for by nobody.
OTHERS = {MANIFEST, "report.html", "audit.html", ".lock"}


def files(dataset: Dataset, sizes: dict[str, tuple[int, int, int, int]], findings: Findings) -> None:
    """Bytes and checksums of every file, shards as they were counted while reading, and files that nobody named."""
    named = dataset.manifest.stored_files()
    staged = f"{STAGED}/{dataset.manifest.run}/"
    found = {stored.path for stored in dataset.folder.files()}
    there = found | {path.removeprefix(staged) for path in found}
    for file in named:
        findings.looked("files")
        if file.path in sizes:
            size, crc = sizes[file.path][:2]
        else:
            size, crc = ShardFile(dataset.location(file)).whole()
        _compare(file, size, crc, file.path in there, findings)
    paths = [file.path for file in named]
    findings.add("files", (f"{path}: the manifest names it twice" for path in {p for p in paths if paths.count(p) > 1}))
    strays = sorted({path for path in found if not path.startswith(f"{STAGED}/")} - set(paths) - OTHERS)
    findings.add("files", (f"{path}: the manifest does not name this file" for path in strays), len(strays))


def _compare(file: StoredFile, size: int, crc: int, exists: bool, findings: Findings) -> None:
    if not exists:
        findings.add("files", f"{file.path}: the manifest names it, but it is not there")
    elif size != file.bytes:
        findings.add("files", f"{file.path}: {size:,} bytes found, {file.bytes:,} in the manifest")
    elif crc != file.crc32c:
        findings.add("files", f"{file.path}: CRC-32C {crc} found, {file.crc32c} in the manifest")


def counts(manifest: Manifest, sizes: dict[str, tuple[int, int, int, int]], findings: Findings) -> None:
    """Records and clicks of shards, their sums, and that every input row is used or rejected."""
    splits = {**manifest.splits, "items": manifest.items}
    for name, split in splits.items():
        for shard in split.shards:
            findings.looked("counts")
            _, _, records, clicks = sizes.get(shard.path, (0, 0, 0, 0))
            if (records, clicks) != (shard.records, shard.clicks):
                findings.add("counts", (
                    f"{shard.path}: {records:,} records of {clicks:,} clicks found, {shard.records:,} of "
                    f"{shard.clicks:,} in the manifest"
                ))  # fmt: skip
        for field in ("records", "clicks", "bytes"):
            told, total = getattr(split, field), sum(getattr(shard, field) for shard in split.shards)
            if told != total:
                findings.add("counts", f"{name}: {told:,} {field} in the manifest, {total:,} in its shards together")
    for name, rows in manifest.rows.items():
        findings.looked("counts")
        refused = sum(count for reason, count in manifest.rejected.items() if reason.startswith(f"{name}."))
        if rows["read"] != rows["used"] + rows["rejected"] or rows["rejected"] != refused:
            findings.add("counts", (
                f"{name}: {rows['read']:,} rows read, {rows['used']:,} used and {rows['rejected']:,} rejected, "
                f"{refused:,} of them by reason"
                ))  # fmt: skip
    _used(manifest, findings)


def examples(manifest: Manifest) -> int | None:
    """Training clicks that each set has records of, None where the manifest says nothing of clicks left out.

    Clicks of weight 0 and those over a user's cap are no examples; a sequence keeps them, as they are histories.
    """
    told = manifest.statistics.get("examples")
    if not told or manifest.record.layout == "sequence" or told["a_set"] == told["training_clicks"]:
        return None
    return int(told["a_set"])


def by_set(shards: tuple[Shard, ...], sets: int) -> list[int]:
    """[sets] clicks of each set of negatives, by the manifest."""
    return [sum(shard.clicks for shard in shards if shard.epoch == number) for number in range(sets)]


def _used(manifest: Manifest, findings: Findings) -> None:
    """Every used click is in each set of negatives, or held out."""
    used = manifest.rows.get("clicks", {}).get("used")
    if used is None:
        findings.skip("counts", "the manifest does not say how many clicks were used")
        return
    train = manifest.splits["train"]
    held_out = sum(split.clicks for name, split in manifest.splits.items() if name != "train")
    some = examples(manifest)
    if some is not None:
        told = manifest.statistics["examples"]
        left_out = told["without_weight"] + told["over_cap"]
        if told["training_clicks"] - left_out != some or told["training_clicks"] + held_out > used:
            findings.add("counts", (
                f"statistics.examples: {told['training_clicks']:,} training clicks, {left_out:,} of them no examples, "
                f"{some:,} in a set, with {held_out:,} held-out ones of {used:,} used"
            ))  # fmt: skip
    for number, clicks in enumerate(by_set(train.shards, train.epochs)):
        expected = int(used) - held_out if some is None else some
        if clicks != expected:
            findings.add("counts", (
                f"set {number}: {clicks:,} training clicks, {expected:,} expected by what the manifest says was used"
            ))  # fmt: skip


def positives(tally: Tally, items: Items, manifest: Manifest, complete: bool) -> None:
    """Every item is the positive of as many clicks of a set as items/ says, and sets hold the same clicks."""
    findings, sets = tally.findings, tally.positives
    findings.looked("positives", sets.size)
    findings.looked("sets", len(sets))
    some = examples(manifest) is not None  # then no set has more of an item than was clicked
    for epoch, found in enumerate(sets):
        rows = np.flatnonzero(found > items.counts if some else found != items.counts)
        findings.add("positives", (
            f"set {epoch}: item_index {i} (key {items.keys[i]}) is the positive of {found[i]:,} clicks, items/ "
            f"counts {items.counts[i]:,} training clicks" for i in rows[:20]
        ), len(rows))  # fmt: skip
    if some:
        findings.skip("positives", "training clicks that are no examples", int((items.counts - sets[0]).clip(0).sum()))
        findings.skip("sets", "each set has a choice of its own", len(sets))
        return
    different = np.flatnonzero(tally.digest != tally.digest[0])
    findings.add("sets", (
        f"set {epoch} holds {sets[epoch].sum():,} clicks that are not those of set 0 ({sets[0].sum():,}): "
        f"{int(np.abs(sets[epoch] - sets[0]).sum()):,} differ in their item" for epoch in different
    ))  # fmt: skip
    if not complete:
        findings.skip("sets", "not every used click is in a set")
