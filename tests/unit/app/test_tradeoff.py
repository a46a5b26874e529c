"""The Trade-off tab: its figures, its work on a session, and how it answers while that runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest

from dit_prune_viz.app.pages.actions import Actions, Frame
from dit_prune_viz.app.pages.tradeoff import page as tradeoff_tab
from dit_prune_viz.app.pages.tradeoff.layout import explain_methods
from dit_prune_viz.app.pages.visits import Kept
from dit_prune_viz.app.session import tradeoff as work
from dit_prune_viz.app.session import tradeoff_shipped, tradeoff_time
from dit_prune_viz.app.session.block_edits import set_by_text
from dit_prune_viz.app.session.jobs import Jobs
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import Startup
from dit_prune_viz.caching import Cache
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.experiments.results import Row
from dit_prune_viz.figures.tradeoff import Point, damage_scatter, tradeoff
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES

ASKED = work.Asked(("magnitude", "wanda"), "50, 2:4", prompts=2, seeds=2, steps=2)


@pytest.fixture(scope="module")
def session(tiny_flux, tiny_clip) -> Session:
    store = ModelStore(clip=tiny_clip, clip_name="tiny <CLIP>", device="cpu", dtype="float32")
    return Session(store).load_model(str(tiny_flux))


def test_a_curve_per_method_and_patterns_apart_from_it():
    points = [Point(70, 0.6, 0.1, "70 %"), Point(50, 0.8, 0.0, "50 %"), Point(50, 0.7, 0.2, "2:4")]
    figure = tradeoff({"wanda": points, "ria": points[:1]}, title="SSIM", note="8 prompts", dense=1.0)
    line, pattern, other = figure.data
    assert list(line.x) == [50, 70]
    assert list(line.y) == [0.8, 0.6]
    assert list(line.error_y.array) == [0, 0.1]
    assert (list(pattern.x), pattern.mode, pattern.showlegend) == ([50], "markers", False)
    assert pattern.marker.symbol == f"{line.marker.symbol}-open"
    assert line.marker.symbol != other.marker.symbol
    assert line.line.color != other.line.color
    assert "8 prompts" in figure.layout.title.text
    assert [shape.y0 for shape in figure.layout.shapes] == [1.0]


def test_more_methods_than_colours_still_differ():
    curves = {str(place): [Point(50, place, 0, "50 %")] for place in range(20)}
    looks = {(trace.line.color, trace.line.dash, trace.marker.symbol) for trace in tradeoff(curves, title="x").data}
    assert len(looks) == 20


def test_damage_is_drawn_by_group_and_says_its_correlation():
    figure = damage_scatter({"a": [(0.1, 0.2)], "b": [(0.3, 0.4)]}, spearman=0.912, what="random plans")
    assert [trace.name for trace in figure.data] == ["a", "b"]
    assert (list(figure.data[1].x), list(figure.data[1].y)) == ([0.3], [0.4])
    assert "Spearman 0.912, 2 random plans" in figure.layout.title.text


def test_a_comparison_grows_and_is_not_repeated(session, tmp_path):
    rows, steps = [], []
    first = work.measure(session, ASKED, folder=tmp_path, emit=rows.append, progress=lambda *step: steps.append(step))
    assert tuple(rows) == first.rows
    assert [(row.recipe, row.level, row.seed) for row in rows] == [
        (name, level, seed)
        for name, level in (("dense", "0 %"), *((n, x) for x in ("50 %", "2:4") for n in ("magnitude", "wanda")))
        for seed in (0, 1)
    ]
    assert all(None not in row.scores["clip"] for row in rows)
    assert [path.rsplit(".")[-1] for path in first.files] == ["csv", "json", "png"]
    assert json.loads(Path(first.files[1]).read_text())["experiment"]["model"] == "tiny-flux"
    before = len(steps)
    again = work.measure(session, ASKED, folder=tmp_path, progress=lambda *step: steps.append(step))
    assert again.rows == first.rows
    assert len(steps) == before


def test_pictures_of_the_rows(session, tmp_path):
    rows = work.measure(session, ASKED, folder=tmp_path).rows
    curves = work.curves(rows, "ssim")
    assert [trace.name for trace in curves.data] == ["magnitude", "magnitude", "wanda", "wanda"]
    assert not curves.layout.shapes
    assert len(work.curves(rows, "clip").layout.shapes) == 1
    assert len(work.damage_figure(session, rows).data) == 2
    text = work.table(rows, "tiny <CLIP>")
    assert text.count("<tr>") == 1 + 5
    assert "tiny &lt;CLIP&gt;" in text
    assert "held out from calibration" in text
    for nothing in (work.curves((), "ssim"), work.curves(rows[:2], "ssim"), work.damage_figure(None, ())):
        assert not nothing.data
        assert nothing.layout.annotations
    assert work.table(()) == ""


def sized(recipe: str, level: str, sparsity: float, nbytes: int | None, ssim: float) -> Row:
    return Row(
        "e", recipe, recipe, level, sparsity, 0, sparsity, 1.0, 1.0, {"ssim": [ssim], "clip": [80.0]}, nbytes=nbytes
    )


def test_curves_over_size_have_every_method_where_its_file_is():
    rows = [sized("dense", "0 %", 0.0, 2_000_000_000, 1.0), sized("int4", "0 %", 0.0, 600_000_000, 0.9)]
    rows += [sized("wanda", "50 %", 0.5, 900_000_000, 0.8), sized("wanda", "70 %", 0.7, 500_000_000, 0.6)]
    rows += [sized("wanda", "2:4", 0.5, 800_000_000, 0.7), sized("old", "50 %", 0.5, None, 0.5)]
    figure = work.curves(rows, "ssim", work.SIZE)
    assert [(trace.name, list(trace.x), list(trace.y)) for trace in figure.data] == [
        ("int4", [0.6], [0.9]),
        ("wanda", [0.5, 0.9], [0.6, 0.8]),
        ("wanda", [0.8], [0.7]),
    ]
    assert figure.data[1].customdata[0][0] == "70 %, 0.50 GB"
    assert figure.layout.xaxis.title.text == "transformer as stored, GB"
    low, high = figure.layout.xaxis.range
    assert low < 0.5 < 2.0 < high
    assert [(shape.x0, shape.x1) for shape in figure.layout.shapes] == [(2.0, 2.0)]
    assert "dense 2 GB" in figure.layout.annotations[0].text
    by_sparsity = work.curves(rows, "ssim")
    assert [list(trace.x) for trace in by_sparsity.data] == [[0], [50, 70], [50], [50]]
    assert not by_sparsity.layout.shapes
    assert len(work.curves(rows, "clip", work.SIZE).layout.shapes) == 2
    for nothing in (work.curves(rows[-1:], "ssim", work.SIZE), work.curves(rows, "ssim", "time")):
        assert not nothing.data
    assert "before sizes" in work.curves(rows[-1:], "ssim", work.SIZE).layout.meta["alt"]


def test_the_table_says_sizes_and_rounding_has_no_predicted_damage():
    rows = [sized("int8", "0 %", 0.0, 1_234_567, 0.9), sized("wanda", "50 %", 0.5, None, 0.8)]
    text = work.table(rows)
    assert '<th scope="col">size, MB</th>' in text
    assert '<th scope="row">int8</th><td>0 %</td><td>1.2</td>' in text
    assert '<th scope="row">wanda</th><td>50 %</td><td>–</td>' in text
    measured = [replace(row, scores={"latent_mse": [0.5]}) for row in rows]
    assert [trace.name for trace in work.damage_figure(None, measured).data] == ["wanda"]


def test_the_benchmarks_plans_are_shown_for_their_model_only(session, tmp_path, monkeypatch):
    plans = [{"sort": "uniform", "predicted": 0.1, "measured": 0.2}]
    path = tmp_path / "damage.json"
    monkeypatch.setattr(work, "PLANS", path)
    for fingerprint, drawn in ((session.model.fingerprint, 1), ("another", 0)):
        path.write_text(json.dumps({"fingerprint": fingerprint, "spearman": 0.9, "plans": plans}))
        assert len(work.damage_figure(session, ()).data) == drawn


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": ()}, "at least one recipe"),
        ({"sparsities": ""}, "at least one sparsity"),
        ({"sparsities": "0.5"}, "in percent"),
        ({"prompts": 6}, "left for calibration"),
        ({"prompts": 0}, "number of prompts"),
        ({"prompts": None}, "number of prompts"),
        ({"seeds": 17}, "number of seeds"),
        ({"steps": 0}, "number of steps"),
        ({"prompt_set": "/nowhere.txt"}, "cannot be read"),
    ],
)
def test_bad_settings_are_one_sentence(session, tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        work.measure(session, work.Asked(**{**vars(ASKED), **change}), folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_prompt_set_of_ones_own(session, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("a cat\na horse\nthe sun\n")
    experiment = work.plan_experiment(session, work.Asked(("wanda",), "50", 3, 1, 2, str(path)))
    assert set(experiment.prompts) == {"a cat", "a horse", "the sun"}
    assert set(experiment.calibration_prompts) == set(session.model.defaults.prompts) - {"a cat"}


def test_results_are_kept_in_the_users_cache(session, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert work.results_folder(session).is_relative_to(tmp_path)
    with pytest.raises(UserError, match="No model"):
        work.results_folder(Session(session.store))


def test_a_cancelled_comparison_keeps_what_it_has(session, tmp_path):
    def stop(done, total, what):
        if done >= 3:
            raise Cancelled

    rows = []
    with pytest.raises(Cancelled):
        work.measure(session, ASKED, folder=tmp_path, emit=rows.append, progress=stop)
    assert [row.seed for row in rows] == [0]
    assert work.measure(session, ASKED, folder=tmp_path).rows[0] == rows[0]


@pytest.fixture(scope="module")
def ready(session) -> Session:
    """Pruned, with some layers set by hand."""
    return set_by_text(session.calibrate(8, 0), "adaLN: 20")


def test_the_plan_at_hand_is_a_row_of_its_own(ready, tmp_path):
    asked = work.Asked((work.AT_HAND, "wanda"), "50", prompts=1, seeds=1, steps=1)
    dense, own, wanda = work.measure(ready, asked, folder=tmp_path).rows
    assert (dense.recipe, own.recipe, wanda.recipe) == ("dense", "plan at hand", "wanda")
    assert own.sparsity == pytest.approx(ready.report.achieved)  # not the 50 % that the recipe asks for
    assert own.level == f"{100 * round(ready.report.achieved, 4):g} %"
    alone = work.measure(ready, replace(asked, methods=(work.AT_HAND,), sparsities=""), folder=tmp_path)
    assert [row.recipe for row in alone.rows] == ["dense", "plan at hand"]
    with pytest.raises(UserError, match="not pruned"):
        work.plan_experiment(Session(ready.store, model=ready.model, statistics=ready.statistics), asked)


def test_how_long_it_takes_is_told_before_it_starts(ready):
    few = work.plan_experiment(ready, work.Asked(("magnitude",), "50", 1, 1, 2))
    many = replace(few, seeds=(0, 1, 2))
    ready.store.times.put(tradeoff_time._key(ready), 10.0)  # seconds for a step of a picture
    seconds = [tradeoff_time.comparison_time(ready, one).seconds for one in (few, many)]
    assert seconds[1] - seconds[0] == pytest.approx(10.0 * 2 * 2 * 2)  # two seeds more: a dense and a pruned row each
    assert "2 rows with the dense one × 1 prompt × 1 seed: **" in tradeoff_time.in_words(ready, few)
    before = Session(ready.store, model=ready.model)
    assert "not measured yet" in tradeoff_time.in_words(before, few)


def test_what_comes_with_the_app_is_shown_until_something_is_measured(tiny_flux, tiny_clip, tmp_path, monkeypatch):
    store = ModelStore(clip=tiny_clip, device="cpu", dtype="float32")
    session = Session(store).load_model(str(tiny_flux))
    work.measure(session, replace(ASKED, sparsities="70, 50"), folder=tmp_path)
    monkeypatch.setattr(tradeoff_shipped, "FOLDER", tmp_path)
    shown = tradeoff_shipped.on_screen(session, work.Measured(), ["wanda", "ria"])
    assert [(row.recipe, row.level) for row in shown.rows] == [
        (name, level) for name, level in (("dense", "0 %"), ("wanda", "50 %"), ("wanda", "70 %")) for _ in (0, 1)
    ]
    assert "shipped with the app: tiny-flux, 2 prompts, seeds 0, 1, 2 steps" in work.table(shown.rows, "", shown.source)
    files = tradeoff_shipped.with_files(session, shown).files
    assert [path.rsplit(".")[-1] for path in files] == ["csv", "json", "png"]
    own = work.Measured(shown.rows[:2])
    assert tradeoff_shipped.on_screen(session, own, ["wanda"]) is own
    for nothing in (["ria"], []):
        assert not tradeoff_shipped.on_screen(session, work.Measured(), nothing).rows
    assert not tradeoff_shipped.on_screen(None, work.Measured(), ["wanda"]).rows
    other = replace(session, model=replace(session.model, fingerprint="another", cache=Cache(1 << 20)))
    assert not tradeoff_shipped.on_screen(other, work.Measured(), ["wanda"]).rows


@pytest.fixture
def listeners(session, tmp_path):
    """The tab's listeners by name, in a page of its own whose users begin with the session."""
    jobs = Jobs()
    startup = Startup(session, str(session.model.source), jobs)
    startup._done.set()
    actions = Actions(jobs, startup)
    with gr.Blocks() as page:
        frame = Frame(gr.State(None), gr.HTML(), gr.Button(), gr.State(None))
        with gr.Tab("Trade-off") as tab:
            tradeoff_tab.build(frame, actions, Kept.states(), tab, tmp_path)
    return {fn.name: fn.fn for fn in page.fns.values()} | {"cancel": actions.cancel}


