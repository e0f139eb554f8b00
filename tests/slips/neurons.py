"""Neurons, readouts and the time step."""

from .table import read

__all__ = ["ROWS"]

ROWS = read("""
# dt in volt
# ValueError: `dt` must be one time above 0, got Quantity(1., "mV") | write e.g. `brainstate.environ.set(dt=1.0 * u.ms)`
with brainstate.environ.context(dt=1.0 * u.mV):
    etrax.compile(Net(4, 6, 2), etrax.D_RTRL, xs[0], batch_size=3)

# dt of zero
# ValueError: `dt` must be one time above 0, got Quantity(0., "ms") | write e.g. `brainstate.environ.set(dt=1.0 * u.ms)`
with brainstate.environ.context(dt=0.0 * u.ms):
    etrax.compile(Net(4, 6, 2), etrax.D_RTRL, xs[0], batch_size=3)

# dt negative
# ValueError: `dt` must be one time above 0, got Quantity(-1., "ms") | write e.g. `brainstate.environ.set(dt=1.0 * u.ms)`
with brainstate.environ.context(dt=-1.0 * u.ms):
    n = LIF(4); n.init_state(); n(1.0 * u.mA)

# dt not set
# ValueError: `dt` is not set | put the call inside `with brainstate.environ.context(dt=1.0
with brainstate.environ.context(dt=None):
    n = LIF(4); n.init_state(); n(1.0 * u.mA)

# dt without a unit, task
# ValueError: `dt` must be one time above 0, got 1.0 | write e.g. `brainstate.environ.set(dt=1.0 * u.ms)`
with brainstate.environ.context(dt=1.0):
    etrax.tasks.get("dms")

# dt without a unit, check_jacobian
# ValueError: `dt` must be one time above 0, got 1.0 | write e.g. `brainstate.environ.set(dt=1.0 * u.ms)`
with brainstate.environ.context(dt=1.0):
    etrax.check_jacobian(LIF(4))

# dt without unit, plot_raster
# ValueError: `dt` must be one time above 0, got 1.0 | write e.g. `brainstate.environ.set(dt=1.0 * u.ms)`
with brainstate.environ.context(dt=1.0):
    etrax.plots.plot_raster(np.eye(20))

# tau without a unit
# ValueError: `tau` is in no unit but must be in units like ms | write e.g. `10.0 * u.ms`
LIF(4, tau=20.0)

# tau in mV
# ValueError: `tau` is in mV but must be in units like ms | write e.g. `10.0 * u.ms`
LIF(4, tau=20.0 * u.mV)

# positional tau lands on R
# ValueError: `R` is in ms but must be in units like ohm | write e.g. `10.0 * u.ohm`
LIF(4, 20.0 * u.ms)

# size negative
# ValueError: `in_size` must be a whole number above 0, or a tuple of them, got -4.
LIF(-4)

# snnTorch habit: beta
# TypeError: LIF.__init__() got an unexpected keyword argument 'beta'
LIF(4, beta=0.9)

# V_th without unit
# ValueError: `V_th` is in no unit but must be in units like mV | write e.g. `10.0 * u.mV`
LIF(4, V_th=1.0)

# misspelt V_th
# TypeError: LIF.__init__() got an unexpected keyword argument 'v_th'
LIF(4, v_th=1.0 * u.mV)

# misspelt tau
# TypeError: LIF.__init__() got an unexpected keyword argument 'tua'
LIF(4, tua=10 * u.ms)

# V_th below V_reset
# ValueError: `V_reset` of LIF must be below `V_th`, got 0 mV where `V_th` is -50
LIF(4, V_th=-50 * u.mV)

# reset name
# ValueError: `spk_reset` must be 'soft' or 'hard', got 'subtract'.
LIF(4, spk_reset="subtract")

# surrogate as a string
# TypeError: `spk_fun` must be a surrogate, got 'arctan' | make one, e.g. `braintools.surrogate.ReluGrad()`
LIF(4, spk_fun="arctan")

# surrogate class not instance
# TypeError: `spk_fun` must be a surrogate, got the class Arctan | make one, e.g. `braintools.surrogate.ReluGrad()`
n = LIF(4, spk_fun=braintools.surrogate.Arctan); n.init_state(); n(1.0 * u.mA)

# surrogate a number
# TypeError: `spk_fun` must be a surrogate, got 0.3 | make one, e.g. `braintools.surrogate.ReluGrad()`
LIF(4, spk_fun=0.3)

# V_initializer without a unit
# ValueError: `V_initializer` of LIF is in no unit but must be in units like mV | write e.g. `braintools.init.Constant(0.0 * u.mV)`
n = LIF(4, V_initializer=braintools.init.Constant(0.0)); n.init_state()

# V_initializer a float
# ValueError: `V_initializer` of LIF is in no unit but must be in units like mV | write e.g. `braintools.init.Constant(0.0 * u.mV)`
n = LIF(4, V_initializer=0.0); n.init_state()

# V_initializer class
# TypeError: `V` that `initial` of LIF gives (see `V_initializer`) must be a | write e.g. `jnp.asarray(...)`
n = LIF(4, V_initializer=braintools.init.Constant); n.init_state()

# V_initializer in ms
# ValueError: `V_initializer` of LIF is in ms but must be in units like mV | write e.g. `braintools.init.Constant(0.0 * u.mV)`
n = LIF(4, V_initializer=braintools.init.Constant(0.0 * u.ms)); n.init_state()

# V_initializer a string
# TypeError: `V` that `initial` of LIF gives (see `V_initializer`) must be a | write e.g. `jnp.asarray(...)`
n = LIF(4, V_initializer="zeros"); n.init_state()

# tau of wrong length
# ValueError: `tau` must be a scalar or fit the shape (4,) of the module
LIF(4, tau=np.array([10.0, 20.0, 30.0]) * u.ms)

# tau list with unit
# ValueError: `tau` must be a scalar or fit the shape (4,) of the module
LIF(4, tau=[10, 10, 10] * u.ms)

# tau initializer no unit
# ValueError: `tau` is in no unit but must be in units like ms | write e.g. `10.0 * u.ms`
LIF(4, tau=braintools.init.Constant(5.0))

# detach_reset positional
# TypeError: LIF.__init__() takes at most 11 positional arguments but 12 were given
LIF(4, 1 * u.ohm, 5 * u.ms, 1 * u.mV, 0 * u.mV, 0 * u.mV, None, None, "soft", "n", True)

# detach_reset string
# TypeError: `detach_reset` must be True or False, got 'yes'.
LIF(4, detach_reset="yes")

# neuron called with a number
# ValueError: `x` of LIF is in no unit but must be in units like mA | write e.g. `1.0 * u.mA`
n = LIF(4); n.init_state(); n(1.0)

# neuron called with voltage
# ValueError: `x` of LIF is in mV but must be in units like mA | write e.g. `1.0 * u.mA`
n = LIF(4); n.init_state(); n(1.0 * u.mV)

# neuron called with wrong shape
# ValueError: the state `V` of LIF has shape (4,), but its input has shape (5,) | give an input of the size of the population and the batch
n = LIF(4); n.init_state(); n(jnp.ones(5) * u.mA)

# neuron called with batch without init batch
# ValueError: the state `V` of LIF has shape (4,), but its input has shape (3, 4) | give an input of the size of the population and the batch
n = LIF(4); n.init_state(); n(jnp.ones((3, 4)) * u.mA)

# neuron called with a string
# TypeError: `x` of LIF must be a number or an array, got '1 mA' | write e.g. `jnp.asarray(...)`
n = LIF(4); n.init_state(); n("1 mA")

# neuron called with None
# TypeError: `x` of LIF must be a number or an array, got None | write e.g. `jnp.asarray(...)`
n = LIF(4); n.init_state(); n(None)

# neuron called with list
# TypeError: `x` of LIF must be a number or an array, got [1.0, 1.0, 1.0, 1.0] | write e.g. `jnp.asarray(...)`
n = LIF(4); n.init_state(); n([1.0, 1.0, 1.0, 1.0])

# neuron without init
# RuntimeError: LIF has no states yet | call `brainstate.nn.init_all_states(model, batch_size=...)`
n = LIF(4); n(1.0 * u.mA)

# get_spike without init
# AttributeError: 'LIF' object has no attribute 'V'; it has no states yet | call `brainstate.nn.init_all_states(model, batch_size=...)`
LIF(4).get_spike()

# V without init
# AttributeError: 'LIF' object has no attribute 'V'; it has no states yet | call `brainstate.nn.init_all_states(model, batch_size=...)`
LIF(4).V.value

# init with batch as float
# ValueError: `batch_size` must be a whole number above 0, got 3.0.
n = LIF(4); n.init_state(3.0)

# init with batch 0
# ValueError: `batch_size` must be a whole number above 0, got 0.
n = LIF(4); n.init_state(0)

# init with batch negative
# ValueError: `batch_size` must be a whole number above 0, got -1.
n = LIF(4); n.init_state(-1)

# init with batch string
# ValueError: `batch_size` must be a whole number above 0, got '3'.
n = LIF(4); n.init_state("3")

# init with batch tuple
# ValueError: `batch_size` must be a whole number above 0, got (3,).
n = LIF(4); n.init_state((3,))

# reset before init
# RuntimeError: LIF has no states yet | call `brainstate.nn.init_all_states(model, batch_size=...)`
n = LIF(4); n.reset_state()

# spikes given as current (int)
# ValueError: `x` of LIF is in no unit but must be in units like mA | write e.g. `1.0 * u.mA`
n = LIF(4); n.init_state(); n(jnp.array([0, 1, 0, 1]))

# V overwritten by array
# RuntimeError: LIF has no states yet | call `brainstate.nn.init_all_states(model, batch_size=...)`
n = LIF(4); n.init_state(); n.V = jnp.zeros(4) * u.mV; n(1.0 * u.mA)

# tau reassigned without unit
# ValueError: `tau` is in no unit but must be in units like ms | write e.g. `10.0 * u.ms`
n = LIF(4); n.tau = 10.0

# tau reassigned negative
# ValueError: `tau` of LIF must be above 0 ms, got -10 ms.
n = LIF(4); n.tau = -10.0 * u.ms

# ALIF a init with unit
# ValueError: `a_initializer` of ALIF is in mV but must be in units like no unit | write e.g. `braintools.init.Constant(0.0)`
n = ALIF(4, a_initializer=braintools.init.Constant(0.0 * u.mV)); n.init_state()

# BRF omega too large
# ValueError: `omega` must be at most 1 / dt, but dt * omega is 2 | take a smaller time step or a lower frequency
n = BRF(4, omega=2000.0 * u.Hz); n.init_state()

# BRF omega without unit
# ValueError: `omega` is in no unit but must be in units like Hz | write e.g. `10.0 * u.Hz`
BRF(4, omega=10.0)

# BRF gamma too large
# ValueError: `gamma` of BRF must be at most 1, got 1.5.
BRF(4, gamma=1.5)

# ExpIF soft
# ValueError: `spk_reset` is 'soft', but ExpIF resets to `V_reset` | write 'hard'. A soft reset would leave the potential on the
ExpIF(4, spk_reset="soft")

# Izhikevich with current
# ValueError: `x` of Izhikevich is in mA but must be in units like mV / ms | write e.g. `1.0 * u.mV / u.ms`
n = Izhikevich(4); n.init_state(); n(10.0 * u.mA)

# Izhikevich soft
# ValueError: `spk_reset` is 'soft', but Izhikevich's neuron resets to `c` | write 'hard'. A soft reset would leave the potential on the
Izhikevich(4, spk_reset="soft")

# LIFRef negative refractory
# ValueError: `tau_ref` of LIFRef must be at least 0 ms, got -1 ms.
LIFRef(4, tau_ref=-1 * u.ms)

# readout sizes swapped: pre of other size
# ValueError: `in_size` is (2,) but `pre` has shape (6,) | give them one shape
LeakyReadout(2, 6, pre=LIF(6))

# readout pre as class
# TypeError: `pre` must be an etrax.Neuron, got the class LIF | make an instance of it, e.g. `LIF(...)`
LeakyReadout(6, 2, pre=LIF)

# readout pre a string
# TypeError: `pre` must be an etrax.Neuron, got 'neu' | give the neurons whose spikes these are
LeakyReadout(6, 2, pre="neu")

# readout weights of wrong shape
# ValueError: That was `w_init` of LeakyReadout: its weights have the shape (inputs, outputs), here (6, 2)
r = LeakyReadout(6, 2, w_init=jnp.ones((2, 6))); r.init_state(); r(jnp.ones(6))

# readout weights as class
# TypeError: `w_init` of LeakyReadout must be a number or an array, got | write e.g. `jnp.asarray(...)`
LeakyReadout(6, 2, w_init=braintools.init.KaimingNormal)

# readout weights string
# TypeError: `w_init` of LeakyReadout must be a number or an array, got 'kaiming' | write e.g. `jnp.asarray(...)`
LeakyReadout(6, 2, w_init="kaiming")

# readout out_size float
# ValueError: `out_size` must be a whole number above 0, or a tuple of them, got
LeakyReadout(6, 2.0)

# readout tau as second
# ValueError: `out_size` must be a whole number above 0, or a tuple of them, got
LeakyReadout(6, 10 * u.ms)

# readout called with potentials
# ValueError: `z`, the spikes that enter LeakyReadout, is in mV but must be a plain | write e.g. `1.0`
r = LeakyReadout(6, 2); r.init_state(); r(jnp.ones(6) * u.mV)

# readout of wrong input size
# ValueError: the state `s` of LeakyReadout has shape (6,), but its input has shape | give an input of the size of the population and the batch
r = LeakyReadout(6, 2); r.init_state(); r(jnp.ones(5))

# readout not initialised
# RuntimeError: LeakyReadout has no states yet | call `brainstate.nn.init_all_states(model, batch_size=...)`
r = LeakyReadout(6, 2); r(jnp.ones(6))

# neuron name lower case
# TypeError: 'module' object is not callable
etrax.neurons.lif(4)
""")
