"""Rules for every file that git tracks: words, imports, sizes, safety, links."""

import ast
import fnmatch
import functools
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from committed import git

from lab.files import ROOT

PROJECTS = ("00_first_steps", "01_q_learning_maze", "02_transformer_basics", "03_ppo_reacher")
MEGABYTE = 2**20
# assembled here, so that this file does not match its own patterns
MACHINE_PATHS = re.compile(r"(?<![\w.}/~-])/(?:" + "|".join(("work", "tmp", "root", "home", "Users")) + r")/\w")
REGISTRIES = re.compile(
    r"(?:--(?:extra-)?index-url|(?:" + "|".join(("pypi", "pythonhosted", "conda")) + r")\.(?:org|anaconda))"
)


@functools.cache
def tracked() -> list[Path]:
    """Return every file that git tracks or would add; without git, every file that .gitignore does not name."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed is None:
        return walked(ROOT)
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


def walked(folder: Path) -> list[Path]:
    """Return every file in `folder` that the patterns of the lab's .gitignore, each a name, do not match."""
    patterns = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()]
    files = []
    for path in sorted(folder.iterdir()):
        if path.name == ".git" or any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns):
            continue
        files += walked(path) if path.is_dir() else [path]
    return files


def text_files() -> Iterator[tuple[Path, str]]:
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content[:8000]:
            yield path, content.decode("utf-8")


def modules() -> list[Path]:
    """The Python files of `lab` and of the projects with their packages, without tests."""
    return [path for path in tracked() if path.suffix == ".py" and is_module(path.relative_to(ROOT).parts)]


def is_module(parts: tuple[str, ...]) -> bool:
    in_package = len(parts) == 3 and parts[0] in PROJECTS and parts[1] not in ("tests", "results")
    return in_package or (len(parts) == 2 and parts[0] in (*PROJECTS, "lab"))


def project(path: Path) -> str:
    """The folder at the root that a file is in."""
    return path.relative_to(ROOT).parts[0]


def module_name(path: Path) -> str:
    """The name under which a file is imported: `gpt2`, `models.gpt2`, `models` for its __init__.py, `lab.files`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "lab" or len(parts) == 1 else parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def definitions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    docstring = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(function) else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def test_modules_are_found() -> None:
    assert len(modules()) > 60
    assert {module_name(path) for path in modules()} >= {"models", "models.gpt2", "speed.quantization", "lab.files"}
    assert {path.name for path in modules()} >= {"q_learning_agent.py", "transformer_block.py", "ppo.py", "launch.py"}


def test_files_are_found_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a download without the history, in another user's clone, and where git is not installed."""
    if git("rev-parse") is not None:
        assert {path for path in walked(ROOT) if path.suffix in (".py", ".md", ".toml")} == {
            path for path in tracked() if path.suffix in (".py", ".md", ".toml")
        }
    monkeypatch.setenv("PATH", "")
    assert git("ls-files") is None
    assert tracked.__wrapped__() == walked(ROOT)
    assert {ROOT / "Makefile", ROOT / "lab/launch.py", ROOT / ".github/workflows/ci.yml"} <= set(walked(ROOT))


def test_no_file_contains_a_local_path() -> None:
    violations = [
        f"{path.relative_to(ROOT)}: {match[0]}" for path, text in text_files() for match in MACHINE_PATHS.finditer(text)
    ]
    assert violations == []


def test_no_file_names_a_package_registry() -> None:
    assert [str(path.relative_to(ROOT)) for path, text in text_files() if REGISTRIES.search(text)] == []


def test_no_file_is_large() -> None:
    large = [str(path.relative_to(ROOT)) for path in tracked() if path.stat().st_size > 10 * MEGABYTE]
    assert large == []


def test_output_of_runs_is_ignored() -> None:
    ignored = git("check-ignore", "runs/x/y.json", "a/.venv/x", "lab/__pycache__/x.pyc", "a/.b.json.12.partial")
    if ignored is None:
        pytest.skip("there is no git repository to ask")
    assert len(ignored.splitlines()) == 4


