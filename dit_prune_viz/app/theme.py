"""Theme and launch options: one accent colour, system fonts only, nothing fetched from elsewhere."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.themes.utils.fonts import Font

from dit_prune_viz.app.widgets.scripts import script

HERE = Path(__file__).parent / "pages"
NAMES = (
    "page.css",
    "map/page.css",
    "compare/workbench.css",
    "compare/xy_grid.css",
    "parts/page.css",
    "takeaway/page.css",
    "topbar/hints.css",
)
SHEETS = [HERE / name for name in NAMES]
SANS = [Font(name) for name in ("system-ui", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")]
MONO = [Font(name) for name in ("ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")]

ACCENT = gr.themes.Color(
    name="accent",
    c50="#eef7fc",
    c100="#d9edf8",
    c200="#b0d9f0",
    c300="#82c5ea",
    c400="#56b4e9",
    c500="#1b87c6",
    c600="#0072b2",
    c700="#005f96",
    c800="#004c78",
    c900="#063a5a",
    c950="#04253b",
)
"""Okabe and Ito's blue, dark enough to carry white text, and their sky blue for dark pages."""


def theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue=ACCENT,
        secondary_hue=ACCENT,
        neutral_hue="slate",
        spacing_size="sm",
        radius_size="md",
        text_size="sm",
        font=SANS,
        font_mono=MONO,
    ).set(
        body_background_fill="#f6f8fa",
        body_background_fill_dark="#0d131c",
        block_background_fill="white",
        block_background_fill_dark="#161d28",
        border_color_primary="#dde3ea",
        border_color_primary_dark="#2a3442",
        block_border_width="1px",
        block_border_color="#dde3ea",
        block_border_color_dark="#2a3442",
        block_shadow="none",
        block_label_text_weight="500",
        block_title_text_color="#334155",
        block_title_text_color_dark="#d5dde8",
        block_title_text_weight="500",
        body_text_color_subdued="#566377",  # small print needs more contrast than the default's
        body_text_color_subdued_dark="#a3b0c2",
        block_info_text_color="#566377",
        block_info_text_color_dark="#a3b0c2",
        input_background_fill="#f2f5f8",
        input_background_fill_dark="#0f1620",
        input_border_width="1px",
        input_border_color="#d3dbe4",
        input_border_color_dark="#2f3b4b",
        input_border_color_focus="*primary_600",
        input_border_color_focus_dark="*primary_400",
        input_placeholder_color="#64748b",
        input_placeholder_color_dark="#94a3b8",
        color_accent="*primary_600",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_400",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_300",
        button_primary_text_color="white",
        button_primary_text_color_dark="*primary_950",
        button_primary_text_color_hover_dark="*primary_950",
        button_secondary_background_fill="#e9eef3",
        button_secondary_background_fill_dark="#243041",
        button_secondary_background_fill_hover="#dce4ec",
        button_secondary_background_fill_hover_dark="#2f3e53",
        checkbox_background_color_selected="*primary_600",
        checkbox_background_color_selected_dark="*primary_400",
        checkbox_border_color_selected="*primary_600",
        checkbox_border_color_selected_dark="*primary_400",
        checkbox_label_background_fill="#f2f5f8",
        checkbox_label_background_fill_dark="#1b2431",
        checkbox_label_background_fill_hover="#e9eef3",
        checkbox_label_background_fill_hover_dark="#243041",
        checkbox_label_background_fill_selected="#e2f0f9",
        checkbox_label_background_fill_selected_dark="#1a3348",
        link_text_color="*primary_600",
        link_text_color_dark="*primary_400",
        loader_color="*primary_600",
        loader_color_dark="*primary_400",
    )


def launch_options() -> dict:
    """For `Blocks.launch`: the look, no footer links that lead outside, no traceback in the page."""
    return {
        "theme": theme(),
        "css": "\n".join(sheet.read_text(encoding="utf-8") for sheet in SHEETS),
        "js": script("pages/accessible.js"),
        "footer_links": ["api", "settings"],
        "show_error": False,
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "share": False,
        "max_threads": 400,  # calls that wait take none, but gradio counts them
        "state_session_capacity": 200,  # about 1 MB each, which nothing else ever drops
        "quiet": True,
    }
