"""Folders as people have them, and as an enemy would: what is read, what is counted, what is refused."""

from __future__ import annotations

import os
import shutil
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import Dataset, open_dataset, open_splits
from edgec.pipeline.data.labels import MAX_CLASSES, SPLITS, check_labels, safe_path
from edgec.pipeline.train.data import folder_data

FIXTURES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="session")
def one_picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("one") / "p.png"
    Image.new("RGB", (8, 8), (1, 2, 3)).save(path)
    return path


def fill(root: Path, picture: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, root / name)
    return root


def with_csv(root: Path, picture: Path, content: bytes | str) -> Path:
    fill(root, picture, *(f"{name}.png" for name in "abcdef"))
    (root / "labels.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def refusal(root: Path) -> EdgecError:
    with pytest.raises(EdgecError) as caught:
        open_dataset(root)
    return caught.value


def files(dataset: Dataset) -> list[str]:
    return [sample.file for sample in dataset.samples]


def outcome(root: Path) -> str:
    """The code of the refusal, or nothing."""
    try:
        open_splits(root)
    except EdgecError as error:
        return error.code
    return ""


# labels.csv: text.

TABLE = "file,label\na.png,ä\nb.png,ö\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", ", "])
def test_spreadsheets_are_read(tmp_path: Path, one_picture: Path, encoding: str, newline: str, delimiter: str) -> None:
    mark = "\ufeff" if encoding[-2:] in ("le", "be") else ""
    text = mark + TABLE.replace("\n", newline).replace(",", delimiter)
    dataset = open_dataset(with_csv(tmp_path, one_picture, text.encode(encoding)))
    assert dataset.classes == ("ä", "ö")
    assert [(sample.file, sample.label) for sample in dataset.samples] == [("a.png", 0), ("b.png", 1)]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "mac-roman"])
@pytest.mark.parametrize("name", ["labels.csv", "classes.txt"])
def test_other_encodings_are_refused_with_their_line(
    tmp_path: Path, one_picture: Path, encoding: str, name: str, mark: bytes
) -> None:
    """The first wrong byte begins the second line, so that an offset by the mark would name the first."""
    fill(tmp_path, one_picture, "a.png", "x/a.png")
    (tmp_path / name).write_bytes(mark + "file,label\nédith.png,a\n".encode(encoding))
    error = refusal(tmp_path)
    assert error.code == "bad-labels"
    assert f"line 2: byte 0x{'é'.encode(encoding).hex()} is not UTF-8" in error.message
    assert "UTF-8" in error.hint


