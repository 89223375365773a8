"""The net of these experiments: so small that a hundred thousand steps take minutes."""

NET: dict[str, object] = {
    "data.image_size": 8,
    "model.stages": ("3-4", "3-8"),
    "model.head": "linear",
    "data.batch_size": 16,
    "eval.every_steps": 1000,
    "checkpoint.every_steps": 1000,
    "log.every_steps": 100,
    "log.stuck_after_steps": 0,
}
