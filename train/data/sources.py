"""Where documents come from: the standard library, files, or a data set of the Hugging Face Hub.

A source yields its documents once, in an order that does not depend on where its files lie, and has a `stamp` that
tells cheaply whether the corpus is the one that was read before: path, size and time of change of each file. The
contents are hashed when they are read; the fingerprint of a corpus follows from those.
"""

from __future__ import annotations

import glob
import logging
import os
import sys
import sysconfig
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from conf.schema import DataConfig, UserError

HUB_TIMEOUT = 5.0  # seconds; without a network the Hub's own retries last half a minute
ROWS_PER_READ = 128
TEXT_LOADERS = {".txt": "text", ".jsonl": "json", ".parquet": "parquet"}

# Not every installation has its tests, `encodings` and `pydoc_data` are generated tables, and third-party packages
# are not the standard library.
STDLIB_EXCLUDED = (
    "site-packages",
    "dist-packages",
    "__pycache__",
    "test",
    "tests",
    "idle_test",
    "encodings",
    "pydoc_data",
)


class DataError(UserError):
    """A corpus that is missing, unreadable, or too small for what is asked of it."""


class Source(Protocol):
    name: str  # the setting and its value, to begin an error with

    def stamp(self) -> Any:
        """JSON that changes when the corpus may have changed."""
        ...

    def documents(self, scratch: Path) -> Generator[str, None, None]:
        """The documents in order, from the start; `scratch` is a folder to litter.

        Raises:
            DataError: one of them cannot be read.
        """
        ...

    def details(self) -> dict[str, Any]:
        """For the run's record: what was read, known once `documents` has ended."""
        ...


def open_source(data: DataConfig) -> Source:
    """The source of documents that the settings name; raises `DataError` where it does not exist."""
    if data.source == "stdlib":
        return StdlibSource()
    if data.source == "text":
        return TextSource(data.path or "", data.text_field)
    name = data.name or ""
    if Path(name).expanduser().is_dir():
        return FolderSource(Path(name).expanduser(), data.config, data.split, data.text_field)
    return HubSource(name, data.config, data.split, data.text_field)