def test_the_tab_grows_while_it_works(listeners):
    request = SimpleNamespace(session_hash="visitor")
    updates = list(listeners["compare"](None, ["magnitude"], "50", 2, 1, 2, None, "ssim", request))
    counts = [len(update[3].rows) for update in updates if isinstance(update[3], work.Measured)]
    assert counts == [1, 2, 2]
    *_, last = updates
    assert len(last) == 3 + 7
    assert json.loads(last[4])["data"]
    assert "magnitude" in last[5]
    assert [button.interactive for button in last[7:]] == [True] * 3
    shown = json.loads(listeners["show_chosen"](None, last[3], [], "latent_mse", over="size"))["layout"]
    assert shown["yaxis"]["title"]["text"] == "latent MSE"
    assert shown["xaxis"]["title"]["text"] == "transformer as stored, MB"


def test_a_stopped_comparison_keeps_its_rows_and_their_files(listeners):
    request = SimpleNamespace(session_hash="visitor")
    updates = []
    for update in listeners["compare"](None, ["magnitude"], "30, 50, 70", 2, 1, 20, None, "ssim", request):
        updates.append(update)
        if isinstance(update[3], work.Measured):
            listeners["cancel"](request)
    *_, told, last = updates
    assert "the rows that are finished stay" in told[1]
    rows = last[3].rows
    assert 0 < len(rows) < 4
    assert [button.interactive for button in last[7:]] == [True] * 3
    cells = json.loads(Path(last[3].files[1]).read_text())["cells"]
    assert [cell["recipe"] for cell in cells] == [row.recipe for row in rows]


