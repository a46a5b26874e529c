"""What all users of one app share, each made once: loaded models, calibrations and what follows from them, weight
updates, the CLIP and the dense pictures."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from dit_prune_viz.app.session.shelf import UpdateShelf
from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.stored import shipped_calibration
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import Progress
from dit_prune_viz.metrics.clip import ClipScorer, load_clip
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.opening import open_model
from dit_prune_viz.pipelines.source import local_path
from dit_prune_viz.pruning.supplies import Kept

WAIT_SECONDS = 0.2


class Workspace:
    """Caches plus the one lock that lets a single piece of model work run at a time.

    A pipeline keeps state while it denoises (its scheduler, the masks on its layers), so calibration and generation of
    all users take turns. Everything cached is read-only for its users.
    """

    def __init__(
        self,
        *,
        clip: str | Path,
        clip_name: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        calibrations: int = 8,
        pictures: int = 64,
        disk: DiskCache | None = None,
    ) -> None:
        self.disk = disk
        self._clip_source, self._clip_name = clip, clip_name
        self._device, self._dtype = device, dtype
        self._clip: ClipScorer | None = None
        self._models: WeakValueDictionary[Hashable, Model] = WeakValueDictionary()
        self._calibrations = Recent(calibrations)
        self.pictures = Recent(pictures)
        self.updates = UpdateShelf()
        self._kept: WeakKeyDictionary[Calibration, Kept] = WeakKeyDictionary()
        self.views, self.scores = Recent(256), Recent(2)  # of layers, by content: what the Layer page draws from
        self._turn = threading.Semaphore(1)

    @contextmanager
    def turn(self, progress: Progress | None = None) -> Iterator[None]:
        """Hold the model for the length of a `with` block; `progress` is told about the wait and may cancel it."""
        while not self._turn.acquire(timeout=WAIT_SECONDS):
            if progress:
                progress(0, 1, "Waiting for another visitor's work on the model")
        try:
            yield
        finally:
            self._turn.release()

    def model(self, source: str, progress: Progress | None = None) -> Model:
        """The model from a folder or hub id, in memory once for all its users. UserError as in `load_model`."""
        with self.turn(progress):
            if progress:
                progress(0, 1, f"Loading {source}")
            key = _identity(source)
            model = self._models.get(key)
            if model is None:
                model = open_model(source, device=self._device, dtype=self._dtype)
                self._models[key] = model
            return model

    def calibration(self, model: Model, samples: int, seed: int, progress: Progress | None = None) -> Calibration:
        """The calibration of `model` with these settings, run at most once. UserError as in `calibrate`."""
        key = (model.number, samples, seed)

        def make() -> Calibration:
            shipped = shipped_calibration(model, samples=samples, seed=seed)
            return shipped or calibrate(model, samples=samples, seed=seed, progress=progress, cache=self.disk)

        with self.turn(progress):
            return self._calibrations.get(key, make)

    def kept(self, calibration: Calibration) -> Kept:
        """What supplies of `calibration` have made (inverse Hessians, recorded inputs), as long as it is in use."""
        return self._kept.setdefault(calibration, Kept())

    @property
    def clip_name(self) -> str:
        """The name under which scores are shown."""
        return self._clip_name or str(self._clip_source)

    def clip(self) -> ClipScorer:
        """The CLIP that scores pictures; call it inside `turn`. UserError as in `load_clip`."""
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


class Recent:
    """A thread-safe mapping that remembers the `size` entries used last."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: Any) -> Any | None:
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: Any, value: Any) -> None:
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """The entry for `key`, made and remembered if there is none."""
        value = self.find(key)
        if value is None:
            value = make()
            self.put(key, value)
        return value
