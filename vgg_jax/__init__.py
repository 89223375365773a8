"""The VGG family of Simonyan & Zisserman (2014) in JAX and Flax."""

__version__ = "0.1.0"
