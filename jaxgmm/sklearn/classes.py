"""A mixture for each class of rows: fitted to each by itself or to all together, and chosen among several by BIC."""

import dataclasses
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.exceptions import ConvergenceWarning

from jaxgmm.fitting.result import FitResult, Status
from jaxgmm.ground import known
from jaxgmm.ground.programs import program
from jaxgmm.ground.rows import Evidence
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.scale import scale_of
from jaxgmm.model.shrinkage import shrunk
from jaxgmm.selection.many import fit_many
from jaxgmm.selection.restarts import Restarts, fit_restarts
from jaxgmm.sklearn.evidence import padded_rows
from jaxgmm.sklearn.joint import held_here

# The fewest rows that a class is filled up to, so that classes of other sizes compile nothing.
_SMALLEST = 64
# Fits of one model differ by so many times `tol`, per unit weight, in their likelihood.
_TOL, _OPEN = 1e-6, 4


@dataclasses.dataclass(frozen=True)
class Classes:
    """The density of each of c classes, all of the same columns; in numpy and as exact as the table they are of.

    Fields: `stacks`, c mixtures for each form that some class has, with room for as many components as any of them;
    `stack_of` (c,), in which of these the mixture of each class is; `form_of` (c,), forms as they were asked for;
    `bic`, that of all rows with their classes.
    """

    stacks: tuple[Mixture, ...]
    stack_of: np.ndarray
    form_of: tuple[Any, ...]
    bic: float

    def mixtures(self) -> list[Mixture]:
        """The mixture of each class as JAX holds it here, the heaviest component first.

        Raises:
            ValueError: in float32 one would lose digits that its components need.
        """
        found = []
        for place, which in enumerate(self.stack_of.tolist()):
            whole = jax.tree.map(lambda leaf, place=place: leaf[place], self.stacks[which])
            there = _present(whole)
            kept = Mixture(whole.log_weights[there], whole.components.take(there))
            found.append(held_here("mixtures_", kept))
        return found

    @property
    def n_components(self) -> np.ndarray:
        """How many components each has (c,)."""
        counts = np.stack([np.sum(stack.log_weights > -np.inf, axis=1) for stack in self.stacks])
        return counts[self.stack_of, np.arange(counts.shape[1])]

    def log_prob(self, table: np.ndarray) -> np.ndarray:
        """Log-density of each row of the table under each class (n, c); NaN are gaps."""
        dtype = np.result_type(table, self.stacks[0].log_weights)
        with jax.enable_x64(dtype == np.float64):
            rows = padded_rows(table.astype(dtype, copy=False))
            found = np.stack(
                [
                    np.asarray(_log_prob(jax.tree.map(lambda leaf: leaf.astype(dtype), stack), rows))
                    for stack in self.stacks
                ]
            )
        return found[self.stack_of, np.arange(found.shape[1]), : len(table)].T


@dataclasses.dataclass(frozen=True)
class Options:
    """How mixtures are fitted.

    Fields: `forms`, what components may be; `counts`, for each class the numbers of components to choose among; and
    `n_restarts`, `regularization` as `jaxgmm.fit_restarts` has them; `shrinkage`, the method of `jaxgmm.shrunk` if
    covariances are estimated anew by it.
    """

    forms: Sequence[Any]
    counts: Sequence[Sequence[int]]
    n_restarts: int
    regularization: float
    shrinkage: str | None = None

    def of_fits(self, ks: Iterable[int]) -> dict[str, Any]:
        """Of fits with so many components; where there is one of each, more starts find nothing else."""
        n_restarts = self.n_restarts if max(ks) > 1 else 1
        return {"n_restarts": n_restarts, "regularization": self.regularization, "tol": _TOL, "history_size": 1}

    def finished(self, mixture: Mixture, rows: Evidence, scale: np.ndarray) -> Mixture:
        """What was fitted to these rows, with covariances shrunk if they are to be."""
        if self.shrinkage is None:
            return mixture
        given = jax.tree.map(jnp.asarray, (mixture, rows))
        found = shrunk(*given, method=self.shrinkage, scale=scale, regularization=self.regularization)
        return jax.tree.map(np.asarray, found.mixture)


