"""The networks that are measured: sizes, weights, data, and one builder for every package with the same module names."""

from __future__ import annotations

import dataclasses
import sys
import types
from pathlib import Path

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # the reference is that of the tests
import oracle

__all__ = ["DT", "N_OUT", "Case", "Data", "Network", "Reference", "etrax_modules", "loss", "peer_modules"]

DT, N_OUT = 1.0, 10
RATES = (0.005, 0.1)  # spikes per neuron and step that every layer must stay within


@dataclasses.dataclass(frozen=True)
class Case:
    """One network with the length of its data.

    Parameters
    ----------
    neuron : {'lif', 'alif'}
        Recurrent neurons, each layer behind one exponential synapse with a current-based output.
    readout : {'plain', 'leaky'}
        Weights on the newest spikes, or on low-passed ones.
    inputs, neurons, batch, steps : int
        Input channels, neurons per layer, samples, steps of 1 ms.
    layers : int
        Layers, each of them recurrent.
    detach : bool
        Whether the gradient leaves out the reset of the potential.
    recurrent : float
        Size of the recurrent weights against the others; near 1, gradients through time explode.
    """

    neuron: str
    readout: str
    inputs: int
    neurons: int
    batch: int
    steps: int
    layers: int = 1
    detach: bool = False
    recurrent: float = 0.25
    tau: float = 20.0
    tau_syn: float = 10.0
    tau_a: float = 200.0
    beta: float = 0.1
    tau_out: float = 20.0

    @property
    def name(self) -> str:
        """A short name, e.g. ``lif-plain-100-128-16-256``."""
        neurons = str(self.neurons) if self.layers == 1 else f"{self.layers}x{self.neurons}"
        detached = "-detached" if self.detach else ""
        return f"{self.neuron}-{self.readout}{detached}-{self.inputs}-{neurons}-{self.batch}-{self.steps}"


def loss(output, target):
    """Mean squared error of one step."""
    return jnp.mean((output - target) ** 2)


class Reference:
    """A case as the step-by-step reference of the tests describes it."""

    def __init__(self, case: Case):
        last = case.layers - 1
        self.net = oracle.Network(
            tuple(
                oracle.Population(
                    case.neurons,
                    (oracle.Projection((f"z{k - 1}" if k else "x", f"z{k}[t-1]")),),
                    (oracle.Synapse(case.tau_syn),),
                    tau=case.tau,
                    tau_a=case.tau_a if case.neuron == "alif" else None,
                    beta=case.beta,
                    detach=case.detach,
                    tau_s=case.tau_out if case.readout == "leaky" and k == last else None,
                )
                for k in range(case.layers)
            ),
            DT,
        )

    @staticmethod
    def params(weights: dict) -> dict:
        """Weights ``layer0``, ..., ``readout`` under the reference's names."""
        layers = {f"pop{k}": {"proj0": {"weight": weights[f"layer{k}"]}} for k in range(len(weights) - 1)}
        return {**layers, "readout": {"weight": weights["readout"]}}

    def rates(self, weights, xs):
        """Spikes per neuron and step, by layer."""
        params = self.params(weights)

        def step(hs, x):
            hs, _, spikes, _ = oracle.network_step(self.net, params, hs, x)
            return hs, jnp.stack([z.mean() for z in spikes])

        return jax.lax.scan(step, oracle.initial(self.net, xs.shape[1], xs.dtype), xs)[1].mean(0)

    def gradient(self, weights, xs, ys, mask):
        """Gradient of the masked mean of the losses, by the names of the weights, and the losses."""
        params, batch = self.params(weights), xs.shape[1]
        start = oracle.initial(self.net, batch, xs.dtype), oracle.no_trace(self.net, params, batch, xs.dtype)
        factors = oracle.weights_of_steps(len(xs), mask, "mean")
        _, _, grads, losses = oracle.drtrl(self.net, params, *start, xs, ys, factors, loss)
        layers = {f"layer{k}": grads[f"pop{k}"]["proj0"]["weight"] for k in range(len(weights) - 1)}
        return {**layers, "readout": grads["readout"]["weight"]}, losses


