"""Random networks as plain data, and the modules that they describe; `test_search.py` compares them with `search_oracle.py`.

A `Drawn` is a structure, and the numbers of several networks that share it: what it prints is code that makes them again. Names in it are rows of `contract.py` and keys of `LAYERS`.
"""

import dataclasses

import brainstate
import braintools
import brainunit as u
import contract
import jax
import jax.numpy as jnp
import numpy as np
from search_layers import layer

from etrax import neurons, synapses
from etrax.contract.constant import declared

N_IN, N_OUT = 4, 2


@dataclasses.dataclass(frozen=True)
class Cells:
    """A population: its neurons, and what of them the output reads.

    Attributes
    ----------
    kind : str
        A row of `contract.NEURONS`.
    read : str
        "" for nothing, "spikes", "V", "leaky" (a `LeakyReadout` of its spikes), "untold" (one that does not know whose spikes
        they are), or a filter, whose new state is weighed.
    spread : tuple of str
        Constants that differ from neuron to neuron.
    learnt : tuple of str
        Constants that are trained.
    """

    kind: str = "LIF"
    shape: tuple = (3,)
    reset: str = "soft"
    detach: bool = False
    surrogate: str = "ReluGrad"
    spread: tuple = ()
    learnt: tuple = ()
    read: str = "spikes"


@dataclasses.dataclass(frozen=True)
class Way:
    """A projection.

    Attributes
    ----------
    sources : tuple of str
        Side by side: "x", "z0" (spikes of population 0 in this step), "z0[-1]" (of the step before).
    synapse : str
        A row of `contract.SYNAPSES`; "" for a jump of the potential.
    out : str
        A row of `contract.OUTPUTS`.
    filter : str
        A row of `contract.FILTERS` ahead of the layer, or "".
    told : bool
        Whether the filter knows whose spikes it takes, all from one population.
    delay : tuple of int
        Steps: none, one for all, or one for each that sends.
    shared : bool
        Whether the synapse is given by its description, so that ways of one description have one synapse.
    """

    sources: tuple
    layer: str = "Linear"
    synapse: str = "Expon"
    out: str = "CUBA"
    filter: str = ""
    told: bool = False
    delay: tuple = ()
    shared: bool = False
    learnt: bool = False

    @property
    def waits(self):
        """Whether what enters stays in a memory that belongs to no population."""
        return bool(self.delay or (self.filter and not self.told))


