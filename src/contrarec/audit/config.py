"""What an audit measures, and on what."""

from dataclasses import dataclass
from pathlib import Path

from contrarec.audit.propensity import GAMMA
from contrarec.audit.unbiased import CLIP
from contrarec.config import require


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """What is measured, and on what."""

    k: int = 20
    """Cutoff of every figure."""
    shifts: tuple[str, ...] | None = None
    """Test sets to take out of a log, see `shift.split_log`."""
    share: float | None = None
    """Share of a log in each test set and in the validation set; see `shift.split_log`."""
    split_seed: int = 0
    """Decides what is random about the sets."""
    max_users: int = 50_000
    """Users measured of each set, drawn at random if it has more."""
    propensities: Path | None = None
    """File with the propensities of items or pairs; None estimates them from popularity."""
    column: str | None = None
    """Column of the log that was read as weights and holds propensities."""
    gamma: float = GAMMA
    """γ of the power law by which propensities are estimated."""
    clip: float = CLIP
    """Smaller propensities count as this."""
    weighed: tuple[str, ...] | None = None
    """Sets that are a random part of the log, to which propensities are applied; the
    in-distribution set if None."""

    def __post_init__(self) -> None:
        require(self.k >= 1, "k", "be at least 1", self.k)
        require(self.max_users >= 1, "max_users", "be at least 1", self.max_users)
        require(0 <= self.clip < 1, "clip", "be at least 0 and below 1", self.clip)
        one = self.propensities is None or self.column is None
        require(one, "propensities", "be a file or a column, not both", self.propensities)