@dataclasses.dataclass(frozen=True)
class _Fit:
    """One candidate, in numpy: what was asked for, the best fit, and whether it is without spurious components."""

    form: Any
    best: FitResult
    regular: bool

    @property
    def log_likelihood(self) -> float:
        return float(self.best.log_likelihood)

    @property
    def n_parameters(self) -> int:
        return int(self.best.mixture.n_parameters)

    @property
    def failed(self) -> bool:
        return int(self.best.status) == Status.NON_FINITE or not np.isfinite(self.log_likelihood)

    def bic(self, total: float) -> float:
        """For rows of so much weight."""
        return -2 * self.log_likelihood + self.n_parameters * float(np.log(total))


def apart(
    key: Any, table: np.ndarray, labels: np.ndarray, weights: np.ndarray, names: Sequence[Any], options: Options
) -> Classes:
    """A mixture for each class, which nothing but the floor shares: that is relative to the scale of all rows.

    Args:
        key: a seed.
        table: (n, d), NaN are gaps, of columns that vary.
        labels: (n,), numbers of classes, each of them that of some row of positive weight with an entry.
        weights: (n,), of the rows; they count rows.
        names: of the classes (c,), for what there is to tell.
        options: of the fits.

    Raises:
        ValueError: no fit of a class has led to numbers that are finite.

    Warns:
        ConvergenceWarning: that of a class has not converged, or a component has no width of its own.
    """
    told = np.where(np.isnan(table).all(axis=1), 0, weights)
    totals = np.bincount(labels, told, len(names))
    with jax.enable_x64(table.dtype == np.float64):
        scale = np.asarray(scale_of(padded_rows(table, weights)))
        gaps = bool(np.isnan(table).any())
        own = [_in_room(table[labels == place], told[labels == place], gaps) for place in range(len(names))]
        owner = [place for place, ks in enumerate(options.counts) for _ in ks]
        ks = [k for mine in options.counts for k in mine]
        sets = [own[place] for place in owner]
        found = []
        for number, form in enumerate(options.forms):
            fits = fit_many(
                jax.random.fold_in(jax.random.key(key), number),
                sets,
                ks,
                form,
                max_components=max(ks),
                scale=scale,
                **options.of_fits(ks),
            )
            found += [list(_each(fits, form))]
    chosen = []
    for place, name in enumerate(names):
        mine = [fits[number] for fits in found for number, one in enumerate(owner) if one == place]
        chosen.append(_best(mine, float(totals[place])))
        _tell(f"class {name!r}", chosen[-1], options)
    with jax.enable_x64(table.dtype == np.float64):
        mixtures = [options.finished(fit.best.mixture, mine, scale) for fit, mine in zip(chosen, own, strict=True)]
    return _together(chosen, mixtures, np.bincount(labels, weights, len(names)))


def together(
    key: Any, table: np.ndarray, labels: np.ndarray, weights: np.ndarray, names: Sequence[Any], options: Options
) -> Classes:
    """One mixture of all rows, of which it is known what class they are: components of all classes share what they do.

    Numbers of components are those of every class, as many to choose among for each. All else is as for `apart`.
    """
    found: list[_Fit] = []
    tried = list(zip(*options.counts, strict=True))
    most = max(tried, key=sum)
    # The first of every class, then the second of each that has one: what is present comes first for every number.
    owner = np.array([place for rank in range(max(most)) for place, count in enumerate(most) if rank < count])
    with jax.enable_x64(table.dtype == np.float64):
        scale = np.asarray(scale_of(padded_rows(table, weights)))
        rows = padded_rows(table, weights, labels=labels, label_of_component=owner if max(most) > 1 else None)
        for number, form in enumerate(options.forms):
            for counts in tried:
                fits = fit_restarts(
                    jax.random.fold_in(jax.random.key(key), number),
                    rows,
                    sum(counts),
                    form,
                    max_components=len(owner),
                    scale=scale,
                    **options.of_fits(most),
                )
                found += _each(jax.tree.map(lambda leaf: np.asarray(leaf)[None], fits), form)
    total = float(weights.sum(dtype=np.float64))
    best = _best(found, total)
    _tell("all classes together", best, options)
    with jax.enable_x64(table.dtype == np.float64):
        whole: Any = options.finished(best.best.mixture, rows, scale)
    parts = [_part(whole, np.flatnonzero(owner == place), max(most)) for place in range(len(names))]
    stack = jax.tree.map(lambda *leaves: np.stack(leaves), *parts)
    return Classes((stack,), np.zeros(len(names), int), (best.form,) * len(names), best.bic(total))