def test_functions_are_short() -> None:
    lengths = {
        f"{path.relative_to(ROOT)}:{node.name}": length(node)
        for path in modules()
        for node in definitions(path)
        if not isinstance(node, ast.ClassDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > 50} == {}


def test_public_functions_are_documented_and_typed() -> None:
    missing = [
        f"{path.relative_to(ROOT)}:{name}"
        for path in modules()
        for name, node in public(ast.parse(path.read_text(encoding="utf-8")), "")
        if not (ast.get_docstring(node) or name.endswith(".forward"))  # the class docstring says what it computes
        or (not isinstance(node, ast.ClassDef) and node.returns is None)
    ]
    assert missing == []


def public(
    parent: ast.Module | ast.ClassDef, prefix: str
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Public functions, classes and methods: no leading underscore, not inside functions."""
    for node in parent.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{prefix}{node.name}.")


def calls(path: Path, name: str) -> Iterator[ast.Call]:
    """Calls of a function or method called `name`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == name:
            yield node


def test_torch_load_reads_data_only() -> None:
    loads = [
        (path, node) for path in tracked() if path.suffix == ".py" for node in calls(path, "load")
        if ast.unparse(node.func) in ("torch.load", "load")
    ]  # fmt: skip
    assert loads
    for path, node in loads:
        settings = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert settings.get("weights_only") == "True", f"{path.name}, line {node.lineno}"


def test_nothing_unpickles() -> None:
    for path in modules():
        imported = {
            name.name if isinstance(node, ast.Import) else node.module
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in node.names
        }
        assert not imported & {"pickle", "marshal", "shelve", "dill", "joblib"}, path.name
        assert not [node for node in calls(path, "eval") if isinstance(node.func, ast.Name)], path.name


# --- imports ----------------------------------------------------------------------------------------------------------

TRANSFORMERS = "02_transformer_basics"
COMMANDS = {  # files that are only commands: tests may import them, nothing else
    "01_q_learning_maze": {"train"},
    TRANSFORMERS: {
        "sentiment_analysis",
        "text_generation",
        "train_language_model",
        "train_sentiment",
        "compare_sentiment",
        "average_sentiment",
        "minilm",
    },
    "03_ppo_reacher": {"train", "evaluate", "explore_env"},
}
LAYERS = (  # of the transformer project: a module imports only its own layer and those below
    {"transformer_block", "optimization"},
    {"models", "tokenizer", "bpe_tokenizer"},
    {"speed"},
    {"engines", "step_probabilities", "language_model", "sentiment"},
    COMMANDS[TRANSFORMERS],
    {"transformer_exercises"},
)


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def is_main_block(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).split(".")[-1] == "TYPE_CHECKING"


def import_nodes(node: ast.AST, inside_functions: bool = True) -> Iterator[ast.Import | ast.ImportFrom]:
    """All imports in a syntax tree except those for type checking; optionally only those that run at import."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif is_type_checking(child):
            for other in child.orelse:  # pyright: ignore[reportAttributeAccessIssue]
                yield from import_nodes(ast.Module([other], []), inside_functions)
        elif inside_functions or not (is_main_block(child) or isinstance(child, FUNCTIONS)):
            yield from import_nodes(child, inside_functions)


def imported_names(path: Path, inside_functions: bool = True) -> set[str]:
    """Every dotted name that a file imports: `from models import gpt2` gives `models` and `models.gpt2`."""
    names: set[str] = set()
    for node in import_nodes(ast.parse(path.read_text(encoding="utf-8")), inside_functions):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            package = module_name(path).split(".")
            package = package if path.name == "__init__.py" else package[:-1]
            base = [*package[: len(package) - node.level + 1], node.module] if node.level else [node.module]
            prefix = ".".join(filter(None, base))
            names |= {prefix, *(f"{prefix}.{alias.name}".lstrip(".") for alias in node.names)}
    return names


def import_graph(folder: str) -> dict[str, set[str]]:
    """Module to the modules of the same folder that it imports, function-level imports included."""
    paths = {module_name(path): path for path in modules() if project(path) == folder}
    graph = {}
    for name, path in paths.items():
        names = imported_names(path) & paths.keys()
        packages = {other for other in names if any(each.startswith(f"{other}.") for each in names)}
        graph[name] = names - packages - {name}  # `models` itself only where nothing in it is named
    return graph


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Every module that can reach itself through imports."""
    cyclic = []
    for start in graph:
        reached: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting += graph[name]
        if start in reached:
            cyclic.append(start)
    return cyclic


def layer(name: str) -> int | None:
    """The layer of a module of the transformer project; None for a file that belongs to no layer."""
    top = name.split(".")[0]
    return next((number for number, names in enumerate(LAYERS) if top in names), None)


def test_imports_are_found_also_in_functions_but_not_for_type_checking(tmp_path: Path) -> None:
    path = ROOT / TRANSFORMERS / "models" / "example.py"
    source = tmp_path / "example.py"
    source.write_text(
        "import os.path\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\nelse:\n    import abc\n"
        "def f():\n    from speed import kernels\nclass A:\n    import json\n"
        "if __name__ == '__main__':\n    import speed\n"
    )
    expected = {"os.path", "typing", "typing.TYPE_CHECKING", "abc", "json", "speed", "speed.kernels"}
    assert imported_names_of(source, path) == expected
    assert imported_names_of(source, path, inside_functions=False) == expected - {"speed", "speed.kernels"}
    source.write_text("from . import gpt2\nfrom .hub import load\nfrom ..engines import run\n")
    assert imported_names_of(source, path) >= {"models", "models.gpt2", "models.hub", "engines", "engines.run"}


def imported_names_of(source: Path, place: Path, inside_functions: bool = True) -> set[str]:
    """Imported names of a source text as if it were the file at `place`."""

    class Placed(type(place)):
        def read_text(self, *_: object, **__: object) -> str:
            return source.read_text()

    return imported_names(Placed(place), inside_functions)


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]
    assert circles({"a": {"b"}, "b": set()}) == []


@pytest.mark.parametrize("folder", [*PROJECTS, "lab"])
def test_no_import_circle(folder: str) -> None:
    assert circles(import_graph(folder)) == []


def test_module_names_are_unique_across_projects() -> None:
    names = {(module_name(path).split(".")[0], project(path)) for path in modules() if project(path) != "lab"}
    count = Counter(name for name, _ in names if name != "train")
    assert [name for name, number in count.items() if number > 1] == []


def test_projects_import_the_lab_but_never_each_other() -> None:
    owner = {module_name(path).split(".")[0]: project(path) for path in modules() if project(path) != "lab"}
    for path in modules():
        imported = {name.split(".")[0] for name in imported_names(path)}
        foreign = {name for name in imported if owner.get(name, project(path)) != project(path)}
        assert not foreign - {"train"}, f"{path.relative_to(ROOT)} imports {foreign}"
        assert "benchmarks" not in imported


def test_commands_are_imported_by_tests_only() -> None:
    commands = {name for names in COMMANDS.values() for name in names}
    files = [path for path in tracked() if path.suffix == ".py" and "tests" not in path.relative_to(ROOT).parts]
    violations = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in sorted(imported_names(path) & commands)
        if project(path) != "lab" or not name.startswith("lab.")
    ]
    assert violations == []


