"""A data set with its protocol: what to train on, what to select by, what to test on and how."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Unpack

import numpy as np
import polars as pl

from contrarec.data.columns import ColumnNames
from contrarec.data.fingerprint import fingerprint
from contrarec.data.folder import find_parts, read_not_candidates, write_parts
from contrarec.data.interactions import Interactions
from contrarec.data.parquet import read_steps
from contrarec.data.readers import frame_kind, read_interactions
from contrarec.data.report import describe, unseen_notes
from contrarec.data.splits import Split
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import DataError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True, eq=False)
class TestSet:
    """What a ranking is judged by: the truth, what is masked, what may be ranked."""

    __test__: ClassVar[bool] = False  # pytest takes a class of this name for a test

    name: str
    """`valid`, or the test set's own name."""
    truth: Interactions
    """The held-out interactions."""
    mask: Interactions | None = None
    """What is left out of the ranking. Never has an item of the user's own truth."""
    masked: tuple[str, ...] = ()
    """The parts that `mask` is made of, such as `("train", "valid")`."""
    candidates: np.ndarray | None = None
    """Ascending int32 indices of the items that may be ranked; None for all."""

    def __repr__(self) -> str:
        masked = " + ".join(self.masked) or "nothing"
        return f"TestSet({self.name!r}: {self.truth.nnz} interactions, {masked} masked)"


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Train, valid and any number of named test sets over one vocabulary of users and of items.

    The vocabularies are the ascending union of the ids of all parts, so that an id which only a
    test set knows has a row too.
    """

    name: str
    """A name for reports."""
    train: Interactions
    """What models learn from."""
    valid: TestSet | None = None
    """What the best epoch is selected by; masks train."""
    tests: Mapping[str, TestSet] = field(default_factory=dict)
    """Test sets by name; each masks train and valid."""
    candidates: np.ndarray | None = None
    """Ascending int32 indices of the items that may be ranked in any set; None for all."""
    steps: tuple[str, ...] = ()
    """What was done to the data on the way here, a phrase each."""
    path: str = ""
    """Where it was read from; empty if not from a file."""
    frame: str = "polars"
    """The kind of frame to answer in: `polars`, `pandas` or `pyarrow`."""

    def __post_init__(self) -> None:
        _check_names(self.tests)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {part.nnz}" for name, part in self.parts.items())
        return f"Dataset({self.name!r}: {self.n_users} users × {self.n_items} items; {sizes})"

    @property
    def users(self) -> Vocabulary:
        """Ids of all users."""
        return self.train.users

    @property
    def items(self) -> Vocabulary:
        """Ids of all items."""
        return self.train.items

    @property
    def n_users(self) -> int:
        """Users of all parts together."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Items of all parts together."""
        return len(self.items)

    @property
    def held_out(self) -> list[TestSet]:
        """The validation set, if there is one, and each test set."""
        return ([self.valid] if self.valid else []) + list(self.tests.values())

    @property
    def parts(self) -> dict[str, Interactions]:
        """The interactions of `train`, `valid` (if any) and each test set, by name."""
        return {"train": self.train} | {part.name: part.truth for part in self.held_out}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of results should know: the `steps`, and ids that training never saw."""
        return self.steps + unseen_notes(self)

    @classmethod
    def load(cls, path: str | Path, **columns: Unpack[ColumnNames]) -> "Dataset":
        """Read a folder of split files, a single log file, or a data set of the catalogue.

        Args:
            path: a folder (see `from_folder`) or a file (see `from_file`); where there is neither,
                the name of a data set that `catalog.fetch` has fetched.
            **columns: names of the columns for `user`, `item`, `time`, `weight`; see `read_log`.

        Raises:
            DataError: there is nothing there, a data set is not fetched yet, or a file is broken.
        """
        if not Path(path).exists():
            from contrarec.data import catalog  # it makes data sets itself

            if str(path) in catalog.ENTRIES:
                path = catalog.folder(str(path))
                if not path.is_dir():
                    raise DataError(
                        f"{path.name} is not fetched yet: contrarec data fetch {path.name}"
                    )
        read = cls.from_folder if Path(path).is_dir() else cls.from_file
        return read(path, **columns)

    @classmethod
    def from_file(cls, path: str | Path, **columns: Unpack[ColumnNames]) -> "Dataset":
        """Read a single log; everything is train until it is `split`.

        Args:
            path: a file that `read_log` can read.
            **columns: names of the columns for `user`, `item`, `time`, `weight`.
        """
        path = Path(path)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder.")
        data = cls.from_parts(train=path, name=path.stem, path=str(path), **columns)
        return replace(data, steps=_once(read_steps(path) + data.steps))

    @classmethod
    def from_folder(cls, path: str | Path, **columns: Unpack[ColumnNames]) -> "Dataset":
        """Read a folder of split files: `train`, `valid`, `test` and `test_<name>`.

        Each is in any format that `read_log` can read. `test_ood.txt` is the test set `ood`,
        `test.txt` is `test`. The items in `not_candidate.txt`, one id a line, are never ranked.

        Args:
            path: the folder.
            **columns: names of the columns for `user`, `item`, `time`, `weight`, in every file.

        Raises:
            DataError: there is no train file, two files of one part, or a broken file.
        """
        folder = Path(path)
        found, others = find_parts(folder)
        done = read_steps(found["train"])
        data = cls.from_parts(
            train=found.pop("train"),
            valid=found.pop("valid", None),
            tests=found,
            not_candidates=read_not_candidates(folder),
            name=folder.resolve().name,
            path=str(folder),
            **columns,
        )
        return replace(
            data,
            steps=_once(done + data.steps + tuple(f"{file}: no part, ignored" for file in others)),
        )

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        user: str | None = None,
        item: str | None = None,
        time: str | None = None,
        weight: str | None = None,
        name: str = "frame",
    ) -> "Dataset":
        """Take an interaction log from a polars, pandas or Arrow frame; all of it is train.

        Args:
            frame: a row per interaction.
            user: column with user ids; None looks for the usual names.
            item: column with item ids; likewise.
            time: column with times, numbers or dates; likewise.
            weight: column with weights; likewise.
            name: for reports.
        """
        return cls.from_parts(
            train=frame, name=name, user=user, item=item, time=time, weight=weight
        )

    @classmethod
    def from_sql(
        cls, uri: str, query: str, *, name: str | None = None, **columns: Unpack[ColumnNames]
    ) -> "Dataset":
        """Take the log that a query returns; all of it is train.

        The result goes through a temporary file, batch by batch, so that memory is that of the
        data set. No password is kept: `path` has the address without it. PostgreSQL takes one from
        the environment variable `PGPASSWORD` or from `~/.pgpass`, too.

        Args:
            uri: `postgresql://user:password@host:port/database` or `sqlite:///file`.
            query: one statement that returns a row per interaction.
            name: for reports; that of the database if None.
            **columns: names of the query's columns for `user`, `item`, `time`, `weight`.

        Raises:
            BackendError: the database's driver is not installed.
            DataError: the database cannot be reached, the query fails, or its result is no log.
        """
        from contrarec.data.addresses import parse_address
        from contrarec.data.sql import write_query

        address = parse_address(uri)
        with TemporaryDirectory(prefix="contrarec-") as folder:
            path = Path(folder) / "query.parquet"
            write_query(address, query, path, columns)
            try:
                data = cls.from_file(path)
            except DataError as error:
                raise DataError(str(error).replace(str(path), address.shown)) from None
        return replace(data, name=name or address.name, path=address.shown)

    @classmethod
    def from_csr(cls, matrix: Any, *, name: str = "matrix") -> "Dataset":
        """Take interactions from a scipy matrix `[users, items]`; the ids are its row numbers."""
        return cls.from_parts(train=matrix, name=name)

    @classmethod
    def from_parts(
        cls,
        *,
        train: Any,
        valid: Any = None,
        tests: Mapping[str, Any] | None = None,
        not_candidates: Sequence[Any] | pl.Series | None = None,
        name: str = "data",
        path: str = "",
        **columns: Unpack[ColumnNames],
    ) -> "Dataset":
        """Put a data set together from parts that are already split.

        Args:
            train: a path, frame or matrix (see `read_log`), or `Interactions`.
            valid: likewise, or None.
            tests: likewise, by name.
            not_candidates: ids of items that are never ranked.
            name: for reports.
            path: where it all comes from.
            **columns: names of the columns for `user`, `item`, `time`, `weight`, in every part.

        Raises:
            DataError: a part is broken, or a test set has no usable name.
        """
        _check_names(tests or {})
        sources = {"train": train} | ({} if valid is None else {"valid": valid}) | dict(tests or {})
        logs = {part: read_interactions(source, columns) for part, source in sources.items()}
        users = Vocabulary.union([log.users for log in logs.values()])
        items = Vocabulary.union([log.items for log in logs.values()])
        steps = [
            f"{part}: {log.n_duplicates} repeated pairs collapsed"
            for part, log in logs.items()
            if log.n_duplicates
        ]
        candidates = None
        if not_candidates is not None:
            excluded = items.index(not_candidates)
            candidates = np.setdiff1d(np.arange(len(items), dtype=np.int32), excluded)
            steps.append(
                f"{len(items) - len(candidates)} items are not candidates "
                f"({(excluded < 0).sum()} more are not in the data)"
            )
        return _assemble(
            {part: log.reindex(users, items) for part, log in logs.items()},
            name=name,
            candidates=candidates,
            steps=tuple(steps),
            path=path,
            frame=frame_kind(train),
        )

    def split(
        self,
        *,
        valid: Split | None = None,
        tests: Mapping[str, Split] | None = None,
        seed: int = 0,
    ) -> "Dataset":
        """Take test sets, in order, and then a validation set out of train.

        Args:
            valid: how the validation set is taken, if at all.
            tests: how each new test set is taken. Those that are there already stay.
            seed: decides what is random.

        Returns:
            A data set with the parts taken out of train, and a note on each.

        Raises:
            DataError: a part is there already, or nothing would be left for it or for train.
        """
        _check_names(tests or {})
        wanted = dict(tests or {}) | ({} if valid is None else {"valid": valid})
        parts = self.parts
        steps = list(self.steps)
        for number, (name, how) in enumerate(wanted.items()):
            if name in parts:
                raise DataError(f"{self.name}: there is a part {name!r} already.")
            log = parts["train"]
            taken = how.take(log, np.random.default_rng([seed, number]))
            n_taken = int(taken.sum())
            if n_taken in (0, log.nnz):
                raise DataError(f"{self.name}: {how} takes {n_taken} of {log.nnz} for {name!r}.")
            parts[name], parts["train"] = log.select(taken), log.select(~taken)
            steps.append(f"{name}: {how.account(log, taken)}, seed {seed}")
        return _assemble(
            parts,
            name=self.name,
            candidates=self.candidates,
            steps=tuple(steps),
            path=self.path,
            frame=self.frame,
        )

    def with_items(self, ids: Iterable[Any]) -> "Dataset":
        """Return the same interactions over more items, such as those that nobody has had yet.

        Args:
            ids: of items; those that are not there yet come behind the others, in this order. The
                ids of all items become texts if these are texts.

        Returns:
            A data set in which the other items keep their indices. Where it is said which items
            may be ranked (`candidates`), the new ones are none of them. `save` writes interactions
            and with them the ids that have any.
        """
        items = self.items.extend(ids)
        if items is self.items or items == self.items:
            return self

        def wider(test: TestSet) -> TestSet:
            mask = replace(test.mask, items=items) if test.mask else None
            return replace(test, truth=replace(test.truth, items=items), mask=mask)

        return replace(
            self,
            train=replace(self.train, items=items),
            valid=wider(self.valid) if self.valid else None,
            tests={name: wider(test) for name, test in self.tests.items()},
        )

    def describe(self) -> dict[str, Any]:
        """Return sizes, shift of popularity and everything noted, as plain values; see `report`."""
        return describe(self)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that depend on the training pairs and all ids, in order."""
        return fingerprint(
            lambda: [self.users.ids],
            lambda: [self.items.ids],
            lambda: [self.train.indptr],
            lambda: [self.train.indices],
        )

    def save(self, folder: str | Path) -> None:
        """Write the parts as Parquet files, in a form that `load` reads back, with the `steps`.

        The folder appears complete or not at all.

        Args:
            folder: is created; it must not hold anything yet.

        Raises:
            DataError: the folder is not empty, or cannot be written.
        """
        excluded = None
        if self.candidates is not None:
            excluded = self.items.take(np.setdiff1d(np.arange(self.n_items), self.candidates))
        write_parts(Path(folder), self.parts, excluded, self.steps)


