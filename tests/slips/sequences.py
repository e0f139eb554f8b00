"""What a learner is asked for."""

from .table import read

__all__ = ["ROWS"]

ROWS = read("""
# learner called with no batch
# ValueError: the learner was compiled for inputs of shape (3, 4) but got (4,) | batch size of data and model must agree, and the input has
learner(xs[0, 0])

# learner called with sequence
# ValueError: the learner was compiled for inputs of shape (3, 4) but got (20, 3, 4) | batch size of data and model must agree, and the input has
learner(xs)

# learner called with other batch
# ValueError: the learner was compiled for inputs of shape (3, 4) but got (5, 4) | batch size of data and model must agree, and the input has
learner(jnp.ones((5, 4)))

# learner called with nothing
# ValueError: the learner was compiled for inputs of shape (3, 4) but got none | batch size of data and model must agree, and the input has
learner()

# learner called with two
# ValueError: the learner was compiled for inputs of shape (3, 4) but got (3, 4) | batch size of data and model must agree, and the input has
learner(xs[0], ys[0])

# learner called with nan
# ValueError: input 0 holds NaN, first at sample 0, index (0, 0) | clean the data before training
learner(jnp.full((3, 4), jnp.nan)); learner(xs[0])

# learner called with string
# ValueError: the learner was compiled for inputs of shape (3, 4) but got () | batch size of data and model must agree, and the input has
learner("x")

# learner called with unit
# ValueError: `input 0` of the learner is in mV but must be a plain number, without | write e.g. `1.0`
learner(xs[0] * u.mV)

# etrace_grad without step_fn
# TypeError: Learner.etrace_grad() missing 1 required keyword-only argument: 'step_fn'
learner.etrace_grad(xs, ys)

# etrace_grad step_fn positional
# TypeError: Learner.etrace_grad() missing 1 required keyword-only argument: 'step_fn'
learner.etrace_grad(loss, xs, ys)

# etrace_grad sequences forgotten
# ValueError: no sequence given | pass time-major arrays, e.g. `etrace_grad(xs, ys
learner.etrace_grad(step_fn=loss)

# etrace_grad step_fn is a string
# TypeError: `step_fn` must be a function, got 'mse' | write e.g. `lambda x, y: jnp.mean((learner(x) - y) ** 2)`
learner.etrace_grad(xs, ys, step_fn="mse")

# etrace_grad step_fn takes one argument
# TypeError: `step_fn` must take 2 arguments (too many positional arguments) | write e.g. `lambda x, y: jnp.mean((learner(x) - y) ** 2)`
learner.etrace_grad(xs, ys, step_fn=lambda x: jnp.mean(learner(x) ** 2))

# etrace_grad step_fn takes three
# TypeError: `step_fn` must take 2 arguments | write e.g. `lambda x, y:
learner.etrace_grad(xs, ys, step_fn=lambda x, y, z: jnp.mean((learner(x) - y) ** 2))

# etrace_grad step_fn returns nothing
# TypeError: `step_fn` returned None | end it with `return` and the loss of the step
def step(x, y):
    jnp.mean((learner(x) - y) ** 2)
learner.etrace_grad(xs, ys, step_fn=step)

# etrace_grad step_fn returns output and loss
# TypeError: `step_fn` must return a scalar loss for one step, got 2 values | for `(loss, aux)` pass `has_aux=True`
def step(x, y):
    out = learner(x)
    return jnp.mean((out - y) ** 2), out
learner.etrace_grad(xs, ys, step_fn=step)

# etrace_grad has_aux without pair
# TypeError: `step_fn` must return `(loss, aux)` with `has_aux=True`, got | return a pair, or leave `has_aux` out
learner.etrace_grad(xs, ys, step_fn=loss, has_aux=True)

# etrace_grad float of loss
# TypeError: `step_fn`, or the model that it calls, asks for a value that is not | it runs once, to be compiled. Use `jnp` for `np`, and
learner.etrace_grad(xs, ys, step_fn=lambda x, y: float(loss(x, y)))

# etrace_grad numpy of output
# TypeError: `step_fn`, or the model that it calls, asks for a value that is not | it runs once, to be compiled. Use `jnp` for `np`, and
learner.etrace_grad(xs, ys, step_fn=lambda x, y: np.mean((np.asarray(learner(x)) - y) ** 2))

# etrace_grad backward (torch)
# AttributeError: backward | That was in `step_fn`, which got one step of each sequence
learner.etrace_grad(xs, ys, step_fn=lambda x, y: loss(x, y).backward())

# etrace_grad detach (torch)
# AttributeError: detach | That was in `step_fn`, which got one step of each sequence
learner.etrace_grad(xs, ys, step_fn=lambda x, y: jnp.mean((learner(x).detach() - y) ** 2))

# etrace_grad if on loss
# TypeError: `step_fn`, or the model that it calls, asks for a value that is not | it runs once, to be compiled. Use `jnp` for `np`, and
def step(x, y):
    value = loss(x, y)
    if value > 10.0:
        value = 10.0
    return value
learner.etrace_grad(xs, ys, step_fn=step)

# etrace_grad print f-string of loss
# TypeError: format | That was in `step_fn`, which got one step of each sequence
def step(x, y):
    value = loss(x, y)
    print(f"{value:.3f}")
    return value
learner.etrace_grad(xs, ys, step_fn=step)

# etrace_grad aux string
# TypeError: `step_fn` returned 'fine' beside the loss, which cannot be stacked | return arrays and numbers, in dicts, lists and tuples
learner.etrace_grad(xs, ys, step_fn=lambda x, y: (loss(x, y), "fine"), has_aux=True)

# etrace_grad aux object
# TypeError: `step_fn` returned <object object at | return arrays and numbers, in dicts, lists and tuples
learner.etrace_grad(xs, ys, step_fn=lambda x, y: (loss(x, y), {"net": object()}), has_aux=True)

# etrace_grad loss of each trial and output
# ValueError: scalar loss for one step, got shape (3, 2) | reduce over batch and outputs
learner.etrace_grad(xs, ys, step_fn=lambda x, y: (learner(x) - y) ** 2)

# etrace_grad int loss
# TypeError: `step_fn` returned a loss of type | return a real floating-point number; a comparison, a count
learner.etrace_grad(xs, ys, step_fn=lambda x, y: jnp.sum(learner(x) > 0))

# etrace_grad model in place of learner
# ValueError: `step_fn` called the learner 0 times in one step | call `learner(x)` (not the model) exactly once, so that the
learner.etrace_grad(xs, ys, step_fn=lambda x, y: jnp.mean((learner.model(x) - y) ** 2))

# etrace_grad learner never called
# ValueError: `step_fn` called the learner 0 times in one step | call `learner(x)` (not the model) exactly once, so that the
learner.etrace_grad(xs, ys, step_fn=lambda x, y: jnp.mean((x[:, :2] - y) ** 2))

# etrace_grad learner called twice
# ValueError: `step_fn` called the learner 2 times in one step | call `learner(x)` (not the model) exactly once, so that the
learner.etrace_grad(xs, ys, step_fn=lambda x, y: jnp.mean((learner(x) + learner(x) - y) ** 2))

# etrace_grad lengths differ
# ValueError: all sequences must have one length T | sequence 0: 20, sequence 1: 5
learner.etrace_grad(xs, ys[:5], step_fn=loss)

# etrace_grad empty
# ValueError: the sequences are empty (T = 0) | give at least one step
learner.etrace_grad(xs[:0], ys[:0], step_fn=loss)

# etrace_grad mask of wrong length
# ValueError: `mask` must have shape (20,), one weight per step, got (5,).
learner.etrace_grad(xs, ys, step_fn=loss, mask=jnp.ones(5))

# etrace_grad mask per trial
# ValueError: `mask` must have shape (20,), one weight per step, got (20, 3).
learner.etrace_grad(xs, ys, step_fn=loss, mask=jnp.ones((20, 3)))

# etrace_grad mask a slice
# TypeError: `mask` must be a number or an array, got slice(10, 20, None) | write e.g. `jnp.asarray(...)`
learner.etrace_grad(xs, ys, step_fn=loss, mask=slice(10, 20))

# etrace_grad mask list
# TypeError: `mask` must be a number or an array, got 'last' | write e.g. `jnp.asarray(...)`
learner.etrace_grad(xs, ys, step_fn=loss, mask="last")

# etrace_grad mask of unit
# ValueError: `mask` is in ms but must be a plain number, without a unit | write e.g. `jnp.arange(T) >= 150`
learner.etrace_grad(xs, ys, step_fn=loss, mask=jnp.ones(20) * u.ms)

# etrace_grad chunk_size zero
# ValueError: `chunk_size` must be at least 1, got 0.
learner.etrace_grad(xs, ys, step_fn=loss, chunk_size=0)

# etrace_grad chunk_size float
# TypeError: `chunk_size` must be None or an int, got 5.0.
learner.etrace_grad(xs, ys, step_fn=loss, chunk_size=5.0)

# etrace_grad chunk_size time
# TypeError: `chunk_size` must be None or an int, got Quantity(5, "ms").
learner.etrace_grad(xs, ys, step_fn=loss, chunk_size=5 * u.ms)

# etrace_grad reduction none
# ValueError: `reduction` must be 'mean' or 'sum', got 'none'.
learner.etrace_grad(xs, ys, step_fn=loss, reduction="none")

# etrace_grad loss_output
# ValueError: `loss_output` must be 'per_step', 'masked' or 'scalar', got 'all'.
learner.etrace_grad(xs, ys, step_fn=loss, loss_output="all")

# etrace_grad weights list
# TypeError: `weights` must be a dict of paths and ParamStates, got list | take some of `learner.param_states`, e.g. `{path: s for
learner.etrace_grad(xs, ys, step_fn=loss, weights=[learner.model.syn.comm.weight])

# etrace_grad weights a state
# TypeError: `weights` must be a dict of paths and ParamStates, got ParamState | take some of `learner.param_states`, e.g. `{path: s for
learner.etrace_grad(xs, ys, step_fn=loss, weights=learner.model.syn.comm.weight)

# etrace_grad weights names
# TypeError: `weights` must be a dict of paths and ParamStates, got list | take some of `learner.param_states`, e.g. `{path: s for
learner.etrace_grad(xs, ys, step_fn=loss, weights=["syn.comm.weight"])

# etrace_grad weights of other net
# ValueError: `weights` has ('out', 'weight'), which is no parameter of the model | take some of `learner.param_states`, e.g. `{path: s for
learner.etrace_grad(xs, ys, step_fn=loss, weights=net.states(brainstate.ParamState))

# etrace_grad weights empty
# ValueError: `weights` is empty | give at least one ParamState to differentiate
learner.etrace_grad(xs, ys, step_fn=loss, weights={})

# etrace_grad weights values
# TypeError: `weights` has a value of type ArrayImpl and shape (6, 2) for ('out' | take some of `learner.param_states`, e.g. `{path: s for
learner.etrace_grad(xs, ys, step_fn=loss, weights={k: v.value for k, v in learner.param_states.items()})

# etrace_grad trial string
# TypeError: `trial` must be True or False, got 'yes'.
learner.etrace_grad(xs, ys, step_fn=loss, trial="yes")

# etrace_grad inputs with unit
# ValueError: `input 0` of the learner is in mV but must be a plain number, without | write e.g. `1.0`
learner.etrace_grad(xs * u.mV, ys, step_fn=loss)

# etrace_evolve with loss
# TypeError: `step_fn` must be a function, got 'loss' | write e.g. `lambda x: learner(x)`
learner.etrace_evolve(xs, step_fn="loss")

# etrace_evolve no sequence
# ValueError: no sequence given | pass time-major arrays, e.g. `etrace_grad(xs, ys
learner.etrace_evolve()

# reset_state batch other
# ValueError: `batch_size` is 5 but the learner was compiled for 3 | compile again for another batch size
learner.reset_state(5); learner(xs[0])

# reset_state string
# ValueError: `batch_size` is all but the learner was compiled for 3 | compile again for another batch size
learner.reset_state("all")

# get_etrace_of unknown
# ValueError: `weight` 'weight' has no trace; parameters with one | syn.comm.weight
learner.get_etrace_of("weight")

# get_etrace_of index
# ValueError: `weight` 0 has no trace; parameters with one | syn.comm.weight
learner.get_etrace_of(0)

# get_etrace_of of other net
# ValueError: has no trace; parameters with one | syn.comm.weight
learner.get_etrace_of(net.syn.comm.weight)

# get_etrace_of readout
# ValueError: `weight` 'out.weight' has no trace; parameters with one | syn.comm.weight
learner.get_etrace_of("out.weight")

# vmap of learner
# ValueError: the learner was compiled for inputs of shape (3, 4) but got (4,) | batch size of data and model must agree, and the input has
jax.vmap(lambda x: learner(x))(xs[0])

# options_of unknown
# ValueError: `algorithm` must be one of d_rtrl, no_trace, eprop, dfa, bptt, rtrl
etrax.learners.options_of("adam")

# options_of instance
# TypeError: `algorithm` must be a class of learners, e.g. `etrax.D_RTRL`, or its | write `etrax.compile(model, etrax.D_RTRL, x0
etrax.learners.options_of(learner)

# options_of carry
# ValueError: `carry` must be one of dense, window, rank1, none, got 'full'.
etrax.learners.options_of(etrax.D_RTRL, carry="full")

# gradient_report of model
# TypeError: `learner` must be a compiled learner | write `etrax.compile(model, etrax.D_RTRL, x0
etrax.gradient_report(net, xs, ys, step_fn=loss)

# gradient_report windows 0
# ValueError: `windows` must be a whole number above 0, got 0.
etrax.gradient_report(learner, xs, ys, step_fn=loss, windows=0)

# gradient_report windows float
# ValueError: `windows` must be a whole number above 0, got 2.5.
etrax.gradient_report(learner, xs, ys, step_fn=loss, windows=2.5)

# gradient_report of class
# TypeError: `learner` must be a compiled learner, got the class D_RTRL | make an instance of it, e.g. `D_RTRL(...)`
etrax.gradient_report(etrax.D_RTRL, xs, ys, step_fn=loss)

# register_pattern of an instance
# TypeError: `layer` must be a class of layers | write `@register_pattern(MyLayer)`
etrax.register_pattern(brainstate.nn.Linear(2, 3))

# Pattern with weights given not callable
# TypeError: `weights` must be a function | write e.g. `lambda: layer.weight.value`
etrax.Pattern(jnp.ones(3))

# a new lambda for each call
# UserWarning: `step_fn` is another function at each call | define it once, outside the loop, and pass the same one
for _ in range(3):
    learner.etrace_grad(xs, ys, step_fn=lambda x, y: jnp.mean((learner(x) - y) ** 2))
""")
