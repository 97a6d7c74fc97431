"""A job's choices and its figures in sentences: what report, inspection and dry run tell a person in the same words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def size(count: float) -> str:
    """A number of bytes, such as 1.5 MiB."""
    for unit, name in UNITS:
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count:,.0f} bytes"


def duration(seconds: float) -> str:
    """A time span, such as 2 min 05 s."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """1 click, 2 clicks."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def choices(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, sentence) of the choices that make one dataset differ from another, from a resolved job file."""
    negatives = config["negatives"]
    optional = [
        ("day", _day(config)),
        ("indices", _indices(config.get("inherit"))),
        ("weights", _weights((config.get("clicks") or {}).get("weight"))),
        ("frequencies", _frequencies(config.get("frequencies") or {})),
        ("examples", _cap((config.get("examples") or {}).get("per_user"), config["layout"])),
    ]
    return [
        ("negatives", _negatives(negatives, config["layout"])),
        ("proposal", proposal(negatives["proposal"])),
        *((name, sentence) for name, sentence in optional if sentence),
        ("exclude", _exclusion(negatives)),
        *_availability(config.get("items", {})),
        ("layout", _layout(config["layout"], negatives)),
        ("history", _history(config["history"])),
        ("split", _split(config["split"])),
        ("seed", f"{negatives['seed']}: the same inputs, job file and seed give the same records"),
    ]


def _day(config: Mapping[str, Any]) -> str:
    """What a job for a day reads."""
    if not config.get("date"):
        return ""
    clicks = config.get("clicks") or {}
    back = f"of {clicks['window']} before" if clicks.get("window") else "before"
    told = f"{config['date']} (UTC): clicks {back} its end"
    if clicks.get("arrived"):
        after = f"{clicks['watermark']} after it" if clicks.get("watermark") else "that"
        told += f", as far as they had arrived by {after}"
    return told


def _indices(inherit: str | None) -> str:
    if inherit is None:
        return ""
    return f"those of {'the latest day before' if inherit == 'previous' else inherit} stay, new ones follow"


def proposal(document: Mapping[str, Any]) -> str:
    """What negatives are drawn from."""
    parts = document.get("mixture") or [document]
    words = []
    for part in parts:
        share = f"{part['share']:.0%} " if len(parts) > 1 else ""
        words.append(share + strategy(part))
    return " and ".join(words)


def strategy(part: Mapping[str, Any]) -> str:
    """One strategy of a proposal."""
    for name, sentence in _STRATEGIES.items():
        if name in part:
            return sentence.format(**{"exponent": 0.75, "least": 5, "window": "30m", **(part[name] or {})})
    return "uniform over the catalogue"


_STRATEGIES = {
    "popularity": "by popularity (training clicks to the power {exponent:g})",
    "log_uniform": "log-uniform over the popularity rank",
    "in_batch": "from other clicks of the block",
    "same_attribute": "within the positive's {feature} (training clicks to the power {exponent:g}; with fewer than "
    "{least:,} items to draw by the other strategies)",
    "impressions": "from what was shown within {window} before the click and left",
    "column": "from the clicks' own lists",
    "mined": "from mined lists ({path})",
}


def _negatives(negatives: Mapping[str, Any], layout: Mapping[str, Any]) -> str:
    sets = counted(negatives["epochs"], "independent set")
    if negatives["per"] == "block":
        unique = negatives.get("unique", layout["kind"] == "sequence")
        different = " different items" if unique else ""
        different += ", drawn TensorFlow's way," if unique == "tensorflow" else ""
        return f"a pool of {negatives['count']:,}{different} shared by the clicks of a {layout['kind']}, in {sets}"
    different = " different ones" if negatives.get("unique") else ""
    return f"{negatives['count']:,}{different} for each click, in {sets}"


_LEVELS = {
    "positive": "the clicked item",
    "history": "anything that the user clicked before",
    "user": "anything that the user clicked in training",
    "session": "anything clicked in the same session",
    "listed": "anything that the click's list names",
}


