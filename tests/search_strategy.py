"""How the networks of `search.py` are drawn: a strategy of hypothesis."""

import contract
import jax.numpy as jnp
from hypothesis import strategies as st
from search import Cells, Drawn, Values, Way
from search_layers import LAYERS

from etrax.contract.constant import declared

HARD = {str(row) for row in contract.NEURONS if row.resets == ("hard",)}
KINDS = [str(row) for row in contract.primary(contract.NEURONS)]
COMMON = ["LIF", "ALIF"] * 4 + [kind for kind in KINDS if kind != "BRF"] + ["BRF"]
SHAPES = [(1,), (2,), (3,), (4,), (2, 2), (3, 1)]
SPREAD = ("tau", "tau_a", "tau_w", "tau_syn", "R", "beta")
SMOOTH = ["Sigmoid", "Arctan"]  # surrogates that are nowhere zero
TOUGH = {"LIF", "ALIF", "IF", "LIFRef", "CubaLIF"}  # whose potential stays finite whatever comes in


def learnable(kind):
    """Constants of a kind of neurons that have a derivative."""
    row = next(row for row in contract.NEURONS if str(row) == kind)
    values = {name: c.default for name, c in declared(row.cls).items()} | row.constants
    real = {k for k, v in values.items() if v is not None and jnp.issubdtype(jnp.result_type(v), jnp.inexact)}
    return sorted(real - {"tau_ref"})


LEARNABLE = {kind: learnable(kind) for kind in KINDS}


def now_and_then(draw, values, otherwise, out_of=4):
    """One of ``values`` in one of ``out_of`` networks."""
    return draw(st.sampled_from(values)) if draw(st.integers(1, out_of)) == out_of else otherwise


@st.composite
def cells(draw, kind, shapes, alike, smooth):
    """Neurons that the output does not read yet; those that are ``alike`` have the same constants."""
    learnt = now_and_then(draw, LEARNABLE[kind], None, 3)
    return Cells(
        kind,
        shape=draw(st.sampled_from(shapes)),
        reset="hard" if kind in HARD else draw(st.sampled_from(["soft", "hard"])),
        detach=now_and_then(draw, [True], False),
        surrogate=draw(st.sampled_from(SMOOTH if smooth else ["ReluGrad", "ReluGrad", "GaussianGrad", *SMOOTH])),
        spread=tuple(n for n in SPREAD if not alike and n in LEARNABLE[kind] and draw(st.integers(1, 4)) == 4),
        learnt=() if learnt is None else (learnt,),
    )


def conducts(name):
    """Whether a filter of that name gives conductances."""
    return any(row.conducts for row in contract.FILTERS if str(row) == name)


@st.composite
def way(draw, k, populations, first, layers, alike):
    """A projection onto population ``k``; the ``first`` one is driven in the same step."""
    now = ["x", *(f"z{j}" for j in range(k))]
    before = [f"z{j}[-1]" for j in range(len(populations))]
    sources = draw(st.lists(st.sampled_from(now + before), min_size=1, max_size=2, unique=True))
    if first and not set(sources) & set(now):
        sources = [draw(st.sampled_from(now)), *sources]
    options = {"layer": draw(st.sampled_from(layers))}
    synapses = [str(row) for row in contract.SYNAPSES if not row.name or (populations[k].shape == (4,) and not alike)]
    options["synapse"] = draw(st.sampled_from(["", "Expon", *synapses]))
    if options["synapse"]:
        options["out"] = draw(st.sampled_from(["CUBA"] * 4 + ["COBA"] * 3 + ["MgBlock"]))
        options["filter"] = now_and_then(draw, [str(row) for row in contract.primary(contract.FILTERS)], "", 4)
        options["learnt"] = now_and_then(draw, [True], False, 5)
        options["shared"] = not options["filter"] and not options["learnt"] and now_and_then(draw, [True], False, 3)
        if options["shared"]:
            options["out"] = "CUBA"
        ahead = [] if first else [f"z{j}[-1]" for j in range(k, len(populations))]  # of who has not stepped yet
        told = [z for z in sources if z in now[1:] + ahead and len(populations[int(z[1])].shape) == 1]
        if options["filter"] and told and draw(st.booleans()):
            sources, options["told"] = told[:1], True
        else:
            options["delay"] = now_and_then(draw, [(0,), (2,)] if alike else [(0,), (2,), (0, 1, 3), (1, 2)], (), 3)
    if conducts(options.get("filter")):  # there is no synapse, and a bias would have no unit
        options |= {"learnt": False, "layer": "Linear"}
    if len(populations[k].shape) > 1 and options["layer"] in ("sparse", "one weight"):
        options["layer"] = "Linear"
    return Way(tuple(sources), **options)


