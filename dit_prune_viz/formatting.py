"""Numbers as people read them: units always said, no more digits than mean something."""

from __future__ import annotations


def count(value: int) -> str:
    """1,234 in full, then 12.3 k, 20.28 M, 11.90 B."""
    for limit, divisor, suffix in ((1e4, 1, ""), (1e6, 1e3, " k"), (1e9, 1e6, " M")):
        if abs(value) < limit:
            return f"{value:,}" if divisor == 1 else f"{value / divisor:.4g}{suffix}"
    return f"{value / 1e9:.4g} B"


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def counted(number: int, noun: str) -> str:
    """ "1 prompt", "8 prompts"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def seconds(value: float) -> str:
    """12 s, 3 min 20 s, 42 min, 2 h 20 min."""
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def signed(value: float, digits: int = 2) -> str:
    """+1.25 or −0.40, with a real minus sign."""
    return f"{value:+.{digits}f}".replace("-", "−")


def size(value: int) -> str:
    """Bytes in decimal units: 512 bytes, 81.1 kB, 40.6 MB, 23.8 GB, 108 GB."""
    if value < 1000:
        return f"{value} bytes"
    unit, divisor = next(pair for pair in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if value >= pair[1])
    return f"{value / divisor:.3g} {unit}" if value < 100 * divisor else f"{value / divisor:,.0f} {unit}"
