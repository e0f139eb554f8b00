"""Bad input gets an error that names the argument, its value and the fix, before any long work."""

import brainstate
import braintools
import brainunit as u
import jax.numpy as jnp
import pytest

import etrax
from etrax.learners.requests import reduced
from etrax.neurons import BRF, LIF, Izhikevich, LeakyReadout
from etrax.synapses import CUBA, AlignPostProj, DeltaProj, Expon

B, T, I, N = 2, 6, 3, 4


class Net(brainstate.nn.Module):
    def __init__(self, unit=u.mS, scale=u.volt, bias=None):
        super().__init__()
        self.neu = LIF(N)
        comm = brainstate.nn.Linear(I, N, w_init=braintools.init.KaimingNormal(unit=unit), b_init=bias)
        self.syn = AlignPostProj(comm=comm, syn=Expon(N), out=CUBA(scale), post=self.neu)
        self.out = LeakyReadout(N, 2, pre=self.neu)

    def update(self, x):
        self.syn(x)
        return self.out(self.neu())


xs = jnp.ones((T, B, I))


def compiled(net=None):
    return etrax.compile(net or Net(), etrax.D_RTRL, xs[0], batch_size=B)


def grad(learner, *sequences, step=None, **options):
    return learner.etrace_grad(*sequences, step_fn=step or (lambda x: jnp.sum(learner(x) ** 2)), **options)


def test_no_dt():
    with brainstate.environ.context(dt=None), pytest.raises(ValueError, match=r"`dt` is not set.*environ\.context\(dt"):
        compiled()


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda: Net(unit=u.mV), r"in mV but `syn` Expon takes mS.*KaimingNormal"),
        (lambda: Net(scale=1.0), r"CUBA gives mS.*is in mA.*CUBA\(scale="),
        (lambda: Net(bias=braintools.init.ZeroInit()), r"`comm` of AlignPostProj\S* mixes units.*b_init"),
    ],
)
def test_wrong_units(net, message):
    with pytest.raises(ValueError, match=message):
        compiled(net())


def test_delta_in_wrong_unit():
    net = Net()
    net.jump = DeltaProj(
        comm=brainstate.nn.Linear(I, N, w_init=braintools.init.KaimingNormal(unit=u.mA), b_init=None), post=net.neu
    )
    net.update = lambda x: (net.syn(x), net.jump(x), net.out(net.neu()))[-1]
    with pytest.raises(ValueError, match="in mA but the potential of LIF takes mV"):
        compiled(net)


def test_constants():
    with pytest.raises(ValueError, match="`tau` is in mV but must be in units like ms"):
        LIF(N, tau=10.0 * u.mV)
    with pytest.raises(ValueError, match=r"`V_th` must be a scalar or fit the shape \(4,\)"):
        LIF(N, V_th=jnp.ones(3) * u.mV)
    with pytest.raises(ValueError, match="`tau` is in mV but must be in units like ms"):
        Expon(N, tau=brainstate.ParamState(5.0 * u.mV))


def test_constants_that_do_not_fit_each_other():
    for cls in (etrax.neurons.ExpIF, etrax.neurons.AdExIF):
        with pytest.raises(
            ValueError, match=f"`spk_reset` is 'soft', but {cls.__name__} resets to `V_reset`: write 'hard'"
        ):
            cls(2, spk_reset="soft")
    with pytest.raises(ValueError, match="`spk_reset` is 'soft', but Izhikevich's neuron resets to `c`: write 'hard'"):
        Izhikevich(N, spk_reset="soft")
    with pytest.raises(
        ValueError, match=r"`omega` must be at most 1 / dt, but dt \* omega is 1.5 at dt = .*ms: take a smaller"
    ):
        BRF(N, omega=1.5 / u.ms).init_state()


def test_input_that_does_not_fit_the_model():
    with pytest.raises(ValueError, match=r"does not run on an example input of shape \(2, 5\).*number of inputs"):
        etrax.compile(Net(), etrax.D_RTRL, jnp.ones((B, 5)), batch_size=B)
    net = Net()
    net.update = lambda x: (
        net.syn(u.math.concatenate([x[..., :2], net.neu.get_spike()[..., :1]], -1)),
        net.out(net.neu()),
    )[-1]
    with pytest.raises(
        ValueError, match=r"does not run on an example input of shape \(2, 3\).*None for an input without"
    ):
        etrax.compile(net, etrax.D_RTRL, xs[0])


