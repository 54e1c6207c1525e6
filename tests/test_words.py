"""The house rules of words and size, read off the code: names, docstrings, functions, private imports.

They stand in docs/architecture.md, section "Words" and "Names and docstrings".
"""

import ast
import importlib
import inspect
import re
from collections import defaultdict
from pathlib import Path

import pytest

import expflow
from expflow import errors

ROOT = Path(expflow.__file__).parent
PROJECT = ROOT.parent
MODULES = sorted(ROOT.rglob("*.py"))
EVERYTHING = [*MODULES, *sorted(PROJECT.glob("tests/**/*.py")), *sorted(PROJECT.glob("benchmarks/**/*.py"))]

NO_NAMES = {"each", "found", "said", "told"}
"""What says nothing of what a variable holds."""

LONGEST_FUNCTION = 40
LONGEST_MODULE = 400

ERRORS = {name for name, value in vars(errors).items() if inspect.isclass(value)}

WITHOUT_SECTIONS = ("overload", "validator", "serializer", "property", "setter", ".command", ".callback", "override")
"""Decorators of functions whose arguments are documented elsewhere: by a base class, a field, or an option's help."""


def name_of(path):
    return str(path.relative_to(PROJECT))


def parsed(path):
    return ast.parse(path.read_text())


def functions(tree):
    """(function, class it stands in or None) of the top level and of classes there."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, None
        elif isinstance(node, ast.ClassDef):
            yield from (
                (inner, node) for inner in node.body if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
            )


def parameters(function):
    arguments = function.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    return [argument.arg for argument in every if argument.arg not in ("self", "cls")]


def documented(docstring, names):
    """Those of ``names`` that the section ``Args:`` of a docstring does not list."""
    section = (docstring or "").partition("Args:")[2]
    return [name for name in names if not re.search(rf"^\s+\*{{0,2}}{name}\b.*:", section, re.MULTILINE)]


def is_documented_by_a_base(path, class_name, method):
    module = ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
    bases = getattr(importlib.import_module(module), class_name).__mro__[1:]
    return any(method in vars(base) for base in bases if base is not object)


def is_public(function, owner):
    return not function.name.startswith("_") and (owner is None or not owner.name.startswith("_"))


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_variables_are_nouns_of_what_they_hold(path):
    poor = []
    for node in ast.walk(parsed(path)):
        name = node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else getattr(node, "arg", None)
        if name in NO_NAMES and isinstance(node, ast.Name | ast.arg):
            poor.append(f"line {node.lineno}: {name}")
    assert not poor


def test_no_class_name_stands_twice():
    homes = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(name_of(path))
    assert not {name: paths for name, paths in homes.items() if len(paths) > 1}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_and_modules_are_short(path):
    tree = parsed(path)
    lengths = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION}
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_private_is_imported_from_another_module_of_ours(path):
    private = [
        f"line {node.lineno}: {node.module}.{alias.name}"
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("expflow"))
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert not private


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_public_functions_document_their_arguments_and_errors(path):
    wanting = []
    for function, owner in functions(parsed(path)):
        decorators = " ".join(ast.unparse(decorator) for decorator in function.decorator_list)
        if not is_public(function, owner) or any(word in decorators for word in WITHOUT_SECTIONS):
            continue
        if owner is not None and is_documented_by_a_base(path, owner.name, function.name):
            continue
        docstring = ast.get_docstring(function) or ""
        if missing := documented(docstring, parameters(function)):
            wanting.append(f"line {function.lineno}: {function.name} has no Args entry for {', '.join(missing)}")
        raised = {
            node.exc.func.id
            for node in ast.walk(function)
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
        }
        section = docstring.partition("Raises:")[2]
        if missing := sorted(name for name in raised & ERRORS if name not in section):
            wanting.append(f"line {function.lineno}: {function.name} raises {', '.join(missing)} undocumented")
    assert not wanting


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_public_classes_document_what_they_are_built_from(path):
    wanting = []
    for function, owner in functions(parsed(path)):
        if function.name != "__init__" or owner is None or owner.name.startswith("_"):
            continue
        if any(ast.unparse(base).endswith(("Error", "Exception")) for base in owner.bases):
            continue
        if missing := documented(ast.get_docstring(owner), parameters(function)):
            wanting.append(f"line {owner.lineno}: {owner.name} has no Args entry for {', '.join(missing)}")
    assert not wanting


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_reference_to_a_document_that_readers_do_not_have(path):
    assert not re.findall(r"design section|\brules? \d+|section \d+ of the design", path.read_text())
