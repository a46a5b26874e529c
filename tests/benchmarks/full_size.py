"""Memory of a model of full width: how much more a pruned run takes than a dense one, each in a process of its own.

    python tests/benchmarks/run.py --only pruned_peak_memory_ratio

The transformer has FLUX's width (3072) and few blocks, with random bfloat16 weights: over a billion, 2 GB.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

DUAL, SINGLE = 2, 3  # blocks of each kind
LATENT, TEXT = 16, 8  # tokens of a call
SCALE = 0.02  # of the weights
MEDIAN = 0.6745 * SCALE  # of their absolute values, so that masks keep half of them
GOAL = 1.10


def _transformer():
    import torch
    from diffusers import FluxTransformer2DModel

    noise = SCALE * torch.randn(8_000_009, generator=torch.Generator().manual_seed(0))
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(num_layers=DUAL, num_single_layers=SINGLE, guidance_embeds=True)
    transformer = transformer.to(torch.bfloat16).to_empty(device="cpu").requires_grad_(False).eval()
    for name, parameter in transformer.named_parameters():
        if parameter.ndim > 1:  # piece by piece, so that no float32 copy counts as memory of the run
            pieces = parameter.view(-1).split(len(noise))
            for piece in pieces:
                piece.copy_(noise[: len(piece)])
        else:
            parameter.fill_(float(name.endswith("weight")))
    return transformer


def _call(transformer) -> None:
    import torch

    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int):
        return torch.randn(shape, generator=generator).to(torch.bfloat16)

    with torch.no_grad():
        transformer(
            hidden_states=noise(1, LATENT, 64),
            encoder_hidden_states=noise(1, TEXT, 4096),
            pooled_projections=noise(1, 768),
            timestep=torch.tensor([0.5]),
            guidance=torch.tensor([3.5]),
            img_ids=torch.zeros(LATENT, 3),
            txt_ids=torch.zeros(TEXT, 3),
        )


def _masks(transformer) -> dict:
    """Magnitude masks of every prunable layer."""
    import torch

    from dit_prune_viz.masks.packed_mask import PackedMask, pack
    from dit_prune_viz.masks.pruned_layer import PrunedLayer
    from dit_prune_viz.pipelines.layers import list_layers

    layers = {}
    for layer in list_layers(transformer):
        weight = transformer.get_submodule(layer.name).weight
        bits = [pack(rows.abs() > MEDIAN).bits for rows in weight.split(64)]  # of whole bytes
        layers[layer.name] = PrunedLayer(PackedMask(torch.cat(bits), tuple(weight.shape)))
    return layers


def run_one(kind: str) -> dict[str, float]:
    """Run a dense or a pruned model in this process; bytes at its peak, of its weights and of its masks."""
    from dit_prune_viz.masks.running import running_pruned

    transformer = _transformer()
    layers = _masks(transformer) if kind == "pruned" else {}
    with running_pruned(transformer, layers):
        _call(transformer)
    return {
        "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "weights": sum(parameter.nbytes for parameter in transformer.parameters()),
        "parameters": sum(parameter.numel() for parameter in transformer.parameters()),
        "masks": sum(layer.nbytes for layer in layers.values()),
    }


def memory_ratio() -> dict:
    """Peak memory of a pruned run ÷ that of a dense one, with the masks made in the same process."""
    found = {}
    for kind in ("dense", "pruned"):
        command = [sys.executable, str(Path(__file__).resolve()), kind]
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        found[kind] = json.loads(done.stdout.splitlines()[-1])
    ratio = found["pruned"]["peak"] / found["dense"]["peak"]
    return {"value": ratio, "unit": "×", "goal": f"≤ {GOAL:.2f}", "held": ratio <= GOAL, "detail": found}


BENCHMARKS = {"pruned_peak_memory_ratio": memory_ratio}

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    print(json.dumps(run_one(sys.argv[1])))
