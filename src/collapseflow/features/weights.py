"""Files of weights: written as safetensors, read as people have them, known by their digest."""

import hashlib
import json
import pickle
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from collapseflow.running.errors import UserError
from collapseflow.running.files import MADE_WITH, adopt, check, checked_path, made_with


def save_state(
    path: str | Path,
    state: dict[str, torch.Tensor],
    metadata: dict[str, str],
    made_from: Iterable[str] = (),
) -> str:
    """Write tensors as safetensors, with their checksums.

    ``made_from`` are versions behind what the tensors were made from; those of now are added.

    Returns
    -------
    SHA-256 of the file's bytes, as hexadecimal digits: of the tensors as they are in memory, not
    as they are read again.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    versions = json.dumps(made_with(made_from))
    with checked_path(path) as temporary:
        safetensors.torch.save_file(state, temporary, metadata | {MADE_WITH: versions})
        with open(temporary, "rb") as file:
            n_bytes = file.read(8)
            header = file.read(int.from_bytes(n_bytes, "little"))
    content = hashlib.sha256(n_bytes + header)
    # Behind the header the tensors follow each other without a gap, in the order of their offsets.
    entries = json.loads(header)
    names = sorted(state, key=lambda name: entries[name]["data_offsets"])
    for name in names:
        content.update(bytes_of(state[name]))
    return content.hexdigest()


def bytes_of(tensor: torch.Tensor) -> np.ndarray:
    """The bytes of a contiguous tensor in the host's memory, uint8 (n,)."""
    return tensor.reshape(-1).view(torch.uint8).numpy()


#: What reading a missing, cut off or foreign file of weights raises.
UNREADABLE = (
    *(OSError, RuntimeError, SafetensorError, ValueError, EOFError, pickle.UnpicklingError),
    # Of a file that is no pickle, and is read as one.
    *(LookupError, TypeError, AttributeError),
)


