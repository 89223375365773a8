"""Fine-tunes a weights file on other classes: a new classifier, the lowest layers kept.

python -m vgg_jax.train --config=configs/finetune.py:vgg19.safetensors --config.data.dir=DIR

DIR has class folders, DIR/train/CLASS/*.jpg and DIR/validation/CLASS/*.jpg; or name a data set of
`configs/base.py` after the file, `vgg19.safetensors,cifar10`. Network and preprocessing are the
file's. What to expect: `experiments/transfer`.
"""

from ml_collections import ConfigDict

from vgg_jax.configs.base import DATASETS, vgg
from vgg_jax.errors import UserError, unknown_name

WORDS = ":FILE[,DATASET]"


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe.

    Args:
      argument: a weights file, and at most one data set, with a comma between them.

    Raises:
      UserError: no such file, or an unknown data set.
    """
    # Imported late: only with a weights file is JAX needed to make a config.
    from vgg_jax.models import MODEL_KEYS
    from vgg_jax.training.pretrained import input_settings
    from vgg_jax.weights.loading import describe_weights

    file, *words = argument.split(",")
    if not file:
        raise UserError(
            "which weights? Type --config=configs/finetune.py:FILE.safetensors; "
            "python -m vgg_jax.convert makes such a file"
        )
    for word in words:
        if word not in DATASETS:
            raise unknown_name("data set after the weights file", word, DATASETS)
    weights = describe_weights(file)
    config = vgg("D", ",".join(words))
    config.init.weights = file
    config.init.fresh = ("fc8/.*",)

    classes = config.model.num_classes
    for key in MODEL_KEYS:
        config.model[key] = getattr(weights.model, key)
    config.model.num_classes = classes
    config.model.kernel_init = "he_fan_in"  # of new layers below the classifier, which is zero

    if not words:
        config.data.source = "folder"
        config.data.name = "folder"
        config.data.workers = 2
    resize, crop = weights.preprocessing.resize, weights.preprocessing.crop
    config.data.image_size, config.data.eval_resize = crop, resize
    config.data.scale = (resize, resize)
    config.data.color_shift = 0.0
    for key, value in input_settings(weights.preprocessing).items():
        config.data[key] = value
    config.data.batch_size = 32

    config.epochs = 10.0
    # A new classifier's gradients are as large as its features, which differ between weights and
    # heads by orders of magnitude: AdamW's steps do not depend on that, momentum's do.
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-5
    config.optimizer.weight_decay = 1e-2
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 0.0
    config.optimizer.rates = (("fc8/.*", 10.0),)
    # Edges and colours are the same everywhere: Fast R-CNN (Girshick 2015, section 4.5) trains
    # VGG-16 from conv3_1 on.
    config.optimizer.frozen = ("(conv|bn)[12]_.*",)
    config.eval.every_steps = 100
    config.eval.batch_size = 32
    config.checkpoint.every_steps = 100
    config.log.every_steps = 10
    return config
