"""Run the comparisons and write what they print to docs/performance.md.

    python benchmarks/run_all.py [NAME...]

All of them take hours; with names, only these are run and their sections replaced.
"""

import argparse
import datetime
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from data import ROOT

PAGE = ROOT / "docs" / "performance.md"
#: In the order of the page.
COMPARISONS = (
    *("training", "accuracy", "compilation", "extraction", "scattering", "collapse"),
    *("classifiers", "embedding", "stores", "study", "restyle", "planning", "scale"),
)
LIBRARIES = (
    *("torch", "torchvision", "kymatio", "scikit-learn", "scikit-learn-intelex", "openTSNE"),
    *("h5py", "numpy", "scipy", "snakemake", "collapseflow"),
)


def heading() -> str:
    """What the page is, the machine and the versions."""
    return f"""# Performance, measured

Each section is what one command of `benchmarks/` printed (`python benchmarks/NAME.py`;
`python benchmarks/run_all.py NAME` writes it here). Every side of a comparison runs in a process of
its own, one after another in alternating rounds; a ratio is the median over the rounds of the ratio
within a round, with its range and the number of rounds; "MiB" is the memory that the work added to
its process. Starting Python and importing is not timed where two sides are compared. The goals are
those that the project set itself.

{machine()}

{versions()}
"""


def machine() -> str:
    """Processor, cores, memory, system and card."""
    import psutil
    import torch

    names = re.findall(r"^model name\s*: (.*)$", _read("/proc/cpuinfo"), flags=re.M)
    processor = names[0] if names else platform.processor() or platform.machine()
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return (
        f"Machine: {processor}, {psutil.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()} "
        f"{platform.machine()}; {card or '**not measured on a GPU**'}."
    )


def versions() -> str:
    """Python and the libraries behind the numbers."""
    found = [f"Python {platform.python_version()}"]
    for library in LIBRARIES:
        try:
            found.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            found.append(f"no {library}")
    return f"Versions: {', '.join(found)}."


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def run(name: str) -> tuple[bool, str]:
    """Run one comparison; whether it succeeded, and its section."""
    words = [sys.executable, str(Path(__file__).parent / f"{name}.py")]
    print(f"{name}:", file=sys.stderr, flush=True)
    child = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    section = child.stdout.strip() or f"## {name}"
    today = datetime.date.today().isoformat()
    section += f"\n\n`python benchmarks/{name}.py`, {today}."
    if child.returncode:
        section += f" **It failed, with exit status {child.returncode}.**"
    return child.returncode == 0, section


def write_page(page: Path, sections: dict[str, str], order: Sequence[str] = COMPARISONS) -> None:
    """Write the page: these sections, and the others as they stand in it."""
    from collapseflow.files import write_text

    old = page.read_text() if page.exists() else ""
    kept = dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- end -->", old, flags=re.S))
    sections = kept | sections
    parts = [
        f"<!-- {name} -->\n{sections[name]}\n<!-- end -->" for name in order if name in sections
    ]
    write_text(page, "\n".join([heading(), *(f"{part}\n" for part in parts)]))


def main(page: Path = PAGE, run: Callable[[str], tuple[bool, str]] = run) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(COMPARISONS))
    names = parser.parse_args().names or COMPARISONS
    unknown = sorted(set(names) - set(COMPARISONS))
    if unknown:
        parser.error(f"no comparison {unknown[0]}; there are {', '.join(COMPARISONS)}")
    failed = []
    for name in names:
        succeeded, section = run(name)
        write_page(page, {name: section})
        if not succeeded:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
