"""`make bench`: what it measures runs, and says what it is a ratio of. How fast anything is, is not asked here."""

import torch

from lib.study import bench


def test_the_command_is_timed_from_files_to_the_transform():
    ct = bench.body(size=(70, 60, 100), spacing=5.0)
    found = bench.command(ct, bench.cone(ct), size=(100, 96, 96))
    assert set(found) == {"wall", "cpu", "memory", "agent", "search"} and min(found.values()) > 0
    assert found["agent"] + found["search"] < found["wall"]


def test_the_command_is_set_beside_other_tools(capsys):
    found = {"wall": 8.0, "cpu": 9.0, "agent": 2.0, "search": 1.0, "memory": 0.9}
    bench._registering(found, {"elastix": 3.0, "greedy": 2.0})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-1] for line in lines if "of which the search" in line] == [
        "goal: 3 s; 0.3 times elastix, 0.5 times greedy"
    ]
    ratios = [line.split() for line in lines if "as many times as" in line]
    assert [(words[4], words[5]) for words in ratios] == [("elastix", "3.0"), ("greedy", "4.5")]


def test_a_body_and_its_cone_beam_scan_show_the_same():
    ct = bench.body(size=(40, 40, 40), spacing=8.0)
    cbct = bench.cone(ct)
    inside = cbct.array > -1100
    assert torch.equal(ct.array[inside], cbct.array[inside]) and 0 < inside.float().mean() < 1
