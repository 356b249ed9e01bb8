"""`jaxgmm predict`, `score` and `sample`: a saved mixture and a table, a part at a time."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
import pandas as pd

import jaxgmm
from jaxgmm.cli.layout import Layout
from jaxgmm.cli.numbers import arrays, named, numeric_columns
from jaxgmm.cli.problem import Problem
from jaxgmm.cli.tables import Table, opened, writing
from jaxgmm.cli.text import Part
from jaxgmm.ground.padding import padded
from jaxgmm.ground.programs import program

_CHUNK = 2**16
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

    def threshold(self, quantile: float) -> float:
        """The log-density that this share of the rows it was fitted to lie below."""
        known = self.metadata.get("log_density_quantiles")
        if known is None:
            raise Problem(f"{self.name}: does not say how likely the rows were it was fitted to; say --threshold.")
        return float(np.interp(quantile, known["shares"], known["values"]))


def _unnamed(columns: list[str]) -> bool:
    return columns == [f"c{place + 1}" for place in range(len(columns))]


def predict(
    model: Loaded,
    data: str,
    out: str,
    layout: Layout,
    columns: list[str] | None,
    prefix: str,
    *,
    probabilities: bool,
) -> list[str]:
    """Rows with their component, its probability, and those of all components if asked for; what is worth a line."""
    with opened(data, layout) as table:
        assign(model, table, out, layout, prefix, model.columns_of(table, columns), every=probabilities)
        return table.told()


def assign(
    model: Loaded,
    table: Table,
    out: str,
    layout: Layout,
    prefix: str,
    columns: list[str] | None = None,
    *,
    every: bool = False,
) -> None:
    """Rows of the table with their component and its probability."""
    names = assigned(prefix)
    if every:
        names += [f"{prefix}p{place}" for place in range(model.mixture.n_components)]

    def added(values: np.ndarray) -> list[pd.Series]:
        _, shares = densities(model.mixture, values)
        whole = ~np.isnan(shares).any(axis=1)
        component = pd.Series(np.argmax(shares, axis=1), dtype="Int64").where(whole, pd.NA)
        return [
            component,
            *(pd.Series(p, dtype="Float64") for p in (np.max(shares, axis=1), *(shares.T if every else ()))),
        ]

    extend(table, out, layout, names, _computed(model, table, columns or model.columns, added))


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
) -> dict[str, Any]:
    """Rows with their log-density and whether it is below the threshold; how many there were of which."""
    if quantile is not None and threshold is not None:
        raise Problem("--quantile and --threshold both say what an anomaly is; give one of them.", 2)
    if quantile is not None and not 0 <= quantile <= 1:
        raise Problem(f"--quantile is {quantile:g}; expected a share of rows, from 0 to 1.", 2)
    share = 0.01 if quantile is None else quantile
    limit = model.threshold(share) if threshold is None else threshold
    summary: dict[str, Any] = {"threshold": limit, "quantile": share if threshold is None else None}
    summary |= {"rows": 0, "rows_missing": 0, "anomalies": 0, "mean_log_density": 0.0}

    def added(values: np.ndarray) -> list[pd.Series]:
        scores = densities(model.mixture, values)[0].astype(np.float64)
        whole = ~np.isnan(scores)
        summary["rows"] += len(scores)
        summary["rows_missing"] += int(np.sum(~whole))
        summary["anomalies"] += int(np.sum(scores < limit))
        summary["mean_log_density"] += float(np.sum(scores[whole]))
        unusual = pd.Series(scores < limit, dtype="boolean").where(whole, pd.NA)
        return [pd.Series(scores, dtype="Float64").where(whole, pd.NA), unusual]

    names = [f"{prefix}log_density", f"{prefix}anomaly"]
    with opened(data, layout) as table:
        extend(table, out, layout, names, _computed(model, table, model.columns_of(table, columns), added))
        summary["notes"] = table.told()
    seen = summary["rows"] - summary["rows_missing"]
    return summary | {"mean_log_density": summary["mean_log_density"] / seen if seen else math.nan}


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
            if labels:
                frame[added[0]] = np.asarray(components, np.int64)
            write(frame[: n - start])


def drawn_with(seed: int) -> jax.Array:
    """The key of a seed."""
    return _key(np.int64(seed))


# By itself each of its operations would be a program.
_key = program(jax.random.key)


def quantiles_of(mixture: jaxgmm.Mixture, x: np.ndarray, weights: np.ndarray) -> dict[str, list[float]]:
    """Log-densities that these shares of the rows lie below."""
    parts = [x[start : start + _CHUNK] for start in range(0, len(x), _CHUNK)]
    scores = np.concatenate([densities(mixture, part)[0] for part in parts])
    order = np.argsort(scores)
    below = np.cumsum(weights[order], dtype=np.float64)
    below = (below - 0.5 * weights[order]) / below[-1]
    return {"shares": _LEVELS.tolist(), "values": np.interp(_LEVELS, below, scores[order]).astype(np.float64).tolist()}


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


def _computed(
    model: Loaded, table: Table, columns: list[str], added: Callable[[np.ndarray], list[pd.Series]]
) -> Iterator[tuple[Part, list[pd.Series]]]:
    """Parts of the table, and what `added` makes of the numbers in `columns`, in the model's type."""
    dtype = model.mixture.log_weights.dtype
    for part, values in arrays(table, columns):
        yield part, added(values.astype(dtype))


def densities(mixture: jaxgmm.Mixture, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-density (n,) and probability of each component (n, k) for each row, NaN where an entry is missing."""
    log_prob, responsibilities = _densities(mixture, padded(x))
    return np.asarray(log_prob)[: len(x)], np.asarray(responsibilities)[: len(x)]


# Both in one program. Inside it, rows with NaN are no error: they get NaN.
@program
def _densities(mixture: jaxgmm.Mixture, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return mixture.log_prob(x), mixture.responsibilities(x)


@program(static=("n",))
def _sample(mixture: jaxgmm.Mixture, key: jax.Array, part: Any, n: int) -> tuple[jax.Array, jax.Array]:
    return mixture.sample_with_labels(jax.random.fold_in(key, part), n)
