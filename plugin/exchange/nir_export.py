r"""Networks as graphs of the Neuromorphic Intermediate Representation (NIR), to and from other simulators and chips.

Pedersen et al. 2024, Nature Communications 15, 8122, "Neuromorphic intermediate representation: a unified instruction
set for interoperable brain-inspired computing". Its numbers have no units; here they are SI: s, V, A, ohm. With the
step dt and :math:`a = e^{-dt/\tau}` an etrax network becomes

==============================================  ===================================================================
`LIF`, `IF` behind `CurrentProj`, `CUBA`        ``LIF``; its current is constant within a step, which `LIF` integrates
                                                exactly: :math:`V' = a V + (1 - a)(V_{leak} + R I)`
... behind `DeltaProj` (weights W in V)         ``LIF`` with weights :math:`W / (R (1 - a))`, so that a step moves V by W
`LIF` behind `AlignPostProj`, `Expon`, `CUBA`   ``CubaLIF``; its spikes are impulses of area dt, so that
                                                :math:`w_{in} = \tau_{syn} / dt` lets a spike move the current by W
`CubaLIF` behind `DeltaProj`                    the same
`Linear`, `Conv2d`                              ``Linear`` or ``Affine``, ``Conv2d`` (channels first there, last here)
`LeakyReadout`                                  ``Linear``, then ``LI`` with :math:`R = 1 / (1 - a)`: the same values, the
                                                other order. It comes back as a `LeakyReadout`, which filters first: a
                                                leak behind the weights would be invisible to a learner
concatenated inputs of one layer                one ``Linear`` for each of them; NIR adds what meets in a node
only read                                       ``LI`` elsewhere, ``CubaLI``, ``I``; ``Conv1d`` (channels first)
a spike of the step before, ``delay=``          an edge that closes a cycle is one step late; a ``Delay`` elsewhere
==============================================  ===================================================================

NIR's equations reset to ``v_reset`` and at once; etrax does so at the start of the next step, which gives the same
spikes. That a reset subtracts (``spk_reset='soft'``), the order of populations and an initial potential other than the
resting one are not in NIR: they are kept in the metadata of nodes, which other simulators may not read. Surrogate
derivatives are lost.
"""

from __future__ import annotations

import math
import os
from types import ModuleType
from typing import Any

import brainstate
import brainunit as u
import numpy as np

from etrax.analysis.probe import effective_weight
from etrax.checks import check_array, check_dt, check_model, noted
from etrax.files import atomic
from etrax.neurons import CubaLIF, LeakyReadout
from etrax.synapses import DeltaProj

from .nir_graph import check_discretization
from .nir_wiring import Connection, Source, Wiring, cannot, free_name

__all__ = ["require_nir", "to_nir"]


def require_nir() -> ModuleType:
    """The package ``nir``; a ModuleNotFoundError says what to install."""
    try:
        import nir
    except ImportError as error:
        raise ModuleNotFoundError(f"this needs the package nir ({error}): pip install 'etrax[nir]'.") from error
    return nir


def to_nir(
    model: brainstate.nn.Module,
    x0: Any,
    *,
    batch_size: int | None = None,
    path: str | os.PathLike | None = None,
    discretization: str = "exact",
) -> Any:
    """The NIR graph of a network.

    What is connected to what is found by running ``model.update`` once on marked inputs and spikes; the states of the
    model are not touched.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network; its parts are in the table of `etrax.exchange.nir_export`.
    x0 : array
        Input of one step, shape ``([batch,] *in_size)``; only its shape counts.
    batch_size : int, optional
        Given if ``x0`` has a batch axis.
    path : path, optional
        A file to write the graph to, e.g. ``"net.nir"``.
    discretization : {'exact', 'euler'}
        How the simulator that is to read it takes a step; ``'euler'`` writes the time constants whose ``1 - dt / tau`` is the
        decay of the network. See `from_nir`, which reads it from the graph's metadata.

    Returns
    -------
    nir.NIRGraph

    Raises
    ------
    ModuleNotFoundError
        If the package ``nir`` is not installed.
    ValueError
        If ``dt`` is not set, or for what NIR cannot express: a neuron, synapse, output or layer without a node, input
        that is computed from spikes rather than passed on; it is named.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import jax.numpy as jnp
    >>> class Net(brainstate.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.neu = etrax.neurons.LIF(3)
    ...         comm = brainstate.nn.Linear(2, 3, w_init=jnp.full((2, 3), 2.0) * u.mV, b_init=None)
    ...         self.syn = etrax.synapses.DeltaProj(comm=comm, post=self.neu)
    ...     def update(self, x):
    ...         self.syn(x)
    ...         return self.neu()
    >>> net = Net()
    >>> _ = brainstate.nn.init_all_states(net)
    >>> graph = etrax.to_nir(net, jnp.zeros(2))
    >>> sorted(type(node).__name__ for node in graph.nodes.values())
    ['Input', 'LIF', 'Linear', 'Output']
    """
    nir = require_nir()
    check_dt()
    check_discretization(discretization)
    check_model(model)
    check_array("x0", x0, u.UNITLESS)
    with noted(
        lambda: (
            f"That was `to_nir`, which runs one step of the model on an input of shape {np.shape(x0)}: give `x0` the shape of one step's input, "
            "and `batch_size` exactly if it has a batch axis."
        )
    ):
        graph = _Export(nir, Wiring(model, np.shape(x0), batch_size), discretization).graph()
    if path is not None:
        with atomic(path) as draft:
            nir.write(os.fspath(draft), graph)
    return graph


