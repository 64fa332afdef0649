"""Sources find what they are pointed at, and say in one line what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import datasets
import polars as pl
import pytest

from conf.schema import DataConfig
from train.data.sources import DataError, HubSource, Source, StdlibSource, open_source


def read(source: Source) -> list[str]:
    with TemporaryDirectory() as scratch:
        return list(source.documents(Path(scratch)))


def documents(**settings: str) -> list[str]:
    return read(open_source(DataConfig(**settings)))  # type: ignore[arg-type]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl(path: Path, *rows: object) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


# --- the standard library --------------------------------------------------------------------------------


def test_stdlib_leaves_out_what_not_every_machine_has(tmp_path: Path) -> None:
    kept = ["b/__init__.py", "b/c.py", "ast.py"]
    for name in [
        *kept,
        "test/x.py",
        "b/tests/x.py",
        "encodings/x.py",
        "site-packages/x.py",
        "_sysconfigdata_l.py",
        "a.c",
    ]:
        write(tmp_path / name, name)
    write(tmp_path / "latin.py", b"# \xff")
    source = StdlibSource(tmp_path)
    assert read(source) == sorted(kept)
    assert source.details()["n_files_not_utf8"] == 1
    assert source.details()["n_files"] == len(kept) + 1


def test_the_real_stdlib_is_millions_of_characters() -> None:
    source = StdlibSource()
    assert sum(map(len, read(source))) > 5e6
    assert source.details()["python"] == sys.version.split()[0]


# --- files -----------------------------------------------------------------------------------------------


def test_kinds_of_files_may_be_mixed_and_globbed(tmp_path: Path) -> None:
    write(tmp_path / "deep/er/a.txt", "one\n\ntwo\n")
    write(tmp_path / "deep/b[1].txt", "three")
    jsonl(tmp_path / "c.jsonl", {"text": "four", "n": 1}, {"text": None, "n": 2}, {"text": "five", "n": 3})
    pl.DataFrame({"n": [1], "text": ["six"]}).write_parquet(tmp_path / "d.parquet")
    path = f"{tmp_path}/**/*.txt:{tmp_path}/c.jsonl:{tmp_path}/*.parquet:{tmp_path}/c.jsonl"
    assert documents(source="text", path=path) == ["three", "one\n\ntwo\n", "four", "five", "six"]


def test_a_txt_file_that_is_alone_is_cut_at_blank_lines(tmp_path: Path) -> None:
    alone = write(tmp_path / "a.txt", "one\nmore\n\ntwo\n\nthree")
    assert documents(source="text", path=str(alone)) == ["one\nmore", "two", "three"]
    write(tmp_path / "b.txt", "four")
    assert documents(source="text", path=f"{tmp_path}/*.txt") == ["one\nmore\n\ntwo\n\nthree", "four"]


def test_another_column_can_hold_the_text(tmp_path: Path) -> None:
    path = str(jsonl(tmp_path / "a.jsonl", {"body": "one", "n": 1}))
    assert documents(source="text", path=path, text_field="body") == ["one"]
    with pytest.raises(DataError, match=r"^data\.text_field: 'text' is not a column of .*; allowed: body, n$"):
        documents(source="text", path=path)
    with pytest.raises(DataError, match=r"^data\.text_field: 'n' holds int in .*; allowed: a column of text$"):
        documents(source="text", path=path, text_field="n")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"\xff\xfe", "cannot be read"),
        ("a.jsonl", b'{"text": "one"}\n{"text":\n', "cannot be read"),
        ("a.parquet", b"PAR1 no more", "cannot be read"),
        ("a.pdf", b"%PDF", r"not a kind of file that is read; allowed: \.txt, \.jsonl, \.parquet"),
    ],
)
def test_a_bad_file_is_named_in_one_line(
    tmp_path: Path, name: str, content: bytes, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=rf"^data\.path: '.*{name}' .*{says}") as refused:
        documents(source="text", path=str(path))
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_a_path_that_matches_nothing_is_named(tmp_path: Path) -> None:
    there = write(tmp_path / "a.txt", "one\n\ntwo")
    with pytest.raises(DataError, match=r"^data\.path: '.*/none\*' matches no file; allowed: "):
        documents(source="text", path=f"{there}:{tmp_path}/none*")
    assert documents(source="text", path=str(there)) == ["one", "two"]


def test_the_stamp_follows_the_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one\n\ntwo")

    def stamp() -> object:
        return open_source(DataConfig(source="text", path=str(path))).stamp()

    first = stamp()
    assert stamp() == first
    write(path, "one\n\nTWO, longer")
    assert stamp() != first


# --- data sets -------------------------------------------------------------------------------------------


def test_a_local_folder_of_plain_files(tmp_path: Path) -> None:
    jsonl(tmp_path / "set/train.jsonl", {"text": "one"}, {"text": "two"})
    jsonl(tmp_path / "set/test.jsonl", {"text": "three"})
    name = str(tmp_path / "set")
    assert documents(source="hub", name=name) == ["one", "two"]
    assert documents(source="hub", name=name, split="test") == ["three"]
    with pytest.raises(DataError, match=r"^data\.name: .* cannot be read .*nosplit") as refused:
        documents(source="hub", name=name, split="nosplit")
    assert "\n" not in str(refused.value)


def test_a_local_folder_that_was_saved_to_disk(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"text": ["one", "two"], "n": [1, 2]})
    rows.save_to_disk(tmp_path / "alone")
    datasets.DatasetDict({"train": rows, "test": rows.select([1])}).save_to_disk(tmp_path / "splits")
    assert documents(source="hub", name=str(tmp_path / "alone")) == ["one", "two"]
    assert documents(source="hub", name=str(tmp_path / "splits"), split="test") == ["two"]
    with pytest.raises(DataError, match=r"^data\.split: 'val' .* allowed: train, test$"):
        documents(source="hub", name=str(tmp_path / "splits"), split="val")


def test_without_a_network_the_hub_is_refused_at_once() -> None:
    start = time.monotonic()
    with pytest.raises(
        DataError, match=r"^data\.name: 'a/b' needs the network, or a local copy in a folder"
    ) as refused:
        read(HubSource("a/b", None, "train", "text"))
    assert time.monotonic() - start < 5
    assert "\n" not in str(refused.value)
    with pytest.raises(DataError, match="neither a data set of the Hub"):
        read(HubSource("./no/such/folder", None, "train", "text"))


def test_the_hub_is_read_at_the_revision_that_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub itself stood in for by a local folder: which calls are made, and what is kept of them."""
    jsonl(tmp_path / "train.jsonl", {"text": "one"}, {"text": "two"})
    load, asked = datasets.load_dataset, dict[str, object]()

    def load_dataset(name: str, config: str | None, **options: object) -> object:
        asked.update(options, name=name, config=config)
        scratch = str(asked.pop("cache_dir"))
        return load(str(tmp_path), split="train", streaming=True, cache_dir=scratch)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(HubSource, "_ask_revision", lambda _: "abc123")
    source = HubSource("a/b", "small", "train", "text")
    assert read(source) == ["one", "two"]
    assert asked == {"name": "a/b", "config": "small", "split": "train", "streaming": True, "revision": "abc123"}
    assert source.details()["revision"] == "abc123"
    assert HubSource("a/b", None, "train", "text").details()["revision"] is None


def test_the_sources_need_no_torch_and_no_datasets_to_be_imported() -> None:
    code = "import sys, train.data, conf.vocab; print(sorted({'torch', 'datasets'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    control = subprocess.run(
        [sys.executable, "-c", code.replace("import sys,", "import sys, datasets,")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert control.stdout.strip() != "[]"
