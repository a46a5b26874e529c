"""The dense model's pictures, drawn once and kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dit_prune_viz.disk_cache import DiskCache, content_key
from dit_prune_viz.generation.batch import Picture, draw_batch
from dit_prune_viz.generation.request import Request
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.steps import Denoised


class DenseStore:
    """An entry per picture under everything that decides it, in an experiment's folder and so without a bound."""

    def __init__(self, folder: Path, model: Model) -> None:
        self._cache, self._model = DiskCache(folder, limit=None), model

    def pictures(self, requests: Sequence[Request], on_step: Callable[[Denoised], None] | None = None) -> list[Picture]:
        """The dense pictures of one batch of checked requests. The batch is drawn whole if any of them is missing, so
        that the way in which a picture was batched does not depend on what was there before."""
        found = [self._read(request) for request in requests]
        if None not in found:
            return found
        drawn = draw_batch(self._model, requests, on_step=on_step)
        for request, picture in zip(requests, drawn, strict=True):
            self._write(request, picture)
        return drawn

    def _key(self, request: Request) -> str:
        model = self._model
        decides = [model.identity, str(model.dtype), model.device.type, model.defaults.max_sequence_length]
        return content_key("picture", decides, request.settings)

    def _read(self, request: Request) -> Picture | None:
        entry = self._cache.find(self._key(request))
        if entry is None:
            return None
        try:
            return Picture(Image.fromarray(entry.tensors["picture"].numpy()), entry.tensors["latents"])
        except (KeyError, TypeError, ValueError):
            return None

    def _write(self, request: Request, picture: Picture) -> None:
        pixels = torch.from_numpy(np.array(picture.image.convert("RGB")))
        self._cache.put(self._key(request), {"picture": pixels, "latents": picture.latents})