def test_transformer_project_imports_downwards() -> None:
    graph = import_graph(TRANSFORMERS)
    outside = [name for name in graph if layer(name) is None]
    assert outside == [], "these files belong to no layer"
    upwards = [
        f"{name} imports {other}" for name, others in graph.items() for other in sorted(others)
        if (layer(other) or 0) > (layer(name) or 0)
    ]  # fmt: skip
    assert upwards == []


def test_language_model_and_sentiment_never_import_each_other() -> None:
    pair = {"language_model": "sentiment", "sentiment": "language_model"}
    violations = [
        f"{name} imports {other}" for name, others in import_graph(TRANSFORMERS).items() for other in sorted(others)
        if pair.get(name.split(".")[0]) == other.split(".")[0]
    ]  # fmt: skip
    assert violations == []


def test_few_files_are_at_the_top_of_the_transformer_project() -> None:
    top = [path.name for path in modules() if path.parent == ROOT / TRANSFORMERS]
    assert len(top) <= 12, top


def test_transformer_block_is_short_and_imports_only_torch() -> None:
    path = ROOT / TRANSFORMERS / "transformer_block.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 320
    allowed = {*sys.stdlib_module_names, "torch"}
    names = imported_names(path, inside_functions=False)
    assert [name for name in sorted(names) if name.split(".")[0] not in allowed and not name.startswith("lab.errors")
            and name != "lab"] == []  # fmt: skip


# --- words ------------------------------------------------------------------------------------------------------------

