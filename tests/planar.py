"""Settings that the tests of Figure 4's 2-D problem share: a training of four steps."""

from lib.study.planar import compare

SMALL = compare.DrlSettings(
    steps=4, evaluate_every=2, batch=4, actions=2, warmup=16, explore=8, memory=40, target_every=2, episode=3
)
