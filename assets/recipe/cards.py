"""Write the model cards: the texts in `cards/` with the numbers of `assets/evaluation.json`."""

from __future__ import annotations

import json
from pathlib import Path

from common import ASSETS

CARDS = Path(__file__).resolve().parent / "cards"


def write_cards() -> None:
    """Fill in both cards. Needs `evaluation.json`, as `evaluate.py` writes it."""
    found = json.loads((ASSETS / "evaluation.json").read_text())
    curves = {kind: found["corruptions"][kind] for kind in ("blur", "noise", "shuffle")}
    strengths = found["corruptions"]["strengths"]
    values = {
        "pictures": found["pictures"],
        "captions": found["clip_generations"]["captions"],
        "guidance": found["generation"]["guidance_scale"],
        "psnr": found["autoencoder"]["mean_psnr_db"],
        "real": 100 * found["clip_real_pictures"]["top1"],
        "real5": 100 * found["clip_real_pictures"]["top5"],
        "top1": 100 * found["clip_generations"]["top1"],
        "top5": 100 * found["clip_generations"]["top5"],
        "parameters": found["clip_parameters"] / 1e6,
        "sample": found["corruptions"]["pictures"],
        "strengths": " | ".join(f"{strength:g}" for strength in strengths),
        "rules": "|".join("---" for _ in strengths),
        **{kind: f"{curve['spearman']:.2f}" for kind, curve in curves.items()},
        **{f"{kind}_scores": " | ".join(f"{s:.0f}" for s in curve["scores"]) for kind, curve in curves.items()},
    }
    for folder in ("emoji-flux", "emoji-clip"):
        text = (CARDS / f"{folder}.md").read_text(encoding="utf-8")
        (ASSETS / folder / "README.md").write_text(text.format(**values), encoding="utf-8")


if __name__ == "__main__":
    write_cards()
