"""A job for one day (`--date D`): what it writes, which clicks it reads, and where its split lies.

Days are UTC. The end of D is its last moment, excluded. Everything follows from D and the configuration, never from
today's date, so that a day gives the same dataset whenever it is run on the same inputs, in whatever order days are.

    output             <output.path>/dt=D
    {date}, {first}, {last} in paths and filters of inputs: D; the day in which the window begins; the last one of which
                       late arrivals are taken
    clicks             (pipelines/period.py) time in [end - clicks.window, end); without a window all before the end
    clicks.arrived     < end + clicks.watermark, so that a rerun long afterwards reads no more than one just after that
    split.test_from    -1d: so long before the end
"""

import datetime as dt

from pipelines import duration
from pipelines.config import Config


def end_of(date: dt.date) -> dt.datetime:
    """The first moment after a day."""
    return dt.datetime(date.year, date.month, date.day, tzinfo=dt.UTC) + dt.timedelta(days=1)


def before(end: dt.datetime, span: str) -> dt.datetime:
    """The moment that lies a span of time before another."""
    return end - dt.timedelta(microseconds=round(duration.seconds(span) * 1_000_000))


def after(end: dt.datetime, span: str) -> dt.datetime:
    """The moment that lies a span of time after another."""
    return end + (end - before(end, span))


def for_date(config: Config) -> Config:
    """The configuration with all that counts from its date told outright, or as it is where it has none."""
    if config.date is None:
        return config
    end, clicks, split = end_of(config.date), config.clicks, config.split
    names = {"date": config.date, "last": config.date}
    if clicks.window is not None:
        names["first"] = before(end, clicks.window).date()
    if clicks.watermark is not None:
        names["last"] = (after(end, clicks.watermark) - dt.timedelta(microseconds=1)).date()
    updates: dict[str, object] = {}
    for name in ("clicks", "items", "users", "impressions"):
        source = getattr(config, name)
        if source is not None:
            texts = {"path": source.path, "filter": source.filter}
            updates[name] = source.model_copy(update={key: _filled(text, names) for key, text in texts.items()})
    if split.kind == "time":
        moments = {"test_from": split.test_from, "validation_from": split.validation_from}
        told = {key: before(end, value[1:]) if isinstance(value, str) else value for key, value in moments.items()}
        updates["split"] = split.model_copy(update=told)
    path = f"{config.output.path.rstrip('/')}/dt={config.date:%Y-%m-%d}"
    updates["output"] = config.output.model_copy(update={"path": path})
    return config.model_copy(update=updates)


def _filled(text: str | None, names: dict[str, dt.date]) -> str | None:
    for name, day in names.items():
        text = None if text is None else text.replace(f"{{{name}}}", f"{day:%Y-%m-%d}")
    return text