def levels(negatives: Mapping[str, Any]) -> list[str]:
    """The levels of exclusion of a resolved job file."""
    given = negatives["exclude"]
    return [level for level in (given if isinstance(given, list) else [given]) if level != "none"]


def _exclusion(negatives: Mapping[str, Any]) -> str:
    shared, named = negatives["per"] == "block", levels(negatives)
    if not named:
        return "none: a negative may be the clicked item itself, or one that the user had before"
    what = " or ".join(_LEVELS[level] for level in dict.fromkeys(["positive", *named]))
    if shared:
        fate = "are listed as hits, to be masked out of that click's softmax"
        return f"{', '.join(named)}: pool slots that hold {what} {fate}"
    shortage = (
        "such clicks are masked" if negatives.get("shortage") == "mask" else "the job fails if nothing else is left"
    )
    return f"{', '.join(named)}: {what} is never drawn; {shortage}"


def _availability(items: Mapping[str, Any]) -> list[tuple[str, str]]:
    limits = [items.get(name) for name in ("available_from", "available_to")]
    if limits == [None, None]:
        return []
    since, until = (f" {word} {name}" if name else "" for word, name in zip(("from", "before"), limits, strict=True))
    return [("available", f"an item is drawn only for clicks{since}{' and' if since and until else ''}{until}")]


def _weights(weight: Mapping[str, Any] | None) -> str:
    if weight is None:
        return ""
    rest = "those of weight 0 are no examples, but stay in histories"
    if "values" not in weight:
        return f"clicks weigh what {weight['column']} says; {rest}"
    events = ", ".join(f"{event} {value:g}" for event, value in weight["values"].items())
    other = f"any other {weight['default']:g}" if "default" in weight else "clicks of any other are rejected"
    return f"by {weight['column']}: {events}, {other}; {rest}"


def _frequencies(spec: Mapping[str, Any]) -> str:
    parts = ["sums of the clicks' weights" if spec.get("weighted") else "training clicks"]
    if "window" in spec:
        parts.append(f"of the last {spec['window']}")
    if "half_life" in spec:
        parts.append(f"each half as much for every {spec['half_life']} of age")
    plain = not spec.get("weighted") and len(parts) == 1
    return "" if plain else f"proposals count {', '.join(parts)}, before the latest training click"


def _cap(per_user: int | None, layout: Mapping[str, Any]) -> str:
    if per_user is None:
        return ""
    rest = "the others have weight 0" if layout["kind"] == "sequence" else "the others are in histories alone"
    return f"at most {counted(per_user, 'click')} of a user in each set of negatives, others in each; {rest}"


def inherited(statistics: Mapping[str, Any]) -> Iterator[str]:
    """What a dataset goes on from, if anything."""
    told = statistics.get("inherited")
    if told:
        gone = f", {told['gone']:,} of them gone from the item table" if told["gone"] else ""
        yield f"indices go on from {told['path']}: {counted(told['items'], 'item')}{gone}"


def examples(counts: Mapping[str, int], layout: str) -> Iterator[str]:
    """Lines on training clicks that are no examples, from the manifest's `statistics.examples`; none where all are."""
    what = "have weight 0 in the records" if layout == "sequence" else "are in histories alone"
    if counts.get("without_weight"):
        yield f"  {counted(counts['without_weight'], 'training click')} without weight, no examples: they {what}"
    if counts.get("over_cap"):
        yield (
            f"  {counted(counts['over_cap'], 'training click')} of {counted(counts['capped_users'], 'user')} over "
            f"examples.per_user: in each set of negatives so many {what}; {counts['a_set']:,} of "
            f"{counts['training_clicks']:,} are examples"
        )


