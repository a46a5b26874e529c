"""Prompt files that a visitor uploads, and what is said of them before anything is drawn."""

from __future__ import annotations

from html import escape
from pathlib import Path

from dit_prune_viz.app.session.tradeoff import uploaded_file
from dit_prune_viz.experiments.prompts import PromptSet, read_prompts

_PROMPTS, _CATEGORIES, _LENGTH = 3, 12, 160


def uploaded_files(given: object, uploads: Path) -> tuple[str, ...]:
    """The paths of the prompt files that a visitor uploaded, one or several; empty for none.

    Args:
        given: as the browser names them.
        uploads: the folder into which the app puts what visitors upload.

    Raises:
        UserError: as `uploaded_file` does for any of them.
    """
    paths = given if isinstance(given, list) else [given]
    found = (uploaded_file(path, uploads) for path in paths)
    return tuple(path for path in found if path is not None)


def preview(files: tuple[str, ...]) -> str:
    """What was read, as HTML: how many prompts, categories, duplicates and over-long ones, and the first prompts.

    Raises:
        UserError: files that are no list of prompts.
    """
    return show(read_prompts(files)) if files else ""


def show(chosen: PromptSet) -> str:
    """The preview of a set that was read."""
    sizes = list(chosen.sizes.items())
    kinds = ", ".join(f"{escape(name)} {count:,}" for name, count in sizes[:_CATEGORIES])
    kinds += f" and {len(sizes) - _CATEGORIES:,} more" if len(sizes) > _CATEGORIES else ""
    first = "".join(f"<li>{escape(_short(prompt))}</li>" for prompt in chosen.prompts[:_PROMPTS])
    rest = len(chosen.prompts) - _PROMPTS
    more = f"<li>and {rest:,} more</li>" if rest > 0 else ""
    return (
        f'<div class="prompt-preview"><p role="status"><strong>{escape(chosen.summary)}</strong></p>'
        f"{f'<p>{kinds}</p>' if kinds else ''}<ul>{first}{more}</ul></div>"
    )


def _short(prompt: str) -> str:
    text = " ".join(prompt.split())
    return text if len(text) <= _LENGTH else text[: _LENGTH - 1] + "…"
