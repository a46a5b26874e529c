"""The first thing a person sees: the default model loaded, calibrated and pruned in the background."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dit_prune_viz.app.session.jobs import Busy, Jobs, Reporter, Result
from dit_prune_viz.app.session.lent_gpu import Lend, LentGpu
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.caching import Cache
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.allowed_models import AllowedModels
from dit_prune_viz.pipelines.load_settings import LoadSettings
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.source import local_path
from dit_prune_viz.resources import BUNDLED_CLIP, BUNDLED_CLIP_NAME, BUNDLED_MODEL

OWNER = "startup"
_BY_RECIPE_BYTES = 256 << 20
_DRAWING_SECONDS = 2.0
"""A page is drawn undisturbed for so long after it has its session."""
_VISIT_SECONDS = 15.0
"""If nobody has opened a page by then, what it does not need is opened all the same."""


@dataclass(frozen=True)
class AppSettings:
    """load: the model to begin with; clip: hub id or folder; cache: None keeps nothing on disk; out: for what is taken
    away; allowed: which other models may be opened, None is all; lend: see `lent_gpu`, None where GPUs are not lent."""

    load: LoadSettings
    clip: str
    cache: DiskCache | None = None
    out: Path = Path("pruned")
    allowed: AllowedModels | None = None
    lend: Lend | None = None


def start(settings: AppSettings, when_ready: Callable[[], None] | None = None) -> Startup:
    """Prepare the default model in the background from this moment on.

    Args:
        settings: What to prepare, and where.
        when_ready: Called in the background once all is there, or has failed.

    Returns:
        What the pages wait for.
    """
    folder = local_path(settings.clip)
    bundled = folder is not None and folder.resolve() == BUNDLED_CLIP
    store = ModelStore(
        clip=settings.clip,
        clip_name=BUNDLED_CLIP_NAME if bundled else None,
        # Where a GPU is lent, the app itself has none, whatever it is told.
        load=replace(settings.load, device="cpu") if settings.lend else settings.load,
        disk=settings.cache,
        allowed=settings.allowed,
    )
    if settings.lend:
        store.work = LentGpu(settings.lend, store.times)
    startup = Startup(
        Session(store), settings.load.model, Jobs(), when_ready, also_prune=settings.load.also_prune, out=settings.out
    )
    startup.start()
    return startup


class Startup:
    """Prepares one session that every new user begins with; they are immutable, so it is shared."""

    def __init__(
        self,
        empty: Session,
        source: str,
        jobs: Jobs,
        when_ready: Callable[[], None] | None = None,
        *,
        also_prune: tuple[str, ...] = (),
        out: Path = AppSettings.out,
    ) -> None:
        self.source, self.jobs, self.out = source, jobs, out
        self._also_prune = also_prune
        self._empty = empty
        self._session = empty
        self._early: weakref.ref[Session] | None = None
        self._released: Callable[[], Session | None] | None = None
        self._reviving = threading.Lock()
        empty.store.when_loaded = self._release
        self.by_recipe = Cache(_BY_RECIPE_BYTES)
        """What callers that keep no session have made of the prepared one; it goes with the model."""
        self._done = threading.Event()
        self._visited = threading.Event()
        self._when_ready = when_ready
        self.busy = Busy(0, 1, f"Loading {source}")
        self.problem: str | None = None

    def start(self) -> None:
        threading.Thread(target=self._prepare, name="startup", daemon=True).start()

    def wait(self) -> Session:
        """The prepared session, or as much of it as could be prepared."""
        while True:
            self._revive()
            self._done.wait()
            session = self._prepared()
            if session is not None:
                return session

    def prepared(self) -> Session | None:
        """The same without waiting, None if it is not there yet."""
        return self._prepared() if self._done.is_set() else None

    @property
    def early(self) -> Session | None:
        """The loaded model with what its weights alone tell, from then on as long as somebody shows it."""
        return self._early and self._early()

    def visited(self) -> None:
        """To be called once a page has got the session."""
        self._visited.set()

    def watch(self, seconds: float = 0.25) -> Iterator[Busy]:
        """Progress until the session is there."""
        self._revive()
        while not self._done.is_set():
            yield self.busy
            self._done.wait(seconds)

    def _prepared(self) -> Session | None:
        session = self._session if self._released is None else self._released()
        if session is None or session.model is None or not session.model.away:
            return session
        self._session, self._released = self._empty, lambda: None
        self.by_recipe = Cache(_BY_RECIPE_BYTES)
        return None

    def _release(self, model: Model) -> None:
        """Another model is loaded: the prepared one stays only as long as somebody uses it."""
        if self._done.is_set() and self._released is None and self._session.model not in (None, model):
            self._released = weakref.ref(self._session)
            self._session = self._empty
            self.by_recipe = Cache(_BY_RECIPE_BYTES)

    def _revive(self) -> None:
        """Prepare the session again where it was released and nobody has used it since."""
        with self._reviving:
            if self._done.is_set() and self._prepared() is None:
                self._released = None
                self._done.clear()
                self.start()

    def _prepare(self) -> None:
        try:
            self._follow(lambda report: self._session.load_model(self.source, report, also_prune=self._also_prune))
            if not self._bundled_model:  # that one comes with its calibration
                self._follow(lambda report: self._session.look(report))
                self._early = weakref.ref(self._session)
                self.busy = Busy(0, 1, f"Calibrating {self.source}")  # its first step may take long
            self._follow(lambda report: self._session.calibrate(progress=report))
            if not self._bundled_clip:
                self._follow(self._open_clip)
        except UserError as problem:
            self.problem = str(problem)
        except Exception:  # a fault of the app's own must not leave everybody waiting; the terminal gets the traceback
            self.problem = "The model could not be prepared; the terminal shows why."
            raise
        finally:
            self._done.set()
            self._open_rest()

    def _open_rest(self) -> None:
        """What the first page does not need, once it is drawn: nothing to wait for unless the bundled model opened in
        two steps (see `pipelines.opening`)."""
        if self._bundled_clip and self._visited.wait(_VISIT_SECONDS):
            time.sleep(_DRAWING_SECONDS)
        try:
            if self._session.model is not None:
                _ = self._session.model.pipeline
            if self._bundled_clip:
                self._follow(self._open_clip)
        except UserError as problem:
            self.problem = str(problem)
        finally:
            if self._when_ready:
                self._when_ready()

    @property
    def _bundled_model(self) -> bool:
        folder = local_path(self.source)
        return folder is not None and folder.resolve() == BUNDLED_MODEL

    @property
    def _bundled_clip(self) -> bool:
        return self._session.store.clip_name == BUNDLED_CLIP_NAME

    def _open_clip(self, report: Reporter) -> Session:
        """Now, so that a wrong --clip is noticed before the first picture waits for its score."""
        store = self._session.store
        report(0, 1, f"Opening {store.clip_name}")
        store.clip()
        return self._session

    def _follow(self, work) -> None:
        for update in self.jobs.run(OWNER, work):
            if isinstance(update, Result):
                self._session = update.value
            elif isinstance(update, Busy):
                self.busy = update
