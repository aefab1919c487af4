"""Projection on the cone of directions without conflict, by non-negative least squares."""

from typing import Any

import torch
from torch import Tensor

from prognet.strategies.multitask.weighting import torchjd


def least_squares_projector() -> Any:
    """A projector for torchjd that needs scipy alone."""

    class LeastSquares(torchjd("linalg").DualConeProjector):  # type: ignore[misc]
        """min_v v' G v with v >= u, elementwise; as v = u + w that is min_w |R w + R u|^2 with w >= 0 and R' R = G."""

        def __call__(self, U: Tensor, G: Tensor) -> Tensor:
            return project(U, G)

    return LeastSquares()


def project(U: Tensor, G: Tensor) -> Tensor:
    """The projections of J' u on {d: J d >= 0}, for each row u of U, as weights of the rows of J.

    Args:
        U: (..., m).
        G: J J', (m, m).
    """
    from scipy.optimize import nnls

    values, vectors = torch.linalg.eigh(G.detach().double().cpu())
    largest = values[-1].clamp_min(0)
    scale = largest if largest > 0 else torch.ones_like(largest)  # the solution does not depend on the scale of G
    R = ((values / scale).clamp_min(0).sqrt().unsqueeze(1) * vectors.T).numpy()  # (m, m)
    rows = U.detach().double().cpu().reshape(-1, len(G)).numpy()
    found = [torch.from_numpy(u + nnls(R, -R @ u)[0]) for u in rows]
    return torch.stack(found).to(U).view_as(U)
