"""The commands, and how the program starts and ends.

JAX and pandas take a second to import, so they are imported once there is something to do: not for help, nor for what
cannot be read as a command.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Annotated, Any

import typer
import typer.core

import jaxgmm
from jaxgmm.cli.layout import FORMATS, Layout
from jaxgmm.cli.problem import Problem

# Bytes of an array that is not given back by itself.
_SMALL = 2**20

app = typer.Typer(
    name="jaxgmm",
    help="Fit Gaussian mixtures to tables, and use them. Tables are CSV, TSV, Parquet, NPY or NPZ; - is standard input "
    "or output.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 unusable data or file, 2 wrong usage, 3 no sound fit of these data, 130 stopped.",
)


def run() -> None:
    """Run the command that the arguments of the process say, and exit."""
    execute(sys.argv[1:], _settle)


def _settle() -> None:
    """Settings of JAX: this program owns its process, so it may say so."""
    # Before XLA is there: it warns that it does not know which version a kept program is of, which JAX does, and calls
    # it an error on some processors that one was compiled by a preference, which is no instruction. What fails is
    # raised. 1 is what JAX itself sets, for the processes that a process with JAX starts too.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    _return_memory()
    import jax

    # float64, as files hold numbers.
    jax.config.update("jax_enable_x64", True)
    # Where there is no folder for programs, they are compiled for this run alone.
    with contextlib.suppress(OSError, RuntimeError):
        jaxgmm.keep_programs()


def _return_memory() -> None:
    """Large arrays go back to the system when they are let go: else the holes they leave take twice what is in use."""
    if sys.platform == "linux":
        allocator = ctypes.CDLL(None)
        # Of other C libraries than GNU's, which names these options -3 and -8.
        with contextlib.suppress(AttributeError):
            allocator.mallopt(-3, _SMALL)
            allocator.mallopt(-8, 1)


def execute(arguments: list[str], before: Callable[[], None] = lambda: None) -> None:
    """Run a command and exit, with one line of what is wrong with its input if something is.

    `before` is called once it is clear what is to be run.
    """
    try:
        app(arguments, prog_name="jaxgmm", obj=before)
    except Problem as problem:
        _end(problem, problem.code)
    except BrokenPipeError:
        # Whoever reads has seen enough. Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _end(f"{error.filename}: {error.strerror}" if error.filename else error, 1)
    except (ValueError, MemoryError, NotImplementedError) as error:
        _end(error, 1)
    except KeyboardInterrupt:
        _end("stopped.", 130)


class _Command(typer.core.TyperCommand):
    """A command that imports what it works with when its arguments have been read."""

    def invoke(self, context: Any) -> Any:
        context.obj()
        try:
            return super().invoke(context)
        except KeyboardInterrupt:  # which typer would end the program for, without a word
            raise Problem("stopped.", 130) from None


def _end(message: Any, code: int) -> None:
    print(f"jaxgmm: error: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(code)


def _version(asked: bool | None) -> None:
    if asked:
        print(f"jaxgmm {jaxgmm.__version__}, jax {metadata.version('jax')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Say it and exit.")
    ] = None,
) -> None:
    """Options of the program itself."""


Data = Annotated[
    str, typer.Argument(metavar="DATA", help="Table of rows: a file, a folder, or a pattern; - for standard input.")
]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Saved mixture (.npz).")]
Out = Annotated[str, typer.Option("--out", "-o", help="Table to write; - for standard output.")]
ColumnNames = Annotated[
    list[str] | None, typer.Option("--columns", "-c", help="Columns to use, divided by commas.", show_default=False)
]
Exclude = Annotated[list[str] | None, typer.Option("--exclude", "-x", help="Columns not to use.", show_default=False)]
Format = Annotated[
    str | None, typer.Option("--format", help=f"Of files whose name does not tell: {', '.join(FORMATS)}.")
]
Header = Annotated[
    bool | None,
    typer.Option("--header/--no-header", help="Whether text begins with names; else c1, c2, ... [recognised]"),
]
Separator = Annotated[
    str | None, typer.Option("--separator", help="Between entries of text; ' ' for any blanks. [recognised]")
]
Decimal = Annotated[str | None, typer.Option("--decimal", help="Decimal point of text. [recognised]")]
Thousands = Annotated[str | None, typer.Option("--thousands", help="Between thousands in text. [recognised]")]
Na = Annotated[
    list[str] | None,
    typer.Option("--na", help="A word in text that is a missing entry, as NA and NaN are."),
]
Comment = Annotated[
    str | None, typer.Option("--comment", help="Lines of text that begin so are left out; '' for none. [default: #]")
]
Seed = Annotated[int, typer.Option("--seed", help="Of all that is drawn at random.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text.")]
Prefix = Annotated[str, typer.Option("--prefix", help="Put before the names of columns that are added.")]
Noise = Annotated[
    str | None,
    typer.Option("--noise", help="Columns of this prefix and another column's name are its standard errors."),
]
UnknownLevels = Annotated[
    str,
    typer.Option(
        "--unknown-levels", help="Entries that are no level of the model's: error, or missing, to take them for that."
    ),
]
MissingRows = Annotated[
    str,
    typer.Option(
        "--missing", help="Rows with missing entries: drop (they get nothing), fail, or em (by what there is of them)."
    ),
]


def _layout(
    format: str | None,
    header: bool | None,
    separator: str | None,
    decimal: str | None,
    thousands: str | None = None,
    na: list[str] | None = None,
    comment: str | None = None,
) -> Layout:
    if format is not None and format not in FORMATS:
        raise Problem(f"--format is {format!r}; expected one of {', '.join(FORMATS)}.", 2)
    return Layout(format, header, separator, decimal, thousands, tuple(na or ()), comment)


@app.command(cls=_Command)
def fit(
    data: Data,
    components: Annotated[
        str | None,
        typer.Option(
            "--components",
            "-k",
            help="Numbers to try: 3, 2,4,6 or 1:10 (both included). [default: 1:10, or one for each of --labels]",
            show_default=False,
        ),
    ] = None,
    forms: Annotated[
        str | None,
        typer.Option(
            "--forms",
            help="Covariances to try: full, tied, diag, tied-diag, spherical, tied-spherical; VEI, EVI, VEE, EVE, VVE, "
            "EEV, VEV, EVV by what volume, shape and orientation share; mclust for all of these; lowrank-Q, or "
            "lowrank-Q-spherical, of Q factors. [default: full,tied,diag,spherical]",
            show_default=False,
        ),
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(
            "--family",
            help="Fit columns of every kind: auto, or COLUMN=FAMILY, divided by commas, of gaussian (or a covariance "
            "such as full), lognormal, gamma, exponential, beta, von-mises, student-t, poisson, negative-binomial, "
            "bernoulli, categorical. Columns may be patterns; those not named are auto.",
            show_default=False,
        ),
    ] = None,
    effort: Annotated[
        str, typer.Option("--effort", help="How long to look for better fits: low, normal or high.")
    ] = "normal",
    restarts: Annotated[
        int | None, typer.Option("--restarts", help="Starts of each candidate, instead of --effort.", min=1)
    ] = None,
    criterion: Annotated[
        str | None,
        typer.Option(
            "--criterion",
            help="What decides: bic, icl, aic, aicc, cv (cross-validation), or evidence, with --objective variational. "
            "[default: bic, or evidence where there is one]",
            show_default=False,
        ),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            "--objective",
            help="What a fit climbs: likelihood; map, with a prior that keeps components on few rows sound; or "
            "variational, in which components that are not needed lose their rows and are left out.",
        ),
    ] = "likelihood",
    sort: Annotated[
        str | None, typer.Option("--sort", help="Number components by this column's mean, or by 'weight'.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by", help="A mixture for each group of rows with the same entries in these.", show_default=False
        ),
    ] = None,
    parts: Annotated[
        str | None, typer.Option("--parts", help="With --by: keep here what is done, and go on from it.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option("--resume", help="Keep here, and in a file beside it, where a fit to a large table stands."),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option("--max-seconds", help="Stop the fit to all rows of a large table after so many seconds.", min=0),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Save the mixture here (.npz); with --by, a table of them.")
    ] = None,
    assign: Annotated[
        str | None, typer.Option("--assign", help="Write the rows with component and probability here.")
    ] = None,
    figure: Annotated[str | None, typer.Option("--figure", help="Draw the fit here (.png, .pdf, .svg).")] = None,
    columns: ColumnNames = None,
    exclude: Exclude = None,
    weights: Annotated[str | None, typer.Option("--weights", help="Column of row weights, such as counts.")] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", help="Column of known classes, a component each; empty where a row's is not known."),
    ] = None,
    noise: Noise = None,
    noise_component: Annotated[
        bool, typer.Option("--noise-component", help="One more component, -1, for rows that belong to nothing.")
    ] = False,
    missing: Annotated[
        str,
        typer.Option(
            "--missing",
            help="Rows with missing entries: drop (and say how many), fail, or em (fit them by what there is of them).",
        ),
    ] = "drop",
    outliers: Annotated[
        str, typer.Option("--outliers", help="Rows that stand alone: exclude (and say which) or keep.")
    ] = "exclude",
    spurious: Annotated[
        bool, typer.Option("--spurious", help="Accept components on equal rows, or on a few nearly equal ones.")
    ] = False,
    regularization: Annotated[
        float, typer.Option("--regularization", help="Floor under variances, as a share of the data's.")
    ] = 1e-6,
    tol: Annotated[float, typer.Option("--tol", help="Stop when a row has no more log-likelihood to gain.")] = 1e-6,
    max_iter: Annotated[int, typer.Option("--max-iter", help="Most steps of a start.")] = 1000,
    dtype: Annotated[str, typer.Option("--dtype", help="float64, or float32 for speed.")] = "float64",
    seed: Seed = 0,
    json: Json = False,
    format: Format = None,
    header: Header = None,
    separator: Separator = None,
    decimal: Decimal = None,
    thousands: Thousands = None,
    na: Na = None,
    comment: Comment = None,
    prefix: Prefix = "",
) -> None:
    """Fit mixtures to a table and choose one.

    The criterion chooses among --components and --forms. All columns of numbers are used unless --columns or
    --exclude say otherwise; with --family, those of names, truths and counts as well. Empty entries, NA, NaN and null
    are missing.

    Example: jaxgmm fit data.csv --components 1:6 --forms full,diag --out model.npz --assign assigned.csv

    Columns of every kind: jaxgmm fit survey.csv --family auto --components 1:6 --missing em --out model.npz

    Many mixtures: jaxgmm fit genes.parquet --by gene --components 1:4 --forms diag --out models.parquet
    """
    from jaxgmm.cli import fitting, grouped

    if json and "-" in (assign, out):
        raise Problem("--json and a table both want standard output; name a file.", 2)
    what = fitting.FitCommand(
        data=data,
        layout=_layout(format, header, separator, decimal, thousands, na, comment),
        components=components,
        forms=forms,
        criterion=criterion or ("evidence" if objective == "variational" else "bic"),
        objective=objective,
        columns=columns,
        exclude=exclude,
        weights=weights,
        labels=labels,
        noise=noise,
        noise_component=noise_component,
        missing=missing,
        outliers=outliers,
        dtype=dtype,
        seed=seed,
        sort=sort,
        effort=effort,
        restarts=restarts,
        options={"regularization": regularization, "tol": tol, "max_iter": max_iter, "spurious": spurious},
        resume=resume,
        max_seconds=max_seconds,
        family=family,
    )
    if by and family:
        raise Problem("--by is of columns of numbers, and takes no --family; leave one of them out.", 2)
    if by and (resume is not None or max_seconds is not None):
        raise Problem("--resume and --max-seconds take no --by; --parts keeps what is done of many groups.", 2)
    if parts is not None and not by:
        raise Problem("--parts keeps what is done of many groups; say --by for the column that tells them apart.", 2)
    command = grouped.GroupedCommand(what, by, parts) if by else what
    command.run(out=out, assign=assign, figure=figure, prefix=prefix, json=json)


@app.command(cls=_Command)
def predict(
    model: Model,
    data: Data,
    out: Out = "-",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Add the probability of every component.")
    ] = False,
    columns: ColumnNames = None,
    noise: Noise = None,
    missing: MissingRows = "drop",
    unknown_levels: UnknownLevels = "error",
    format: Format = None,
    header: Header = None,
    separator: Separator = None,
    decimal: Decimal = None,
    thousands: Thousands = None,
    na: Na = None,
    comment: Comment = None,
    prefix: Prefix = "",
) -> None:
    """Add each row's component.

    Writes the rows of DATA with the component each belongs to, and how probably. Components count from 0, or have the
    names of the classes that the model was fitted with. Rows with missing entries get none, unless --missing em has
    them told by what there is of them.
    """
    from jaxgmm.cli import applying, report

    layout = _layout(format, header, separator, decimal, thousands, na, comment)
    known = applying.Known(missing, noise, unknown_levels=unknown_levels)
    loaded = applying.Loaded.of(model)
    notes = applying.predict(loaded, data, out, layout, columns, prefix, known, probabilities=probabilities)
    report.noted(notes)


@app.command(cls=_Command)
def score(
    model: Model,
    data: Data,
    out: Out = "-",
    quantile: Annotated[
        float | None,
        typer.Option(
            "--quantile",
            help="Mark rows less likely than this share of the rows fitted to. [default: 0.01]",
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Mark rows of lower log-density than this, instead.")
    ] = None,
    columns: ColumnNames = None,
    noise: Noise = None,
    missing: MissingRows = "drop",
    unknown_levels: UnknownLevels = "error",
    json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON; needs --out to be a file.")] = False,
    format: Format = None,
    header: Header = None,
    separator: Separator = None,
    decimal: Decimal = None,
    thousands: Thousands = None,
    na: Na = None,
    comment: Comment = None,
    prefix: Prefix = "",
) -> None:
    """Add each row's log-density; mark anomalies.

    A row is an anomaly if its log-density is below a threshold, which by default one row in a hundred was below of
    those that the model was fitted to. Rows with missing entries get none, or with --missing em the log-density of what
    there is of them, which is compared with a --threshold alone.
    """
    from jaxgmm.cli import applying, report

    if json and out == "-":
        raise Problem("--json and the table both want standard output; name a file with --out.", 2)
    layout = _layout(format, header, separator, decimal, thousands, na, comment)
    known = applying.Known(missing, noise, unknown_levels=unknown_levels)
    summary = applying.score(applying.Loaded.of(model), data, out, layout, columns, prefix, quantile, threshold, known)
    report.scored(summary, json=json)


@app.command(cls=_Command)
def impute(
    model: Model,
    data: Data,
    out: Out = "-",
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="SEED", help="Draw entries with this seed instead.")
    ] = None,
    columns: ColumnNames = None,
    noise: Noise = None,
    json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON; needs --out to be a file.")] = False,
    format: Format = None,
    header: Header = None,
    separator: Separator = None,
    decimal: Decimal = None,
    thousands: Thousands = None,
    na: Na = None,
    comment: Comment = None,
) -> None:
    """Fill missing entries.

    Writes the table with each missing entry of the mixture's columns replaced by its mean given the entries that are
    there, or by a draw, which keeps the spread. All else stays as it is.
    """
    from jaxgmm.cli import applying, report

    if json and out == "-":
        raise Problem("--json and the table both want standard output; name a file with --out.", 2)
    layout = _layout(format, header, separator, decimal, thousands, na, comment)
    known = applying.Known("em", noise)
    summary = applying.impute(applying.Loaded.of(model), data, out, layout, columns, known, sample)
    report.imputed(summary, json=json)


@app.command(cls=_Command)
def sample(
    model: Model,
    n: Annotated[int, typer.Option("--rows", "-n", help="Number of rows.", min=1)] = 100,
    out: Out = "-",
    labels: Annotated[bool, typer.Option("--labels", help="Add the component each row comes from.")] = False,
    seed: Seed = 0,
    format: Format = None,
    header: Header = None,
    separator: Separator = None,
    decimal: Decimal = None,
    prefix: Prefix = "",
) -> None:
    """Draw rows from the mixture."""
    from jaxgmm.cli import applying

    layout = _layout(format, header, separator, decimal)
    applying.sample(applying.Loaded.of(model), n, out, layout, seed, prefix, labels=labels)


@app.command(cls=_Command)
def show(model: Model, json: Json = False) -> None:
    """Print the mixture."""
    from jaxgmm.cli import applying, report

    report.shown(applying.Loaded.of(model), json=json)
