"""Locality-preserving guidance erasure: what the two papers leave open, closed. Ours.

    L_guid = ||(eps(x,e') - sg u(x)) - (-eta g0(x,e))||^2                       the guidance term of the target, in its place
    L_adj  = mean_i ||eps(x_i,a_i) - eps0(x_i,a_i)||^2                           the neighbours (FADE)
    L_loc  = mean_j ||eps(x_j,r_j) - eps0(x_j,r_j)||^2                           the words of the name, without the name
    L_null = ||u(x) - u0(x)||^2                                                  the null prompt (All but One)
    L      = lam_guid L_guid + lam_adj L_adj + lam_loc L_loc + lam_drift L_null

u(x) = eps(x,""), g0(x,c) = eps0(x,c) - u0(x); e' is the target said in one of several ways, r_j a prompt that shares words
with names and names no concept (fade.phrases). The update goes into the target's guidance term alone (as All but One asks
for): no neighbour is a goal, so that the target drifts into none of them, and the null prompt stays where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fade.methods import Batch, Method, Predictor, register

if TYPE_CHECKING:
    from torch import Tensor

    from fade.config import MethodConfig


def locality(eps: Predictor, batch: Batch, config: MethodConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """One student call (3 n_t + n_a + n_c latents) and one teacher call of the same size."""
    import torch

    n_t, n_a = len(batch.x), len(batch.x_adj)
    some = slice(0, n_t)  # as many of the neighbours' latents for the null prompt
    x = torch.cat([batch.x, batch.x, batch.x_adj[some], batch.x_adj, batch.x_context])
    t = torch.cat([batch.t, batch.t, batch.t_adj[some], batch.t_adj, batch.t_context])
    null = batch.null.expand(n_t + len(batch.x_adj[some]), -1, -1)
    kept = torch.cat([null, batch.neighbours[batch.which], batch.context])
    new = eps.student(x, t, torch.cat([batch.phrased, kept]))
    old = eps.teacher(x, t, torch.cat([batch.target.expand(n_t, -1, -1), kept]))
    parts = [n_t, n_t + len(null), n_t + len(null) + n_a]
    spoken, u, adjacent, context = new.tensor_split(parts)
    said, u_0, adjacent_0, context_0 = old.tensor_split(parts)
    wanted = -config.eta * (said - u_0[:n_t])
    l_guid = (((spoken - u[:n_t].detach()) - wanted) ** 2).mean()
    l_adj = ((adjacent - adjacent_0) ** 2).mean()
    l_loc = ((context - context_0) ** 2).mean() if len(context) else l_adj.new_zeros(())
    l_null = ((u - u_0) ** 2).mean()
    loss = config.guidance_weight * l_guid + config.adjacency_weight * l_adj + config.locality_weight * l_loc + config.drift_weight * l_null
    terms = {"guidance": l_guid, "adjacency": l_adj, "locality": l_loc, "drift": l_null}
    return loss, {name: value.detach() for name, value in terms.items()}


LOCALITY = register(
    Method(
        "locality",
        "guidance",
        "ours: All but One's guidance term with FADE's neighbours, the words of the name, and the null prompt kept",
        needs_neighbours=True,
        needs_context=True,
        loss=locality,
        settings=("train.batch_neighbours=5", "method.drift_weight=50", "method.eta=0.5"),
    )
)
