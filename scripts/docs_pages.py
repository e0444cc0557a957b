"""A hook of MkDocs (mkdocs.yml): pages that come from the code, and from files outside docs/ that pages link to.

The reference of commands is what `--help` prints, that of the gRPC API the comments of the .proto file, that of REST
the server's own /openapi.json, that of metrics what the server registers.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html import escape
from importlib import import_module
from inspect import signature
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from textwrap import dedent
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md",
         "SECURITY.md": "security-policy.md"}
"""Files of the repository → pages of the site."""
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """MkDocs' event: adds the generated pages."""
    pages = dict(reference_pages())
    pages |= {page: (ROOT / file).read_text() for file, page in PAGES.items() if file != "README.md"}
    texts = {page.src_uri: page.content_string for page in files.documentation_pages()} | pages
    for page, text in texts.items():
        for link in LINK.findall(text):
            if (target := site_path(page, link)).startswith("source/"):
                pages |= source_pages(ROOT / repository_path(page, link), target)
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """MkDocs' event: links to files of the repository become links to their pages."""
    uri = page.file.src_uri
    if uri.startswith("source/") and not uri.endswith("/index.md"):
        return markdown
    return LINK.sub(lambda link: relpath(site_path(uri, link[1]), dirname(uri) or "."), markdown)


def repository_path(page: str, link: str) -> str:
    """What a link of a page names, relative to the repository."""
    origins = {uri: file for file, uri in PAGES.items() if file != "README.md"}
    origin = origins.get(page, f"docs/{page}").replace("docs/source/", "")
    return normpath(join(dirname(origin), link))


def site_path(page: str, link: str) -> str:
    path = repository_path(page, link)
    if path in PAGES or path.startswith("docs/"):
        return PAGES.get(path, path.removeprefix("docs/"))
    return f"source/{path}/index.md" if (ROOT / path).is_dir() else f"source/{path}.md"


def source_pages(path: Path, page: str) -> dict[str, str]:
    """The page of a file, or those of a folder and of all that it holds."""
    title, pages = f"---\nsearch: {{exclude: true}}\n---\n# {path.relative_to(ROOT)}\n\n", {}
    if path.is_dir():
        children = sorted(child for child in path.iterdir() if not re.match(r"[._]|node_modules", child.name))
        pages[page] = title + "\n".join(f"- [{child.name}]({child.name})" for child in children)
        for child in children:
            pages |= source_pages(child, join(dirname(page), child.name + ("/index.md" if child.is_dir() else ".md")))
    elif path.suffix == ".ipynb":
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(path.read_text())["cells"]]
        pages[page] = title + "\n\n".join(
            text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in cells)
    else:
        pages[page] = f"{title}````{path.suffix[1:]}\n{path.read_text()}\n````"
    return pages


def reference_pages() -> Iterator[tuple[str, str]]:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, place in scripts.items():
        module, function = place.split(":")
        yield f"reference/{name}.md", command_page(name, getattr(import_module(module), function))
    yield "reference/grpc.md", "\n\n".join(grpc_page())
    yield "reference/rest.md", rest_page()
    yield "reference/metrics.md", metrics_page()


def command_page(name: str, main: Any) -> str:
    def help_of(*subcommand: str) -> str:
        printed = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
        with (patch.object(sys, "argv", [name, *subcommand, "--help"]), patch.dict(os.environ, COLUMNS="80"),
              contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit)):
            main()
        printed.seek(0)
        return printed.read()

    text = help_of()
    subcommands = re.match(r"usage: \S+ \[-h\] \{(.+?)\}", text)
    page = f"# {name}\n\n{as_markdown(text)}"
    for subcommand in subcommands[1].split(",") if subcommands else ():
        page += f"\n\n## {name} {subcommand}\n\n{as_markdown(help_of(subcommand))}"
    return page