def test_batch_sizes_differ():
    with pytest.raises(ValueError, match=r"`batch_size` is 5 but example input 0 has shape \(2, 3\)"):
        etrax.compile(Net(), etrax.D_RTRL, xs[0], batch_size=5)
    learner = compiled()
    with pytest.raises(ValueError, match=r"inputs of shape \(2, 3\) but got \(5, 3\)"):
        grad(learner, jnp.ones((T, 5, I)))
    with pytest.raises(ValueError, match="compile again"):
        learner.reset_state(batch_size=5)


def test_sequences():
    learner = compiled()
    with pytest.raises(ValueError, match=r"one length T.*sequence 0: 6, sequence 1: 5"):
        grad(learner, xs, xs[:5])
    with pytest.raises(ValueError, match=r"empty \(T = 0\)"):
        grad(learner, xs[:0])
    with pytest.raises(ValueError, match="no sequence given"):
        grad(learner)
    with pytest.raises(ValueError, match=r"sequence 0 holds NaN, first at step 3, sample 1, index \(3, 1, 2\)"):
        grad(learner, xs.at[3, 1, 2].set(jnp.nan))
    with pytest.raises(ValueError, match=r"input 0 holds NaN, first at sample 1, index \(1, 2\)"):
        learner(xs[0].at[1, 2].set(jnp.nan))
    with pytest.raises(ValueError, match=r"`mask` must have shape \(6,\)"):
        grad(learner, xs, mask=jnp.ones(4))
    with pytest.raises(ValueError, match="`chunk_size` must be at least 1, got 0"):
        grad(learner, xs, chunk_size=0)
    with pytest.raises(TypeError, match="`chunk_size` must be None or an int, got 2.5"):
        grad(learner, xs, chunk_size=2.5)
    with pytest.raises(ValueError, match="`reduction` must be 'mean' or 'sum', got 'max'"):
        grad(learner, xs, reduction="max")


def test_not_compiled():
    net = Net()
    brainstate.nn.init_all_states(net, batch_size=B)
    learner = etrax.D_RTRL(net)
    for use in (lambda: learner(xs[0]), lambda: grad(learner, xs), learner.report):
        with pytest.raises(RuntimeError, match=r"not compiled: call `learner.compile_graph\(x0\)`"):
            use()


def test_states_not_initialised():
    with pytest.raises(RuntimeError, match="no states yet: call `brainstate.nn.init_all_states"):
        etrax.D_RTRL(Net()).compile_graph(xs[0])


def test_unreached_parameter():
    net = Net()
    net.forgotten = brainstate.ParamState(jnp.ones(3))
    with pytest.raises(ValueError, match="parameter forgotten reaches neither a state nor an output"):
        compiled(net)


@pytest.mark.filterwarnings("ignore:.* is trained and must be:UserWarning")
def test_parameter_of_integers():
    net = Net()
    net.neu.tau = brainstate.ParamState(3 * u.ms)
    with pytest.raises(ValueError, match=r"neu\.tau is of type int\d+, which has no gradient: .*3\.0"):
        compiled(net)


def test_parameter_outside_a_projection():
    net = Net()
    net.drive = brainstate.nn.Linear(I, N, w_init=braintools.init.KaimingNormal(unit=u.mA), b_init=None)
    net.update = lambda x: (net.syn(x), net.out(net.neu(net.drive(x))))[-1]
    with pytest.warns(
        UserWarning, match=r"credit of drive\.weight is lost: it acts on neu\.V, out\.s outside a projection.*`comm`"
    ):
        compiled(net)


def test_parameter_without_path_to_the_loss():
    learner = compiled()

    def step(x):
        learner(x)
        return jnp.sum(learner.model.out.weight.value**2)

    with pytest.raises(
        ValueError, match=r"no path that is followed leads from the parameter syn\.comm\.weight to the loss.*`weights=`"
    ):
        grad(learner, xs, step=step)
    only = {("out", "weight"): learner.param_states["out", "weight"]}
    assert set(grad(learner, xs, step=step, weights=only)) == set(only)
    with pytest.raises(TypeError, match="`weights` must be a dict of paths and ParamStates, got list"):
        grad(learner, xs, step=step, weights=[("out", "weight")])
    with pytest.raises(ValueError, match="`weights` is empty"):
        grad(learner, xs, step=step, weights={})


