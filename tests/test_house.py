"""The rules of the house, for every file that git tracks."""

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.files import ROOT

PROJECTS = ("01_q_learning_maze", "02_transformer_basics", "03_ppo_reacher")
MEGABYTE = 2**20
# put together here, so that this file does not hold what it looks for
MACHINE_PATHS = re.compile(r"(?<![\w.}/~-])/(?:" + "|".join(("work", "tmp", "root", "home", "Users")) + r")/\w")
REGISTRIES = re.compile(
    r"(?:--(?:extra-)?index-url|(?:" + "|".join(("pypi", "pythonhosted", "conda")) + r")\.(?:org|anaconda))"
)


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def tracked() -> list[Path]:
    """Every file that git tracks or would add."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def text_files() -> Iterator[tuple[Path, str]]:
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content[:8000]:
            yield path, content.decode("utf-8")


def modules() -> list[Path]:
    """The Python files of the projects and of `lab`, without tests."""
    return [
        path
        for path in tracked()
        if path.suffix == ".py" and path.parent.name in (*PROJECTS, "lab") and path.parent.parent == ROOT
    ]


def definitions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function beside its docstring."""
    first = function.body[0]
    docstring = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(function) else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def test_there_is_something_to_look_at() -> None:
    assert len(modules()) > 25
    assert {path.name for path in modules()} >= {"q_learning_agent.py", "transformer_block.py", "ppo.py", "launch.py"}


def test_no_file_names_a_place_on_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}" for path, text in text_files() for match in MACHINE_PATHS.finditer(text)
    ]
    assert found == []


def test_no_file_names_a_package_registry() -> None:
    assert [str(path.relative_to(ROOT)) for path, text in text_files() if REGISTRIES.search(text)] == []


def test_no_file_is_large() -> None:
    large = [str(path.relative_to(ROOT)) for path in tracked() if path.stat().st_size > 10 * MEGABYTE]
    assert large == []


def test_what_runs_write_is_ignored() -> None:
    ignored = git("check-ignore", "runs/x/y.json", ".venv/x", "lab/__pycache__/x.pyc", "a/.b.json.12.partial")
    assert len(ignored.splitlines()) == 4


def test_functions_are_short() -> None:
    lengths = {
        f"{path.parent.name}/{path.name}:{node.name}": length(node)
        for path in modules()
        for node in definitions(path)
        if not isinstance(node, ast.ClassDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > 50} == {}


def test_what_is_public_is_documented_and_typed() -> None:
    missing = [
        f"{path.parent.name}/{path.name}:{name}"
        for path in modules()
        for name, node in public(ast.parse(path.read_text(encoding="utf-8")), "")
        if not (ast.get_docstring(node) or name.endswith(".forward"))  # the module's docstring says what it computes
        or (not isinstance(node, ast.ClassDef) and node.returns is None)
    ]
    assert missing == []


def public(
    parent: ast.Module | ast.ClassDef, prefix: str
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Functions, classes and methods that others may call: none with an underscore first, none inside functions."""
    for node in parent.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{prefix}{node.name}.")


def calls(path: Path, name: str) -> Iterator[ast.Call]:
    """Calls of something called `name`, whatever it belongs to."""
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


def test_module_names_are_unique_across_projects() -> None:
    names = Counter(path.stem for path in modules() if path.parent.name != "lab" and path.stem != "train")
    assert [name for name, count in names.items() if count > 1] == []


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_projects_import_the_lab_but_never_each_other() -> None:
    own = {path.stem: path.parent.name for path in modules() if path.parent.name != "lab" and path.stem != "train"}
    for path in modules():
        foreign = {name for name in imports(path) if own.get(name, path.parent.name) != path.parent.name}
        assert not foreign, f"{path.parent.name}/{path.name} imports {foreign}"
        assert "train" not in imports(path)


def anchors(text: str) -> set[str]:
    """The names that headings get on the page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [path for path in tracked() if path.suffix == ".md"], ids=lambda p: p.parent.name)
def test_links_on_a_page_lead_somewhere(page: Path) -> None:
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
