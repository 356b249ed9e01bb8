"""One mixture for each of many data sets."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxgmm.families.table import form_of
from jaxgmm.ground import checks, known
from jaxgmm.ground.programs import program
from jaxgmm.ground.progress import Bar
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.sets import read
from jaxgmm.selection.restarts import Plan, Restarts, best_of_restarts
from jaxgmm.selection.rooms import Chunk, Layout, over_sets, stacked


def fit_many(
    key: jax.Array,
    xs: Any,
    n_components: Any,
    form: Any = "full",
    *,
    max_components: int | None = None,
    weights: Any = None,
    chunk_size: int | None = None,
    progress: bool = False,
    n_restarts: int = 1,
    n_finalists: int = 4,
    screening_tol: Any = 1e-3,
    methods: Sequence[str] | None = None,
    spurious: Any = False,
    lanes: int | None = 1,
    tol: Any = 1e-6,
    max_iter: Any = 1000,
    regularization: Any = 1e-6,
    scale: Any = None,
    objective: Any = None,
    acceleration: str | None = "anderson",
    history_size: int = 128,
    block_size: int | None = None,
) -> Restarts:
    """`fit_restarts` of each of many data sets, as a stack.

    The data sets go through one compiled program in chunks: on a GPU side by side under `vmap`, on a CPU one after the
    other on every core. A data set that cannot be fitted carries its status, and leaves the others alone. For many fits
    inside `jit`, use `jax.vmap` or `jax.lax.map` of `fit_restarts` itself.

    Args:
        key: what is drawn is drawn with this key.
        xs: an array (b, n, d), or a sequence of b arrays (n_i, d) of different lengths. Those are filled up with rows
            of weight 0 to powers of two: as few of these as it is worth compiling for.
        n_components: number of components, for all data sets or for each (b,).
        max_components: as for `init`; default the largest `n_components`.
        form: as for `init`.
        weights: of the rows, (b, n) or a sequence of b arrays (n_i,). Default ones.
        chunk_size: data sets in one call, of any number of them. Default 8, 32 or 64 on a CPU, the more of them there
            are; elsewhere as many as take some gigabytes, up to 16,384, and fewer where there are fewer.
        progress: show a progress bar (needs tqdm).
        scale: of each column (d,), the same for all data sets; by default each has its own.

    All others are as for `fit_restarts`.

    Returns:
        `Restarts` with a leading axis b on every field.

    Raises:
        TypeError, ValueError: as for `fit_restarts`, naming the data set. But one that holds NaN or inf in a row of
            positive weight, has no rows or no weight has the status `NON_FINITE`.

    >>> import jax, jaxgmm
    >>> xs = jax.random.normal(jax.random.key(0), (100, 50, 2))
    >>> jaxgmm.fit_many(jax.random.key(1), xs, 2, "diag").best.mixture.means.shape
    (100, 2, 2)
    """
    key = checks.key(key)
    given = read(xs, weights)
    if len(given.sets) > 1:
        widths = [part.x.shape[1] for part in given.sets]
        raise ValueError(
            f"xs holds data sets of {', '.join(map(str, widths))} columns, and mixtures of a stack are all in as many. "
            f"Call fit_many for each: [x for x in xs if x.shape[1] == {widths[0]}]; select_many takes all of them."
        )
    sets = given.sets[0]
    n, d = len(sets.lengths), sets.x.shape[1]
    counts = np.broadcast_to(np.asarray(n_components), (n,))
    most = int(counts.max()) if max_components is None else checks.count("max_components", max_components)
    for count in np.unique(counts).tolist():
        checks.present("n_components", count, "max_components", most)
    form_of(form).check(sets.together, "all data sets, one after the other,")
    behind, evidence = form_of(form).n_background, sets.beside.get("log_evidence")
    known.check_sizes(evidence, sets.classes, np.unique(counts).tolist(), "fit_many", behind)
    plan = Plan.of(
        sets.x.dtype,
        (most, d),
        form,
        n_restarts=n_restarts,
        n_finalists=n_finalists,
        screening_tol=screening_tol,
        methods=methods,
        spurious=spurious,
        lanes=lanes,
        tol=tol,
        max_iter=max_iter,
        regularization=regularization,
        scale=scale,
        objective=objective,
        acceleration=acceleration,
        history_size=history_size,
        block_size=block_size,
    )
    if chunk_size is not None:
        chunk_size = checks.count("chunk_size", chunk_size)
    layout = Layout.of(sets.lengths, plan.n_restarts * most * d, chunk_size)
    counts = counts.astype(np.int32)
    with Bar(n, progress, "data sets") as bar:
        call = functools.partial(_fit_each, plan, key, max_components=most)
        done = over_sets(call, sets, lambda job: (job.of(counts),), layout.jobs(sets.lengths), bar)
        return jax.device_put(stacked(done, n))


@program(
    static=("max_components",),
    work=lambda plan, key, chunk, counts, *, max_components: 30 * plan.n_restarts * max_components * chunk.work,
)
def _fit_each(plan: Plan, key: jax.Array, chunk: Chunk, counts: Int[Array, " c"], *, max_components: int) -> Restarts:
    def one(number: Int[Array, ""], rows: Evidence, count: Int[Array, ""]) -> Restarts:
        return best_of_restarts(plan, jax.random.fold_in(key, number), rows, jnp.arange(max_components) < count)

    return chunk.each(one, counts)
