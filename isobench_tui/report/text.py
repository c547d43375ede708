"""How commands and screens write times, sizes and other people's text."""

from __future__ import annotations

from datetime import datetime


def clock(text: str) -> str:
    """A stored time as the local time of day."""
    return datetime.fromisoformat(text).astimezone().strftime("%H:%M:%S")


def span(seconds: float) -> str:
    """A duration: `8s`, `3m12s`, `2h05m`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def bytes_text(number: float) -> str:
    """A size in binary units."""
    for unit in ("B", "KiB", "MiB"):
        if abs(number) < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def number(value: float) -> str:
    """A measured value: two decimals, or four digits where that would hide a small one."""
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4g}"


def safe(text: str) -> str:
    """Text that came from outside, without anything that a terminal would obey."""
    return "".join(char if char.isprintable() else "�" for char in text)
