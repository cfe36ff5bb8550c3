"""Figures of the code itself: size of folders, circles of imports, docstrings, tests to source, start-up, README.

python benchmarks/house.py [--repeats 5]

Needs no data. Start-up is the least of some runs, each in a process of its own.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "crnn_cli"


def public_docstrings() -> Iterator[str]:
    for file in PACKAGE.rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            for each in (node, *(node.body if isinstance(node, ast.ClassDef) else ())):
                if isinstance(each, ast.FunctionDef | ast.ClassDef) and not each.name.startswith("_"):
                    yield ast.get_docstring(each) or ""


def imports() -> dict[str, set[str]]:
    """Imports between the modules of the package, those of types included; the package's face is left out."""
    graph: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = {
            module
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module
            for module in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        }
    return {name: needs & graph.keys() - {name, "crnn_cli"} for name, needs in graph.items() if name != "crnn_cli"}


def floors(graph: dict[str, set[str]]) -> int:
    """Packages in the longest chain of imports, `crnn_cli` itself on top."""
    top = {name: name.split(".")[1] for name in graph}
    packages: dict[str, set[str]] = {}
    for name, needs in graph.items():
        packages.setdefault(top[name], set()).update(top[need] for need in needs if top[need] != top[name])
    height: dict[str, int] = {}
    for package in TopologicalSorter(packages).static_order():
        height[package] = 1 + max((height[need] for need in packages[package]), default=0)
    return max(height.values())


def lines(folder: str) -> tuple[int, int]:
    """Lines of all modules below a folder, and those that are code: no blank lines, comments, docstrings."""
    whole = code = 0
    for file in (ROOT / folder).rglob("*.py"):
        text = file.read_text()
        words = {
            number
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            for number in range(node.lineno, (node.end_lineno or 0) + 1)
        }
        rows = list(enumerate(text.splitlines(), 1))
        whole += len(rows)
        code += sum(bool(row.strip()) and not row.strip().startswith("#") and n not in words for n, row in rows)
    return whole, code


def seconds(arguments: list[str], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=ROOT)
        taken.append(time.perf_counter() - began)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    graph, texts = imports(), list(public_docstrings())
    TopologicalSorter(graph).prepare()  # CycleError names a circle
    fullest = max({file.parent for file in PACKAGE.rglob("*.py")}, key=lambda folder: len(list(folder.glob("*.py"))))
    short = sum("\n" not in text for text in texts) / len(texts)
    source, tests = lines("crnn_cli"), lines("tests")
    print("| what | figure | bar |\n|---|---|---|")
    print("| circles of imports | 0 | 0 |")
    print(f"| modules at the top of the package | {len(list(PACKAGE.glob('*.py')))} | at most 8 |")
    count = len(list(fullest.glob("*.py"))) - 1
    print(f"| modules in the fullest folder, {fullest.name} | {count} and `__init__` | at most 20 |")
    print(f"| floors of imports between packages | {floors(graph)} | at most 10 |")
    print(f"| public docstrings of one line | {100 * short:.0f} % of {len(texts)} | under 40 % |")
    print(f"| docstrings with a doctest | {sum('>>>' in text for text in texts)} | they run |")
    print(f"| tests to source, lines of code | {tests[1] / source[1]:.2f} ({tests[1]} to {source[1]}) | above 1 |")
    print(f"| tests to source, all lines | {tests[0] / source[0]:.2f} ({tests[0]} to {source[0]}) | |")
    print(f"| `crnn --help` | {seconds(['-m', 'crnn_cli', '--help'], repeats):.2f} s | under 0.3 s |")
    bare = seconds(["-c", "pass"], repeats)
    print(f"| `import crnn_cli` | {seconds(['-c', 'import crnn_cli'], repeats) - bare:.3f} s | under 0.1 s |")
    print(f"| README | {len((ROOT / 'README.md').read_bytes())} bytes | under 8 kB |")


if __name__ == "__main__":
    main()
