"""Numbers as people read them: units always said, no more digits than mean something."""

from __future__ import annotations

import math


def count(value: int) -> str:
    """1,234 in full, then 12.3 k, 20.28 M, 11.90 B."""
    for limit, divisor, suffix in ((1e4, 1, ""), (1e6, 1e3, " k"), (1e9, 1e6, " M")):
        if abs(value) < limit:
            return f"{value:,}" if divisor == 1 else f"{value / divisor:.4g}{suffix}"
    return f"{value / 1e9:.4g} B"


def percent(share: float, digits: int = 3) -> str:
    """50 %, 62.5 %, 0.51 %, 0.041 %, under 0.001 %: so many digits that mean something, two below 1 %.

    What is not all is never called 100 %, and what is not nothing never 0 %.

    Args:
        share: 1 is all.
        digits: from 1 % on, of which at most two are decimals.
    """
    value = 100 * share
    if 0 < abs(value) < 0.001:
        return "under 0.001 %"
    if 99.99 < value < 100:
        return "over 99.99 %"
    if abs(value) < 1:
        return f"{float(f'{value:.2g}'):.12g} %"
    decimals = min(2, max(0, digits - len(str(int(abs(value))))))
    if value < 100 <= round(value, decimals):
        decimals = 2
    return f"{round(value, decimals):.12g} %"


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
    """+1.25 or −0.40, with a real minus sign; a dash for NaN, where there is nothing to tell."""
    return "–" if math.isnan(value) else f"{value:+.{digits}f}".replace("-", "−")


def score(value: float, digits: int = 2) -> str:
    """29.31; a dash for NaN, where no score applies."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def known(value: float) -> float | None:
    """The value for JSON, which has no NaN."""
    return None if math.isnan(value) else value


def size(value: int) -> str:
    """Bytes in decimal units: 512 bytes, 81.1 kB, 40.6 MB, 23.8 GB, 108 GB."""
    if value < 1000:
        return f"{value} bytes"
    unit, divisor = next(pair for pair in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if value >= pair[1])
    return f"{value / divisor:.3g} {unit}" if value < 100 * divisor else f"{value / divisor:,.0f} {unit}"
