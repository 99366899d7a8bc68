"""The lines of code that a pane shows, and the lessons. Imports no torch.

Only files that are listed here are ever read: no name from a request becomes a path.
"""

import ast
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lab.exercises.catalog import exercises
from lab.exercises.own_files import names_in
from lab.files import ROOT, display_path

# pane -> the functions whose lines stand next to it, as file:name
CODE: Mapping[str, Sequence[str]] = {
    "maze": (
        "01_q_learning_maze/q_learning_agent.py:QLearningAgent.update",
        "01_q_learning_maze/q_learning_agent.py:QLearningAgent.act",
        "01_q_learning_maze/q_learning_agent.py:train",
        "01_q_learning_maze/value_iteration.py:value_iteration",
    ),
    "transformer": (
        "02_transformer_basics/transformer_block.py:attention",
        "02_transformer_basics/models/gpt2.py:GPT2.mask",
        "02_transformer_basics/models/generation.py:token_probabilities",
        "02_transformer_basics/models/generation.py:keep_top_k",
        "02_transformer_basics/models/generation.py:keep_top_p",
        "02_transformer_basics/sentiment/attribution.py:integrated_gradients",
    ),
    "arm": (
        "03_ppo_reacher/ppo.py:Trainer.iterate",
        "03_ppo_reacher/ppo.py:compute_gae",
        "03_ppo_reacher/ppo.py:policy_loss",
        "03_ppo_reacher/ppo.py:update_diagnostics",
    ),
}
LESSONS = {
    "first_steps": "00_first_steps/README.md",
    "maze": "01_q_learning_maze/README.md",
    "transformer": "02_transformer_basics/README.md",
    "arm": "03_ppo_reacher/README.md",
}
COMMENT = re.compile("<!--.*?-->", re.DOTALL)  # where a number or a table comes from
LINK = re.compile(r'(?:src|href)="([^"#:?]+)"')
PICTURES = {".png": "image/png", ".gif": "image/gif", ".svg": "image/svg+xml"}


def code_of(pane: str, own_files: Sequence[Path] = ()) -> list[dict[str, object]]:
    """Return the functions of a pane: file, name and numbered lines; first a learner's own, from `--with`."""
    learners = [(file, name) for file in own_files for name in names_in(file) if is_of(pane, name)]
    labs = [(ROOT / file, name) for file, _, name in (entry.partition(":") for entry in CODE[pane])]
    return [lines_of(file, name) for file, name in (*learners, *labs)]


def is_of(pane: str, function: str) -> bool:
    """Return True if an exercise of the pane's lesson is to write this function."""
    folder = (ROOT / LESSONS[pane]).parent
    return any(function in each.functions for each in exercises().values() if each.project == folder)


def lines_of(path: Path, name: str) -> dict[str, object]:
    """Return a function or method with its place in the file, without its docstring. Raises LookupError."""
    text = path.read_text(encoding="utf-8-sig")
    node: ast.AST = ast.parse(text)
    for part in name.split("."):
        node = next(
            (
                each
                for each in ast.iter_child_nodes(node)
                if isinstance(each, (ast.FunctionDef, ast.ClassDef)) and each.name == part
            ),
            None,
        ) or _missing(path, name)
    assert isinstance(node, (ast.FunctionDef, ast.ClassDef))
    lines = text.splitlines()
    numbers = set(range(node.lineno, (node.end_lineno or node.lineno) + 1)) - set(_docstring_lines(node))
    return {
        "file": display_path(path),
        "name": name,
        "lines": [{"number": number, "text": lines[number - 1]} for number in sorted(numbers)],
    }


def _missing(path: Path, name: str) -> ast.AST:
    raise LookupError(f"{path} has no {name}")


def _docstring_lines(node: ast.FunctionDef | ast.ClassDef) -> Iterator[int]:
    if ast.get_docstring(node) is not None:
        first = node.body[0]
        yield from range(first.lineno, (first.end_lineno or first.lineno) + 1)


def lesson_page(name: str) -> str:
    """Return a lesson as HTML."""
    from markdown_it import MarkdownIt  # here: the page does not wait for it

    path = ROOT / LESSONS[name]
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(COMMENT.sub("", path.read_text(encoding="utf-8")))
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", anchor(tokens[number + 1].content))
        for image in (child for child in token.children or () if child.type == "image"):
            # A browser takes ../ out of an address itself, and the lesson's name with it.
            image.attrSet("src", str(image.attrs["src"]).removeprefix("../"))
    body = markdown.renderer.render(tokens, markdown.options, {})
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(path.parent.name)}</title>"
        f'<link rel="stylesheet" href="/static/style.css"></head><body><main class="lesson">{body}</main></body></html>'
    )


def anchor(heading: str) -> str:
    """Return the id of a heading, as repository sites make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def lesson_pictures(name: str) -> dict[str, Path]:
    """Return the pictures that a lesson shows, by the name that its page uses."""
    folder = (ROOT / LESSONS[name]).parent
    found = {}
    for link in LINK.findall(lesson_page(name)):
        for path in ((folder / link).resolve(), (ROOT / link).resolve()):
            if path.suffix in PICTURES and path.is_relative_to(ROOT) and path.is_file():
                found[link] = path
    return found
