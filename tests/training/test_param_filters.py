"""Patterns on names of parameters: matched in full, the first counts, an idle one is an error."""

import numpy as np
import pytest

from vgg_jax.errors import UserError
from vgg_jax.training.param_filters import first_match, parameter_names, select

PARAMS = {
    "conv1_1": {"kernel": np.zeros(3), "bias": np.zeros(1)},
    "bn1_1": {"scale": np.zeros(1), "bias": np.zeros(1)},
}
NAMES = ("conv1_1/kernel", "conv1_1/bias", "bn1_1/scale", "bn1_1/bias")


def test_names_stand_in_the_place_of_their_parameters():
    assert parameter_names(PARAMS) == {
        "conv1_1": {"kernel": "conv1_1/kernel", "bias": "conv1_1/bias"},
        "bn1_1": {"scale": "bn1_1/scale", "bias": "bn1_1/bias"},
    }


def test_what_matches_is_selected_and_nothing_else():
    assert select(PARAMS, (".*/kernel", "bn.*/scale"), "decay_on") == {
        "conv1_1": {"kernel": True, "bias": False},
        "bn1_1": {"scale": True, "bias": False},
    }
    assert select(PARAMS, (), "frozen") == {
        "conv1_1": {"kernel": False, "bias": False},
        "bn1_1": {"scale": False, "bias": False},
    }


def test_the_first_of_several_matches_counts():
    found = first_match(NAMES, ("conv1_1/kernel", "conv.*", ".*/bias"), "rates")
    assert found == dict(zip(NAMES, (0, 1, None, 2), strict=True))
    other = first_match(NAMES, (".*/bias", "conv.*"), "rates")
    assert other == dict(zip(NAMES, (1, 0, None, 0), strict=True))


@pytest.mark.parametrize("pattern", ["kernel", "conv1_1", "conv1_1/ker", "onv1_1/kernel", ""])
def test_a_part_of_a_name_is_no_match(pattern):
    with pytest.raises(UserError, match=f"frozen has {pattern!r}, which matches no parameter"):
        first_match(NAMES, (".*", pattern), "frozen")


def test_a_mistake_is_answered_with_names():
    message = "decay_on.*'.*/kernl', .*names look like 'conv1_1/kernel' and 'bn1_1/bias'"
    with pytest.raises(UserError, match=message):
        first_match(NAMES, (".*/kernl",), "decay_on")
