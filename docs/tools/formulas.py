"""Formulas as MathML, made when the site is built: a reader needs no script and no network."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

__all__ = ["FormulaError", "with_formulas"]

MARKED = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)
TAG = re.compile(r"\\tag\{([^}]*)\}")
# What the converter knows under another name, or not everywhere.
NAMES = {
    "{aligned}": "{align*}",
    "{gathered}": "{align*}",
    "{split}": "{align*}",
    r"\vert": "|",
    r"\lvert": "|",
    r"\rvert": "|",
}


class FormulaError(Exception):
    """A formula that cannot be shown."""


def with_formulas(page: str) -> str:
    """The HTML of a page with its formulas in place of their source."""
    return MARKED.sub(lambda match: _shown(html.unescape(match[2]).strip(), match[1] == "div"), page)


def _shown(source: str, block: bool) -> str:
    source = re.sub(r"^\\[(\[]|\\[)\]]$", "", source).strip()
    tags, formula = TAG.findall(source), TAG.sub("", source)
    for theirs, ours in NAMES.items():
        formula = formula.replace(theirs, ours)
    formula = re.sub(r"\\mathrm\{([A-Za-z])\}", r"\\text{\1}", formula)  # a single letter would be set in italics
    shown = convert(formula, display="block" if block else "inline")
    shown = shown.replace('<mo stretchy="false">&#x0007C;</mo>', '<mo stretchy="false" lspace="0" rspace="0">|</mo>')
    if unknown := re.search(r"(?<=>)(&|\\[A-Za-z]*)(?=<)|(linebreak)", shown):
        raise FormulaError(f"`{unknown[1] or 'a break of the line'}` is not understood in the formula\n{source}")
    if not block:
        return shown
    number = "".join(f'<span class="number" id="eq-{tag}">({tag})</span>' for tag in tags)
    return f'<div class="formula"><div>{shown}</div>{number}</div>'
