"""Files of weights: written as safetensors, read as people have them, known by their digest."""

import hashlib
import json
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path

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


def load_state(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read a state dict and its metadata: safetensors, or a PyTorch file without code.

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
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        if isinstance(error, pickle.UnpicklingError) and "Unsupported global" in str(error):
            raise UserError(
                f"{path}: holds Python objects, such as a whole network, which could run any code; "
                "allowed: a state dict, torch.save(network.state_dict(), ...)"
            ) from None
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        # PyTorch's own advice is to run what the file brings along.
        line = "no file of PyTorch's" if isinstance(error, pickle.UnpicklingError) else line
        raise UserError(f"{path}: no readable state dict ({line}); replace it") from None
    if not isinstance(state, Mapping):
        raise UserError(f"{path}: holds a {type(state).__name__}, no state dict; replace it")
    if not _is_state_dict(state):
        inside = [
            f"torch.load(...)[{key!r}]" for key, value in state.items() if _is_state_dict(value)
        ]
        raise UserError(
            f"{path}: holds {', '.join(map(str, state))}, which are no tensors of a network; "
            f"allowed: a state dict{f' alone, here {inside[0]}' if inside else ''}"
        )
    return state, {}


def _is_state_dict(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(v, torch.Tensor) for v in value.values())


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
    state, _ = load_state(path)
    content = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().contiguous()
        content.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        content.update(bytes_of(value))
    return content.hexdigest()


def describe_weights(path: str | Path) -> str:
    """What weights a file holds, in words, and the digest of its tensors."""
    words = read_metadata(path).get("weights")
    return f"{words or f'file {Path(path).name}'}; SHA-256 of the tensors {weights_digest(path)}"
