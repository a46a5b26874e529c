"""The models that all users of one app share: each is in memory once, with whatever follows from it in its cache."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

from dit_prune_viz.app.session.model_work import ModelWork
from dit_prune_viz.app.session.people import People
from dit_prune_viz.app.session.work_time import WorkTimes
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import Cancelled, Progress, UserError
from dit_prune_viz.metrics.clip import ClipScorer, load_clip
from dit_prune_viz.pipelines.allowed_models import AllowedModels
from dit_prune_viz.pipelines.device import choose_device
from dit_prune_viz.pipelines.load_settings import LoadSettings, changed
from dit_prune_viz.pipelines.lock import WORKER, ModelLock
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.opening import open_model
from dit_prune_viz.pipelines.placement import free_memory
from dit_prune_viz.pipelines.put_away import nbytes, put_away
from dit_prune_viz.pipelines.source import local_path

LARGE = 1_000_000_000
"""Bytes of weights: of models beyond that, one is in memory at a time."""


class ModelStore:
    """Loads models and the CLIP that scores pictures, each once.

    Models are held weakly: one that no session uses any more is freed, together with its cache. Work on all of them
    stands in one line, and so does loading, but for downloads. Small ones may be in memory together; for a large one,
    others have to go, which is refused while somebody else works with them.

    Args:
        clip: folder or hub id of the CLIP.
        clip_name: under which scores are shown; None takes the folder's or hub model's.
        device: as in `load_model`, for models that are asked for by name alone; so is `dtype`.
        dtype: as in `load_model`.
        load: what the app was started with, in place of `device` and `dtype`.
        disk: where calibrations are looked up and kept; None keeps none.
        allowed: which models may be opened beside that one; None is all.
    """

    def __init__(
        self,
        *,
        clip: str | Path,
        clip_name: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        load: LoadSettings | None = None,
        disk: DiskCache | None = None,
        allowed: AllowedModels | None = None,
    ) -> None:
        self.disk, self.times = disk, WorkTimes(disk)
        self.work = ModelWork()
        self.when_loaded: Callable[[Model], None] | None = None
        self._clip_source, self._clip_name = clip, clip_name
        self._load = load or LoadSettings("", device=device, dtype=dtype)
        self._allowed = allowed
        self._clip: ClipScorer | None = None
        self._clip_lock = threading.Lock()
        self._models: WeakValueDictionary[Hashable, Model] = WeakValueDictionary()
        self._loading, self._line = ModelLock(), ModelLock()
        self.people = People()

    def model(self, asked: str | LoadSettings, progress: Progress | None = None) -> Model:
        """A model, its pipeline in memory once for all its users.

        Args:
            asked: a folder, file or hub id, to be loaded as the app was told to at its start, or all settings.
            progress: told of the download; may raise `Cancelled`.

        Raises:
            UserError: as in `load_model`, a model that may not be opened, and `ModelInUse`.
        """
        settings = self.settings(asked) if isinstance(asked, str) else asked
        if self._allowed is not None:
            settings = self._allowed.checked(settings, self._load)
        with self._loading.hold(progress):
            if progress:
                progress(0, 1, f"Loading {settings.model}")
            identity = _identity(settings.model), replace(settings, model="", also_prune=())
            model = self._models.get((identity, settings.also_prune))
            if model is None or model.away:
                there = (one for (known, _), one in self._models.items() if known == identity and not one.away)
                loaded = next(there, None)
                if loaded is not None:
                    model = loaded.also_pruning(settings.also_prune)
                else:
                    say = None if progress is None else lambda said: progress(0, 1, f"Loading {settings.model}. {said}")
                    model = self._open(settings, progress, say)
                self._models[identity, settings.also_prune] = model
                if self.when_loaded:
                    self.when_loaded(model)
            return model

    def _open(self, settings: LoadSettings, progress: Progress | None, say: Callable[[str], None] | None) -> Model:
        gone: list[str] = []
        turn = ExitStack()

        def make_room(needed: int) -> None:
            others = [model for model in self._models.values() if not model.away]
            free = free_memory(choose_device(settings.computes))
            leave = _to_leave(others, needed, min((free.ram, *free.free)))
            if leave:
                worker = WORKER.get()
                self.people.check_idle(leave, worker and worker.owner, settings.model, self._line.owners)
            # Kept until the model is there: diffusers changes torch's default dtype for all threads while it loads.
            turn.enter_context(self._line.hold(progress))
            for model in leave:
                put_away(model)
            gone.extend(dict.fromkeys(model.name for model in leave))

        try:
            with turn:
                model = open_model(settings, progress, say, make_room)
        except (Cancelled, UserError) as problem:
            if gone:
                why = "was cancelled" if isinstance(problem, Cancelled) else f"failed: {problem}"
                lost = ", ".join(gone)
                raise UserError(f"{lost} had left the memory when loading {why}; load it again.") from problem
            raise
        vars(model)["lock"] = self._line  # nobody has it yet
        return model

    def settings(self, model: str, options: Mapping[str, object] | None = None) -> LoadSettings:
        """How a model is loaded by its name, with some options changed.

        Raises:
            UserError: an unknown option, or a value of the wrong kind.
        """
        return changed(self._load.for_model(model), options or {})

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


def _to_leave(models: list[Model], needed: int, free: int) -> list[Model]:
    """Which models have to go for one that needs so many bytes, while so many are free."""
    if needed > free / 2:
        return models
    return [model for model in models if nbytes(model) > LARGE] if needed > LARGE else []


def _identity(source: str) -> Hashable:
    """The same for two ways to write one folder or file, another one when it has been saved anew."""
    path = local_path(source)
    if path is None:
        return source
    file = path / "model_index.json" if path.is_dir() else path
    return str(path.resolve()), file.stat().st_mtime_ns if file.is_file() else None
