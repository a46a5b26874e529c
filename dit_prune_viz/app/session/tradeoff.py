"""The trade-off's work and its pictures, without the page: from a session and a few settings to rows and figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from dit_prune_viz.app import formatting
from dit_prune_viz.app.session.recipe_io import with_clusters
from dit_prune_viz.app.session.scratch import Scratch
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.tradeoff_time import remember_pace
from dit_prune_viz.checks import whole
from dit_prune_viz.disk_cache import user_folder
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.experiments.categories import CategoryLine
from dit_prune_viz.experiments.experiment import Experiment, describe, documented, with_seeds
from dit_prune_viz.experiments.export import export
from dit_prune_viz.experiments.levels import Level, level_of, parse_levels
from dit_prune_viz.experiments.prompt_files import PROMPT_FILES
from dit_prune_viz.experiments.prompts import held_out, read_prompts, split
from dit_prune_viz.experiments.results import Row, destroyed_sentences, unread_sentences
from dit_prune_viz.experiments.run import run
from dit_prune_viz.experiments.table import COLUMNS, WITH_DENSE_LEVEL, Difference, Line, Unit, tabulate, unit_of
from dit_prune_viz.experiments.table import Figure as Score
from dit_prune_viz.figures import Figure
from dit_prune_viz.figures.style import message
from dit_prune_viz.figures.tradeoff import Point, damage_scatter, sampled, tradeoff
from dit_prune_viz.metrics.clip_mean import CLIP_UNIT, NO_CLIP
from dit_prune_viz.pruning.named_recipes import NamedRecipe, find_recipes
from dit_prune_viz.resources import ASSETS

MAX_PROMPTS, MAX_SEEDS = 1024, 16
AT_HAND = "plan at hand"
"""The name of the session's own plan among the methods."""
PLANS = ASSETS / "damage.json"
"""Predicted damage and measured latent error of random plans on the bundled model, by the damage benchmark."""
EMPTY = "Curves appear here while the comparison runs, one point per recipe and sparsity."
NO_SIZES = "These measurements were made before sizes were noted."
NO_DAMAGE = "Measured damage appears here."
SPARSITY, SIZE = "sparsity", "size"
"""What the curves can be drawn over."""
DIGITS = {"clip": 2, "ssim": 3, "psnr": 2, "latent_mse": 4, "damage": 4}


@dataclass(frozen=True)
class Asked:
    """What a person chose: names of recipes, with AT_HAND for the session's own plan, sparsities as text, how many
    prompts and noises, prompt files."""

    methods: tuple[str, ...]
    sparsities: str
    prompts: float
    seeds: float
    steps: float
    prompt_set: str | tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """rows so far, by whom CLIP was scored, the files to download once nothing more comes, and the prompts' categories.

    source: where the rows come from, in words, where they were not measured here. scratch: holds the files.
    """

    rows: tuple[Row, ...] = ()
    clip_name: str = ""
    files: tuple[str, ...] = ()
    notice: str | None = None
    categories: tuple[str, ...] = ()
    source: str = ""
    scratch: Scratch | None = None


def uploaded_file(path: object, uploads: Path) -> str | None:
    """The path of a prompt file that a visitor uploaded; None for none.

    Args:
        path: as the browser names it.
        uploads: the folder into which the app puts what visitors upload.

    Raises:
        UserError: any other file of the server, a folder, or a file of another kind.
    """
    if path is None or path == "":
        return None
    found = Path(path).resolve() if isinstance(path, str) and "\0" not in path else None
    good = found is not None and found.is_relative_to(uploads.resolve()) and found.is_file()
    if not good or found.suffix.lower() not in PROMPT_FILES:
        raise UserError(f"Upload the prompts as a file ending in {', '.join(PROMPT_FILES)}.")
    return str(found)


def results_folder(session: Session) -> Path:
    """Where the measurements of the session's model are kept between runs: in the folder of the app's disk cache. They
    are results, which no bound removes and which are kept without a cache, too."""
    disk = session.store.disk
    folder = disk.folder if disk else user_folder()
    return folder / "tradeoff" / session.need_model().fingerprint[:16]