def test_step_function():
    learner = compiled()
    with pytest.raises(ValueError, match=r"scalar loss for one step, got shape \(2, 2\)"):
        grad(learner, xs, step=lambda x: learner(x))
    with pytest.raises(ValueError, match="called the learner 0 times"):
        grad(learner, xs, step=lambda x: jnp.sum(learner.model(x)))
    with pytest.raises(ValueError, match="called the learner 2 times"):
        grad(learner, xs, step=lambda x: jnp.sum(learner(x) + learner(x)))


def test_states_created_anew():
    net = Net()
    first = compiled(net)
    second = compiled(net)
    grad(second, xs)
    with pytest.raises(RuntimeError, match="created anew after this learner was compiled"):
        grad(first, xs)


def test_dt_changes():
    learner = compiled()
    with brainstate.environ.context(dt=0.5 * u.ms), pytest.raises(ValueError, match=r"`dt` is 0.5 ms now but was"):
        grad(learner, xs)


def test_arguments_of_modules():
    neu = LIF(N)
    comm = brainstate.nn.Linear(I, N)
    with pytest.raises(ValueError, match="`spk_reset` must be 'soft' or 'hard', got 'medium'"):
        LIF(N, spk_reset="medium")
    with pytest.raises(ValueError, match=r"`syn` has shape \(3,\) but `post` has \(4,\)"):
        AlignPostProj(comm=comm, syn=Expon(3), out=CUBA(), post=neu)
    with pytest.raises(TypeError, match=r"both be instances or both descriptions"):
        AlignPostProj(comm=comm, syn=Expon.desc(N), out=CUBA(), post=neu)
    with pytest.raises(TypeError, match="`post` must be an etrax.Neuron"):
        DeltaProj(comm=comm, post=comm)
    with pytest.raises(TypeError, match="`comm` must be a layer"):
        DeltaProj(comm=3, post=neu)
    with pytest.raises(ValueError, match=r"`in_size` is \(3,\) but `pre` has shape \(4,\)"):
        LeakyReadout(3, 2, pre=neu)


def test_readout_of_something_else():
    net = Net()
    net.update = lambda x: (net.syn(x), net.out(2.0 * net.neu()))[-1]
    with pytest.raises(ValueError, match=r"exactly the value that `pre\(...\)` returned"):
        compiled(net)
    net = Net()  # ahead of its neurons, whose spikes are then those of the step before
    net.update = lambda x: (net.syn(x), net.out(2.0 * net.neu.get_spike()), net.neu())[1]
    with pytest.raises(ValueError, match=r"ahead of the call of `pre`, with `pre.get_spike\(\)`"):
        compiled(net)


def test_unknown_algorithm():
    with pytest.raises(ValueError, match="one of d_rtrl, no_trace, eprop, dfa, bptt, rtrl, .*got 'uoro'"):
        etrax.compile(Net(), "uoro", xs[0], batch_size=B)


def test_no_neurons():
    with pytest.raises(ValueError, match="no etrax neurons"):
        etrax.compile(brainstate.nn.Linear(I, N), etrax.D_RTRL, xs[0], batch_size=B)


def test_unknown_weight():
    with pytest.raises(ValueError, match=r"has no trace; parameters with one: syn\.comm\.weight"):
        compiled().get_etrace_of(("out", "weight"))


# -- NaN and infinity ----------------------------------------------------------------------


def step_of(learner):
    """A step function of inputs and targets."""
    return lambda x, y: jnp.mean((learner(x) - y["of"]) ** 2)


ys = {"of": jnp.ones((T, B, 2))}
first = jnp.arange(T) > 0  # all steps but the first count


