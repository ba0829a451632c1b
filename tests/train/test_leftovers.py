"""What is said of checkpoints that nobody goes on from."""

from poet.train.leftovers import leftovers, size


def test_checkpoints_are_listed_with_what_they_take(tmp_path):
    root = tmp_path / "checkpoints"
    assert leftovers(root) is None  # no such folder
    (root / "train/world/dpo/seed-1/aaaa").mkdir(parents=True)
    (root / "train/world/dpo/seed-1/aaaa/lock").touch()
    assert leftovers(root) is None  # stopped before its first checkpoint
    for name, megabytes in (("train/world/dpo/seed-1/bbbb", 1), ("sft/world/cccc", 2)):
        (root / name / "checkpoint-5").mkdir(parents=True)
        (root / name / "checkpoint-5" / "weights").write_bytes(bytes(megabytes * 1_000_000))
    said = leftovers(root)
    assert f"{root} holds 3.0 MB" in said and f"rm -r {root}" in said
    assert "sft/world/cccc (2.0 MB), train/world/dpo/seed-1/bbbb (1.0 MB)." in said
    for number in range(10):
        (root / f"sft/world/{number}" / "checkpoint-5").mkdir(parents=True)
    assert "and 4 more" in leftovers(root)


def test_sizes_are_of_files_not_of_links(tmp_path):
    with (tmp_path / "weights").open("wb") as file:
        file.truncate(1_600_000_000)  # sparse: takes nothing
    (tmp_path / "link").symlink_to(tmp_path / "weights")
    assert size(tmp_path) == "1.6 GB"
