"""The message for an unknown name."""

import pytest

from vgg_jax.errors import unknown_name


@pytest.mark.parametrize(("count", "shown"), [(10, 10), (60, 4)])
def test_an_unknown_name_is_told_the_others_but_of_many_only_the_nearest(count, shown):
    known = [f"name{i:02d}" for i in range(count)]
    message = str(unknown_name("thing", "nmae03", known))
    assert message.startswith("unknown thing 'nmae03'. Did you mean 'name03'?\n")
    assert message.partition("\n")[2].count("name") == shown
