"""What is known of each data set, and where it lies once it is fetched."""

import os
from dataclasses import dataclass
from pathlib import Path

from contrarec.errors import DataError, unknown

_MOVIELENS = "https://files.grouplens.org/datasets/movielens/"
_GROUPLENS = (
    "GroupLens: research only, no commercial use without permission, no endorsement implied, "
    "acknowledge Harper & Konstan (2015)"
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A data set of the catalogue."""

    name: str
    """Its name here."""
    what: str
    """What it is, and how it is split here."""
    page: str
    """The page of its authors."""
    url: str | None
    """Address of the archive; None where only the user can get it."""
    size: str
    """Size of the archive, in words."""
    licence: str
    """Under which terms it may be used."""
    files: tuple[str, ...]
    """Names of the files that are read, wherever in the archive they lie."""
    checksum: str | None = None
    """`sha256:` or `md5:` and the archive's digest as its authors publish it; None: not known."""

    @property
    def archive(self) -> str:
        """File name of the archive."""
        return (self.url or self.name).rpartition("/")[2]

    def card(self) -> str:
        """Say in some lines what is to be known before it is downloaded."""
        checked = self.checksum or "not known; what is got is recorded and compared next time"
        return "\n".join(
            (
                f"{self.name}: {self.what}",
                f"  from      {self.url or 'your own copy'} ({self.page})",
                f"  size      {self.size}",
                f"  licence   {self.licence}",
                f"  checksum  {checked}",
            )
        )


_MOVIELENS_SPLIT = "rating >= 4 is positive; test sets `id` (random) and `shifted` (popularity)"
ENTRIES = {
    entry.name: entry
    for entry in (
        Entry(
            name="coat",
            what="coats rated by 290 users: self-selected ratings in train and valid, ratings of "
            "coats shown at random in the test set `ood`; rating >= 4 is positive",
            page="https://www.cs.cornell.edu/~schnabts/mnar/",
            url="https://www.cs.cornell.edu/~schnabts/mnar/coat.zip",
            size="not stated (3 MB unpacked)",
            licence="none stated; cite Schnabel et al., ICML 2016",
            files=("train.ascii", "test.ascii"),
        ),
        Entry(
            name="yahoo-r3",
            what="songs rated by 15,400 users: self-selected ratings in train and valid, ratings "
            "of songs drawn at random in the test set `ood`; rating >= 4 is positive",
            page="https://webscope.sandbox.yahoo.com/catalog.php?datatype=r",
            url=None,
            size="some MB",
            licence="Yahoo! Webscope agreement: non-commercial research, no passing on",
            files=(
                "ydata-ymusic-rating-study-v1_0-train.txt",
                "ydata-ymusic-rating-study-v1_0-test.txt",
            ),
        ),
        Entry(
            name="kuairec",
            what="short videos: the big matrix is train; of the small one, where 1,411 users saw "
            "nearly all of 3,327 videos, a third is valid and the rest the test set `ood`; watch "
            "ratio >= 2 is positive",
            page="https://kuairec.com",
            url="https://zenodo.org/records/18164998/files/KuaiRec.zip",
            size="about 430 MB",
            licence="CC BY-SA 4.0; cite Gao et al., CIKM 2022",
            files=("big_matrix.csv", "small_matrix.csv"),
            checksum="md5:261550d472c48eff4990fb13c0e5bcf7",
        ),
        Entry(
            name="kuairand-pure",
            what="short videos: what was recommended is train and valid, what was shown at random "
            "the test set `ood`; a click is positive",
            page="https://kuairand.com",
            url="https://zenodo.org/records/10439422/files/KuaiRand-Pure.tar.gz",
            size="not stated (194 MB unpacked)",
            licence="CC BY-SA 4.0; cite Gao et al., CIKM 2022",
            files=(
                "log_standard_4_08_to_4_21_pure.csv",
                "log_standard_4_22_to_5_08_pure.csv",
                "log_random_4_22_to_5_08_pure.csv",
            ),
            checksum="md5:0820331067a3784d9691136f772b35a7",
        ),
        Entry(
            name="ml-100k",
            what=f"100,000 ratings of films by 943 users, 1998; {_MOVIELENS_SPLIT}",
            page="https://grouplens.org/datasets/movielens/100k/",
            url=f"{_MOVIELENS}ml-100k.zip",
            size="5 MB",
            licence=f"{_GROUPLENS}, no passing on",
            files=("u.data",),
            checksum="sha256:50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        ),
        Entry(
            name="ml-1m",
            what=f"1,000,209 ratings of films by 6,040 users, 2000; {_MOVIELENS_SPLIT}",
            page="https://grouplens.org/datasets/movielens/1m/",
            url=f"{_MOVIELENS}ml-1m.zip",
            size="6 MB",
            licence=f"{_GROUPLENS}, no passing on",
            files=("ratings.dat",),
            checksum="sha256:a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        ),
        Entry(
            name="ml-latest-small",
            what=f"100,836 ratings of films by 610 users, 2018, may change; {_MOVIELENS_SPLIT}",
            page="https://grouplens.org/datasets/movielens/latest/",
            url=f"{_MOVIELENS}ml-latest-small.zip",
            size="1 MB",
            licence=f"{_GROUPLENS}, passed on under the same terms",
            files=("ratings.csv",),
        ),
    )
}
"""The data sets, by name."""


def find(name: str) -> Entry:
    """Return the entry of a name.

    Raises:
        DataError: there is none; the nearest is named.
    """
    if name not in ENTRIES:
        raise DataError(f"{unknown('data set', name, ENTRIES)}.")
    return ENTRIES[name]


def cache_folder() -> Path:
    """Where data sets are kept: `CONTRAREC_CACHE`, else the user's cache folder for contrarec."""
    from platformdirs import user_cache_path

    asked = os.environ.get("CONTRAREC_CACHE")
    path = Path(asked).expanduser() if asked else user_cache_path("contrarec", appauthor=False)
    return path.absolute()


def folder(name: str) -> Path:
    """Where a fetched data set lies, or would."""
    return cache_folder() / "data" / name