def test_names_are_told_however_they_are_written(tmp_path: Path, one_picture: Path) -> None:
    text = '\nLabel , File,,\n"x, y",./a.png,,\n\n  "z",b.png\n'
    dataset = open_dataset(with_csv(tmp_path, one_picture, text))
    assert dataset.classes == ("x, y", "z")
    assert files(dataset) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "columns nothing"),
        ("file,class_index\n", "no images"),
        ("file,class_index\na.png\n", "line 2: 1 values, expected 2"),
        ("label,file\nx\n", "line 2: 1 values, expected 2"),
        ("file,class_index\na.png,0\na,b.png,0\n", "line 3: 3 values, expected 2"),
        ('file,class_index\n"a.png,0\nb.png,1\n', "line 3"),
        ('file,class_index\n"a"b.png,0\n', "line 2"),
        ("file,file,class_index\na.png,b.png,0\n", "columns file, file, class_index"),
        ("name,class_index\na.png,0\n", "columns name, class_index"),
        ("file,class_index\na.png,-1\n", "line 2: class_index '-1'"),
        ("file,class_index\na.png,1.0\n", "line 2: class_index '1.0'"),
        ("file,class_index\na.png,٣\n", "line 2: class_index"),
        (f"file,class_index\na.png,{MAX_CLASSES}\n", f"line 2: class_index '{MAX_CLASSES}'"),
        ("file,class_index\na.png," + "9" * 5000 + "\n", "line 2: class_index '99999"),
        ("file,class_index\na.png," + "0" * 200_000 + "\n", "line 2: field larger"),
        ("file,class_index\na.png,0\na.png,1\n", "line 3 says otherwise of 'a.png' than line 2"),
        ("file,class_index\na.png,0\n./a.png,1\n", "line 3 says otherwise"),
        ("file,class_index,label\na.png,0,x\nb.png,0,y\n", "line 3: class 0 is 'y', before it was 'x'"),
        ("file,label,split\na.png,x,holdout\n", "line 2: split 'holdout'"),
        ("file,label,split\na.png,x,\n", "line 2: split ''"),
        ("file,label\ngone.png,x\n", "line 2 names 'gone.png'"),
        ("file,label\nsub\\a.png,x\n", "which is not there"),
        ("file,label\n" + "a" * 5000 + ".png,x\n", "which is not there"),
        ('file,label\na.png,"x\ny"\n', "class name"),
        ("file,label\na.png,x\x07\n", "class name"),
        ("file,label\na.png,x\u2028y\n", "class name"),
    ],
)
def test_lines_that_mean_nothing_are_named(tmp_path: Path, one_picture: Path, text: str, named: str) -> None:
    error = refusal(with_csv(tmp_path, one_picture, text))
    assert error.code in ("bad-labels", "empty-data")
    assert named in error.message
    assert len(error.message) < 1000


PIECES = ["file,class_index,label,split\n", "a.png,0,x,train\n", "b.png,1,y,test\n", "a.png", "../a.png", "/etc/passwd"]
PIECES += ['"', ",", ";", "\n", "\r", "\0", "\ufeff", "é", "\ud800", "9" * 30, "-1", "x" * 200_000, "train", "val"]


@FIXTURES
@given(lines=st.lists(st.sampled_from(PIECES), max_size=12), encoding=st.sampled_from(["utf-8", "utf-16", "latin-1"]))
def test_any_labels_csv_is_read_or_refused(tmp_path: Path, one_picture: Path, lines: list[str], encoding: str) -> None:
    errors = "replace" if encoding == "latin-1" else "surrogatepass"
    with_csv(tmp_path, one_picture, "".join(lines).encode(encoding, errors))
    assert outcome(tmp_path) in ("", "bad-labels", "empty-data", "unsafe-path")


def test_a_large_class_index_costs_nothing(tmp_path: Path, one_picture: Path) -> None:
    with_csv(tmp_path, one_picture, f"file,class_index,label\na.png,{MAX_CLASSES - 1},x\n")
    tracemalloc.start()
    assert len(open_dataset(tmp_path).classes) == MAX_CLASSES
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()


# Paths.


@pytest.mark.parametrize(
    "name", ["../out.png", "x/../../out.png", "{outside}", "/etc/passwd", "", ".", "..", "a\0.png"]
)
def test_files_that_leave_the_folder_are_refused(tmp_path: Path, one_picture: Path, name: str) -> None:
    outside = fill(tmp_path, one_picture, "out.png") / "out.png"
    root = with_csv(fill(tmp_path / "d", one_picture, "x/y.png"), one_picture, "")
    (root / "labels.csv").write_text(f'file,label\na.png,x\n"{name.format(outside=outside)}",x\n')
    assert refusal(root).code == "unsafe-path"


@FIXTURES
@given(parts=st.lists(st.sampled_from(["..", ".", "a", "", "/", "\0", "b.png", "~"]), max_size=5))
def test_a_safe_path_stays_below_its_folder(parts: list[str]) -> None:
    path = safe_path("/".join(parts))
    assert path is None or os.path.normpath(os.path.join("/base", path)).startswith("/base/")


