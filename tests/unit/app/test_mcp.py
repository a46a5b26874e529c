"""The tools for agents as the official MCP client finds them, on a server that is really running."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from PIL import Image, ImageChops
from readme import DOCS, python_block, table

import dit_prune_viz as dpv
from dit_prune_viz.app import mcp_option, serve
from dit_prune_viz.app.guard_options import guarded
from dit_prune_viz.app.guard_rules import GuardRules
from dit_prune_viz.app.mcp_arguments import TOOLS
from dit_prune_viz.app.mcp_route import McpRoute
from dit_prune_viz.app.server import build_app
from dit_prune_viz.app.session.health import health
from dit_prune_viz.app.session.jobs import Reporter
from dit_prune_viz.app.session.recipe_sessions import RecipeSessions
from dit_prune_viz.app.session.startup import AppSettings, start
from dit_prune_viz.app.theme import launch_options
from dit_prune_viz.errors import UserError
from dit_prune_viz.generation.request import Request
from dit_prune_viz.pipelines.load_settings import LoadSettings
from dit_prune_viz.resources import BUNDLED_CLIP, BUNDLED_MODEL

PROMPT, STEPS = "slice of pizza", 2


@pytest.fixture(scope="module")
def startup(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return start(AppSettings(LoadSettings(str(BUNDLED_MODEL), "cpu", "float32"), str(BUNDLED_CLIP), out=out))


def _launch(startup, **more):
    """As `serve` does it."""
    app = build_app(startup)
    guards = guarded(GuardRules(), lambda: health(startup), inner=[(McpRoute, (), {"startup": startup})])
    launched = {**launch_options(), **guards, **more}
    _, address, _ = app.launch(server_name="127.0.0.1", prevent_thread_lock=True, **launched)
    return app, f"{address.rstrip('/')}/mcp"


@pytest.fixture(scope="module")
def url(startup):
    app, address = _launch(startup)
    yield address
    app.close()


@asynccontextmanager
async def _session(url: str, **headers: str):
    async with (
        create_mcp_http_client(headers=headers) as http,
        streamable_http_client(url, http_client=http) as streams,
        ClientSession(*streams[:2]) as session,
    ):
        await session.initialize()
        yield session


def call(url: str, *calls: tuple[str, dict]) -> list:
    """The results of some calls by one client."""

    async def ask() -> list:
        async with _session(url) as session:
            return [await session.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(ask())


def picture(content) -> Image.Image:
    assert content.mime_type == "image/png"
    return Image.open(io.BytesIO(base64.b64decode(content.data))).convert("RGB")


def test_three_calls_prune_draw_and_export(url, startup, bundled):
    asked = {"recipe": "wanda", "sparsity": 0.6}
    drawing = {"prompts": [PROMPT], "seed": 3, "steps": STEPS}
    calls = ("prune", asked), ("compare", asked | drawing), ("export", asked | {"way": "packed", "name": "mine"})
    plan, drawn, written = call(url, *calls)
    assert [one.is_error for one in (plan, drawn, written)] == [False] * 3

    pruned = dpv.prune(bundled, replace(dpv.Recipe("wanda", "row"), sparsity=0.6))
    values = plan.structured_content
    assert json.loads(plan.content[0].text) == values
    assert values["achieved"] == pruned.report.achieved
    assert values["damage"] == pytest.approx(pruned.report.damage, rel=1e-6)
    assert sum(row["weights"] for row in values["kinds"]) == bundled.prunable_parameters
    assert "layers" not in values
    assert len(plan.content[0].text) < 10_000

    dense, sparse = map(picture, drawn.content[1:])
    request = Request(PROMPT, 3, STEPS)
    expected, _ = dpv.generate(bundled, request)
    assert ImageChops.difference(dense, expected.convert("RGB")).getbbox() is None
    changed, _ = dpv.generate(bundled, request, pruned=pruned)
    assert ImageChops.difference(sparse, changed.convert("RGB")).getbbox() is None
    assert drawn.structured_content["pictures"][0] == f"dense: {PROMPT}"
    assert -1 <= drawn.structured_content["ssim"] < 1

    path = startup.out / "mine-packed"
    assert written.structured_content["path"] == str(path)
    assert dpv.load_packed(path).transformer.num_parameters() == bundled.parameters
    (again,) = call(url, calls[2])
    assert again.is_error
    assert "exists" in again.content[0].text


def test_the_documentation_is_right(url, startup, capsys):
    page = DOCS / "agents.md"
    code = python_block("call_tool", page).replace("http://127.0.0.1:7860/mcp", url)
    exec(code.replace('["slice of pizza"]', '["slice of pizza"], "steps": 1'), {})
    damage, ssim, path = capsys.readouterr().out.strip().splitlines()[-1].split(maxsplit=2)
    assert 0 < float(damage) < 1
    assert -1 <= float(ssim) <= 1
    assert Path(path).parent == startup.out
    assert Path(path).is_dir()
    assert {row[0].strip("`") for row in table(page, "tool")[1:]} == set(TOOLS)


def test_the_tools_describe_themselves(url):
    async def ask():
        async with _session(url) as session:
            return (await session.list_tools()).tools

    tools = asyncio.run(ask())
    assert [tool.name for tool in tools] == ["describe_model", "list_recipes", "prune", "compare", "paint", "export"]
    for tool in tools:
        assert tool.input_schema["additionalProperties"] is False
        assert all(one.get("description") for one in tool.input_schema["properties"].values())
        assert tool.annotations.read_only_hint == (tool.name != "export")


def test_model_and_recipes_are_told_in_full(url, bundled):
    model, every, recipes = call(
        url, ("describe_model", {}), ("describe_model", {"layers": True}), ("list_recipes", {})
    )
    values = model.structured_content
    assert values["parameters"] == sum(one.numel() for one in bundled.transformer.parameters())
    assert "layers" not in values
    assert sum(one["layers"] for one in values["kinds"]) == len(bundled.layers)
    assert [one["name"] for one in every.structured_content["layers"]] == [layer.name for layer in bundled.layers]
    named = {one["name"] for one in recipes.structured_content["recipes"]}
    assert {"dit-pruning", "wanda", "swap"} <= named
    ways = {one["name"] for one in recipes.structured_content["ways"]}
    assert ways == {"diffusers", "packed", "single-file", "recipe", "report", "numbers"}


def test_what_a_kind_paints(url):
    asked = {"by": "kind", "chosen": ["adaLN"], "prompts": [PROMPT], "steps": 1, "measured": False, "largest": 300}
    (found,) = call(url, ("paint", asked))
    (part,) = found.structured_content["parts"]
    assert part["name"] == "adaLN"
    assert part["ssim"] < 0.9
    assert max(picture(found.content[1]).size) == 300


WRONG = [
    ("nothing", {}),
    ("prune", {"recipe": {"metod": "wanda"}}),
    ("prune", {"recipe": {"method": "/etc/hostname.json"}}),
    ("prune", {"recipe": "../recipe.json"}),
    ("prune", {"recipe": [1]}),
    ("prune", {"recipe": {"model": {"name": "<b>x</b>"}}}),
    ("prune", {"recipe": {"saliency": "x" * 100_000}}),
    ("prune", {"sparsity": "a lot"}),
    ("prune", {"sparsity": 1.2}),
    ("prune", {"session": "unknown"}),
    ("prune", {"extra": 1}),
    ("compare", {"steps": 10**9}),
    ("compare", {"prompts": ["a"] * 5}),
    ("compare", {"prompts": ["x" * 3000]}),
    ("compare", {"seed": -1}),
    ("compare", {"largest": 10**6}),
    ("paint", {"by": "cluster"}),
    ("paint", {"chosen": ["block 99"]}),
    ("export", {"name": "../../mine"}),
    ("export", {"name": "/tmp/mine"}),
    ("export", {"way": "pickle"}),
]


def test_bad_input_gets_one_sentence_and_does_nothing(url, startup):
    before = sorted(startup.out.rglob("*"))
    for asked, result in zip(WRONG, call(url, *WRONG), strict=True):
        assert result.is_error, asked
        (content,) = result.content
        assert content.text.endswith(".")
        assert "\n" not in content.text
        assert len(content.text) < 500, asked
        assert "Traceback" not in content.text
        assert "went wrong" not in content.text, asked
    assert sorted(startup.out.rglob("*")) == before


def test_an_answer_that_is_too_large_to_ask_for_is_refused(url):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"x": "y" * (5 << 20)}})
    assert httpx.post(url, content=body, headers=HEADERS).status_code == 413


HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
LONG = {"prompts": ["red heart"], "steps": 200}


def _wait_until_free(startup, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not startup.wait().model.lock.free:
        assert time.monotonic() < end, "the model is still at work"
        time.sleep(0.02)


def test_progress_is_told_and_a_cancelled_call_stops(url, startup):
    told: list[float] = []

    async def ask() -> None:
        async with _session(url) as session:
            running = asyncio.Event()

            async def progress(done: float, total: float | None, message: str | None) -> None:
                told.append(done)
                if "denoising" in message:
                    running.set()

            work = asyncio.create_task(session.call_tool("compare", LONG, progress_callback=progress))
            await asyncio.wait_for(running.wait(), 30)
            assert not startup.wait().model.lock.free
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            await asyncio.to_thread(_wait_until_free, startup)
            after = await session.call_tool("prune", {"sparsity": 0.5})
            assert not after.is_error

    asyncio.run(ask())
    assert told == sorted(set(told))


def test_nobody_works_for_a_client_that_has_left(url, startup):
    message = {"jsonrpc": "2.0", "id": 1}
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
    with httpx.Client(headers=HEADERS, timeout=30) as client:
        first = client.post(url, json={**message, "method": "initialize", "params": hello})
        client.headers["mcp-session-id"] = first.headers["mcp-session-id"]
        client.post(url, json={"jsonrpc": "2.0", "method": "notifications/initialized"})
        asked = {"name": "compare", "arguments": LONG, "_meta": {"progressToken": 1}}
        with client.stream("POST", url, json={**message, "method": "tools/call", "params": asked}) as answer:
            assert any("denoising" in line for line in answer.iter_lines())
            assert not startup.wait().model.lock.free
    _wait_until_free(startup)


def test_a_login_is_asked_for_where_the_app_has_one(startup):
    app, url = _launch(startup, auth=[("me", "se:cret")])

    def basic(text: str) -> str:
        return f"Basic {base64.b64encode(text.encode()).decode()}"

    try:
        wrong = (
            None,
            "Basic ???",
            basic("me:no"),
            basic("you:se:cret"),
            basic(":"),
            "Bearer se:cret",
            "Digest me:se:cret",
        )
        for given in wrong:
            headers = HEADERS | ({"authorization": given} if given else {})
            answer = httpx.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers=headers)
            assert answer.status_code == 401, given
            assert answer.headers["www-authenticate"].startswith("Basic")

        async def ask(given: str) -> int:
            async with _session(url, authorization=given) as session:
                return len((await session.list_tools()).tools)

        assert {asyncio.run(ask(given)) for given in (basic("me:se:cret"), "Bearer me:se:cret")} == {len(TOOLS)}
        elsewhere = HEADERS | {"origin": "http://elsewhere.example", "authorization": basic("me:se:cret")}
        assert httpx.post(url, json={}, headers=elsewhere).status_code == 403
        tries = [httpx.post(url, json={}, headers=HEADERS | {"authorization": basic(f"me:{i}")}) for i in range(20)]
        assert [one.status_code for one in tries[-4:]] == [429] * 4
    finally:
        app.close()


def test_it_is_on_at_loopback_alone_unless_it_is_asked_for(monkeypatch):
    def on(*arguments: str) -> bool:
        return mcp_option.serves_mcp(serve.parse(arguments))

    open_to_all = "--host", "0.0.0.0", "--auth", "a:b"
    assert on()
    assert not on("--mcp", "off")
    assert not on(*open_to_all)
    assert on(*open_to_all, "--mcp", "on")
    monkeypatch.setattr(mcp_option, "find_spec", lambda name: None)
    assert not on()
    with pytest.raises(UserError, match="pip install"):
        on("--mcp", "on")


def test_nobody_waits_for_the_package_at_the_start():
    code = "import sys; from dit_prune_viz.app import mcp_option, mcp_route; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"dit_prune_viz.app.mcp_option", "dit_prune_viz.app.mcp_route"} <= set(loaded)
    assert not {"mcp", "mcp_types", "pydantic", "torch"} & set(loaded)


def test_sessions_of_recipes_are_kept_and_go_with_their_model(tiny_flux, tiny_sd3, tiny_clip):
    startup = start(AppSettings(LoadSettings(str(tiny_flux), "cpu", "float32"), str(tiny_clip)))
    own = startup.wait()
    sessions = RecipeSessions(startup, {"mine": own}.get)

    def pruned(recipe, sparsity=None, session=None):
        return sessions.pruned(recipe, sparsity, session, Reporter())

    first = pruned("wanda", 0.3)
    assert pruned({"sparsity": 0.3, "method": "wanda"}) is first
    assert pruned("wanda", 0.4) is not first
    assert pruned(None, session="mine") is own
    assert pruned("wanda", 0.3, session="mine") is not first
    own.load_model(str(tiny_sd3))
    assert len(startup.by_recipe) == 0
