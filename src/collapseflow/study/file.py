"""Study files as text: read once more, for what Snakemake's own reading passes over.

Snakemake takes the last of two equal keys without a word, and answers a file that is missing or
no YAML with a traceback, before the Snakefile is asked anything.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from collapseflow.running.errors import UserError, did_you_mean

DEFAULT = Path("config/config.yaml")
SUFFIXES = (".yaml", ".yml", ".json")
#: The most that a study file holds: characters in one value, values inside one another, and values
#: in all, where each alias counts as what it stands for.
LONGEST, DEEPEST, MOST = 4_000, 20, 200_000
_BOOLEAN = "tag:yaml.org,2002:bool"
_DATE = "tag:yaml.org,2002:timestamp"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(path: str | Path) -> dict[str, Any]:
    """The content of a study file.

    Raises
    ------
    UserError
        If it cannot be read, is no YAML, has no keys, has one twice, or holds more than a study
        can: the file, the line, the key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        folder = Path(path).parent
        files = [str(f) for s in SUFFIXES for f in folder.glob(f"*{s}")] if folder.is_dir() else []
        raise UserError(
            f"{path}: there is no such study file; {did_you_mean(path, files)}".rstrip("; ")
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: no text in UTF-8; allowed: a study file in YAML") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return parse(text, str(path))


def parse(text: str, name: str) -> dict[str, Any]:
    """As :func:`read`, from the text; ``name`` is what messages call it."""
    try:
        _check_size(text, name)
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            _check_keys(node, name)
        content = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        if mark and any(re.match(r" *\t", line) for line in text.splitlines()[mark.line :][:1]):
            raise UserError(f"{name}{line}: begins with a tab; allowed: spaces") from None
        raise UserError(f"{name}{line}: not YAML ({error.problem})") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{name}: not YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(content, dict):
        raise UserError(f"{name}: holds no keys; allowed: a study file (config/README.md)")
    return content


def _check_size(text: str, name: str) -> None:
    """Refuse what would be too much to compose: PyYAML has no limits, and none for nesting but the
    end of the stack."""
    n = 0
    sizes: dict[str, int] = {}
    unfinished: list[tuple[str | None, int]] = []
    for event in yaml.parse(text, Loader=_Loader):
        here = f"{name}, line {event.start_mark.line + 1}"
        if getattr(event, "tag", None) is not None:
            raise UserError(f"{here}: has the tag {event.tag}; allowed: values without tags")
        if isinstance(event, yaml.CollectionStartEvent):
            unfinished.append((event.anchor, n))
            n += 1
            if len(unfinished) > DEEPEST:
                raise UserError(f"{here}: more than {DEEPEST} values inside one another")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = unfinished.pop()
            sizes[anchor] = n - before
        elif isinstance(event, yaml.ScalarEvent):
            n += 1
            sizes[event.anchor] = 1
            if len(event.value) > LONGEST:
                raise UserError(
                    f"{here}: {event.value[:40]}... has {len(event.value)} characters; "
                    f"allowed: up to {LONGEST}"
                )
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in unfinished):
                raise UserError(f"{here}: *{event.anchor} stands inside of what it stands for")
            n += sizes.get(event.anchor, 0)
        if n > MOST:
            raise UserError(
                f"{here}: more than {MOST} values, each alias counted as what it stands for"
            )


#: What YAML takes for true or false, and a reader for a name.
_NAMES_READ_AS_BOOLEAN = ("no", "off", "yes", "on")


def _check_keys(node: yaml.Node, name: str, path: tuple[str, ...] = ()) -> None:
    """Refuse a key that stands twice, a name that YAML reads as true or false, and what it reads as
    a date, which nothing in a study is."""
    if node.tag == _DATE:
        raise UserError(
            f"{name}, line {node.start_mark.line + 1}: YAML reads {node.value}, at "
            f'{".".join(path)}, as a date; allowed: in quotes, "{node.value}"'
        )
    if isinstance(node, yaml.SequenceNode):
        for position, entry in enumerate(node.value):
            _check_keys(entry, name, (*path, str(position)))
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode):
            here = (*path, key.value)
            if key.value in lines:
                raise UserError(
                    f"{name}, line {line}: the key {'.'.join(here)} stands in line "
                    f"{lines[key.value]} already; allowed: each key once"
                )
            if key.tag == _BOOLEAN and key.value.lower() in _NAMES_READ_AS_BOOLEAN:
                raise UserError(
                    f"{name}, line {line}: YAML reads the key {'.'.join(here)} as true or false; "
                    f'allowed: in quotes, "{key.value}"'
                )
            lines[key.value] = line
            _check_keys(key, name, here)
            _check_keys(value, name, here)


def with_arguments(config: Mapping[str, Any], arguments: Iterable[str]) -> dict[str, Any]:
    """The configuration, with the types that ``--config KEY=VALUE`` gives to nested values.

    Snakemake reads ``pretrain={epochs: 20}`` as a mapping of texts.
    """
    result = dict(config)
    for argument in arguments:
        key, _, text = argument.partition("=")
        if text.lstrip().startswith(("{", "[")):
            result = _merged(result, parse(f"{key}: {text}", f"--config {key}"))
    return result


def _merged(config: Any, change: Any) -> Any:
    if not isinstance(config, Mapping) or not isinstance(change, Mapping):
        return change
    new = {key: _merged(config.get(key), value) for key, value in change.items()}
    return {**config, **new}


def check_command_line(words: Sequence[str]) -> None:
    """Refuse study files of a command line that Snakemake could not read.

    Raises
    ------
    UserError
        As :func:`read`; and for a target behind ``--configfile``, which takes all that follows
        for study files, and for a key with a dot behind ``--config``.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", default=[])
    parser.add_argument("--config", "-C", nargs="+", default=[])
    parser.add_argument("--directory", "-d", default=".")
    given = parser.parse_known_args(words)[0]
    for position, path in enumerate(given.configfile):
        if position and not path.endswith(SUFFIXES):
            raise UserError(
                f"{path}: no study file; what is to be made stands in front: "
                f"snakemake {path} --configfile {given.configfile[0]}"
            )
        read(path)
    default = Path(given.directory) / DEFAULT
    if not given.configfile and default.is_file():
        read(default)
    with_arguments({}, given.config)
    for argument in given.config:
        key, _, value = argument.partition("=")
        if "." in key:
            *sections, last = key.split(".")
            nested = f"{{{last}: {value}}}"
            for section in reversed(sections[1:]):
                nested = f"{{{section}: {nested}}}"
            raise UserError(f"--config {argument}: write '{sections[0]}={nested}'")


def refuse_unreadable() -> None:
    """End in one line what :func:`check_command_line` refuses of this process's command line."""
    try:
        check_command_line(sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