def test_data_that_are_not_finite_are_named():
    learner = compiled()
    fn = step_of(learner)
    for value, word in ((jnp.nan, "NaN"), (-jnp.inf, "infinity")):
        for x, y, mask, message in (
            (
                xs.at[0, 1, 2].set(value),
                ys,
                first,
                rf"sequence 0 holds {word}, first at step 0, sample 1, index \(0, 1, 2\)",
            ),
            (
                xs,
                {"of": ys["of"].at[4, 1, 0].set(value)},
                first,
                rf"sequence 1\['of'\] holds {word}, first at step 4, sample 1",
            ),
            (
                xs,
                ys,
                first.astype(float).at[2].set(value),
                rf"`mask` holds ({word}|a negative weight), first at step 2.*from 0 on",
            ),
        ):
            with pytest.raises(ValueError, match=message):
                learner.etrace_grad(x, y, step_fn=fn, mask=mask)
    with pytest.raises(
        ValueError, match="`mask` holds a negative weight, first at step 5: give finite weights from 0 on"
    ):
        learner.etrace_grad(xs, ys, step_fn=fn, mask=first.astype(float).at[5].set(-1))
    with pytest.raises(ValueError, match="input 0 holds infinity, first at sample 1"):
        learner(xs[0].at[1, 2].set(jnp.inf))
    assert learner.etrace_grad(jnp.ones((T, B, I)), {"of": ys["of"], "none": jnp.ones((T, 0))}, step_fn=fn)


@pytest.mark.parametrize("algorithm", [etrax.D_RTRL, etrax.BPTT, etrax.RTRL])
def test_what_a_call_leaves_is_looked_at(algorithm):
    learner = etrax.compile(Net(), algorithm, xs[0], batch_size=B)
    weight, V, good = learner.model.out.weight, learner.model.neu.V, learner.model.out.weight.value

    def call(fn=step_of(learner), **options):
        return learner.etrace_grad(xs, ys, step_fn=fn, **options)

    def infinite(x, y):
        return jnp.sum(learner(x)) + 1 / jnp.sum(y["of"])

    def steep(x, y):
        return jnp.sum(jnp.sqrt(0 * learner(x)))

    def spoilt():
        V.value = V.value.at[1, 2].set(jnp.nan * u.mV)

    zero = {"of": ys["of"].at[3].set(0.0)}
    for spoil, message in (
        (
            lambda: (setattr(weight, "value", good * jnp.inf), call()),
            r"the weight out\.weight held infinity .*index \(0, 0\)",
        ),
        (lambda: (spoilt(), call()), r"the state neu\.V held NaN after the last call, first at sample 1"),
        (
            lambda: learner.etrace_grad(xs, zero, step_fn=infinite),
            "the loss held infinity after the last call, first at step 3",
        ),
        (lambda: call(steep), r"the gradient of .* held NaN after the last call"),
    ):
        for told in (learner.check, call, lambda: learner(xs[0])):
            learner.reset_state()
            spoil()
            weight.value = good
            learner.reset_state()
            with pytest.raises(FloatingPointError, match=message):
                told()
            learner.check()  # once
    spoilt()
    with pytest.raises(FloatingPointError, match=r"the state neu\.V held NaN"):
        learner.check()
    learner.reset_state()
    learner.etrace_grad(xs, zero, step_fn=infinite, mask=jnp.arange(T) != 3)
    learner.check()  # a loss that does not count


def test_in_jit_it_is_a_value():
    learner = compiled()
    fn, weight = step_of(learner), learner.model.out.weight

    @brainstate.transform.jit
    def run(y):
        return learner.etrace_grad(xs, y, step_fn=fn, mask=first, return_value=True, return_finite=True)

    _, losses, finite = run(ys)
    assert finite
    assert jnp.all(jnp.isfinite(losses))
    assert not run({"of": ys["of"].at[3].set(jnp.nan)})[-1]
    learner.check()  # none of its own
    weight.value = weight.value * jnp.nan
    assert not run(ys)[-1]
    with pytest.raises(FloatingPointError, match=r"the weight out\.weight held NaN"):
        learner.check()


def test_a_loss_that_does_not_count_is_not_reduced():
    losses = jnp.array([jnp.nan, 1.0, jnp.inf, 3.0])
    mask = jnp.array([0.0, 1.0, 0.0, 1.0])
    assert reduced(losses, mask, "mean", "scalar") == 2.0
    assert reduced(losses, mask, "sum", "masked").tolist() == [0.0, 1.0, 0.0, 3.0]
