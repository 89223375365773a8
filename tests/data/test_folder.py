import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from vgg_jax.data.folder import imagenet_classes
from vgg_jax.data.sources import check_labels, open_source
from vgg_jax.errors import UserError


@pytest.fixture
def open_split(data_config):
    def open_split(folder, split):
        config = data_config(
            source="folder", dir=str(folder), train_split="train", eval_split="val"
        )
        return open_source(config, split)

    return open_split


def test_reads_images_and_labels_in_order(open_split, photo_folder):
    source = open_split(photo_folder, "train")
    assert source.class_names == ("cat", "dog", "eel")
    np.testing.assert_array_equal(source.labels, np.repeat([0, 1, 2], 4))
    with Image.open(photo_folder / "train" / "dog" / "1.jpg") as image:
        np.testing.assert_array_equal(source[5]["image"], np.asarray(image))
    assert source[5]["label"] == 1


def test_class_missing_from_one_split_keeps_its_index(open_split, photo_folder):
    source = open_split(photo_folder, "val")
    assert source.class_names == ("cat", "dog", "eel")
    np.testing.assert_array_equal(np.unique(source.labels), [0, 2])


@pytest.mark.parametrize(
    ("there", "wanted", "hint"),
    [
        (("train", "val"), "validation", "eval_split=val"),
        (("train", "valid"), "test", "eval_split=valid"),
        (("test", "train"), "validation", "eval_split=test"),
        (("test", "train", "val"), "validation", "eval_split=val"),
        (("training", "val"), "train", "train_split=training"),
        (("cats", "dogs"), "validation", "train_split and --config.data.eval_split"),
    ],
)
def test_a_split_of_another_name_is_told_and_what_to_type(
    data_config, tmp_path, there, wanted, hint
):
    for name in there:
        (tmp_path / name).mkdir()
    config = data_config(source="folder", dir=str(tmp_path))
    with pytest.raises(UserError) as error:
        open_source(config, wanted)
    told, typed = str(error.value).splitlines()
    assert told == f"{tmp_path} has no split {wanted!r}; it has: {', '.join(there)}."
    assert typed.endswith(f" --config.data.{hint}")


def test_split_may_be_the_folder_itself(data_config, photo_folder):
    config = data_config(
        source="folder", dir=str(photo_folder / "val"), train_split="", eval_split=""
    )
    source = open_source(config, "")
    assert source.class_names == ("cat", "eel")
    assert len(source) == 6


def test_wnids_keep_the_index_among_1000(data_config, photo_folder):
    for name, wnid in (("cat", "n02123045"), ("dog", "n02109961"), ("eel", "n01440764")):
        shutil.move(photo_folder / "train" / name, photo_folder / "train" / wnid)
    config = data_config(source="folder", dir=str(photo_folder), eval_split="train")
    source = open_source(config, "train")
    assert len(source.class_names) == 1000
    assert {source.class_names[label] for label in source.labels} == {
        "tabby",
        "Eskimo dog",
        "tench",
    }
    np.testing.assert_array_equal(np.unique(source.labels), [0, 248, 281])
    check_labels(source, 1000)
    with pytest.raises(UserError, match="from 0 to 281"):
        check_labels(source, 10)


def test_packaged_classes_are_in_the_order_of_their_wnids():
    names = imagenet_classes()
    assert len(names) == 1000
    assert list(names) == sorted(names)
    assert all(len(wnid) == 9 and wnid[0] == "n" and wnid[1:].isdecimal() for wnid in names)
    for index, wnid, name in ((0, "n01440764", "tench"), (999, "n15075141", "toilet tissue")):
        assert list(names.items())[index] == (wnid, name)
    twice = {name for name in names.values() if list(names.values()).count(name) > 1}
    assert twice == {"crane", "maillot"}  # as in the list of the challenge


def test_packaged_classes_are_the_shared_ones(shared_data):
    with (shared_data / "imagenet_classes.csv").open() as lines:
        expected = {row["wnid"]: row["name"] for row in csv.DictReader(lines)}
    assert list(imagenet_classes().items()) == list(expected.items())
    assert len(imagenet_classes()) == 1000


def test_reads_the_shared_photos(data_config, shared_data):
    config = data_config(
        source="folder", dir=str(shared_data / "photos"), train_split="", eval_split=""
    )
    source = open_source(config, "")
    with (shared_data / "photos.csv").open() as lines:
        index_of = {row["file"]: int(row["index"]) for row in csv.DictReader(lines)}
    assert len(source) == len(index_of) == 500
    for place in range(0, 500, 50):
        name = "photos" + source.path(place).removeprefix(str(shared_data / "photos"))
        assert source.labels[place] == index_of[name]


def test_files_that_are_no_images_by_name_are_left_out(open_split, photo_folder):
    (photo_folder / "train" / "cat" / "notes.txt").write_text("not an image")
    assert len(open_split(photo_folder, "train")) == 12


def test_broken_image_is_named(open_split, photo_folder):
    path = photo_folder / "train" / "dog" / "1.jpg"
    path.write_bytes(b"not an image")
    source = open_split(photo_folder, "train")
    with pytest.raises(UserError, match=str(path)):
        source[5]


def test_errors_say_what_to_give(data_config, open_split, photo_folder, tmp_path):
    with pytest.raises(UserError, match=r"no split 'test'; it has: train, val"):
        open_split(photo_folder, "test")
    with pytest.raises(UserError, match=r"no folder .*absent: give one that holds SPLIT/CLASS"):
        open_split(tmp_path / "absent", "train")
    with pytest.raises(UserError, match=r"no folder .*absent: give one that holds CLASS"):
        open_split(tmp_path / "absent", "")
    with pytest.raises(UserError, match="needs --config"):
        open_source(data_config(source="folder"), "train")


def test_flat_layout_asks_for_class_folders(open_split, tmp_path):
    (tmp_path / "train").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "train" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(UserError, match=r"no images in the class folders.*train/CLASS/\*\.jpg"):
        open_split(tmp_path, "train")
