"""The README's examples run as they stand there."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_examples(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 3
    assert sum(bool(line.strip()) for line in blocks[0].splitlines()) <= 27  # 25 lines and the imports
    scope: dict = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), scope)
    printed = capsys.readouterr().out.splitlines()
    losses = [float(line.split()[1]) for line in printed if line.startswith("loss")]
    assert len(losses) == 3
    assert losses[2] < losses[0]
    assert printed[-1].startswith("accuracy")
    assert scope["etrax"].check_jacobian(scope["PLIF"](4)).errors
