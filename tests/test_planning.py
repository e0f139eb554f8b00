"""Which steps are evaluated together, as a table: nothing runs here."""

import pytest

from etrax.engine.planning import Budget, Ends, Part, block_length, plan

FIRST, LAST, BOTH, INNER = Ends(first=True), Ends(last=True), Ends(first=True, last=True), Ends()


@pytest.mark.parametrize(
    ("T", "chunk", "trial", "parts"),
    [
        (1, 1, False, [Part(0, 1, 1)]),
        (5, 7, False, [Part(0, 5, 1)]),
        (5, 7, True, [Part(0, 5, 1, BOTH)]),
        (14, 7, False, [Part(0, 7, 2)]),
        (14, 7, True, [Part(0, 7, 1, FIRST), Part(7, 7, 1, LAST)]),
        (16, 7, False, [Part(0, 7, 2), Part(14, 2, 1)]),
        (21, 7, True, [Part(0, 7, 2), Part(14, 7, 1, LAST)]),
        (23, 7, True, [Part(0, 7, 3), Part(21, 2, 1, LAST)]),
        (9, 8, False, [Part(0, 8, 1), Part(8, 1, 1)]),
    ],
)
def test_the_chunks_of_a_sequence(T, chunk, trial, parts):
    assert plan(T, chunk, trial) == parts


@pytest.mark.parametrize("trial", [False, True])
def test_every_step_is_in_one_chunk(trial):
    for T in range(1, 60):
        for chunk in range(1, 62):
            parts = plan(T, chunk, trial)
            steps = [t for p in parts for t in range(p.start, p.start + p.length * p.repeat)]
            assert steps == list(range(T))
            assert all(p.length <= chunk for p in parts)
            assert parts[-1].ends.last == trial
            assert parts[0].ends.first == (trial and parts[0].repeat == 1)


@pytest.mark.parametrize(
    ("K", "most", "length"),
    [(1, 128, 1), (100, 128, 100), (256, 128, 128), (300, 128, 100), (257, 128, 128), (19, 16, 16)],
)
def test_blocks(K, most, length):
    assert block_length(K, most) == length


@pytest.mark.parametrize(
    ("T", "longest", "length"),
    [(100, 128, 100), (128, 128, 128), (256, 128, 128), (384, 256, 192), (1000, 128, 125), (1021, 128, 128), (5, 0, 1)],
)
def test_a_sequence_is_one_chunk_while_it_fits_and_else_chunks_of_one_length_where_they_can_be(T, longest, length):
    assert Budget(total=10 * longest + 9, step=10).chunk_length(T) == length


def test_a_gradient_that_depends_on_the_chunk_takes_one_or_none():
    budget = Budget(total=2**20, step=2**10, divides=False)
    assert budget.chunk_length(1024) == 1024
    with pytest.raises(ValueError, match=r"1025 steps in one chunk.* `memory`, 1.0 MiB,.*`memory=1049600`"):
        budget.chunk_length(1025)
