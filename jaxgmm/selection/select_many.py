"""How many components, and of what form, for each of many data sets."""

import contextlib
import dataclasses
import functools
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.families.family import Form
from jaxgmm.families.table import form_of, forms_of, listed
from jaxgmm.ground import checks, known
from jaxgmm.ground.progress import Bar
from jaxgmm.ground.sets import Sets, read
from jaxgmm.selection.components import CRITERIA
from jaxgmm.selection.criteria import criterion_of
from jaxgmm.selection.ledger import Ledger
from jaxgmm.selection.outliers import most_alone
from jaxgmm.selection.panel import Call, Group
from jaxgmm.selection.parts import Parts
from jaxgmm.selection.restarts import Plan
from jaxgmm.selection.select import FORMS, LOOKS, OUTLIERS, far_out, ranges
from jaxgmm.selection.selections import Selections


def select_many(
    key: jax.Array,
    xs: Any,
    n_components: Iterable[int] | int = range(1, 11),
    forms: Sequence[str | Form] | str | Form = FORMS,
    *,
    by: Any = None,
    criterion: str = "bic",
    weights: Any = None,
    outliers: str = "exclude",
    parts: Any = None,
    chunk_size: int | None = None,
    progress: bool = False,
    n_restarts: int = 8,
    screening_tol: Any = 1e-3,
    methods: Sequence[str] | None = None,
    spurious: Any = False,
    lanes: int | None = 1,
    tol: Any = 1e-6,
    max_iter: Any = 1000,
    regularization: Any = 1e-6,
    objective: Any = None,
    acceleration: str | None = "anderson",
    block_size: int | None = None,
) -> Selections:
    """`select` for each of many data sets: the number of components and the form of every one, in a single call.

    All data sets go through a few compiled programs, one for each form and length that they are filled up to: on a GPU
    side by side, on a CPU on every core. A data set that cannot be fitted says why in its row of the table, and the
    others go on. As with `select`, rows that stand alone are set aside and constant columns left out, in each data set
    by itself; unlike there, all candidates get the same starts, and criteria are evaluated in the type of the rows.

    Args:
        key: what is drawn is drawn with this key; what a data set gets does not depend on the others.
        xs: an array (b, n, d), a sequence of b arrays or frames (n_i, d), whose d may differ too, a mapping of names to
            such, or a frame with a column `by`.
        n_components: numbers of components to try, or one.
        forms: what the components may be, or one of it; each as `form` of `init`, or "mclust", as in `select`.
        by: name of the column of the frame `xs` that says which rows belong together, or several names. Rows where it
            is missing belong to none.
        criterion: "aic", "aicc", "bic" or "icl", or "evidence" for an objective of `Variational`. Lower is better.
        weights: of the rows, (b, n), a sequence of b arrays (n_i,) or a mapping to such; of a frame, one for each row
            or the name of a column. They count rows. Default ones.
        outliers: "exclude" or "keep" rows that stand alone, as in `select`.
        parts: a file that what is done is written to as it is done. A call that was stopped goes on from it if it is
            called in the same way again.
        chunk_size: data sets in one call of a program, as in `fit_many`.
        progress: show a progress bar with the time that is left (needs tqdm).
        n_restarts: starts of each candidate of each data set.
        screening_tol: as for `select_components`.

    All others are as for `fit_restarts`; `scale` is that of each data set.

    Raises:
        TypeError, ValueError: as for `fit_restarts`, an unknown criterion, nothing to try, no data set, or parts of
            another call.

    >>> import jax, jaxgmm
    >>> xs = jax.random.normal(jax.random.key(0), (3, 100, 2)).at[1, :50].add(8.0).at[2, 0, 0].set(float("nan"))
    >>> table = jaxgmm.select_many(jax.random.key(1), xs, range(1, 4), "diag", n_restarts=4)
    >>> table.n_components.tolist()
    [1, 2, 0]
    >>> table.status[2]
    'ERROR: is NaN or infinite in 1 of 100 rows'
    """
    criterion = criterion_of(criterion, CRITERIA, objective)
    outliers = checks.one_of("outliers", outliers, OUTLIERS)
    key = checks.key(key)
    ks = list(dict.fromkeys(checks.count("n_components", k) for k in listed(n_components)))
    given = read(xs, weights, by, "select_many")
    forms = forms_of(forms, max((part.x.shape[-1] for part in given.sets), default=2))
    if not ks or not forms:
        raise ValueError("n_components and forms hold nothing to try; expected at least one of each.")
    for part, form in itertools.product(given.sets, forms):
        form_of(form).check(part.together, "all data sets, one after the other,")
    for part, behind in itertools.product(given.sets, sorted({form_of(form).n_background for form in forms})):
        known.check_sizes(part.beside.get("log_evidence"), part.classes, ks, "select_many", behind)
    if chunk_size is not None:
        chunk_size = checks.count("chunk_size", chunk_size)
    plan_of = functools.partial(
        Plan.of,
        n_restarts=n_restarts,
        n_finalists=n_restarts,
        screening_tol=screening_tol,
        methods=methods,
        spurious=spurious,
        lanes=lanes,
        tol=tol,
        max_iter=max_iter,
        regularization=regularization,
        scale=None,
        objective=objective,
        acceleration=acceleration,
        history_size=1,
        block_size=block_size,
    )
    plans = [plan_of(part.x.dtype, (max(ks), part.x.shape[1]), form) for part in given.sets for form in forms]
    ledger = Ledger(given, forms, ks, criterion, by)
    asked = (
        repr((forms, ks, criterion, outliers, chunk_size, plans, _version(), jax.__version__)),
        _data_of(key),
    )
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(Parts(parts, _question(given.sets, *asked))) if parts is not None else None
        n_fits = (len(given.names) - len(given.faults)) * len(forms)
        bar = stack.enter_context(Bar(n_fits, progress, "fits of data sets"))
        call = Call(plan_of, key, forms, ks, criterion, chunk_size, kept, bar)
        for part in given.sets:
            sound = np.flatnonzero(~np.isin(part.numbers, list(given.faults)))
            if sound.size:
                _select_part(call, ledger, part, sound, exclude=outliers == "exclude")
    return ledger.selections()


