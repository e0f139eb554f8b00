"""Projections: where trainable weights meet a population.

``comm`` (any layer) weighs what enters; the result drives a synapse aligned with the
postsynaptic neurons (`AlignPostProj`), is a conductance itself (`CurrentProj`, behind
presynaptic filters such as `AMPA`) or moves their potential directly (`DeltaProj`).
"""

from __future__ import annotations

import brainstate
import brainunit as u
import jax
from brainstate.mixin import ParamDescriber

from etrax.checks import check_array, check_kind, check_name, noted
from etrax.contract import Filter, Neuron, Synapse, SynOut
from etrax.contract.recorder import active
from etrax.text import shown

from .delay import InputDelay

__all__ = ["AlignPostProj", "CurrentProj", "DeltaProj", "Projection"]

_ADVICE = "take one of `etrax`, or `etrax.adapt(...)` one of `brainpy.state`"


class Projection(brainstate.nn.Module):
    """Base class of projections.

    Parameters
    ----------
    *modules : callable or State
        What is applied, in turn, to the arguments of a call before ``comm``, e.g. ``pre.prefetch('V')`` or an
        ``STP(n)``, which is then part of the projection.
    comm : callable
        The layer that holds the weights.
    post : etrax.Neuron
        The neurons that receive.
    label : str, optional
        Sets apart synapses that would otherwise be shared.
    delay : Quantity, optional
        By how much what enters ``comm`` is late, whole steps; scalar, or one time per presynaptic neuron.
    """

    graph_invisible_attrs = ("modules", "post")

    def __init__(self, *modules, comm, post, label: str | None = None, delay=None):
        super().__init__(name=brainstate.util.get_unique_name(type(self).__name__))
        for module in modules:
            if isinstance(module, type) or not (callable(module) or isinstance(module, brainstate.State)):
                raise TypeError(f"`modules` must be callables or States, got {shown(module)}.")
            if isinstance(module, Synapse):
                raise TypeError(
                    f"{type(module).__name__} stands behind the weights: give it as `syn` to an `AlignPostProj`, not before `comm`."
                )
        if isinstance(comm, type) or not callable(comm):
            raise TypeError(
                f"`comm` must be a layer (a callable), got {shown(comm)}: give e.g. `brainstate.nn.Linear(n_pre, n_post, ...)`."
            )
        check_kind("post", post, Neuron, "an etrax.Neuron", _ADVICE)
        check_name(label, "label")
        self.modules = modules
        self.filters = [module for module in modules if isinstance(module, Filter)]
        self.delay_line = None if delay is None else InputDelay(_in_size(comm), delay)
        self.comm = comm
        self.post = post
        self.label = label

    def communicate(self, *args):
        """What the layer makes of the arguments; reported to a recorder that listens."""
        for module in self.modules:
            args = (module.value if isinstance(module, brainstate.State) else module(*args),)
        if len(args) != 1:
            raise TypeError(f"a {type(self).__name__} takes one input for `comm`, got {len(args)}.")
        x = args[0] if self.delay_line is None else self.delay_line(args[0])
        for leaf in jax.tree.leaves(x, is_leaf=u.math.is_quantity):
            check_array("x", leaf, where=f" that enters {self.name}")
        recorder = active(self) or active(self.post)
        try:
            with noted(lambda: f"That was in `comm` of {self.name}."):
                y = self.comm(x) if recorder is None else recorder.projection(self, x)
            return self.sized(y) if recorder is None else y
        except TypeError as error:
            size, shape = getattr(self.comm, "in_size", None), u.math.shape(x)
            if not isinstance(size, tuple) or shape[max(len(shape) - len(size), 0) :] == size:
                raise
            raise TypeError(
                f"`comm` of {self.name} takes inputs of size {size} on the last axes, got shape {shape}"
            ) from error
        except (u.UnitMismatchError, u.DimensionMismatchError) as error:
            raise ValueError(
                f"`comm` of {self.name} mixes units ({' '.join(str(error).split())}): give weights and bias the same unit, e.g. "
                "`b_init=braintools.init.ZeroInit(unit=u.mS)` beside `w_init=...(unit=u.mS)`, or `b_init=None`."
            ) from error

    def sized(self, y):
        """What the layer gives, one value per neuron; a layer of the size of ``post`` may give one for all of them."""
        shape, wanted = u.math.shape(y), tuple(self.post.varshape)
        if shape[len(shape) - len(wanted) :] == wanted:
            return y
        declared = getattr(self.comm, "out_size", None)
        if (declared if isinstance(declared, tuple) else (declared,)) == wanted:
            try:
                return u.math.broadcast_to(y, (*shape[: max(len(shape) - len(wanted), 0)], *wanted))
            except ValueError:
                pass
        raise ValueError(
            f"`comm` of {self.name} gives shape {shape}, but `post` {type(self.post).__name__} has shape {wanted}: give the "
            "layer the size of `post`."
        )


