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
import jax.numpy as jnp
import numpy as np

from etrax.analysis.probe import effective_weight, watched
from etrax.checks import check_dt
from etrax.contract import Filter, Neuron
from etrax.neurons import IF, LIF, CubaLIF, LeakyReadout
from etrax.synapses import CUBA, AlignPostProj, CurrentProj, DeltaProj, Expon
from etrax.synapses.projection import Projection

__all__ = ["require_nir", "to_nir"]

_NEURONS = (LIF, IF, CubaLIF)
_LAYERS = (brainstate.nn.Linear, brainstate.nn.Conv2d)


def require_nir() -> ModuleType:
    """The package ``nir``; a ModuleNotFoundError says what to install."""
    try:
        import nir
    except ImportError as error:
        raise ModuleNotFoundError(f"this needs the package nir ({error}): pip install 'etrax[nir]'.") from error
    return nir


def to_nir(
    model: brainstate.nn.Module, x0: Any, *, batch_size: int | None = None, path: str | os.PathLike | None = None
) -> Any:
    """The NIR graph of a network.

    What is connected to what is found by running ``model.update`` once on marked inputs and spikes; the states of the
    model are not touched.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network; its parts are in the table of `etrax.nir`.
    x0 : array
        Input of one step, shape ``([batch,] *in_size)``; only its shape counts.
    batch_size : int, optional
        Given if ``x0`` has a batch axis.
    path : path, optional
        A file to write the graph to, e.g. ``"net.nir"``.

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
    """
    nir = require_nir()
    check_dt()
    graph = _Export(nir, model, np.shape(x0), batch_size).graph()
    if path is not None:
        nir.write(os.fspath(path), graph)
    return graph


def _cannot(what: str, why: str) -> ValueError:
    return ValueError(f"NIR cannot express {what}: {why}")


class _Source:
    """Something that signals come from: the input, a population, a layer outside projections."""

    def __init__(self, name: str, shape: tuple[int, ...], order: float):
        self.name, self.shape, self.order = name, shape, order
        self.size = math.prod(shape)
        self.nodes = [name]


