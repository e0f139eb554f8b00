"""Realistic mistakes end in an error that says what is wrong: see `slips/`, the table."""

import re
import traceback
from collections import Counter

import matplotlib.pyplot as plt
import pytest
from slips import (
    compiling,
    data,
    exchange,
    generated,
    lab,
    networks,
    neurons,
    options,
    own_modules,
    plots,
    projections,
    sequences,
    training,
)

SUBJECTS = (
    *(neurons, own_modules, projections, compiling, sequences),
    *(training, options, data, networks, exchange, plots),
)
WRITTEN = [row for subject in SUBJECTS for row in subject.ROWS]
ROWS = [*WRITTEN, *generated.ROWS]
# what Python says of a call, before anything runs
SIGNATURE = re.compile(r"[\w.<>]+\(\) (missing|got|takes) ")


def test_the_table_is_large_and_mostly_written_by_hand():
    kinds = Counter(row.kind for row in generated.ROWS)
    assert len(ROWS) >= 250
    assert len(generated.ROWS) <= len(ROWS) / 2
    assert max(kinds.values()) <= 5
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert all(words and all(words) for words in (row.words for row in ROWS))
    assert not [row.name for row in ROWS if "\n# " in row.source or not row.source]  # two rows in one


def said_by_us(error: BaseException) -> bool:
    """Whether the last word is ours: of the code of etrax, of a note that it added, or of the script's own line."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    ours = frame.f_globals["__name__"].partition(".")[0] in ("etrax", "slips", "slip")
    notes = [note for note in getattr(error, "__notes__", []) if note.startswith("That was")]
    return ours or bool(notes) or bool(SIGNATURE.match(str(error)))


@pytest.mark.parametrize("slip", ROWS, ids=[row.name for row in ROWS])
def test_a_slip_is_told(slip):
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - its type is in the row
        lab.run(slip.source)
    plt.close("all")
    error = caught.value
    if isinstance(error, ModuleNotFoundError):
        pytest.skip(str(error))
    message = "\n".join([str(error), *getattr(error, "__notes__", [])])
    assert (type(error).__name__, [words for words in slip.words if words not in message]) == (slip.error, []), message
    assert said_by_us(error), message
