"""Figures, and the command line."""

from .table import read

__all__ = ["ROWS"]

ROWS = read("""
# plot_learning empty
# ValueError: `history` holds nothing to draw | its rows must have e.g. `epoch` and `train_loss`, as those
etrax.plots.plot_learning([])

# plot_learning result
# TypeError: `history` must be a list of dicts | give e.g. `etrax.train(...).history`
etrax.plots.plot_learning(etrax.TrainResult(learner, [], 0, 0.0, "data", None))

# plot_learning of losses
# TypeError: `history` must be a list of dicts, got [0.3, 0.2, 0.1] | give e.g. `etrax.train(...).history`
etrax.plots.plot_learning([0.3, 0.2, 0.1])

# plot_learning of dict of lists
# TypeError: `history` must be a list of dicts | give e.g. `etrax.train(...).history`
etrax.plots.plot_learning({"train_loss": [1, 2]})

# plot_learning rows without epoch
# ValueError: `history` holds nothing to draw | its rows must have e.g. `epoch` and `train_loss`, as those
etrax.plots.plot_learning([{"loss": 1.0}])

# plot_learning titles a list
# TypeError: `titles` must be a dict, got ['a'] | write e.g. `{'d_rtrl': 'D-RTRL'}`
etrax.plots.plot_learning([{"epoch": 1, "train_loss": 1.0}], titles=["a"])

# plot_confusion evaluation missing
# TypeError: `evaluation` must be what `etrax.training.evaluate` gives, got
etrax.plots.plot_confusion(np.eye(2), ("a", "b"))

# plot_confusion classes too few
# ValueError: `classes` has 2 names, but there are 3 classes | give one for each, e.g. `task.classes`
etrax.plots.plot_confusion(etrax.training.Evaluation(0.5, 0.75, 10.0, np.array([0, 1, 2]), np.array([0, 1, 2])), ("a", "b"))

# plot_confusion regression
# ValueError: `evaluation` has no answers to count | it is that of a regression
etrax.plots.plot_confusion(etrax.training.Evaluation(0.5, float("nan"), 10.0, np.array([], int), np.array([], int)), ())

# plot_confusion classes a number
# TypeError: `classes` must be the names of the classes, got 2 | write e.g. `('left', 'right')`
etrax.plots.plot_confusion(etrax.training.Evaluation(0.5, 0.75, 10.0, np.array([0, 1]), np.array([0, 1])), 2)

# plot_heat 1d
# ValueError: `trace` must have two axes, got shape (5,) | pick one trial, e.g. `values[:, 0]`
etrax.plots.plot_heat(np.ones(5))

# plot_heat empty
# ValueError: `trace` has shape (0, 5) | give at least one step and one neuron
etrax.plots.plot_heat(np.ones((0, 5)))

# plot_heat string
# TypeError: `trace` must be a number or an array | write e.g. `jnp.asarray(...)`
etrax.plots.plot_heat("trace")

# plot_heat nan
# ValueError: `trace` holds NaN or infinity | look for its cause, or cut it out
etrax.plots.plot_heat(np.full((4, 4), np.nan))

# plot_raster batch
# ValueError: `spikes` must have two axes, got shape (5, 3, 4) | pick one trial, e.g. `values[:, 0]`
etrax.plots.plot_raster(np.ones((5, 3, 4)))

# plot_raster empty
# ValueError: `spikes` has shape (0, 4) | give at least one step and one neuron
etrax.plots.plot_raster(np.ones((0, 4)))

# plot_raster with unit
# ValueError: `spikes` is in mV but must be a plain number, without a unit | write e.g. `1.0`
etrax.plots.plot_raster(np.ones((5, 4)) * u.mV)

# plot_raster no dt
# ValueError: `dt` is not set | put the call inside `with brainstate.environ.context(dt=1.0
with brainstate.environ.context(dt=None):
    etrax.plots.plot_raster(np.ones((5, 4)))

# plot_raster nan
# ValueError: `spikes` holds NaN or infinity | look for its cause, or cut it out
etrax.plots.plot_raster(np.full((5, 4), np.nan))

# plot_rasters of array
# TypeError: `trial` must be what `etrax.network.record_trial` gives
etrax.plots.plot_rasters(np.ones((5, 4)), ("a",))

# plot_rasters classes too few
# ValueError: `classes` has 1 names, but there are 3 classes | give one for each, e.g. `task.classes`
etrax.plots.plot_rasters(trial, ("a",))

# plot_states array
# TypeError: `trial` must be what `etrax.network.record_trial` gives
etrax.plots.plot_states(np.ones((5, 4)))

# plot_states neuron too high
# ValueError: `neurons` has 99, but there are 6 of them | give numbers from 0 to 5
etrax.plots.plot_states(trial, neurons=[99])

# plot_states neuron a number
# TypeError: `neurons` must be several numbers, got 1 | write e.g. `neurons=[1]`
etrax.plots.plot_states(trial, neurons=1)

# plot_quantities empty
# ValueError: `traces` is empty | there is nothing to draw
etrax.plots.plot_quantities({})

# plot_quantities 1d
# ValueError: `V` must have two axes, got shape (5,) | pick one trial, e.g. `values[:, 0]`
etrax.plots.plot_quantities({"V": np.ones(5) * u.mV})

# plot_quantities lengths differ
# ValueError: `traces` must have one length | take the steps of one trial
etrax.plots.plot_quantities({"V": np.ones((5, 3)), "a": np.ones((4, 3))})

# plot_quantities neuron
# ValueError: `neurons` has 7, but there are 3 of them | give numbers from 0 to 2
etrax.plots.plot_quantities({"V": np.ones((5, 3))}, neurons=[7])

# plot_quantities neuron float
# ValueError: `neurons` has 0.5, but there are 3 of them | give numbers from 0 to 2
etrax.plots.plot_quantities({"V": np.ones((5, 3))}, neurons=[0.5])

# plot_seeds empty
# ValueError: `curves` is empty | there is nothing to draw
etrax.plots.plot_seeds({})

# plot_seeds 1d curve
# ValueError: `a` must have two axes, got shape (4,) | pick one trial, e.g. `values[:, 0]`
etrax.plots.plot_seeds({"a": np.ones(4)})

# plot_seeds x length
# ValueError: `x` has 2 positions, but `a` has 4 columns | give one for each
etrax.plots.plot_seeds({"a": np.ones((2, 4))}, x=[1, 2])

# plot_memory lengths
# ValueError: `a` of `memory` has shape (2,), but `lengths` (3,) | give one for each
etrax.plots.plot_memory([1, 2, 3], {"a": [1, 2]})

# plot_memory empty
# ValueError: `memory` is empty | there is nothing to draw
etrax.plots.plot_memory([], {})

# plot_memory swapped
# TypeError: `memory` must be a dict, got [1, 2] | write e.g. `{'D-RTRL': [2**20, 2**21]}`
etrax.plots.plot_memory({"a": [1, 2]}, [1, 2])

# plot_memory wrong unit
# ValueError: `a` of `memory` is in ms but must be a plain number, without a unit | write e.g. `1.0`
etrax.plots.plot_memory([1, 2], {"a": [1, 2] * u.ms})

# plot_alignment learner
# TypeError: `report` must be what `etrax.gradient_report` gives
etrax.plots.plot_alignment(learner)

# save arguments swapped
# TypeError: `figure` must be what a function of `etrax.plots` gives, got
import matplotlib.pyplot as plt
etrax.plots.save(folder + "/x.png", plt.figure())

# save suffix
# ValueError: ends in 'doc', which is no kind of picture | one of eps, gif, jpg, jpeg, pdf, pgf, png, ps, raw, rgba
import matplotlib.pyplot as plt
etrax.plots.save(plt.figure(), folder + "/x.doc")

# save missing folder
# FileNotFoundError: lies in no folder
import matplotlib.pyplot as plt
etrax.plots.save(plt.figure(), folder + "/no/x.png")

# neuron positional V_th
# ValueError: `V_reset` of LIF must be below `V_th`, got 1 mV where `V_th` is 0 mV.
LIF(4, 1 * u.ohm, 20 * u.ms, 0 * u.mV, 1 * u.mV)

# CLI unknown command
# SystemExit: error: `command` must be one of train, experiment, figures;
cli("trian", "digits")

# CLI unknown task
# SystemExit: etrax train | error: `task` must be one of digits, dms, evidence
cli("train", "mnist")

# CLI no task
# SystemExit: etrax train | error: the following arguments are required: TASK
cli("train")

# CLI unknown option
# SystemExit: etrax train | error: unrecognized arguments: --lr 0.1
cli("train", "patterns", "--lr", "0.1")

# CLI epochs a word
# SystemExit: etrax train | error: argument --epochs: invalid int value: 'many'
cli("train", "patterns", "--epochs", "many")

# CLI method unknown
# SystemExit: etrax train | error: `method` must be one of d_rtrl, d_rtrl_depth
cli("train", "patterns", "--method", "backprop")

# CLI resume missing
# SystemExit: etrax train | error: `resume`
cli("train", "patterns", "--resume", folder + "/nothing")

# CLI experiment seeds zero
# SystemExit: etrax experiment | error: `seeds` must be a whole number above 0, got 0
cli("experiment", "dms", "--seeds", "0")

# CLI experiment of regression
# SystemExit: etrax experiment | error: `task` 'patterns' has no classes: methods are
cli("experiment", "patterns")

# CLI dt zero
# SystemExit: etrax train | error: unrecognized arguments: --dt 0
cli("train", "patterns", "--dt", "0")

# CLI one string
# SystemExit: error: `command` must be one of train, experiment, figures;
cli(*"train patterns")

# CLI n_rec float
# SystemExit: etrax train | error: unrecognized arguments: --n-rec 2.5
cli("train", "patterns", "--n-rec", "2.5")

# CLI out in missing
# SystemExit: etrax train | error: `update` must be one of step, chunk, trial, or a
cli("train", "patterns", "--update", "week")
""")
