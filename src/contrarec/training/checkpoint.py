"""Checkpoints of a training run: weights, best weights, both optimizers, and where it stands."""

from pathlib import Path
from typing import Any

import torch

from contrarec.backbones import Backbone
from contrarec.errors import DataError
from contrarec.losses import Loss
from contrarec.tensorfile import load_tensors, pack, save_tensors, unpack
from contrarec.training.state import KLTrace, State


class Checkpoint:
    """The checkpoint of one run, `state/checkpoint.safetensors` in its folder.

    Args:
        folder: the run's folder.
        backbone, loss, optimizer: what is saved and restored.
        identity: values that must be equal in the run that wrote a checkpoint and the one that
            reads it, such as settings and a hash of the data.
    """

    def __init__(
        self,
        folder: Path,
        backbone: Backbone,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        identity: dict[str, Any],
    ) -> None:
        self.path = folder / "state" / "checkpoint.safetensors"
        self._modules: dict[str, Backbone | Loss] = {"backbone": backbone, "loss": loss}
        self._optimizers = {"optimizer": optimizer}
        if loss.has_adversary:
            self._optimizers["adversary_optimizer"] = loss.adversary_optimizer
        self._identity = identity

    def save(self, state: State, best: dict[str, torch.Tensor], kl: KLTrace) -> None:
        """Write everything that `load` needs; the previous checkpoint is replaced atomically."""
        tensors = pack("best", best) | {"kl.sums": kl.sums, "kl.counts": kl.counts}
        for name, module in self._modules.items():
            tensors |= pack(name, module.state_dict())
        for name, optimizer in self._optimizers.items():
            tensors |= pack(name, optimizer_tensors(optimizer))
        save_tensors(self.path, tensors, {"state": state.to_dict(), "identity": self._identity})

    def load(self, kl: KLTrace) -> tuple[State, dict[str, torch.Tensor]]:
        """Put weights, optimizers and `kl` back; return the state and the best weights.

        Raises:
            DataError: the file is damaged, foreign, or of a run with other settings or data.
        """
        tensors, meta = load_tensors(self.path)
        for key, expected in self._identity.items():
            found = meta.get("identity", {}).get(key)
            if found != expected:
                raise DataError(
                    f"{self.path}: belongs to another run, its {key} is {found!r} and this run's "
                    f"is {expected!r}. Resume with the same {key} or choose another folder."
                )
        device = kl.sums.device
        try:
            for name, module in self._modules.items():
                module.load_state_dict(unpack(name, tensors))
            for name, optimizer in self._optimizers.items():
                restore_optimizer(optimizer, unpack(name, tensors))
            kl.sums.copy_(tensors["kl.sums"])
            kl.counts.copy_(tensors["kl.counts"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise DataError(f"{self.path}: not a checkpoint of this model ({error}).") from error
        best = {name: tensor.to(device) for name, tensor in unpack("best", tensors).items()}
        return State.from_dict(meta["state"]), best


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return an optimizer's state as flat tensors, `<parameter number>.<name>`."""
    return {
        f"{number}.{name}": tensor
        for number, entry in optimizer.state_dict()["state"].items()
        for name, tensor in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put back what `optimizer_tensors` returned."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
