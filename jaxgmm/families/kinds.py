"""A form for a table: a family for each column, by its kind or by its name."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgmm.covariance.table import names_shown
from jaxgmm.families.bernoulli import Bernoulli
from jaxgmm.families.beta import Beta
from jaxgmm.families.categorical import Categorical
from jaxgmm.families.coded import takes_numbers
from jaxgmm.families.exponential import Exponential
from jaxgmm.families.family import Form
from jaxgmm.families.gamma import Gamma
from jaxgmm.families.gaussian import Gaussian
from jaxgmm.families.log_normal import LogNormal
from jaxgmm.families.negative_binomial import NegativeBinomial
from jaxgmm.families.poisson import Poisson
from jaxgmm.families.product import Product
from jaxgmm.families.student_t import StudentT
from jaxgmm.families.table import form_of
from jaxgmm.families.von_mises import VonMises
from jaxgmm.ground import checks, frames, levels
from jaxgmm.ground.schema import Schema, columns_of, matching

NUMBERS: dict[str, Form] = {
    "gaussian": Gaussian.form("diag"),
    "student-t": StudentT.form("diag", nu=4),
    "lognormal": LogNormal.form("diag"),
    "gamma": Gamma.form(),
    "exponential": Exponential.form(),
    "beta": Beta.form(),
    "von-mises": VonMises.form(),
    "poisson": Poisson.form(),
    "negative-binomial": NegativeBinomial.form(),
    "bernoulli": Bernoulli.form(),
}
"""What a family is called; beside it there is `CATEGORICAL`, whose form depends on the number of levels."""
CATEGORICAL = "categorical"
# So many names are too many where every other row has one of its own.
_NAMES = 20
# No more whole numbers than that, each in so many rows, are names or counts.
_FEW, _OFTEN = 10, 5


class Column(NamedTuple):
    """A column as a family is to be chosen for it.

    Fields: `name`; `levels`, None of numbers; `values` (n,), numbers or codes, NaN where they are missing; `whole`,
    whether its type is one of whole numbers; `rows` (n,), what the rows are called, by default from 0.
    """

    name: str
    levels: Sequence[Any] | None
    values: np.ndarray
    whole: bool = False
    rows: np.ndarray | None = None


def table_form(x: Any, families: Any = None, *, schema: Any = None) -> Form:
    """A form for a frame, of a family for each column: what is not said is told by its kind.

    ===============================================  ===========================================================
    a column holds                                   it is taken for
    ===============================================  ===========================================================
    names, that is, it has levels                    "categorical", of as many levels
    truths, or nothing but 0 and 1                   "bernoulli"
    whole numbers from 0, by its type, that vary at  "negative-binomial"
    least as much as Poisson's: variance ≥ mean
    any other numbers                                "gaussian"
    ===============================================  ===========================================================

    Columns of the same form are one part of it. That is the same as one by one where the family has its columns
    independent of each other, and makes one block of those of, say, "full".

    Args:
        x: a frame, as for `Schema.of`.
        families: a mapping from columns, or patterns such as "answer*", to a family: "gaussian", which is "diag";
            "full" or another name of a covariance structure, of all columns that are given it; "student-t" (of four
            degrees of freedom), "lognormal", "gamma", "exponential", "beta", "von-mises", "poisson",
            "negative-binomial", "bernoulli" or "categorical"; or a form. A name counts before a pattern, and "*",
            which is all columns, after other patterns.
        schema: of the rows that are to be fitted. Default `Schema.of(x)`, which `select` makes of a frame as well.

    Returns:
        A `Product` of parts of the columns, in the order of the schema, or one form where all are of the same. It is
        of these columns alone, and takes the codes of that schema: `schema.rows(x)`.

    Raises:
        TypeError, ValueError: no frame; a name of a family or column that is not known, or columns for which two
            patterns say different things; a column that holds what its family cannot be of; names of which nearly every
            row has another; whole numbers that are no codes and are to be "categorical"; or no counts, and so few
            different ones, each in many rows, that Gaussian components would sit on them.

    >>> import jaxgmm, pandas
    >>> frame = pandas.DataFrame(
    ...     {"colour": ["red", "blue", "red", None], "age": [31.5, 58, 40.2, 29.9], "income": [9.5, 250, 31, 12]}
    ... )
    >>> print(jaxgmm.table_form(frame))
    Product(0: Categorical(levels=2), (1, 2): diag)
    >>> print(jaxgmm.table_form(frame, {"income": "lognormal"}))
    Product(0: Categorical(levels=2), 1: diag, 2: LogNormal(diag))
    """
    if schema is not None and not isinstance(schema, Schema):
        raise TypeError(f"schema is of type {type(schema).__name__}; expected a jaxgmm.Schema.")
    if not frames.names_of(x):
        raise TypeError(
            f"x is of type {type(x).__name__} and has no names of columns; expected a frame. Of an array, say which "
            "columns are of which family: Product.form({(0, 1): 'full', 2: Categorical.form(3)})."
        )
    schema = Schema.of(x) if schema is None else schema
    rows, of = np.asarray(schema.rows(x)), dict(columns_of(x))
    columns = [
        Column(name, own, rows[:, place], own is None and frames.whole(of[name]))
        for place, (name, own) in enumerate(zip(schema.names, schema.levels, strict=True))
    ]
    return together(forms_of_columns(columns, {} if families is None else families))


def forms_of_columns(columns: Sequence[Column], families: Any) -> list[Form]:
    """The form that each of these columns is a part of; as `table_form`."""
    asked = asked_of([column.name for column in columns], families)
    forms = [_form(column, asked[column.name]) if column.name in asked else _default(column) for column in columns]
    for one in dict.fromkeys(forms):
        _check_values(one, [column for column, own in zip(columns, forms, strict=True) if own == one])
    return forms


def together(forms: Sequence[Form]) -> Form:
    """The form of a table whose columns are of these: in one part where they are of the same."""
    parts: dict[Form, list[int]] = {}
    for place, form in enumerate(forms):
        parts.setdefault(form, []).append(place)
    if len(parts) == 1:
        return next(iter(parts))
    return Product.form({tuple(places): form for form, places in parts.items()})


def asked_of(names: Sequence[str], families: Any) -> dict[str, Any]:
    """What is asked for each column, if anything is: a name counts before a pattern, and "*" after all others.

    Raises:
        TypeError, ValueError: no mapping, no such column, or two patterns that say different things of one.
    """
    if not isinstance(families, Mapping):
        raise TypeError(
            f"families is {checks.found(families)}; expected a mapping from columns to families, such as "
            "{'age': 'gaussian', 'answer*': 'categorical'}."
        )
    exact = {name: family for name, family in families.items() if name in names}
    rest = dict.fromkeys(names, families["*"]) if "*" in families else {}
    found: dict[str, tuple[str, Any]] = {}
    for pattern, family in families.items():
        if pattern == "*":
            continue
        for name in matching("families", pattern, names):
            before, other = found.get(name, (pattern, family))
            if name not in exact and other != family:
                raise ValueError(
                    f"families has {before!r} as {other} and {pattern!r} as {family}, and both are {name!r}; expected "
                    "one of them, or that column by its name."
                )
            found[name] = pattern, family
    return rest | {name: family for name, (_, family) in found.items()} | exact


def _form(column: Column, given: Any) -> Form:
    """The form that is asked for a column."""
    if isinstance(given, str) and given == CATEGORICAL:
        return _categorical(column)
    if isinstance(given, str) and given in NUMBERS:
        form = NUMBERS[given]
    else:
        try:
            form = form_of(given)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"families has {given!r} for {column.name!r}; expected one of {', '.join(map(repr, NUMBERS))}, "
                f"{CATEGORICAL!r}, {names_shown()}; or a form, such as Poisson.form()."
            ) from None
    if column.levels is not None and takes_numbers(form, 1)[0]:
        raise ValueError(
            f"column {column.name!r} holds names ({levels.shown(column.levels)}), and {form} has numbers there; "
            f"expected {CATEGORICAL!r}."
        )
    return form


def _categorical(column: Column) -> Form:
    if column.levels is not None:
        return Categorical.form(max(2, len(column.levels)))
    seen = column.values[np.isfinite(column.values)]
    if not seen.size or np.any(seen != np.floor(seen)) or np.min(seen) != 0:
        what = f"numbers from {np.min(seen):g} to {np.max(seen):g}" if seen.size else "nothing"
        raise ValueError(
            f"column {column.name!r} holds {what}, which are no codes from 0. Write schema = jaxgmm.Schema.of(x, "
            f"categorical=[{column.name!r}]), whose levels its values are, jaxgmm.table_form(x, ..., schema=schema), "
            "and schema.rows(x) in the place of x."
        )
    return Categorical.form(max(2, int(np.max(seen)) + 1))


def _default(column: Column) -> Form:
    """The form of a column by its kind."""
    seen = column.values[np.isfinite(column.values)]
    if column.levels is not None:
        if all(isinstance(level, bool) for level in column.levels):
            return NUMBERS["bernoulli"]
        if len(column.levels) > max(_NAMES, seen.size / 2):
            raise ValueError(
                f"column {column.name!r} holds {len(column.levels)} names in {seen.size} rows, so that nearly each has "
                f"its own: leave it out, or say {CATEGORICAL!r} for it in families."
            )
        return Categorical.form(max(2, len(column.levels)))
    if seen.size and np.all((seen == 0) | (seen == 1)):
        return NUMBERS["bernoulli"]
    if not column.whole or not seen.size:
        return NUMBERS["gaussian"]
    if are_counts(float(np.min(seen)), float(np.mean(seen, dtype=float)), float(np.var(seen, dtype=float))):
        return NUMBERS["negative-binomial"]
    values = np.unique(seen)
    if are_few(values.size, seen.size):
        raise ValueError(
            f"column {column.name!r} holds but {values.size} whole numbers, {', '.join(f'{one:g}' for one in values)}, "
            "and Gaussian components would each sit on one of them. Say what they are: names, by schema = "
            f"jaxgmm.Schema.of(x, categorical=[{column.name!r}]) for table_form and for the rows; counts, as in "
            f"families={{{column.name!r}: 'poisson'}}; or measured, by 'gaussian'."
        )
    return NUMBERS["gaussian"]


def are_counts(least: float, mean: float, variance: float) -> bool:
    """Whether whole numbers are taken for counts: from 0, varying at least as much as Poisson's."""
    return least >= 0 and variance >= mean


def are_few(n_values: int, n: int) -> bool:
    """Whether different whole numbers are so few, and each so often, that they are no measured ones."""
    return n_values <= _FEW and n >= _OFTEN * n_values


def _check_values(form: Form, columns: list[Column]) -> None:
    """Refuse what the components of this form cannot be of, naming the column."""
    components: Any = form.by_shapes(len(columns))
    x = np.column_stack([column.values for column in columns])
    bad = components.impossible(x)
    bad = None if bad is None else bad & np.isfinite(x)
    if bad is not None and bad.any():
        row, place = (int(one) for one in np.argwhere(bad)[0])
        name, called = columns[place].name, columns[place].rows
        raise ValueError(
            f"column {name!r} holds {x[row, place]:.9g} in row {row if called is None else called[row]}; "
            f"{components.expects(place)}. Give it another family, or NaN in the place of what is not known."
        )
