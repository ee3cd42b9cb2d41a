"""The threads of matrix products."""

from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def _pools() -> ThreadpoolController:
    # Looking for the libraries that a process has loaded takes milliseconds.
    return ThreadpoolController()


def blas_threads(threads: int) -> AbstractContextManager:
    """Let the matrix products of NumPy and SciPy take so many threads within a block."""
    return _pools().limit(limits=threads, user_api="blas")
