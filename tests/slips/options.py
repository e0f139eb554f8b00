"""Options of a training, bounds, losses, `evaluate`."""

from .table import read

__all__ = ["ROWS"]

ROWS = read("""
# TrainOptions update
# ValueError: `update` must be one of step, chunk, trial, or a number of steps; got
etrax.TrainOptions(update="epoch")

# TrainOptions reset string
# TypeError: `reset` must be True or False, got 'x'.
etrax.TrainOptions(reset="x")

# TrainOptions positional epochs
# TypeError: TrainOptions.__init__() takes 1 positional argument but 2 were given
etrax.TrainOptions(10)

# TrainOptions lr
# TypeError: TrainOptions.__init__() got an unexpected keyword argument 'lr'
etrax.TrainOptions(lr=1e-3)

# TrainOptions learning_rate schedule
# ValueError: `learning_rate` must be a number above 0, got
etrax.TrainOptions(learning_rate=braintools.optim.StepLR(base_lr=1e-3, step_size=3))

# TrainOptions clip_norm zero
# ValueError: `clip_norm` must be a number above 0, got 0.0.
etrax.TrainOptions(clip_norm=0.0)

# TrainOptions rate_limit without unit
# ValueError: `rate_limit` must be a quantity in units like Hz, got 50.0 | write e.g. `1.0 * u.Hz`
etrax.TrainOptions(rate_limit=50.0)

# TrainOptions rate_limit in ms
# ValueError: `rate_limit` must be a quantity in units like Hz, got Quantity(50. | write e.g. `1.0 * u.Hz`
etrax.TrainOptions(rate_limit=50.0 * u.ms)

# TrainOptions rate_cost unit
# ValueError: `rate_cost` is in Hz but must be a plain number, without a unit | write e.g. `1.0`
etrax.TrainOptions(rate_cost=1 * u.Hz)

# TrainOptions loss_window numbers
# ValueError: `loss_window` must be two times, the first before the second, e.g.
etrax.TrainOptions(loss_window=(10, 20))

# TrainOptions constraints list
# TypeError: `constraints` must be a dict, got [Clamp(low=0, high=None)] | write e.g. `constraints={'*.comm.weight': etrax.Clamp(low=0
etrax.TrainOptions(constraints=[etrax.Clamp(low=0)])

# TrainOptions constraints not callable
# TypeError: `constraints` has 3 for '*', which is no function | write e.g. `constraints={'*.comm.weight': etrax.Clamp(low=0
etrax.TrainOptions(constraints={"*": 3})

# TrainOptions constraint class
# TypeError: `constraints` has the class Clamp for '*', which is no function | write e.g. `constraints={'*.comm.weight': etrax.Clamp(low=0
etrax.TrainOptions(constraints={"*": etrax.Clamp})

# TrainOptions schedule_every
# ValueError: `schedule_every` must be 'epoch' or 'batch', got 'step'.
etrax.TrainOptions(schedule_every="step")

# TrainOptions decay_constants string
# TypeError: `decay_constants` must be True or False, got 'no'.
etrax.TrainOptions(decay_constants="no")

# TrainOptions tensorboard string
# TypeError: `tensorboard` must be True or False, got 'runs'.
etrax.TrainOptions(tensorboard="runs")

# train update chunk without chunk_size
# ValueError: `update='chunk'` needs a `chunk_size` | give a number of steps, or that number as `update`
etrax.train(network, task, etrax.TrainOptions(update="chunk"))

# train patience without validation
# ValueError: `patience` needs a validation | give `validation`, or a task that has one
etrax.train(net, [(xs, ys)], etrax.TrainOptions(patience=3), loss="mse")

# train batch larger than data
# ValueError: `batch_size` must be a whole number from 1 to 512, got 100000.
etrax.train(network, task, etrax.TrainOptions(batch_size=100000))

# train checkpoint_every without folder
# ValueError: `checkpoint_every` needs a `folder` to write to
etrax.train(net, [(xs, ys)], etrax.TrainOptions(checkpoint_every=2), loss="mse")

# train tensorboard without folder
# ValueError: `tensorboard` needs a `folder` to write to
etrax.train(net, [(xs, ys)], etrax.TrainOptions(tensorboard=True), loss="mse")

# Clamp nothing
# ValueError: `Clamp` needs a bound | give `low`, `high` or both, e.g. `Clamp(low=0.0 * u.mS)`
etrax.Clamp()

# Clamp reversed
# ValueError: `low` must not be above `high` (one unit), got 2 mS and 1 mS.
etrax.Clamp(low=2 * u.mS, high=1 * u.mS)

# Clamp string
# TypeError: `low` of `Clamp` must be a number or an array, got '0' | write e.g. `jnp.asarray(...)`
etrax.Clamp(low="0")

# Clamp nan
# ValueError: `low` of `Clamp` is nan | give a number, or None for no bound
etrax.Clamp(low=float("nan"))

# Clamp tuple
# TypeError: `low` of `Clamp` must be a number or an array, got (0, 1) | write e.g. `jnp.asarray(...)`
etrax.Clamp((0, 1))

# Dale share
# ValueError: `signs` must be -1, 0 or 1 for each presynaptic neuron, got 0.8.
etrax.Dale(0.8)

# Dale letters
# ValueError: `signs` must be -1, 0 or 1 for each presynaptic neuron, got 'EEI'.
etrax.Dale("EEI")

# Dale axis
# ValueError: `axis` must be a whole number, got 'pre'.
etrax.Dale([1, -1], axis="pre")

# Loss of a string
# TypeError: `loss` must be a function, got 'mse' | write e.g. `lambda output, y: jnp.mean((output - y) ** 2
etrax.training.Loss("mse")

# evaluate arguments swapped
# TypeError: `model` must be a brainstate.nn.Module | the model comes first, then batches
etrax.training.evaluate(task.test(4), network)

# evaluate the task
# TypeError: `batches` must be batches of trials | give e.g. `task.test(32)` or `[(xs, ys)]`
etrax.training.evaluate(network, task)

# evaluate test not called
# TypeError: `batches` must be batches of trials | give e.g. `task.test(32)` or `[(xs, ys)]`
etrax.training.evaluate(network, task.test)

# evaluate a class
# TypeError: `model` must be a brainstate.nn.Module, got the class Net | make an instance of it, e.g. `Net(...)`
etrax.training.evaluate(Net, [(xs, ys)])

# evaluate no batches
# ValueError: `batches` is empty | give at least one batch of trials, e.g. `task.test(32)`
etrax.training.evaluate(net, [])

# evaluate regression with classes loss
# ValueError: `ys` is an array of float32 of shape (50, 4, 3), but a loss of | give whole numbers of shape (T, B) or (B,), or another
etrax.training.evaluate(network, task.test(4))

# evaluate xs ys
# TypeError: `loss` must be a function | write e.g. `lambda output, y: jnp.mean((output - y) ** 2
etrax.training.evaluate(net, xs, ys)

# evaluate one batch
# ValueError: a batch must be (xs, ys) or (xs, ys, mask), time-major; | for one batch write `[(xs, ys)]`, a list of it
etrax.training.evaluate(net, (xs, ys), "mse")

# evaluate an exhausted iterator
# ValueError: `batches` is empty | give at least one batch of trials, e.g. `task.test(32)`
it = iter([(xs, ys)]); list(it)
etrax.training.evaluate(net, it, "mse")

# unfinished of number
# TypeError: `folder` must be a path, got 3 | write e.g. `folder='run'`
etrax.training.unfinished(3)

# TrainResult plot
# TypeError: `history` must be a list of dicts, got 3 | give e.g. `etrax.train(...).history`
etrax.plots.plot_learning(3)
""")