def _select_part(call: Call, ledger: Ledger, sets: Sets, todo: np.ndarray, *, exclude: bool) -> None:
    """Data sets of as many columns each, those `todo`; as rows may be set aside, some of them more than once."""
    alone = np.zeros(len(sets.x), bool)
    if exclude:
        far = far_out(sets.x, sets.weights > 0)
        few = np.bincount(sets.owner[far], minlength=len(sets.lengths)) <= _most_alone(sets)
        alone = far & few[sets.owner]
    for look in reversed(range(LOOKS + 1)):
        remaining = dataclasses.replace(sets, weights=np.where(alone, 0, sets.weights))
        groups = list(_groups(ledger, remaining, todo, call.forms))
        unfit = len(todo) - sum(len(places) for places, _ in groups)
        call.bar.expect(-unfit * len(call.forms))
        call.fit([group for _, group in groups])
        again = []
        for places, group in groups:
            chosen = call.chosen(group)
            ledger.chose(group.sets.numbers, group.columns, chosen)
            if exclude and look:
                left = _most_alone(sets)[places] - np.bincount(sets.owner[alone], minlength=len(sets.lengths))[places]
                more = call.standing_alone(group, chosen, left)
                if more.any():
                    alone[sets.rows_of(places)[more]] = True
                    again.append(places[np.unique(group.sets.owner[more])])
        ledger.set_aside(sets, alone)
        if not again:
            break
        todo = np.sort(np.concatenate(again))
        call.bar.expect(len(todo) * len(call.forms))


def _groups(
    ledger: Ledger, sets: Sets, todo: np.ndarray, forms: Sequence[str | Form]
) -> Iterator[tuple[np.ndarray, Group]]:
    """The places of data sets that have as many columns each that vary, and what is to be fitted."""
    d = sets.x.shape[1]
    least, most = sets.extremes(todo)
    constant, wrong = ranges(least, most)
    # One program is for data sets that lack different columns, and some forms say other things of each.
    named = any(form_of(form).of_columns([0]) != form_of(form) for form in forms)
    unfit = constant.all(axis=1) | wrong.any(axis=1) | (named & constant.any(axis=1))
    for place in np.flatnonzero(unfit).tolist():
        if constant[place].all():
            what = "has no column that varies"
        elif wrong[place].any():
            column = int(np.argmax(wrong[place]))
            what = f"spreads in column {column} by what has no square in {sets.x.dtype}: give it in another unit"
        else:
            column = int(np.argmax(constant[place]))
            what = f"is constant in column {column}, and a form names columns: leave it out of the table and the form"
        ledger.failed(int(sets.numbers[todo[place]]), what)
    widths = np.where(unfit, 0, d - constant.sum(axis=1))
    for width in np.unique(widths[widths > 0]).tolist():
        mine = widths == width
        columns = np.argsort(constant[mine], axis=1, kind="stable")[:, :width]
        yield todo[mine], Group(sets.of(todo[mine], columns), columns, sets.lengths, d)


def _version() -> str:
    return str(sys.modules[__name__.partition(".")[0]].__version__)


def _most_alone(sets: Sets) -> np.ndarray:
    """How many rows of each data set may stand alone, (b,)."""
    present = np.bincount(sets.owner[sets.weights > 0], minlength=len(sets.lengths))
    return np.array([most_alone(n) for n in present.tolist()])


def _data_of(key: jax.Array) -> bytes:
    fresh = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return np.asarray(fresh).tobytes()


def _question(sets: Iterable[Sets], options: str, key: bytes) -> Iterator[bytes]:
    """All that the answer depends on."""
    yield options.encode()
    yield key
    for part in sets:
        for array in (part.x, part.weights, part.lengths, part.numbers, *part.beside.values()):
            yield f"{array.shape} {array.dtype}".encode()
            yield np.ascontiguousarray(array).tobytes()
