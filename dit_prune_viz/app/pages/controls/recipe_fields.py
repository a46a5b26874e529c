"""The part of the left column that says how to prune: a named recipe, and the fields that it sets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.session import recipe_form as form
from dit_prune_viz.app.session.recipe_changes import change_recipe, discard_by_hand, set_by_hand
from dit_prune_viz.app.session.recipe_titles import CUSTOM, HEADING, choices_of, sentence_of, time_of
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.work_time import plan_time
from dit_prune_viz.app.widgets.number import number, slider
from dit_prune_viz.errors import UserError
from dit_prune_viz.pruning.recipe import Recipe

START = "dit-pruning"
OPEN = ("granularity", "pattern", "sparsity")
"""Fields that stand above the fold."""

_PENDING = 8
"""Requests that the column remembers at most while they are being done."""


@dataclass(frozen=True)
class ByHand:
    """What is said of layers set by hand, there while there are any, and the button that discards it."""

    row: gr.Row
    told: gr.Markdown
    discard: gr.Button


@dataclass(frozen=True)
class RecipeFields:
    """The components: the named recipe and what it is, one component per field of the form, the timestep bins."""

    name: gr.Dropdown
    sentence: gr.Markdown
    fields: dict[str, gr.components.Component]
    picking: gr.Column
    bins: gr.CheckboxGroup
    use: gr.Button
    by_hand: ByHand

    @property
    def components(self) -> list[gr.components.Component]:
        return list(self.fields.values())

    @property
    def shown(self) -> list[gr.components.Component]:
        """What `_show` updates."""
        return [self.name, self.sentence, self.picking, self.bins, *self.components]

    def values(self, given: tuple) -> dict:
        """Name of a field → its value, as listeners get them."""
        return dict(zip(self.fields, given, strict=True))


def build(frame: Frame, actions: Actions) -> None:
    """Lay the fields out inside the current gradio context and wire them."""
    column = _lay_out()
    _Listeners(frame, actions, column).wire()


def _lay_out() -> RecipeFields:
    fields = {field.name: field for field in form.form_fields()}
    shown = form.visible(form.defaults())
    made: dict[str, gr.components.Component] = {}
    with gr.Group():
        name = gr.Dropdown(choices_of(None), value=START, label="Recipe", elem_id="method")
        sentence = gr.Markdown(sentence_of(START), elem_id="method-words", elem_classes="note")
        for one in OPEN:
            made[one] = _component(fields[one], shown.get(one, True))
    with gr.Accordion("Details: saliency, layers, search, update, timesteps", open=False, elem_id="finer"):
        for one in fields:
            if one not in OPEN:
                made[one] = _component(fields[one], shown.get(one, True))
            if one == "weights":
                with gr.Column(visible=False) as picking:
                    bins, use = _bins()
    with gr.Row(visible=False, elem_id="by-hand") as hand:
        told = gr.Markdown("", elem_classes="note grow")
        discard = gr.Button("Discard", size="sm", scale=0, min_width=76, elem_id="discard-by-hand")
    by_hand = ByHand(hand, told, discard)
    return RecipeFields(name, sentence, {one: made[one] for one in fields}, picking, bins, use, by_hand)


def _component(field: form.FormField, shown: bool) -> gr.components.Component:
    """The component of one field, called after it: "saliency-stw-m"."""
    common = {
        "value": field.default,
        "label": field.label,
        "visible": shown,
        "elem_id": field.name.replace(":", "-"),
        "info": field.info or None,
    }
    if field.widget == form.CHOICE:
        return gr.Dropdown(list(field.choices), **common)
    if field.widget == form.SWITCH:
        return gr.Checkbox(**common)
    if field.widget == form.SLIDER:
        return slider(field.low or 0, field.high or 100, step=field.step, **common)
    if field.widget == form.NUMBER:
        return number(low=field.low, high=field.high, step=field.step or 0.1, min_width=90, **common)
    lines = 2 if field.name == "weights" else 1
    return gr.Textbox(lines=lines, max_lines=lines, **common)


def _bins() -> tuple[gr.CheckboxGroup, gr.Button]:
    count = form.BINS
    bins = gr.CheckboxGroup(
        [(f"{bin / count:.1f}–{(bin + 1) / count:.1f}", bin) for bin in range(count)],
        value=list(range(count)),
        label="Timesteps that calibrate, from clean to noisy",
        elem_id="timestep-bins",
    )
    return bins, gr.Button("Use these timesteps", size="sm", elem_id="use-bins")


@dataclass(frozen=True)
class _Asked:
    """What the fields asked for, and how often they had gone back before."""

    values: form.Values
    turn: int

    def alike(self, other: _Asked | None) -> bool:
        """Whether both ask for the same in the same round; fields that have no say may differ."""
        if other is None or self.turn != other.turn:
            return False
        try:
            return form.same_form(form.recipe_of(self.values), form.recipe_of(other.values))
        except UserError:
            return dict(self.values) == dict(other.values)


class _Listeners:
    """What happens when a field changes, and when the session's recipe was changed elsewhere."""

    def __init__(self, frame: Frame, actions: Actions, column: RecipeFields) -> None:
        self._frame, self._actions, self._column = frame, actions, column
        # What the column asked for and has not seen done, the last of it for good: a session with another recipe was
        # changed elsewhere.
        self._asked = gr.State((Recipe(),))
        self._seen = gr.State(Recipe())  # the recipe of the session that came last
        self._failed = gr.State(None)  # what was asked for last and did not come true
        # Held by the browser, counted up whenever the fields go back: it tells a choice that is sent once more from one
        # that is made again.
        self._round = gr.Number(0, visible=False)
        self._priced = gr.State(choices_of(None))  # the recipes as the list shows them, with their times

    def wire(self) -> None:
        frame, column = self._frame, self._column
        pruning = {
            "fn": self.prune,
            "inputs": [frame.session, self._asked, self._failed, self._round, *column.components],
            "outputs": [*frame.outputs, self._asked, self._failed],
            "trigger_mode": "always_last",
            **INTERNAL,
        }
        events = []
        for field in form.form_fields():
            component = column.fields[field.name]
            events += [component.submit, component.blur] if field.typed else [component.input]
        told = [frame.session, *column.components]
        gr.on(events, self.follow, told, column.shown, queue=False, trigger_mode="always_last", **INTERNAL)
        settling = {
            "fn": self.settle,
            "inputs": [frame.session, self._failed, self._round, *column.components],
            "outputs": [self._asked, self._round, *column.shown],
            **INTERNAL,
        }
        gr.on(events, **pruning).then(**settling)
        weights = column.fields["weights"]
        gr.on([weights.submit, weights.blur], form.bins_of_weights, weights, column.bins, queue=False, **INTERNAL)
        # Boxes are ticked faster than answers come back, so that nothing happens before all are.
        picked = column.use.click(form.weights_of_bins, column.bins, weights, **INTERNAL)
        naming = [column.name, column.sentence]
        picked.then(**pruning).then(self.name_fields, told, naming, **INTERNAL).then(**settling)
        named = [column.name, *column.components]
        column.name.input(self.choose, [frame.session, *named], column.shown, queue=False, **INTERNAL)
        named_pruning = {**pruning, "fn": self.prune_named, "inputs": [*pruning["inputs"][:4], *named]}
        column.name.input(**named_pruning).then(**settling)
        outputs = [self._asked, self._seen, *column.shown]
        frame.session.change(
            self.sync, [frame.session, self._asked, self._seen, *column.components], outputs, **INTERNAL
        )
        hand = column.by_hand
        frame.session.change(_by_hand, frame.session, [hand.row, hand.told], **INTERNAL)
        hand.discard.click(self.discard, frame.session, frame.outputs, **INTERNAL)
        priced = [frame.session, self._priced]
        frame.session.change(self.price, priced, [self._priced, column.name], **INTERNAL)

    def prune(
        self, session: Session, request: gr.Request, last: tuple[Recipe, ...], failed: _Asked | None, turn: int, *given
    ) -> Iterator[tuple]:
        yield from self._prune_with(session, request, last, failed, _Asked(self._column.values(given), turn))

    def prune_named(
        self,
        session: Session,
        request: gr.Request,
        last: tuple[Recipe, ...],
        failed: _Asked | None,
        turn: int,
        name: str,
        *given,
    ) -> Iterator[tuple]:
        # By the name, not by the fields that it sets: the browser may not have filled them in yet.
        yield from self._prune_with(session, request, last, failed, _Asked(self._chosen(name, given), turn))

    def _prune_with(
        self,
        session: Session,
        request: gr.Request,
        last: tuple[Recipe, ...],
        failed: _Asked | None,
        asked: _Asked,
    ) -> Iterator[tuple]:
        values = asked.values
        still = [gr.skip() for _ in self._frame.outputs]
        try:
            recipe = form.recipe_of(values)
        except UserError:
            recipe = None  # told by the work itself, where people are told
        # A list sends its choice once more when it is left.
        if asked.alike(failed) or (recipe and form.same_form(recipe, last[-1])):
            yield (*still, gr.skip(), gr.skip())
            return

        def verb(now: Session, report) -> Session:
            wanted = form.recipe_of(values, now.recipe.calibration)
            if form.same_form(wanted, now.recipe):
                return now
            if now.statistics is not None:
                cost = plan_time(now.store.times, now.statistics, wanted)
                report(0, 1, f"Planning, {cost.words}" if cost.long else "Planning")
            return change_recipe(now, wanted, report)

        yield (*still, (*last[1 - _PENDING :], recipe) if recipe else gr.skip(), None)
        try:
            for update in self._actions.run(request, session, verb):
                yield (*update, gr.skip(), gr.skip())
        except Exception:
            yield (*still, gr.skip(), asked)
            raise
        now = self._actions.newest(request, session)
        if now is not None and not form.same_form(recipe, now.recipe):  # cancelled
            yield (*still, gr.skip(), asked)

    def settle(self, session: Session | None, request: gr.Request, failed: _Asked | None, turn: int, *given) -> tuple:
        """What was cancelled or refused goes back to what the plan is, unless the fields say something else by now."""
        session = self._actions.newest(request, session)
        if session is None or not _Asked(self._column.values(given), turn).alike(failed):
            return (gr.skip(),) * (2 + len(self._column.shown))
        values = form.values_of(session.recipe, failed.values)
        name = form.name_for(session.recipe) or CUSTOM
        return (session.recipe,), failed.turn + 1, *self._show(session, values, name)

    def discard(self, session: Session, request: gr.Request) -> Iterator[tuple]:
        """Nothing is set by hand any more."""
        yield from self._actions.run(request, session, discard_by_hand)

    def choose(self, session: Session | None, name: str, *given) -> tuple:
        if name.startswith(HEADING):
            return self.follow(session, *given)
        if name == _name(self._column.values(given)):
            # A list sends its choice once more when it is left, as it is for Cancel: an answer that comes after the
            # fields have gone back would choose it again.
            return (gr.skip(),) * len(self._column.shown)
        return self._show(session, self._chosen(name, given), name, values=name != CUSTOM)

    def follow(self, session: Session | None, *given) -> tuple:
        values = self._column.values(given)
        return self._show(session, values, _name(values), values=False)

    def name_fields(self, session: Session | None, *given) -> tuple[str, str]:
        values = self._column.values(given)
        return _name(values), _sentence(session, _name(values), values)

    def price(self, session: Session | None, shown: list) -> tuple:
        """The list of recipes with their times, where these have changed."""
        choices = choices_of(session)
        return (gr.skip(), gr.skip()) if choices == shown else (choices, gr.Dropdown(choices=choices))

    def sync(self, session: Session | None, last: tuple[Recipe, ...], before: Recipe, *given) -> tuple:
        shown = self._column.shown
        # A session that has the recipe of the one before says nothing new, whatever was asked for meanwhile.
        if session is None or form.same_form(session.recipe, before):
            return (gr.skip(),) * (2 + len(shown))
        if any(form.same_form(session.recipe, one) for one in last):  # done as asked, and more may be asked for since
            done = form.same_form(session.recipe, last[-1])
            return (last[-1:] if done else gr.skip()), session.recipe, *(gr.skip() for _ in shown)
        values = form.values_of(session.recipe, self._column.values(given))
        return (session.recipe,), session.recipe, *self._show(session, values, form.name_for(session.recipe) or CUSTOM)

    def _chosen(self, name: str, given: tuple) -> form.Values:
        values = self._column.values(given)
        return values if name == CUSTOM or name.startswith(HEADING) else form.choose(name, values)

    def _show(self, session: Session | None, present: form.Values, name: str, *, values: bool = True) -> tuple:
        """Updates for `RecipeFields.shown`; the fields' values only where asked for."""
        shown = form.visible(present)
        updates = []
        for field in self._column.fields:
            change = {"visible": shown[field]} if field in shown else {}
            if values:
                change["value"] = present[field]
            updates.append(gr.update(**change) if change else gr.skip())
        return (
            gr.update(value=name),
            _sentence(session, name, present),
            gr.update(visible=present["timestep"] == form.BY_HAND),
            gr.update(value=form.bins_of_weights(present["weights"])) if values else gr.skip(),
            *updates,
        )


def _by_hand(session: Session | None) -> tuple[gr.Row, str]:
    count = len(set_by_hand(session))
    layers = "1 layer is" if count == 1 else f"{count:,} layers are"
    told = f"{layers} set by hand and will stay so: the others make up for a change of the recipe or its sparsity."
    return gr.Row(visible=count > 0), told


def _name(values: form.Values) -> str:
    try:
        return form.name_for(form.recipe_of(values)) or CUSTOM
    except UserError:
        return CUSTOM


def _sentence(session: Session | None, name: str, values: form.Values) -> str:
    """What the recipe does, and how long that takes here."""
    try:
        recipe = form.recipe_of(values)
    except UserError:
        recipe = None  # told where the work is asked for
    return f"{sentence_of(name)} {time_of(session, recipe)}".strip()
