"""The peers: one iteration of EM from given parameters, and whole fits with a seeding of their own.

Imports are inside the functions, so that a peer that is absent or broken loses its own rows only. What a peer cannot do
raises, and the text of the exception becomes its row.
"""

import time
import warnings
from typing import Any

import numpy as np

from benchmarks.data import Parameters, compact, dense
from benchmarks.harness import Contender


def sklearn_iteration(x: np.ndarray, start: Parameters, structure: str) -> Contender:
    """The two steps that `GaussianMixture.fit` repeats, without the checks around them."""
    from sklearn.mixture import GaussianMixture
    from sklearn.mixture._gaussian_mixture import _compute_precision_cholesky

    model = GaussianMixture(len(start.weights), covariance_type=structure)
    given = [np.asarray(p, x.dtype) for p in (start.weights, start.means, compact(start.covariances, structure))]
    precisions = _compute_precision_cholesky(given[2], structure)

    def call(_: int) -> Any:
        model.weights_, model.means_, model.covariances_, model.precisions_cholesky_ = *given, precisions
        model._m_step(x, model._e_step(x)[1])
        return model

    return Contender(call, sklearn_parameters)


def sklearn_parameters(model: Any) -> Parameters:
    """Of a fitted `GaussianMixture`."""
    k, d = model.means_.shape
    return Parameters(model.weights_, model.means_, dense(model.covariances_, model.covariance_type, k, d))


def sklearn_fit(
    x: np.ndarray, k: int, structure: str, tol: float = 1e-3, init: str = "kmeans", seed: int = 0, **options: Any
) -> Contender:
    """`GaussianMixture.fit`; the seed of a call is added to `seed`."""
    from sklearn.mixture import GaussianMixture

    warnings.filterwarnings("ignore", message="Best performing initialization did not converge")

    def call(i: int) -> Any:
        settings = {"max_iter": 1000, "random_state": seed + i} | options
        return GaussianMixture(k, covariance_type=structure, tol=tol, init_params=init, **settings).fit(x)

    return Contender(call, sklearn_parameters, {"tol": tol, "seeding": init})


def gmmx_iteration(x: np.ndarray, start: Parameters, structure: str) -> Contender:
    """Its E-step and M-step under one jit."""
    import jax
    import jax.numpy as jnp
    from gmmx import EMFitter, GaussianMixtureModelJax

    given = [jnp.asarray(p, x.dtype) for p in (start.means, compact(start.covariances, structure), start.weights)]
    mixture = GaussianMixtureModelJax.from_squeezed(*given, covariance_type=structure)
    fitter = EMFitter()
    step = jax.jit(lambda rows, mixture: fitter.m_step(rows, mixture, fitter.e_step(rows, mixture)[1]))
    rows = jnp.asarray(x)
    return Contender(lambda _: jax.block_until_ready(step(rows, mixture)), gmmx_parameters)


def gmmx_parameters(mixture: Any) -> Parameters:
    """Of a `GaussianMixtureModelJax`."""
    k, d = mixture.means_numpy.shape
    covariances = np.asarray(mixture.covariances.values_dense, np.float64).reshape(k, d, d)
    return Parameters(mixture.weights_numpy.reshape(k), mixture.means_numpy, covariances)


def gmmx_fit(x: np.ndarray, k: int, structure: str, tol: float = 1e-3, n_init: int = 1, seed: int = 0) -> Contender:
    """Seeding by its k-means, which is sklearn's, and `EMFitter.fit`."""
    import jax
    import jax.numpy as jnp
    from gmmx import EMFitter, GaussianMixtureModelJax

    rows, fitter = jnp.asarray(x), EMFitter(tol=tol, max_iter=1000)

    def call(i: int) -> Any:
        options = {"n_init": n_init, "random_state": seed + i}
        start = GaussianMixtureModelJax.from_k_means(x, k, covariance_type=structure, **options)
        return jax.block_until_ready(fitter.fit(rows, start).gmm)

    return Contender(call, gmmx_parameters, {"tol": tol, "seeding": "kmeans"})


def tgmm_iteration(x: np.ndarray, start: Parameters, structure: str) -> Contender:
    """The two steps that `GaussianMixture.fit` repeats, in blocks of rows where that is faster."""
    import torch
    from tgmm import GaussianMixture

    k, d = start.means.shape
    rows = torch.from_numpy(x)
    given = [torch.from_numpy(np.array(p, x.dtype)) for p in (start.weights, start.means)]
    given.append(torch.from_numpy(np.array(compact(start.covariances, structure), x.dtype)))
    model = GaussianMixture(
        n_components=k,
        n_features=d,
        covariance_type=structure,
        init_weights=given[0],
        init_means=given[1],
        init_covariances=given[2],
        device="cpu",
    )
    model.dtype = rows.dtype
    model._allocate_parameters(rows)
    model._fit_sw = None

    def call(_: int) -> Any:
        model.weights_, model.means_, model.covariances_ = given
        with torch.inference_mode():
            model._m_step(rows, model._e_step(rows)[0])
        return model

    timings = {}
    for model.batch_size in (None, 1024, 4096):
        start_time = time.perf_counter()
        call(0)
        timings[model.batch_size] = time.perf_counter() - start_time
    model.batch_size = min(timings, key=timings.get)
    return Contender(call, tgmm_parameters, {"block_size": model.batch_size})


