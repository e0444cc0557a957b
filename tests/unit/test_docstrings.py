"""What people read in the API reference (docs/reference/python.md) says what it takes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REFERENCE = re.findall(r"^::: (\S+)", (ROOT / "docs/reference/python.md").read_text(), re.MULTILINE)
LEAST_FOR_ARGS = 3


def source(module: str) -> Path:
    file = ROOT / (module.replace(".", "/") + ".py")
    return file if file.is_file() else file.with_suffix("") / "__init__.py"


def functions(module: str) -> list[tuple[str, ast.FunctionDef]]:
    """Public methods of public classes, and the functions of the Python API itself."""
    tree = ast.parse(source(module).read_text())
    places = [("", tree)] if module == "voc_cls" else []
    places += [(f"{node.name}.", node) for node in tree.body
               if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    return [(prefix + node.name, node) for prefix, place in places for node in place.body
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


@pytest.mark.parametrize("module", [*REFERENCE, "voc_cls.client.client", "voc_cls.client.async_client"])
def test_public_functions_say_what_they_do_and_explain_three_or_more_parameters(module: str):
    for name, function in functions(module):
        doc = ast.get_docstring(function)
        assert doc, f"{module}.{name} has no docstring"
        arguments = function.args
        parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        names = [parameter.arg for parameter in parameters if parameter.arg not in ("self", "cls")]
        if len(names) < LEAST_FOR_ARGS or doc.startswith("As "):  # as the same function elsewhere
            continue
        section = re.search(r"Args:\n((?:    .*\n?|\n)*)", doc)
        assert section, f"{module}.{name} has {len(names)} parameters and no Args section"
        for parameter in names:
            entry = rf"^    (\w+, )*{parameter}(, \w+)*:"
            assert re.search(entry, section[1], re.MULTILINE), f"{module}.{name} does not explain {parameter}"
