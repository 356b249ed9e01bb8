"""What is known of rows, put together once; and where they are, if they are too many for that."""

from collections.abc import Sequence
from typing import Any

from jaxgmm.ground import checks, known
from jaxgmm.ground.batches import Batches
from jaxgmm.ground.partitioned import Partitioned
from jaxgmm.ground.processes import Together
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.sources import source_of
from jaxgmm.model.mixture import check_unnamed


def rows(
    x: Any,
    weights: Any = None,
    *,
    missing: Any = "error",
    noise: Any = None,
    labels: Any = None,
    label_of_component: Any = None,
    log_evidence: Any = None,
) -> Evidence:
    """What is known of n rows as one value, which every verb takes in the place of `x`.

    Row i then has, under component k, the density of what is seen of it, and its likelihood is the sum of these: fits
    by EM are those of highest likelihood of what is seen (if entries are missing at random), not of rows that were
    filled or dropped. What is not given is not known, and costs nothing::

        log p(row i) = log sum over k of w_k N(x_io; m_ko, (S_k + noise_i)_oo) exp(log_evidence_ik)

    with o the columns that are seen of the row. A row of which nothing is seen has density 1, and criteria do not count
    it unless it has a label. A column that a component never sees tells nothing of that component, and a column that is
    never seen at all keeps the mean and variance that the fit starts with.

    A row whose component y is known counts log w_y + log p_y(x) in the likelihood, and its responsibilities are 1
    there; all others count as ever. Labels are numbers of components, so a fit names its components after them: start
    it by `init` or `fit_restarts` of the same rows. The labels of some rows are enough, and of some components too.

    Args:
        x: rows (n, d).
        weights: weight of each row (n,), as for `fit`. Default ones.
        missing: "error", where NaN is one; "nan", where it stands for an entry that is not seen; or an array (n, d) of
            truths, True where an entry is missing, whatever `x` holds there.
        noise: variances of the errors of the entries (n, d), or their covariances (n, d, d), in squared units of the
            data: the square of a standard error. An entry of infinite variance is not seen. For Gaussian components.
        labels: the component that each row is known to be of (n,), whole numbers from 0 on, and -1 for the others;
            what is missing or masked counts as -1. Or its class, with `label_of_component`.
        label_of_component: the class of each component (k,), where classes may have several: (0, 0, 1) for two
            components of class 0 and one of class 1. Static. Default each component is a class of its own.
        log_evidence: (n, k), the logarithm of how probable all else that is known of a row is if it is of component k.
            It need not be normalised, and is no weight and no prior: it multiplies w_k.

    Returns:
        `Evidence`, a pytree whose leaves are arrays, None for what is not given.

    Raises:
        TypeError, ValueError: arguments of the wrong kind, shape or sign, labels that are no numbers, or, outside
            `jit`, NaN or inf that stand for nothing in rows of positive weight.

    Sources: Ghahramani & Jordan (1994), NIPS 6, for gaps; Bovy, Hogg & Roweis (2011), Ann. Appl. Stat. 5, for noise;
    McLachlan & Peel (2000), Finite Mixture Models, section 2.19, for labels.

    >>> import jax, jax.numpy as jnp, jaxgmm
    >>> x = jnp.array([[-1.0], [0.0], [1.0], [5.0], [6.0], [7.0]])
    >>> some = jaxgmm.rows(x, labels=[-1, -1, 1, 0, -1, -1])
    >>> start = jaxgmm.init(jax.random.key(0), some, 2, "spherical")
    >>> jaxgmm.fit(start, some).mixture.predict(x).tolist()
    [1, 1, 1, 0, 0, 0]

    >>> x = jax.random.normal(jax.random.key(0), (500, 2)).at[:, 1].add(3.0).at[::3, 1].set(jnp.nan)
    >>> some = jaxgmm.rows(x, missing="nan")
    >>> found = jaxgmm.fit(jaxgmm.init(jax.random.key(1), some, 1), some).mixture
    >>> f"{found.means[0, 1]:.0f}"
    '3'
    """
    for name, given in (("x", x), ("noise", noise), ("missing", missing)):
        check_unnamed(given, name)
    return known.evidence(
        x,
        weights,
        labels,
        label_of_component=label_of_component,
        missing=missing,
        noise=noise,
        log_evidence=log_evidence,
        arranged=False,
    )


def batches(
    source: Any,
    *,
    weights: Any = None,
    missing: Any = "error",
    noise: Any = None,
    labels: Any = None,
    label_of_component: Any = None,
    log_evidence: Any = None,
    columns: Sequence[str] | None = None,
    batch_size: int | None = None,
    sharding: Any = None,
    all_processes: bool = False,
) -> Batches:
    """Rows that need not fit into memory: they are read a batch at a time, for every pass anew.

    Args:
        source: where the rows are. An array or anything with slices (n, d), such as a mapped .npy file, an array of
            Zarr or a data set of HDF5; a path of a .npy, .parquet, .csv, .feather, .arrow or .orc file, a folder of
            such files of one kind, or a pattern such as `"rows-*.parquet"` (tables need pyarrow); a data set of
            `pyarrow.dataset`; a table in memory; rows made by `jaxgmm.rows`; a list of any of these, one after the
            other; or a function without arguments that gives an iterable of any of these, each time from the first row
            on. Or a data frame of Dask or Spark, or an array (n, d) of Dask, whose workers then go through their
            partitions where they are.
        weights, labels, noise, log_evidence: as for `jaxgmm.rows`: arrays, or anything with slices, with an entry for
            each row, where `source` is an array; where it is a table, the name of a column, of as many as there are
            columns for `noise`. For functions and lists of arrays, make each part by `jaxgmm.rows`.
        missing: "error", "nan" or, where `source` is an array, a mask, as for `jaxgmm.rows`.
        label_of_component: as for `jaxgmm.rows`.
        columns: names of the columns of a table that are x, in this order. Default all that are nothing else.
        batch_size: rows in a batch. By default some two million numbers.
        sharding: a `jax.sharding.NamedSharding` of rows: batches are spread over its devices. Not for the partitions
            of others.
        all_processes: the rows of all processes of `jax.distributed` are one data set, of which each has its own
            `source`. All of them then call the same methods, and get the same sample, totals and fit. Not for the
            partitions of others.

    Returns:
        `Batches`. The first rows are looked at now, all others when they are needed.

    Raises:
        TypeError, ValueError: what it cannot be, with what to write; later, what is wrong with the rows of a batch.
        OSError: there is no such file.

    >>> import jaxgmm, numpy as np
    >>> x = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)
    >>> source = jaxgmm.batches([x[:400], x[400:]], batch_size=256)
    >>> [rows.x.shape for rows in source][-1]  # filled up with rows of weight 0
    (256, 2)
    >>> source.totals().n
    1000
    """
    if isinstance(source, Batches):
        raise TypeError("source is Batches already; give what it was made from, with all that is known of its rows.")
    beside = {"weights": weights, "labels": labels, "noise": noise, "log_evidence": log_evidence}
    if not isinstance(missing, str):
        beside["missing"] = missing
        missing = "error"
    else:
        checks.one_of("missing", missing, ("error", "nan"))
    found = source_of(source, beside, columns)
    kind = Batches if found.partitions is None else Partitioned
    return kind(
        found,
        missing=missing,
        classes=None if label_of_component is None else tuple(label_of_component),
        batch_size=None if batch_size is None else checks.count("batch_size", batch_size),
        sharding=sharding,
        processes=Together() if all_processes else None,
    )
