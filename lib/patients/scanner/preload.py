"""Imported once by the server that forks the population's processes: loading RTK takes ten seconds of one core."""

import torch

from lib.patients.scanner import projector

torch.set_num_threads(1)
projector.warm_up()
