"""Members that timm's readers skip without a word are named."""

from __future__ import annotations

import io
import tarfile

from PIL import Image

from vitsearch.data import DataSpec
from vitsearch.data.timm_sets.skipped import skipped_samples


def png(level: int) -> bytes:
    content = io.BytesIO()
    Image.new("L", (8, 8), level).save(content, "png")
    return content.getvalue()


def test_a_tar_file_names_members_that_are_not_images(tmp_path):
    with tarfile.open(tmp_path / "train.tar", "w") as archive:
        for name, content in (("bolt/0.png", png(0)), ("nut/0.png", png(9)), ("nut/notes.txt", b"x")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (line,) = skipped_samples(DataSpec("tar", root=str(tmp_path)))
    assert line.startswith("tar: 1 skipped, whose names do not end in .png")
    assert line.endswith("train.tar/nut/notes.txt")


def test_a_folder_that_torchvision_reads_names_other_files(tmp_path):
    for name in ("bolt", "nut"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "0.png").write_bytes(png(0))
    (tmp_path / "train" / "nut" / "notes.txt").touch()
    (line,) = skipped_samples(DataSpec("torch/image_folder", root=str(tmp_path)))
    assert line.endswith("train/nut/notes.txt")


def test_sets_without_files_of_their_own_skip_nothing(tmp_path):
    assert skipped_samples(DataSpec("hfds/./nothing")) == []
    assert skipped_samples(DataSpec("torch/cifar10", root=str(tmp_path))) == []
