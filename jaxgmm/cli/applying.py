"""`jaxgmm predict`, `score`, `impute` and `sample`: a saved mixture and a table, a part at a time."""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd

import jaxgmm
from jaxgmm.cli import recognising
from jaxgmm.cli.kinds import UNKNOWN, Coding, counted
from jaxgmm.cli.layout import Layout
from jaxgmm.cli.numbers import arrays, named, numeric_columns
from jaxgmm.cli.partial import MISSING, Entries, entries, errors_of
from jaxgmm.cli.problem import Problem
from jaxgmm.cli.tables import Table, opened, writing
from jaxgmm.cli.text import Part, replaced
from jaxgmm.ground.padding import padded
from jaxgmm.ground.programs import program

_CHUNK = 2**16
# What a noise component is called beside names of others.
_NOISE = "noise"
# Shares of rows whose log-densities are kept with a model, denser towards 0, where anomalies are.
_LEVELS = (np.arange(401) / 400) ** 3


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A mixture, what was saved beside it, and the name to call it by."""

    name: str
    mixture: jaxgmm.Mixture
    metadata: dict[str, Any]
    schema: jaxgmm.Schema | None

    @classmethod
    def of(cls, path: str) -> "Loaded":
        mixture = jaxgmm.load(path)
        if mixture.log_weights.ndim != 1:
            shape = mixture.log_weights.shape[:-1]
            raise Problem(f"{path}: holds a stack {shape} of mixtures; save one of them to use it here.")
        schema = jaxgmm.load_schema(path)
        fits = schema is not None and len(schema.names) == mixture.n_columns
        return cls(path, mixture, jaxgmm.load_metadata(path), schema if fits else None)

    @property
    def columns(self) -> list[str]:
        """Names of the columns it was fitted to; c1, c2, ... if it does not know them."""
        names = [f"c{place + 1}" for place in range(self.mixture.n_columns)]
        return names if self.schema is None else list(self.schema.names)

    def columns_of(self, table: Table, columns: list[str] | None) -> list[str]:
        """The table's columns that the mixture is of: those named, those it was fitted to, or all of numbers."""
        d = self.mixture.n_columns
        if columns:
            chosen, how = named(table, columns, "--columns"), "--columns names"
        elif self.schema is not None and set(self.columns) <= set(table.columns):
            return self.columns
        elif self.schema is not None and not _unnamed(table.columns):
            lacking = [name for name in self.columns if name not in table.columns]
            raise Problem(
                f"{table.name}: lacks the column {lacking[0]!r} of {self.name}; say --columns to name others."
            )
        else:
            chosen, how = numeric_columns(table), f"{table.name}: has"
        if len(chosen) != d:
            raise Problem(f"{how} {len(chosen)} columns of numbers; {self.name} is of {d}: {', '.join(self.columns)}.")
        return chosen

    def codings(self, columns: Sequence[str], unknown: str = "error") -> dict[str, Coding]:
        """How entries become codes in those of a table's columns that are of names, in the order of the mixture's."""
        known = () if self.schema is None else self.schema.levels
        return {name: Coding(own, unknown) for name, own in zip(columns, known, strict=False) if own is not None}

    @property
    def component_names(self) -> list[str] | None:
        """What its components are called, each by another name, if they are anything but numbers."""
        known = self.metadata.get("component_names")
        k = self.mixture.n_clusters
        behind = self.mixture.n_components - k
        if not known:
            return None
        names = [*map(str, known), *(f"component {place}" for place in range(len(known), k))][:k]
        return recognising.names([*names, *[_NOISE] * behind])

    def components(self, places: np.ndarray) -> pd.Series:
        """These components as a column, missing where the place is negative; noise is -1, or called so."""
        if self.component_names is None:
            labels = np.where(places == self.mixture.noise_component, -1, places)
            return pd.Series(labels, dtype="Int64").where(places >= 0, pd.NA)
        return pd.Series(pd.Categorical.from_codes(places, self.component_names))

    def threshold(self, quantile: float) -> float:
        """The log-density that this share of the rows it was fitted to lie below."""
        known = self.metadata.get("log_density_quantiles")
        if known is None:
            raise Problem(f"{self.name}: does not say how likely the rows were it was fitted to; say --threshold.")
        return float(np.interp(quantile, known["shares"], known["values"]))


def _unnamed(columns: list[str]) -> bool:
    return columns == [f"c{place + 1}" for place in range(len(columns))]


