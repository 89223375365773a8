"""Weights to the Hugging Face Hub, with a model card."""

import math
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vgg_jax.errors import UserError, quoted
from vgg_jax.weights.hub import (
    CARD_FILE,
    SCHEME,
    WEIGHTS_FILE,
    hub_errors,
    hub_library,
    is_address,
    parse_address,
)
from vgg_jax.weights.store import Weights, network_tensors, save_weights

_LICENCE = re.compile(r"[A-Za-z0-9][\w.+-]*")
_ACCURACY = ("dataset", "protocol", "scales", "crop", "examples", "top1", "top5")


def push_to_hub(
    weights: Weights,
    repository: str,
    *,
    licence: str,
    accuracy: Mapping[str, Any] | None = None,
    private: bool = False,
) -> str:
    """Uploads weights and their card, as one commit.

        push_to_hub(load_weights("digits.safetensors"), "owner/digits", licence="apache-2.0")

    Args:
      weights: what is uploaded as `model.safetensors`.
      repository: "owner/name" or "hf://owner/name"; made if it is not there.
      licence: of the weights, as the Hub names it: "apache-2.0", "cc-by-4.0", "other", ...
      accuracy: what `python -m vgg_jax.evaluate --json` wrote about these weights.
      private: whether a repository that is made is private.

    Returns:
      The address of the commit, for `load_weights`.

    Raises:
      UserError: an argument is wrong, `huggingface_hub` is missing, or the Hub refuses.
    """
    address = parse_address(repository if is_address(repository) else SCHEME + repository)
    if address.revision is not None or address.file != WEIGHTS_FILE:
        raise UserError(f"{quoted(repository)} has more than owner/name: leave out the rest")
    card = model_card(weights, address.repository, licence=licence, accuracy=accuracy)
    hub = hub_library()
    with tempfile.TemporaryDirectory(prefix="vgg_jax_") as folder, hub_errors(address):
        file = Path(folder) / WEIGHTS_FILE
        save_weights(file, weights)
        additions = [
            hub.CommitOperationAdd(CARD_FILE, card.encode()),
            hub.CommitOperationAdd(WEIGHTS_FILE, file),
        ]
        api = hub.HfApi(library_name="vgg_jax")
        api.create_repo(address.repository, private=private, exist_ok=True)
        commit = api.create_commit(
            address.repository, additions, commit_message=f"Upload {weights.model.variant}"
        )
    return f"{SCHEME}{address.repository}@{commit.oid}"


def model_card(
    weights: Weights,
    repository: str,
    *,
    licence: str,
    accuracy: Mapping[str, Any] | None = None,
) -> str:
    """Returns the card, Markdown with the header that the Hub reads.

    Raises:
      UserError: the licence is no identifier, or the accuracy lacks its protocol.
    """
    if not _LICENCE.fullmatch(licence):
        raise UserError(f"licence {quoted(licence)}: give one as the Hub names it, as apache-2.0")
    model, preprocessing = weights.model, weights.preprocessing
    tensors = network_tensors(model).values()
    facts = {
        "network": model.variant if model.stages is None else f"stages {model.stages}",
        "normalisation": model.norm,
        "head": model.head,
        "classes": f"{model.num_classes:,}",
        "values": f"{sum(map(math.prod, tensors)):,}",
        "image": f"shortest side {preprocessing.resize}, centre crop {preprocessing.crop}",
        "colours": f"{preprocessing.channel_order} in 0..{255 * preprocessing.scale:g}, "
        f"minus {preprocessing.mean}, over {preprocessing.std}",
        "origin": ", ".join(f"{key} {value}" for key, value in weights.origin.items()),
    }
    rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in facts.items())
    return f"""---
license: {licence}
library_name: vgg_jax
pipeline_tag: image-classification
tags: [vgg, jax, flax]
---

# {repository.partition("/")[2]}

A network of the VGG family, trained weights for `vgg_jax`.

| | |
| --- | --- |
{rows}

## Use

    pip install 'vgg_jax[hub]'
    python -m vgg_jax.predict --weights={SCHEME}{repository} photo.jpg

```python
from vgg_jax import load_weights, predict

predict(load_weights("{SCHEME}{repository}"), ["photo.jpg"])
```

## Accuracy

{_accuracy_text(accuracy)}
"""


def _accuracy_text(accuracy: Mapping[str, Any] | None) -> str:
    if accuracy is None:
        return "Not measured."
    missing = [key for key in _ACCURACY if key not in accuracy]
    if missing:
        raise UserError(
            f"the accuracy has no {', '.join(missing)}: give what vgg_jax.evaluate --json wrote"
        )
    scales = ", ".join(map(str, accuracy["scales"]))
    text = f"""| data | protocol | scales | crop | images | top-1 | top-5 |
| --- | --- | --- | ---: | ---: | ---: | ---: |
| {_cell(accuracy["dataset"])} | {accuracy["protocol"]} | {scales} | {accuracy["crop"]} | \
{accuracy["examples"]:,} | {accuracy["top1"]:.2%} | {accuracy["top5"]:.2%} |"""
    if "command" in accuracy:
        text += f"\n\nMeasured by\n\n    {accuracy['command']}"
    return text


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