def as_markdown(help_text: str) -> str:
    """Usage and description as they are, and the groups of flags as lists of definitions.

    tyro draws groups as boxes on a terminal, and as titles above a line elsewhere.
    """
    usage, *boxes = re.split(r"^(?:╭─ (.+?) ─*╮| (\S.*?) *\n -{9,} *)$", help_text, flags=re.MULTILINE)
    boxes[:] = [part for part in boxes if part is not None]
    page = "```text\n" + re.sub("\n{3,}", "\n\n", usage).strip() + "\n```\n"
    for title, box in zip(boxes[::2], boxes[1::2], strict=True):
        lines = [line for line in re.findall(r"^[│ ] (.*?\S) *│?$", box, re.MULTILINE)
                 if not re.match(r"-h, --help|[─-]{9}", line)]
        if title == "subcommands" or not lines:  # they have sections of their own
            continue
        page += f"\n\n**{title.capitalize()}**\n\n"
        for line in lines:
            flag, _, meaning = line.partition("  ")
            if flag.startswith("-") or (flag and title.startswith("positional")):
                page += f"\n\n`{flag.strip()}`\n:   {escaped(meaning)}"
            else:
                page += f" {escaped(line)}"
    return page


def escaped(text: str) -> str:
    """Plain text as Markdown."""
    return re.sub(r"([\\`*_{}\[\]|#])", r"\\\1", escape(" ".join(text.split()), quote=False))


def grpc_page() -> Iterator[str]:
    """Services and messages of classifier.proto with their comments, which buf keeps with the descriptors."""
    name = "voc_cls/v1/classifier.proto"
    build = [Path(sys.executable).with_name("buf"), "build", "proto", "--as-file-descriptor-set", "-o", "-"]
    image = subprocess.run(build, cwd=ROOT, capture_output=True, check=True).stdout
    source = (ROOT / "proto" / name).read_text().splitlines()
    yield (f"# gRPC API\n\nThe file is [classifier.proto](../../proto/{name}); [clients](../clients.md) says how to "
           "call it.")
    (file,) = (file for file in FileDescriptorSet.FromString(image).file if file.name == name)
    for location in file.source_code_info.location:
        declaration, text = source[location.span[0]].strip().rstrip("{; "), dedent(location.leading_comments)
        if text and len(location.path) <= 2:  # the file, a service or a message
            title = f"## {declaration}\n\n" if len(location.path) == 2 else ""
            yield title + (f"```text\n{text}```" if declaration.startswith("service") else text)
        elif text:
            yield f"`{declaration}`\n:   " + text.strip().replace("\n", "\n    ")


def rest_page() -> str:
    from serving.rest.classifier import ClassifierApi
    from serving.rest.routes import RestApi, _describe

    nothing = dict.fromkeys(signature(RestApi).parameters)  # as no handler is called
    classifier = ClassifierApi(**dict.fromkeys(signature(ClassifierApi).parameters))
    api = _describe(RestApi(**nothing | {"classifier": classifier}).application())
    rows = [f"| {method.upper()} | `{path}` | {about['summary']} |"
            for path, methods in api["paths"].items() for method, about in methods.items()]
    return ("# REST API\n\nThe routes of voc-serve's HTTP port, as a server describes them at `/openapi.json` (OpenAPI "
            "3.1). Bodies and examples: [clients](../clients.md#curl).\n\n| | route | |\n|---|---|---|\n"
            + "\n".join(rows))


def metrics_page() -> str:
    from prometheus_client.metrics import MetricWrapperBase

    from serving.core import ServerCollector
    from serving.telemetry.metrics import Metrics

    idle = SimpleNamespace(ready=False, names=(), taken=0, number=0, lost=0)  # a server without models
    families = [(metric.describe()[0], metric._labelnames) for metric in Metrics()._registry._collector_to_names
                if isinstance(metric, MetricWrapperBase)]
    families += [(family, family._labelnames) for family in ServerCollector(idle, idle, idle).collect()]
    ends = {"counter": "_total", "info": "_info"}
    rows = [f"| `{family.name}{ends.get(family.type, '')}` | {family.type} | {', '.join(labels)} | "
            f"{family.documentation} |" for family, labels in families]
    return ("# Metrics\n\nWhat `/metrics` of voc-serve has, in Prometheus' format, beside the usual `process_…`. "
            "[Monitoring](../serving.md#monitoring) says how to use them.\n\n| metric | kind | labels | meaning |\n"
            "|---|---|---|---|\n" + "\n".join(rows))
