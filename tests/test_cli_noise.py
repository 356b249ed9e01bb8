"""A noise component on the command line."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import jaxgmm
from jaxgmm.cli.applying import quantiles_of

from tolerance import dtype

pytestmark = pytest.mark.skipif(dtype() is not np.float64, reason="the program has its own dtype")
FAST = ("--components", "2", "--forms", "diag", "--restarts", "4")


@pytest.fixture
def table(tmp_path):
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, -1], [150, 150, 60])
    rows = np.where(
        labels[:, None] < 0, random.uniform(-8, 14, (360, 2)), random.normal(size=(360, 2)) + 6 * labels[:, None]
    )
    found = pd.DataFrame(rows, columns=["a", "b"]).assign(kind=np.where(labels == 0, "low", ""), true=labels)
    found.to_csv(tmp_path / "rows.csv", index=False)
    return found


def test_noise_is_minus_one(run, table):
    outputs = ("--out", "m.npz", "--assign", "a.csv", "--sort", "a")
    printed, _, code = run("fit", "rows.csv", "-c", "a,b", *FAST, "--noise-component", *outputs)
    assert code == 0
    assert "diag + noise" in printed
    assert "-1, noise" in printed
    assigned = pd.read_csv("a.csv")
    assert np.mean(assigned["component"] == table["true"]) > 0.93
    mixture = jaxgmm.load("m.npz")
    assert mixture.noise_component == 2
    metadata = jaxgmm.load_metadata("m.npz")["fit"]
    assert (metadata["form"], metadata["n_components"], metadata["outliers"]) == ("diag + noise", 2, [])
    assert run("predict", "m.npz", "rows.csv", "-o", "p.csv", "--probabilities")[2] == 0
    predicted = pd.read_csv("p.csv")
    pd.testing.assert_series_equal(predicted["component"], assigned["component"])
    shares = predicted[["p0", "p1", "p_noise"]]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (shares["p_noise"][assigned["component"] == -1] >= 1 / 3).all()
    shown = json.loads(run("show", "m.npz", "--json")[0])
    assert shown["n_components"] == len(shown["means"]) == len(shown["weights"]) == 2
    assert np.isclose(shown["noise"]["weight"] + sum(shown["weights"]), 1)
    assert "2 components and noise over 2 columns, Gaussian diag" in run("show", "m.npz")[0]
    drawn = pd.read_csv(pd.io.common.StringIO(run("sample", "m.npz", "--rows", "500", "--labels")[0]))
    assert set(drawn["component"]) == {-1, 0, 1}


def test_rows_far_out_are_anomalies(run, table):
    """Beside the clusters, as noise is as dense there as anywhere."""
    assert run("fit", "rows.csv", "-c", "a,b", *FAST, "--noise-component", "--out", "m.npz")[2] == 0
    table[["a", "b"]].iloc[:50].to_csv("more.csv", index=False)
    with open("more.csv", "a") as more:
        more.write("1e6,-1e6\n")
    for share in ("0.01", "0.1"):
        _, told, code = run("score", "m.npz", "more.csv", "-o", "s.csv", "--quantile", share)
        assert code == 0
        assert "The log-density is that of the clusters" in told
        scored = pd.read_csv("s.csv")
        assert scored["anomaly"].iloc[-1]
        assert scored["anomaly"].mean() < 0.5
    clusters = jaxgmm.load("m.npz").take([0, 1])
    np.testing.assert_allclose(scored["log_density"][:-1], clusters.log_prob(scored[["a", "b"]].to_numpy()[:-1]))


def test_noise_alone_has_a_density_too(run, table):
    clusters = jaxgmm.from_parameters([1.0], [[0.0, 0.0]], [1.0], "spherical")
    noise = dataclasses.replace(jaxgmm.with_noise(clusters, 100.0), log_weights=np.array([-np.inf, 0.0]))
    x = table[["a", "b"]].to_numpy()
    assert quantiles_of(jax.tree.map(jnp.asarray, noise), x, np.ones(len(x)), None)["values"][0] == -np.log(100.0)


def test_all_models_before_noise(run, table, monkeypatch):
    tried = []

    def first(key, x, ks, forms, **options):
        tried.extend(map(str, forms))
        return select(key, x, ks, forms[:1], **options)

    select = jaxgmm.select
    monkeypatch.setattr(jaxgmm, "select", first)
    few = ("--components", "2", "--forms", "mclust", "--restarts", "1", "--noise-component")
    assert run("fit", "rows.csv", "-c", "a,b", *few)[2] == 0
    assert len(tried) == 14
    assert {"full + noise", "VEE + noise"} <= set(tried)


def test_beside_names_it_is_called_noise(run, table):
    assert (
        run("fit", "rows.csv", "-c", "a,b", *FAST, "--noise-component", "--labels", "kind", "--assign", "a.csv")[2] == 0
    )
    found = pd.read_csv("a.csv")["component"]
    assert set(found) == {"low", "component 1", "noise"}
    assert (found[table["kind"] == "low"] == "low").all()


def test_of_each_group(run, table):
    table.assign(group=np.arange(360) % 2).to_csv("rows.csv", index=False)
    options = ("--by", "group", "-c", "a,b", *FAST, "--noise-component", "--out", "out.csv", "--assign", "a.csv")
    assert run("fit", "rows.csv", *options)[2] == 0
    mixtures, rows = pd.read_csv("out.csv"), pd.read_csv("a.csv")
    assert (mixtures["form"] == "diag + noise").all()
    assert ((mixtures["weight[noise]"] - 1 / 6).abs() < 0.06).all()
    assert set(rows["component"]) == {-1, 0, 1}
    assert np.mean((rows["component"] == -1) == (table["true"] == -1)) > 0.93


def test_what_has_no_noise_says_so(run, table):
    _, complaint, code = run("fit", "rows.csv", "--noise-component", "--objective", "variational")
    assert code == 2
    assert "no noise component" in complaint
