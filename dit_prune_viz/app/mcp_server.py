"""The tools as an MCP server shows them: their arguments, their answers, progress, and an end when nobody waits."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import math
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from mcp import types
from mcp.server.lowlevel.server import Server
from pydantic import ValidationError

import dit_prune_viz
from dit_prune_viz.app.mcp_arguments import TOOLS, Described
from dit_prune_viz.app.session.action_log import logged
from dit_prune_viz.app.session.agent_tools import AgentTools, Answer
from dit_prune_viz.app.session.jobs import UNEXPECTED, Busy, Jobs, Result
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
_AT_ONCE = 8
"""Calls that wait for their work at one time; more stand in line."""
_log = logging.getLogger(__name__)


Gone = Callable[[Any], asyncio.Event]
"""The event that the client of a request has left."""


def make_server(startup: Startup, gone: Gone, find: FindSession | None = None) -> Server:
    """The server of an app's tools.

    Args:
        startup: see `RecipeSessions`.
        gone: see `Gone`.
        find: see `RecipeSessions`.
    """
    calls = _Calls(AgentTools(RecipeSessions(startup, find)), startup.jobs, gone)
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

    def __init__(self, tools: AgentTools, jobs: Jobs, gone: Gone) -> None:
        self._tools, self._jobs, self._gone = tools, jobs, gone
        self._turns = asyncio.Semaphore(_AT_ONCE)

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
        stop, updates, told = threading.Event(), asyncio.Queue(), _Growing()
        put = partial(asyncio.get_running_loop().call_soon_threadsafe, updates.put_nowait)
        async with self._turns:
            threading.Thread(target=self._follow, args=(tool, stop, put), name="tool", daemon=True).start()
            left = asyncio.create_task(self._gone(context.request).wait())
            try:
                while True:
                    update = asyncio.create_task(updates.get())
                    await asyncio.wait({update, left}, return_when=asyncio.FIRST_COMPLETED)
                    if left.done():
                        raise Cancelled
                    found = update.result()
                    if isinstance(found, Result):
                        return found.value
                    if isinstance(found, BaseException):
                        raise found
                    if isinstance(found, Busy) and told.grows(found.share):
                        await context.session.report_progress(told.value, None, found.what)
            finally:
                stop.set()
                left.cancel()
                update.cancel()

    def _follow(self, tool: partial[Answer], stop: threading.Event, put: Callable[[Any], Any]) -> None:
        """Hand on what the job tells, in a thread."""
        owner = f"mcp {uuid4().hex}"
        try:
            with logged(tool.func, owner):
                for update in self._jobs.run(owner, tool, cancel=stop):
                    put(update)
        except BaseException as problem:  # raised where somebody waits for it
            put(problem)


class _Growing:
    """Progress that grows by one with every stage of the work, as MCP wants it to grow."""

    def __init__(self) -> None:
        self.value, self._stage = -1.0, 0

    def grows(self, share: float) -> bool:
        """Whether the share of the present stage, 0 to 1, is more than was told last; `value` is then that."""
        if self._stage + share < self.value:
            self._stage += 1
        grown = self._stage + share > self.value
        self.value = max(self.value, self._stage + share)
        return grown


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
