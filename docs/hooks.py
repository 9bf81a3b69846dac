"""What the build of the site adds: the figures of `bench/results`, and the command line from its own help."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
MATHJAX = re.compile(r"<script data-mkdocs-jupyter-mathjax=.*?</script>", re.DOTALL)
# In a page, `<!-- commands: MODULE PROGRAM -->` becomes the help of every command of that module's `app`.
MARKER = re.compile(r"<!-- commands: (\S+) (.+) -->")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the figures of the benchmarks as `assets/results/*.png`, so that they are kept once."""
    for path in sorted((ROOT / "bench" / "results").glob("*.png")):
        uri = f"assets/results/{path.name}"
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fills in the reference of a command line."""
    return MARKER.sub(lambda found: "\n".join(_commands(*found.groups())), markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Takes out what would load MathJax from another host; there are no formulas."""
    return MATHJAX.sub("", output)


def _commands(module: str, program: str) -> Iterator[str]:
    group: Any = typer.main.get_command(importlib.import_module(module).app)
    for name, command in group.commands.items():
        text, _, example = (command.help or "").partition("Example: ")
        yield f"\n### {program} {name}\n"
        yield _prose(text)
        if example:
            yield f"\n```text\n{example.strip()}\n```\n"
        yield from _parameters(command.params)


def _parameters(parameters: list[Any]) -> Iterator[str]:
    yield "\n| option | meaning |\n| --- | --- |"
    for parameter in parameters:
        name = parameter.metavar
        if parameter.opts[0].startswith("-"):
            name = f"{', '.join(parameter.opts)} {name or ''}".rstrip()
        yield f"| `{_cell(name)}` | {_cell(_described(parameter))} |"


def _described(parameter: Any) -> str:
    text = _prose(parameter.help or "")
    if parameter.required:
        return f"{text} Required."
    shown = parameter.default not in (None, False, (), []) and "(default" not in text
    shown = shown and not Path(str(parameter.default)).is_absolute()  # which is of this machine
    return f"{text} Default: `{_default(parameter.default)}`." if shown else text


def _default(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _prose(text: str) -> str:
    """Help as Markdown: options and file names as code."""
    return re.sub(r"(?<![`\w-])(--[a-z][a-z-]*)", r"`\1`", text.strip())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