def _layout(layout: Mapping[str, Any], negatives: Mapping[str, Any]) -> str:
    if layout["kind"] == "row":
        return f"row: one click a record, with its {1 + negatives['count']:,} candidates in full"
    if layout["kind"] == "sequence":
        return (
            f"sequence: users' clicks in order, up to {layout['positions']:,} a record in windows of up to "
            f"{layout['window']:,}; each click is stored once and is the history of those behind it"
        )
    return f"block: {counted(layout['clicks'], 'click')} a record, each item that they use stored once"


def _history(history: Mapping[str, Any]) -> str:
    if not history["features"]:
        return "none: no history.features are configured"
    ties = {
        "order": "clicks of the same time are ordered by item",
        "exclude": "clicks of the same time do not see each other",
    }[history["ties"]]
    return f"the {history['length']:,} latest earlier clicks, as {', '.join(history['features'])}; {ties}"


def _split(split: Mapping[str, Any]) -> str:
    if split["kind"] == "leave_last":
        return "leave_last: each user's last click is the test, the one before it the validation"
    if split["kind"] == "time":
        validation = f", validation from {split['validation_from']}" if split.get("validation_from") is not None else ""
        return f"time: test from {split['test_from']}{validation}, training before"
    return "none: every click is for training"


def agreement(observed: Mapping[str, Any], strategies: Sequence[Mapping[str, Any]] = ()) -> tuple[bool, str]:
    """(whether the draws follow the declared proposal, why) from the manifest's figures.

    All draws together, and each strategy's for itself: one that is wrong may not hide behind the others.
    """
    draws, p_value, degrees = observed["draws"], observed["p_value"], observed["degrees"]
    if not draws:
        return True, "Nothing was drawn."
    worst = min(strategies, key=lambda one: one["p_value"], default=observed)
    if min(p_value, worst["p_value"]) < 1e-6:
        which = f" of {worst['strategy']}" if len(strategies) > 1 else ""
        return False, (
            f"The draws{which} do NOT follow the declared proposal: chance alone gives so large a difference in fewer "
            f"than one of a million runs (p = {min(p_value, worst['p_value']):.2g}). Please report this with the job "
            "file."
        )
    chance = degrees / (2 * draws)
    surprise = (
        f"if the draws follow the proposal exactly, {p_value:.0%} of runs differ from it at least this much by chance"
        if p_value >= 0.001
        else f"only {p_value:.2%} of right runs differ this much; a second seed will tell whether it was chance"
    )
    return True, (
        f"The draws follow the declared proposal: {surprise} (p = {p_value:.2g}). "
        f"The divergence from it is {observed['kl']:.2g} nats, where chance alone gives about {chance:.2g}."
    )


STRATEGY_COLUMNS = ("strategy", "slots", "drawn", "refused", "fallen back", "p-value", "KL")


def strategy_rows(proposal: Mapping[str, Any]) -> list[list[str]]:
    """What each strategy of a mixture drew, under STRATEGY_COLUMNS; nothing to tell where they are one distribution."""
    found = proposal.get("strategies", [])
    if len(found) < 2:
        return []
    rows = []
    for one in found:
        counts = [f"{one[name]:,}" for name in ("slots", "draws", "refused", "fallen_back")]
        name = f"{one['strategy']} ({one['share']:.0%})"
        rows.append([name, *counts, f"{one['p_value']:.3g}", f"{one['kl']:.2g}"])
    return rows


LEFT_OUT = {"unknown": "of no item", "positive": "of the clicked item itself", "repeated": "repeated"}


def lists(given: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A sentence for each kind of list beside the clicks, from the manifest's `statistics.given`."""
    sentences = []
    for name, figures in given.items():
        mean = figures["items"] / max(figures["with_list"], 1)
        text = f"{name}: {figures['with_list']:,} of {counted(figures['clicks'], 'click')} have a list"
        text += f", of {mean:,.1f} items on average"
        left_out = [f"{figures[why]:,} {what}" for why, what in LEFT_OUT.items() if figures.get(why)]
        sentences.append(text + (f"; ids left out: {', '.join(left_out)}" if left_out else ""))
    return sentences
