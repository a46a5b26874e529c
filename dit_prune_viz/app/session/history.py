"""Undo and redo: the sessions of one page, of which exactly one is the present."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from dit_prune_viz.app.session.plan_name import PlanName
from dit_prune_viz.app.session.recipe_io import with_clusters
from dit_prune_viz.app.session.session import Sensed, Session
from dit_prune_viz.clustering.clusters import Clusters
from dit_prune_viz.errors import Progress
from dit_prune_viz.pipelines.load_settings import LoadSettings
from dit_prune_viz.pruning.recipe import Recipe

STEPS = 50
MAX_BYTES = 1 << 30
"""Of masks that only the history still holds; older steps go first."""

PAUSE_SECONDS = 1.5
"""Moves of one slider with shorter pauses between them are one step."""


@dataclass(frozen=True)
class FormerModel:
    """What is needed to come back to a model that was replaced: it is loaded again then, so that it need not stay.

    name: of its plan, or of the one that came from; own_name: whether it was given to the very plan.
    """

    source: str | LoadSettings
    recipe: Recipe | None
    also_prune: tuple[str, ...] = ()
    groups: Clusters | None = None
    sensed: tuple[Sensed, ...] = ()
    name: PlanName | None = None
    own_name: bool = False

    @staticmethod
    def of(session: Session) -> FormerModel:
        """The model of a session, with what was set by hand; the recipe is None where it was not pruned yet."""
        model = session.model
        source = model.source if model.settings is None else replace(model.settings, also_prune=model.also_prune)
        recipe = with_clusters(session).plan.as_recipe() if session.pruned else None
        own = session.name is not None and session.name.plan is session.plan
        return FormerModel(source, recipe, model.also_prune, session.groups, session.sensed, session.name, own)

    def load(self, present: Session, progress: Progress | None) -> Session:
        """A session with the model, pruned as before. UserError as in `Session.load_model`."""
        loaded = present.load_model(self.source, progress, also_prune=self.also_prune)
        session = replace(loaded, groups=self.groups, sensed=self.sensed)
        if self.recipe is None:
            return session
        pruned = session.calibrate_as(self.recipe.calibration, progress).prune(self.recipe, progress)
        return replace(pruned, name=PlanName(self.name.text, pruned.plan) if self.own_name else self.name)


Moment = Session | FormerModel


class History:
    """Past and future moments around the present session. All sessions in it are of the present model."""

    def __init__(self) -> None:
        self.present: Session | None = None
        self._past: deque[tuple[str, Moment]] = deque()
        self._future: list[tuple[str, Moment]] = []
        self._last: tuple[str, float] | None = None

    def step(self, before: Session, after: Session, what: str | None) -> None:
        """Move on to `after`. `what` names the step, in words; None leaves no trace: nothing of the work was changed.
        Nor does a step that leads to the same plan, clusters and groups.

        Steps of the same name ending in "…" follow each other as one while the pauses are short.
        """
        self.present = after
        if what is None or after is before:
            return
        if _is_same(before, after):
            return
        now = time.monotonic()
        flowing = what.endswith("…") and self._last is not None and self._last[0] == what
        if before.model is not after.model:
            self._past = deque([(what, FormerModel.of(before))] if before.model else [])
        elif not (flowing and now - self._last[1] < PAUSE_SECONDS and self._past):
            self._past.append((what, before))
        elif self._past and isinstance(self._past[-1][1], Session) and _is_same(self._past[-1][1], after):
            self._past.pop()  # the slider is back where it began
        self._last = (what, now)
        self._future.clear()
        while len(self._past) > STEPS or (len(self._past) > 1 and self._bytes() > MAX_BYTES):
            self._past.popleft()

    def undo(self, progress: Progress | None = None) -> Session | None:
        """The session before the last step, present from now on; None if there is none.

        Raises:
            UserError: the model of that moment cannot be loaded again; nothing has changed then.
        """
        return self._travel(self._past, self._future, progress)

    def redo(self, progress: Progress | None = None) -> Session | None:
        """The session after the step undone last; None if there is none. UserError as in `undo`."""
        return self._travel(self._future, self._past, progress)

    def _travel(self, source, target, progress: Progress | None) -> Session | None:
        if not source or self.present is None:
            return None
        what, moment = source[-1]
        if isinstance(moment, FormerModel):
            session = moment.load(self.present, progress)
            leaving: Moment = FormerModel.of(self.present)
            self._past.clear()
            self._future.clear()
        else:
            session, leaving = bring_back(moment, self.present), self.present
            source.pop()
        target.append((what, leaving))
        self.present, self._last = session, None
        return session

    @property
    def names(self) -> tuple[str | None, str | None]:
        """What would be undone, and what redone."""
        return (self._past[-1][0] if self._past else None), (self._future[-1][0] if self._future else None)

    @property
    def parts(self) -> dict[int, int]:
        """The bytes of every mask that it holds, by identity: sessions share what they have in common."""
        moments = [self.present, *(moment for _, moment in (*self._past, *self._future))]
        return _masks(moment for moment in moments if isinstance(moment, Session))

    def _bytes(self) -> int:
        """Bytes of the masks in the past that the present does not share."""
        mine = _masks([self.present])
        return sum(
            size
            for key, size in _masks(moment for _, moment in self._past if isinstance(moment, Session)).items()
            if key not in mine
        )


def bring_back(then: Session, now: Session) -> Session:
    """An earlier session with what was only looked at or measured since then: sensitivities, clusters of layers."""
    if now.model is not then.model:
        return then
    if then.sensed != now.sensed:
        then = replace(then, sensed=now.sensed)
    if now.calibration is not then.calibration:
        return then
    return replace(then, clusters={**now.clusters, **then.clusters}, asked={**now.asked, **then.asked})


def with_looks(session: Session, base: Session, looked: Session) -> Session:
    """A session with the clusters that `looked` has found since `base`, from which both began.

    What the session has changed itself stays; clusters of another model or calibration are dropped.
    """
    one, other = (session, looked)
    if one.model is not other.model or one.calibration is not other.calibration:
        return session
    new = [
        name
        for name, found in looked.clusters.items()
        if found is not base.clusters.get(name) and session.clusters.get(name) is base.clusters.get(name)
    ]
    if not new:
        return session
    clusters, asked = (
        {name: source[name] for name in new if name in source} for source in (other.clusters, other.asked)
    )
    return replace(session, clusters={**session.clusters, **clusters}, asked={**session.asked, **asked})


def _is_same(one: Session, other: Session) -> bool:
    """Whether two sessions have the same plan, clusters and groups. Of layers set by hand that is not looked into."""
    plans = one.plan is other.plan or (
        one.plan is not None and other.plan is not None and not one.plan.by_hand and not other.plan.by_hand
    )
    return (
        one.model is other.model
        and one.calibration is other.calibration
        and one.recipe == other.recipe
        and one.groups is other.groups
        and one.sensitivity == other.sensitivity
        and plans
        and one.clusters.keys() == other.clusters.keys()
        and all(_same_clusters(found, other.clusters[name]) for name, found in one.clusters.items())
    )


def _same_clusters(one: Clusters, other: Clusters) -> bool:
    same = one.unit == other.unit and one.tags == other.tags and len(one.labels) == len(other.labels)
    return one is other or (same and bool((one.labels == other.labels).all()))


def _masks(sessions: Iterable[Session]) -> dict[int, int]:
    made = [session.pruned.layers.made for session in sessions if session.pruned]
    return {id(layer.mask): layer.mask.bits.numel() for layers in made for layer in layers.values()}
