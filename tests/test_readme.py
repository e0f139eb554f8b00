"""The README's examples run as they stand there; the table of models in docs/models.md is that of the contract.

``python tests/test_readme.py`` writes the table anew.
"""

import re
from pathlib import Path

import brainstate
import brainunit as u
import contract

import etrax

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MODELS = ROOT / "docs" / "models.md"
MARKS = ("<!-- models -->", "<!-- end of models -->")


def test_examples(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    assert sum(bool(line.strip()) for line in blocks[0].splitlines()) <= 27  # 25 lines and the imports
    scope: dict = {}
    with brainstate.random.seed_context(0):  # whatever tests ran before
        for block in blocks:
            exec(compile(block, str(README), "exec"), scope)
    printed = capsys.readouterr().out.splitlines()
    losses = [float(line.split()[1]) for line in printed if line.startswith("loss")]
    assert len(losses) == 3
    assert losses[2] < losses[0]
    assert scope["etrax"].check_jacobian(scope["PLIF"](4)).errors


def test_it_is_for_newcomers():
    assert len(README.read_text().splitlines()) <= 160


def table() -> str:
    """One line of Markdown for each model that has a row in the contract."""
    lines = ["| model | what it is | states | Jacobian | reference |", "|---|---|---|---|---|"]
    for row in contract.primary(contract.ROWS):
        name, path = row.cls.__name__, row.cls.__module__.removeprefix("etrax.").replace(".", "/") + ".py"
        if isinstance(row, contract.OutputRow):
            module, states = row.build(0.0 * u.mV, 5.0 * u.mV), "none"
            closed = module.is_affine and type(module).jacobian is not etrax.SynOut.jacobian
        else:
            module = row.build()
            states = ", ".join(_state(name, value) for name, value in module.initial().items())
            closed = module.closed_form
        twin = f"`brainpy.state.{row.twin or name}`" if row.reference is None else row.source
        kind = "closed form" if closed else "automatic"
        lines.append(f"| [`{name}`](../{path}) | {row.kind} | {states} | {kind} | {twin} |")
    return "\n".join(lines)


def _state(name, value) -> str:
    unit = u.get_unit(value)
    return f"`{name}`" if unit.is_unitless else f"`{name}` {unit}"


def parts() -> tuple[str, str, str]:
    """The page before, between and after the marks of the table."""
    before, rest = MODELS.read_text().split(MARKS[0])
    between, after = rest.split(MARKS[1])
    return before, between.strip(), after


def test_the_table_of_models_is_up_to_date():
    assert parts()[1] == table(), "write it anew: python tests/test_readme.py"


def test_what_differs_from_the_reference_is_told():
    """Models with states that it does not have, or with other defaults, each have a line that names them."""
    told = set(re.findall(r"`(\w+)`", parts()[2].split("## Where they differ")[1].split("\n## ")[0]))
    differ = {r.cls.__name__ for r in contract.ROWS if r.reference is None and (r.hidden or r.differs)}
    assert differ <= told


if __name__ == "__main__":
    before, _, after = parts()
    brainstate.environ.set(dt=1.0 * u.ms)
    MODELS.write_text(f"{before}{MARKS[0]}\n{table()}\n{MARKS[1]}{after}")
