"""From a NIR graph to an etrax network; see `etrax.exchange.nir_export` for what stands for what."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax.numpy as jnp
import numpy as np

from etrax.checks import check_dt
from etrax.neurons import LIF, LeakyReadout
from etrax.synapses import CUBA, AlignPostProj, CurrentProj, Expon
from etrax.synapses.delay import InputDelay

from .nir_export import require_nir
from .nir_graph import (
    check_discretization,
    check_reach,
    constant,
    discretized,
    initializer,
    last,
    opened,
    plain,
    sized,
    turned,
    unfolded,
)
from .nir_modules import CONVOLUTIONS, MILLI, Pass, layer_of, leak_of

__all__ = ["NIRNetwork", "from_nir"]

_WEIGHTS = ("Linear", "Affine", *CONVOLUTIONS)
_NEURONS = ("LIF", "CubaLIF", "IF")
_LEAKS = ("LI", "CubaLI", "I")
_KNOWN = ("Input", "Output", *_NEURONS, *_LEAKS, "Flatten", "Delay", *_WEIGHTS)


def from_nir(
    graph: Any, *, spk_fun: Callable | None = None, spk_reset: str | None = None, discretization: str | None = None
) -> NIRNetwork:
    """The network of a NIR graph, with the ``dt`` of the environment.

    Parameters
    ----------
    graph : nir.NIRGraph or path
        The graph or a file that holds one; graphs within it (recurrent ones, as other simulators write) are unfolded. Sizes are
        taken from weights, so that inputs with other axes beside (one of time or batches) and constants of one number are read.
    spk_fun : callable, optional
        Surrogate of all neurons, from ``braintools.surrogate``; NIR has none.
    spk_reset : {'soft', 'hard'}, optional
        How neurons reset; what the graph's metadata say, else ``'hard'`` as in NIR's equations, if left out.

    discretization : {'exact', 'euler'}, optional
        How the simulator that wrote the graph takes a step: ``'euler'``, a decay by ``1 - dt / tau`` as snnTorch, norse and
        Rockpool have it, or ``'exact'``, by ``exp(-dt / tau)``, as NIR's equations are solved.
        What the graph's metadata say, else ``'exact'``, if left out.

        A graph that counts time in steps, as sinabs writes it (``r`` of 1, ``tau`` in steps), has a ``dt`` of 1 s.

    Returns
    -------
    NIRNetwork
        A module whose weights and populations are attributes under the names of the nodes.

    Raises
    ------
    ModuleNotFoundError
        If the package ``nir`` is not installed.
    ValueError
        If ``dt`` is not set or not the one that an etrax graph was written for, or if the graph has a node or a
        connection that is not supported, or is shorter than a step of Euler; it is named.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax, nir, numpy as np
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> lif = nir.LIF(tau=np.full(3, 0.01), r=np.ones(3), v_leak=np.zeros(3), v_threshold=np.full(3, 0.3))
    >>> net = etrax.from_nir(nir.NIRGraph.from_list(nir.Linear(np.ones((3, 2))), lif))
    >>> _ = brainstate.nn.init_all_states(net)
    >>> [int(net(np.ones(2))[0]) for _ in range(4)]  # 2 (1 - exp(-t / 10)) passes 0.3 at t = 2
    [0, 1, 0, 1]
    """
    nir = require_nir()
    check_dt()
    if isinstance(graph, str | os.PathLike):
        graph = opened(nir, graph)
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(f"`graph` must be a nir.NIRGraph or the path of one, got {type(graph).__name__}.")
    return NIRNetwork(graph, spk_fun=spk_fun, spk_reset=spk_reset, discretization=discretization)


class NIRNetwork(brainstate.nn.Module):
    """The network of a NIR graph; one step takes ``([batch,] *in_size)`` and returns what reaches the output.

    Images have their channels last; what a ``Conv1d`` takes and gives has them first, as in NIR. Weights are in mS (no unit in convolutions), and ``CUBA`` makes mA of them.
    """

    def __init__(
        self,
        graph: Any,
        *,
        spk_fun: Callable | None = None,
        spk_reset: str | None = None,
        discretization: str | None = None,
    ):
        super().__init__()
        self.dt = float(check_dt().to_decimal(u.second))
        written = dict(graph.metadata).get("dt")
        if written is not None and not math.isclose(float(written), self.dt, rel_tol=1e-6):
            raise ValueError(
                f"`dt` is {self.dt} s but the graph was written for {float(written)} s, which its weights depend on: use that dt."
            )
        euler = check_discretization(discretization or dict(graph.metadata).get("discretization", "exact")) == "euler"
        nodes, edges = unfolded(graph, "")
        nodes = sized(nodes, edges)
        check_reach(nodes, edges, self.dt)
        self._nodes = {name: discretized(name, node, self.dt, euler=euler) for name, node in nodes.items()}
        self._before = {name: [a for a, b in edges if b == name] for name in self._nodes}
        self._after = {name: [b for a, b in edges if a == name] for name in self._nodes}
        self._kinds = {name: type(node).__name__ for name, node in nodes.items()}
        self._check()
        self._inputs = self._of("Input")
        self._outputs = self._of("Output")
        if len(self._inputs) != 1 or not self._outputs:
            raise ValueError(
                f"the graph has {len(self._inputs)} inputs and {len(self._outputs)} outputs: a network takes one input and "
                "gives at least one output."
            )
        self._order = self._in_order()
        self._made: dict[str, str] = {}
        self._fed: dict[str, list[tuple[str, str]]] = {}
        self._readouts: dict[str, str] = {}
        surrogate = braintools.surrogate.ReluGrad() if spk_fun is None else spk_fun
        for name in self._order:
            self._make_neuron(name, surrogate, spk_reset)
        for name, kind in self._kinds.items():
            if kind in _LEAKS:
                self._make_leak(name)
            elif kind == "Delay":
                node = self._nodes[name]
                shape = last(np.shape(node.delay))
                self._keep(name, InputDelay(shape, turned(node.delay, shape) * u.second))
        for name, kind in self._kinds.items():
            elsewhere = any(self._kinds[after] not in _NEURONS for after in self._after[name])
            if kind in _WEIGHTS and elsewhere and name not in self._readouts.values():
                self._keep(name, self._layer(name, 1.0, u.UNITLESS))

    graph_invisible_attrs = ("_nodes", "_before", "_after", "_kinds", "_order", "_made", "_fed", "_readouts")

    # -- reading the graph -----------------------------------------------------------------

    def _of(self, *kinds: str) -> list[str]:
        return [name for name, kind in self._kinds.items() if kind in kinds]

    def _check(self) -> None:
        for name, kind in self._kinds.items():
            if kind not in _KNOWN:
                raise ValueError(
                    f"the node `{name}` of the graph is of the kind {kind}; etrax reads {', '.join(_KNOWN)} only."
                )
            if kind == "Flatten" and np.size(self._nodes[name].output_type["output"]) != 1:
                raise ValueError(
                    f"`{name}` flattens some axes only; etrax reads a Flatten to one axis (`start_dim=0`)."
                )

    def _sources(self, name: str, seen: tuple[str, ...] = ()) -> list[str]:
        """Populations and inputs that a node gets signals from without another population between."""
        found: list[str] = []
        for before in self._before[name]:
            if before in seen:
                raise ValueError(f"the cycle through `{before}` has no neurons in it, so its values are not defined.")
            ends = self._kinds[before] in (*_NEURONS, "Input")
            found += [before] if ends else self._sources(before, (*seen, before))
        return list(dict.fromkeys(found))

    def _in_order(self) -> list[str]:
        """Populations in the order of a step: as etrax noted it, or such that only edges that close a cycle go back."""
        neurons = self._of(*_NEURONS)
        noted: dict[str, Any] = {name: dict(self._nodes[name].metadata).get("order") for name in neurons}
        sources = {name: self._sources(name) for name in (*neurons, *self._outputs)}
        if all(order is not None for order in noted.values()):
            return sorted(neurons, key=lambda name: int(noted[name]))
        done: list[str] = []
        reached: set[str] = set()

        def visit(name: str) -> None:
            reached.add(name)
            for after in neurons:
                if name in sources[after] and after not in reached:
                    visit(after)
            done.append(name)

        for name in (*self._inputs, *neurons):
            if name not in reached:
                visit(name)
        return [name for name in reversed(done) if name in neurons]

    # -- making the modules ----------------------------------------------------------------

    def _keep(self, name: str, module: Any) -> None:
        """Let a module stand for a node."""
        self._made[name] = self._attribute(name, module)

    def _attribute(self, name: str, module: Any) -> str:
        attribute = "".join(c if c.isalnum() else "_" for c in name)
        attribute = attribute if not attribute[:1].isdigit() else f"n{attribute}"
        while hasattr(self, attribute):
            attribute += "_"
        setattr(self, attribute, module)
        return attribute

    def _make_neuron(self, name: str, spk_fun: Callable, spk_reset: str | None) -> None:
        node, cuba = self._nodes[name], self._kinds[name] == "CubaLIF"
        shape = last(np.shape(node.r))
        metadata = dict(node.metadata)
        reset = metadata.get("spk_reset", "hard") if spk_reset is None else spk_reset
        volts = {k: turned(getattr(node, k), shape) * MILLI * u.mV for k in ("v_threshold", "v_reset", "v_leak")}
        initial = turned(metadata["initial"], shape) * MILLI * u.mV if "initial" in metadata else volts["v_leak"]
        tau = turned(node.tau_mem if cuba else node.tau, shape)
        neuron = LIF(
            shape,
            R=turned(node.r, shape) * u.ohm,
            tau=tau * MILLI * u.ms,
            V_th=volts["v_threshold"],
            V_reset=volts["v_reset"],
            V_rest=volts["v_leak"],
            V_initializer=initializer(initial),
            spk_fun=spk_fun,
            spk_reset=str(reset),
        )
        self._keep(name, neuron)
        self._fed[name] = []
        for before in self._before[name]:
            weighs = self._kinds[before] in _WEIGHTS
            image = self._kinds[before] in CONVOLUTIONS  # convolutions take no units
            comm = self._layer(before, MILLI, u.UNITLESS if image else u.mS) if weighs else Pass()
            volt = 1.0 * u.mA if image else u.volt
            if cuba:
                tau_syn = turned(node.tau_syn, shape)
                scale = (
                    turned(node.w_in, shape) * self.dt / turned(getattr(node, "written_tau_syn", node.tau_syn), shape)
                )
                rest = braintools.init.Constant(0.0 if image else 0.0 * u.mS)
                syn = Expon(shape, tau=plain(tau_syn) * MILLI * u.ms, g_initializer=rest)
                projection: Any = AlignPostProj(comm=comm, syn=syn, out=CUBA(plain(scale) * volt), post=neuron)
            else:
                projection = CurrentProj(comm=comm, out=CUBA(volt), post=neuron)
            self._fed[name].append((self._attribute(before if weighs else f"{before}_to_{name}", projection), before))

    def _layer(self, name: str, factor: float, unit: u.Unit) -> Any:
        return layer_of(name, self._nodes[name], factor, unit)

    def _make_leak(self, name: str) -> None:
        """A `LeakyReadout` for neurons, Linear and LI in a row; otherwise the leak alone."""
        node, shape = self._nodes[name], np.shape(self._nodes[name].r)
        before = self._before[name]
        if (
            self._kinds[name] == "LI"
            and len(before) == 1
            and self._kinds[before[0]] == "Linear"
            and self._after[before[0]] == [name]
        ):
            weight, pre = self._nodes[before[0]].weight, self._before[before[0]]
            plain = len(shape) == 1 and np.all(node.tau == node.tau[0]) and not np.any(node.v_leak)
            if plain and len(pre) == 1 and self._kinds[pre[0]] in _NEURONS and np.ndim(weight) == 2:
                tau = float(node.tau[0])
                gain = -np.expm1(-self.dt / tau) * np.asarray(node.r, float)
                w_init = constant(np.asarray(weight).T * gain, u.UNITLESS)
                neuron = getattr(self, self._made[pre[0]])
                readout = LeakyReadout(neuron.varshape, shape, tau=tau * MILLI * u.ms, w_init=w_init, pre=neuron)
                self._keep(name, readout)
                self._readouts[name] = before[0]
                return
        self._keep(name, leak_of(self._kinds[name], node, self.dt))

    # -- one step --------------------------------------------------------------------------

    def update(self, x):
        """One step; returns the signal at the output, or a dict by name where there are several."""
        signals: dict[str, Any] = {self._inputs[0]: x}
        for name in self._order:
            for attribute, before in self._fed[name]:
                read = self._sum if self._kinds[before] in _WEIGHTS else self._value
                getattr(self, attribute)(read(before, signals))
            signals[name] = getattr(self, self._made[name])()
        outputs = {name: self._sum(name, signals) for name in self._outputs}
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    def _sum(self, name: str, signals: dict) -> Any:
        """What enters a node."""
        parts = [self._value(before, signals) for before in self._before[name]]
        return parts[0] if len(parts) == 1 else sum(parts[1:], parts[0])

    def _value(self, name: str, signals: dict) -> Any:
        """What a node gives; populations that have not had their turn give the spikes of the step before."""
        kind = self._kinds[name]
        if name in signals:
            return signals[name]
        if kind in _NEURONS:
            return getattr(self, self._made[name]).get_spike()
        if kind == "Flatten":
            value, rank = self._sum(name, signals), np.size(self._nodes[name].input_type["input"])
            value = jnp.moveaxis(value, -1, -3) if rank == 3 else value
            return value.reshape(*value.shape[: value.ndim - rank], -1)
        module = getattr(self, self._made[name])
        if kind in _WEIGHTS:
            return module(self._sum(name, signals))
        source = self._before[self._readouts[name]][0] if name in self._readouts else None
        signals[name] = module(self._sum(name, signals) if source is None else self._value(source, signals))
        return signals[name]  # kept: it has a memory and takes one step only
