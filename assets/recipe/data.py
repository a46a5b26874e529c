"""Draw the emoji and write their captions: `pictures.npy` (n, 3, 128, 128) uint8 and `captions.json`.

Pictures: Noto Color Emoji (OFL 1.1), drawn at its native 109 px and laid on white.
Names and keywords: Unicode CLDR annotations (Unicode licence); groups: emoji-datasource (MIT).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from common import IMAGE_SIZE, arguments, work_dir
from PIL import Image, ImageDraw, ImageFont

GROUPS = {
    "Smileys & Emotion": None,
    "Animals & Nature": None,
    "Food & Drink": None,
    "Travel & Places": {"transport-air", "transport-ground", "transport-water", "sky & weather"},
}


def draw(font: ImageFont.FreeTypeFont, text: str) -> np.ndarray:
    """One glyph on white, fitted into 124×116 and centred: uint8 (128, 128, 3)."""
    glyph = Image.new("RGBA", (136, 128), (255, 255, 255, 0))
    ImageDraw.Draw(glyph).text((0, 0), text, font=font, embedded_color=True)
    glyph = glyph.resize((124, 117), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (IMAGE_SIZE, IMAGE_SIZE), (255, 255, 255, 255))
    canvas.alpha_composite(glyph, ((IMAGE_SIZE - 124) // 2, (IMAGE_SIZE - 117) // 2))
    return np.asarray(canvas.convert("RGB"))


def main() -> None:
    args = arguments(
        __doc__,
        font="/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
        emoji=str(work_dir() / "emoji-datasource/package/emoji.json"),
        annotations=str(work_dir() / "cldr-annotations-full/package/annotations/en/annotations.json"),
    )
    font = ImageFont.truetype(args.font, 109)
    annotations = json.loads(Path(args.annotations).read_text())["annotations"]["annotations"]
    pictures, records, seen = [], [], set()
    for entry in sorted(json.loads(Path(args.emoji).read_text()), key=lambda e: e["sort_order"]):
        wanted = GROUPS.get(entry["category"], set())
        if wanted is not None and entry["subcategory"] not in wanted:
            continue
        text = "".join(chr(int(code, 16)) for code in entry["unified"].split("-"))
        note = annotations.get(text) or annotations.get(text.replace("\ufe0f", ""))
        name = (
            (note["tts"][0] if note else entry["name"])
            .lower()
            .replace("\u2019", "'")
            .replace("\u201c", "")
            .replace("\u201d", "")
        )
        name = name.replace(": ", " ")
        picture = draw(font, text)
        if name in seen or (picture < 250).sum() < 500 or picture.tobytes() in seen:
            print("left out:", name)
            continue
        seen |= {name, picture.tobytes()}
        keywords = [k.lower() for k in (note or {}).get("default", []) if k.lower() != name and k.isascii()]
        pictures.append(picture.transpose(2, 0, 1))
        records.append({"name": name, "keywords": keywords[:8], "group": entry["subcategory"]})
    np.save(work_dir() / "pictures.npy", np.stack(pictures))
    (work_dir() / "captions.json").write_text(json.dumps(records, indent=0, ensure_ascii=False))
    print(f"{len(records)} pictures in {work_dir()}")


if __name__ == "__main__":
    main()
