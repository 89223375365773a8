"""Every key of a configuration with its default, and the presets that the files beside this change.

The defaults are the recipe of the VGG paper (Simonyan & Zisserman 2014, section 3.1) for ImageNet.
What each key may be is in `vgg_jax/training/config_check.py`. A config file is a few lines:
`get_config = functools.partial(vgg, "D")`. What follows the colon in
`--config=configs/vgg16.py:cifar10,bn` is a comma-separated list of one data set and any recipes.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from vgg_jax.data import imagenet
from vgg_jax.errors import UserError, unknown_name

# Mean and standard deviation of the training images, RGB on the 0..255 scale.
CIFAR10_MEAN, CIFAR10_STD = (125.31, 122.95, 113.87), (62.99, 62.09, 66.70)
CIFAR100_MEAN, CIFAR100_STD = (129.30, 124.07, 112.43), (68.17, 65.39, 70.42)
WORDS = "[:DATASET][,RECIPE...]"  # what `vgg` takes
UNSCALED = (1.0, 1.0, 1.0)  # the paper subtracts the mean and does not divide


def base() -> ConfigDict:
    """Returns the paper's recipe for net D on ImageNet."""
    config = ConfigDict()
    config.seed = 0
    config.epochs = 74.0  # 370,000 iterations of 256 images
    config.steps = placeholder(int)  # where set, replaces epochs
    config.compute_dtype = "float32"  # or bfloat16; parameters and losses stay float32
    config.matmul_precision = "float32"  # of its products: or tensorfloat32 (GPU), bfloat16 (TPU)
    config.check_memory = True  # refuse what cannot fit; False tries it all the same
    config.deterministic = False  # the same bits in every run on a GPU too, at a cost

    config.model = ConfigDict()
    config.model.variant = "D"
    config.model.stages = placeholder(tuple)  # own net in the notation of Table 1
    config.model.num_classes = placeholder(int)  # unset: as many as the data has
    config.model.norm = "none"
    config.model.norm_momentum = 0.9  # kept share of the running statistics at each step
    config.model.norm_epsilon = 1e-5
    config.model.norm_group = placeholder(int)  # examples a group; unset: the global batch
    config.model.head = "imagenet"
    config.model.head_features = placeholder(tuple)
    config.model.dropout = 0.5
    # The paper starts D from a trained A, or, as it notes after submission, from Glorot & Bengio's
    # initialisation, which needs no second net.
    config.model.kernel_init = "glorot_normal"
    config.model.activation = "relu"
    config.model.pooling = "max"
    config.model.width = 1.0
    config.model.residual = False
    config.model.remat = False

    config.init = ConfigDict()
    config.init.weights = placeholder(str)  # file to start from (vgg_jax.convert); unset: none
    config.init.fresh = ()  # regular expressions: the tensors that are not taken from it

    config.data = ConfigDict()
    config.data.source = "tfds"  # digits, tfds, folder, npz or caltech101
    config.data.name = "imagenet2012"
    config.data.dir = placeholder(str)
    config.data.train_split = "train"
    config.data.eval_split = "validation"
    config.data.image_size = 224
    config.data.batch_size = 256
    config.data.workers = 8
    config.data.on_error = "raise"  # or skip training images that cannot be decoded, up to 1%
    config.data.channel_order = "RGB"  # fed to the network; or BGR, and mean and std with it
    config.data.mean = imagenet.MEAN
    config.data.std = UNSCALED
    config.data.augment = "scale_crop"  # none, pad_crop or scale_crop
    config.data.pad = 4  # pixels around the image, for pad_crop
    config.data.scale = (256, 256)  # training scale S, drawn between the two, for scale_crop
    config.data.flip = True
    config.data.cutout = 0  # pixels, side of a square that is blanked at a random place; 0 is off
    config.data.color_shift = 0.1  # standard deviation of Krizhevsky's PCA shift; 0 is off
    config.data.color_pca = "imagenet"  # or dataset
    config.data.eval_resize = 256  # shortest side before the centre crop

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # or adamw
    config.optimizer.learning_rate = 1e-2
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = False
    config.optimizer.weight_decay = 5e-4
    config.optimizer.decay_on = (".*/kernel",)  # regular expressions on parameter names
    config.optimizer.rates = ()  # pairs (regular expression, factor of the rate); first match wins
    config.optimizer.frozen = ()  # regular expressions: parameters that stay as they are
    config.optimizer.schedule = "plateau"  # constant, step, cosine or plateau
    config.optimizer.warmup_epochs = 0.0
    config.optimizer.decay_factor = 0.1  # of step and plateau
    config.optimizer.decay_epochs = (30.0, 60.0)  # of step
    config.optimizer.plateau_patience = 3  # evaluations without a lower validation error
    config.optimizer.plateau_drops = 3
    config.optimizer.label_smoothing = 0.0
    config.optimizer.clip_norm = 0.0  # global gradient norm; 0 is off
    config.optimizer.accumulate = 1  # micro-batches per step
    config.optimizer.ema = 0.0  # decay of the averaged parameters that are evaluated; 0 is off

    config.eval = ConfigDict()
    config.eval.every_steps = 5004  # one epoch; 0: only at the end
    config.eval.batch_size = 256

    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 1000
    config.checkpoint.keep = 3  # newest ones; the best one is kept beside them

    config.log = ConfigDict()
    config.log.every_steps = 50
    config.log.stuck_after_steps = 2000  # warn when the loss is still that of guessing; 0 is off
    config.log.trackers = ()  # mlflow, wandb: write the numbers there too

    config.probe = ConfigDict()
    config.probe.every_steps = 0  # measure gradients layer by layer into probes/; 0 is off

    config.parallel = ConfigDict()
    config.parallel.mode = "jit"  # or pmap
    config.parallel.model = 1  # devices over which the fully connected layers are split
    config.parallel.shard_optimizer = False  # spread its state over the other devices (ZeRO-1)
    # Above 1 the training set, which must fit, lives on the devices, and so many steps are one
    # program: for small images on an accelerator. The results are those of 1.
    config.parallel.steps_per_dispatch = 1
    return config