@pytest.mark.parametrize("name", ["../outside", "/outside", ".", "..", "x/y"])
def test_classes_txt_names_folders_of_its_own(tmp_path: Path, one_picture: Path, name: str) -> None:
    fill(tmp_path, one_picture, "outside/a.png", "d/x/a.png")
    (tmp_path / "d" / "classes.txt").write_text(f"{name}\nx\n")
    assert refusal(tmp_path / "d").code == "unsafe-path"


def link_to_a_file(root: Path, outside: Path) -> None:
    (root / "x" / "b.png").symlink_to(outside / "a.png")


def link_to_a_class(root: Path, outside: Path) -> None:
    (root / "y").symlink_to(outside)


def link_to_a_part(root: Path, outside: Path) -> None:
    shutil.copytree(root / "x", root / "train" / "x")
    (root / "test").symlink_to(outside.parent)


def link_to_labels(root: Path, outside: Path) -> None:
    (outside / "labels.csv").write_text("file,label\nx/a.png,x\n")
    (root / "labels.csv").symlink_to(outside / "labels.csv")


def link_in_labels(root: Path, outside: Path) -> None:
    (root / "z").symlink_to(outside)
    (root / "labels.csv").write_text("file,label\nz/a.png,x\n")


def link_to_classes(root: Path, outside: Path) -> None:
    (outside / "classes.txt").write_text("x\n")
    (root / "classes.txt").symlink_to(outside / "classes.txt")


@pytest.mark.parametrize(
    "link", [link_to_a_file, link_to_a_class, link_to_a_part, link_to_labels, link_in_labels, link_to_classes]
)
def test_links_out_of_the_folder_are_refused(tmp_path: Path, one_picture: Path, link) -> None:
    root = fill(tmp_path / "d", one_picture, "x/a.png")
    link(root, fill(tmp_path / "others" / "y", one_picture, "a.png"))
    assert refusal(root).code == "unsafe-path"


def test_links_within_the_folder_are_followed(tmp_path: Path, one_picture: Path) -> None:
    fill(tmp_path / "d", one_picture, "x/a.png", "y/a.png")
    (tmp_path / "d" / "x" / "b.png").symlink_to("../y/a.png")
    (tmp_path / "d" / "x" / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "d" / "x" / "up").symlink_to("..")
    (tmp_path / "alias").symlink_to(tmp_path / "d")
    assert files(open_dataset(tmp_path / "alias")) == ["x/a.png", "x/b.png", "y/a.png"]


