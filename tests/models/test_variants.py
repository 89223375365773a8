import pytest

from vgg_jax.errors import UserError
from vgg_jax.models.variants import (
    ALIASES,
    SHALLOW_B,
    TABLE_1,
    ConvSpec,
    list_models,
    network_fields,
    parse_stage,
    plain_stages,
    resolve_stages,
    variant_stages,
)

# Table 1 of the paper, last row of its heading: weight layers, the three of the head included.
WEIGHT_LAYERS = {"A": 11, "A-LRN": 11, "B": 13, "C": 16, "D": 16, "E": 19}


def weight_layers(name: str) -> int:
    return sum(map(len, resolve_stages(name, None))) + 3


@pytest.mark.parametrize("name", TABLE_1)
def test_depth_is_that_of_table_1(name: str) -> None:
    assert weight_layers(name) == WEIGHT_LAYERS[name]


@pytest.mark.parametrize("name", TABLE_1)
def test_channels_double_from_64_to_512(name: str) -> None:
    stages = resolve_stages(name, None)
    channels = [{conv.channels for conv in stage} for stage in stages]
    assert channels == [{64}, {128}, {256}, {512}, {512}]


def test_c_is_d_with_1x1_windows_at_the_end_of_the_last_three_stages() -> None:
    for stage_c, stage_d in zip(resolve_stages("C", None), resolve_stages("D", None), strict=True):
        assert len(stage_c) == len(stage_d)
        kernels = [conv.kernel for conv in stage_c]
        assert kernels == ([3, 3] if len(stage_c) == 2 else [3, 3, 1])


def test_a_lrn_is_a_with_one_normalisation() -> None:
    a, lrn = resolve_stages("A", None), resolve_stages("A-LRN", None)
    assert lrn[0] == (ConvSpec(3, 64, lrn=True),)
    assert lrn[1:] == a[1:]


def test_shallow_b_has_one_5x5_for_each_pair_of_b() -> None:
    assert resolve_stages("shallow-b", None) == tuple(
        (ConvSpec(5, stage[0].channels),) for stage in resolve_stages("B", None)
    )


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_aliases_and_case(alias: str, name: str) -> None:
    assert variant_stages(alias) == variant_stages(alias.upper()) == TABLE_1[name]
    assert variant_stages(name.lower()) == TABLE_1[name]


@pytest.mark.parametrize(("depth", "name"), [(13, "B"), (16, "D"), (19, "E")])
def test_plain_recipe_contains_the_papers_nets(depth: int, name: str) -> None:
    assert resolve_stages(f"plain-{depth}", None) == resolve_stages(name, None)


@pytest.mark.parametrize(
    ("depth", "counts"),
    [(22, (2, 2, 5, 5, 5)), (34, (2, 2, 9, 9, 9)), (50, (2, 2, 14, 14, 15)), (51, None)],
)
def test_plain_recipe_spreads_the_rest_later_stages_first(depth: int, counts: object) -> None:
    stages = resolve_stages(f"plain-{depth}", None)
    assert weight_layers(f"plain-{depth}") == depth
    lengths = tuple(map(len, stages))
    assert lengths == (counts or (2, 2, 14, 15, 15))
    assert plain_stages(depth) == variant_stages(f"Plain-{depth}")


@pytest.mark.parametrize("name", ["vgg15", "F", "", "plain", "plain-12", "plain-x", "D ", 16])
def test_unknown_name_lists_the_known_ones(name: object) -> None:
    with pytest.raises(UserError) as error:
        variant_stages(name)
    for known in (*TABLE_1, *ALIASES, "shallow-B", "plain-22"):
        assert known in str(error.value)


def test_near_miss_is_named() -> None:
    with pytest.raises(UserError, match="Did you mean 'vgg11'"):
        variant_stages("vgg-11")


def test_models_have_the_names_of_torchvision_and_the_letters_of_the_paper() -> None:
    names = list_models()
    published = [f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")]
    assert names[:8] == tuple(published)
    assert set(names) > {*TABLE_1, "shallow-B", "plain-34"}
    for name in names:
        fields = network_fields(name)
        assert fields.get("norm", "none") == ("batch" if name.endswith("_bn") else "none")
        assert variant_stages(fields["variant"])
    assert network_fields("D_BN") == network_fields("vgg16_bn") == {"variant": "D", "norm": "batch"}


@pytest.mark.parametrize("name", ["vgg16_b", "vgg16_bm", "vgg16bn", "vgg16-bn"])
def test_unknown_model_is_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(UserError, match=r"unknown model .* Did you mean 'vgg16_bn'"):
        network_fields(name)


def test_a_variant_with_batch_norm_says_where_that_goes() -> None:
    with pytest.raises(UserError, match=r"give variant=vgg16 and norm=batch, or call .*create_m"):
        variant_stages("vgg16_bn")


@pytest.mark.parametrize(
    ("text", "convs"),
    [
        ("3-64", (ConvSpec(3, 64),)),
        (" 3-64 x2 ", (ConvSpec(3, 64),) * 2),
        ("3-64x2,1-32", (ConvSpec(3, 64), ConvSpec(3, 64), ConvSpec(1, 32))),
        ("3-64 x2, lrn, 5-8", (ConvSpec(3, 64), ConvSpec(3, 64, lrn=True), ConvSpec(5, 8))),
    ],
)
def test_notation(text: str, convs: tuple) -> None:
    assert parse_stage(text) == convs


@pytest.mark.parametrize(
    "text",
    [
        "",
        "64",
        "3-64 x",
        "3x64",
        "2-64",
        "3-0",
        "0-64",
        "3-64 x0",
        "LRN",
        "3-64, LRN, LRN",
        "3-64,",
    ],
)
def test_malformed_stage(text: str) -> None:
    with pytest.raises(UserError, match="malformed stage"):
        parse_stage(text)


@pytest.mark.parametrize("stages", [(), "3-64 x2", []])
def test_stages_must_be_a_tuple_of_strings(stages: object) -> None:
    with pytest.raises(UserError, match=r"model\.stages"):
        resolve_stages("D", stages)


def test_own_stages_replace_the_variant() -> None:
    assert resolve_stages("D", SHALLOW_B) == resolve_stages("shallow-B", None)
