"""Log-probabilities of given tokens from hidden states, without keeping any logits.

The logits of a chunk of positions live only while that chunk is worked on; the backward pass makes
them again. Memory is chunk x vocabulary, whatever the length.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 512  # positions; with 32,000 tokens of vocabulary 64 MiB in float32


def response_logps(
    hidden: Tensor, weight: Tensor, labels: Tensor, softcap: float | None = None
) -> Tensor:
    """log softmax(hidden @ weight.T)[labels], shape [positions], in float32 or better.

    ``hidden`` [positions, size] are the states that predict ``labels`` [positions]; ``weight``
    [vocabulary, size] is the head. ``softcap`` bounds the logits as Gemma-2 does: s tanh(x / s).
    On CUDA this is TRL's fused head (Triton), elsewhere :class:`_Logps`.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    if hidden.is_cuda:
        from trl.kernels.chunked_logprob import ChunkedLogProbFunction

        vocabulary_chunk = 32768
        return ChunkedLogProbFunction.apply(
            hidden, weight, None, labels, 1.0, vocabulary_chunk, softcap, 1.0, ()
        )[0]
    return _Logps.apply(hidden, weight, labels, softcap)


class _Logps(torch.autograd.Function):
    """What TRL's fused head does, for CPUs: in the dtype given, chunks that fit the cache."""

    @staticmethod
    def forward(ctx, hidden, weight, labels, softcap):
        logps, normalizers = [], []
        for h, y in zip(hidden.split(CHUNK), labels.split(CHUNK), strict=True):
            logits = _logits(h, weight, softcap)
            normalizers.append(logits.logsumexp(-1))
            logps.append(logits.gather(-1, y[:, None])[:, 0] - normalizers[-1])
        ctx.save_for_backward(hidden, weight, labels, torch.cat(normalizers))
        ctx.softcap = softcap
        return torch.cat(logps)

    @staticmethod
    def backward(ctx, grad):
        # d log p_y / d logits = onehot(y) - p; times 1 - (logits / s)^2 under a soft cap.
        hidden, weight, labels, normalizers = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden, dtype=grad.dtype)
        grad_weight = torch.zeros_like(weight, dtype=grad.dtype)
        wide = weight.to(grad.dtype)
        chunks = (x.split(CHUNK) for x in (hidden, labels, normalizers, grad, grad_hidden))
        for h, y, z, g, out in zip(*chunks, strict=True):
            logits = _logits(h, weight, ctx.softcap)
            slope = 1 - (logits / ctx.softcap).square() if ctx.softcap else None
            p = logits.sub_(z[:, None]).exp_().mul_(-g[:, None])
            p.scatter_add_(1, y[:, None], g[:, None])
            if slope is not None:
                p.mul_(slope)
            torch.mm(p, wide, out=out)
            grad_weight.addmm_(p.T, h.to(p.dtype))
        return grad_hidden.to(hidden.dtype), grad_weight.to(weight.dtype), None, None


def _logits(hidden: Tensor, weight: Tensor, softcap: float | None) -> Tensor:
    logits = hidden @ weight.T
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if softcap is None else logits.div_(softcap).tanh_().mul_(softcap)