def _in_size(comm):
    """The input shape of a layer, which a delay line needs."""
    size = getattr(comm, "in_size", None)
    if size is None:
        raise ValueError(f"`comm` {type(comm).__name__} has no `in_size`, which `delay` needs: set `comm.in_size`.")
    return size


class AlignPostProj(Projection):
    """Layer, synapse and output onto a population; the synapse lives with the postsynaptic neurons.

    Parameters
    ----------
    *modules, comm, post, label, delay
        See :class:`Projection`.
    syn : Synapse or description of one
        An instance is this projection's own. A description (``Expon.desc(n, tau=...)``) is shared by all
        projections onto ``post`` that give the same one, and steps when ``post`` is called.
    out : SynOut or description of one
        How conductance becomes current; a description exactly if ``syn`` is one.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, naming it.
    ValueError
        If the synapse's shape is not that of ``post``.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import jax.numpy as jnp
    >>> weights = jnp.array([[2.0], [-1.0]])
    >>> neuron = etrax.neurons.LIF(1, tau=10.0 * u.ms)
    >>> comm = brainstate.nn.Linear(2, 1, w_init=weights * u.mS, b_init=None)
    >>> syn, out = etrax.synapses.Expon(1, tau=5.0 * u.ms), etrax.synapses.CUBA()
    >>> projection = etrax.synapses.AlignPostProj(comm=comm, syn=syn, out=out, post=neuron)
    >>> _ = brainstate.nn.init_all_states(projection), brainstate.nn.init_all_states(neuron)
    >>> for spikes in ([1.0, 0.0], [0.0, 1.0]):
    ...     projection(jnp.array(spikes))
    ...     _ = neuron()
    >>> round(float(syn.g.value[0] / u.mS), 3)  # 2 exp(-1 / 5) - 1
    0.637
    """

    def __init__(self, *modules, comm, syn, out, post, label: str | None = None, delay=None):
        super().__init__(*modules, comm=comm, post=post, label=label, delay=delay)
        self.merging = isinstance(syn, ParamDescriber)
        if isinstance(out, ParamDescriber) != self.merging:
            raise TypeError("`syn` and `out` must both be instances or both descriptions (`.desc(...)`).")
        if self.merging:
            syn, out = _shared(syn, out, post, label)
        if isinstance(syn, Filter):
            raise TypeError(
                f"`syn` {type(syn).__name__} is driven by presynaptic spikes: put it before `comm`, e.g. "
                f"`CurrentProj({type(syn).__name__}(n_pre), comm=..., out=..., post=...)`."
            )
        check_kind("syn", syn, Synapse, "an etrax.Synapse or its description", _ADVICE)
        check_kind("out", out, SynOut, "an etrax.SynOut or its description", _ADVICE)
        if syn.varshape != post.varshape:
            raise ValueError(
                f"`syn` has shape {syn.varshape} but `post` has {post.varshape}: a synapse has the shape of `post`."
            )
        if not self.merging:
            _own(post, out, syn)
            post.receivers[self.name] = (out, syn)
        self.syn = syn
        self.out = out

    def update(self, *args) -> None:
        """Weigh the input and drive the synapse."""
        self.syn.receive(self.communicate(*args))
        if not self.merging:
            self.out.bind_cond(self.syn.advance())