@dataclasses.dataclass
class Known:
    """What is known of the rows of a table, and what was found of that.

    Fields: `missing`, what is done about rows with missing entries, one of `MISSING`; `noise`, the prefix of columns of
    standard errors; `labels`, of a part of the table, gives the component of each row, -1 where it is not known;
    `unknown_levels`, what is done about entries that are no level, one of `UNKNOWN`, and how often which were `met` in
    each column; `incomplete`, rows that were taken by what there is of them; `unseen`, rows with nothing of use in
    them.
    """

    missing: str = "drop"
    noise: str | None = None
    labels: Callable[[Part], np.ndarray] | None = None
    unknown_levels: str = "error"
    met: dict[str, collections.Counter[str]] = dataclasses.field(default_factory=dict)
    incomplete: int = 0
    unseen: int = 0

    def __post_init__(self) -> None:
        if self.missing not in MISSING:
            raise Problem(f"--missing is {self.missing!r}; expected one of {', '.join(MISSING)}.", 2)
        if self.unknown_levels not in UNKNOWN:
            raise Problem(f"--unknown-levels is {self.unknown_levels!r}; expected {' or '.join(UNKNOWN)}.", 2)

    def parts(self, model: Loaded, table: Table, columns: list[str]) -> Iterator[tuple[Entries, np.ndarray]]:
        """Parts of the table in the model's type, and which of their rows can be taken."""
        errors = {} if self.noise is None else errors_of(table, self.noise, columns)
        coded = model.codings(columns, self.unknown_levels)
        self.met = {name: coding.met for name, coding in coded.items()}
        dtype = model.mixture.log_weights.dtype
        before = 0
        for found, _ in entries(table, columns, errors, coded=coded):
            errors_here = None if found.errors is None else found.errors.astype(dtype)
            found = Entries(found.part, found.values.astype(dtype), errors_here)
            gaps = np.isnan(found.known)
            if self.missing == "fail" and gaps.any():
                row, place = np.argwhere(gaps)[0]
                raise Problem(
                    f"{table.name}: row {before + row + 1} has a missing entry in column {columns[place]!r}; fill it "
                    "in, or say --missing drop, or --missing em to take such rows by what is there."
                )
            nothing = gaps.all(axis=1)
            taken = ~nothing if self.missing == "em" else ~gaps.any(axis=1)
            if self.missing == "em":
                self.incomplete += int(np.sum(gaps.any(axis=1) & taken))
                self.unseen += int(np.sum(nothing))
            before += len(gaps)
            yield found, taken

    def told(self, what: str) -> list[str]:
        """A line about entries that are no level, and one about rows with nothing in them, which get `what`."""
        notes = [
            f"{met.total()} {'entry' if met.total() == 1 else 'entries'} of column {name!r} "
            f"{'is' if met.total() == 1 else 'are'} no level of it, taken for missing: {counted(met)}."
            for name, met in self.met.items()
            if met
        ]
        if not self.unseen:
            return notes
        rows = "1 row has" if self.unseen == 1 else f"{self.unseen} rows have"
        return [
            *notes,
            f"{rows} no entry in any column of the mixture, and {'gets' if self.unseen == 1 else 'get'} {what}.",
        ]


def predict(
    model: Loaded,
    data: str,
    out: str,
    layout: Layout,
    columns: list[str] | None,
    prefix: str,
    known: Known,
    *,
    probabilities: bool,
) -> list[str]:
    """Rows with their component, its probability, and those of all components if asked for; what is worth a line."""
    with opened(data, layout) as table:
        chosen = model.columns_of(table, columns)
        told = assign(model, table, out, layout, prefix, known, chosen, every=probabilities)
        return table.told() + told


def assign(
    model: Loaded,
    table: Table,
    out: str,
    layout: Layout,
    prefix: str,
    known: Known,
    columns: list[str] | None = None,
    *,
    every: bool = False,
) -> list[str]:
    """Rows of the table with their component and its probability; what is worth a line."""
    added = assigned(prefix)
    if every:
        places = range(model.mixture.n_components)
        own = model.component_names
        added += [f"{prefix}p{place}" if own is None else f"{prefix}p_{own[place]}" for place in places]
        if own is None and model.mixture.noise_component is not None:
            added[-1] = f"{prefix}p_{_NOISE}"

    def parts() -> Iterator[tuple[Part, list[pd.Series]]]:
        for found, taken in known.parts(model, table, columns or model.columns):
            _, shares = densities(model.mixture, *found.only(taken))
            if known.labels is not None:
                sure = known.labels(found.part)
                shares = np.where((sure >= 0)[:, None], np.eye(shares.shape[1])[sure], shares)
                taken = taken | (sure >= 0) & (known.missing == "em")
            numbers = (np.max(shares, axis=1), *(shares.T if every else ()))
            yield (
                found.part,
                [
                    model.components(np.where(taken, np.argmax(shares, axis=1), -1)),
                    *(pd.Series(p, dtype="Float64").where(taken, pd.NA) for p in numbers),
                ],
            )

    extend(table, out, layout, added, parts())
    return known.told("no component")


