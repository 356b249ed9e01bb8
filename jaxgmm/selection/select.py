"""How many components, and of what structure: every candidate fitted and compared by a criterion."""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.families.coded import check_levels
from jaxgmm.families.family import Form
from jaxgmm.families.table import form_of, forms_of, listed
from jaxgmm.ground import checks, known
from jaxgmm.ground.progress import Bar
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.schema import Schema, schema_of
from jaxgmm.model.scale import scale_of
from jaxgmm.selection.candidates import CRITERIA, Selection
from jaxgmm.selection.contest import Contest, only, total_of
from jaxgmm.selection.criteria import criterion_of
from jaxgmm.selection.outliers import most_alone
from jaxgmm.selection.restarts import LANES, Plan

OUTLIERS = ("exclude", "keep")
# Fits of one model differ by so many times `tol`, which they compare with an estimate, and per unit weight.
_OPEN = 4
FORMS = ("full", "tied", "diag", "spherical")
# Starts by default, of up to so many numbers; fewer of more, and starts after which candidates are compared.
_STARTS, _NUMBERS, _ROUND = 40, 2**18, 4
# So often are rows looked for that stand alone, each of which may hide others.
LOOKS = 5


def select(
    key: jax.Array,
    x: Any,
    n_components: Iterable[int] | int = range(1, 11),
    forms: Sequence[str | Form] | str | Form = FORMS,
    *,
    criterion: str = "bic",
    weights: Any = None,
    n_folds: int = 5,
    outliers: str = "exclude",
    progress: bool = False,
    n_restarts: int | None = None,
    n_finalists: int = 4,
    screening_tol: Any = 1e-3,
    methods: Sequence[str] | None = None,
    spurious: Any = False,
    lanes: int | None = None,
    tol: Any = 1e-6,
    max_iter: Any = 1000,
    regularization: Any = 1e-6,
    scale: Any = None,
    objective: Any = None,
    acceleration: str | None = "anderson",
    history_size: int = 128,
    block_size: int | None = None,
) -> Selection:
    """The best number of components and form by a criterion, and all that it was chosen from.

    Every candidate is fitted by `fit_restarts`. Each form is compiled once: the numbers of components share one
    program that has room for the largest. A candidate that fails has its own row, and the others go on.

    Starts come in rounds of about 4 on a CPU, and of 64 elsewhere. After each, a candidate is given up that is further
    behind the first by the criterion than twice what the better half of its own starts are apart.

    A component on a single row has whatever likelihood the floor of variances allows, so no criterion can compare it.
    Rows that stand alone are therefore found once, beside the fit that the criterion prefers, have weight 0 in every
    candidate, and are listed: so all candidates are compared on the same rows. Constant columns, which no mixture can
    tell anything by, are left out and listed.

    Args:
        key: what is drawn is drawn with this key.
        x: rows (n, d), an array or a frame, whose names the selection keeps, of columns and of levels.
        n_components: numbers of components to try, or one.
        forms: what the components may be, or one of it; each as `form` of `init`, and "mclust" for all fourteen models
            of volume, shape and orientation. Columns of names need families of names: `table_form(x)`.
        criterion: "aic", "aicc", "bic", "icl", "cv" for the log-likelihood of held-out rows by cross-validation, or
            "evidence" for the bound that an objective of `Variational` climbs.
            Lower is better for all of them.
        weights: of the rows (n,); they count rows, as in `bic`. Default ones.
        n_folds: number of folds of "cv". The rows of positive weight are dealt out at random, each with its weight. A
            candidate that cannot be fitted to one of the folds has no `cv`, and says so as its status.
        outliers: "exclude" rows that stand alone, some 8 standard deviations or more from every component of the fit
            that is first, with no more than d others near them, or 4 where d is larger; or "keep" them. More than a
            twentieth of the rows, or of few rows more than a tenth or 5, are the tails of the data: these are kept. So
            are all where the fit that is first has a noise component.
        progress: show a progress bar (needs tqdm); where there is no terminal, a line now and then.
        n_restarts: number of starts of each candidate that is not given up, rounded up to whole rounds. Default 40;
            fewer, but at least 8, where x holds more than 2^18 numbers.
        scale: of each column (d,), for all candidates and folds: the floor is a part of what is compared. Default that
            of the rows.

    All others are as for `fit_restarts`.

    Raises:
        TypeError, ValueError: as for `fit_restarts`, an unknown criterion, nothing to try, no column that varies, or
            one that spreads by too little or too much for squares in its type.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (300, 2)).at[:100].add(7.0)
    >>> table = jaxgmm.select(jax.random.key(1), x.at[0].set(1e4), range(1, 4), ("spherical",), n_restarts=4)
    >>> table.winner.n_components, table.outliers
    (2, (0,))
    >>> print(table.best.mixture.means.shape)
    (2, 2)
    """
    criterion = criterion_of(criterion, CRITERIA, objective)
    outliers = checks.one_of("outliers", outliers, OUTLIERS)
    key = checks.key(key)
    schema = schema_of(x)
    if schema is not None and schema.has_levels:
        check_levels(forms_of(forms, len(schema.names)), schema)
        x = schema.rows(x)
    rows = known.in_one_process(known.evidence(x, weights), "select")
    ks = [checks.count("n_components", k) for k in listed(n_components)]
    forms = forms_of(forms, rows.x.shape[1])
    if not ks or not forms:
        raise ValueError("n_components and forms hold nothing to try; expected at least one of each.")
    for form in forms:
        form_of(form).check(rows)
    whole, dtype = rows, rows.x.dtype
    given = checks.scale(scale, rows.x.shape[1], dtype)
    n_restarts = _starts(rows.x.size) if n_restarts is None else checks.count("n_restarts", n_restarts)
    n_rounds = max(1, n_restarts // (_ROUND if jax.default_backend() == "cpu" else LANES))
    n_finalists = math.ceil(checks.count("n_finalists", n_finalists) / n_rounds)
    n_folds = checks.count("n_folds", n_folds, 2)

    def contest_of(rows: Evidence, columns: list[int]) -> Contest:
        planned = functools.partial(
            Plan.of,
            dtype,
            (max(ks), len(columns)),
            n_restarts=math.ceil(n_restarts / n_rounds),
            n_finalists=n_finalists,
            screening_tol=screening_tol,
            methods=methods,
            spurious=spurious,
            lanes=lanes,
            tol=tol,
            max_iter=max_iter,
            regularization=regularization,
            scale=scale_of(rows) if given is None else np.asarray(given)[columns],
            objective=objective,
            acceleration=acceleration,
            history_size=history_size,
            block_size=block_size,
        )
        return Contest(
            {form: planned(form_of(form).of_columns(columns)) for form in forms},
            key,
            max(ks),
            n_rounds,
            criterion,
            n_folds,
        )

    pairs = [(form, k) for form in forms for k in ks]
    most = most_alone(int(np.sum(np.asarray(whole.weights) > 0)))
    alone = _without_squares(whole, most) if outliers == "exclude" else np.zeros(rows.n, bool)
    whole = only(whole, ~alone) if alone.any() else whole
    with Bar(len(pairs) * n_rounds, progress, "fits") as bar:
        # After the first round and, as another candidate may be first then, after the last.
        for looks in reversed(range(LOOKS + 1)):
            columns, constants = _varying(whole, schema)
            rows = whole if not constants else known.in_patterns(whole.of_columns(np.asarray(columns)))
            contest = contest_of(rows, columns)
            looking = outliers == "exclude" and looks > 0
            raced = contest.first_round(rows, pairs, bar)
            more = contest.standing_alone(rows, raced, most - int(np.sum(alone))) if looking else alone & ~alone
            if not more.any():
                raced = contest.further_rounds(rows, raced, bar)
                more = contest.standing_alone(rows, raced, most - int(np.sum(alone))) if looking else more
            if not more.any():
                break
            alone |= more
            whole = only(whole, ~alone)
            bar.restart()
    least = max(float(contest.plans[forms[0]].tol), float(jnp.finfo(dtype).eps))
    return Selection(
        contest.candidates(rows, raced, pairs),
        criterion,
        _OPEN * least * total_of(rows),
        None if schema is None else schema.take(columns),
        outliers=tuple(np.flatnonzero(alone).tolist()),
        columns=tuple(columns),
        constants=constants,
        spurious=bool(spurious),
    )


def _starts(size: int) -> int:
    """Of each candidate where the rows hold so many numbers."""
    return max(2 * _ROUND, min(_STARTS, _STARTS * _NUMBERS // max(size, 1)))


def _varying(rows: Evidence, schema: Schema | None) -> tuple[list[int], dict[Any, Any]]:
    """Places of the columns that vary, and the values of the others, by name or place."""
    present = np.asarray(rows.weights) > 0
    x = np.asarray(rows.x)[present]
    if rows.seen is None:
        least, most = np.min(x, axis=0), np.max(x, axis=0)
    else:
        seen = np.asarray(rows.seen)[present]
        least, most = (of(np.where(seen, x, end), axis=0) for of, end in ((np.min, np.inf), (np.max, -np.inf)))
        # Of a column that is never seen.
        least, most = (np.where(seen.any(axis=0), one, np.nan) for one in (least, most))
    constant, wrong = ranges(least, most)
    if np.isnan(least).all():
        raise ValueError("x has no entry that is seen in rows of positive weight. There is nothing to fit.")
    if constant.all():
        raise ValueError(
            f"x has no column that varies: every row is {x[0].tolist()}. There is nothing that a mixture could tell."
        )
    names = range(x.shape[1]) if schema is None else schema.names
    if wrong.any():
        place = int(np.argmax(wrong))
        raise ValueError(
            f"x spreads by {most[place] - least[place]:.3g} in column {names[place]!r}, whose square is none that "
            f"{x.dtype} can hold: give it in another unit."
        )
    constants: dict[Any, Any] = {
        name: float(value) for name, value, one in zip(names, least, constant, strict=True) if one
    }
    if schema is not None:
        for name, own in zip(schema.names, schema.levels, strict=True):
            if own is not None and np.isfinite(constants.get(name, np.nan)):
                constants[name] = own[int(constants[name])]
    return np.flatnonzero(~constant).tolist(), constants


def ranges(least: np.ndarray, most: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which columns are constant, by their extremes, and which spread by what has no square in their type."""
    info = np.finfo(least.dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        constant = ~(most - least > 4 * info.eps * np.abs(least))
        reach = (most - least > 2**8 * np.sqrt(info.tiny)) & (most - least < np.sqrt(info.max) / 2**4)
    return constant, ~constant & ~reach


def far_out(x: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Which rows that are present are so far out that the squares of their distances are not finite, (n,)."""
    return present & np.any(np.abs(np.where(present[:, None], x, 0)) > np.sqrt(np.finfo(x.dtype).max) / 2**8, axis=1)


def _without_squares(rows: Evidence, most: int) -> np.ndarray:
    """Rows that are `far_out` (n,), if they are no more than `most`."""
    far = far_out(np.asarray(rows.x), np.asarray(rows.weights) > 0)
    return far if np.sum(far) <= most else np.zeros_like(far)
