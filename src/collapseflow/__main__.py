"""``python -m collapseflow verify FILE``: check a feature store."""

import argparse
import sys

from collapseflow.errors import UserError


def verify(arguments: argparse.Namespace) -> None:
    from collapseflow.stores import verify as verify_store

    for path in arguments.file:
        print(verify_store(path))


def check_config(arguments: argparse.Namespace) -> None:
    from collapseflow.config import Study, check_against_libraries

    lines = check_against_libraries(Study.model_validate_json(sys.stdin.read()))
    if lines:
        raise UserError("\n".join(lines))


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit status is 1 for a :class:`UserError`, whose text is printed."""
    parser = argparse.ArgumentParser(prog="python -m collapseflow")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("verify", help="check feature stores from first to last byte")
    command.add_argument("file", nargs="+")
    command.set_defaults(run=verify)
    command = commands.add_parser(
        "check-config",
        help="check a study (JSON on standard input) against torchvision and scikit-learn",
    )
    command.set_defaults(run=check_config)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except UserError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
