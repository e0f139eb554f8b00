"""Weights on disk, networks on tasks, methods side by side."""

from .table import read

__all__ = ["ROWS"]

ROWS = read("""
# save_weights arguments swapped
# TypeError: `network` must be a brainstate.nn.Module, got | give an instance of the class of your network
etrax.network.save_weights(network, folder + "/w.npz")

# save_weights missing folder
# FileNotFoundError: lies in no folder: make
etrax.network.save_weights(folder + "/no/w.npz", network)

# save_weights to a folder
# IsADirectoryError: is a folder | give the name of a file in it
etrax.network.save_weights(folder, network)

# save_weights class
# TypeError: `network` must be a brainstate.nn.Module, got the class Net | make an instance of it, e.g. `Net(...)`
etrax.network.save_weights(folder + "/w.npz", Net)

# save_weights of a state dict
# TypeError: `network` must be a brainstate.nn.Module | give an instance of the class of your network
etrax.network.save_weights(folder + "/w.npz", network.states())

# save_weights model without weights
# ValueError: `network` LIF has no trainable parameters, so there is nothing to
etrax.network.save_weights(folder + "/w.npz", LIF(3))

# load_weights arguments swapped
# TypeError: `path` must be a path | write e.g. `path='run'`
etrax.network.load_weights(network, folder + "/w.npz")

# load_weights missing
# FileNotFoundError: is not a file | give the weights that `save_weights` wrote, or a checkpoint
etrax.network.load_weights(folder + "/w.npz", network)

# load_weights other model
# ValueError: do not fit the network (it lacks projection.comm.weight | build it with the task and sizes
etrax.network.save_weights(folder + "/w.npz", net)
etrax.network.load_weights(folder + "/w.npz", network)

# load_weights other size
# ValueError: do not fit the network (projection.comm.weight has shapes | build it with the task and sizes
etrax.network.save_weights(folder + "/w.npz", network)
etrax.network.load_weights(folder + "/w.npz", etrax.network.build(task, etrax.tasks.Recipe(n_rec=7)))

# load_weights other npz
# ValueError: cannot be read | use another one
np.savez(folder + "/w.npz", a=np.zeros(3))
etrax.network.load_weights(folder + "/w.npz", network)

# load_weights a text file
# ValueError: holds no weights | give a file that `save_weights` wrote
open(folder + "/w.npz", "w").write("hello")
etrax.network.load_weights(folder + "/w.npz", network)

# load_weights a torch file
# ValueError: cannot be read
open(folder + "/w.pt", "wb").write(b"PK")
etrax.network.load_weights(folder + "/w.pt", network)

# load_weights other units
# ValueError: units ['mS'] there | units ['mV'] here
class Other(brainstate.nn.Module):
    def __init__(self, unit):
        super().__init__()
        self.w = brainstate.ParamState(jnp.ones(3) * unit)
etrax.network.save_weights(folder + "/w.npz", Other(u.mS))
etrax.network.load_weights(folder + "/w.npz", Other(u.mV))

# load_weights fewer parameters
# ValueError: do not fit the network (it lacks b
class One(brainstate.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = brainstate.ParamState(jnp.ones(3))
class Two(One):
    def __init__(self):
        super().__init__()
        self.b = brainstate.ParamState(jnp.ones(3))
etrax.network.save_weights(folder + "/w.npz", One())
etrax.network.load_weights(folder + "/w.npz", Two())

# copy_of arguments
# TypeError: `network` must be a RecurrentALIF | it comes first, then its task and recipe
etrax.network.copy_of(task, network, recipe)

# record_trial of own net
# ValueError: `network` has no projection.comm.weight of the shape that task and | give the task and the recipe that it was built with, as
etrax.network.record_trial(net, task, recipe)

# record_trial index too large
# ValueError: `index` must be a whole number from 0 to 63, got 1000000.
etrax.network.record_trial(network, task, recipe, index=10**6)

# record_trial index float
# ValueError: `index` must be a whole number from 0 on, got 0.5.
etrax.network.record_trial(network, task, recipe, index=0.5)

# record_trial arguments swapped
# TypeError: `network` must be a RecurrentALIF | it comes first, then its task and recipe
etrax.network.record_trial(task, network, recipe)

# record_trial recipe of other size
# ValueError: `network` has no projection.comm.weight of the shape that task and | give the task and the recipe that it was built with, as
etrax.network.record_trial(network, task, etrax.tasks.Recipe(n_rec=9))

# record_trace neuron too large
# ValueError: `neuron` must be a whole number from 0 to 5, got 99.
etrax.network.record_trace(network, task, recipe, trial, neuron=99)

# record_trace trial index
# TypeError: `trial` must be a Trial, got 0 | give what `record_trial` returned
etrax.network.record_trace(network, task, recipe, 0)

# fit unknown method
# ValueError: `method` must be one of d_rtrl, d_rtrl_depth, es_d_rtrl, eprop
etrax.experiment.fit(task, recipe, method="backprop")

# fit arguments swapped
# TypeError: `task` must be an etrax.tasks.Task | write e.g. `etrax.tasks.get('dms')`
etrax.experiment.fit(recipe, task)

# fit task name
# TypeError: `task` must be an etrax.tasks.Task, got 'dms' | write e.g. `etrax.tasks.get('dms')`
etrax.experiment.fit("dms")

# fit optimizer object
# ValueError: `optimizer` must be one of adam, adamw, adabelief, rmsprop, sgd; got
etrax.experiment.fit(task, recipe, optimizer=braintools.optim.Adam(1e-3))

# fit schedule unknown
# ValueError: `schedule` must be one of cosine, exponential, constant; got 'linear'.
etrax.experiment.fit(task, recipe, schedule="linear")

# fit option unknown
# TypeError: TrainOptions.__init__() got an unexpected keyword argument 'lr'
etrax.experiment.fit(task, recipe, lr=3)

# fit seed string
# ValueError: `seed` must be a whole number from 0 to 2**32 - 1, got '0'.
etrax.experiment.fit(task, recipe, seed="0")

# check_choices
# ValueError: `optimizer` must be one of adam, adamw, adabelief, rmsprop, sgd; got
etrax.experiment.check_choices(optimizer="lion2")

# check_choices misspelt
# TypeError: `optimiser` is no choice to check | `optimizer` and `schedule` are
etrax.experiment.check_choices(optimiser="adam")

# dale share percent
# ValueError: `inhibitory` must be a share from 0 to 1, got 20.
etrax.experiment.dale(10, 20, 20)

# dale n float
# ValueError: `n_in` must be a whole number above 0, got 10.0.
etrax.experiment.dale(10.0, 20, 0.2)

# training_options unknown
# TypeError: TrainOptions.__init__() got an unexpected keyword argument 'lr'
etrax.experiment.training_options(recipe, lr=3)

# training_options of task
# TypeError: `recipe` must be an etrax.tasks.Recipe | write e.g. `etrax.tasks.Recipe(n_rec=100)`
etrax.experiment.training_options(task)

# Comparison of regression
# ValueError: `task` 'patterns' has no classes | methods are compared by their accuracy
etrax.comparison.Comparison(task, folder)

# Comparison methods a string
# TypeError: `methods` must be several names, got 'd_rtrl' | write `methods=('d_rtrl',)`
etrax.comparison.Comparison(dms, folder, methods="d_rtrl")

# Comparison unknown method
# ValueError: `method` must be one of d_rtrl, d_rtrl_depth, es_d_rtrl, eprop
etrax.comparison.Comparison(dms, folder, methods=("d_rtrl", "sgd"))

# Comparison seeds list
# ValueError: `seeds` must be a whole number above 0, got [0, 1].
etrax.comparison.Comparison(dms, folder, seeds=[0, 1])

# Comparison seeds zero
# ValueError: `seeds` must be a whole number above 0, got 0.
etrax.comparison.Comparison(dms, folder, seeds=0)

# Comparison threshold percent
# ValueError: `threshold` must be an accuracy above 0 and up to 1, got 90.
etrax.comparison.Comparison(dms, folder, threshold=90)

# Comparison no methods
# ValueError: `methods` must name one or more, each once; got none.
etrax.comparison.Comparison(dms, folder, methods=())

# Comparison folder missing
# TypeError: Comparison.__init__() missing 1 required positional argument: 'folder'
etrax.comparison.Comparison(dms)

# Comparison options unknown
# TypeError: TrainOptions.__init__() got an unexpected keyword argument 'lr'
etrax.comparison.Comparison(dms, folder, lr=1e-3)

# Comparison task name
# TypeError: `task` must be an etrax.tasks.Task, got 'dms' | write e.g. `etrax.tasks.get('dms')`
etrax.comparison.Comparison("dms", folder)

# Comparison methods twice
# ValueError: `methods` must name one or more, each once; got d_rtrl, d_rtrl.
etrax.comparison.Comparison(dms, folder, methods=("d_rtrl", "d_rtrl"))

# Comparison updates zero
# ValueError: `updates` must be a whole number above 0, got 0.
etrax.comparison.Comparison(dms, folder, updates=0)
""")
