"""Every benchmark of the project, by name.

    python tests/benchmarks/run.py [--only NAME[,NAME]] [--json FILE]

prints a table, and writes {NAME: {"value": x, "unit": "…", "goal": "…", "held": true|false, "detail": …}}. Without
`--only` it runs all that fit this machine. Every other file of this folder holds `BENCHMARKS`, names with functions
that return such a dictionary, or a sentence that says what the machine lacks: then the exit status is 2 if nothing else
was asked for. A dictionary may have a table as Markdown under "markdown", which goes into a file beside the results;
without `--json` both are named after the benchmark.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent


def find_benchmarks() -> dict[str, Callable[[], dict | str]]:
    """All benchmarks by name, file by file."""
    found: dict[str, Callable[[], dict | str]] = {}
    for path in sorted(HERE.glob("*.py")):
        if path.name == Path(__file__).name:
            continue
        spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up there
        spec.loader.exec_module(module)
        found |= getattr(module, "BENCHMARKS", {})
    return found


def measure(name: str, benchmark: Callable[[], dict | str], asked: bool) -> dict | None:
    """The result of one benchmark; None where the machine lacks something and nobody asked for it by name."""
    try:
        result = benchmark()
    except Exception as error:
        traceback.print_exc()
        result = {"value": None, "unit": "", "goal": "", "held": False, "detail": f"{type(error).__name__}: {error}"}
    if isinstance(result, str):
        print(f"{name}: {result}", file=sys.stderr)
        lacking = {"value": None, "unit": "", "goal": "", "held": False, "detail": result, "lacking": True}
        return lacking if asked else None
    return result


def table(results: dict[str, dict]) -> str:
    """The results as text, one line each."""
    rows = [("benchmark", "value", "unit", "goal", "held")]
    for name, result in results.items():
        value = result["value"]
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        rows.append((name, shown, result["unit"], result["goal"], "yes" if result["held"] else "NO"))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run the project's benchmarks.")
    parser.add_argument("--only", help="names with commas between them")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(HERE.parents[1]))
    benchmarks = find_benchmarks()
    names = [name.strip() for name in options.only.split(",")] if options.only else list(benchmarks)
    unknown = [name for name in names if name not in benchmarks]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; choose among {', '.join(benchmarks)}")
    results = {}
    for name in names:
        start = time.perf_counter()
        result = measure(name, benchmarks[name], asked=bool(options.only))
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        text = (result or {}).pop("markdown", None)
        if result is not None:
            results[name] = result
        file = options.json or (Path(f"{name}.json") if text else None)
        if text:
            write(file.with_suffix(".md"), text)
            print(text)
        if file:  # after every one, so that nothing is lost
            write(file, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(table(results))
    return 2 if results and all(result.get("lacking") for result in results.values()) else 0


def write(path: Path, text: str) -> None:
    """Write a file, in a folder that is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
