"""Words for numbers, names and lists, as they stand in pictures and in their texts."""

from collections.abc import Callable, Sequence, Sized


def number(value: float) -> str:
    """Three digits: ``0.0735``, ``1e-5``."""
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")


def percent(value: float) -> str:
    """Of a value in 0..100."""
    return f"{value:.1f} %"


def span(values: Sequence, write: Callable[[float], str] = number) -> str:
    """``from FIRST to LAST``, or the only one."""
    if len(values) == 1:
        return write(values[0])
    return f"from {write(values[0])} to {write(values[-1])}"


def count(things: Sized, noun: str, plural: str = "s") -> str:
    """``1 picture``, ``2 pictures``."""
    ending = "" if len(things) == 1 else plural
    return f"{len(things)} {noun}{ending}"


def listing(items: list[str], limit: int, comma: str = ", ") -> str:
    """The first ``limit`` of them, and how many more there are."""
    shown = comma.join(items[:limit])
    hidden = len(items) - limit
    return f"{shown} and {hidden} more" if hidden > 0 else shown


def short(name: str, limit: int = 16) -> str:
    """The first of several synonyms, cut to ``limit`` characters."""
    first = str(name).split(",")[0]
    return cut(first.strip(), limit)


def cut(text: str, limit: int) -> str:
    """``text``, with … for what stands beyond ``limit`` characters."""
    if len(text) <= limit:
        return text
    return text[: limit - 1].rstrip() + "…"