def assigned(prefix: str) -> list[str]:
    """Names of the columns that say which component a row belongs to, and how probably."""
    return [f"{prefix}component", f"{prefix}probability"]


def score(
    model: Loaded,
    data: str,
    out: str,
    layout: Layout,
    columns: list[str] | None,
    prefix: str,
    quantile: float | None,
    threshold: float | None,
    known: Known,
) -> dict[str, Any]:
    """Rows with their log-density and whether it is below the threshold; how many there were of which.

    Those of rows with missing entries are of other numbers of columns than the quantile is of, so that it says nothing
    of them.
    """
    if quantile is not None and threshold is not None:
        raise Problem("--quantile and --threshold both say what an anomaly is; give one of them.", 2)
    if quantile is not None and not 0 <= quantile <= 1:
        raise Problem(f"--quantile is {quantile:g}; expected a share of rows, from 0 to 1.", 2)
    share = 0.01 if quantile is None else quantile
    mixture = scored(model.mixture)
    limit = model.threshold(share) if threshold is None else threshold
    summary: dict[str, Any] = {"threshold": limit, "quantile": share if threshold is None else None}
    summary |= {"rows": 0, "rows_missing": 0, "rows_incomplete": 0, "rows_not_compared": 0}
    summary |= {"anomalies": 0, "mean_log_density": 0.0}

    def parts(table: Table) -> Iterator[tuple[Part, list[pd.Series]]]:
        for found, taken in known.parts(model, table, model.columns_of(table, columns)):
            scores = densities(mixture, *found.only(taken))[0].astype(np.float64)
            compared = taken & (~np.isnan(found.known).any(axis=1) | (threshold is not None))
            summary["rows"] += len(scores)
            summary["rows_missing"] += int(np.sum(~taken))
            summary["rows_not_compared"] += int(np.sum(taken & ~compared))
            summary["anomalies"] += int(np.sum(compared & (scores < limit)))
            summary["mean_log_density"] += float(np.sum(scores[taken]))
            unusual = pd.Series(scores < limit, dtype="boolean").where(compared, pd.NA)
            yield found.part, [pd.Series(scores, dtype="Float64").where(taken, pd.NA), unusual]

    with opened(data, layout) as table:
        extend(table, out, layout, [f"{prefix}log_density", f"{prefix}anomaly"], parts(table))
        summary["notes"] = table.told() + known.told("no density")
        if mixture is not model.mixture:
            summary["notes"].append("The log-density is that of the clusters: that of noise is the same everywhere.")
    summary["rows_incomplete"] = known.incomplete
    seen = summary["rows"] - summary["rows_missing"]
    return summary | {"mean_log_density": summary["mean_log_density"] / seen if seen else math.nan}


def impute(
    model: Loaded, data: str, out: str, layout: Layout, columns: list[str] | None, known: Known, seed: int | None
) -> dict[str, Any]:
    """The table with what the mixture expects, or draws with a seed, in the place of missing entries; how many."""
    if model.schema is not None and model.schema.has_levels:
        raise Problem(f"{model.name}: has columns of names, and entries are filled where all columns are of numbers.")
    key = None if seed is None else drawn_with(seed)
    n_rows = 0
    with opened(data, layout) as table:
        chosen = model.columns_of(table, columns)
        gaps = sum(np.isnan(values).sum(axis=0) for _, values in arrays(table, chosen))
        lacking = {name: int(number) for name, number in zip(chosen, gaps, strict=True) if number}
        with writing(out, layout, chosen, table) as write:
            for number, (found, _) in enumerate(known.parts(model, table, chosen)):
                there = ~np.isnan(found.values)
                filled = np.full(there.shape, np.nan, found.values.dtype)
                if not there.all():
                    n_rows += int(np.sum(~there.all(axis=1)))
                    noise = None if found.noise is None else padded(found.noise)
                    rows = jaxgmm.rows(padded(found.known), missing="nan", noise=noise)
                    if key is None:
                        guess = jaxgmm.impute(model.mixture, rows)
                    else:
                        guess = jaxgmm.sample_missing(_folded(key, np.uint32(number)), model.mixture, rows)
                    filled = np.where(there, np.nan, np.asarray(guess)[: len(there)])
                # Written in parts, and a column is of one type from the first of them on.
                part = replaced(table.text, found.part, {name: filled[:, chosen.index(name)] for name in lacking})
                write(pd.DataFrame(index=part.frame.index), part)
        told = known.told("what the whole mixture expects" if key is None else "a draw from the whole mixture")
        return {"rows": n_rows, "entries": lacking, "notes": table.told() + told}


