"""Statistics of ImageNet's training images, RGB on the 0..255 scale."""

MEAN = (123.68, 116.779, 103.939)
STD = (58.393, 57.12, 57.375)
