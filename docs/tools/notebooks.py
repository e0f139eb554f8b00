"""Executed notebooks as pages: text, code, what it printed, and its figures."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["Page", "fenced", "page_of"]


class Page(NamedTuple):
    """The text of a page; its figures by name, in a folder named after the notebook; the headings that they stand under."""

    text: str
    figures: dict[str, bytes]
    captions: list[str]


def page_of(path: Path) -> Page:
    """A notebook as a page."""
    cells = json.loads(path.read_text())["cells"]
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    captions: list[str] = []
    heading = path.stem
    for cell in cells:
        text = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(text)
            heading = ([heading, *re.findall(r"^#+ (.+)$", text, re.MULTILINE)])[-1]
            continue
        if cell["cell_type"] != "code" or not text:
            continue
        parts.append(fenced(text, "python"))
        for output in cell["outputs"]:
            data = output.get("data", {})
            if output["output_type"] == "stream":
                parts.append(_printed("".join(output["text"])))
            elif "image/png" in data:
                name = f"{path.stem}/{len(figures) + 1}.png"
                figures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f'<a id="figure-{len(figures)}"></a>\n\n![{heading}]({name})')
                captions.append(heading)
            elif "text/html" in data:
                parts.append('<div class="output" markdown="0">\n' + "".join(data["text/html"]) + "\n</div>")
            elif "text/plain" in data:
                parts.append(_printed("".join(data["text/plain"])))
    return Page("\n\n".join(parts) + "\n", figures, captions)


def _printed(text: str) -> str:
    return f'<div class="output" markdown>\n\n{fenced(text, "text")}\n\n</div>' if text.strip() else ""


def fenced(text: str, language: str) -> str:
    """Text as a block of code."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