DENIED = {  # name of the rule to its pattern; CONTRIBUTING.md says what to write instead
    "dice": r"\bdice\b",
    "foretell": r"\bforetell\w*|\bforetold\b",
    "likeliest": r"(?<!\")\blikeliest\b",
    "anew": r"\banew\b",
    "what selects": r"\bwhat selects\b",
    "by lot": r"\bby lot\b|\bdraws? lots\b|\blots are drawn\b",
    "of_x": r"\bof_(?:x|weight|bias|q|k|v)\b",
    "beside ours": r"\bbeside (?:ours|the|a|our|it|its|their)\b",
    "prize": r"\bprizes?\b",
    "a second": r"\b(?:tokens?|steps?|nats|bits?|bytes?|rows?|prompts?|pages|ms|microseconds) "
    r"an? (?:second|token|letter|byte|step|episode|batch|rollout|row|arm)\b",
    "what came of it": r"\bwhat came of (?:it|them)\b",
    "to the bit": r"\bto the bit\b|\bbit for bit\b|\bbit-(?:identical|equal)\b",
    "of its own": r"\bin an? \w+ of (?:its|their) own\b",
    "the model that ships": r"\bmodels? that ships?\b|\bshipped (?:model|classifier)s?\b",
}
RIDDLES = re.compile(r"(?:What|How|Whether|Which|Why|That of|Those of)\b")
GLOSSARY = ROOT / "CONTRIBUTING.md"


def prose_files() -> Iterator[tuple[Path, str]]:
    """Every tracked Python and Markdown file, without this one; of CONTRIBUTING.md all but the glossary's table."""
    for path in tracked():
        if path.suffix in (".py", ".md") and path != Path(__file__).resolve():
            text = path.read_text(encoding="utf-8")
            yield path, re.sub(r"^\|.*$", "", text, flags=re.MULTILINE) if path == GLOSSARY else text


@pytest.mark.parametrize("rule", DENIED)
def test_denied_words_do_not_come_back(rule: str) -> None:
    pattern = re.compile(DENIED[rule], re.IGNORECASE)
    violations = [
        f"{path.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 1}: {match[0]}"
        for path, text in prose_files()
        for match in pattern.finditer(text)
    ]
    assert violations == []


@pytest.mark.parametrize("rule", DENIED)
def test_every_denied_word_is_in_the_glossary(rule: str) -> None:
    rows = re.findall(r"^\|(.*)\|(.*)\|$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    assert any(re.search(DENIED[rule], avoided, re.IGNORECASE) for _, avoided in rows)
    assert len(rows) >= 40


def test_docstrings_say_what_a_thing_is_or_does() -> None:
    violations = []
    for path in tracked():
        if path.suffix == ".py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                    docstring = ast.get_docstring(node) or ""
                    if RIDDLES.match(docstring):
                        violations.append(f"{path.relative_to(ROOT)}: {docstring.splitlines()[0]}")
    assert violations == []


# --- documentation and set-up -----------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_installs_torch_from_the_given_index_first() -> None:
    def commands(*variables: str) -> list[str]:
        done = ["make", "--dry-run", "--always-make", "setup", *variables]
        lines = subprocess.run(done, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        return [line for line in lines if "pip install" in line]

    torch_first, everything = commands("TORCH_INDEX=address")
    assert torch_first.startswith("PIP_INDEX_URL=address ")
    assert re.search(r"torch==[\d.]+$", torch_first)
    assert everything.endswith("-r requirements.txt")
    assert commands() == [everything]


def anchors(text: str) -> set[str]:
    """The anchors of the headings on a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [path for path in tracked() if path.suffix == ".md"], ids=lambda p: p.parent.name)
def test_links_on_a_page_are_valid(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for link in links:
        if re.match(r"https?://|mailto:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), link
        assert not Path(name).is_absolute(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_lesson_files_are_formatted_with_100_columns() -> None:
    """They are left out of the general formatting, and `make lint` formats each of them with 100 columns."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lessons = settings["tool"]["ruff"]["format"]["exclude"]
    lint = subprocess.run(["make", "--dry-run", "lint"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    formatted = [line for line in lint.splitlines() if "--line-length 100" in line]
    assert len(formatted) == 2
    assert all(set(lessons) <= set(line.split()) for line in formatted)
    for name in lessons:
        long = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if len(line) > 100]
        assert long == [], name
