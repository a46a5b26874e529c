"""The tools as an MCP server shows them: their arguments, their answers, progress, and an end when nobody waits."""

from __future__ import annotations

import base64
import io
import json
import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import mcp_types as types
from anyio import from_thread, to_thread
from mcp.server.lowlevel.server import Server
from pydantic import ValidationError

import dit_prune_viz
from dit_prune_viz.app.mcp_arguments import TOOLS, Described
from dit_prune_viz.app.mcp_route import GONE
from dit_prune_viz.app.session.action_log import logged_updates
from dit_prune_viz.app.session.agent_tools import AgentTools, Answer
from dit_prune_viz.app.session.jobs import Busy, Jobs, Result
from dit_prune_viz.app.session.recipe_sessions import RecipeSessions
from dit_prune_viz.checks import brief
from dit_prune_viz.errors import Cancelled, UserError

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from PIL.Image import Image

    from dit_prune_viz.app.session.recipe_sessions import FindSession
    from dit_prune_viz.app.session.startup import Startup

INSTRUCTIONS = (
    "Prune a diffusion transformer after training. Nothing is kept between calls: give the recipe every time, a name "
    'with a sparsity ("swap", 0.6) or a JSON object ({"saliency": "ria", "sparsity": 0.5}). prune tells what it costs, '
    "compare draws, export writes."
)
UNEXPECTED = "Something went wrong; nothing has changed, and the app's terminal shows the details."
_AT_ONCE = 8
"""Calls that wait for their work at one time; more stand in line for a thread."""
_log = logging.getLogger(__name__)


def make_server(startup: Startup, find: FindSession | None = None) -> Server:
    """The server of an app's tools.

    Args:
        startup: see `RecipeSessions`.
        find: see `RecipeSessions`.
    """
    calls = _Calls(AgentTools(RecipeSessions(startup, find)), startup.jobs)
    return Server(
        "dit-prune-viz",
        title="DiT Pruning Explorer",
        version=dit_prune_viz.__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=calls.list,
        on_call_tool=calls.call,
    )


class _Calls:
    """What clients ask for."""

    def __init__(self, tools: AgentTools, jobs: Jobs) -> None:
        self._tools, self._jobs = tools, jobs
        self._limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def list(self, context: ServerRequestContext, params: types.PaginatedRequestParams | None):
        """All tools, with a schema of their arguments."""
        return types.ListToolsResult(tools=[_shown(name, one) for name, one in TOOLS.items()])

    async def call(self, context: ServerRequestContext, params: types.CallToolRequestParams) -> types.CallToolResult:
        """Run one tool; whatever goes wrong is told in one sentence."""
        try:
            if params.name not in TOOLS:
                raise UserError(f"There is no tool {brief(params.name)}; choose one of {', '.join(TOOLS)}.")
            arguments = _read(TOOLS[params.name], params.arguments or {})
            return _result(await self._run(context, partial(getattr(self._tools, params.name), **arguments)))
        except UserError as problem:
            return _failed(str(problem))
        except Cancelled:
            return _failed("The work was cancelled.")
        except Exception:  # a fault of the app's own: the client gets a sentence, the terminal the traceback
            _log.exception("the tool %s failed", params.name)
            return _failed(UNEXPECTED)

    async def _run(self, context: ServerRequestContext, tool: partial[Answer]) -> Answer:
        """In a job of its own, which ends early when the call is cancelled or its client has left."""
        owner, gone = f"mcp {uuid4().hex}", context.request.scope[GONE]
        found: list[Answer | Exception] = []

        async def work() -> None:
            follow = partial(self._follow, owner, tool, context.session.report_progress)
            try:
                found.append(await to_thread.run_sync(follow, abandon_on_cancel=True, limiter=self._limiter))
            except Exception as problem:  # raised below, not as one of a group
                found.append(problem)
            group.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await gone.wait()
                group.cancel_scope.cancel()
        finally:
            self._jobs.cancel(owner)
        if not found:
            raise Cancelled
        if isinstance(found[0], Exception):
            raise found[0]
        return found[0]

    def _follow(self, owner: str, tool: partial[Answer], tell: Callable) -> Answer:
        """The job's result, from a thread; progress grows by one with every stage, as MCP wants it to grow."""
        stage, last = 0, -1.0
        for update in logged_updates(self._jobs.run(owner, tool), tool.func, owner):
            if isinstance(update, Result):
                return update.value
            if isinstance(update, Busy):
                now = stage + update.share
                if now < last:
                    stage += 1
                    now = stage + update.share
                if now > last:
                    last = now
                    from_thread.run(tell, now, None, update.what)
        raise Cancelled


def _shown(name: str, tool: type[Described]) -> types.Tool:
    schema = tool.model_json_schema()
    words = schema.pop("description")
    reads = types.ToolAnnotations(read_only_hint=name != "export", destructive_hint=False, open_world_hint=False)
    return types.Tool(name=name, description=words, input_schema=schema, annotations=reads)


def _read(tool: type[Described], given: dict[str, Any]) -> dict[str, Any]:
    """Checked arguments, those that were given alone. UserError in one sentence for the first that is wrong."""
    try:
        return tool.model_validate(given).model_dump(exclude_unset=True)
    except ValidationError as problem:
        first = problem.errors()[0]
        where = str(first["loc"][0]) if first["loc"] else "arguments"
        if first["type"] == "extra_forbidden":
            known = ", ".join(tool.model_fields) or "none"
            raise UserError(f"The tool has no argument {brief(where)}; there are {known}.") from None
        words = first["msg"][:1].lower() + first["msg"][1:]
        raise UserError(f"The argument {brief(where)} is {brief(first['input'])}: {words}.") from None


def _result(answer: Answer) -> types.CallToolResult:
    values = _finite(answer.values)
    # As text too, for clients that read no structured content.
    text = types.TextContent(type="text", text=json.dumps(values, ensure_ascii=False, allow_nan=False))
    return types.CallToolResult(
        content=[text, *(_picture(image) for _, image in answer.pictures)], structured_content=values
    )


def _finite(value: Any) -> Any:
    """The same with null for numbers that JSON has no way to write."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _picture(image: Image) -> types.ImageContent:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return types.ImageContent(type="image", data=base64.b64encode(buffer.getvalue()).decode(), mime_type="image/png")


def _failed(sentence: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=sentence)], is_error=True)
