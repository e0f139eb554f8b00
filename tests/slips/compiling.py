"""Making a learner."""

from .table import read

__all__ = ["ROWS"]

ROWS = read("""
# arguments of compile swapped
# TypeError: `algorithm` must be a class of learners, e.g. `etrax.D_RTRL`, or its | write `etrax.compile(model, etrax.D_RTRL, x0
etrax.compile(net, etrax.D_RTRL(net), xs[0])

# compile: learner first
# TypeError: `algorithm` must be a class of learners, e.g. `etrax.D_RTRL`, or its | write `etrax.compile(model, etrax.D_RTRL, x0
etrax.compile(etrax.D_RTRL, net, xs[0], batch_size=3)

# compile a class of model
# TypeError: `model` must be a brainstate.nn.Module, got the class Net | make an instance of it, e.g. `Net(...)`
etrax.compile(Net, etrax.D_RTRL, xs[0], batch_size=3)

# compile without an input
# ValueError: `example_inputs` are missing | give the input of one step, `etrax.compile(model
etrax.compile(net, etrax.D_RTRL)

# compile without algorithm
# TypeError: `algorithm` must be a class of learners, e.g. `etrax.D_RTRL`, or its | write `etrax.compile(model, etrax.D_RTRL, x0
etrax.compile(net, xs[0], batch_size=3)

# compile without batch_size
# ValueError: the model does not run on an example input of shape (3, 4) | check the number of inputs, and that `batch_size`
etrax.compile(net, etrax.D_RTRL, xs[0])

# compile with whole sequence
# ValueError: `batch_size` is 3 but example input 0 has shape (20, 3, 4) | the batch axis comes first in one step's input; pass
etrax.compile(net, etrax.D_RTRL, xs, batch_size=3)

# compile batch_size other
# ValueError: `batch_size` is 4 but example input 0 has shape (3, 4) | the batch axis comes first in one step's input; pass
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=4)

# compile batch as float
# ValueError: `batch_size` must be a whole number above 0, got 3.0.
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3.0)

# compile batch zero
# ValueError: `batch_size` must be a whole number above 0, got 0.
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=0)

# compile batch positional
# ValueError: the model does not run on an example input of shape (3, 4), () | check the number of inputs, and that `batch_size` is that
etrax.compile(net, etrax.D_RTRL, xs[0], 3)

# compile batch first data
# ValueError: `batch_size` is 3 but example input 0 has shape (20, 4) | the batch axis comes first in one step's input; pass
etrax.compile(net, etrax.D_RTRL, jnp.swapaxes(xs, 0, 1)[0], batch_size=3)

# compile input list
# ValueError: `batch_size` is 3 but example input 0 has shape () | the batch axis comes first in one step's input; pass
etrax.compile(net, etrax.D_RTRL, [[0.0] * 4] * 3, batch_size=3)

# compile input a shape
# ValueError: `batch_size` is 3 but example input 0 has shape () | the batch axis comes first in one step's input; pass
etrax.compile(net, etrax.D_RTRL, (3, 4), batch_size=3)

# compile input a number
# ValueError: `batch_size` is 3 but example input 0 has shape () | the batch axis comes first in one step's input; pass
etrax.compile(net, etrax.D_RTRL, 4, batch_size=3)

# compile vjp_method
# ValueError: `vjp_method` must be 'single-step' or 'multi-step', got 'multi_step'.
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3, vjp_method="multi_step")

# compile carry
# ValueError: `carry` must be one of dense, window, rank1, none, got 'full'.
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3, carry="full")

# compile decay without rank1
# TypeError: `decay` is not read by carry='dense', but by carry='rank1' | leave it out
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3, decay=0.9)

# compile window as time
# ValueError: `window` must be a number of steps, at least 1
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3, carry="window", window=20 * u.ms)

# compile tolerance percent
# ValueError: `tolerance` must be between 0 and 1, got 5.
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3, carry="window", tolerance=5)

# compile memory string
# ValueError: `memory` must be a whole number above 0, got '1GB'.
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3, memory="1GB")

# compile memory tiny
# ValueError: `memory` must be a whole number above 0, got 0.
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3, memory=0)

# compile feedback for D_RTRL
# TypeError: `feedback` is not read by D_RTRL, but by EProp | leave it out, or choose one of these
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3, feedback="random")

# compile feedback unknown
# ValueError: `feedback` must be one of symmetric, random, adaptive, got 'rand'.
etrax.compile(net, etrax.EProp, xs[0], batch_size=3, feedback="rand")

# compile feedback seed float
# ValueError: `feedback_seed` must be a whole number from 0 to 2**32 - 1, got 1.5.
etrax.compile(net, etrax.EProp, xs[0], batch_size=3, feedback="random", feedback_seed=1.5)

# compile feedback scale negative
# ValueError: `feedback_scale` must be a number above 0, got -1.0.
etrax.compile(net, etrax.EProp, xs[0], batch_size=3, feedback="random", feedback_scale=-1.0)

# compile trace dtype string
# ValueError: `trace_dtype` must be a floating-point type, e.g. jnp.bfloat16, got
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3, trace_dtype="float12")

# compile trace dtype int
# ValueError: `trace_dtype` must be a floating-point type, e.g. jnp.bfloat16, got
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3, trace_dtype=jnp.int32)

# compile RTRL limit float
# ValueError: `limit` must be a whole number above 0, got 1.5.
etrax.compile(net, etrax.RTRL, xs[0], batch_size=3, limit=1.5)

# compile RTRL limit string
# ValueError: `limit` must be a whole number above 0, got '1GB'.
etrax.compile(net, etrax.RTRL, xs[0], batch_size=3, limit="1GB")

# compile strict string
# TypeError: `strict` must be True or False, got 'yes'.
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3, strict="yes")

# compile through_depth int
# TypeError: `through_depth` must be True or False, got 'all'.
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3, through_depth="all")

# compile seed string
# ValueError: `seed` must be a whole number from 0 to 2**32 - 1, got '0'.
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3, seed="0")

# compile chunk_size in compile
# TypeError: `chunk_size` is no option of D_RTRL; its options are | carry, decay, hops, memory, strict
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3, chunk_size=5)

# compile loss in compile
# TypeError: `loss` is no option of D_RTRL; its options are | carry, decay, hops, memory, strict
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3, loss="mse")

# compile a lambda
# TypeError: `model` must be a brainstate.nn.Module | give an instance of the class of your network
etrax.compile(lambda x: x, etrax.D_RTRL, xs[0], batch_size=3)

# compile a learner again
# TypeError: `model` is the learner D_RTRL | give the network in it, `learner.model`
etrax.compile(learner, etrax.D_RTRL, xs[0], batch_size=3)

# compile optimizer as algorithm
# TypeError: `algorithm` must be a class of learners, e.g. `etrax.D_RTRL`, or its | write `etrax.compile(model, etrax.D_RTRL, x0
etrax.compile(net, braintools.optim.Adam, xs[0], batch_size=3)

# compile abstract learner
# TypeError: `algorithm` must be a class of learners, e.g. `etrax.D_RTRL`, or its | write `etrax.compile(model, etrax.D_RTRL, x0
etrax.compile(net, etrax.Learner, xs[0], batch_size=3)

# learner without compile
# RuntimeError: this D_RTRL is not compiled | call `learner.compile_graph(x0)` with one step's input
l = etrax.D_RTRL(net); l(xs[0])

# learner without compile: gradient
# RuntimeError: this D_RTRL is not compiled | call `learner.compile_graph(x0)` with one step's input
l = etrax.D_RTRL(net); l.etrace_grad(xs, ys, step_fn=lambda x, y: jnp.mean((l(x) - y) ** 2))

# learner without compile: report
# RuntimeError: this D_RTRL is not compiled | call `learner.compile_graph(x0)` with one step's input
etrax.D_RTRL(net).report()

# learner without compile: param_states
# RuntimeError: this D_RTRL is not compiled | call `learner.compile_graph(x0)` with one step's input
etrax.D_RTRL(net).param_states

# model forgets return
# ValueError: the parameter out.weight reaches neither a state nor an output of the | use it in `update`, or make it a plain array if it is not
class NoReturn(Net):
    def update(self, x):
        self.syn(u.math.concatenate([x, self.neu.get_spike()], axis=-1))
        self.out(self.neu())
etrax.compile(NoReturn(4, 6, 2), etrax.D_RTRL, xs[0], batch_size=3)

# model with forward instead of update
# ValueError: the model has no etrax neurons, so there is nothing to trace | build it from `etrax.neurons` and `etrax.synapses`, and
class Forward(brainstate.nn.Module):
    def forward(self, x):
        return x
etrax.compile(Forward(), etrax.D_RTRL, xs[0], batch_size=3)

# model never calls the neuron
# RuntimeError: LIF (neu.V) was not stepped | every part of a population must be called once in each step of the model
class NoStep(Net):
    def update(self, x):
        self.syn(u.math.concatenate([x, self.neu.get_spike()], axis=-1))
        return self.out(self.neu.get_spike())
etrax.compile(NoStep(4, 6, 2), etrax.D_RTRL, xs[0], batch_size=3)

# model calls the neuron twice
# RuntimeError: CUBA has no conductance for this step | call its projection before the neuron that it feeds
class Twice(Net):
    def update(self, x):
        self.syn(u.math.concatenate([x, self.neu.get_spike()], axis=-1))
        self.neu()
        return self.out(self.neu())
etrax.compile(Twice(4, 6, 2), etrax.D_RTRL, xs[0], batch_size=3)

# model calls the synapse itself
# RuntimeError: Expon was stepped twice in one step of the model | call each neuron and each projection once per step, and
class Double(Net):
    def update(self, x):
        self.syn(u.math.concatenate([x, self.neu.get_spike()], axis=-1))
        self.syn.syn(jnp.ones((3, 6)) * u.mS)
        return self.out(self.neu())
etrax.compile(Double(4, 6, 2), etrax.D_RTRL, xs[0], batch_size=3)

# model calls the projection twice
# RuntimeError: Expon was stepped twice in one step of the model | call each neuron and each projection once per step, and
class Double(Net):
    def update(self, x):
        x = u.math.concatenate([x, self.neu.get_spike()], axis=-1)
        self.syn(x)
        self.syn(x)
        return self.out(self.neu())
etrax.compile(Double(4, 6, 2), etrax.D_RTRL, xs[0], batch_size=3)

# model loops over time
# RuntimeError: Expon was stepped twice in one step of the model | call each neuron and each projection once per step, and
class Loop(Net):
    def update(self, x):
        for t in range(2):
            self.syn(u.math.concatenate([x, self.neu.get_spike()], axis=-1))
            out = self.out(self.neu())
        return out
etrax.compile(Loop(4, 6, 2), etrax.D_RTRL, xs[0], batch_size=3)

# model forgets the recurrent part in sizes
# ValueError: takes inputs of size (10,) on the last axes, got shape (3, 4) | check the number of inputs
class Sizes(Net):
    def update(self, x):
        self.syn(x)
        return self.out(self.neu())
etrax.compile(Sizes(4, 6, 2), etrax.D_RTRL, xs[0], batch_size=3)

# model with numpy inside update
# TypeError: the model asks for a value that is not known yet, as by `float(x)` | it runs once, to be compiled. Use `jnp` for `np`, and
class Numpy(Net):
    def update(self, x):
        self.syn(np.concatenate([x, self.neu.get_spike()], axis=-1))
        return self.out(self.neu())
etrax.compile(Numpy(4, 6, 2), etrax.D_RTRL, xs[0], batch_size=3)

# model with if on spikes
# TypeError: the model asks for a value that is not known yet, as by `float(x)` | it runs once, to be compiled. Use `jnp` for `np`, and
class If(Net):
    def update(self, x):
        self.syn(u.math.concatenate([x, self.neu.get_spike()], axis=-1))
        z = self.neu()
        if z.sum() > 3:
            z = 0 * z
        return self.out(z)
etrax.compile(If(4, 6, 2), etrax.D_RTRL, xs[0], batch_size=3)

# weights in mV in network
# ValueError: the output of `comm` is in mV but `syn` Expon takes mS | give the weights (and bias) of `comm` the unit mS, e.g.
class Units(Net):
    def __init__(self):
        super().__init__(4, 6, 2)
        self.syn.comm = Linear(10, 6, w_init=braintools.init.KaimingNormal(unit=u.mV), b_init=None)
etrax.compile(Units(), etrax.D_RTRL, xs[0], batch_size=3)

# weights without a unit in network
# ValueError: the output of `comm` is in no unit but `syn` Expon takes mS | give the weights (and bias) of `comm` the unit mS, e.g.
class Units(Net):
    def __init__(self):
        super().__init__(4, 6, 2)
        self.syn.comm = Linear(10, 6, w_init=braintools.init.KaimingNormal(), b_init=None)
etrax.compile(Units(), etrax.D_RTRL, xs[0], batch_size=3)

# inputs with a unit
# ValueError: the model does not run on an example input of shape (3, 4) | check the number of inputs, and that `batch_size` is that
etrax.compile(net, etrax.D_RTRL, jnp.zeros((3, 4)) * u.mA, batch_size=3)

# inputs strings
# TypeError: `example_inputs[0]` must be a number or an array | write e.g. `jnp.asarray(...)`
etrax.compile(net, etrax.D_RTRL, np.array([["a"] * 4] * 3), batch_size=3)

# compile hops as a float
# ValueError: `hops` must be a whole number from 0 on, got 1.5
etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=3, hops=1.5)
""")
