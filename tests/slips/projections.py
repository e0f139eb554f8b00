"""Synapses, outputs, filters, delays, projections."""

from .table import read

__all__ = ["ROWS"]

ROWS = read("""
# COBA without a unit
# ValueError: `E` of COBA is in no unit but must be in units like mV | write e.g. `1.0 * u.mV`
COBA(E=-80.0)

# COBA in ms
# ValueError: `E` of COBA is in ms but must be in units like mV | write e.g. `1.0 * u.mV`
COBA(E=5 * u.ms)

# COBA no argument
# TypeError: COBA.__init__() missing a required argument: 'E'
COBA()

# COBA a string
# TypeError: `E` of COBA must be a number or an array, got '-80 mV' | write e.g. `jnp.asarray(...)`
COBA("-80 mV")

# Expon tau unitless
# ValueError: `tau` is in no unit but must be in units like ms | write e.g. `10.0 * u.ms`
Expon(4, tau=10.0)

# Expon tau positional
# TypeError: `name` must be a text, got Quantity(10., "ms") | give other arguments by their keyword
Expon(4, 10.0 * u.ms)

# Expon tau in Hz
# ValueError: `tau` is in Hz but must be in units like ms | write e.g. `10.0 * u.ms`
Expon(4, tau=10.0 * u.Hz)

# Expon called with number
# ValueError: the output of `comm` is in no unit but `syn` Expon takes mS | give the weights (and bias) of `comm` the unit mS, e.g.
s = Expon(4); s.init_state(); s(jnp.ones(4))

# Expon not initialised
# RuntimeError: Expon has no states yet | call `brainstate.nn.init_all_states(model, batch_size=...)`
s = Expon(4); s(jnp.ones(4) * u.mS)

# Expon wrong shape
# ValueError: the state `g` of Expon has shape (4,), but its input has shape (5,) | give an input of the size of the population and the batch
s = Expon(4); s.init_state(); s(jnp.ones(5) * u.mS)

# DualExpon misspelt
# TypeError: DualExpon.__init__() got an unexpected keyword argument 'tau'
DualExpon(4, tau=10 * u.ms)

# DualExpon rise without unit
# ValueError: `tau_rise` is in no unit but must be in units like ms | write e.g. `10.0 * u.ms`
DualExpon(4, tau_rise=1.0)

# DualExpon amplitude with unit
# ValueError: `amplitude` is in mS but must be in units like no unit | write a plain number
DualExpon(4, amplitude=1.0 * u.mS)

# STP U out of range
# ValueError: `U` of STP must be at most 1, got 1.5.
STP(4, U=1.5)

# STP tau as U
# ValueError: `U` is in ms but must be in units like no unit | write a plain number
STP(4, None, 200 * u.ms)

# STP called with conductance
# ValueError: `z`, the spikes that enter STP, is in mS but must be a plain number | write e.g. `1.0`
s = STP(4); s.init_state(); s(jnp.ones(4) * u.mS)

# STD U negative
# ValueError: `U` of STD must be at least 0, got -0.1.
STD(4, U=-0.1)

# AMPA T without unit
# ValueError: `T` is in no unit but must be in units like mM | write e.g. `10.0 * u.mM`
AMPA(4, T=0.5)

# AMPA alpha wrong unit
# ValueError: `alpha` is in kHz but must be in units like 1 / (mM * ms) | write e.g. `10.0 / (u.mM * u.ms)`
AMPA(4, alpha=0.98 / u.ms)

# AMPA as synapse in AlignPost
# TypeError: `syn` AMPA is driven by presynaptic spikes | put it before `comm`, e.g. `CurrentProj(AMPA(n_pre)
AlignPostProj(comm=Linear(2, 3, w_init=jnp.ones((2, 3)) * u.mS, b_init=None), syn=AMPA(2), out=COBA(E=0 * u.mV), post=LIF(3))

# Expon in front of CurrentProj
# TypeError: Expon stands behind the weights | give it as `syn` to an `AlignPostProj`, not before `comm`
CurrentProj(Expon(2), comm=Linear(2, 3, b_init=None), out=COBA(E=0 * u.mV), post=LIF(3))

# AMPA called with spikes of wrong size
# ValueError: the state `g` of AMPA has shape (4,), but its input has shape (3,) | give an input of the size of the population and the batch
s = AMPA(4); s.init_state(); s(jnp.ones(3))

# filter pre of a class
# TypeError: `pre` must be an etrax.Neuron, got the class LIF | make an instance of it, e.g. `LIF(...)`
STP(4, pre=LIF)

# filter pre of other size
# ValueError: `in_size` is (4,) but `pre` has shape (3,) | give them one shape
STP(4, pre=LIF(3))

# projection with class syn
# TypeError: `syn` must be an etrax.Synapse or its description, got the class Expon | make an instance of it, e.g. `Expon(...)`
AlignPostProj(comm=Linear(2, 3, b_init=None), syn=Expon, out=CUBA(), post=LIF(3))

# projection with class out
# TypeError: `out` must be an etrax.SynOut or its description, got the class CUBA | make an instance of it, e.g. `CUBA(...)`
AlignPostProj(comm=Linear(2, 3, b_init=None), syn=Expon(3), out=CUBA, post=LIF(3))

# projection with class comm
# TypeError: `comm` must be a layer (a callable), got the class Linear | give e.g. `brainstate.nn.Linear(n_pre, n_post, ...)`
AlignPostProj(comm=Linear, syn=Expon(3), out=CUBA(), post=LIF(3))

# projection with weights as comm
# TypeError: `comm` must be a layer (a callable) | give e.g. `brainstate.nn.Linear(n_pre, n_post, ...)`
AlignPostProj(comm=jnp.ones((2, 3)) * u.mS, syn=Expon(3), out=CUBA(), post=LIF(3))

# projection syn string
# TypeError: `syn` must be an etrax.Synapse or its description, got 'expon' | take one of `etrax`, or `etrax.adapt(...)` one of
AlignPostProj(comm=Linear(2, 3, b_init=None), syn="expon", out=CUBA(), post=LIF(3))

# projection syn of other size
# ValueError: `syn` has shape (2,) but `post` has (3,) | a synapse has the shape of `post`
AlignPostProj(comm=Linear(2, 3, b_init=None), syn=Expon(2), out=CUBA(), post=LIF(3))

# projection syn and out swapped
# TypeError: `syn` must be an etrax.Synapse or its description | take one of `etrax`, or `etrax.adapt(...)` one of
AlignPostProj(comm=Linear(2, 3, b_init=None), syn=CUBA(), out=Expon(3), post=LIF(3))

# projection comm and post swapped
# TypeError: `post` must be an etrax.Neuron | take one of `etrax`, or `etrax.adapt(...)` one of
AlignPostProj(comm=LIF(3), syn=Expon(3), out=CUBA(), post=Linear(2, 3, b_init=None))

# projection desc with instance out
# TypeError: `syn` and `out` must both be instances or both descriptions
AlignPostProj(comm=Linear(2, 3, b_init=None), syn=Expon.desc(3), out=CUBA(), post=LIF(3))

# desc with wrong unit
# ValueError: `tau` is in no unit but must be in units like ms | write e.g. `10.0 * u.ms`
p = AlignPostProj(comm=Linear(2, 3, b_init=None), syn=Expon.desc(3, tau=5.0), out=CUBA.desc(), post=LIF(3))

# projection with brainpy synapse
# TypeError: `syn` must be an etrax.Synapse or its description | take one of `etrax`, or `etrax.adapt(...)` one of
import brainpy.state
AlignPostProj(comm=Linear(2, 3, b_init=None), syn=brainpy.state.Expon(3), out=CUBA(), post=LIF(3))

# projection with brainpy output
# TypeError: `out` must be an etrax.SynOut or its description | take one of `etrax`, or `etrax.adapt(...)` one of
import brainpy.state
AlignPostProj(comm=Linear(2, 3, b_init=None), syn=Expon(3), out=brainpy.state.CUBA(), post=LIF(3))

# weights without a unit onto conductance
# ValueError: the output of `comm` is in no unit but `syn` Expon takes mS | give the weights (and bias) of `comm` the unit mS, e.g.
n = LIF(3); p = AlignPostProj(comm=Linear(2, 3, b_init=None), syn=Expon(3), out=CUBA(), post=n)
brainstate.nn.init_all_states(n); brainstate.nn.init_all_states(p); p(jnp.ones(2)); n()

# weights in mV onto conductance
# ValueError: the output of `comm` is in mV but `syn` Expon takes mS | give the weights (and bias) of `comm` the unit mS, e.g.
n = LIF(3); p = AlignPostProj(comm=Linear(2, 3, w_init=jnp.ones((2, 3)) * u.mV, b_init=None), syn=Expon(3), out=CUBA(), post=n)
brainstate.nn.init_all_states(n); brainstate.nn.init_all_states(p); p(jnp.ones(2)); n()

# weights without unit on delta
# ValueError: the output of `comm` is in no unit but the potential of LIF takes mV | give the weights (and bias) of `comm` the unit mV, e.g.
n = LIF(3); p = DeltaProj(comm=Linear(2, 3, b_init=None), post=n)
n.init_state(); p(jnp.ones(2)); n()

# weights in mS on delta
# ValueError: the output of `comm` is in mS but the potential of LIF takes mV | give the weights (and bias) of `comm` the unit mV, e.g.
n = LIF(3); p = DeltaProj(comm=Linear(2, 3, w_init=jnp.ones((2, 3)) * u.mS, b_init=None), post=n)
n.init_state(); p(jnp.ones(2)); n()

# input of other size
# TypeError: takes inputs of size (2,) on the last axes, got shape (4,)
n = LIF(3); p = DeltaProj(comm=Linear(2, 3, w_init=jnp.ones((2, 3)) * u.mV, b_init=None), post=n)
n.init_state(); p(jnp.ones(4)); n()

# weights of other size than post
# ValueError: gives shape (4,), but `post` LIF has shape (3,) | give the layer the size of `post`
n = LIF(3); p = DeltaProj(comm=Linear(2, 4, w_init=jnp.ones((2, 4)) * u.mV, b_init=None), post=n)
n.init_state(); p(jnp.ones(2)); n()

# projection called without input
# TypeError: a DeltaProj takes one input for `comm`, got 0.
n = LIF(3); p = DeltaProj(comm=Linear(2, 3, w_init=jnp.ones((2, 3)) * u.mV, b_init=None), post=n)
n.init_state(); p()

# projection called with two inputs
# TypeError: a DeltaProj takes one input for `comm`, got 2.
n = LIF(3); p = DeltaProj(comm=Linear(2, 3, w_init=jnp.ones((2, 3)) * u.mV, b_init=None), post=n)
n.init_state(); p(jnp.ones(2), jnp.ones(2))

# neuron stepped without projection
# RuntimeError: CUBA has no conductance for this step | call its projection before the neuron that it feeds
n = LIF(3); p = AlignPostProj(comm=Linear(2, 3, w_init=jnp.ones((2, 3)) * u.mS, b_init=None), syn=Expon(3), out=CUBA(), post=n)
brainstate.nn.init_all_states(n); brainstate.nn.init_all_states(p); n()

# one out for two projections
# ValueError: the CUBA belongs to another projection onto LIF | make one for each, or share it by descriptions
n = LIF(3); out = CUBA()
for _ in range(2):
    AlignPostProj(comm=Linear(2, 3, w_init=jnp.ones((2, 3)) * u.mS, b_init=None), syn=Expon(3), out=out, post=n)

# one syn for two projections
# ValueError: the Expon belongs to another projection onto LIF | make one for each, or share it by descriptions
n = LIF(3); syn = Expon(3)
for _ in range(2):
    AlignPostProj(comm=Linear(2, 3, w_init=jnp.ones((2, 3)) * u.mS, b_init=None), syn=syn, out=CUBA(), post=n)

# delay as a number
# ValueError: `delay` is in no unit but must be a time | write e.g. `delay=2.0 * u.ms`
DeltaProj(comm=Linear(2, 3, b_init=None), post=LIF(3), delay=2)

# delay not of whole steps
# ValueError: `delay` must be a multiple of `dt` = 1.0 ms, got 1.5 ms | round it to whole steps
n = LIF(3); p = DeltaProj(comm=Linear(2, 3, w_init=jnp.ones((2, 3)) * u.mV, b_init=None), post=n, delay=1.5 * u.ms)
brainstate.nn.init_all_states(p)

# delay negative
# ValueError: `delay` must be finite and not negative, got -2 ms.
DeltaProj(comm=Linear(2, 3, b_init=None), post=LIF(3), delay=-2 * u.ms)

# InputDelay arguments swapped
# ValueError: `in_size` must be a whole number above 0, or a tuple of them, got
InputDelay(2 * u.ms, 3)

# InputDelay without unit
# ValueError: `delay` is in no unit but must be a time | write e.g. `delay=2.0 * u.ms`
InputDelay(3, 2.0)

# InputDelay wrong length
# ValueError: `delay` has shape (2,) but must be a scalar or fit the input (3,) of | one time for each presynaptic neuron
InputDelay(3, [1.0, 2.0] * u.ms)

# InputDelay not initialised
# RuntimeError: a projection with `delay=` has no states yet | call `brainstate.nn.init_all_states(model, batch_size=...)`
InputDelay(3, 2.0 * u.ms)(jnp.ones(3))

# InputDelay input of other size
# ValueError: the input of a projection with `delay=` has shape (4,) but its buffer | `comm.in_size` and the batch size of `init_all_states` must
d = InputDelay(3, 2.0 * u.ms); d.init_state(); d(jnp.ones(4))

# label positional
# TypeError: `modules` must be callables or States, got 'label'.
DeltaProj("label", comm=Linear(2, 3, b_init=None), post=LIF(3))

# label a number
# TypeError: `label` must be a text, got 3 | give other arguments by their keyword
AlignPostProj(comm=Linear(2, 3, b_init=None), syn=Expon(3), out=CUBA(), post=LIF(3), label=3)

# comm lambda without unit
# ValueError: the output of `comm` is in no unit but the potential of LIF takes mV | give the weights (and bias) of `comm` the unit mV, e.g.
n = LIF(3); p = DeltaProj(comm=lambda x: x, post=n)
n.init_state(); p(jnp.ones(3)); n()

# comm returns None
# ValueError: gives shape (), but `post` LIF has shape (3,)
n = LIF(3); p = DeltaProj(comm=lambda x: None, post=n)
n.init_state(); p(jnp.ones(3)); n()
""")
