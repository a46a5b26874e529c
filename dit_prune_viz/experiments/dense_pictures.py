"""The dense model's pictures, drawn once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dit_prune_viz.generation.batch import Picture, draw_batch
from dit_prune_viz.generation.request import Request
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.steps import Denoised


class DenseStore:
    """One file (npz, no pickle) per picture, named after everything that decides it; damaged files are drawn anew."""

    def __init__(self, folder: Path, model: Model) -> None:
        self._folder, self._model = folder, model

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

    def _path(self, request: Request) -> Path:
        model = self._model
        decides = [model.identity, str(model.dtype), model.device.type, model.defaults.max_sequence_length]
        text = json.dumps([*decides, vars(request)], sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"

    def _read(self, request: Request) -> Picture | None:
        try:
            with np.load(self._path(request), allow_pickle=False) as file:
                return Picture(Image.fromarray(file["picture"]), torch.from_numpy(file["latents"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def _write(self, request: Request, picture: Picture) -> None:
        path = self._path(request)
        part = path.with_suffix(f".{os.getpid()}.part")
        with suppress(OSError):  # a full disk costs the time to draw it again, not the measurement
            self._folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.savez_compressed(
                    file, picture=np.asarray(picture.image.convert("RGB")), latents=picture.latents.numpy()
                )
            os.replace(part, path)  # never half a file under the final name
