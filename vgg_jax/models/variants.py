"""The family as data: Table 1 of Simonyan & Zisserman (2014), arXiv 1409.1556, and plain relatives.

A network is a tuple of stages, one string each, in the notation of Table 1: `"3-64 x2"` is two
3x3 convolutions with 64 output channels, `"3-256 x2, 1-256"` two 3x3 and one 1x1, and `"LRN"` a
local response normalisation after the layer before it. Pooling ends every stage. A user's own
`stages` use the same notation.
"""

import dataclasses
import re
from collections.abc import Sequence

from vgg_jax.errors import UserError, quoted, unknown_name

TABLE_1 = {
    "A": ("3-64", "3-128", "3-256 x2", "3-512 x2", "3-512 x2"),
    "A-LRN": ("3-64, LRN", "3-128", "3-256 x2", "3-512 x2", "3-512 x2"),
    "B": ("3-64 x2", "3-128 x2", "3-256 x2", "3-512 x2", "3-512 x2"),
    "C": ("3-64 x2", "3-128 x2", "3-256 x2, 1-256", "3-512 x2, 1-512", "3-512 x2, 1-512"),
    "D": ("3-64 x2", "3-128 x2", "3-256 x3", "3-512 x3", "3-512 x3"),
    "E": ("3-64 x2", "3-128 x2", "3-256 x4", "3-512 x4", "3-512 x4"),
}
# Section 2.3 and 4.1 of the paper: B with each pair of 3x3 convolutions replaced by one 5x5.
SHALLOW_B = ("5-64", "5-128", "5-256", "5-512", "5-512")

VARIANTS = TABLE_1 | {"shallow-B": SHALLOW_B}
ALIASES = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}
PLAIN_EXAMPLES = ("plain-22", "plain-34", "plain-50")
KNOWN_VARIANTS = (*VARIANTS, *ALIASES, *PLAIN_EXAMPLES)
BATCH_NORM = "_bn"  # at the end of a model's name, as torchvision and timm have it

_SMALLEST_PLAIN = 13
# Bounded, so that a mistyped number is refused before it fills the memory with layers.
_LAYER = re.compile(r"(?P<kernel>\d{1,3})-(?P<channels>\d{1,6})(?:\s*x\s*(?P<repeats>\d{1,3}))?")


@dataclasses.dataclass(frozen=True)
class ConvSpec:
    """One convolution: a `kernel` x `kernel` window, `channels` outputs, `lrn` after it or not."""

    kernel: int
    channels: int
    lrn: bool = False


Stage = tuple[ConvSpec, ...]


def plain_stages(weight_layers: int) -> tuple[str, ...]:
    """Returns the stages of `plain-N`, the family of B, D and E continued to any depth.

    N counts weight layers, the head's three included. Stages 1 and 2 have two 3x3 convolutions
    each; the other N - 7 are spread evenly over stages 3 to 5, the later stages first if they
    do not divide. So `plain-13`, `plain-16` and `plain-19` are B, D and E.
    """
    each, left_over = divmod(weight_layers - 7, 3)
    counts = (2, 2, each, each + (left_over == 2), each + (left_over >= 1))
    channels = (64, 128, 256, 512, 512)
    return tuple(f"3-{c} x{n}" for c, n in zip(channels, counts, strict=True))


def list_models() -> tuple[str, ...]:
    """Returns the names that `create_model` takes: torchvision's and timm's, then the paper's.

    `plain-N` stands for a plain net of any depth N. Every name may be followed by "_bn".
    """
    published = [name + norm for name in ALIASES for norm in ("", BATCH_NORM)]
    return (*published, *VARIANTS, *PLAIN_EXAMPLES)


def network_fields(name: str) -> dict[str, str]:
    """Returns the fields of `VGG` that a model's name stands for, of `variant` and `norm`.

    {"variant": "D", "norm": "batch"} for "vgg16_bn"; without the suffix the variant alone.

    Raises:
      UserError: the name is unknown.
    """
    has_norm = str(name).lower().endswith(BATCH_NORM)
    variant = str(name)[: -len(BATCH_NORM)] if has_norm else str(name)
    if _known_stages(variant) is None:
        raise unknown_name("model", name, list_models())
    return {"variant": ALIASES.get(variant.lower(), variant)} | (
        {"norm": "batch"} if has_norm else {}
    )


def variant_stages(name: str) -> tuple[str, ...]:
    """Returns the stages of a named network; names are matched without regard to case.

    Raises:
      UserError: the name is unknown, or says more than the stages.
    """
    stages = _known_stages(name)
    if stages is not None:
        return stages
    base = str(name).lower().removesuffix(BATCH_NORM)
    if _known_stages(base) is not None:
        raise UserError(
            f"variant {quoted(name)} is {base} with batch norm, which is a field of its own:\n"
            f"give variant={base} and norm=batch, or call vgg_jax.create_model({quoted(name)})"
        )
    raise unknown_name("variant", name, KNOWN_VARIANTS)


def _known_stages(name: str) -> tuple[str, ...] | None:
    by_lower = {known.lower(): stages for known, stages in VARIANTS.items()}
    by_lower |= {alias: VARIANTS[known] for alias, known in ALIASES.items()}
    lower = str(name).lower()
    if lower in by_lower:
        return by_lower[lower]
    plain = re.fullmatch(r"plain-(\d{1,3})", lower)
    if plain and int(plain[1]) >= _SMALLEST_PLAIN:
        return plain_stages(int(plain[1]))
    return None


def parse_stage(text: str) -> Stage:
    """Parses one stage in the notation of Table 1, e.g. `"3-256 x2, 1-256"`.

    Raises:
      UserError: the text is not of that form.
    """
    convs: list[ConvSpec] = []
    for item in str(text).split(","):
        layer = _LAYER.fullmatch(item.strip())
        if layer:
            spec = ConvSpec(int(layer["kernel"]), int(layer["channels"]))
            repeats = int(layer["repeats"] or 1)
            if spec.kernel % 2 == 0 or spec.channels == 0 or repeats == 0:
                raise _malformed(text)
            convs += [spec] * repeats
        elif item.strip().upper() == "LRN" and convs and not convs[-1].lrn:
            convs[-1] = dataclasses.replace(convs[-1], lrn=True)
        else:
            raise _malformed(text)
    return tuple(convs)


def resolve_stages(variant: str, stages: Sequence[str] | None) -> tuple[Stage, ...]:
    """Returns the parsed stages of `variant`, or the user's own `stages` if they are given.

    Raises:
      UserError: unknown variant, no stage at all, or a malformed one.
    """
    texts = variant_stages(variant) if stages is None else stages
    if isinstance(texts, str) or not texts:
        raise UserError(
            f"model.stages is {quoted(texts)}; it takes a tuple of one string per stage, "
            f"e.g. {SHALLOW_B}"
        )
    return tuple(parse_stage(text) for text in texts)


def _malformed(text: str) -> UserError:
    return UserError(
        f"malformed stage {quoted(text)}.\nA stage reads like '3-64 x2', '3-256 x2, 1-256' or "
        "'3-64, LRN': odd kernel size, dash, channels, repetitions"
    )
