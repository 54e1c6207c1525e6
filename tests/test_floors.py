"""The table of floors (docs/architecture.md): imports only go down, and each library lives in its place."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import expflow

ROOT = Path(expflow.__file__).parent

FLOORS: dict[str, tuple[int, str]] = {
    # package -> (floor, room): on its own floor a package may import what shares its room
    "": (0, "base"),
    "config": (0, "base"),
    "errors": (0, "base"),
    "events": (0, "base"),
    "files": (0, "base"),
    "garbage": (0, "base"),
    "metrics": (0, "base"),
    "pareto": (0, "base"),
    "event_kinds": (0, "base"),
    "field_types": (0, "base"),
    "plain_data": (0, "base"),
    "registry": (0, "base"),
    "text": (0, "base"),
    "version": (0, "base"),
    "hooks": (0, "base"),
    "lightning_alias": (0, "base"),
    "torchmetrics_imports": (0, "base"),
    "intervals": (0, "base"),
    "redaction": (0, "base"),
    "architectures": (1, "parts"),
    "losses": (1, "parts"),
    "optim": (1, "parts"),
    "data": (1, "parts"),
    "ledger": (1, "ledger"),
    "storage": (2, "storage"),
    "tasks": (2, "tasks"),
    "training": (3, "training"),
    "tracking": (4, "tracking"),
    "sweep": (5, "sweep"),
    "search": (5, "sweep"),
    "report": (6, "ends"),
    "live": (6, "ends"),
    "prometheus": (6, "ends"),
    "cluster": (6, "ends"),
    "doctor": (6, "ends"),
    "services": (6, "ends"),
    "api": (7, "cli"),
    "cli": (7, "cli"),
    "mcp": (7, "cli"),
    "__main__": (7, "cli"),
}

LIBRARIES: dict[str, set[str]] = {
    # library -> the only packages that may import it
    "ray": {"sweep", "cluster"},
    "mlflow": {"tracking"},
    "pytorch_lightning": {"training", "tasks"},
    "lightning": {"training", "tasks"},
    "webdataset": {"data"},
    "typer": {"cli"},
    "rich": {"cli", "live"},
    "ruamel": {"config"},
    "jinja2": {"report"},
    "prometheus_client": {"prometheus"},
    "matplotlib": {"report"},
    "plotly": {"report"},
    "mcp": {"mcp"},
    "mcp_types": {"mcp"},
    "boto3": {"services"},
}

RAY_JOBS = {"ray.job_submission", "ray.exceptions"}
SLOW = ("torch", "torchvision", "pytorch_lightning", "lightning", "ray", "mlflow", "sklearn")
HEAVY = (*SLOW, "matplotlib", "numpy")

MODULES = sorted(ROOT.rglob("*.py"))


def package_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def dotted(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree, module, is_package):
    """(line, dotted name) of every import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: None if is_package and node.level == 1 else -(node.level - is_package)]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            if base == "expflow":
                yield from ((node.lineno, f"expflow.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, base


def imports_of(path):
    return list(imported(ast.parse(path.read_text()), dotted(path), path.name == "__init__.py"))


def test_every_package_has_a_floor():
    assert {package_of(path) for path in MODULES} <= FLOORS.keys()


# The root only leads to its public names; the last test here sees that it imports none of them.
@pytest.mark.parametrize("path", [path for path in MODULES if package_of(path)], ids=dotted)
def test_imports_only_go_down(path):
    package = package_of(path)
    floor, room = FLOORS[package]
    wrong = []
    for line, name in imports_of(path):
        if not name.startswith("expflow"):
            continue
        target = name.split(".")[1] if "." in name else ""
        if target not in FLOORS:  # a name of the package itself, such as __version__
            continue
        target_floor, target_room = FLOORS[target]
        if target != package and not (target_floor < floor or (target_floor == floor and target_room == room)):
            wrong.append(f"{path.name}:{line} imports {name} (floor {target_floor}) from floor {floor}")
    assert not wrong, "\n".join(wrong)


def import_graph():
    """Module -> the modules of expflow that it imports, wherever the import stands, lazily or for types alone."""
    modules = {dotted(path): path for path in MODULES}
    graph = {}
    for module, path in modules.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        targets = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
                base = ".".join([*above, *filter(None, [node.module])])
                inner = {f"{base}.{alias.name}" for alias in node.names}
                targets |= (inner & modules.keys()) | ({base} if inner - modules.keys() else set())
        graph[module] = sorted(targets & modules.keys())
    return graph


def circles(graph):
    """The strongly connected components of more than one module (Tarjan 1972), and modules that import themselves."""
    number, low, stack = {}, {}, []

    def visit(module):
        number[module] = low[module] = len(number)
        stack.append(module)
        for target in graph[module]:
            if target not in number:
                yield from visit(target)
            if target in stack:
                low[module] = min(low[module], low[target])
        if low[module] == number[module]:
            circle = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(circle) > 1 or module in graph[module]:
                yield circle

    for module in graph:
        if module not in number:
            yield from visit(module)


def test_a_circle_is_seen():
    assert [sorted(circle) for circle in circles({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["d", "a"]})] == [
        ["b", "c"],
        ["d"],
    ]


def test_no_modules_import_each_other_in_a_circle():
    graph = import_graph()
    described = [
        "\n".join(f"{module} imports {', '.join(set(graph[module]) & set(circle))}" for module in circle)
        for circle in circles(graph)
    ]
    assert not described, "modules import each other in a circle:\n" + "\n\n".join(described)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_each_library_lives_in_its_place(path):
    package = package_of(path)
    wrong = []
    for line, name in imports_of(path):
        library = name.split(".")[0]
        if package not in LIBRARIES.get(library, {package}):
            wrong.append(f"{path.name}:{line} imports {name}; it lives in {sorted(LIBRARIES[library])}")
        if package == "cluster" and library == "ray" and name not in RAY_JOBS:
            wrong.append(f"{path.name}:{line} imports {name}; cluster uses Ray Jobs only")
        if FLOORS[package][0] == 0 and library in HEAVY:
            wrong.append(f"{path.name}:{line} imports {name} on floor 0")
        if package == "ledger" and library not in sys.stdlib_module_names and library != "expflow":
            wrong.append(f"{path.name}:{line} imports {name}; the ledger needs the standard library only")
    assert not wrong, "\n".join(wrong)


def light_modules():
    """Modules whose import must stay light: floor 0, specs, package roots, the ledger, the command line's frame."""
    for path in MODULES:
        package = package_of(path)
        light = FLOORS[package][0] == 0 or package == "ledger"
        if light or path.name in ("__init__.py", "components.py", "specs.py"):
            yield dotted(path)


def loaded_after(*modules):
    code = f"import importlib, sys\nfor m in {modules!r}: importlib.import_module(m)\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_light_modules_import_nothing_heavy():
    heavy = loaded_after(*light_modules()) & set(SLOW)
    if heavy:  # slower, and says who it is
        guilty = {module: loaded_after(module) & set(SLOW) for module in light_modules()}
        pytest.fail(str({module: heavy for module, heavy in guilty.items() if heavy}))


def test_the_command_line_starts_without_pydantic_too():
    assert not loaded_after("expflow.cli") & {*HEAVY, "pydantic", "ruamel", "rich", "asyncio"}


def test_the_root_leads_to_its_public_names_and_imports_nothing_for_it():
    assert not loaded_after("expflow") & {*HEAVY, "pydantic", "ruamel", "rich", "typer"}
    assert all(callable(getattr(expflow, name)) for name in set(expflow.__all__) - {"__version__"})
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        expflow.laod  # noqa: B018
