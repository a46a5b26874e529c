"""Theme and launch options: system fonts only, nothing fetched from elsewhere."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.themes.utils.fonts import Font

SANS = [Font(name) for name in ("system-ui", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")]
MONO = [Font(name) for name in ("ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")]


def theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue="blue",
        secondary_hue="blue",
        neutral_hue="slate",
        spacing_size="sm",
        radius_size="md",
        text_size="sm",
        font=SANS,
        font_mono=MONO,
    ).set(
        block_border_width="1px",
        block_shadow="none",
        block_label_text_weight="500",
        body_text_color_subdued="*neutral_500",  # small print needs more contrast than the default's 400
    )


def launch_options() -> dict:
    """For `Blocks.launch`: the look, no footer links that lead outside, no traceback in the page."""
    return {
        "theme": theme(),
        "css": (Path(__file__).parent / "style.css").read_text(encoding="utf-8"),
        "footer_links": ["api", "settings"],
        "show_error": False,
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "share": False,
        "quiet": True,
    }
