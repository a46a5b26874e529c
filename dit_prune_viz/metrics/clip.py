"""CLIP score: how well a picture fits its text, by a CLIP checkpoint that is always named beside the number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.building import BUILDING
from dit_prune_viz.pipelines.device import choose_device, out_of_memory, telling_of_memory
from dit_prune_viz.pipelines.hub import Checkout, cached, download, hub_files, is_hub_id, unreachable
from dit_prune_viz.pipelines.source import LOAD_ERRORS, local_path
from dit_prune_viz.pipelines.unread_words import unread_words

if TYPE_CHECKING:
    from transformers import BatchEncoding, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

_BATCH = 32
_FILES = (".json", ".txt", ".safetensors")


class ClipScorer:
    """Embeds pictures and texts with one CLIP checkpoint and compares them.

    Attributes:
        name: the checkpoint's name, to be shown with every score: scores of two checkpoints are not comparable.
    """

    def __init__(self, name: str, model: CLIPModel, tokenizer: CLIPTokenizer, processor: CLIPImageProcessorPil):
        self.name = name
        self._model, self._tokenizer, self._processor = model, tokenizer, processor
        self._length = min(tokenizer.model_max_length, model.config.text_config.max_position_embeddings)

    @property
    def parameters(self) -> int:
        """How many parameters the checkpoint has."""
        return self._model.num_parameters()

    def score(self, images: Sequence[Image.Image], texts: Sequence[str]) -> np.ndarray:
        """100·cos of each picture with the text at its place, float64 (n,), from −100 to 100.

        What people see is `mean_clip` of them, also for a single picture.

        Args:
            images: pictures of any size and mode.
            texts: as many.

        Raises:
            UserError: not as many texts as pictures.
        """
        if len(images) != len(texts):
            raise UserError(f"Each picture needs one text: {len(images)} pictures and {len(texts)} texts.")
        return 100 * (self.embed_images(images) * self.embed_texts(texts)).sum(-1).double().numpy()

    def embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Unit vectors (n, d) float32 on the CPU; pictures of any size and mode."""
        return self._embed([image.convert("RGB") for image in images], self._image_features)

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors (n, d) float32 on the CPU; a text longer than the model reads is cut off."""
        return self._embed(list(texts), self._text_features)

    def words_not_scored(self, text: str) -> str:
        """The end of a text that is cut off before it is scored, from the first word that is not read in full; ""
        where all is read."""
        return unread_words(text, lambda part: self._tokens([part])["input_ids"])

    def _image_features(self, images: list[Image.Image]) -> torch.Tensor:
        pixels = self._processor(images=images, return_tensors="pt")["pixel_values"]
        return self._model.get_image_features(pixel_values=pixels.to(self._model.device)).pooler_output

    def _text_features(self, texts: list[str]) -> torch.Tensor:
        return self._model.get_text_features(**self._tokens(texts).to(self._model.device)).pooler_output

    def _tokens(self, texts: list[str]) -> BatchEncoding:
        return self._tokenizer(
            texts, padding="max_length", truncation=True, max_length=self._length, return_tensors="pt"
        )

    @torch.no_grad()
    def _embed(self, items: list, features) -> torch.Tensor:
        parts = [features(items[start : start + _BATCH]) for start in range(0, len(items), _BATCH)]
        if not parts:
            return torch.zeros(0, self._model.config.projection_dim)
        return torch.nn.functional.normalize(torch.cat(parts).float(), dim=-1).cpu()


def load_clip(source: str | Path, *, name: str | None = None, device: str | torch.device = "cpu") -> ClipScorer:
    """Open a `transformers.CLIPModel` from a folder or the hub; safetensors only, in float32.

    Args:
        source: folder with model, tokenizer and image processor, or a hub id.
        name: shown beside every score; None takes the folder's name or the hub id.
        device: where it runs.

    Raises:
        UserError: no such folder or id, not a CLIP model, pickle-only weights, a download that fails, too
            little memory.
    """
    path = local_path(source)
    target = _find(str(source), path)
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer  # takes a second

    too_large = f"The CLIP {source} does not fit into the memory; close other programs, or choose a smaller one."
    with telling_of_memory(too_large):
        try:
            # The PIL image processor needs no torchvision.
            with BUILDING:
                model, report = CLIPModel.from_pretrained(
                    target, use_safetensors=True, dtype=torch.float32, output_loading_info=True
                )
            tokenizer = CLIPTokenizer.from_pretrained(target)
            processor = CLIPImageProcessorPil.from_pretrained(target)
        except LOAD_ERRORS as error:
            if out_of_memory(error):
                raise
            raise UserError(f"{source} is not a CLIP model that can be opened: give its folder or hub id.") from error
        if report["missing_keys"]:  # weights of another kind of model: the rest would be random numbers
            raise UserError(f"{source} is not a CLIP model: weights are missing; give a CLIP model's folder or hub id.")
        model.eval().requires_grad_(False).to(choose_device(device))
    return ClipScorer(name or (path.resolve().name if path else str(source)), model, tokenizer, processor)


def _find(source: str, path: Path | None) -> str:
    """The folder to open, after a look at its files; what the hub has is downloaded."""
    if path is not None:
        _check_folder(path)
        return str(path)
    if not is_hub_id(source):
        raise UserError(
            f"There is no folder {source[:200]!r}; give the folder of a CLIP model or a hub id like org/name."
        )
    model = Checkout(source)
    listing = hub_files(model)
    if listing is None:
        file = cached(model, ["config.json"])
        if file is None:
            raise unreachable(model)
        _check_folder(file.parent)
        return str(file.parent)
    if not any(file.endswith(".safetensors") for file in listing.sizes):
        raise UserError(f"{source} has no safetensors weights; choose another CLIP model.")
    wanted = [file for file in listing.sizes if "/" not in file and file.endswith(_FILES)]
    return str(download(model, wanted, listing))


def _check_folder(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise UserError(f"{path} has no config.json; give the folder of a transformers CLIP model.")
    if not any(path.glob("*.safetensors")):
        raise UserError(f"{path} has no safetensors weights; save the CLIP model with safe_serialization=True.")