class CurrentProj(Projection):
    """Layer whose output is the conductance that ``out`` turns into current, e.g. behind an ``AMPA(n_pre)``.

    Parameters
    ----------
    *prefetch, comm, post, delay
        See :class:`Projection`.
    out : SynOut
        How conductance becomes current.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, naming it.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import jax.numpy as jnp
    >>> weights = jnp.array([[2.0], [-1.0]])
    >>> neuron = etrax.neurons.LIF(1, tau=10.0 * u.ms)
    >>> comm = brainstate.nn.Linear(2, 1, w_init=weights, b_init=None)
    >>> ampa, out = etrax.synapses.AMPA(2), etrax.synapses.COBA(E=5.0 * u.mV)
    >>> projection = etrax.synapses.CurrentProj(ampa, comm=comm, out=out, post=neuron)
    >>> _ = brainstate.nn.init_all_states(projection), brainstate.nn.init_all_states(neuron)
    >>> projection(jnp.array([1.0, 0.0]))
    >>> _ = neuron()
    >>> (ampa.g.value > 0.0 * u.mS).tolist(), bool(neuron.V.value[0] > 0.0 * u.mV)
    ([True, False], True)
    """

    def __init__(self, *prefetch, comm, out, post, delay=None):
        super().__init__(*prefetch, comm=comm, post=post, delay=delay)
        check_kind("out", out, SynOut, "an etrax.SynOut", _ADVICE)
        _own(post, out)
        post.receivers[self.name] = (out, self)
        self.out = out

    def update(self, *args) -> None:
        """Weigh the input and bind it to the output."""
        self.out.bind_cond(self.communicate(*args))


def _own(post: Neuron, *parts) -> None:
    """A ValueError if a part of a projection belongs to another one onto the same neurons: it holds the values of one."""
    for receiver in post.receivers.values():
        for part in parts:
            if any(part is other for other in receiver):
                raise ValueError(
                    f"the {type(part).__name__} belongs to another projection onto {type(post).__name__}: make one for each, or share "
                    "it by descriptions, `syn=Expon.desc(n, ...)` and `out=CUBA.desc(...)`."
                )


class _Aligned(brainstate.nn.Module):
    """A shared synapse and its output; steps before its neuron does."""

    def __init__(self, syn: Synapse, out: SynOut):
        super().__init__()
        self.syn, self.out = syn, out

    def update(self) -> None:
        self.out.bind_cond(self.syn.advance())


def _shared(syn: ParamDescriber, out: ParamDescriber, post: Neuron, label: str | None) -> tuple[Synapse, SynOut]:
    """The synapse and output of ``post`` that these descriptions stand for, made at first use."""
    key = f"{label or ''}{syn.identifier} // {out.identifier}"
    if not post.has_before_update(key):
        made = _Aligned(syn(), out())
        post.add_before_update(key, made)
        post.receivers[key] = (made.out, made.syn)
    made = post.get_before_update(key)
    return made.syn, made.out


class DeltaProj(Projection):
    """Layer whose output (in the unit of the potential) jumps the potential of ``post`` within the step.

    Parameters
    ----------
    *prefetch, comm, post, label, delay
        See :class:`Projection`.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import jax.numpy as jnp
    >>> weights = jnp.array([[2.0], [-1.0]])
    >>> neuron = etrax.neurons.LIF(1, tau=10.0 * u.ms)
    >>> comm = brainstate.nn.Linear(2, 1, w_init=weights * u.mV, b_init=None)
    >>> projection = etrax.synapses.DeltaProj(comm=comm, post=neuron)
    >>> neuron.init_state()
    >>> projection(jnp.array([1.0, 1.0]))
    >>> spikes = neuron()
    >>> float(neuron.V.value[0] / u.mV), float(spikes[0])  # the potential jumps by 2 mV - 1 mV
    (1.0, 1.0)
    """

    def __init__(self, *prefetch, comm, post, label: str | None = None, delay=None):
        super().__init__(*prefetch, comm=comm, post=post, label=label, delay=delay)

    def update(self, *args) -> None:
        """Weigh the input and hand it to the neurons."""
        self.post.receive_jump(self.communicate(*args))
