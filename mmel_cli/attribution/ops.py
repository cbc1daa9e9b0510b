"""The evidence of one attention layer, METHOD section 2, for either tower."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, linear

from mmel_cli.errors import ModelError
from mmel_cli.tensors import KeyRow, Tokens, Tower


def query_row(tokens: Tokens, tower: Tower) -> Float[Tensor, "pairs width"]:
    """The query token's vector of each pair.

    Raises:
        ModelError: if the tower has none.
    """
    if tower.query is None:
        raise ModelError("no token of the model's tower asks for the others, and the method needs one; use another one")
    return tokens[torch.arange(len(tokens), device=tokens.device), tower.query]


def minmax(values: Float[Tensor, "*rows tokens"], keys: Bool[Tensor, "*rows tokens"]) -> Float[Tensor, "*rows tokens"]:
    """Scale each row to 0..1 over its `keys`, zero elsewhere; a constant row (or a single key) becomes one."""
    low = values.masked_fill(~keys, torch.inf).amin(-1, keepdim=True)
    high = values.masked_fill(~keys, -torch.inf).amax(-1, keepdim=True)
    spread = high - low
    scaled = torch.where(spread > 0, (values - low) / spread.clamp_min(torch.finfo(values.dtype).tiny), 1.0)
    return scaled.masked_fill(~keys, 0.0)


def attention(tower: Tower, layer: int) -> Float[Tensor, "pairs heads tokens"]:
    """The query's attention row of each head over all tokens, from q and k: softmax(q k^T / sqrt d) of what it sees."""
    q = _heads(query_row(tower.q[layer], tower), tower)
    k = _heads(tower.k[layer], tower)
    logits = torch.einsum("phd,pthd->pht", q, k) / q.shape[-1] ** 0.5
    return logits.masked_fill(~tower.visible[:, None], -torch.inf).softmax(-1)


def attention_matrix(tower: Tower, layer: int) -> Float[Tensor, "pairs heads tokens tokens"]:
    """All attention rows of each head, recomputed from q and k; tokens that the query does not see are never seen."""
    q, k = (_heads(tokens[layer], tower).transpose(1, 2) for tokens in (tower.q, tower.k))
    logits = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
    hidden = ~tower.visible[:, None, None, :]
    if tower.causal:
        count = logits.shape[-1]
        after = torch.ones(count, count, dtype=torch.bool, device=logits.device).triu(1)
        hidden = (hidden | after) & ~torch.eye(count, dtype=torch.bool, device=logits.device)
    return logits.masked_fill(hidden, -torch.inf).softmax(-1)


def attention_matrix_gradient(tower: Tower, layer: int) -> Float[Tensor, "pairs heads tokens tokens"]:
    """w_h[j] . v_h[i] = ds/da_h[j, i] for every row j."""
    w, v = (_heads(tokens[layer], tower).transpose(1, 2) for tokens in (tower.w, tower.v))
    return w @ v.transpose(2, 3)


def attention_gradient(tower: Tower, layer: int) -> Float[Tensor, "pairs heads tokens"]:
    """w_h[query] . v_h[i] = ds/da_h[query, i] (METHOD 2, identity)."""
    w = _heads(query_row(tower.w[layer], tower), tower)
    return torch.einsum("phd,pthd->pht", w, _heads(tower.v[layer], tower))


def flow(tower: Tower, layer: int) -> KeyRow:
    """C[i] = sum_h a_h[query, i] (w_h[query] . v_h[i]) at the keys; over all tokens it sums to w[query] . o[query].

    Where no token is the query, every token j asks: C[i] = sum_j sum_h a_h[j, i] (w_h[j] . v_h[i]), which sums to
    sum_j w[j] . o[j]. (Behind the last layer of a tower with a query w[j] is 0 for every other token.)
    """
    if tower.query is None:
        return tower.gather((attention_matrix(tower, layer) * attention_matrix_gradient(tower, layer)).sum((1, 2)))
    return tower.gather((attention(tower, layer) * attention_gradient(tower, layer)).sum(1))


def looseness(tower: Tower, layer: int, *, projected: bool = False, over_tokens: bool = False) -> KeyRow:
    """lambda[i] = min-max over the keys of cos(q[query], k[i]), full width (Grad-ECLIP's loosened attention).

    `projected` sends q and k through the output projection first, as the published code does; `over_tokens` takes the
    least and the greatest of all tokens of the tower, keys or not.
    """
    q, k = tower.q[layer], tower.k[layer]
    if projected:
        out = tower.out[layer]
        q, k = linear(q, out.weight, out.bias), linear(k, out.weight, out.bias)
    cosine = cosine_similarity(query_row(q, tower)[:, None], k, dim=-1)
    if over_tokens:
        return tower.gather(minmax(cosine, torch.ones_like(cosine, dtype=torch.bool)))
    return minmax(tower.gather(cosine), tower.keys)


def loosened(tower: Tower, layer: int, weight: KeyRow) -> KeyRow:
    """G[i] = lambda[i] * sum_d w[query, d] v[i, d] at the keys for lambda = `weight` (Grad-ECLIP, ICML 2024)."""
    return weight * tower.gather(attention_gradient(tower, layer).sum(1))


def patches(rows: list[KeyRow], grid: tuple[int, int]) -> Float[Tensor, "pairs layers height width"]:
    """Stack per-layer rows over the image tower's keys, laid out on the grid."""
    return torch.stack(rows, 1).unflatten(-1, grid)


def _heads(tokens: Tensor, tower: Tower) -> Tensor:
    """Split the width: (..., width) to (..., heads, width / heads)."""
    return tokens.unflatten(-1, (tower.heads, -1))