class _Export:
    """Makes the nodes and edges of one network."""

    def __init__(self, nir: ModuleType, wiring: Wiring, discretization: str):
        self.nir, self.wiring, self.discretization = nir, wiring, discretization
        self.dt = float(check_dt().to_decimal(u.second))
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.given: dict[Source, list[str]] = {}  # the nodes that a layer's output is the sum of

    def graph(self) -> Any:
        """All nodes and edges."""
        nir, wiring = self.nir, self.wiring
        entry = wiring.entry
        self._add(entry.name, nir.Input(input_type={"input": np.array(self._shape(entry.shape))}))
        for n in sorted(wiring.neurons, key=lambda n: wiring.order.get(wiring.source[id(n)], -1)):
            name = wiring.names[id(n)]
            if wiring.source[id(n)] not in wiring.order:
                raise cannot(f"the neurons `{name}`, which the model does not call", "call them in `update`.")
            feeding = [p for p in wiring.projections if p.post is n and id(p) in wiring.inputs]
            self._add(name, self._neuron(n, feeding))
            for p in feeding:
                self.edges += [(end, name) for end in self._weights(p, p.comm, self._scale(p), n)]
        for layer in wiring.layers:
            if id(layer) in wiring.inputs:
                self._layer(layer)
        found = wiring.connections(wiring.out, "the output of the model")
        if len(found) != 1 or found[0].there != list(range(found[0].source.size)):
            raise cannot("the output of the model", "it must be what one layer or one population gives, as it is.")
        output = free_name("output", wiring.names)
        self._add(output, nir.Output(output_type={"output": np.array(self._shape(found[0].source.shape))}))
        self.edges += [(end, output) for end in self._ends(found[0], math.inf)]
        return nir.NIRGraph(
            nodes=self.nodes, edges=self.edges, metadata={"dt": self.dt, "discretization": self.discretization}
        )

    def _add(self, name: str, node: Any) -> str:
        while name in self.nodes:
            name += "_"
        self.nodes[name] = node
        return name

    # -- channels are first in NIR ---------------------------------------------------------

    def _shape(self, shape) -> tuple[int, ...]:
        """A shape as NIR has it."""
        return (shape[2], shape[0], shape[1]) if len(shape) == 3 and self.wiring.channels_last else tuple(shape)

    def _turned(self, values, shape) -> np.ndarray:
        """Values of a population as NIR has them."""
        values = np.array(np.broadcast_to(np.asarray(values, float), shape))
        return values.transpose(2, 0, 1) if len(shape) == 3 and self.wiring.channels_last else values

    def _written(self, tau: np.ndarray) -> np.ndarray:
        """A time constant as the reader needs it for the decay of the network."""
        return tau if self.discretization == "exact" else -self.dt / np.expm1(-self.dt / tau)

    def _places(self, source: Source) -> np.ndarray:
        """Where the elements of a source are among NIR's flattened ones."""
        places = np.arange(source.size).reshape(self._shape(source.shape))
        return (places.transpose(1, 2, 0) if places.ndim == 3 and self.wiring.channels_last else places).reshape(-1)

    # -- populations -----------------------------------------------------------------------

    def _neuron(self, n, feeding) -> Any:
        """The node of a population and of the synapses of the projections that feed it."""
        name = self.wiring.names[id(n)]
        at = {"v_leak": getattr(n, "V_rest", n.V_reset), "v_threshold": n.V_th, "v_reset": n.V_reset}
        volts = {k: self._turned(v.to_decimal(u.volt), n.varshape) for k, v in at.items()}
        r = self._turned(n.R.to_decimal(u.ohm), n.varshape)
        tau = self._written(self._turned(n.tau.to_decimal(u.second), n.varshape))
        metadata: dict[str, Any] = {"spk_reset": n.spk_reset, "order": self.wiring.order[self.wiring.source[id(n)]]}
        start = n.initial()
        initial = self._turned(start.pop("V").to_decimal(u.volt), n.varshape)
        start |= {self.wiring.names[id(p)]: p.syn.initial()["g"] for p in feeding if hasattr(p, "syn")}
        if any(np.any(u.get_mantissa(value)) for value in start.values()):
            raise cannot(f"the initial current or conductance of `{name}`", "it starts without.")
        if not np.array_equal(initial, volts["v_leak"]):
            metadata["initial"] = initial
        synapses = [p.syn for p in feeding if hasattr(p, "syn")]
        if synapses and len(synapses) < len(feeding):
            raise cannot(f"what feeds `{name}`", "either all projections onto a population have a synapse or none.")
        taus = [np.asarray(s.tau.to_decimal(u.second)) for s in synapses]
        if type(n) is CubaLIF:
            taus = [np.asarray(n.tau_syn.to_decimal(u.second))]
            if not all(isinstance(p, DeltaProj) for p in feeding):
                raise cannot(f"the current into `{name}` (CubaLIF)", "feed its synaptic current by a DeltaProj.")
        if not taus:
            return self.nir.LIF(tau=tau, r=r, **volts, metadata=metadata)
        if any(not np.allclose(np.broadcast_to(t, n.varshape), np.broadcast_to(taus[0], n.varshape)) for t in taus[1:]):
            raise cannot(
                f"several synaptic time constants of `{name}`", "its CubaLIF has one: give all synapses one `tau`."
            )
        tau_syn = self._written(self._turned(taus[0], n.varshape))
        return self.nir.CubaLIF(tau_syn=tau_syn, tau_mem=tau, r=r, **volts, w_in=tau_syn / self.dt, metadata=metadata)

    def _scale(self, p) -> np.ndarray:
        """What turns weights (mantissas) of a projection into A, scalar or per neuron of ``post``."""
        value = p.comm.weight.value
        unit = u.get_unit(value["weight"])
        n = p.post
        if not isinstance(p, DeltaProj):
            return np.asarray((u.Quantity(1.0, unit=unit) * p.out.scale).to_decimal(u.amp))
        if type(n) is CubaLIF:
            return np.asarray(u.Quantity(1.0, unit=unit).to_decimal(u.amp))
        moved = -np.expm1(-self.dt / np.asarray(n.tau.to_decimal(u.second))) * np.asarray(n.R.to_decimal(u.ohm))
        return np.asarray(u.Quantity(1.0, unit=unit).to_decimal(u.volt)) / moved

    # -- weights ---------------------------------------------------------------------------

    def _weights(self, module, layer, scale: np.ndarray, post=None) -> list[str]:
        """The nodes of a layer's weights, one for each source; returns those that give its output.

        ``module`` is what is called: the projection that the layer is in, or the layer itself.
        """
        wiring = self.wiring
        name, x = wiring.names[id(module)], wiring.inputs[id(module)]
        found = wiring.connections(x, f"the input of `{name}`")
        order = math.inf if post is None else wiring.order[wiring.source[id(post)]]
        line = getattr(module, "delay_line", None)
        wait = None if line is None else np.broadcast_to(line.delay * 1e-3, line.in_size).reshape(-1)
        if isinstance(layer, brainstate.nn.Conv2d):
            return [self._convolution(name, layer, found, scale, order, wait)]
        shape = u.math.shape(x)[len(wiring.lead) :]
        if not isinstance(layer, LeakyReadout) and len(shape) != 1:
            raise cannot(f"the layer `{name}` along the last of the axes {shape}", "give it an input of one axis.")
        if post is not None and len(post.varshape) != 1:
            raise cannot(f"the layer `{name}` onto neurons of shape {post.varshape}", "give them one axis.")
        weight = np.asarray(effective_weight(layer), float) * scale
        value = layer.weight.value
        bias = _bias(value) * scale if isinstance(value, dict) and "bias" in value else None
        ends = []
        for connection in found:
            source, places = connection.source, self._places(connection.source)[connection.there]
            part = np.zeros((weight.shape[1], source.size))
            np.add.at(part.T, places, weight[connection.here])
            pause = None
            if wait is not None:
                pause = np.zeros(source.size)
                pause[places] = wait[connection.here]
            own = name if len(found) == 1 else f"{name}_{source.name}{'_late' if connection.late else ''}"
            if bias is None:
                own = self._add(own, self.nir.Linear(weight=part))
            else:
                bias = np.array(np.broadcast_to(bias, part.shape[:1]))
                own = self._add(own, self.nir.Affine(weight=part, bias=bias))
            bias = None  # once, with the first of them
            self.edges += [(end, own) for end in self._ends(connection, order, pause, flat=True)]
            ends.append(own)
        if not ends:
            raise cannot(f"the layer `{name}`", "nothing enters it.")
        return ends

    def _convolution(self, name: str, layer, found: list[Connection], scale, order: float, wait) -> str:
        if len(found) != 1 or not found[0].whole or found[0].source.shape != tuple(layer.in_size):
            raise cannot(f"the input of the convolution `{name}`", "it must be one input or one population, as it is.")
        if np.size(scale) != 1 or wait is not None:
            raise cannot(f"the convolution `{name}` with a value per neuron", "use one time constant and no delay.")
        if len(set(layer.kernel_size)) > 1 or any(d != 1 for d in layer.lhs_dilation):
            raise cannot(
                f"the kernel of `{name}`", "its reference implementation derives shapes from square ones only."
            )
        value, factor = layer.weight.value, float(np.reshape(scale, ()))
        bias = _bias(value) if "bias" in value else np.zeros(layer.out_channels)
        size = tuple(layer.in_size)
        node = self.nir.Conv2d(
            input_shape=tuple(map(int, size[1:] if layer.channel_first else size[:2])),
            weight=np.asarray(effective_weight(layer), float).transpose(3, 2, 0, 1) * factor,
            stride=tuple(layer.stride),
            padding=_padding(name, layer),
            dilation=tuple(layer.rhs_dilation),
            groups=layer.groups,
            bias=bias.reshape(-1) * factor,
        )
        name = self._add(name, node)
        self.edges += [(end, name) for end in self._ends(found[0], order)]
        return name

    def _layer(self, layer) -> None:
        """A layer outside projections, with its leak behind it if it is a readout."""
        name, source = self.wiring.names[id(layer)], self.wiring.source[id(layer)]
        self.given[source] = self._weights(layer, layer, np.asarray(1.0))
        if isinstance(layer, LeakyReadout):
            tau = np.asarray(layer.tau.to_decimal(u.second), float)
            if tau.size != 1:
                raise cannot(
                    f"the readout `{name}` with a time constant for each neuron", "its leak is behind the weights."
                )
            tau = np.full(source.size, float(tau.reshape(())))
            leak = self.nir.LI(tau=self._written(tau), r=-1.0 / np.expm1(-self.dt / tau), v_leak=np.zeros(source.size))
            end = self._add(f"{name}_leak", leak)
            self.edges += [(node, end) for node in self.given[source]]
            self.given[source] = [end]

    # -- from a source on ------------------------------------------------------------------

    def _ends(self, connection: Connection, order: float, wait=None, flat: bool = False) -> list[str]:
        """The nodes that give a signal to what is stepped as number ``order``, delays and flattening included."""
        source = connection.source
        wait = np.zeros(source.size) if wait is None else wait
        if connection.late and self.wiring.when(source) < order:
            wait = wait + self.dt
        ends = self.given.get(source, [source.name])
        if flat and len(source.shape) > 1:
            shape = np.array(self._shape(source.shape))
            ends = [self._flat(end, self.nir.Flatten(input_type={"input": shape}, start_dim=0)) for end in ends]
        if not np.any(wait):
            return ends
        wait = wait.reshape(source.size if flat else self._shape(source.shape))
        delayed = []
        for end in ends:
            delayed.append(self._add(f"{end}_delay", self.nir.Delay(delay=wait)))
            self.edges.append((end, delayed[-1]))
        return delayed

    def _flat(self, end: str, node) -> str:
        name = f"{end}_flat"
        if name not in self.nodes:
            self._add(name, node)
            self.edges.append((end, name))
        return name


def _padding(name: str, layer) -> Any:
    """The padding of a convolution as NIR has it."""
    padding = layer.padding
    if padding == "VALID":
        return (0, 0)
    if padding == "SAME":
        if any(s != 1 for s in layer.stride):
            raise cannot(f"`padding='SAME'` of `{name}` with a stride", "give the padding as numbers.")
        return "same"
    if any(low != high for low, high in padding):
        raise cannot(f"the padding {padding} of `{name}`", "it must be the same on both sides.")
    return tuple(low for low, _ in padding)


def _bias(value: dict) -> np.ndarray:
    """The bias of a layer in the unit of its weights."""
    return np.asarray(u.Quantity(value["bias"]).to_decimal(u.get_unit(value["weight"])), float)