@pytest.fixture
def seen_by_all() -> Iterator[Path]:
    """A folder that other users reach, as pytest's own is not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("name", ["x", ".", "labels.csv"])
def test_what_cannot_be_read_is_named(seen_by_all: Path, one_picture: Path, name: str) -> None:
    root = fill(seen_by_all / "d", one_picture, "x/a.png")
    if name == "labels.csv":
        (root / name).write_text("file,label\nx/a.png,x\n")
    (root / name).chmod(0)
    user = os.geteuid()
    try:
        os.seteuid(user or 65_534)
        error = refusal(root)
    finally:
        os.seteuid(user)
        (root / name).chmod(0o755)
    assert error.code == "unreadable-data"
    assert str(root / name) in error.message


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
@pytest.mark.parametrize("name", ["labels.csv", "classes.txt"])
def test_tables_that_are_no_files(tmp_path: Path, one_picture: Path, make, name: str) -> None:
    make(fill(tmp_path, one_picture, "x/a.png") / name)
    assert refusal(tmp_path).code == "unreadable-data"


@pytest.mark.parametrize("root", ["a" * 5000, "a\0b", "gone"])
def test_a_folder_that_is_not_there(tmp_path: Path, root: str) -> None:
    assert refusal(tmp_path / root).code == "no-such-file"
    assert refusal(Path("/dev/null")).code == "no-such-file"


def test_names_that_are_not_utf8(tmp_path: Path, one_picture: Path) -> None:
    fill(tmp_path / "file", one_picture, os.fsdecode(b"a\xff.png"))
    fill(tmp_path / "class", one_picture, os.fsdecode(b"\xff/a.png"))
    assert refusal(tmp_path / "file").code == "unreadable-data"
    assert refusal(tmp_path / "class").code == "bad-labels"
    with pytest.raises(ValueError, match="line breaks"):
        check_labels(["good", "bad\r"])


# What lies beside.


def test_what_other_systems_leave_is_passed_over_and_counted(tmp_path: Path, one_picture: Path) -> None:
    fill(tmp_path, one_picture, "a/1.png", "a/._1.png", "a/.2.jpg", "b/1.heic", "b/2.PNG", "b/deep/3.png", "loose.png")
    fill(tmp_path, one_picture, "__MACOSX/a/._1.png", ".hidden/a.png")
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "a" / "Thumbs.db").touch()
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("a", "b")
    assert files(dataset) == ["a/1.png", "b/2.PNG"]
    assert dataset.left_out == (
        "1 image beside the class folders",
        "1 image in deeper folders",
        "2 hidden files such as macOS leaves beside images",
        "1 file of a kind that is not read: .heic",
    )
    assert dataset.take(1).left_out == dataset.halves()[0].left_out == dataset.left_out


def test_lines_and_images_that_labels_csv_leaves_out_are_counted(tmp_path: Path, one_picture: Path) -> None:
    dataset = open_dataset(with_csv(tmp_path, one_picture, "file,label\na.png,x\nb.png,\n./a.png,x\nc.png,y\n"))
    assert files(dataset) == ["a.png", "c.png"]
    assert dataset.left_out == (
        "1 line of labels.csv without a label",
        "1 line of labels.csv that repeat a file",
        "4 images that labels.csv does not name",
    )


@pytest.mark.parametrize("suffix", ["tif", "tiff", "gif", "jfif", "JPG", "pgm", "webp", "bmp"])
def test_kinds_of_images(tmp_path: Path, one_picture: Path, suffix: str) -> None:
    assert len(open_dataset(fill(tmp_path, one_picture, f"a/1.{suffix}"))) == 1


def test_images_that_lie_deeper_are_pointed_at(tmp_path: Path, one_picture: Path) -> None:
    error = refusal(fill(tmp_path, one_picture, "train/a/1.png"))
    assert error.code == "empty-data"
    assert str(tmp_path / "train" / "a") in error.hint


# Parts.

NAMES = st.sampled_from(sorted(SPLITS))


@FIXTURES
@given(learn=NAMES, judge=NAMES, other=NAMES, labelled=st.booleans(), upper=st.booleans())
def test_parts_never_mix(
    tmp_path_factory: pytest.TempPathFactory,
    one_picture: Path,
    learn: str,
    judge: str,
    other: str,
    *,
    labelled: bool,
    upper: bool,
) -> None:
    """Folders and the column ``split`` mean the same."""
    wanted = {name: SPLITS[name] for name in (learn, judge, other)}
    if len(set(wanted.values())) < len(wanted):
        return
    folders, table = tmp_path_factory.mktemp("folders"), tmp_path_factory.mktemp("table")
    rows = []
    for name in wanted:
        shown = name.title() if upper else name
        for index in range(2):
            inner = f"{'ab'[index]}/" if labelled else ""
            fill(folders, one_picture, f"{shown}/{inner}{name}{index}.png")
            fill(table, one_picture, f"{name}{index}.png")
            rows.append(f"{name}{index}.png,{'ab'[index]},{shown}")
    (table / "labels.csv").write_text("file,label,split\n" + "\n".join(rows))
    have = set(wanted.values())
    for root in (folders, table):
        if not (have & {"train", "calibration"} and have & {"test", "val"}):
            if root == table:
                assert outcome(root) == "empty-data"
            continue
        calibration, test = open_splits(root)
        assert open_dataset(root) == test
        assert open_dataset(root, "calibration") == calibration
        parts = [{SPLITS[Path(file).stem.rstrip("01")] for file in files(part)} for part in (calibration, test)]
        assert parts[0] == {"calibration" if "calibration" in have else "train"}
        assert parts[1] == {"test" if "test" in have else "val"}
        unused = have - parts[0] - parts[1]
        assert [note for note in test.left_out if "images of" in note] == [f"2 images of {name}" for name in unused]


def test_files_in_folders_of_parts_are_parted_without_a_column(tmp_path: Path, one_picture: Path) -> None:
    fill(tmp_path, one_picture, "train/1.png", "train/2.png", "val/3.png")
    (tmp_path / "labels.csv").write_text("file,class_index\ntrain/1.png,0\ntrain/2.png,1\nval/3.png,0\n")
    calibration, test = open_splits(tmp_path)
    assert (files(calibration), files(test)) == (["train/1.png", "train/2.png"], ["val/3.png"])


def test_a_class_has_one_index_in_every_part(tmp_path: Path, one_picture: Path) -> None:
    fill(tmp_path, one_picture, "train/a/1.png", "train/b/1.png", "train/c/1.png", "test/c/1.png", "notes/x.png")
    calibration, test = open_splits(tmp_path)
    assert calibration.classes == test.classes == ("a", "b", "c")
    assert [sample.label for sample in test.samples] == [2]
    assert test.left_out == ("1 image beside test, train",)
    (tmp_path / "classes.txt").write_text("c\nb\na\n")
    assert [sample.label for sample in open_dataset(tmp_path).samples] == [0]


def test_parts_with_tables_of_their_own(tmp_path: Path, one_picture: Path) -> None:
    for part in ("train", "test"):
        fill(tmp_path / part, one_picture, "1.png", "2.png")
        (tmp_path / part / "labels.csv").write_text("file,class_index\n1.png,1\n2.png,0\n")
    assert [sample.label for part in open_splits(tmp_path) for sample in part.samples] == [1, 0, 1, 0]
    (tmp_path / "test" / "labels.csv").write_text("file,label\n1.png,a\n2.png,b\n")
    (tmp_path / "train" / "labels.csv").write_text("file,label\n1.png,a\n2.png,c\n")
    assert refusal(tmp_path).code == "class-mismatch"


def test_two_folders_for_one_part_are_refused(tmp_path: Path, one_picture: Path) -> None:
    fill(tmp_path, one_picture, "train/1.png", "val/2.png", "validation/3.png")
    assert "val, validation" in refusal(tmp_path).message


def test_an_empty_part_is_none(tmp_path: Path, one_picture: Path) -> None:
    fill(tmp_path, one_picture, "train/1.png", "val/2.png")
    (tmp_path / "test").mkdir()
    assert [files(part) for part in open_splits(tmp_path)] == [["1.png"], ["2.png"]]


def test_training_takes_parts_by_either_layout(tmp_path: Path, one_picture: Path) -> None:
    fill(tmp_path / "f", one_picture, "train/a/1.png", "train/b/2.png", "valid/b/3.png", "test/a/4.png")
    names = ("1.png,a,train", "2.png,b,train", "3.png,b,val", "4.png,a,test")
    fill(tmp_path / "t", one_picture, *(name.partition(",")[0] for name in names))
    (tmp_path / "t" / "labels.csv").write_text("file,label,split\n" + "\n".join(names))
    for root in ("f", "t"):
        data = folder_data(tmp_path / root, seed=0)
        data.check()
        assert [len(part or ()) for part in (data.training, data.validation, data.test)] == [2, 1, 1]
    fill(tmp_path / "f", one_picture, "valid/c/5.png")
    with pytest.raises(EdgecError) as caught:
        folder_data(tmp_path / "f", seed=0).check()
    assert caught.value.code == "class-mismatch"
    assert "'c'" in caught.value.message
