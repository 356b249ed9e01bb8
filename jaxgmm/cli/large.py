"""Tables larger than memory: a mixture that was chosen on a sample of the rows, fitted to all of them."""

import dataclasses
import hashlib
import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm
from jaxgmm.cli.problem import NOT_FITTED, Problem
from jaxgmm.cli.selected import Selected, Whole
from jaxgmm.ground.parts import recut
from jaxgmm.selection.candidates import Candidate, Selection
from jaxgmm.selection.criteria import bic_of
from jaxgmm.selection.outliers import Seen, beyond, most_alone, without_company

# Rows that a line names.
_LISTED = 8
# What is kept of a candidate, beside the status of its fit.
_WORDS = ("form", "n_components", "n_parameters", "regular", "error")
_NUMBERS = ("passed_over", "log_likelihood", "aic", "aicc", "bic", "icl", "cv", "evidence")


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What came of a fit to all rows.

    Fields: `result`; `bic` of it; `total_weight` of the rows; `stopped`, None or by what; `notes`, what is worth a
    line.
    """

    result: jaxgmm.FitResult
    bic: float
    total_weight: float
    stopped: str | None
    notes: list[str]

    @property
    def status(self) -> jaxgmm.Status:
        """Of the result."""
        return jaxgmm.Status(int(self.result.status))

    def told(self) -> dict[str, Any]:
        """What it came to, over all rows."""
        return {
            "total_weight": self.total_weight,
            "log_likelihood": float(self.result.log_likelihood),
            "bic": self.bic,
            "status": self.status.name,
            "n_iter": int(self.result.n_iter),
        }


def fit_all(
    rows: Selected,
    whole: Whole,
    selection: Selection,
    objective: Any,
    options: dict[str, Any],
    checkpoint: str | None,
    max_seconds: float | None,
    *,
    exclude: bool,
) -> tuple[Whole, Fitted]:
    """Fit the winner of a selection among a sample to all rows, and say which of them were fitted.

    `rows` are those of the sample, in the columns of the whole; with `exclude`, rows that stand alone are set aside.
    """
    started, notes = time.monotonic(), []
    start, scale = selection.best.mixture, jaxgmm.scale_of(rows.record())
    if exclude:
        aside = _alone(start, whole, np.asarray(scale))
        if aside is None:
            notes.append(
                f"More than {most_alone(whole.n)} of all rows are as far from the mixture as rows that stand alone. "
                "They are taken for tails of the data, and none of them is set aside."
            )
        elif aside.size:
            whole = whole.without(aside)
            places = ", ".join(str(place + 1) for place in aside[:_LISTED]) + ", ..." * (aside.size > _LISTED)
            which = "1 of all rows stands" if aside.size == 1 else f"{aside.size} of all rows stand"
            notes.append(f"{which} alone, set aside in the fit to all: {places}, counted from 1.")
    batches = whole.batches(rows.columns)
    options = {name: value for name, value in options.items() if name != "spurious"}
    seconds = None if max_seconds is None else max(0.0, max_seconds - (time.monotonic() - started))
    result = jaxgmm.fit_batches(
        start,
        batches,
        scale=scale,
        objective=objective,
        checkpoint=checkpoint,
        max_seconds=seconds,
        progress=True,
        **options,
    )
    stopped = None
    if int(result.status) == jaxgmm.Status.STOPPED:
        stopped = "time" if max_seconds is not None and time.monotonic() - started >= max_seconds else "interrupt"
    totals = batches.totals()
    value = float(result.log_likelihood)
    if int(result.n_iter) < 0 or not np.isfinite(value):
        _refuse(result, stopped)
    bic = float(bic_of(value, selection.winner.n_parameters, totals.told, np))
    return dataclasses.replace(whole, n=totals.n), Fitted(result, bic, totals.weight, stopped, notes)


def _refuse(result: jaxgmm.FitResult, stopped: str | None) -> None:
    if stopped == "interrupt":
        raise Problem("stopped before the first pass over all rows was done; nothing was written.", 130)
    if stopped is not None:
        raise Problem("--max-seconds ended before the first pass over all rows was done; nothing was written.")
    status = jaxgmm.Status(int(result.status))
    raise Problem(f"the fit to all rows has no finite likelihood: {status.text}", NOT_FITTED)


def _alone(mixture: jaxgmm.Mixture, whole: Whole, scale: np.ndarray) -> np.ndarray | None:
    """Which rows of the table stand alone beside a mixture that was fitted to a sample; None if too many are far."""
    most, size = most_alone(whole.n), whole.batch_size
    places: list[np.ndarray] = []
    far: list[np.ndarray] = []
    for rows in recut(whole.parts(size), size):
        evidence = whole.evidence(rows)
        here = np.flatnonzero(np.asarray(beyond(mixture, evidence, np.ones(evidence.n, bool)))[0][: len(rows["x"])])
        places.append(rows["place"][here])
        far.append(rows["x"][here])
        if sum(map(len, places)) > most:
            return None
    every, x = np.concatenate(places), np.concatenate(far)
    away = np.ones(every.size, bool)
    seen = Seen(away, away, away, np.asarray(mixture.weights), np.asarray(mixture.means))
    return every[without_company(x, seen, whole.n, scale)]


@dataclasses.dataclass(frozen=True)
class Kept:
    """The choice that was made among a sample, in a file: so that a fit goes on without making it anew.

    Fields: `path`; `of`, what tells it from other choices: options, and the rows.
    """

    path: str
    of: dict[str, Any]

    @classmethod
    def beside(cls, checkpoint: str, options: dict[str, Any], rows: Selected) -> "Kept":
        """The file beside a checkpoint, of these options and rows."""
        found = hashlib.sha256()
        for array in (rows.x, rows.weights, rows.noise, rows.labels, rows.places):
            if array is not None:
                found.update(np.ascontiguousarray(array).tobytes())
        versions = f"jaxgmm {jaxgmm.__version__}, jax {jax.__version__}"
        of = {**options, "columns": rows.columns, "rows": f"{rows.n} {found.hexdigest()}", "versions": versions}
        return cls(f"{checkpoint}.start", of)

    def keep(self, selection: Selection) -> None:
        """Write it, whole or not at all."""
        candidates = [
            {name: getattr(one, name) for name in _WORDS}
            | {"form": str(one.form)}
            | {name: getattr(one, name).hex() for name in _NUMBERS}
            | {"result": None if one.result is None else [int(one.result.status), float(one.result.objective).hex()]}
            for one in selection.candidates
        ]
        told = {
            "of": self.of,
            "candidates": candidates,
            "criterion": selection.criterion,
            "resolution": float(selection.resolution).hex(),
            "outliers": list(selection.outliers),
            "columns": list(selection.columns),
            "constants": [[place, float(value).hex()] for place, value in selection.constants.items()],
            "spurious": selection.spurious,
        }
        jaxgmm.save(self.path, selection.best.mixture, {"choice": told})

    def kept(self) -> Selection | None:
        """The choice, None if there is none yet. Of candidates that were not chosen there are no mixtures.

        Raises `Problem` if it is another one, with what differs.
        """
        if not os.path.exists(self.path):
            return None
        mixture, told = jaxgmm.load(self.path), jaxgmm.load_metadata(self.path).get("choice")
        if not isinstance(told, dict) or not isinstance(told.get("of"), dict):
            raise Problem(f"{self.path}: holds no choice that a fit began with; name another file by --resume.")
        if other := [name for name, value in self.of.items() if told["of"].get(name) != value]:
            raise Problem(
                f"--resume: {self.path} is of another fit, with other {', '.join(other)}. Say what that fit was told, "
                "name another file, or delete this one and the one beside it to begin anew."
            )
        return Selection(
            tuple(_candidate(one, mixture) for one in told["candidates"]),
            told["criterion"],
            float.fromhex(told["resolution"]),
            None,
            outliers=tuple(told["outliers"]),
            columns=tuple(told["columns"]),
            constants={place: float.fromhex(value) for place, value in told["constants"]},
            spurious=told["spurious"],
        )


def _candidate(told: dict[str, Any], mixture: jaxgmm.Mixture) -> Candidate:
    numbers = {name: float.fromhex(told[name]) for name in _NUMBERS}
    result: Any = None
    if told["result"] is not None:
        status, objective = told["result"]
        result = jaxgmm.FitResult(
            mixture=mixture,
            log_likelihood=jnp.asarray(numbers["log_likelihood"]),
            objective=jnp.asarray(float.fromhex(objective)),
            n_iter=jnp.asarray(0),
            status=jnp.asarray(status),
            history=jnp.zeros(0),
            degenerate_components=jnp.zeros(0, bool),
            remaining=jnp.asarray(jnp.nan),
        )
    words: dict[str, Any] = {name: told[name] for name in _WORDS}
    return Candidate(**words, **{"result": result, **numbers})
