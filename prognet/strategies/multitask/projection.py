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

    gram = G.detach().double().cpu()
    lengths = gram.diagonal().clamp_min(0).sqrt()  # (m,)
    there = lengths > 0  # a gradient of zero is in conflict with nothing
    if not there.any():
        return U
    # In weights of unit vectors: else a gradient that is all but zero takes a weight that no number can hold.
    unit = lengths[there]
    values, vectors = torch.linalg.eigh(gram[there][:, there] / (unit.unsqueeze(1) * unit))
    R = (values.clamp_min(0).sqrt().unsqueeze(1) * vectors.T).numpy()  # (n, n)
    rows = U.detach().double().cpu().reshape(-1, len(G)).clone()
    for row in rows:
        u = (row[there] * unit).numpy()
        row[there] = torch.from_numpy(u + nnls(R, -R @ u)[0]) / unit
    return rows.to(U).view_as(U)
