"""Factorizes linears, weighing what their inputs really are."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from miaotui.errors import RecipeError
from miaotui.techniques.base import TechniqueBase, first_rows

if TYPE_CHECKING:
    from torch import Tensor

    from miaotui.models.model import Calibration, Model
    from miaotui.models.surgery import Factors


class LowRank(TechniqueBase):
    """`ranks` by linear ("layers.0.up"), or one `ratio` of the full rank for every FFN linear."""

    name: Literal["low-rank"] = "low-rank"
    ranks: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    ratio: float | None = Field(default=None, gt=0, le=1)
    rows: int = Field(default=256, ge=1)

    @model_validator(mode="after")
    def _one_of_both(self) -> "LowRank":
        if bool(self.ranks) == (self.ratio is not None):
            raise ValueError("give either ranks or ratio")
        return self

    def prepare(self, model: "Model", calibration: "Calibration") -> "Model":
        from miaotui.models.observe import second_moments
        from miaotui.models.surgery import factorize

        ranks = self._ranks(model)
        rows = first_rows(self.name, calibration, self.rows).rows
        moments = second_moments(model.encoder, rows, list(ranks))
        state = model.encoder.state_dict()
        factors = {
            name: weighted_svd(state[f"{name}.weight"], moments[name], rank)
            for name, rank in ranks.items()
        }
        return model.with_module(factorize(model.encoder, factors))

    def _ranks(self, model: "Model") -> dict[str, int]:
        from miaotui.models.model import linears

        widths = {
            name: min(linear.in_features, linear.out_features)
            for name, linear in linears(model.encoder).items()
            if name.startswith("layers.") and name.count(".") == 2
        }
        if self.ratio is not None:
            ffn = {n: w for n, w in widths.items() if n.endswith((".up", ".down"))}
            return {name: max(1, round(width * self.ratio)) for name, width in ffn.items()}
        for name, rank in self.ranks.items():
            if name not in widths:
                example = next((f"name one such as {w}" for w in widths), "all were removed")
                raise RecipeError(f"low-rank: there is no linear {name}; {example}")
            if rank > widths[name]:
                raise RecipeError(
                    f"low-rank: rank {rank} exceeds width {widths[name]} of {name}; "
                    f"choose a rank <= {widths[name]}"
                )
        return self.ranks


def weighted_svd(weight: "Tensor", moment: "Tensor", rank: int) -> "Factors":
    """The pair (first, second) that minimises the mean of |W x - second first x|² over the inputs
    whose second moment is given: an SVD of W times the moment's Cholesky factor (SVD-LLM, 2024)."""
    import torch

    wide = weight.double()
    damp = 1e-6 * moment.diagonal().mean() * torch.eye(len(moment), dtype=torch.float64)
    root = torch.linalg.cholesky(moment + damp)
    u, s, v = torch.linalg.svd(wide @ root, full_matrices=False)
    half = s[:rank].sqrt()
    first = torch.linalg.solve_triangular(root, v[:rank], upper=False, left=False)
    return (half[:, None] * first).float(), (u[:, :rank] * half).float()