def test_a_mistake_in_the_tab_is_one_sentence(listeners):
    request = SimpleNamespace(session_hash="visitor")
    with pytest.raises(gr.Error, match="at least one recipe"):
        list(listeners["compare"](None, [], "50", 2, 1, 2, None, "ssim", request))


def test_a_file_that_nobody_uploaded_is_never_read(listeners, tmp_path):
    request = SimpleNamespace(session_hash="visitor")
    path = tmp_path / "notes.txt"
    path.write_text("a secret")
    for fn, methods in (("compare", (["magnitude"],)), ("sweep_exponents", ())):
        with pytest.raises(gr.Error, match="Upload the prompts"):
            list(listeners[fn](None, *methods, "50", 1, 1, 1, str(path), "ssim", request))


def test_one_click_sweeps_the_exponents(listeners):
    request = SimpleNamespace(session_hash="visitor")
    *_, last = listeners["sweep_exponents"](None, "50", 1, 1, 1, None, "ssim", request)
    names = list(dict.fromkeys(row.recipe for row in last[3].rows))
    assert names == ["dense", "m = 0.5", "m = 1", "m = 1.5", "m = 2", "m = 2.5", "m = 3"]


def test_the_tab_explains_every_method():
    assert all(name in explain_methods() for name in NAMED_RECIPES)
    assert tradeoff_tab.suggestions(None) == 20


