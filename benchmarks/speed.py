"""Time of one gradient over a sequence, side by side with backpropagation through time and other packages.

All contenders get the same network, weights, inputs and loss. Gradients are compared before anything is timed: one that
should agree with its reference (bptt, or per-step for D-RTRL) to 1e-4 and does not ends the benchmark.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from pathlib import Path

import brainstate
import brainunit as u
import jax
import numpy as np
from cases import DT, Case, Data
from common import RESULTS, Called, Compiled, case_from, environment, flat, norm, table, write
from contenders import NAMES, Contender, Unavailable, build, default, parse

TOLERANCE = 1e-4  # relative difference of gradients of the same estimator, float32
LOSS_TOLERANCE = 1e-5  # a step's loss, relative to the mean loss: more means that a spike differs
REFERENCE = {"bptt": "bptt", "d-rtrl": "per-step"}


def arguments(argv=None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="contenders, with options as name[:chunk][:key=value], e.g. etrax:128:carry=window:\n"
        + "\n".join(f"  {name:24}{what}" for name, what in NAMES.items()),
    )
    add = parser.add_argument
    add("--networks", nargs="+", default=["lif-plain"], metavar="N", help="(lif|alif)-(plain|leaky)[-detached] ...")
    add("--sizes", nargs="+", default=["100-128-16-256"], metavar="S", help="inputs-neurons-batch-steps ...")
    add("--layers", type=int, default=1, help="recurrent layers of that many neurons each")
    add("--recurrent", type=float, default=0.25, metavar="R", help="size of recurrent weights against the others")
    add("--contenders", nargs="+", default=None, metavar="C", help="what to measure; everything if left out, see below")
    add(
        "--chunks",
        nargs="+",
        default=["64", "128", "256", "T"],
        metavar="K",
        help="chunk sizes of the default contenders",
    )
    add("--skip", nargs="+", default=[], metavar="C", help="contenders to leave out, by the start of their name")
    add("--repeats", type=int, default=7, help="timed runs of each contender, round-robin")
    add("--slow-limit", type=float, default=60.0, metavar="SEC", help="one run only of what takes longer than this")
    add("--check-steps", type=int, metavar="T", help="compare gradients of the first T steps only (large networks)")
    add("--seed", type=int, default=0, help="seed of weights and data")
    add("--out", type=Path, default=RESULTS / "speed.json", help="results; the figure goes beside it")
    return parser.parse_args(argv)


class Checker:
    """Compares gradients with those of the references, which are compiled for the first ``steps`` steps.

    Where two simulations part in float32 (a potential within rounding of the threshold), gradients are compared over the
    steps before that one, by masking the loss of the others; if that is less than an eighth of them, they disagree.
    """

    def __init__(self, case: Case, data: Data, steps: int):
        self.case, self.data, self.steps = case, data, steps
        self.references = {}
        for estimator, spec in REFERENCE.items():
            self.references[estimator] = Compiled(
                lambda spec=spec: build(parse(spec, case.steps), case, data), *self._args(steps, steps)
            )
        self.full = {estimator: self._run(program, steps, steps) for estimator, program in self.references.items()}
        for estimator, (grads, _) in self.full.items():
            silent = [name for name, g in grads.items() if not norm(g) > 0]
            if silent:
                sys.exit(
                    f"{case.name}: the gradient of {estimator} is zero for {', '.join(silent)}: nothing to compare."
                )

    def _args(self, length, steps):
        mask = (np.arange(length) < steps).astype(np.float32)
        return self.data.xs[:length], self.data.ys[:length], jax.numpy.asarray(mask)

    def _run(self, program, length, steps):
        grads, losses = program(*self._args(length, steps))
        return flat(grads), np.asarray(losses)

    def __call__(self, contender: Contender, program: Compiled) -> dict:
        """Differences to both references; exits where an agreement is missing."""
        grads, losses = self._run(program, self.case.steps, self.steps)
        every = np.stack([losses[: self.steps], *(losses for _, losses in self.full.values())])
        apart = np.ptp(every, axis=0) > LOSS_TOLERANCE * np.abs(every).mean()
        steps = int(np.argmax(apart)) if apart.any() else self.steps
        found = {"loss": float(losses.mean()), "steps_compared": steps}
        if steps < max(1, self.steps // 8):
            _refuse(self.case, contender, "bptt", f"has another loss, from step {steps} on,")
        if contender.estimator == "none":
            return found
        found["without_gradient"] = [name for name, g in grads.items() if not norm(g) > 0]
        references = {estimator: grads for estimator, (grads, _) in self.full.items()}
        if steps < self.steps:
            grads, _ = self._run(program, self.case.steps, steps)
            references = {k: self._run(p, self.steps, steps)[0] for k, p in self.references.items()}
        for estimator, reference in references.items():
            each = {name: norm(grads[name] - reference[name]) / norm(reference[name]) for name in reference}
            worst = found[f"difference_to_{estimator}"] = max(each.values())
            found[f"differences_to_{estimator}"] = each
            if estimator == contender.estimator and not worst <= TOLERANCE:
                _refuse(
                    self.case, contender, REFERENCE[estimator], f"has a gradient that differs by {worst:.1e} (relative)"
                )
        hidden = [name for name in references["bptt"] if name != "readout"]
        a, b = (np.concatenate([g[name] for name in hidden]) for g in (grads, references["bptt"]))
        found["cosine_to_bptt"] = float(a @ b / (norm(a) * norm(b) or 1.0))
        return found


def _refuse(case, contender, reference, what):
    sys.exit(
        f"{case.name}: {contender.spec!r} {what} from {reference!r} over the same data: not timed. Same estimator, so one of "
        "the two is wrong."
    )


def measure(case: Case, options: argparse.Namespace) -> dict:
    """Compile, compare and time all contenders of one network."""
    data = Data(case, options.seed)
    print(f"\n{case.name}: spikes per step {', '.join(f'{100 * r:.1f} %' for r in data.rates)}", flush=True)
    checker = Checker(case, data, min(case.steps, options.check_steps or case.steps))
    specs = options.contenders or default(options.chunks)
    results, programs = {}, {}
    for spec in dict.fromkeys(s for s in specs if not s.startswith(tuple(options.skip))):
        contender = parse(spec, case.steps)
        if (
            contender.chunk is not None
            and contender.chunk >= case.steps
            and ":T" not in spec
            and not options.contenders
        ):
            continue  # the same as T
        row = {"estimator": contender.estimator, "note": contender.note}
        try:
            make = Called if contender.kind == "etrax-called" else Compiled
            program = make(lambda c=contender: build(c, case, data), data.xs, data.ys, data.mask)
        except Unavailable as reason:
            print(f"  {spec}: left out, {reason}", flush=True)
            results[spec] = {**row, "left_out": str(reason)}
            continue
        row.update({f"{k}_s": v for k, v in program.seconds.items()}, **program.cost)
        row.update(checker(contender, program))
        if row.get("without_gradient"):
            row["note"] += f"; no gradient for {', '.join(row['without_gradient'])}"
        results[spec], programs[spec] = row, program
    args = data.xs, data.ys, data.mask
    times = {spec: [program.timed(*args)] for spec, program in programs.items()}
    rounds = [[s for s in programs if times[s][0] <= options.slow_limit]] * options.repeats
    for i, names in enumerate(rounds):
        for spec in names[i % len(names) :] + names[: i % len(names)]:
            times[spec].append(programs[spec].timed(*args))
    for spec, runs in times.items():
        runs = runs[1:] or runs  # the first run only warms up
        results[spec].update(median_s=statistics.median(runs), min_s=min(runs), max_s=max(runs), runs=len(runs))
    return {"case": vars(case) | {"name": case.name}, "spikes_per_step": data.rates, "contenders": results}


def report(result: dict) -> str:
    """The table of one network."""
    rows, contenders = [], result["contenders"]

    def ratio(row, base):
        return (
            f"{row['median_s'] / contenders[base]['median_s']:.2f}" if "median_s" in contenders.get(base, {}) else "-"
        )

    def number(row, key, form, scale=1.0):
        return format(row[key] / scale, form) if row.get(key) is not None else "-"

    for spec, row in contenders.items():
        if "median_s" not in row:
            rows.append([spec, *["-"] * 12, f"left out: {row['left_out']}"[:80]])
            continue
        rows.append(
            [
                spec,
                number(row, "median_s", ".4f"),
                f"{row['min_s']:.4f}-{row['max_s']:.4f}",
                ratio(row, "bptt"),
                ratio(row, "forward"),
                number(row, "difference_to_d-rtrl", ".0e"),
                number(row, "difference_to_bptt", ".0e"),
                number(row, "cosine_to_bptt", ".3f"),
                f"{row['setup_s'] + row['trace_s'] + row['compile_s']:.1f}",
                number(row, "product_flops", ".2f", 1e9),
                number(row, "elementwise", ".2f", 1e9),
                number(row, "xla_flops", ".3f", 1e9),
                number(row, "temp_bytes", ".1f", 1e6),
                row["note"] + (f" ({row['runs']} run)" if row["runs"] == 1 else ""),
            ]
        )
    header = ["contender", "median s", "min-max", "/ bptt", "/ forward", "d(D-RTRL)", "d(BPTT)", "cos(BPTT)", "first s"]
    return table(rows, [*header, "Gflop", "Gelem", "XLA Gf", "temp MB", "estimator"])


def draw(figure, results: list[dict]) -> None:
    """One row of bars per network, times with their spread."""
    rows = max(len(r["contenders"]) for r in results)
    figure.set_size_inches(8, len(results) * (0.8 + 0.22 * rows))
    axes = figure.subplots(len(results), squeeze=False)[:, 0]
    colours = {"none": "0.6", "bptt": "tab:blue", "d-rtrl": "tab:red", "other": "tab:orange"}
    for ax, result in zip(axes, results, strict=True):
        shown = {s: r for s, r in result["contenders"].items() if "median_s" in r}
        middle = np.array([r["median_s"] for r in shown.values()])
        spread = np.abs([[r["min_s"], r["max_s"]] for r in shown.values()] - middle[:, None]).T
        ax.barh(list(shown), middle, xerr=spread, color=[colours[r["estimator"]] for r in shown.values()], ecolor="0.3")
        ax.set(xscale="log", xlabel="seconds per gradient", title=result["case"]["name"])
        ax.invert_yaxis()
        for i, (m, r) in enumerate(zip(middle, spread[1], strict=True)):
            ax.text((m + r) * 1.05, i, f"{m:.3g}", va="center", fontsize="small")
        ax.margins(x=0.15)
    labels = {"none": "forward only", "bptt": "BPTT", "d-rtrl": "D-RTRL", "other": "another estimator"}
    handles = [axes[0].barh([0], [0], color=c, label=labels[k]) for k, c in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)


def main(argv=None) -> None:
    """Measure every network and size, print tables, write results."""
    options = arguments(argv)
    if options.repeats < 5:
        print("fewer than 5 runs: the median says little", file=sys.stderr)
    try:
        cases = [
            case_from(n, s, options.layers, recurrent=options.recurrent)
            for n, s in itertools.product(options.networks, options.sizes)
        ]
        for case, spec in itertools.product(cases, options.contenders or default(options.chunks)):
            parse(spec, case.steps)
    except (ValueError, argparse.ArgumentTypeError) as error:
        sys.exit(f"speed.py: {error}")
    brainstate.environ.set(dt=DT * u.ms)
    where = environment()
    print(f"{where['platform']} ({where['device']}), {where['cpu_cores']} cores, jax {where['versions']['jax']}")
    results = []
    for case in cases:
        results.append(measure(case, options))
        print(report(results[-1]), flush=True)
        write(options.out, {"environment": where, "seed": options.seed, "results": results}, lambda f: draw(f, results))
    print(
        "\nd(..): relative difference of gradients, worst parameter. first s: set-up, tracing and compiling. Gflop, Gelem: matrix\n"
        "products and element-wise results the program asks for, loops multiplied out. XLA Gf: XLA's count, loop bodies once."
    )


if __name__ == "__main__":
    main()
