"""Linear systems known only by their products with a vector."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.ground.linalg import einsum
from jaxgmm.ground.pytree import Leaf, record


@record
class _State:
    """A solution so far, and the directions in which the next correction of it is sought.

    For the matrix A and the basis V, A V_k^T = V_{k+1}^T H. `triangle` is H after the rotations that make it
    triangular, `target` what they make of the residual; entry k of it is what the best correction would leave.
    """

    solution: Leaf  # (p,)
    residual: Leaf  # (), what is missing there; inf before it has been looked at
    basis: Leaf  # (m + 1, p)
    triangle: Leaf  # (m, m)
    rotations: Leaf  # (m, 2), cosine and sine
    target: Leaf  # (m + 1,)
    size: Leaf  # directions in use; -1 between two cycles
    cycles: Leaf


def gmres(
    matvec: Callable[[Array], Array], target: Float[Array, " p"], tol: float, n_directions: int, n_cycles: int
) -> tuple[Float[Array, " p"], Float[Array, ""]]:
    """A solution of `matvec(x) = target`, and the norm of what is missing there, NaN if that is not finite.

    GMRES, which starts again after `n_directions` products and ends below `tol` times the target's norm or after
    `n_cycles` such starts. `matvec` is called in one place only, as XLA compiles every call of it anew.

    Source: Saad & Schultz (1986), SIAM J. Sci. Stat. Comput. 7.
    """
    goal, m = tol * _norm(target), min(n_directions, target.size)
    zeros = jnp.zeros_like(target, shape=(m + 1,))

    def unfinished(state: _State) -> Bool[Array, ""]:
        return (state.size >= 0) | jnp.isinf(state.residual)

    def advance(state: _State) -> _State:
        between = state.size < 0
        product = matvec(jnp.where(between, state.solution, state.basis[state.size]))
        return jax.lax.cond(between, begin, extend, state, product)

    def begin(state: _State, product: Float[Array, " p"]) -> _State:
        missing = target - product
        norm = _norm(missing)
        going_on = jnp.isfinite(norm) & (norm > goal) & (state.cycles < n_cycles)
        return dataclasses.replace(
            state,
            residual=jnp.where(jnp.isfinite(norm), norm, jnp.nan),
            basis=jnp.zeros_like(state.basis).at[0].set(missing / jnp.where(norm > 0, norm, 1)),
            triangle=jnp.eye(m, dtype=target.dtype),
            target=zeros.at[0].set(norm),
            size=jnp.where(going_on, 0, -1).astype(jnp.int32),
        )

    def extend(state: _State, product: Float[Array, " p"]) -> _State:
        k, places = state.size, jnp.arange(m)
        # Twice, or rounding would leave the directions less than orthogonal.
        shares, rest = _projected(state.basis, product)
        again, rest = _projected(state.basis, rest)
        norm = _norm(rest)

        def rotated(place: Int[Array, ""], column: Float[Array, " q"]) -> Float[Array, " q"]:
            (c, s), upper, lower = state.rotations[place], column[place], column[place + 1]
            turned = column.at[place].set(c * upper + s * lower).at[place + 1].set(c * lower - s * upper)
            return jnp.where(place < k, turned, column)

        column = jax.lax.fori_loop(0, m, rotated, (shares + again).at[k + 1].set(norm))
        length = jnp.hypot(column[k], column[k + 1])
        c, s = column[k] / jnp.where(length > 0, length, 1), column[k + 1] / jnp.where(length > 0, length, 1)
        column = jnp.where(places < k, column[:m], jnp.where(places == k, length, 0))
        left = state.target[k]
        longer = dataclasses.replace(
            state,
            basis=state.basis.at[k + 1].set(rest / jnp.where(norm > 0, norm, 1)),
            triangle=state.triangle.at[:, k].set(column),
            rotations=state.rotations.at[k].set(jnp.stack([c, s])),
            target=state.target.at[k].set(c * left).at[k + 1].set(-s * left),
            size=k + 1,
        )
        # Not `<= goal`, by which NaN would go on.
        enough = (k + 1 >= m) | ~(jnp.abs(s * left) > goal)
        return jax.lax.cond(enough, corrected, lambda state: state, longer)

    def corrected(state: _State) -> _State:
        wanted = jnp.where(jnp.arange(m) < state.size, state.target[:m], 0)
        shares = jax.lax.linalg.triangular_solve(state.triangle, wanted[:, None], left_side=True, lower=False)[:, 0]
        return dataclasses.replace(
            state,
            solution=state.solution + einsum("m,mp->p", shares, state.basis[:m]),
            residual=jnp.full_like(state.residual, jnp.inf),
            size=jnp.full_like(state.size, -1),
            cycles=state.cycles + 1,
        )

    end = jax.lax.while_loop(
        unfinished,
        advance,
        _State(
            solution=jnp.zeros_like(target),
            residual=jnp.asarray(jnp.inf, target.dtype),
            basis=jnp.zeros_like(target, shape=(m + 1, target.size)),
            triangle=jnp.eye(m, dtype=target.dtype),
            rotations=jnp.zeros_like(target, shape=(m, 2)),
            target=zeros,
            size=jnp.asarray(-1, jnp.int32),
            cycles=jnp.asarray(0, jnp.int32),
        ),
    )
    return end.solution, end.residual


def _projected(basis: Float[Array, "q p"], vector: Float[Array, " p"]) -> tuple[Float[Array, " q"], Float[Array, " p"]]:
    """The coordinates of a vector in an orthonormal basis, and what they leave of it."""
    shares = einsum("qp,p->q", basis, vector)
    return shares, vector - einsum("q,qp->p", shares, basis)


def _norm(vector: Float[Array, " p"]) -> Float[Array, ""]:
    return jnp.linalg.norm(vector)
