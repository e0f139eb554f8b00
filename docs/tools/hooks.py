"""What MkDocs does for this site besides its own: pages from elsewhere in the checkout, links, formulas, public names."""

from __future__ import annotations

import html
import importlib.util
import logging
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, InclusionLevel

sys.path.insert(0, str(Path(__file__).parent))
import checkout
import docstrings
import formulas
import names
import notebooks

log = logging.getLogger("mkdocs.plugins.etrax")
OPTIONAL = {"mathematics.md", "../CONTRIBUTING.md", "../tests/README.md"}  # in `nav` if they are there
LANGUAGES = {".py": "python", ".json": "json", ".toml": "toml", ".sh": "bash", "": "make"}
FONT = "assets/STIXTwoMath.ttf"
SUMMARY = "<!-- names -->"
FIGURES = re.compile(r"<!-- figures: (\S+) -->")
CODE = re.compile(r"<(a|h\d|autoref|pre)\b.*?</\1>|<code>([\w.]+)(?:\(\))?</code>", re.DOTALL)

_folder = tempfile.TemporaryDirectory()
_sources: dict[str, Path] = {}  # page -> the file of the checkout that it shows


@event_priority(100)  # before mkdocstrings reads its options
def on_config(config: Any) -> Any:
    """Check the reference; name the pages from elsewhere by their place in the site."""
    if wrong := names.missing():
        raise PluginError("the reference is not complete:\n" + "\n".join(wrong))

    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_package()]

    def placed(item: Any) -> Any:
        if isinstance(item, dict):
            return {title: placed(value) for title, value in item.items()}
        if isinstance(item, list):
            return [placed(value) for value in item if not _left_out(value)]
        return checkout.place_of((checkout.DOCS / item).resolve())

    config.nav = placed(config.nav)
    return config


def _package() -> str:
    """A folder with the package as it is when installed, by links: griffe does not know the layout of the checkout."""
    folder = Path(_folder.name) / "etrax"
    if not folder.exists():
        folder.mkdir()
        for path in (*(checkout.ROOT / "plugin").iterdir(), checkout.ROOT / "neurons", checkout.ROOT / "synapses"):
            (folder / path.name).symlink_to(path)
    return _folder.name


def _left_out(item: Any) -> bool:
    named = next(iter(item.values())) if isinstance(item, dict) else item
    return isinstance(named, str) and named in OPTIONAL and not (checkout.DOCS / named).exists()


def on_files(files: Any, config: Any) -> Any:
    """Add what the pages link to, and what those link to."""
    _sources.clear()
    in_nav = set(re.findall(r"[\w./]+\.md", str(config.nav)))
    queue = [Path(file.abs_src_path) for file in files.documentation_pages()]
    queue += [
        (checkout.DOCS / name).resolve()
        for name in re.findall(r"\.\./[\w./]+", Path(config.config_file_path).read_text())
    ]
    seen: set[Path] = set()
    while queue:
        path = queue.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        place = checkout.place_of(path)
        if path.suffix == ".ipynb":
            text, figures, _ = notebooks.page_of(path)
            for name, data in figures.items():
                files.append(File.generated(config, f"{Path(place).parent}/{name}", content=data))
        elif path.suffix == ".md":
            text = path.read_text()
        elif path.suffix in checkout.COPIED:
            if files.get_file_from_path(place) is None:
                files.append(File.generated(config, place, abs_src_path=str(path)))
            continue
        else:
            text = f"# {path.relative_to(checkout.ROOT)}\n\n{notebooks.fenced(path.read_text(), LANGUAGES.get(path.suffix, 'text'))}\n"
        _sources[place] = path
        if files.get_file_from_path(place) is None:
            shown = InclusionLevel.UNDEFINED if place in in_nav else InclusionLevel.NOT_IN_NAV
            files.append(File.generated(config, place, content=text, inclusion=shown))
        if path.suffix in (".md", ".ipynb"):
            queue += checkout.links(text, path)
    ziamath = importlib.util.find_spec("ziamath")
    font = Path(ziamath.origin).parent / "fonts" / "STIXTwoMath-Regular.ttf"
    files.append(File.generated(config, FONT, abs_src_path=str(font)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point links to their places in the site."""
    place = page.file.src_uri
    if place.startswith("source/"):
        page.meta.setdefault("search", {})["exclude"] = True
        return markdown
    if place == "index.md":
        page.meta["hide"] = ["navigation"]
    markdown = FIGURES.sub(lambda match: _figures(checkout.DOCS / match[1]), markdown)
    markdown = checkout.relinked(markdown, _sources[place])
    if SUMMARY in markdown:
        markdown = markdown.replace(SUMMARY, _summary(names.shown_in(markdown)))
    return markdown


def _figures(path: Path) -> str:
    """The figures of a notebook, each a link to the place that it is drawn at."""
    path = path.resolve()
    page, link = notebooks.page_of(path), f"../{path.relative_to(checkout.ROOT)}"
    title = page.text.partition("\n")[0].lstrip("# ")
    folder = Path(checkout.place_of(path)).parent
    shown = [
        f"[![{caption}]({folder}/{name})]({link}#figure-{number})"
        for number, (name, caption) in enumerate(zip(page.figures, page.captions, strict=True), 1)
    ]
    return "\n\n".join([f"### [{title}]({link})", '<div class="gallery" markdown>', *shown, "</div>"])


def _summary(shown: list[str]) -> str:
    """A table of names with the first line of what is said about each."""
    rows = []
    for name in shown:
        value = names.value_of(name)
        text = value.__doc__ if names.has_docstring(value) else names.shown()[name]
        first = re.split(r"(?<!e\.g\.)(?<=\.)\s+|\n\n", text.strip())[0].replace("\n", " ")
        rows.append(f"| [`{name.removeprefix('etrax.')}`][{name}] | {docstrings.in_markdown(first, name)} |")
    return "\n".join(["| `etrax.` | |", "|---|---|", *rows])


def on_page_content(content: str, page: Any, config: Any, files: Any) -> str:
    """Set formulas; link names of the package to the reference."""
    place = page.file.src_uri
    if place.startswith("source/"):
        return content
    try:
        content = formulas.with_formulas(content)
    except formulas.FormulaError as error:
        log.warning("%s: %s", place, error)
    whole = place.startswith("reference/")

    def linked(match: re.Match) -> str:
        name = match[2]
        if name is None or not (whole or name.startswith("etrax.")):
            return match[0]
        found = docstrings.identifier(name, "")
        return f'<autoref identifier="{html.escape(found)}">{match[0]}</autoref>' if found else match[0]

    return CODE.sub(linked, content)