def sends_on(k, ways):
    """Whether a population acts on the potential of another in the same step."""
    return any(
        f"z{k}" in w.sources and not (w.delay or w.filter) and w.synapse in ("", "Expon") for onto in ways for w in onto
    )


@st.composite
def values(draw, scales):
    """The numbers of a network."""
    return Values(
        seed=draw(st.integers(0, 10**6)),
        scale=draw(st.sampled_from(scales)),
        data=draw(st.sampled_from(["even", "bursts"])),
        mask=draw(st.sampled_from(["", "", "late", "uneven"])),
    )


@st.composite
def networks(  # noqa: PLR0913 - what is drawn is a structure, in one piece
    draw,
    large=False,
    number=4,
    longest=24,
    scales=(1.0, 1.0, 1e-6, 1e3),
    layers=("Linear", *LAYERS),
    shapes=SHAPES,
    alike=False,
    **fixed,
):
    """Networks of one structure, and how they are run.

    Parameters
    ----------
    large : bool
        Whether to draw several populations with several projections often; else one of each mostly, which compiles fast.
    number : int
        Of networks.
    longest : int
        Steps, at most.
    scales, layers, shapes : tuple
        What to choose from. Factors other than 1 go with surrogates that are nowhere zero, large ones with neurons that stand them.
    alike : bool
        Whether the neurons of a population have the same constants and delays, and are one behind the other.
    **fixed
        Fields of `Drawn` that are not drawn.
    """
    count = draw(st.sampled_from([1, 1, 1, 2, 2, 3] if large else [1] * 8 + [2]))
    kinds = draw(st.lists(st.sampled_from(COMMON), min_size=count, max_size=count))
    if "BRF" in kinds:  # it has a step of its own
        kinds = ["BRF"] * len(kinds)
    smooth = len({*scales}) > 1 and draw(st.booleans())
    populations = [draw(cells(kind, shapes, alike, smooth)) for kind in kinds]
    ways = []
    for k in range(len(kinds)):
        ways.append([draw(way(k, populations, True, layers, alike))])
        if draw(st.integers(1, 3 if large else 6)) == 3:
            ways[k].append(draw(way(k, populations, False, layers, alike)))
    reads = ["spikes", "V", "leaky", "untold", *(str(row) for row in contract.primary(contract.FILTERS))]
    for k, c in enumerate(populations):
        read = draw(st.sampled_from(reads))
        if sends_on(k, ways) and draw(st.booleans()):
            read = ""
        populations[k] = Cells(**{**vars(c), "read": read})
    length = 3 * draw(st.integers(3, longest // 6))
    options = {
        "batch": draw(st.sampled_from([None, 1, 2, 3])),
        "pieces": draw(st.sampled_from([1, 2])),
        "chunk": draw(st.sampled_from([None, 1, 3, length, length - 1])),
        "run": draw(st.sampled_from(["sequence"] * 5 + ["jit", "steps", "loop", "trial"])),
        "precision": now_and_then(draw, [32], 64, 8),
        "seed": draw(st.integers(0, 10**6)),
        "big": now_and_then(draw, [True], False, 6),
    } | fixed
    if options["run"] in ("trial", "jit"):
        options["pieces"] = 1
    options["T"] = options["pieces"] * length
    options["reset"] = options["pieces"] > 1 and options["run"] in ("sequence", "loop") and draw(st.booleans())
    tough = [s for s in scales if s <= 1 or {*kinds} <= TOUGH] if smooth else [1.0]
    drawn = tuple(draw(values(tough)) for _ in range(number))
    return Drawn(tuple(populations), tuple(map(tuple, ways)), drawn, **options)
