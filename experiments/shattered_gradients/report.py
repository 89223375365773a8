"""Tables and the figure, from what is stored; the closed forms beside every measurement."""

import dataclasses

from experiments.shattered_gradients.cells import Cell

TABLE = "measurements.csv.gz"
READOUT = "readout.csv"
READOUT_COLUMNS = ("gradient", "seed", "rms", "correlation")
CELL = tuple(field.name for field in dataclasses.fields(Cell))
COLUMNS = (*CELL, "depth", "lag", "seed", "value")


def write(out):
    pass