#: The entries of a checkpoint that a state dict is taken from: the first of them that holds one.
#: Averaged weights come last: what was averaged, and how, the file does not say.
ENTRIES = (
    *("state_dict", "model_state_dict", "model", "net", "network"),
    *("state_dict_ema", "model_ema", "ema"),
)
#: The entries that name the classes, beside the state dict or among what Lightning calls
#: hyperparameters: a list, or the number of each name.
CLASSES = ("class_names", "classes", "class_to_idx")
_MAKES_A_NUMBER = np.float64(0).__reduce__()[0]
#: Plain values that stand beside the weights in checkpoints and that ``weights_only`` refuses
#: unless it is told of them: arguments of a command line, paths, NumPy's numbers. They run no code.
PLAIN = (
    Namespace,
    PosixPath,
    *(np.dtype, np.dtypes.Float32DType, np.dtypes.Float64DType, np.dtypes.Int64DType),
    *((_MAKES_A_NUMBER, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
)


def load_state(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read a state dict and its metadata: safetensors, or a PyTorch file without code.

    A PyTorch file holds the state dict, or a dictionary with it in one of :data:`ENTRIES`. Then
    the metadata have ``entry``, which one it was, and ``class_names`` (:func:`class_names`) where
    one of :data:`CLASSES` has them.

    Raises
    ------
    UserError
        Naming the file, if it cannot be read, is not as its checksums say, or holds something else
        than tensors by their names.
    """
    try:
        if str(path).endswith(".safetensors"):
            metadata = read_metadata(path)
            return safetensors.torch.load_file(path), metadata
        with torch.serialization.safe_globals([*PLAIN]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        if objects := _python_objects(path, error):
            raise UserError(
                f"{path}: holds Python objects ({objects}), which could run any code; allowed: a "
                "state dict, torch.save(network.state_dict(), ...), or where you trust the file "
                "torch.save(torch.load(..., weights_only=False)['state_dict'], ...)"
            ) from None
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        # PyTorch's own advice is to run what the file brings along.
        line = "no file of PyTorch's" if isinstance(error, pickle.UnpicklingError) else line
        raise UserError(f"{path}: no readable state dict ({line}); replace it") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds a {type(content).__name__}, no state dict; replace it")
    if _is_state_dict(content):
        return dict(content), {}
    entries = [name for name in ENTRIES if content.get(name) and _is_state_dict(content[name])]
    if not entries:
        inside = [
            f"torch.load(...)[{key!r}]" for key, value in content.items() if _is_state_dict(value)
        ]
        others = first_of(k for k, value in content.items() if not isinstance(value, torch.Tensor))
        raise UserError(
            f"{path}: holds {others}, which are no tensors of a network; "
            f"allowed: a state dict{f' alone, here {inside[0]}' if inside else ''}"
        )
    taken, *others = entries
    metadata = {"entry": f"{taken}, not {', '.join(others)}" if others else taken}
    if names := _named_classes(content):
        metadata["class_names"] = json.dumps(names)
    return dict(content[taken]), metadata


def _python_objects(path: str | Path, error: Exception) -> str:
    """What a PyTorch file holds beside tensors and plain values, in words; nothing if its error is
    another one."""
    if "TorchScript" in str(error):
        return "TorchScript"
    if not isinstance(error, pickle.UnpicklingError) or "Unsupported" not in str(error):
        return ""
    try:
        with torch.serialization.safe_globals([*PLAIN]):
            found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            # Of a network its own classes say more than PyTorch's.
            return first_of(sorted(found, key=lambda name: (name.startswith("torch."), name)))
    except UNREADABLE:
        # Before version 1.6 PyTorch wrote files that cannot be asked.
        return "such as a whole network"


def first_of(names: Iterable[object], n: int = 3) -> str:
    """The first of some names, and that there are more."""
    names = list(map(str, names))
    return ", ".join([*names[:n], *(["..."] if len(names) > n else [])])


def _is_state_dict(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(v, torch.Tensor) for v in value.values())


def _named_classes(content: Mapping[str, Any]) -> list[str] | None:
    """The names of the classes in a checkpoint, by number."""
    for place in (content, content.get("hyper_parameters")):
        for key in CLASSES if isinstance(place, Mapping) else ():
            if names := _in_order(place.get(key)):
                return names
    return None


def _in_order(names: object) -> list[str] | None:
    """The names in a list, or in a dictionary from name to number; None of anything else."""
    if isinstance(names, Mapping):
        numbers = {number: name for name, number in names.items() if isinstance(number, int)}
        if len(numbers) < len(names) or sorted(numbers) != list(range(len(names))):
            return None
        names = [numbers[number] for number in range(len(names))]
    if not isinstance(names, list | tuple):
        return None
    return list(map(str, names)) if all(isinstance(name, str | int) for name in names) else None


def class_names(metadata: Mapping[str, str]) -> list[str] | None:
    """The names of the classes that the last layer tells, by number, as metadata have them in
    JSON: a list, or a dictionary from name to number. None where they have none."""
    try:
        return _in_order(json.loads(metadata.get("class_names", "null")))
    except ValueError:
        return None


def read_metadata(path: str | Path) -> dict[str, str]:
    """What a file of weights says of itself; nothing if it is not a safetensors file."""
    if not str(path).endswith(".safetensors"):
        return {}
    check(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    adopt(path)
    return metadata


def weights_made_with(path: str | Path) -> list[str]:
    """The versions of the libraries that a file of weights was made with; none if it is foreign."""
    return json.loads(read_metadata(path).get(MADE_WITH, "[]"))


def weights_digest(path: str | Path) -> str:
    """SHA-256 of the tensors in a file: their names, types, shapes and values.

    What else the file says, such as how long training took, does not count: equal weights have
    equal digests.

    Raises
    ------
    UserError
        As :func:`load_state`.
    """
    return digest_of(load_state(path)[0])


def digest_of(state: Mapping[str, torch.Tensor]) -> str:
    """As :func:`weights_digest`, of tensors that are read already."""
    content = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().contiguous()
        content.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        content.update(bytes_of(value))
    return content.hexdigest()