@dataclasses.dataclass(frozen=True)
class Values:
    """What may differ between networks of one structure: all numbers that go in.

    Attributes
    ----------
    seed : int
        Of weights, learnt constants, inputs, targets and dropout.
    scale : float
        Factor of all weights of projections, once they are such that the network spikes.
    data : str
        "even", or "bursts" after silence.
    mask : str
        "" for none, "late", or "uneven".
    """

    seed: int = 0
    scale: float = 1.0
    data: str = "even"
    mask: str = ""


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Networks of one structure, and how they are run.

    Attributes
    ----------
    cells : tuple of Cells
        Populations in the order in which they step.
    ways : tuple of tuple of Way
        The projections onto each.
    values : tuple of Values
        One for each network.
    pieces : int
        Calls that the sequence of ``T`` steps is cut into.
    chunk : int or None
        Steps of a chunk.
    run : str
        "sequence", "jit", "steps", "loop", "trial", or "vmap" over all networks.
    reset : bool
        Whether states and traces start anew with each piece.
    seed : int
        Of what is no parameter: the signs of weights.
    big : bool
        Constants and weights in volts, seconds and siemens in place of thousandths.
    """

    cells: tuple
    ways: tuple
    values: tuple = (Values(),)
    batch: int | None = 2
    T: int = 12
    pieces: int = 1
    chunk: int | None = None
    run: str = "sequence"
    reset: bool = False
    precision: int = 64
    seed: int = 0
    big: bool = False

    @property
    def dt(self):
        """The time step: that of the slowest kind of neurons."""
        return max((row_of(contract.NEURONS, c.kind).dt for c in self.cells), key=lambda t: float(t / u.ms))

    def rng(self, *key):
        """Random numbers of one part of the structure."""
        return np.random.default_rng([self.seed, *key])

    def sequences(self, values):
        """Inputs, targets and weights of the steps."""
        rng, batch = np.random.default_rng(values.seed), () if self.batch is None else (self.batch,)
        rate = np.full(self.T, 0.4)
        if values.data == "bursts":
            rate = np.where(np.arange(self.T) % 6 < 3, 0.0, 0.8)
        xs = rng.random((self.T, *batch, N_IN)) < rate.reshape(-1, *[1] * (len(batch) + 1))
        mask = {"": np.ones(self.T), "late": np.arange(self.T) >= self.T // 3, "uneven": rng.uniform(0, 2, self.T)}
        ys = rng.normal(size=(self.T, *batch, N_OUT))
        return tuple(floats(v) for v in (xs, ys, mask[values.mask]))


def row_of(rows, name):
    """The row of that name."""
    return next(row for row in rows if str(row) == name)


def loss(r, y):
    """Loss of a step: that of a batch is the sum over its samples."""
    return jnp.sum((r - y) ** 2)


# ------------------------------------------------------------------------------------------------------------ units


def large(value):
    """A quantity in volts, seconds or siemens, if it is one of potential, time or conductance."""
    for unit in (u.volt, u.second, u.siemens):
        if u.get_unit(value).has_same_dim(unit):
            return u.Quantity(u.Quantity(value).to_decimal(unit), unit=unit)
    return value


# ---------------------------------------------------------------------------------------------------------- modules


def population(drawn, k):
    """The neurons of population ``k``."""
    cells = drawn.cells[k]
    row = row_of(contract.NEURONS, cells.kind)
    constants = {name: c.default for name, c in declared(row.cls).items()} | row.constants
    size = int(np.prod(cells.shape))
    for name in {*cells.spread, *cells.learnt}:
        value = constants[name]
        if name in cells.spread:
            value = jnp.linspace(0.9, 1.2, size).reshape(cells.shape) * value
        constants[name] = value
    if drawn.big:
        constants = {name: large(value) for name, value in constants.items()}
    constants |= {name: brainstate.ParamState(floats(constants[name])) for name in cells.learnt}
    options = {"spk_reset": cells.reset} if row.resets else {}
    surrogate = getattr(braintools.surrogate, cells.surrogate)()
    return row.cls(cells.shape, **constants, **options, detach_reset=cells.detach, spk_fun=surrogate)


def floats(value):
    """The value in the precision of the environment."""
    return jax.tree.map(lambda v: jnp.asarray(v, brainstate.environ.dftype()), value)


def projection(drawn, k, j, posts, stop):
    """Projection ``j`` onto population ``k``; ``stop`` wraps its layer, as the oracle needs it."""
    way, post = drawn.ways[k][j], posts[k]
    row = row_of(contract.NEURONS, drawn.cells[k].kind)
    sizes = {"x": N_IN} | {f"z{i}{at}": int(np.prod(c.shape)) for i, c in enumerate(drawn.cells) for at in ("", "[-1]")}
    n_in, shape = sum(sizes[s] for s in way.sources), drawn.cells[k].shape
    span, ahead = row.E - row.rest, row_of(contract.FILTERS, way.filter) if way.filter else None
    gain, unit = (
        0.5 * row.gain * row.drive / span * (1.0 if ahead is None else ahead.gain),
        u.get_unit(row.drive / span),
    )
    if not way.synapse:
        gain = row.jump
    elif ahead is not None and ahead.conducts:
        gain = u.maybe_decimal(gain / u.mS)
    gain = large(gain) if drawn.big else gain
    weight = np.sqrt(N_IN / n_in) * (0.4 + drawn.rng(1, k, j).normal(size=(n_in, int(np.prod(shape)))))
    weight = np.where(weight.sum(0) < 0, -weight, weight)  # no neuron is only inhibited
    comm = layer(way.layer, floats(weight), floats(gain), shape)
    comm = stop(comm, f"proj{k}_{j}") if way.told else comm
    late = drawn.dt * np.resize(way.delay, n_in if len(way.delay) > 1 else ()) if way.delay else None
    if not way.synapse:
        return synapses.DeltaProj(comm=comm, post=post)
    modules = []
    if ahead is not None:
        options = {"pre": posts[int(way.sources[0][1])]} if way.told else {}
        modules.append(ahead.build(n_in, **options))
    out_row = row_of(contract.OUTPUTS, way.out)
    if ahead is not None and ahead.conducts:
        return synapses.CurrentProj(*modules, comm=comm, out=out_row.build(row.rest, row.E), post=post, delay=late)
    syn = row_of(contract.SYNAPSES, way.synapse)
    constants = dict(syn.constants)
    if way.learnt:
        name = "tau" if "tau" in declared(syn.cls) else "tau_decay"
        constants[name] = brainstate.ParamState(floats(constants.get(name, declared(syn.cls)[name].default)))
    elif drawn.big:
        constants = {name: large(value) for name, value in constants.items()}
    start = braintools.init.Constant(0.0 * (u.get_unit(large(1.0 * unit)) if drawn.big else unit))
    if way.shared:
        made, out = syn.cls.desc(shape, **constants, g_initializer=start), synapses.CUBA.desc(span)
    else:
        made, out = syn.cls(shape, **constants, g_initializer=start), out_row.build(row.rest, row.E)
    return synapses.AlignPostProj(*modules, comm=comm, syn=made, out=out, post=post, delay=late)


def flat(z, shape):
    """Without the axes of a population."""
    return z.reshape(*z.shape[: z.ndim - len(shape)], -1)


class Net(brainstate.nn.Module):
    """The network: ``neu0``, ``proj0_0``, ..., ``out0``.

    ``gate(kind, name, z)`` is what goes on of spikes that enter a projection or a readout of that name: of this step ("now"), of
    the step before ("later"), behind a filter that knows whose they are ("told"), or into a memory of nobody's, a delay or a filter that does not know whose spikes it takes
    ("waits"; what enters it of the step before has passed "late" by then). ``stop`` wraps layers behind filters.
    """

    def __init__(self, drawn, gate=lambda kind, name, z: z, stop=lambda layer, name: layer):
        super().__init__()
        self.drawn, self.gate = drawn, gate
        self.posts = [population(drawn, k) for k in range(len(drawn.cells))]
        for k, cells in enumerate(drawn.cells):
            setattr(self, f"neu{k}", self.posts[k])
            for j in range(len(drawn.ways[k])):
                setattr(self, f"proj{k}_{j}", projection(drawn, k, j, self.posts, stop))
            self.readout(k, cells)

    def readout(self, k, cells):
        """What the output reads of a population."""
        size = int(np.prod(cells.shape))
        weight = floats(self.drawn.rng(2, k).normal(size=(size, N_OUT)))
        if cells.read in ("leaky", "untold"):
            told = {"pre": self.posts[k]} if cells.read == "leaky" else {}
            made = neurons.LeakyReadout(cells.shape, N_OUT, tau=8.0 * self.drawn.dt, w_init=weight, **told)
            setattr(self, f"out{k}", made)
        elif cells.read:
            setattr(self, f"out{k}", brainstate.nn.Linear(size, N_OUT, w_init=weight, b_init=None))
            if cells.read not in ("spikes", "V"):
                made = row_of(contract.FILTERS, cells.read).build(cells.shape, pre=self.posts[k])
                setattr(self, f"filter{k}", made)

    def update(self, x):
        drawn, sent, outputs = self.drawn, {"x": x}, []
        for k, post in enumerate(self.posts):
            sent[f"z{k}[-1]"] = flat(post.get_spike(), drawn.cells[k].shape)
        for k, (cells, post) in enumerate(zip(drawn.cells, self.posts, strict=True)):
            for j, way in enumerate(drawn.ways[k]):
                getattr(self, f"proj{k}_{j}")(self.entering(f"proj{k}_{j}", way, sent))
            z = post()
            sent[f"z{k}"] = flat(z, cells.shape)
            if cells.read:
                outputs.append(getattr(self, f"out{k}")(self.seen(k, z)))
        return sum(outputs)

    def entering(self, name, way, sent):
        """What a projection takes."""
        if way.told:
            return sent[way.sources[0]]
        late, now = ("late", None) if way.waits else ("later", "now")
        kinds = [None if s == "x" else late if s[-1] == "]" else now for s in way.sources]
        parts = [
            self.gate(kind, name, sent[s]) if kind else sent[s] for kind, s in zip(kinds, way.sources, strict=True)
        ]
        entering = jnp.concatenate(parts, axis=-1)
        return self.gate("waits", name, entering) if way.waits else entering

    def seen(self, k, z):
        """What the weights of the output take."""
        cells, row = self.drawn.cells[k], row_of(contract.NEURONS, self.drawn.cells[k].kind)
        if cells.read in ("leaky", "untold"):
            return z if cells.read == "leaky" else self.gate("waits", f"out{k}", z)
        if cells.read == "V":
            return flat(u.maybe_decimal((self.posts[k].V.value - row.rest) / row.E.unit), cells.shape)
        if cells.read != "spikes":
            z = u.get_mantissa(getattr(self, f"filter{k}")(z))
        return flat(z, cells.shape)