def _in_room(table: np.ndarray, weights: np.ndarray, gaps: bool) -> Evidence:
    """The rows of a class filled up by rows of weight 0, and with what is seen of them if any class has gaps."""
    n = len(table)
    size = max(_SMALLEST, 1 << (n - 1).bit_length())
    rows: Any = np.concatenate([table, np.zeros((size - n, table.shape[1]), table.dtype)])
    shares: Any = np.concatenate([weights, np.zeros(size - n, weights.dtype)])
    if not gaps:
        return Evidence(rows, shares)
    return known.evidence(rows, shares, missing=np.isnan(rows), arranged=False)


def _each(fits: Restarts, form: Any) -> Iterable[_Fit]:
    """The fits of a stack, in numpy."""
    fits = jax.tree.map(np.asarray, fits)
    for place in range(len(fits.winner)):
        one = jax.tree.map(lambda leaf, place=place: leaf[place], fits)
        yield _Fit(form, one.best, bool(one.regular[one.winner]))


def _best(fits: Sequence[_Fit], total: float) -> _Fit:
    """The lowest by BIC of those that are regular, if there are any; of those that are one model, the first."""
    best = fits[0]
    for fit in fits[1:]:
        if fit.failed or (best.regular and not fit.regular):
            continue
        better = best.failed or (fit.regular and not best.regular)
        same = fit.n_parameters == best.n_parameters
        resolution = 2 * _OPEN * max(_TOL, float(np.finfo(fit.best.log_likelihood.dtype).eps)) * total if same else 0.0
        if better or fit.bic(total) < best.bic(total) - resolution:
            best = fit
    return best


def _together(chosen: Sequence[_Fit], mixtures: Sequence[Mixture], totals: np.ndarray) -> Classes:
    """Chosen for each class, with the mixture that was made of it and how much weight its rows have."""
    forms = list(dict.fromkeys(fit.form for fit in chosen))
    stack_of = np.array([forms.index(fit.form) for fit in chosen])
    stacks = []
    for which in range(len(forms)):
        # A class of another form has one of these in its place, so that as many are asked whatever was chosen.
        some = mixtures[int(np.argmax(stack_of == which))]
        of_form = [mixture if own == which else some for mixture, own in zip(mixtures, stack_of, strict=True)]
        stacks.append(jax.tree.map(lambda *leaves: np.stack(leaves), *of_form))
    n = totals.sum(dtype=np.float64)
    log_likelihood = sum(fit.log_likelihood for fit in chosen) + float(np.sum(totals * np.log(totals / n)))
    n_parameters = sum(fit.n_parameters for fit in chosen) + len(chosen) - 1
    bic = -2 * log_likelihood + n_parameters * float(np.log(n))
    return Classes(tuple(stacks), stack_of, tuple(fit.form for fit in chosen), bic)


def _part(whole: Mixture, places: np.ndarray, room: int) -> Mixture:
    """The components at these places, with room for more of them."""
    log_weights = np.asarray(whole.log_weights)[places]
    log_weights = log_weights - np.logaddexp.reduce(log_weights)
    absent = room - len(places)
    filled = np.concatenate([places, np.repeat(places[:1], absent)])
    padded: Any = np.concatenate([log_weights, np.full(absent, -np.inf, log_weights.dtype)])
    return Mixture(padded, jax.tree.map(np.asarray, whole.components.take(filled)))


def _present(mixture: Mixture) -> np.ndarray:
    """Places of the components that have weight, the heaviest first."""
    log_weights = np.asarray(mixture.log_weights)
    order = np.argsort(-log_weights, kind="stable")
    return order[log_weights[order] > -np.inf]


def _tell(whose: str, fit: _Fit, options: Options) -> None:
    status = Status(int(fit.best.status))
    found = f"The fit of {whose} ended as {status.name} after {int(fit.best.n_iter)} steps. "
    if fit.failed:
        raise ValueError(found + "Look for extreme values in X.")
    if options.shrinkage is not None and status in (Status.CONVERGED, Status.DEGENERATE):
        # That a component has no width of its own is what shrinkage is for.
        return
    if status != Status.CONVERGED or not fit.regular:
        spurious = "A component is spurious. " if status == Status.CONVERGED else ""
        warnings.warn(
            found + spurious + "Rows may be too few for the columns. Try fewer components, a form with fewer "
            "parameters, shared=True, shrinkage='oas', or a larger regularization.",
            ConvergenceWarning,
            stacklevel=5,
        )


@program
def _log_prob(mixtures: Mixture, rows: Evidence) -> Float[Array, "c n"]:
    """Log-density of each row under each mixture of a stack."""
    return jax.vmap(lambda mixture: mixture.log_prob(rows))(mixtures)
