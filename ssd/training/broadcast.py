"""How the workers come to equal parameters before the first step: all begin with those of worker 0."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ssd.checkpoint.model import Params
from ssd.checkpoint.param_file import read_arrays
from ssd.launch.coordinator import Lead
from ssd.mxnet_compat import mx
from ssd.training.allreduce import Exchange
from ssd.training.keeper import Keeper
from ssd.utils.errors import UserError

ARRAYS = "arrays"  # a file


@dataclass(frozen=True)
class Beginning:
    """step: done before, by an earlier process; updates: those that changed the parameters; data: the training
    pictures' digest. Of arrays, "arg:" and "aux:" are parameters, "optimizer:" its state."""

    step: int
    updates: int
    data: str
    arrays: Params

    def group(self, name: str) -> Params:
        prefix = f"{name}:"
        return {key.removeprefix(prefix): array for key, array in self.arrays.items() if key.startswith(prefix)}


def begin(lead: Lead, keeper: Keeper) -> None:
    """Worker 0: tells the others where its training stands, and shares its steps with them from here on."""
    trainer = keeper.trainer
    arg_params, aux_params = trainer.raw_params()
    groups = {"arg": arg_params, "aux": aux_params, "optimizer": trainer.state()["optimizer"]}
    arrays = {f"{group}:{name}": array for group, part in groups.items() for name, array in part.items()}
    facts = {"step": keeper.progress.step, "updates": trainer.updates, "data": keeper.data}
    lead.tell(facts, _packed(arrays))
    trainer.exchange = Exchange(lead.share.rank, lead.share.workers, trainer.gradients, lead.wait)


def read_beginning(facts: dict[str, Any], content: bytes, data: str) -> Beginning:
    """What worker 0 tells. data: the digest of the pictures here. Errors: UserError when they are not worker 0's."""
    if facts["data"] != data:
        raise UserError("the training pictures or their objects differ from those of worker 0; dataset.root must "
                        "hold the same files on every machine")  # fmt: skip
    with TemporaryDirectory() as folder:
        file = Path(folder) / ARRAYS
        file.write_bytes(content)
        try:
            arrays = read_arrays(file, weights=False)
        except UserError as error:
            raise UserError(f"the parameters that worker 0 sent: {error}") from error
    return Beginning(facts["step"], facts["updates"], data, arrays)


def _packed(arrays: Params) -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / ARRAYS
        mx.nd.save(str(file), arrays)
        return file.read_bytes()
