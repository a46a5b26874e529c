"""What tells a transformer, and a pipeline with it, from others: digests of settings and of sampled weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

from dit_prune_viz.pipelines.denoisers import is_denoiser
from dit_prune_viz.pipelines.resting import Resting

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_SAMPLES = 64

Sample = Mapping[str, bytes]
"""Parameter → its shape and up to 64 of its values, which is what a digest sees of it."""


def fingerprint(transformer: nn.Module, samples: Mapping[str, Sample] | None = None) -> str:
    """Sha256 hex digest over the configuration, every parameter's name and shape, and up to 64 values of each.

    Cheap for any size, and the same on every device; loading in another precision than the stored one changes it, as
    it changes the masks.

    Args:
        transformer: one denoiser, or several as `Denoisers`.
        samples: part → what `sample` said of it before it went to where its weights rest; others are looked at now.
    """
    known = {part: one for part, one in (samples or {}).items() if is_denoiser(part)}
    if len(known) > 1:
        whole = {f"{part}.{name}": values for part, one in known.items() for name, values in one.items()}
    else:
        whole = next(iter(known.values()), None) or sample(transformer)
    return hashlib.sha256(_settings(transformer) + _joined(whole)).hexdigest()


def identity(pipeline: DiffusionPipeline, transformer: str, samples: Mapping[str, Sample] | None = None) -> str:
    """The fingerprint of the transformer together with all else that a picture depends on, as a sha256 hex digest.

    Args:
        pipeline: whose scheduler, autoencoder and text encoders count.
        transformer: its fingerprint.
        samples: as in `fingerprint`.
    """
    digest = hashlib.sha256(transformer.encode())
    for name, component in sorted(pipeline.components.items()):
        if is_denoiser(name) or not hasattr(component, "config"):
            continue
        digest.update(name.encode())
        if isinstance(component, nn.Module):
            digest.update(_joined((samples or {}).get(name) or sample(component)))
        else:
            digest.update(_settings(component))
    return digest.hexdigest()


def sample(module: nn.Module) -> dict[str, bytes]:
    """What a digest sees of a module's parameters, wherever they rest."""
    found, resting = {}, Resting(module)
    for name, _ in module.named_parameters():
        parameter = resting(name)
        flat = parameter.reshape(-1)
        values = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES]
        found[name] = f"{tuple(parameter.shape)}".encode() + values.float().cpu().numpy().tobytes()
    return found


def _joined(one: Sample) -> bytes:
    return b"".join(name.encode() + one[name] for name in sorted(one))


def _settings(component: object) -> bytes:
    """The configuration of a part of a pipeline, without what loading adds to it."""
    config = component.config if isinstance(component.config, Mapping) else component.config.to_dict()
    config = {key: value for key, value in config.items() if not key.startswith("_")}
    return json.dumps(config, sort_keys=True, default=str).encode()
