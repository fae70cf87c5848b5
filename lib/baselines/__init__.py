"""Everyone the agent must beat: one file a method, one signature.

    register(fixed, moving, initial, settings, mask=None, rng=None) -> Result

`fixed` (CBCT) and `moving` (CT) are `lib.volume.Volume`s; `initial` and `Result.pose` are (4, 4) poses
that map moving world points to fixed world points (LPS, mm); `mask` is a bool tensor on the fixed grid,
its field of view. `lib.baselines.run.METHODS` names them. Nothing is imported here: each tool is loaded
when its method is first asked for.
"""