def vgg(variant: str, argument: str = "") -> ConfigDict:
    """Returns the recipe for one net.

    Args:
      variant: a name in `vgg_jax.models.variants`.
      argument: comma-separated names of at most one data set and any recipes.

    Raises:
      UserError: for an unknown name, or two data sets.
    """
    names = [name for name in argument.split(",") if name]
    for name in names:
        if name not in DATASETS | RECIPES:
            raise unknown_name("word after the colon of --config", name, DATASETS | RECIPES)
    chosen = [name for name in names if name in DATASETS]
    if len(chosen) > 1:
        raise UserError(f"--config names two data sets, {' and '.join(chosen)}; give one")
    config = base()
    config.model.variant = variant
    # Data set first, so that a recipe sees what it changes in whatever order they were typed.
    for change in [DATASETS[n] for n in chosen] + [RECIPES[n] for n in names if n in RECIPES]:
        change(config)
    return config


def _imagenet(config: ConfigDict) -> None:
    """The 1,000 classes of ILSVRC-2012 at 224 pixels: the paper's recipe, and the default."""
    config.model.num_classes = 1000


def _imagenette(config: ConfigDict) -> None:
    """Ten classes of ImageNet, 9,469 training images: the recipe at 224 pixels in hours."""
    config.data.name = "imagenette/320px-v2"
    config.model.num_classes = 10
    config.data.batch_size = 64
    config.data.std = imagenet.STD
    config.model.kernel_init = "torchvision"
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 2.0
    config.epochs = 40.0
    config.eval.every_steps = 148
    config.checkpoint.every_steps = 148


def _small_images(config: ConfigDict) -> None:
    config.data.image_size = 32
    config.data.augment = "pad_crop"
    config.data.color_shift = 0.0
    config.data.eval_split = "test"
    config.model.head = "cifar"
    config.model.kernel_init = "chengyangfu"


def _cifar10(config: ConfigDict) -> None:
    """CIFAR-10 by the recipe of the best public table of depth x batch norm (docs/results.md)."""
    _small_images(config)
    config.data.name = "cifar10"
    config.data.mean, config.data.std = CIFAR10_MEAN, CIFAR10_STD
    config.data.batch_size = 128
    config.model.num_classes = 10
    config.epochs = 300.0
    config.optimizer.learning_rate = 0.05
    config.optimizer.schedule = "step"
    config.optimizer.decay_factor = 0.5
    config.optimizer.decay_epochs = tuple(30.0 * i for i in range(1, 10))
    config.eval.every_steps = 391
    config.checkpoint.every_steps = 391


def _cifar100(config: ConfigDict) -> None:
    """The recipe of cifar10 for the hundred classes."""
    _cifar10(config)
    config.data.name = "cifar100"
    config.data.mean, config.data.std = CIFAR100_MEAN, CIFAR100_STD
    config.model.num_classes = 100


def _digits(config: ConfigDict) -> None:
    """Handwritten digits that ship with scikit-learn: minutes on a laptop.

    A few hundred steps are too few for SGD to start sixteen layers without batch norm: AdamW, and
    no dropout.
    """
    _small_images(config)
    config.data.source = "digits"
    config.data.name = "digits"
    config.data.flip = False  # a mirrored digit is no digit
    config.data.mean, config.data.std = (78.0,) * 3, (96.0,) * 3
    config.data.batch_size = 32
    config.data.workers = 0
    config.model.num_classes = 10
    config.model.dropout = 0.0
    config.model.kernel_init = "he_fan_in"
    config.epochs = 5.0
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 0.5
    config.eval.every_steps = 75
    config.checkpoint.every_steps = 75
    config.log.every_steps = 5
    config.log.stuck_after_steps = 60


def _caltech101(config: ConfigDict) -> None:
    """Caltech-101 by split 0 of the archive `--config.data.dir=caltech101.zip`."""
    config.data.source = "caltech101"
    config.data.name = "caltech101"
    config.data.train_split, config.data.eval_split = "train-0", "test-0"
    config.data.batch_size = 64
    config.data.workers = 2
    config.data.std = imagenet.STD
    config.model.kernel_init = "torchvision"
    config.eval.every_steps = 100


def _bn(config: ConfigDict) -> None:
    """Batch norm after every convolution."""
    config.model.norm = "batch"


def _modern(config: ConfigDict) -> None:
    """Today's recipe beside the paper's: batch norm, He's initialisation, cosine, bfloat16."""
    config.model.norm = "batch"
    config.optimizer.nesterov = True
    config.optimizer.learning_rate = 0.1
    config.optimizer.weight_decay = 5e-4
    if config.data.image_size == 224:
        config.model.kernel_init = "torchvision"
        config.data.std = imagenet.STD
        config.optimizer.weight_decay = 1e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 5.0
    config.optimizer.label_smoothing = 0.1
    config.optimizer.ema = 0.999
    config.epochs = 100.0
    config.compute_dtype = "bfloat16"


DATASETS = {
    "imagenet": _imagenet,
    "imagenette": _imagenette,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "digits": _digits,
    "caltech101": _caltech101,
}
RECIPES = {"bn": _bn, "modern": _modern}