def _file_stamps(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    return [(str(file.absolute()), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]


# --- the standard library --------------------------------------------------------------------------------


class StdlibSource:
    """The `.py` files of the running Python's standard library, each one document, in the order of their names."""

    name = "data.source: 'stdlib'"

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or Path(sysconfig.get_paths()["stdlib"])
        self.files = [Path(name) for name in sorted(self._walk())]  # all below one folder, so in the order within it
        self._n_not_utf8 = 0

    def _walk(self) -> Iterator[str]:
        for folder, subfolders, names in os.walk(self.root):
            subfolders[:] = [name for name in subfolders if name not in STDLIB_EXCLUDED]
            # _sysconfigdata is written by the build and holds its paths.
            yield from (f"{folder}/{n}" for n in names if n.endswith(".py") and not n.startswith("_sysconfigdata"))

    def stamp(self) -> Any:
        return _file_stamps(self.files)

    def documents(self, scratch: Path) -> Generator[str, None, None]:  # noqa: ARG002  # it makes no litter
        self._n_not_utf8 = 0
        for file in self.files:
            try:
                yield file.read_bytes().decode()
            except UnicodeDecodeError:
                self._n_not_utf8 += 1

    def details(self) -> dict[str, Any]:
        return {
            "python": sys.version.split()[0],
            "n_files": len(self.files),
            "n_files_not_utf8": self._n_not_utf8,
            "excluded": list(STDLIB_EXCLUDED),
        }


# --- files -----------------------------------------------------------------------------------------------


class TextSource:
    """Files and globs joined by ':'. A row of a .jsonl or .parquet file is a document, and so is a .txt file.

    A .txt file that is alone would leave nothing to hold out, so its documents are its blocks between blank lines.
    """

    def __init__(self, path: str, text_field: str) -> None:
        self.name = f"data.path: {path!r}"
        self._text_field = text_field
        allowed = f"{', '.join(TEXT_LOADERS)} files or globs, joined by ':'"
        paths: set[Path] = set()
        for pattern in path.split(":"):
            plain = Path(pattern).expanduser()
            matches = [plain] if plain.is_file() else [Path(p) for p in glob.glob(str(plain), recursive=True)]  # noqa: PTH207
            files = [match for match in matches if match.is_file()]
            if not files:
                raise DataError(f"data.path: {pattern!r} matches no file; allowed: {allowed}")
            paths.update(files)
        self.files = sorted(paths)
        for file in self.files:
            if file.suffix not in TEXT_LOADERS:
                raise DataError(f"data.path: {str(file)!r} is not a kind of file that is read; allowed: {allowed}")

    def stamp(self) -> Any:
        return [self._text_field, _file_stamps(self.files)]

    def documents(self, scratch: Path) -> Generator[str, None, None]:
        for suffix, loader in TEXT_LOADERS.items():
            files = [str(file) for file in self.files if file.suffix == suffix and file.stat().st_size]
            if not files:
                continue
            options: dict[str, Any] = {"data_files": [glob.escape(file) for file in files]}
            if loader == "text":
                options["sample_by"] = "paragraph" if len(self.files) == 1 else "document"
            where = (
                f"data.path: {files[0]!r}" if len(files) == 1 else f"data.path: one of the {len(files)} {suffix} files"
            )
            field = "text" if loader == "text" else self._text_field
            with _reading(where) as datasets:
                rows = datasets.load_dataset(loader, split="train", streaming=True, cache_dir=str(scratch), **options)
                yield from _column(rows, field, where)

    def details(self) -> dict[str, Any]:
        return {"n_files": len(self.files), "n_file_bytes": sum(file.stat().st_size for file in self.files)}


# --- data sets -------------------------------------------------------------------------------------------


class FolderSource:
    """A data set in a local folder: plain files as on the Hub, or what `save_to_disk` wrote."""

    def __init__(self, folder: Path, config: str | None, split: str, text_field: str) -> None:
        self.name = f"data.name: {str(folder)!r}"
        self._folder, self._config, self._split, self._text_field = folder, config, split, text_field

    def stamp(self) -> Any:
        files = sorted(path for path in self._folder.rglob("*") if path.is_file())
        return [self._config, self._split, self._text_field, _file_stamps(files)]

    def documents(self, scratch: Path) -> Generator[str, None, None]:
        with _reading(self.name) as datasets:
            if (self._folder / "dataset_dict.json").is_file():
                splits = datasets.load_from_disk(str(self._folder))
                if self._split not in splits:
                    raise DataError(f"data.split: {self._split!r} is not in it; allowed: {', '.join(splits)}")
                rows = splits[self._split]
            elif (self._folder / "state.json").is_file():  # saved alone, so it is whatever split it was
                rows = datasets.load_from_disk(str(self._folder))
            else:
                rows = datasets.load_dataset(
                    str(self._folder), self._config, split=self._split, streaming=True, cache_dir=str(scratch)
                )
            yield from _column(rows, self._text_field, self.name)

    def details(self) -> dict[str, Any]:
        return {"split": self._split}


class HubSource:
    """A data set of the Hugging Face Hub, streamed. What was read once is not asked for again."""

    def __init__(self, name: str, config: str | None, split: str, text_field: str) -> None:
        self.name = f"data.name: {name!r}"
        self._name, self._config, self._split, self._text_field = name, config, split, text_field
        self._revision: str | None = None

    def stamp(self) -> Any:
        return [self._name, self._config, self._split, self._text_field]  # not the revision, which takes a network

    def documents(self, scratch: Path) -> Generator[str, None, None]:
        self._revision = self._ask_revision()
        with _reading(self.name, online=True) as datasets:
            rows = datasets.load_dataset(
                self._name,
                self._config,
                split=self._split,
                streaming=True,
                revision=self._revision,
                cache_dir=str(scratch),
            )
            yield from _column(rows, self._text_field, self.name)

    def _ask_revision(self) -> str:
        """The commit of the data set now: one request, which finds out soon that there is no network."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

        try:
            return str(HfApi().dataset_info(self._name, timeout=HUB_TIMEOUT).sha)
        except (RepositoryNotFoundError, HFValidationError):
            raise DataError(
                f"{self.name} is neither a data set of the Hub that you may read nor a local folder"
            ) from None
        except HfHubHTTPError as error:
            raise DataError(f"{self.name} was refused by the Hub ({_one_line(error)})") from None
        except Exception as error:  # whatever the HTTP library of the day raises
            raise DataError(
                f"{self.name} needs the network, or a local copy in a folder; the Hub cannot be reached "
                f"({_one_line(error)})"
            ) from None

    def details(self) -> dict[str, Any]:
        return {"name": self._name, "config": self._config, "split": self._split, "revision": self._revision}


def _column(rows: Any, field: str, where: str) -> Iterator[str]:
    """The texts of one column of a data set; rows without a text are passed over."""
    if rows.column_names and field in rows.column_names:
        rows = rows.select_columns([field])  # pictures and audio beside the text stay undecoded
    for batch in rows.iter(batch_size=ROWS_PER_READ):
        if field not in batch:
            raise DataError(f"data.text_field: {field!r} is not a column of {where}; allowed: {', '.join(batch)}")
        for text in batch[field]:
            if text is not None and not isinstance(text, str):
                kind = type(text).__name__
                raise DataError(f"data.text_field: {field!r} holds {kind} in {where}; allowed: a column of text")
            if text is not None:
                yield text


@contextmanager
def _reading(where: str, *, online: bool = False) -> Iterator[Any]:
    """The `datasets` library, silent and (unless `online`) without its calls home; its errors become a `DataError`."""
    import datasets

    verbosity, bars = datasets.logging.get_verbosity(), not datasets.are_progress_bars_disabled()
    counts = datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
    datasets.logging.set_verbosity(logging.CRITICAL)
    datasets.disable_progress_bars()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = online and counts
    try:
        yield datasets
    except DataError:
        raise
    except Exception as error:  # a reader per format, each with its own exceptions
        raise DataError(f"{where} cannot be read ({_one_line(error)})") from error
    finally:
        datasets.logging.set_verbosity(verbosity)
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = counts
        if bars:
            datasets.enable_progress_bars()


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
