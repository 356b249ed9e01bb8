"""The file of results: rows of every case, and the machine and versions they were measured with."""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("jaxgmm", "jax", "jaxlib", "numpy", "scipy", "scikit-learn", "gmmx", "tgmm", "pomegranate", "torch")
PACKAGES += ("numpyro", "distrax")


def load(path: Path) -> dict[str, Any]:
    """What was measured before, or nothing."""
    return json.loads(path.read_text()) if path.exists() else {"rows": []}


def merge(path: Path, case: str, dtype: str, rows: list[dict[str, Any]], *, first: bool, quick: bool = False) -> None:
    """Add rows; with the first of a case and dtype, older ones are dropped."""
    content = load(path)
    kept = content["rows"]
    if first:
        kept = [row for row in kept if (row["case"], row["dtype"]) != (case, dtype)]
    # Each case remembers what it ran on, as others may be older.
    ran = content.get("ran", {}) | {f"{case} {dtype}": {"date": str(datetime.date.today()), "commit": commit()}}
    about = content.get("machine", {}) | machine()
    content = {"quick": quick, "machine": about, "versions": versions(), "ran": ran, "rows": kept + rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)


def machine() -> dict[str, Any]:
    """Processor, cores and memory; nothing that names the machine."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists() and (found := re.search(r"model name\s*:\s*(.*)", information.read_text())):
        model = found[1]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": model, "cores": os.cpu_count(), "memory_gib": round(memory, 1), "system": platform.system()}


def versions() -> dict[str, str]:
    """Versions of Python and of every contender that is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit that was measured, marked if the working tree differs from it."""
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