def _assemble(
    parts: Mapping[str, Interactions], *, candidates: np.ndarray | None, **about: Any
) -> Dataset:
    """Make a data set of parts in the same vocabularies, each with what is masked for it."""
    train, valid = parts["train"], parts.get("valid")
    held_out = {}
    seen = train
    masked: tuple[str, ...] = ("train",)
    for name in sorted(parts, key=lambda part: part != "valid"):  # valid first: tests mask it
        if name == "train":
            continue
        truth = parts[name]
        own = seen.isin(truth)
        held_out[name] = TestSet(
            name=name,
            truth=truth,
            mask=seen.select(~own) if own.any() else seen,
            masked=masked,
            candidates=candidates,
        )
        if name == "valid":
            seen, masked = train.union(truth), ("train", "valid")
    first = held_out.pop("valid") if valid is not None else None
    return Dataset(train=train, valid=first, tests=held_out, candidates=candidates, **about)


def _once(steps: Iterable[str]) -> tuple[str, ...]:
    """Leave out repetitions: a file may say of itself what was just found again."""
    return tuple(dict.fromkeys(steps))


def _check_names(tests: Iterable[str]) -> None:
    for name in tests:
        if not _NAME.fullmatch(name) or name in ("train", "valid"):
            raise DataError(
                "a test set's name must be letters, digits, `_`, `-` and `.`, starting with a "
                f"letter or digit, and not 'train' or 'valid', got {name!r}."
            )