class Data:
    """Random weights and spikes for a case; the weights are scaled until every layer spikes.

    Weights are multiples of 1/4096: sums of them over spikes are exact in float32, so that contenders which add in
    another order simulate the same spikes for as long as the element-wise arithmetic allows.

    Parameters
    ----------
    case : Case
        The network.
    seed : int
        Seed of all numbers.

    Raises
    ------
    ValueError
        If no scale of the weights makes every layer spike within `RATES`.
    """

    def __init__(self, case: Case, seed: int = 0):
        rng = np.random.default_rng(seed)
        shape = (case.steps, case.batch)
        self.xs = jnp.asarray(rng.random((*shape, case.inputs), np.float32) < 0.05, jnp.float32)
        self.ys = jnp.asarray(rng.normal(size=(*shape, N_OUT)), jnp.float32)
        self.mask = jnp.ones(case.steps, jnp.float32)
        sizes = [case.inputs] + [case.neurons] * case.layers
        fan_in = [n + case.neurons for n in sizes[:-1]]
        raw = [(0.2 + rng.normal(size=(n, case.neurons))) / np.sqrt(n) for n in fan_in]
        for w in raw:
            w[-case.neurons :] *= case.recurrent
        self.weights = {"readout": _grid(rng.normal(size=(case.neurons, N_OUT)) / np.sqrt(case.neurons))}
        simulate = jax.jit(lambda weights: Reference(case).rates(weights, self.xs))
        for k, w in enumerate(raw):
            low, high = 0.1, 100.0
            for _ in range(14):  # bisection: more weight, more spikes
                scale = (low * high) ** 0.5
                layers = {f"layer{j}": _grid(raw[j]) for j in range(k, case.layers)}
                self.weights.update({**layers, f"layer{k}": _grid(scale * w)})
                rate = float(simulate(self.weights)[k])
                if 0.03 < rate < 0.05:
                    break
                low, high = (scale, high) if rate < 0.04 else (low, scale)
        self.rates = [float(r) for r in simulate(self.weights)]
        if not all(RATES[0] < rate < RATES[1] for rate in self.rates):
            raise ValueError(
                f"{case.name}: spikes per neuron and step are {self.rates}, outside {RATES}: take another seed."
            )


def _grid(w):
    return jnp.asarray(np.round(np.asarray(w) * 4096) / 4096, jnp.float32)


class Network(brainstate.nn.Module):
    """A case made of the modules of one package, see `etrax_modules` and `peer_modules`."""

    def __init__(self, lib: types.SimpleNamespace, case: Case, weights: dict):
        super().__init__()
        self.layers = []
        for k in range(case.layers):
            w = weights[f"layer{k}"]
            neurons = _neurons(lib, case)
            projection = lib.AlignPostProj(
                comm=lib.Linear(*w.shape, w_init=w * u.mS, b_init=None),
                syn=lib.Expon(case.neurons, tau=case.tau_syn * u.ms),
                out=lib.CUBA(),
                post=neurons,
            )
            self.layers.append((projection, neurons))
        w = weights["readout"]
        if case.readout == "plain":
            self.readout = lib.Readout(*w.shape, w_init=w, b_init=None)
        else:
            self.readout = lib.LeakyReadout(*w.shape, tau=case.tau_out * u.ms, w_init=w, pre=neurons)
        brainstate.nn.init_all_states(self, batch_size=case.batch)

    def update(self, x):
        """One step: spikes ``(batch, inputs)`` to outputs ``(batch, N_OUT)``."""
        for projection, neurons in self.layers:
            projection(u.math.concatenate([x, neurons.get_spike()], axis=-1))
            x = neurons()
        return self.readout(x)

    def parameters(self) -> dict[str, brainstate.State]:
        """The trained states: ``layer0``, ..., ``readout``."""
        found = {f"layer{k}": projection.comm.weight for k, (projection, _) in enumerate(self.layers)}
        return {**found, "readout": self.readout.weight}


def _neurons(lib, case: Case):
    options = {"detach_reset": True} if case.detach else {}
    if case.detach and not lib.detaches:
        raise ValueError("its neurons have no detached reset")
    if case.neuron == "lif":
        return lib.LIF(case.neurons, tau=case.tau * u.ms, **options)
    constants = dict(tau=case.tau * u.ms, tau_a=case.tau_a * u.ms, beta=case.beta * u.mV)
    return lib.ALIF(case.neurons, **constants, **options)


def etrax_modules() -> types.SimpleNamespace:
    """The modules of etrax."""
    import etrax

    return types.SimpleNamespace(
        **{name: getattr(etrax.neurons, name) for name in ("LIF", "ALIF", "LeakyReadout")},
        **{name: getattr(etrax.synapses, name) for name in ("Expon", "CUBA", "AlignPostProj")},
        Linear=brainstate.nn.Linear,
        Readout=brainstate.nn.Linear,
        detaches=True,
    )


def peer_modules() -> types.SimpleNamespace:
    """The modules that braintrace trains: neurons and synapses of brainpy.state, layers of its own."""
    import brainpy.state
    import braintrace

    class LeakyReadout(brainstate.nn.Module):
        """The readout of etrax in braintrace's terms: low-passed spikes, then weights."""

        def __init__(self, n_in, n_out, tau, w_init, pre):
            super().__init__()
            self.n_in, self.decay = n_in, float(np.exp(-DT / tau.to_decimal(u.ms)))
            self.weight = brainstate.ParamState(w_init)

        def init_state(self, batch_size=None, **kwargs):
            self.s = brainstate.HiddenState(jnp.zeros((batch_size, self.n_in)))

        def reset_state(self, batch_size=None, **kwargs):
            self.s.value = jnp.zeros((batch_size, self.n_in))

        def update(self, z):
            self.s.value = self.decay * self.s.value + z
            return self.s.value @ self.weight.value

    return types.SimpleNamespace(
        **{name: getattr(brainpy.state, name) for name in ("LIF", "ALIF", "Expon", "CUBA", "AlignPostProj")},
        Linear=braintrace.nn.Linear,
        Readout=brainstate.nn.Linear,
        LeakyReadout=LeakyReadout,
        detaches=False,
    )
