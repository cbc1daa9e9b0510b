"""The evidence of one attention layer, METHOD section 2, for either tower."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import linear, normalize

from mmel_cli.tensors import Asking, KeyRow, Tower


def rows(tokens: Asking, tower: Tower, layer: int) -> Asking:
    """The rows of q, o or w that ask at a layer: the query's alone, or all where no token is the query."""
    query = tower.queries[layer]
    if query is None:
        return tokens
    return tokens[torch.arange(len(tokens), device=tokens.device), query][:, None]


def minmax(values: Float[Tensor, "*rows tokens"], keys: Bool[Tensor, "*rows tokens"]) -> Float[Tensor, "*rows tokens"]:
    """Scale each row to 0..1 over its `keys`, zero elsewhere; a constant row (or a single key) becomes one."""
    low = values.masked_fill(~keys, torch.inf).amin(-1, keepdim=True)
    high = values.masked_fill(~keys, -torch.inf).amax(-1, keepdim=True)
    spread = high - low
    scaled = torch.where(spread > 0, (values - low) / spread.clamp_min(torch.finfo(values.dtype).tiny), 1.0)
    return scaled.masked_fill(~keys, 0.0)


def attention(tower: Tower, layer: int) -> Float[Tensor, "pairs heads rows tokens"]:
    """The attention of the rows that ask, by head over all tokens, from q and k: softmax(q k^T / sqrt d)."""
    if tower.queries[layer] is None:
        return attention_matrix(tower, layer)
    q = _heads(rows(tower.q[layer], tower, layer), tower)
    k = _heads(tower.k[layer], tower)
    logits = torch.einsum("prhd,pthd->phrt", q, k) / q.shape[-1] ** 0.5
    return logits.masked_fill(~tower.visible[:, None, None], -torch.inf).softmax(-1)


def attention_matrix(tower: Tower, layer: int) -> Float[Tensor, "pairs heads rows tokens"]:
    """All attention rows of each head, recomputed from q and k; tokens that the query does not see are never seen."""
    q, k = (_heads(tokens[layer], tower).transpose(1, 2) for tokens in (tower.q, tower.k))
    logits = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
    hidden = ~tower.visible[:, None, None, :]
    if tower.causal:
        count = logits.shape[-1]
        after = torch.ones(count, count, dtype=torch.bool, device=logits.device).triu(1)
        hidden = (hidden | after) & ~torch.eye(count, dtype=torch.bool, device=logits.device)
    return logits.masked_fill(hidden, -torch.inf).softmax(-1)


def attention_matrix_gradient(tower: Tower, layer: int) -> Float[Tensor, "pairs heads rows tokens"]:
    """w_h[j] . v_h[i] = ds/da_h[j, i] for every row j."""
    w, v = (_heads(tokens[layer], tower).transpose(1, 2) for tokens in (tower.w, tower.v))
    return w @ v.transpose(2, 3)


def attention_gradient(tower: Tower, layer: int) -> Float[Tensor, "pairs heads rows tokens"]:
    """w_h[j] . v_h[i] = ds/da_h[j, i] for the rows j that ask (METHOD 2, identity)."""
    w = _heads(rows(tower.w[layer], tower, layer), tower)
    return torch.einsum("prhd,pthd->phrt", w, _heads(tower.v[layer], tower))


def flow(tower: Tower, layer: int) -> KeyRow:
    """C[i] = sum over rows j that ask of sum_h a_h[j, i] (w_h[j] . v_h[i]), at the keys.

    Over all tokens it sums to sum_j w[j] . o[j]. Where every row asks it is what token i sends: v[i] . ds/dv[i].
    """
    return flow_and_attended(tower, layer)[0]


def flow_and_attended(tower: Tower, layer: int) -> tuple[KeyRow, KeyRow]:
    """`flow`, and `attended`, of which both come from one attention."""
    looks = attention(tower, layer)
    return tower.gather((looks * attention_gradient(tower, layer)).sum((1, 2))), tower.gather(looks.mean((1, 2)))


def attended(tower: Tower, layer: int) -> KeyRow:
    """Attention at the keys, mean over heads and over the rows that ask."""
    return tower.gather(attention(tower, layer).mean((1, 2)))


def loosened(tower: Tower, layer: int, *, projected: bool = False, over_tokens: bool = False) -> tuple[KeyRow, KeyRow]:
    """Grad-ECLIP's loosened attention lambda and evidence G at the keys (ICML 2024).

    lambda[j, i] = min-max over the keys of cos(q[j], k[i]), full width; G[i] = sum over rows j that ask of
    lambda[j, i] * sum_d w[j, d] v[i, d]. The lambda that is given is the mean over these rows.

    Args:
        tower: whose evidence.
        layer: its place in the tower.
        projected: q and k go through the output projection first, as the published code has it.
        over_tokens: the least and the greatest cosine are those of all tokens of the tower, keys or not.
    """
    q, k = tower.q[layer], tower.k[layer]
    if projected:
        out = tower.out[layer]
        q, k = linear(q, out.weight, out.bias), linear(k, out.weight, out.bias)
    cosine = normalize(rows(q, tower, layer), dim=-1) @ normalize(k, dim=-1).transpose(1, 2)
    if over_tokens:
        weight = tower.gather(minmax(cosine, torch.ones_like(cosine, dtype=torch.bool)))
    else:
        cosine = tower.gather(cosine)
        weight = minmax(cosine, tower.keys[:, None].expand_as(cosine))
    gradient = rows(tower.w[layer], tower, layer) @ tower.v[layer].transpose(1, 2)
    return weight.mean(1), (weight * tower.gather(gradient)).sum(1)


def patches(rows: list[KeyRow], grid: tuple[int, int]) -> Float[Tensor, "pairs layers height width"]:
    """Stack per-layer rows over the image tower's keys, laid out on the grid."""
    return torch.stack(rows, 1).unflatten(-1, grid)


def _heads(tokens: Tensor, tower: Tower) -> Tensor:
    """Split the width: (..., width) to (..., heads, width / heads)."""
    return tokens.unflatten(-1, (tower.heads, -1))
