"""Random numbers are functions of seed, stream and counter, and of nothing else."""

import itertools

import jax
import numpy as np

from vgg_jax.rng import CROP, PERMUTATION, generator, stream_key


def test_keys_are_a_function_of_their_arguments_and_all_differ():
    arguments = list(itertools.product((0, 1, 2**32 - 1), ("dropout", "augment"), (0, 1, 10**6)))
    keys = {tuple(np.asarray(jax.random.key_data(stream_key(*each)))) for each in arguments}
    assert len(keys) == len(arguments)
    assert stream_key(3, "dropout", 7) == stream_key(3, "dropout", 7)
    traced = jax.jit(lambda step: stream_key(3, "dropout", step))(7)
    assert traced == stream_key(3, "dropout", 7)


def test_generators_are_a_function_of_their_arguments_and_all_differ():
    arguments = list(itertools.product((PERMUTATION, CROP), (0, 2**32 - 1), (0, 1, 10**12)))
    drawn = {int(generator(*each).integers(2**63)) for each in arguments}
    assert len(drawn) == len(arguments)
    assert generator(CROP, 5, 6).random() == generator(CROP, 5, 6).random()