def tgmm_parameters(model: Any) -> Parameters:
    """Of a fitted tgmm `GaussianMixture`."""
    k, d = model.means_.shape
    structure = model.covariance_type.removesuffix("_full")
    covariances = dense(model.covariances_.numpy(), structure, k, d)
    return Parameters(model.weights_.numpy().astype(np.float64), model.means_.numpy().astype(np.float64), covariances)


def tgmm_fit(x: np.ndarray, k: int, structure: str, init: str = "kmeans", seed: int = 0) -> Contender:
    """`GaussianMixture.fit` with its own tolerance, which is relative to the log-likelihood."""
    import torch
    from tgmm import GaussianMixture

    warnings.filterwarnings("ignore", module="tgmm")
    rows = torch.from_numpy(x)

    def call(i: int) -> Any:
        with torch.inference_mode():
            options = {"init_means": init, "random_state": seed + i, "device": "cpu"}
            return GaussianMixture(n_components=k, covariance_type=structure, **options).fit(rows)

    return Contender(call, tgmm_parameters, {"tol": 1e-4, "seeding": init})


def pomegranate_iteration(x: np.ndarray, start: Parameters, structure: str) -> Contender:
    """`summarize` and `from_summaries` of a `GeneralMixtureModel` of `Normal`s."""
    import torch
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    if structure == "tied":
        raise NotImplementedError("Normal has no tied covariances")
    name = "sphere" if structure == "spherical" else structure
    rows = torch.from_numpy(x)
    # Its buffers take the default dtype.
    torch.set_default_dtype(rows.dtype)
    # It takes one variance per column even where it keeps them equal.
    shape = "diag" if structure == "spherical" else structure
    tensors = [torch.from_numpy(np.array(p, x.dtype)) for p in (*start[:2], compact(start.covariances, shape))]
    k, d = start.means.shape

    def fresh() -> Any:
        parts = [Normal(tensors[1][i].clone(), tensors[2][i].clone(), covariance_type=name) for i in range(k)]
        return GeneralMixtureModel(parts, priors=tensors[0].clone())

    model = fresh()
    start_state = [(part.means.clone(), part.covs.clone()) for part in model.distributions], model.priors.clone()

    def call(_: int) -> Any:
        with torch.inference_mode():
            for part, (means, covs) in zip(model.distributions, start_state[0], strict=True):
                part.means.copy_(means)
                part.covs.copy_(covs)
                part._reset_cache()
            model.priors.copy_(start_state[1])
            model._reset_cache()
            model.summarize(rows)
            model.from_summaries()
        return model

    def parameters(model: Any) -> Parameters:
        arrays = [[getattr(part, field).numpy() for part in model.distributions] for field in ("means", "covs")]
        covariances = dense(np.stack(arrays[1]), shape, k, d)
        return Parameters(model.priors.numpy().astype(np.float64), np.stack(arrays[0]).astype(np.float64), covariances)

    return Contender(call, parameters)


ITERATIONS = {
    "sklearn": sklearn_iteration,
    "gmmx": gmmx_iteration,
    "tgmm": tgmm_iteration,
    "pomegranate": pomegranate_iteration,
}


def gmm_gpu_fits(x: np.ndarray, k: int, tol: float, looked_at: int) -> Contender:
    """gmm-gpu's batch of fits, for data sets (fits, n, d), with full covariances and its own seeding, on the card."""
    import torch
    from gmm_gpu.gmm import GMM

    kind = torch.float64 if x.dtype == np.float64 else torch.float32
    rows = torch.as_tensor(x, dtype=kind, device="cuda")

    def call(seed: int) -> Any:
        model = GMM(k, max_iter=1000, device="cuda", tol=tol, dtype=kind, random_seed=seed + 1)
        model.fit(rows)
        torch.cuda.synchronize()
        return model

    def parameters(model: Any) -> list[Parameters]:
        weights, means, covariances = (
            torch.stack([part[:looked_at] for part in parts], dim=1).cpu().numpy()
            for parts in (model._pi, model.means, model.covs)
        )
        return [Parameters(*one) for one in zip(weights, means, covariances, strict=True)]

    return Contender(call, parameters)
