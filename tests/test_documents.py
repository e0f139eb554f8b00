"""The documents say what the code does: equations are numbered, cited and true; what they name is there."""

import io
import re
import tokenize
from pathlib import Path

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import etrax

ROOT = Path(__file__).parents[1]
MATHEMATICS = ROOT / "docs" / "mathematics.md"
CODE = sorted(path for folder in ("plugin", "neurons", "synapses") for path in (ROOT / folder).rglob("*.py"))

NUMBER = r"\((\d+)\)"
CITED = re.compile(rf"[Ee]quations? ((?:{NUMBER}|, | and | to )+) of docs/mathematics\.md")


def numbers_in(text):
    """Numbers of equations in a text; ``(3) to (5)`` names all three."""
    text = " ".join(text.split())
    found = [int(n) for n in re.findall(NUMBER, text)]
    for first, last in re.findall(rf"{NUMBER} to {NUMBER}", text):
        found += range(int(first), int(last) + 1)
    return set(found)


def cited_in(source):
    """Numbers that a module cites: in sentences that name the document, and in comments that are nothing but numbers."""
    prose = re.sub(r"\s*\n\s*(# )?", " ", source)
    found = [numbers_in(match[1]) for match in CITED.finditer(prose)]
    comments = [t.string for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT]
    found += [
        numbers_in(c) for c in comments if re.fullmatch(rf"# {NUMBER}(, {NUMBER}| to {NUMBER}| and {NUMBER})*", c)
    ]
    return set().union(*found)


def equations():
    """Numbers of the equations of the document, in its order, and its text without them."""
    text = MATHEMATICS.read_text()
    blocks = re.findall(r"^\$\$\n(.*?)\n\$\$$", text, re.DOTALL | re.MULTILINE)
    tags = [re.findall(r"\\tag\{(\d+)\}", block) for block in blocks]
    assert all(len(tag) == 1 for tag in tags), "one number for each equation"
    return [int(tag) for (tag,) in tags], re.sub(r"^\$\$\n.*?\n\$\$$", "", text, flags=re.DOTALL | re.MULTILINE)


def test_equations_have_consecutive_numbers():
    numbers, _ = equations()
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 20


def test_numbers_that_the_code_cites_exist():
    known = set(equations()[0])
    assert not {(path.name, n) for path in CODE for n in cited_in(path.read_text()) - known}


def test_every_equation_is_cited():
    numbers, text = equations()
    cited = set().union(*(cited_in(path.read_text()) for path in CODE))
    assert len(cited) > 20, "the code cites the document"
    assert set(numbers) <= cited | numbers_in(text)


@pytest.mark.parametrize(
    ("source", "numbers"),
    [
        ('"""See equation (7) of docs/mathematics.md."""', {7}),
        ('"""Equations (3) to (5) and (9)\n    of docs/mathematics.md."""'.replace("E", "e"), {3, 4, 5, 9}),
        ("# by equations (2), (4) and\n# (6) of docs/mathematics.md\n", {2, 4, 6}),
        ("a = b  # (12)\n", {12}),
        ("a = b  # (12), (13)\n", {12, 13}),
        ("a = b  # LIF(4), and (5) is no equation\n", set()),
        ("a = f(3)\n", set()),
    ],
)
def test_citations_are_noticed(source, numbers):
    assert cited_in(source) == numbers


def test_what_the_documents_name_is_there():
    for document in (MATHEMATICS, ROOT / "CONTRIBUTING.md", ROOT / "tests" / "README.md"):
        text = document.read_text()
        for path in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (document.parent / path).exists(), f"{document.name} links to {path}"
        for path, name in re.findall(
            r"`((?:tests|benchmarks|plugin|neurons|synapses|docs)/[\w/.]+)(?:::(\w+))?`", text
        ):
            assert (ROOT / path).exists() or path.endswith("/mine.py"), f"{document.name} names {path}"
            if name:
                assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path} has no {name}"
        targets = set(re.findall(r"`make ([\w ]+)`", text)) | set(re.findall(r"^make ([\w ]+?) *#", text, re.MULTILINE))
        phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
        assert {word for words in targets for word in words.split()} <= set(phony)
        heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
        assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def test_the_index_of_the_tests_names_every_file():
    text = (ROOT / "tests" / "README.md").read_text()
    files = {path.name for path in (ROOT / "tests").glob("*.py")}
    assert set(re.findall(r"`(\w+\.py)`", text)) == files
    assert set(re.findall(r"`(\w+/)`", text)) <= {f"{p.name}/" for p in ROOT.iterdir()}


