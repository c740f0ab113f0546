#!/usr/bin/env python3
"""Rules of layout that no linter knows: sizes of functions and files, and tests that colcon can reach."""

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FUNCTION_LINES = 70
MAX_FILE_LINES = 450
FOLDERS = ("src", "tools", "tests", "launch")
ROOT = Path(__file__).resolve().parent.parent


def too_long(file: Path) -> Iterator[str]:
    """Functions and files over their limits."""
    text = file.read_text()
    where = file.relative_to(ROOT)
    lines = text.count("\n")
    if lines > MAX_FILE_LINES:
        yield f"{where}: {lines} lines, at most {MAX_FILE_LINES}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield f"{where}:{node.lineno}: {node.name} has {length} lines, at most {MAX_FUNCTION_LINES}"


def pytest_args(package: str) -> list[str]:
    """The options by which `colcon test` finds a package's tests; it runs pytest in the package's folder.

    The root is the workspace's, as in `./ws test`: with another, a conftest.py counts for every folder of tests.
    """
    folders = sorted({file.parent for file in ROOT.glob(f"tests/*/{package}/test_*.py")})
    found = [f"../../{folder.relative_to(ROOT)}" for folder in folders]
    return ["-c", "../../pyproject.toml", "--rootdir", "../..", "-o", "pythonpath=tests", *found]


def unreachable_tests() -> Iterator[str]:
    """Python packages whose tests `colcon test` would not run."""
    named = json.loads((ROOT / "colcon.meta").read_text())["names"]
    for setup in sorted(ROOT.glob("src/*/setup.py")):
        package = setup.parent.name
        if named.get(package, {}).get("pytest-args") != pytest_args(package):
            yield f'colcon.meta: {package} needs "pytest-args": {json.dumps(pytest_args(package))}'
        if 'extras_require={"test": ["pytest"]}' not in setup.read_text():
            yield f'{setup.relative_to(ROOT)}: needs extras_require={{"test": ["pytest"]}}, or colcon takes unittest'


def main() -> int:
    """Print what is wrong; returns the exit status."""
    files = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
    problems = [problem for file in files for problem in too_long(file)]
    problems += unreachable_tests()
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