def test_a_score_that_nobody_has_is_an_empty_figure():
    row = Row("e", "a", "a", "50 %", 0.5, 0, 0.1, 1.0, 1.0, {"clip": [None]})
    assert not work.curves([row], "clip").data
    for told in (work.curves([row], "clip").layout.meta["alt"], work.table([row], "tiny")):
        assert "No CLIP score applies" in told
    assert "No CLIP" not in work.curves([], "clip").layout.meta["alt"]
    assert len(work.curves([row], "damage").data) == 1


@pytest.fixture
def uploads(tmp_path, monkeypatch):
    monkeypatch.setattr("dit_prune_viz.app.pages.tradeoff.listeners.get_upload_folder", lambda: str(tmp_path))
    return tmp_path


SET = "Prompt\tCategory\na cat\tpets\na dog\tpets\nthe sun\tsky\na cat\tpets\n" + "x" * 2001 + "\tsky\n"


def test_an_upload_is_previewed(listeners, uploads):
    path = uploads / "set.tsv"
    path.write_text(SET + "<b>\t<i>\n")
    words = listeners["show_prompts"]([str(path)])
    assert "5 prompts in 3 categories; 1 duplicate, drawn once; 1 too long, left out" in words
    assert "pets 3, sky 1, &lt;i&gt; 1" in words
    assert "<li>a dog</li>" in words
    assert "<b>" not in words
    (uploads / "table.csv").write_text("name,value\n<u>,1\n")
    words = listeners["show_prompts"]([str(uploads / "table.csv")])
    assert 'role="alert">table.csv has no column Prompt' in words
    assert listeners["show_prompts"](None) == listeners["show_prompts"]([]) == ""
    assert "Upload the prompts" in listeners["show_prompts"](["/etc/passwd"])


def test_the_tab_shows_what_breaks_first(listeners, uploads):
    request = SimpleNamespace(session_hash="visitor")
    (uploads / "a.tsv").write_text(SET)
    (uploads / "b.txt").write_text("a tree\na house\n")
    files = [str(uploads / name) for name in ("a.tsv", "b.txt")]
    *_, last = listeners["compare"](None, ["magnitude"], "50", 5, 1, 1, files, "ssim", request, "method:magnitude")
    measured = last[3]
    assert sorted(measured.categories) == ["b", "b", "pets", "pets", "sky"]
    assert {trace["name"] for trace in json.loads(last[4])["data"]} == {"b", "pets", "sky"}
    by, table = listeners["offer_categories"](measured, "ssim", "method:magnitude")
    assert (by.visible, by.value, len(by.choices)) == (True, "method:magnitude", 5)
    assert "pets (2)" in table
    assert "breaks first" in table
    assert listeners["offer_categories"](work.Measured(), "ssim", "method:magnitude")[0].value == ""
    description = json.loads(Path(measured.files[1]).read_text())["experiment"]
    assert description["categories"] == list(measured.categories)
