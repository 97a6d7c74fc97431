"""Appends sets of negatives to a finished dataset (`--epoch-from N`) without redoing the first N.

Every number that a set depends on comes from (seed, set, click key), so sets N to E-1 drawn today are those that a run
with E sets would have drawn, provided that the job file and the inputs are the same. The job file is compared before
Spark starts; clicks and users by sums of hashes, items and vocabularies by the digests of what they became, before
anything is drawn. What is not read again: the shards that are there, and inputs that clicks are joined with later on.
The new manifest names the old shards and the new ones and replaces the old manifest by one rename, so that an append
that fails or is killed leaves the dataset as it was.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipelines import words
from pipelines.assembly import content_digest
from pipelines.config import Config
from pipelines.differences import differences, resolved
from pipelines.rejects import Used
from pipelines.sink import DIGEST_ALGORITHM, DIGEST_MODULUS
from samplers.goodness import upper_gamma
from schemas import redaction
from schemas.errors import ConfigurationError, DataError, ProjectError
from schemas.manifest import Dataset, Manifest, Split, StoredFile
from schemas.record import RecordSpec

# Where the dataset lies may be said in another way; how many sets there are is what an append changes; and a dataset is
# the same however the catalogue was kept.
FREE = (("output", "path"), ("output", "abandoned_after"), ("output", "work"), ("negatives", "epochs"), ("catalogue",))


def checked(config: Config, epoch_from: int) -> Manifest:
    """The manifest of the dataset to append to.

    Raises:
      ConfigurationError: there is none, it has another number of sets, or its job file is another one.
    """
    try:
        manifest = Dataset.open(config.output.path).manifest
    except ProjectError as error:
        raise ConfigurationError(f"--epoch-from {epoch_from}: nothing to append to: {error}") from error
    there, wanted = manifest.splits["train"].epochs, config.negatives.epochs
    if there != epoch_from:
        raise ConfigurationError(
            f"--epoch-from {epoch_from}: {config.output.path} has {words.counted(there, 'set')} of negatives, "
            f"so --epoch-from {there} is expected"
        )
    if wanted <= there:
        raise ConfigurationError(
            f"--epoch-from {epoch_from}: negatives.epochs is {wanted}, so nothing is to be appended to the {there} "
            f"sets that are there; set negatives.epochs to more, such as --set negatives.epochs={there + 1}"
        )
    here = redaction.document(config.model_dump(mode="json", exclude_none=True))  # as the dataset keeps it
    different = list(differences(resolved(manifest.config), resolved(here), FREE))
    if different:
        raise ConfigurationError(
            f"--epoch-from {epoch_from}: the job file is not the one of {config.output.path}: {'; '.join(different)}; "
            "set it back, or write the dataset anew without --epoch-from"
        )
    return manifest


def check_inputs(
    before: Manifest, used: Used, record: RecordSpec, items_digest: int, vocabularies: Mapping[str, StoredFile]
) -> None:
    """Raises a DataError where the inputs are not those that the dataset was made from; it names them."""
    inputs, digests = before.statistics.get("inputs"), before.statistics.get("digests")
    if not isinstance(inputs, dict) or not isinstance(digests, dict):
        raise DataError("--epoch-from: the dataset does not say what it was made from; write it anew")
    if before.digest_algorithm != DIGEST_ALGORITHM:
        raise DataError(
            f"--epoch-from: the dataset's digest sums {before.digest_algorithm} and this version's {DIGEST_ALGORITHM}, "
            "so what was written cannot be compared; write the dataset anew"
        )
    different = [name for name in used.hashes if inputs.get(name) != used.hashes[name]]
    vocabulary = {name: (file.bytes, file.crc32c) for name, file in before.vocabulary.items()}
    if digests["items"] != f"{items_digest:x}" or before.record != record:
        different.append("items")
    elif vocabulary != {name: (file.bytes, file.crc32c) for name, file in vocabularies.items()}:
        different.append("vocabularies")
    if different:
        raise DataError(
            f"--epoch-from: {', '.join(different)} have changed since the dataset was written, and its sets of "
            "negatives would not fit together; bring the inputs back, or write the dataset anew"
        )


def appended(before: Manifest, added: Manifest) -> Manifest:
    """The manifest of a dataset with the sets it had and those that were `added` to it."""
    train = [*before.splits["train"].shards, *added.splits["train"].shards]
    splits = before.splits | {"train": Split.of(train, added.splits["train"].epochs)}
    digests = {name: int(digest, 16) for name, digest in before.statistics["digests"].items()}
    digests["train"] = (digests["train"] + int(added.statistics["digests"]["train"], 16)) % DIGEST_MODULUS
    statistics = _statistics(before.statistics, added.statistics, splits["train"])
    return dataclasses.replace(
        added,
        splits=splits,
        content_digest=content_digest(digests, before.vocabulary),
        items=before.items,
        vocabulary=before.vocabulary,
        files=before.files,
        proposal=_proposal(before.proposal, added.proposal),
        statistics=statistics | {"digests": {name: f"{digest:x}" for name, digest in digests.items()}},
    )


def _proposal(before: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    lacking = "clicks_without_draws"
    both = added | {lacking: before.get(lacking, 0) + added.get(lacking, 0)}
    pairs = zip(before.get("strategies", ()), added.get("strategies", ()), strict=True)
    counts = ("refused", "fallen_back")
    both["strategies"] = [
        one | together(one, other) | {name: one[name] + other[name] for name in counts} for one, other in pairs
    ]
    return both | {"observed": together(before["observed"], added["observed"])}


def together(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two comparisons of independent draws as one: chi-squares and their degrees of freedom add up.

    The divergence is the mean of both by their draws, which bounds that of all draws together from above.
    """
    draws = one["draws"] + other["draws"]
    chi_square, degrees = one["chi_square"] + other["chi_square"], one["degrees"] + other["degrees"]
    impossible = 0.0 in (one["p_value"], other["p_value"])
    return {
        "draws": draws,
        "chi_square": chi_square,
        "degrees": degrees,
        "p_value": 0.0 if impossible else upper_gamma(degrees / 2, chi_square / 2) if degrees else 1.0,
        "kl": (one["kl"] * one["draws"] + other["kl"] * other["draws"]) / draws if draws else 0.0,
    }


def _statistics(before: dict[str, Any], added: dict[str, Any], train: Split) -> dict[str, Any]:
    """Counts of both; what does not grow with the sets as it was."""
    both = before | {"bytes_per_click": round(train.bytes / train.clicks, 2) if train.clicks else 0.0}
    for name in ("positives_by_decile", "negatives_by_decile"):
        both[name] = _sum(before[name], added[name])
    curve, more = before["draws_by_cell"], added["draws_by_cell"]
    both["draws_by_cell"] = curve | {name: _sum(curve[name], more[name]) for name in ("observed", "expected")}
    lengths, longer = before["history_lengths"], added["history_lengths"]
    return both | {"history_lengths": lengths | {"clicks": _sum(lengths["clicks"], longer["clicks"])}}


def _sum(one: list[Any], other: list[Any]) -> list[Any]:
    return [round(a + b, 3) for a, b in zip(one, other, strict=True)]