class _Export:
    """One walk over a model."""

    def __init__(self, nir, model, shape: tuple[int, ...], batch_size: int | None):
        self.nir, self.model = nir, model
        self.dt = float(check_dt().to_decimal(u.second))
        if batch_size is not None and shape[:1] != (batch_size,):
            raise ValueError(f"`batch_size` is {batch_size} but `x0` has shape {shape}: the batch axis comes first.")
        self.lead = () if batch_size is None else (batch_size,)
        self.names = {id(node): "_".join(map(str, path)) for path, node in model.nodes().items()}
        nodes = list(model.nodes().values())
        self.neurons = [n for n in nodes if isinstance(n, Neuron)]
        self.projections = [n for n in nodes if isinstance(n, Projection)]
        inside = {id(p.comm) for p in self.projections}
        readouts = [n for n in nodes if isinstance(n, LeakyReadout)]
        self.layers = [n for n in nodes if isinstance(n, _LAYERS) and id(n) not in inside] + readouts
        self._check(nodes)
        convolutions = [n for n in nodes if isinstance(n, brainstate.nn.Conv2d)]
        if len({n.channel_first for n in convolutions}) > 1:
            raise _cannot("images with channels first and last in one model here", "use one `channel_first`.")
        self.last = not any(n.channel_first for n in convolutions)  # where channels are in etrax
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.inputs: dict[int, Any] = {}
        self.order: dict[int, int] = {}
        self._walk(shape[len(self.lead) :])

    def _check(self, nodes) -> None:
        for node in nodes:
            name, kind = self.names[id(node)], type(node).__name__
            if isinstance(node, Neuron) and type(node) not in _NEURONS:
                raise _cannot(f"the neurons `{name}` ({kind})", f"it has {_names(_NEURONS)} only.")
            if isinstance(node, Filter) and not isinstance(node, LeakyReadout):
                raise _cannot(f"`{name}` ({kind})", "it has no presynaptic filter.")
        for p in self.projections:
            name, syn, out = self.names[id(p)], getattr(p, "syn", None), getattr(p, "out", None)
            if not isinstance(p.comm, _LAYERS):
                raise ValueError(
                    f"`comm` of `{name}` ({type(p.comm).__name__}) cannot be written: etrax writes Linear and Conv2d only."
                )
            if p.modules:
                raise _cannot(f"what `{name}` applies before `comm`", "pass spikes to it directly.")
            if syn is not None and (type(syn) is not Expon or type(p.post) is CubaLIF):
                raise _cannot(
                    f"the synapse {type(syn).__name__} of `{name}` onto {type(p.post).__name__}",
                    "it has Expon onto LIF only.",
                )
            if out is not None and type(out) is not CUBA:
                raise _cannot(
                    f"the output {type(out).__name__} of `{name}`", "it has current-based synapses (CUBA) only."
                )
            if type(p) not in (AlignPostProj, CurrentProj, DeltaProj):
                raise _cannot(f"`{name}` ({type(p).__name__})", "use AlignPostProj, CurrentProj or DeltaProj.")

    # -- what is connected to what ---------------------------------------------------------

    def _walk(self, shape: tuple[int, ...]) -> None:
        """Run one step on marks: every input, spike and output has a number of its own."""
        source = {id(n): _Source(self.names[id(n)], tuple(n.varshape), math.inf) for n in self.neurons}
        source |= {id(n): _Source(self.names[id(n)], tuple(np.atleast_1d(n.out_size)), math.inf) for n in self.layers}
        entry = _Source(_free("input", self.names), shape, -1)
        kinds = [(entry, False)] + [(source[id(n)], late) for n in self.neurons for late in (False, True)]
        kinds += [(source[id(n)], False) for n in self.layers]
        total = sum(s.size for s, _ in kinds)
        values = 1.0 + np.random.default_rng(0).choice(2**22, total, replace=False) / 2**22  # exact in float32
        marks, start = {}, 0
        self._known: dict[float, tuple[_Source, bool, int]] = {}
        for kind in kinds:
            part = values[start : start + kind[0].size]
            self._known.update({float(value): (*kind, i) for i, value in enumerate(part)})
            marks[id(kind[0]), kind[1]] = jnp.broadcast_to(part.reshape(kind[0].shape), self.lead + kind[0].shape)
            start += kind[0].size
        changes: list[tuple[Any, str, Any]] = []

        def neuron(n):
            mine = source[id(n)]

            def update(x=None):
                if x is not None:
                    raise _cannot(f"the external current of `{mine.name}`", "let it enter through a CurrentProj.")
                self.order[id(n)] = len(self.order)
                mine.order = self.order[id(n)]
                return marks[id(mine), False]

            def get_spike(*states, **named):
                return marks[id(mine), id(n) not in self.order]

            return [(n, "update", update), (n, "get_spike", get_spike)]

        def taken(m, out=None):
            def update(x):
                if isinstance(m, Projection) and id(m.post) in self.order:
                    raise _cannot(f"`{self.names[id(m)]}`, called after its `post`", "call it before.")
                if id(m) in self.inputs:
                    raise _cannot(f"`{self.names[id(m)]}`, called twice in one step", "make it two modules.")
                self.inputs[id(m)] = x
                return out

            return [(m, "update", update)]

        for n in self.neurons:
            changes += neuron(n)
            changes += [(shared, "update", lambda: None) for shared in (n.before_updates or {}).values()]
        for p in self.projections:
            changes += taken(p)
        for n in self.layers:
            changes += taken(n, marks[id(source[id(n)]), False])
        with watched(changes):
            out = self.model.update(marks[id(entry), False])
        self.entry, self.source, self.out = entry, source, out

    def _origin(self, value, what: str) -> list[tuple[_Source, bool, int, int]]:
        """Where every element of an input comes from: ``(source, late, index there, index here)``."""
        try:
            flat = np.asarray(u.get_mantissa(value), float)
        except (TypeError, ValueError) as error:
            raise _cannot(f"{what}", f"it must be one array ({error}).") from error
        flat = flat[(0,) * len(self.lead)].reshape(-1)
        found = []
        for here, number in enumerate(flat):
            if number == 0.0:
                continue
            if float(number) not in self._known:
                raise _cannot(
                    f"{what}, which is computed from inputs or spikes",
                    "pass them on as they are (concatenated, reshaped, selected) and leave arithmetic to layers.",
                )
            found.append((*self._known[float(number)], here))
        return found

    # -- the graph -------------------------------------------------------------------------

    def graph(self) -> Any:
        """All nodes and edges."""
        nir = self.nir
        self._add(self.entry.name, nir.Input(input_type={"input": np.array(self._shape(self.entry.shape))}))
        for n in sorted(self.neurons, key=lambda n: self.order.get(id(n), -1)):
            name = self.names[id(n)]
            if id(n) not in self.order:
                raise _cannot(f"the neurons `{name}`, which the model does not call", "call them in `update`.")
            feeding = [p for p in self.projections if p.post is n and id(p) in self.inputs]
            self._add(name, self._neuron(n, feeding))
            for p in feeding:
                for end in self._weights(self.names[id(p)], p.comm, self.inputs[id(p)], self._scale(p), p, n):
                    self.edges.append((end, name))
        for layer in self.layers:
            if id(layer) in self.inputs:
                self._readout(layer)
        origin = self._origin(self.out, "the output of the model")
        sources = {(id(s), late): (s, late) for s, late, _, _ in origin}
        if len(sources) != 1 or [i for _, _, i, _ in origin] != list(range(origin[0][0].size)):
            raise _cannot("the output of the model", "it must be what one layer or one population gives, as it is.")
        (source, late) = next(iter(sources.values()))
        output = _free("output", self.names)
        self._add(output, nir.Output(output_type={"output": np.array(self._shape(source.shape))}))
        self.edges += [(end, output) for end in self._ends(source, late, math.inf)]
        return nir.NIRGraph(nodes=self.nodes, edges=self.edges, metadata={"dt": self.dt})

    def _add(self, name: str, node: Any) -> str:
        while name in self.nodes:
            name += "_"
        self.nodes[name] = node
        return name

    def _shape(self, shape) -> tuple[int, ...]:
        """A shape as NIR has it."""
        return (shape[2], shape[0], shape[1]) if len(shape) == 3 and self.last else tuple(shape)

    def _turned(self, values, shape) -> np.ndarray:
        """Values of a population as NIR has them."""
        values = np.array(np.broadcast_to(np.asarray(values, float), shape))
        return values.transpose(2, 0, 1) if len(shape) == 3 and self.last else values

    def _places(self, source: _Source) -> np.ndarray:
        """Where the elements of a source are among NIR's flattened ones."""
        places = np.arange(source.size).reshape(self._shape(source.shape))
        return (places.transpose(1, 2, 0) if places.ndim == 3 and self.last else places).reshape(-1)

    def _neuron(self, n, feeding) -> Any:
        name = self.names[id(n)]
        at = {"v_leak": getattr(n, "V_rest", n.V_reset), "v_threshold": n.V_th, "v_reset": n.V_reset}
        volts = {k: self._turned(v.to_decimal(u.volt), n.varshape) for k, v in at.items()}
        r = self._turned(n.R.to_decimal(u.ohm), n.varshape)
        tau = self._turned(n.tau.to_decimal(u.second), n.varshape)
        metadata: dict[str, Any] = {"spk_reset": n.spk_reset, "order": self.order[id(n)]}
        start = n.initial()
        initial = self._turned(start.pop("V").to_decimal(u.volt), n.varshape)
        start |= {self.names[id(p)]: p.syn.initial()["g"] for p in feeding if hasattr(p, "syn")}
        if any(np.any(u.get_mantissa(value)) for value in start.values()):
            raise _cannot(f"the initial current or conductance of `{name}`", "it starts without.")
        if not np.array_equal(initial, volts["v_leak"]):
            metadata["initial"] = initial
        synapses = [p.syn for p in feeding if hasattr(p, "syn")]
        if synapses and len(synapses) < len(feeding):
            raise _cannot(f"what feeds `{name}`", "either all projections onto a population have a synapse or none.")
        taus = [np.asarray(s.tau.to_decimal(u.second)) for s in synapses]
        if type(n) is CubaLIF:
            taus = [np.asarray(n.tau_syn.to_decimal(u.second))]
            if not all(isinstance(p, DeltaProj) for p in feeding):
                raise _cannot(f"the current into `{name}` (CubaLIF)", "feed its synaptic current by a DeltaProj.")
        if not taus:
            return self.nir.LIF(tau=tau, r=r, **volts, metadata=metadata)
        if any(not np.allclose(np.broadcast_to(t, n.varshape), np.broadcast_to(taus[0], n.varshape)) for t in taus[1:]):
            raise _cannot(
                f"several synaptic time constants of `{name}`", "its CubaLIF has one: give all synapses one `tau`."
            )
        tau_syn = self._turned(taus[0], n.varshape)
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

    def _weights(self, name: str, layer, x, scale, projection=None, post=None) -> list[str]:
        """The nodes of a layer's weights, one for each source; returns those that give its output."""
        origin = self._origin(x, f"the input of `{name}`")
        order = math.inf if post is None else self.order[id(post)]
        groups: dict[tuple[int, bool], list] = {}
        for source, late, there, here in origin:
            groups.setdefault((id(source), late), [source, late, [], []])
            groups[id(source), late][2].append(there)
            groups[id(source), late][3].append(here)
        line = getattr(projection, "delay_line", None)
        wait = None if line is None else np.broadcast_to(line.delay * 1e-3, line.in_size).reshape(-1)
        if isinstance(layer, brainstate.nn.Conv2d):
            return [self._convolution(name, layer, list(groups.values()), scale, order, wait)]
        shape = u.math.shape(x)[len(self.lead) :]
        if not isinstance(layer, LeakyReadout) and len(shape) != 1:
            raise _cannot(f"the layer `{name}` along the last of the axes {shape}", "give it an input of one axis.")
        if post is not None and len(post.varshape) != 1:
            raise _cannot(f"the layer `{name}` onto neurons of shape {post.varshape}", "give them one axis.")
        weight = np.asarray(effective_weight(layer), float) * scale
        value = layer.weight.value
        bias = _bias(value) if isinstance(value, dict) and "bias" in value else None
        ends = []
        for source, late, there, here in groups.values():
            part = np.zeros((weight.shape[1], source.size))
            np.add.at(part.T, self._places(source)[there], weight[here])
            pause = None
            if wait is not None:
                pause = np.zeros(source.size)
                pause[self._places(source)[there]] = wait[here]
            own = name if len(groups) == 1 else f"{name}_{source.name}{'_late' if late else ''}"
            if bias is None:
                own = self._add(own, self.nir.Linear(weight=part))
            else:
                values = np.broadcast_to(bias * scale, part.shape[:1])
                own = self._add(own, self.nir.Affine(weight=part, bias=np.array(values)))
            bias = None
            for end in self._ends(source, late, order, pause, flat=True):
                self.edges.append((end, own))
            ends.append(own)
        if bias is not None or not ends:
            raise _cannot(f"the layer `{name}`", "nothing enters it.")
        return ends

    def _convolution(self, name, layer, groups, scale, order, wait) -> str:
        whole = len(groups) == 1 and groups[0][2] == groups[0][3] == list(range(groups[0][0].size))
        if not whole or groups[0][0].shape != tuple(layer.in_size):
            raise _cannot(f"the input of the convolution `{name}`", "it must be one input or one population, as it is.")
        if np.size(scale) != 1 or wait is not None:
            raise _cannot(f"the convolution `{name}` with a value per neuron", "use one time constant and no delay.")
        if len(set(layer.kernel_size)) > 1 or any(d != 1 for d in layer.lhs_dilation):
            raise _cannot(
                f"the kernel of `{name}`", "its reference implementation derives shapes from square ones only."
            )
        padding = layer.padding
        if padding == "VALID":
            padding = (0, 0)
        elif padding == "SAME":
            if any(s != 1 for s in layer.stride):
                raise _cannot(f"`padding='SAME'` of `{name}` with a stride", "give the padding as numbers.")
            padding = "same"
        elif any(low != high for low, high in padding):
            raise _cannot(f"the padding {padding} of `{name}`", "it must be the same on both sides.")
        else:
            padding = tuple(low for low, _ in padding)
        value, factor = layer.weight.value, float(np.reshape(scale, ()))
        bias = _bias(value) if "bias" in value else np.zeros(layer.out_channels)
        size = tuple(layer.in_size)
        node = self.nir.Conv2d(
            input_shape=tuple(map(int, size[1:] if layer.channel_first else size[:2])),
            weight=np.asarray(effective_weight(layer), float).transpose(3, 2, 0, 1) * factor,
            stride=tuple(layer.stride),
            padding=padding,
            dilation=tuple(layer.rhs_dilation),
            groups=layer.groups,
            bias=bias.reshape(-1) * factor,
        )
        name = self._add(name, node)
        self.edges += [(end, name) for end in self._ends(groups[0][0], groups[0][1], order)]
        return name

    def _readout(self, layer) -> None:
        name, source = self.names[id(layer)], self.source[id(layer)]
        source.nodes = self._weights(name, layer, self.inputs[id(layer)], np.asarray(1.0))
        if isinstance(layer, LeakyReadout):
            tau = np.asarray(layer.tau.to_decimal(u.second), float)
            if tau.size != 1:
                raise _cannot(
                    f"the readout `{name}` with a time constant for each neuron", "its leak is behind the weights."
                )
            tau = np.full(source.size, float(tau.reshape(())))
            leak = self.nir.LI(tau=tau, r=-1.0 / np.expm1(-self.dt / tau), v_leak=np.zeros(source.size))
            end = self._add(f"{name}_leak", leak)
            self.edges += [(node, end) for node in source.nodes]
            source.nodes = [end]

    def _ends(self, source: _Source, late: bool, order: float, wait=None, flat: bool = False) -> list[str]:
        """The nodes that give the signal of a source to one that is stepped as number ``order``."""
        wait = np.zeros(source.size) if wait is None else wait
        if late and source.order < order:
            wait = wait + self.dt
        ends = source.nodes
        if flat and len(source.shape) > 1:
            shape = np.array(self._shape(source.shape))
            ends = [self._flat(end, self.nir.Flatten(input_type={"input": shape}, start_dim=0)) for end in ends]
        if np.any(wait):
            delayed = []
            for end in ends:
                wait = wait.reshape(source.size if flat else self._shape(source.shape))
                delayed.append(self._add(f"{end}_delay", self.nir.Delay(delay=wait)))
                self.edges.append((end, delayed[-1]))
            return delayed
        return ends

    def _flat(self, end: str, node) -> str:
        name = f"{end}_flat"
        if name not in self.nodes:
            self._add(name, node)
            self.edges.append((end, name))
        return name


def _bias(value: dict) -> np.ndarray:
    """The bias of a layer in the unit of its weights."""
    return np.asarray(u.Quantity(value["bias"]).to_decimal(u.get_unit(value["weight"])), float)


def _free(name: str, taken: dict[int, str]) -> str:
    while name in taken.values():
        name += "_"
    return name


def _names(classes) -> str:
    return ", ".join(cls.__name__ for cls in classes)
