"""2-Wasserstein distances: of Gaussian components, in closed form, and of mixtures by transport between components."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgmm.divergences.roots import safe_sqrt
from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.model.mixture import Mixture, check_pair

# The tightest that HiGHS takes; masses are 1 in all, costs at most 1.
_TOLERANCE = 1e-10


@record
class Transport:
    """Outcome of `mixture_wasserstein`.

    Fields: `distance` (), in the units of the data; `plan` (k_p, k_q), the mass that goes from each component of p to
    each of q. Its rows sum to the weights of p, its columns to those of q. It has no derivative.
    """

    distance: Leaf
    plan: Leaf


def bures_distance(p: Mixture, q: Mixture) -> Float[Array, "k l"]:
    """Bures-Wasserstein distance of each component of p from each of q: the 2-Wasserstein distance of two Gaussians.

    For N(a, S) and N(b, T)::

        W^2 = |a - b|^2 + tr(S + T - 2 (S^1/2 T S^1/2)^1/2)

    With equal means, it is the Bures distance of the covariances. The last term is taken as the least squared distance
    of a factor of S from rotated factors of T, so it keeps its digits where the two are close. Where two components are
    equal, the distance is 0 and its gradient, which has no direction there, is 0. In particular the square has the
    right gradient everywhere.

    Args:
        p, q: mixtures of the same columns and family; their weights do not matter.

    Returns:
        (k_p, k_q), in the units of the data.

    Raises:
        TypeError, ValueError: not mixtures, or of different columns or families.
        NotImplementedError: a family without such distances.

    Source: Bhatia, Jain & Lim (2019), Expo. Math. 37.

    >>> import jaxgmm
    >>> p = jaxgmm.from_parameters([1.0], [[0.0, 0.0]], [[1.0, 1.0]], "diag")
    >>> q = jaxgmm.from_parameters([1.0], [[0.0, 3.0]], [[25.0, 1.0]], "diag")  # 3 and 5 - 1 away
    >>> f"{jaxgmm.bures_distance(p, q)[0, 0]:.3f}"
    '5.000'
    """
    return _bures_distance(*check_pair(p, q))


def mixture_wasserstein(p: Mixture, q: Mixture) -> Transport:
    """The 2-Wasserstein distance of two mixtures where mass moves between whole components (MW2).

    The cheapest plan P >= 0 that turns the weights w of p into the weights v of q, at costs that are the components'
    squared distances::

        distance^2 = min sum_ij P_ij W(p_i, q_j)^2  with  sum_j P_ij = w_i,  sum_i P_ij = v_j

    It is a distance of mixtures, not below their 2-Wasserstein distance, and equal to it for single components. The
    small linear programme is solved exactly (HiGHS), on the host, also under `jit` and `vmap`, where lanes take turns.

    The distance is differentiable in all parameters. By the envelope theorem, the derivatives of its square are the
    plan in the costs and the dual prices in the weights. Where the cheapest plan or the prices are not unique, they
    give one of several one-sided derivatives; where the distance is 0, the gradient is 0.

    Args:
        p, q: mixtures of the same columns and family. Absent components carry no mass.

    Returns:
        A `Transport`; its numbers are NaN where a cost is not finite.

    Raises:
        TypeError, ValueError: not mixtures, or of different columns or families.
        NotImplementedError: a family without squared 2-Wasserstein distances.

    Source: Delon & Desolneux (2020), SIAM J. Imaging Sci. 13.

    >>> import jaxgmm
    >>> p = jaxgmm.from_parameters([0.5, 0.5], [[0.0], [8.0]], [1.0, 1.0], "spherical")
    >>> q = jaxgmm.from_parameters([0.25, 0.75], [[8.0], [0.0]], [1.0, 1.0], "spherical")
    >>> found = jaxgmm.mixture_wasserstein(p, q)  # a quarter of the mass goes 8 away
    >>> f"{found.distance:.3f}", found.plan.round(3).tolist()
    ('4.000', [[0.0, 0.5], [0.25, 0.25]])
    """
    return _mixture_wasserstein(*check_pair(p, q))


@program
def _bures_distance(p: Mixture, q: Mixture) -> Float[Array, "k l"]:
    return safe_sqrt(p.components.squared_wasserstein(q.components))


@program
def _mixture_wasserstein(p: Mixture, q: Mixture) -> Transport:
    costs = p.components.squared_wasserstein(q.components)
    square, plan = _transport(costs, jax.nn.softmax(p.log_weights), jax.nn.softmax(q.log_weights))
    return Transport(safe_sqrt(square), jax.lax.stop_gradient(plan))


@jax.custom_jvp
def _transport(
    costs: Float[Array, "k l"], supply: Float[Array, " k"], demand: Float[Array, " l"]
) -> tuple[Float[Array, ""], Float[Array, "k l"]]:
    plan, _, _ = _solved(costs, supply, demand)
    return jnp.sum(plan * costs), plan


@_transport.defjvp
def _(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Any, Any]:
    plan, first, second = _solved(*primals)
    change = jnp.sum(plan * tangents[0]) + jnp.sum(first * tangents[1]) + jnp.sum(second * tangents[2])
    return (jnp.sum(plan * primals[0]), plan), (change, jnp.zeros_like(plan))


def _solved(costs: Float[Array, "k l"], supply: Float[Array, " k"], demand: Float[Array, " l"]) -> list[Array]:
    """The plan (k, l), and the prices of supply (k,) and demand (l,)."""
    shapes = [jax.ShapeDtypeStruct(shape, costs.dtype) for shape in (costs.shape, supply.shape, demand.shape)]
    # A linear programme is no derivative's business: the rule above has what there is.
    given = jax.lax.stop_gradient((costs, supply, demand))
    return jax.pure_callback(_programme, shapes, *given, vmap_method="sequential")


def _programme(costs: Any, supply: Any, demand: Any) -> list[np.ndarray]:
    """Supply and demand balanced in double precision, then the cheapest plan on a vertex, and its dual prices."""
    from scipy import optimize, sparse

    kind = np.asarray(costs).dtype
    costs, supply, demand = (np.asarray(array, np.float64) for array in (costs, supply, demand))
    (k, m), unit = costs.shape, np.max(costs, initial=0.0)
    failed = [np.full(shape, np.nan, kind) for shape in ((k, m), (k,), (m,))]
    if not all(np.all(np.isfinite(array)) for array in (costs, supply, demand)):
        return failed
    unit = unit if unit > 0 else 1.0
    rows = sparse.vstack([sparse.kron(sparse.eye(k), np.ones((1, m))), sparse.kron(np.ones((1, k)), sparse.eye(m))])
    found = optimize.linprog(
        costs.ravel() / unit,
        A_eq=rows.tocsr(),
        b_eq=np.concatenate([supply / supply.sum(), demand / demand.sum()]),
        method="highs-ds",
        options={"primal_feasibility_tolerance": _TOLERANCE, "dual_feasibility_tolerance": _TOLERANCE},
    )
    if found.status != 0:
        return failed
    prices = found.eqlin.marginals * unit
    return [array.astype(kind) for array in (found.x.reshape(k, m), prices[:k], prices[k:])]