def sample(model: Loaded, n: int, out: str, layout: Layout, seed: int, prefix: str, *, labels: bool) -> None:
    """Rows drawn from the mixture, under the names of its columns."""
    added = [f"{prefix}component"] if labels else []
    names = [*model.columns, *added]
    key = drawn_with(seed)
    size = min(_CHUNK, 1 << (n - 1).bit_length())
    with writing(out, layout, names) as write:
        for part, start in enumerate(range(0, n, size)):
            rows, components = _sample(model.mixture, key, np.uint32(part), size)
            frame = pd.DataFrame(np.asarray(rows), columns=model.columns)
            for name, coding in model.codings(model.columns).items():
                frame[name] = coding.names(frame[name].to_numpy())
            if labels:
                frame[added[0]] = model.components(np.asarray(components, np.int64))
            write(frame[: n - start])


def drawn_with(seed: int) -> jax.Array:
    """The key of a seed."""
    return _key(np.int64(seed))


# By itself each of its operations would be a program.
_key = program(jax.random.key)


_folded = program(jax.random.fold_in)


def quantiles_of(
    mixture: jaxgmm.Mixture, x: np.ndarray, weights: np.ndarray, noise: np.ndarray | None
) -> dict[str, list[float]] | None:
    """Log-densities that these shares of the rows without missing entries lie below; None if there are no such rows.

    Of the clusters, as `score` compares them.
    """
    mixture = scored(mixture)
    whole = ~np.isnan(x).any(axis=1) & (weights > 0)
    if not whole.any():
        return None
    if not whole.all():
        x, weights, noise = x[whole], weights[whole], None if noise is None else noise[whole]
    parts = [slice(start, start + _CHUNK) for start in range(0, len(x), _CHUNK)]
    scores = np.concatenate([densities(mixture, x[p], None if noise is None else noise[p])[0] for p in parts])
    order = np.argsort(scores)
    below = np.cumsum(weights[order], dtype=np.float64)
    below = (below - 0.5 * weights[order]) / below[-1]
    return {"shares": _LEVELS.tolist(), "values": np.interp(_LEVELS, below, scores[order]).astype(np.float64).tolist()}


def scored(mixture: jaxgmm.Mixture) -> jaxgmm.Mixture:
    """What rows are more or less likely of: the clusters, as noise has the same density everywhere.

    Where no cluster has weight, the mixture as it is.
    """
    if mixture.noise_component is None or not np.any(np.asarray(mixture.weights)[: mixture.n_clusters] > 0):
        return mixture
    return mixture.take(np.arange(mixture.n_clusters))


def extend(
    table: Table, out: str, layout: Layout, names: list[str], parts: Iterable[tuple[Part, list[pd.Series]]]
) -> None:
    """Write the rows of the table, part by part, with more columns called `names`."""
    check_names(table, names)
    with writing(out, layout, names, table) as write:
        for part, added in parts:
            new = [series.set_axis(part.frame.index) for series in added]
            write(pd.concat(new, axis=1, keys=names), part)


def check_names(table: Table, names: list[str]) -> None:
    """Refuse to add columns of names that are there."""
    if taken := [name for name in names if name in table.columns]:
        raise Problem(f"{table.name}: has a column {taken[0]!r} already; say --prefix for other names.", 2)


def densities(mixture: jaxgmm.Mixture, x: np.ndarray, noise: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Log-density (n,) and probability of each component (n, k), of what is known of each row: NaN is a gap."""
    if noise is None and not np.isnan(x).any():
        found = _densities(mixture, padded(x))
    else:
        found = _densities_of_parts(mixture, padded(x), None if noise is None else padded(noise))
    log_prob, responsibilities = jax.device_get(found)
    return log_prob[: len(x)], responsibilities[: len(x)]


# Both in one program.
@program
def _densities(mixture: jaxgmm.Mixture, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return mixture.log_prob(x), mixture.responsibilities(x)


# Inside a program rows are not put in blocks of one pattern, so that it is the same one whatever is missing.
@program
def _densities_of_parts(mixture: jaxgmm.Mixture, x: jax.Array, noise: Any) -> tuple[jax.Array, jax.Array]:
    rows = jaxgmm.rows(x, missing="nan", noise=noise)
    return mixture.log_prob(rows), mixture.responsibilities(rows)


@program(static=("n",))
def _sample(mixture: jaxgmm.Mixture, key: jax.Array, part: Any, n: int) -> tuple[jax.Array, jax.Array]:
    return mixture.sample_with_labels(jax.random.fold_in(key, part), n)