def measure(
    session: Session,
    asked: Asked,
    *,
    folder: Path | None = None,
    experiment: Experiment | None = None,
    emit: Callable[[Row], None] | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Run the comparison; cells that were measured before, in whatever session, are taken from the file.

    `experiment` is what was asked for, where it is planned already. `emit` gets every row as it is known. UserError for
    bad settings, before any work. `progress` may raise Cancelled: finished cells stay.
    """
    model = session.need_model()
    experiment = experiment or plan_experiment(session, asked)
    clip = session.store.clip()
    outcome = run(
        model,
        experiment,
        folder or results_folder(session),
        clip=clip,
        progress=progress,
        on_row=emit,
        turn=lambda: model.lock.hold(progress),
        cache=session.store.disk,
    )
    remember_pace(session, experiment, outcome.rows)
    return finished(session, experiment, outcome.rows, outcome.notice)


def finished(session: Session, experiment: Experiment, rows: Sequence[Row], notice: str | None = None) -> Measured:
    """What was measured, with its files: all of it, or what there is of a comparison that was stopped."""
    clip = session.store.clip()
    description = documented(experiment, describe(experiment, session.need_model(), clip))
    scratch = Scratch()
    files = tuple(map(str, export(rows, description, scratch.path, "tradeoff")))
    return Measured(tuple(rows), clip.name, files, notice, experiment.categories, scratch=scratch)


def plan_experiment(session: Session, asked: Asked) -> Experiment:
    """The experiment that was asked for. UserError for whatever does not hold together."""
    model = session.need_model()
    count = whole(asked.prompts, "The number of prompts", 1, MAX_PROMPTS)
    seeds = whole(asked.seeds, "The number of seeds", 1, MAX_SEEDS)
    steps = whole(asked.steps, "The number of steps", 1, 200)
    recipes = find_recipes([name for name in asked.methods if name != AT_HAND])
    plans = (at_hand(session),) if AT_HAND in asked.methods else ()
    levels = parse_levels(asked.sparsities) if recipes or not plans else ()
    if not recipes and not plans:
        raise UserError("Choose at least one recipe to compare.")
    own, categories = model.defaults.prompts, ()
    if asked.prompt_set:
        chosen = read_prompts(asked.prompt_set).draw(count)
        prompts, categories = chosen.prompts, chosen.categories
        calibration = held_out(own, prompts)
    else:
        prompts, calibration = split(own, count)
    experiment = Experiment(recipes, levels, prompts, calibration, steps=steps, categories=categories, plans=plans)
    return with_seeds(experiment, seeds)


def at_hand(session: Session) -> tuple[NamedRecipe, Level]:
    """The session's plan as a cell: its recipe with all that was set by hand, and the sparsity that came of it.

    Like all others it is ranked anew on inputs that are held out from the prompts drawn. UserError without a plan.
    """
    pruned = with_clusters(session)
    recipe = pruned.plan.as_recipe()
    own = level_of(recipe)
    return NamedRecipe(AT_HAND, recipe), Level(round(pruned.report.achieved, 4), own.pattern, own=True)


def curves(rows: Sequence[Row], score: str, over: str = SPARSITY, *, shipped: bool = False) -> Figure:
    """The figure of one score over SPARSITY or SIZE, an empty one for a score that there is not; `shipped` says that
    the rows come with the app."""
    if score not in COLUMNS or over not in (SPARSITY, SIZE):
        return message(EMPTY)
    every = tabulate(rows)
    lines = [line for line in every if line.figures[score]]
    shown = [line for line in lines if line.recipe != "dense"]
    if not shown:
        nameless = score == "clip" and every and not lines
        return message(NO_CLIP if nameless else EMPTY)
    if over == SIZE:
        shown = [line for line in shown if line.nbytes is not None]
        if not shown:
            return message(NO_SIZES)
    names, unit = dict.fromkeys(line.recipe for line in shown), unit_of(every)
    points = {
        escape(name): [point_of(line, line.figures[score], over, unit) for line in shown if line.recipe == name]
        for name in names
    }
    dense = next((line.figures[score].mean for line in lines if line.recipe == "dense"), None)
    note = sampled(shown[0].prompts, max(line.seeds for line in shown))
    note += "; shipped with the app" if shipped else ""
    dense = dense if score in WITH_DENSE_LEVEL else None
    return tradeoff(points, title=COLUMNS[score], note=note, dense=dense, **axis_of(every, over))


def axis_of(lines: Sequence[Line], over: str) -> dict[str, object]:
    """What `figures.tradeoff` must know to draw over SIZE; nothing for SPARSITY."""
    if over == SPARSITY:
        return {}
    unit = unit_of(lines)
    return {"unit": unit.name, "dense_size": next((unit.of(o.nbytes) for o in lines if o.recipe == "dense"), None)}


def point_of(line: Line | CategoryLine, figure: Score | Difference, over: str, unit: Unit) -> Point:
    """Where a cell stands on a curve over SPARSITY or SIZE."""
    if over == SPARSITY:
        return Point(100 * line.sparsity, figure.mean, figure.spread, line.level)
    label = f"{line.level}, {unit.text(line.nbytes)} {unit.name}"
    return Point(unit.of(line.nbytes), figure.mean, figure.spread, label)


def damage_figure(session: Session | None, rows: Sequence[Row]) -> Figure:
    """Predicted against measured: the benchmark's random plans for the model they belong to, else the rows' cells."""
    known = _plans(session)
    if known:
        groups: dict[str, list[tuple[float, float]]] = {}
        for plan in known["plans"]:
            groups.setdefault(plan["sort"], []).append((plan["predicted"], plan["measured"]))
        return damage_scatter(groups, spearman=known["spearman"], what="random plans on the bundled model")
    lines = [line for line in tabulate(rows) if line.recipe != "dense" and line.figures["latent_mse"]]
    lines = [line for line in lines if line.figures["damage"].mean]  # no mask, no predicted damage
    pairs: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        pair = line.figures["damage"].mean, line.figures["latent_mse"].mean
        pairs.setdefault(escape(line.recipe), []).append(pair)
    return damage_scatter(pairs, spearman=None, what="cells") if pairs else message(NO_DAMAGE)


def table(rows: Sequence[Row], clip_name: str = "", source: str = "") -> str:
    """The rows as an HTML table, a line per method and sparsity; `source` as in `Measured`."""
    lines = tabulate(rows)
    if not lines:
        return ""
    unit = unit_of(lines)
    heads = ("recipe", "sparsity", f"size, {unit.name}", *COLUMNS.values(), "seeds", "time to prune")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(f"<tr>{_cells(line, unit)}</tr>" for line in lines)
    clip = f"CLIP: {escape(clip_name)}, {CLIP_UNIT}. " if clip_name else ""
    if not any(line.figures["clip"] or line.destroyed for line in lines):
        clip = f"{NO_CLIP} "
    caption = (
        f"{escape(source)}{clip}Means over {formatting.counted(lines[0].prompts, 'prompt')} held out from calibration "
        f"± {lines[-1].spread_words}. Size: of the transformer as it would be stored, pruned models packed."
    )
    told = (*unread_sentences(rows[0]), *destroyed_sentences(rows))
    caption += "".join(f" {escape(sentence)}" for sentence in told)
    return formatting.wide_table(
        f'<table class="clusters tradeoff"><caption>{caption}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>",
        "Scores by recipe and sparsity",
    )


def _cells(line: Line, unit: Unit) -> str:
    figures = [line.text(score, DIGITS[score]) for score in COLUMNS]
    time = formatting.seconds(line.seconds) if line.recipe != "dense" else "–"
    values = [line.level, unit.text(line.nbytes), *figures, str(line.seeds), time]
    return f'<th scope="row">{escape(line.recipe)}</th>' + "".join(f"<td>{escape(value)}</td>" for value in values)


def _plans(session: Session | None) -> dict | None:
    if session is None or session.model is None or not PLANS.is_file():
        return None
    known = json.loads(PLANS.read_text(encoding="utf-8"))
    return known if known["fingerprint"] == session.model.fingerprint else None
