"""Run the comparisons one after another and write docs/performance.md.

    python benchmarks/run_all.py            # all of them: hours
    python benchmarks/run_all.py NAME...    # these alone; the others' sections stay

The machine should have nothing else to do.
"""

import argparse
import datetime
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from collapseflow.running.files import atomic_path
from data import ROOT
from harness import CORES

PAGE = ROOT / "docs" / "performance.md"
SCRIPTS = ROOT / "benchmarks"
COMPARISONS = (
    *("training", "accuracy", "rounding", "compilation", "extraction", "scattering", "collapse"),
    *("classifiers", "probes", "embedding", "stores", "study", "restyle", "planning", "scale"),
)
PACKAGES = (
    *("torch", "torchvision", "kymatio", "scikit-learn", "scikit-learn-intelex", "openTSNE"),
    *("h5py", "numpy", "snakemake", "collapseflow"),
)


@dataclass(frozen=True)
class Section:
    """What a comparison printed, in Markdown, and the date, YYYY-MM-DD."""

    date: str
    text: str


def run(name: str) -> tuple[Section, bool]:
    """Run a comparison, its progress on the screen; also tells whether it succeeded."""
    print(f"{name}.py", file=sys.stderr, flush=True)
    command = [sys.executable, SCRIPTS / f"{name}.py"]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    text = child.stdout.strip() or f"## {name}"
    if child.returncode:
        text += f"\n\n**`{name}.py` failed with exit status {child.returncode}.**"
    return Section(datetime.date.today().isoformat(), text), child.returncode == 0


def read_page(path: Path) -> dict[str, Section]:
    """The sections of a page that :func:`write_page` has written, by the comparisons' names."""
    if not path.exists():
        return {}
    parts = re.split(r"^<!-- (\w+) (\S+) -->$", path.read_text(encoding="utf-8"), flags=re.M)
    return {
        name: Section(date, re.sub(r"\n\nMeasured on \S+$", "", text.strip()))
        for name, date, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    }


def write_page(path: Path, sections: dict[str, Section]) -> None:
    """Write the page, atomically; sections of another date than the newest say theirs."""
    newest = max(section.date for section in sections.values())
    blocks = [
        "# What every stage takes, beside what one would write instead",
        "Measured by `python benchmarks/run_all.py`; each section by the script in `benchmarks/` "
        "that the comment above it names (`python benchmarks/run_all.py collapse` renews one). "
        "Every side of a comparison runs in a fresh process, the sides in alternating rounds; a "
        "ratio is the median of the ratios within a round, with the smallest and the largest in "
        "brackets. Starting Python and importing is not timed, except in studies and plans. MiB is "
        "what the work adds to its process at the peak, and on a card what PyTorch has taken of "
        "its memory, data set and weights included. Sections of different dates may be of machines "
        "of different speed: only what stands in one section can be compared.",
        machine(),
        versions(),
        f"Measured on {newest}.",
    ]
    missing = [f"`{name}`" for name in COMPARISONS if name not in sections]
    if missing:
        blocks.append(f"Not measured here yet: {', '.join(missing)}.")
    for name in COMPARISONS:
        if name in sections:
            section = sections[name]
            blocks += [f"<!-- {name} {section.date} -->", section.text]
            if section.date != newest:
                blocks.append(f"Measured on {section.date}.")
    with atomic_path(path) as temporary:
        temporary.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def machine() -> str:
    """Processor, cores, memory, operating system and card, in words."""
    memory = psutil.virtual_memory().total / 2**30
    return f"Machine: {processor()}, {CORES} cores, {memory:.0f} GiB, {system()}; {card()}."


def card() -> str:
    """The card's name, asked for in a process that gives the card back when it ends."""
    program = "import torch; print(torch.cuda.is_available() and torch.cuda.get_device_name())"
    words = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    name = words.stdout.strip()
    return "not measured on a GPU" if name in ("", "False") else name


def processor() -> str:
    """The model's name."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)$", info.read_text(), re.M) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def system() -> str:
    """The operating system's name."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.platform(terse=True)


def versions() -> str:
    """Of Python and of the packages that are installed."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"Versions: {', '.join(found)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(COMPARISONS)}")
    names = parser.parse_args().names
    unknown = set(names) - set(COMPARISONS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(COMPARISONS)}")
    failed = []
    for name in names or COMPARISONS:
        section, succeeded = run(name)
        # After each of them: a run that is cut off keeps what it has measured.
        write_page(PAGE, {**read_page(PAGE), name: section})
        if not succeeded:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
