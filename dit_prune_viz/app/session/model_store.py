"""The models that all users of one app share: each is in memory once, with whatever follows from it in its cache."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from weakref import WeakValueDictionary

from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import Progress
from dit_prune_viz.metrics.clip import ClipScorer, load_clip
from dit_prune_viz.pipelines.also_prune import read_patterns
from dit_prune_viz.pipelines.lock import ModelLock
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.opening import open_model
from dit_prune_viz.pipelines.source import local_path


class ModelStore:
    """Loads models and the CLIP that scores pictures, each once.

    Models are held weakly: one that no session uses any more is freed, together with its cache.

    Args:
        clip: folder or hub id of the CLIP.
        clip_name: under which scores are shown; None takes the folder's or hub model's.
        device: as in `load_model`.
        dtype: as in `load_model`.
        disk: where calibrations are looked up and kept; None keeps none.
    """

    def __init__(
        self,
        *,
        clip: str | Path,
        clip_name: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        disk: DiskCache | None = None,
    ) -> None:
        self.disk = disk
        self.when_loaded: Callable[[Model], None] | None = None
        self._clip_source, self._clip_name = clip, clip_name
        self._device, self._dtype = device, dtype
        self._clip: ClipScorer | None = None
        self._clip_lock = threading.Lock()
        self._models: WeakValueDictionary[Hashable, Model] = WeakValueDictionary()
        self._loading = ModelLock()

    def model(self, source: str, progress: Progress | None = None, *, also_prune: tuple[str, ...] = ()) -> Model:
        """The model from a folder or hub id, its pipeline in memory once for all its users.

        Raises:
            UserError: as in `load_model`.
        """
        patterns = read_patterns(also_prune)
        with self._loading.hold(progress):
            if progress:
                progress(0, 1, f"Loading {source}")
            identity = _identity(source)
            model = self._models.get((identity, patterns))
            if model is None:
                loaded = next((one for (known, _), one in self._models.items() if known == identity), None)
                if loaded is not None:
                    model = loaded.also_pruning(patterns)
                else:
                    model = open_model(source, device=self._device, dtype=self._dtype, also_prune=patterns)
                self._models[identity, patterns] = model
                if self.when_loaded:
                    self.when_loaded(model)
            return model

    @property
    def clip_name(self) -> str:
        """The name under which scores are shown."""
        return self._clip_name or str(self._clip_source)

    def clip(self) -> ClipScorer:
        """The CLIP that scores pictures, opened at the first call.

        Raises:
            UserError: as in `load_clip`.
        """
        with self._clip_lock:
            if self._clip is None:
                self._clip = load_clip(self._clip_source, name=self._clip_name)
            return self._clip


def _identity(source: str) -> Hashable:
    """The same for two ways to write one folder, another one when the folder has been saved anew."""
    path = local_path(source)
    if path is None:
        return source
    index = path / "model_index.json"
    return str(path.resolve()), index.stat().st_mtime_ns if index.is_file() else None
