"""The table at the end of a run: what was read, used, rejected and written."""

from schemas.manifest import Manifest


def table(manifest: Manifest) -> str:
    """A few lines for a terminal."""
    lines = ["", f"{'input':<12}{'read':>14}{'used':>14}{'rejected':>12}"]
    for name, rows in manifest.rows.items():
        lines.append(f"{name:<12}{rows['read']:>14,}{rows['used']:>14,}{rows['rejected']:>12,}")
    lines += [f"  rejected {reason}: {count:,}" for reason, count in sorted(manifest.rejected.items())]
    lines += ["", f"{'split':<12}{'clicks':>14}{'records':>14}{'bytes':>16}{'shards':>8}{'bytes/click':>13}"]
    splits = {**manifest.splits, "items": manifest.items}
    for name, split in splits.items():
        each = f"{split.bytes / split.clicks:,.1f}" if split.clicks else ""
        lines.append(
            f"{name:<12}{split.clicks:>14,}{split.records:>14,}{split.bytes:>16,}{len(split.shards):>8}{each:>13}"
        )
    observed = manifest.proposal["observed"]
    declared = ", ".join(f"{part['share']:g} {part['strategy']}" for part in manifest.proposal["declared"])
    fit = (
        f"chi-square {observed['chi_square']:,.1f} with {observed['degrees']:,} degrees, p = {observed['p_value']:.3g}"
    )
    lines += ["", f"negatives    {declared}: {observed['draws']:,} drawn, {fit}, KL {observed['kl']:.2g}"]
    if observed["p_value"] < 1e-6:
        lines.append("WARNING: the draws do not follow the declared proposal; please report this with your job file")
    lines.append(f"digest       {manifest.content_digest}")
    lines.append(f"took         {manifest.timings_seconds.get('total', 0):.1f} s")
    return "\n".join(lines)
