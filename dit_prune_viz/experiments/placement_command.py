"""`dit-prune-viz placement`: where a model's parts would lie on given GPUs, before anything is downloaded or loaded."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.known_models import KNOWN_MODELS
from dit_prune_viz.pipelines.placement import PCIE, Memory, PartSize, Placement, gigabytes, plan_placement

_GB = 10**9
_WORDS = {
    "device": "all on the GPU",
    "balanced": "spread over the GPUs",
    "offload": "each part only while it runs",
    "stream": "block by block",
    "cpu": "all on the CPU",
}


def add_placement(commands) -> list[argparse.ArgumentParser]:
    """Add the command to the parsers of a command line."""
    words = "say where a model's parts would lie on given GPUs"
    parser = commands.add_parser("placement", help=words)
    parser.set_defaults(do=_placement)
    add = parser.add_argument
    add("--model", help="a folder, read but not loaded (the public models whose shapes are known)")
    add("--gpu", default="24,48,80", help="GB free on the GPU, with commas between several (%(default)s)")
    add("--ram", type=float, default=64, help="GB free in the machine's memory (%(default)s)")
    add("--dtype", default="bfloat16", help="bfloat16, float16, float32 (%(default)s)")
    return [parser]


def placement_table(sizes: dict[str, Sequence[PartSize]], cards: Sequence[float], ram: float) -> str:
    """What happens to each model on each card, as Markdown.

    Args:
        sizes: name for people → sizes of the model's parts.
        cards: GB free on each GPU.
        ram: GB free in the machine's memory.
    """
    lines = [f"| model | weights | {' | '.join(f'{card:g} GB' for card in cards)} |", "|---" * (2 + len(cards)) + "|"]
    sentences = []
    for name, parts in sizes.items():
        planned = [_plan(parts, card, ram) for card in cards]
        cells = [one if isinstance(one, str) else _cell(one) for one in planned]
        lines.append(f"| {name} | {gigabytes(sum(part.nbytes for part in parts))} | {' | '.join(cells)} |")
        sentences.append(f"**{name}** ({', '.join(_parts(parts))})\n")
        sentences += [
            f"- {card:g} GB: {one if isinstance(one, str) else one.sentence}"
            for card, one in zip(cards, planned, strict=True)
        ]
        sentences.append("")
    return "\n".join([*lines, "", *sentences]).rstrip()


def _plan(parts: Sequence[PartSize], card: float, ram: float) -> Placement | str:
    try:
        return plan_placement(parts, Memory("cuda", (int(card * _GB),), int(ram * _GB)))
    except UserError as refusal:
        return str(refusal)


def _cell(placement: Placement) -> str:
    time = "" if placement.seconds is None else f", at least {placement.seconds:.1f} s a pass"
    disk = " from the disk" if placement.disk else ""
    return f"{_WORDS[placement.kind]}{disk}: {gigabytes(placement.peak)}{time}"


def _parts(parts: Sequence[PartSize]) -> Iterator[str]:
    for part in parts:
        blocks = f" in {len(part.blocks)} blocks" if part.transformer and part.blocks else ""
        yield f"{part.name} {gigabytes(part.nbytes)}{blocks}"


def _placement(options: argparse.Namespace) -> None:
    from dit_prune_viz.pipelines.device import choose_device, choose_dtype

    try:
        cards = [float(card) for card in options.gpu.split(",")]
    except ValueError:
        raise UserError(f"--gpu takes numbers of GB such as 24,48, not {options.gpu!r}.") from None
    dtype = choose_dtype(options.dtype, choose_device("cpu"))
    print(placement_table(dict(_sizes(options.model, dtype)), cards, options.ram))
    print(f"\nTimes are of moving weights at {PCIE / _GB:.0f} GB/s, as PCIe 4.0 ×16 does at best; none is measured.")


def _sizes(model: str | None, dtype) -> Iterator[tuple[str, list[PartSize]]]:
    if model is not None:
        from dit_prune_viz.pipelines.load_settings import LoadSettings
        from dit_prune_viz.pipelines.loading import find_parts
        from dit_prune_viz.pipelines.placement import stored_sizes
        from dit_prune_viz.pipelines.source import find_source

        yield Path(model).name, stored_sizes(find_parts(find_source(LoadSettings(model))), dtype)
        return
    from dit_prune_viz.pipelines.published_shapes import PUBLISHED, published_sizes

    for hub_id in PUBLISHED:
        yield KNOWN_MODELS[hub_id].name, published_sizes(hub_id, dtype)