class Example(brainstate.nn.Module):
    """The example of section 2."""

    tau, tau_g, tau_s, scale, R, V_th, V_reset, V_rest = 10.0, 5.0, 15.0, 2.0, 1.5, 1.0, -0.2, 0.1

    def __init__(self, W, W_out):
        super().__init__()
        n_in, n = W.shape
        self.neu = etrax.neurons.LIF(
            n,
            R=self.R * u.ohm,
            tau=self.tau * u.ms,
            V_th=self.V_th * u.mV,
            V_reset=self.V_reset * u.mV,
            V_rest=self.V_rest * u.mV,
        )
        self.syn = etrax.synapses.AlignPostProj(
            comm=brainstate.nn.Linear(n_in, n, w_init=W * u.mS, b_init=None),
            syn=etrax.synapses.Expon(n, tau=self.tau_g * u.ms),
            out=etrax.synapses.CUBA(scale=self.scale * u.volt),
            post=self.neu,
        )
        self.out = etrax.neurons.LeakyReadout(n, W_out.shape[1], tau=self.tau_s * u.ms, w_init=W_out, pre=self.neu)

    def update(self, x):
        self.syn(x)
        return self.out(self.neu())


def surrogate(v):
    """H' of `braintools.surrogate.ReluGrad`."""
    return 0.3 * np.maximum(0.0, 1.0 - np.abs(v))


def test_the_equations_as_they_stand_give_the_gradient():
    """Sections 2, 5 and 6 in NumPy: by trace, by adjoint, and what `D_RTRL` says."""
    rng, B, I, N, O, K = np.random.default_rng(0), 2, 4, 3, 2, 20
    W, W_out = rng.uniform(0.1, 0.9, (I, N)), rng.normal(size=(N, O))
    xs, ys = (rng.random((K, B, I)) < 0.4) * 1.0, rng.normal(size=(K, B, O))
    net = Example(W, W_out)
    c, dt = net, 1.0
    kV, kg, ks = (np.exp(-dt / tau) for tau in (c.tau, c.tau_g, c.tau_s))
    span, states = c.V_th - c.V_reset, ("g", "V", "s")

    g = V = s = np.zeros((B, N))
    v = (V - c.V_th) / span
    D, f, L, z = [], [], [], (v >= 0) * 1.0
    spikes = 0
    for x, y in zip(xs, ys, strict=True):
        psi_before = surrogate(v) / span  # (43)
        g = kg * g + x @ W  # (6), (3)
        V = kV * (V - span * z) + (1 - kV) * (c.V_rest + c.R * c.scale * g)  # (7)
        v = (V - c.V_th) / span
        z = (v >= 0) * 1.0  # (8)
        s = ks * s + z  # (9)
        psi, spikes = surrogate(v) / span, spikes + z.sum()
        by_g, by_V = (1 - kV) * c.R * c.scale * kg, kV * (1 - span * psi_before)  # (12)
        D.append({("g", "g"): kg, ("V", "g"): by_g, ("V", "V"): by_V})
        D[-1] |= {("s", "g"): psi * by_g, ("s", "V"): psi * by_V, ("s", "s"): ks}
        f.append({"g": 1.0 + 0 * psi, "V": by_g / kg + 0 * psi, "s": psi * by_g / kg})
        L.append({"g": 0 * s, "V": 0 * s, "s": 2 * (s @ W_out - y) / y.size @ W_out.T})  # (18)
    assert spikes > 5

    eps, by_trace = {q: np.zeros((B, I, N)) for q in states}, np.zeros((I, N))
    for t, x in enumerate(xs):
        eps = {
            q: sum(np.broadcast_to(D[t].get((q, r), 0.0), (B, N))[:, None] * eps[r] for r in states)
            + f[t][q][:, None] * x[:, :, None]
            for q in states
        }  # (17)
        by_trace += sum((L[t][q][:, None] * eps[q]).sum(0) for q in states)  # (19)

    back, by_adjoint = dict.fromkeys(states, np.zeros((B, N))), np.zeros((I, N))
    M, end = {(q, r): np.full((B, N), float(q == r)) for q in states for r in states}, {}
    for t in reversed(range(K)):
        a = {q: L[t][q] + back[q] for q in states}  # (22)
        by_adjoint += xs[t].T @ sum(f[t][q] * a[q] for q in states)  # (23), (24)
        back = {r: sum(D[t].get((q, r), 0.0) * a[q] for q in states) for r in states}
        for q in states:
            F = sum(M[q, r] * f[t][r] for r in states)
            end[q] = end.get(q, 0.0) + F[:, None] * xs[t][:, :, None]  # (26)
        M = {(q, r): sum(M[q, k] * D[t].get((k, r), 0.0) for k in states) for q in states for r in states}  # (25)

    learner = etrax.compile(net, etrax.D_RTRL, jnp.asarray(xs[0]), batch_size=B)
    grads = learner.etrace_grad(
        jnp.asarray(xs),
        jnp.asarray(ys),
        step_fn=lambda x, y: jnp.mean((learner(x) - y) ** 2),
        chunk_size=7,
        reduction="sum",
    )
    got = u.get_mantissa(grads["syn", "comm", "weight"]["weight"])
    assert np.abs(by_trace).max() > 1e-3
    np.testing.assert_allclose(by_adjoint, by_trace, rtol=1e-10)
    np.testing.assert_allclose(got, by_trace, rtol=1e-10)
    traces = {
        path[-1]: u.get_mantissa(value["weight"]) for path, value in learner.get_etrace_of("syn.comm.weight").items()
    }
    for q in states:
        np.testing.assert_allclose(end[q], eps[q], rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(traces[q], eps[q], rtol=1e-10, atol=1e-14)
