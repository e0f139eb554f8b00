"""The networks that tests compare with the oracle: one table, and one builder for every package with the same names."""

import dataclasses
import functools
import types
import zlib
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from oracle import Network, Population, Projection, Synapse

T, B, N_IN, N_OUT = 24, 2, 5, 3

UNITS = dict(R=u.ohm, tau=u.ms, tau_a=u.ms, V_th=u.mV, V_reset=u.mV, V_rest=u.mV, beta=u.mV)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A network of the oracle with parameters, inputs (T, B, N_IN) and targets (T, B, N_OUT)."""

    net: Network
    params: dict
    xs: Any
    ys: Any


def loss(r, y):
    """Loss of one step."""
    return jnp.mean((r - y) ** 2)


# ------------------------------------------------------------------------------------------------------- the table


def one(*projections, scale=4.0, bias=True, leaky=None, n=4, **kwargs):
    """A row of one population; ``scale`` is the size of its weights, one number or one per projection."""
    population = Population(n, projections, tau_s=leaky, **({"tau": 10.0} | kwargs))
    return (population,), (scale,), bias


FEED = Projection(("x",))
LOOP = Projection(("x", "z0[t-1]"))
TAUS = np.array([6.0, 10.0, 15.0, 20.0])
THRESHOLDS = np.array([0.8, 1.0, 1.3, 0.9])
EXC, INH = Synapse(tau=5.0, scale=1e-3, E=6.0), Synapse(tau=9.0, scale=1e-3, E=-2.0)
ALIF: dict[str, Any] = dict(tau_a=40.0, beta=0.4)

# Feed-forward: D-RTRL is exact, whatever the neuron, the synapses and the readout.
FEED_FORWARD = {
    "lif": one(FEED),
    "lif no bias": one(FEED, bias=False, scale=5.0),
    "lif hard": one(FEED, reset="hard", V_reset=-0.2, V_rest=0.1),
    "lif delta": one(Projection(("x",), None), synapses=(), scale=1.2),
    "alif leaky": one(FEED, leaky=15.0, **ALIF),
    "coba": one(FEED, Projection(("x",), 1), synapses=(EXC, INH), R=1000.0, scale=(1.2, 0.5)),
}

# One recurrent population: D-RTRL is BPTT with stopped gradients at the inputs of projections.
RECURRENT = {
    "lif": one(LOOP),
    "lif detached": one(LOOP, detach=True),
    "lif hard": one(LOOP, reset="hard"),
    "lif hard detached": one(LOOP, reset="hard", detach=True, V_reset=-0.3),
    "lif heterogeneous": one(LOOP, tau=TAUS, V_th=THRESHOLDS, synapses=(Synapse(tau=TAUS / 2),)),
    "alif": one(LOOP, **ALIF),
    "alif hard": one(LOOP, reset="hard", V_rest=0.1, **ALIF),
    "alif detached leaky": one(LOOP, detach=True, leaky=12.0, **ALIF),
    "alif heterogeneous": one(
        LOOP, tau=TAUS, V_th=THRESHOLDS, tau_a=4 * TAUS, beta=THRESHOLDS / 3, scale=5.0, leaky=20.0
    ),
    "alif delta": one(Projection(("x", "z0[t-1]"), None), synapses=(), scale=1.2, bias=False, **ALIF),
    "two synapses and delta": one(
        Projection(("x",), 0),
        Projection(("z0[t-1]",), 1),
        Projection(("x",), None),
        synapses=(Synapse(tau=5.0), Synapse(tau=12.0)),
        scale=(3.0, 1.0, 0.5),
        bias=False,
    ),
    "shared synapse": one(FEED, Projection(("z0[t-1]",)), Projection(("x",), None), scale=(4.0, 1.0, 0.3)),
    "coba": one(
        FEED, Projection(("x", "z0[t-1]"), 1), synapses=(EXC, INH), R=1000.0, scale=(1.4, 0.3), leaky=10.0, **ALIF
    ),
    "coba and cuba": one(
        FEED,
        Projection(("z0[t-1]",), 1),
        synapses=(EXC, Synapse(tau=7.0, scale=1e-3)),
        R=1000.0,
        scale=(1.4, 1.0),
        reset="hard",
    ),
}

# Several populations: what passes between them is learnt from same-step signals only.
LAYERED = {
    "two lif": ((Population(4, (LOOP,), tau=10.0), Population(5, (Projection(("z0",)),), tau=8.0)), (5.0, 5.0), True),
    "two leaky": (
        (
            Population(4, (FEED, Projection(("z1[t-1]",))), tau=10.0, **ALIF),
            Population(
                5,
                (Projection(("z0", "x"), 0), Projection(("z1[t-1]", "z0[t-1]"), 1)),
                (Synapse(4.0), Synapse(9.0)),
                tau=12.0,
                reset="hard",
                tau_s=15.0,
            ),
        ),
        ((5.0, 1.0), (4.0, 1.0)),
        True,
    ),
    "three": (
        (
            Population(4, (LOOP,), tau=10.0, detach=True),
            Population(6, (Projection(("z0",), None),), (), tau=12.0, **ALIF),
            Population(
                3,
                (Projection(("z1", "z0"), 0), Projection(("z2[t-1]", "z1[t-1]"), 1)),
                (EXC, INH),
                R=1000.0,
                tau=10.0,
                tau_s=8.0,
            ),
        ),
        (5.0, 2.5, (1.5, 0.2)),
        False,
    ),
}

# Stacks without loops: exact when credit goes through depth.
UP0, UP1 = Projection(("z0",)), Projection(("z1",))
STACKS = {
    "stack two": ((Population(4, (FEED,), tau=10.0), Population(5, (UP0,), tau=8.0)), (5.0, 5.0), True),
    "stack three": (
        (
            Population(4, (FEED,), tau=10.0, **ALIF),
            Population(6, (Projection(("z0",), None),), (), tau=12.0, reset="hard"),
            Population(3, (Projection(("z1", "z0", "x")),), tau=10.0, **ALIF, tau_s=15.0),
        ),
        (5.0, 2.5, 4.0),
        True,
    ),
    "stack three coba": (
        (
            Population(4, (FEED,), tau=10.0, tau_a=40.0, beta=0.4),
            Population(5, (UP0,), (EXC,), R=1000.0, tau=10.0),
            Population(4, (UP1, Projection(("z0",), 1)), (EXC, INH), R=1000.0, tau=8.0, tau_s=8.0),
        ),
        (5.0, 1.4, (1.4, 0.3)),
        False,
    ),
}

NETWORKS = {
    **{f"feed-forward {k}": v for k, v in FEED_FORWARD.items()},
    **{f"recurrent {k}": v for k, v in RECURRENT.items()},
    **{f"layered {k}": v for k, v in LAYERED.items()},
}
FEED_FORWARD_NAMES = [n for n in NETWORKS if n.startswith("feed-forward")]
RECURRENT_NAMES = [n for n in NETWORKS if n.startswith("recurrent")]


@functools.cache
def case(name):
    """The row ``name`` of the table with the first random weights and data for which every population spikes well."""
    for attempt in range(50):
        found = draw(name, zlib.crc32(name.encode()) + attempt)
        rates = [float(z.mean()) for z in oracle.simulate(found.net, found.params, found.xs)[1]]
        if all(0.03 < rate < 0.4 for rate in rates):
            return found
    raise AssertionError(f"{name!r} does not spike well with any weights; the last rates per step were {rates}")


def draw(name, seed):
    """The row ``name`` of the table with weights and data of one seed."""
    populations, scales, bias = {**NETWORKS, **STACKS}[name]
    rng = np.random.default_rng(seed)
    sizes = {"x": N_IN} | {f"z{k}{at}": p.n for k, p in enumerate(populations) for at in ("", "[t-1]")}

    def weights(n_in, n_out, scale, bias, mean=0.3):
        p = {"weight": scale / np.sqrt(n_in) * (mean + rng.normal(size=(n_in, n_out)))}
        return p | ({"bias": 0.02 * scale * rng.normal(size=n_out)} if bias else {})

    params = {}
    for k, (population, scale) in enumerate(zip(populations, scales, strict=True)):
        per_projection = np.broadcast_to(scale, len(population.projections))
        params[f"pop{k}"] = {
            f"proj{j}": weights(sum(sizes[s] for s in p.sources), population.n, float(size), bias)
            for j, (p, size) in enumerate(zip(population.projections, per_projection, strict=True))
        }
    leaky = populations[-1].tau_s is not None
    params["readout"] = weights(populations[-1].n, N_OUT, 1.0, bias and not leaky, mean=0.0)
    xs = (rng.random((T, B, N_IN)) < 0.2).astype(float)
    ys = rng.normal(size=(T, B, N_OUT))
    return Case(Network(populations), jax.tree.map(jnp.asarray, params), jnp.asarray(xs), jnp.asarray(ys))


# ----------------------------------------------------------------------------------------------------- the builder


def package(lib_neurons, lib_synapses, readout):
    """Modules of one package, found under the same names."""
    names = {k: getattr(lib_neurons, k) for k in ("LIF", "ALIF")}
    names |= {k: getattr(lib_synapses, k) for k in ("Expon", "CUBA", "COBA", "AlignPostProj", "DeltaProj")}
    return types.SimpleNamespace(**names, readout=readout)


class Built(brainstate.nn.Module):
    """The network of a case, made of the modules of ``lib``: ``neu0``, ``proj0_0``, ..., ``readout``."""

    def __init__(self, lib, net, params):
        super().__init__()
        self.description = net
        sizes = {"x": N_IN} | {f"z{k}{at}": p.n for k, p in enumerate(net.populations) for at in ("", "[t-1]")}
        for k, pop in enumerate(net.populations):
            theta = params[f"pop{k}"]
            neu = neuron(lib, pop, theta.get("neuron", {}))
            setattr(self, f"neu{k}", neu)
            for j, p in enumerate(pop.projections):
                comm = linear(
                    sum(sizes[s] for s in p.sources), pop.n, theta[f"proj{j}"], u.mV if p.syn is None else u.mS
                )
                setattr(self, f"proj{k}_{j}", projection(lib, pop, p, comm, neu))
        last, p = net.populations[-1], params["readout"]
        if last.tau_s is None:
            self.readout = linear(last.n, N_OUT, p, u.UNITLESS)
        else:
            self.readout = lib.readout(last.n, N_OUT, tau=last.tau_s * u.ms, w_init=p["weight"], pre=neu)

    def update(self, x):
        neurons = [getattr(self, f"neu{k}") for k in range(len(self.description.populations))]
        signals = {"x": x} | {f"z{k}[t-1]": neu.get_spike() for k, neu in enumerate(neurons)}
        for k, (pop, neu) in enumerate(zip(self.description.populations, neurons, strict=True)):
            for j, p in enumerate(pop.projections):
                getattr(self, f"proj{k}_{j}")(jnp.concatenate([signals[s] for s in p.sources], axis=-1))
            signals[f"z{k}"] = neu()
        return self.readout(signals[f"z{len(neurons) - 1}"])

    def hidden(self):
        """Hidden states by population and by the name the oracle gives them (V, a, g0, ...; s apart)."""
        found = []
        for k, pop in enumerate(self.description.populations):
            neu = getattr(self, f"neu{k}")
            states = {"V": neu.V} | ({} if pop.tau_a is None else {"a": neu.a})
            for j, p in enumerate(pop.projections):
                if p.syn is not None:
                    states[f"g{p.syn}"] = getattr(self, f"proj{k}_{j}").syn.g
            found.append(states)
        return found

    def parameter(self, population, projection):
        """The `ParamState` of a projection."""
        return getattr(self, f"proj{population}_{projection}").comm.weight


def linear(n_in, n_out, p, unit):
    """A layer of given weights."""
    bias = p["bias"] * unit if "bias" in p else None
    return brainstate.nn.Linear(n_in, n_out, w_init=p["weight"] * unit, b_init=bias)


def neuron(lib, pop, trained):
    """LIF or ALIF with the constants of ``pop``, those of ``trained`` as parameters."""
    names = [k for k in UNITS if pop.tau_a is not None or k not in ("tau_a", "beta")]
    constants = {k: getattr(pop, k) * UNITS[k] for k in names}
    constants |= {k: brainstate.ParamState(v * UNITS[k]) for k, v in trained.items()}
    optional = {"detach_reset": True} if pop.detach and getattr(lib, "detaches", True) else {}
    cls = lib.LIF if pop.tau_a is None else lib.ALIF
    return cls(pop.n, **constants, spk_fun=braintools.surrogate.ReluGrad(), spk_reset=pop.reset, **optional)


def projection(lib, pop, p, comm, neu):
    """A projection; a synapse that several projections share is given by its description."""
    if p.syn is None:
        return lib.DeltaProj(comm=comm, post=neu)
    syn = pop.synapses[p.syn]
    shared = sum(other.syn == p.syn for other in pop.projections) > 1
    make = (lambda cls: cls.desc) if shared else (lambda cls: cls)
    output = make(lib.CUBA)(scale=syn.scale * u.volt) if syn.E is None else make(lib.COBA)(E=syn.E * u.mV)
    return lib.AlignPostProj(comm=comm, syn=make(lib.Expon)(pop.n, tau=syn.tau * u.ms), out=output, post=neu)


def thorough(names, *quick):
    """Parameters of a test, single ones or tuples: those not in ``quick`` are left to the slow run."""

    def slow(name):
        return pytest.param(*(name if isinstance(name, tuple) else (name,)), marks=pytest.mark.slow)

    return [name if name in quick else slow(name) for name in names]


def named(by_path):
    """Mantissas of a gradient of `Built` under the oracle's names."""
    out: dict[str, Any] = {}
    for path, value in by_path.items():
        value = mantissas(value)
        if path[0] == "readout":
            out["readout"] = value if isinstance(value, dict) else {"weight": value}
        elif path[0].startswith("neu"):
            out.setdefault(f"pop{path[0].removeprefix('neu')}", {}).setdefault("neuron", {})[path[1]] = value
        else:
            k, j = path[0].removeprefix("proj").split("_")
            out.setdefault(f"pop{k}", {})[f"proj{j}"] = value
    return out


def mantissas(tree):
    """The tree with numbers in place of quantities."""
    return jax.tree.map(u.get_mantissa, tree, is_leaf=lambda v: isinstance(v, u.Quantity))
