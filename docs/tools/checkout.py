"""The files of the checkout as files of the site: what a link in the text becomes.

The text links to files as they lie in the checkout, so that links work wherever it is read. In the site, a page is made
of a document, a notebook and a source file; a figure is copied.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

__all__ = ["DOCS", "ROOT", "links", "place_of", "relinked", "target_of"]

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2[ \t]*$\n?", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^()\s]+)(\))")
COPIED = {".png", ".svg", ".gif", ".css", ".ttf"}


def place_of(path: Path) -> str:
    """Where a file of the checkout stands in the site, before it becomes HTML."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    place = path.relative_to(ROOT)
    if place.as_posix() == "README.md":
        return "index.md"
    if place.suffix == ".ipynb":
        return place.with_suffix(".md").as_posix()
    if place.suffix == ".md":
        return place.as_posix().replace("README.md", "readme.md")
    if place.suffix in COPIED:
        return place.as_posix()
    return f"source/{place.as_posix()}.md"


def target_of(link: str, page: Path) -> tuple[Path, str] | None:
    """The file that a link on a page names, and what follows ``#``; None if it names none of the checkout."""
    if re.match(r"[a-z]+:", link) or link.startswith(("#", "/")):
        return None
    name, mark, anchor = link.partition("#")
    path = Path(os.path.normpath(page.parent / unquote(name)))
    return (path, mark + anchor) if path.is_file() and path.is_relative_to(ROOT) else None


def links(text: str, page: Path) -> Iterator[Path]:
    """Files of the checkout that a text links to."""
    for match in LINK.finditer(FENCE.sub("", text)):
        if found := target_of(match[2], page):
            yield found[0]


def relinked(text: str, page: Path) -> str:
    """The text of a page with its links to files as links to their places in the site."""
    here = Path(place_of(page)).parent

    def change(match: re.Match) -> str:
        found = target_of(match[2], page)
        if found is None:
            return match[0]
        return f"{match[1]}{Path(os.path.relpath(place_of(found[0]), here)).as_posix()}{found[1]}{match[3]}"

    return outside_fences(text, lambda part: LINK.sub(change, part))


def outside_fences(text: str, change: Callable[[str], str]) -> str:
    """Change what is no block of code."""
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(text[end:])])
