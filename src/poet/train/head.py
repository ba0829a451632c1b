"""Log-probabilities of given tokens from hidden states, in bounded memory.

The logits of a chunk of positions live only while that chunk is worked on, and the backward pass
makes them again; if there is but one chunk, it is kept. Memory does not grow with the length.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 2**24  # logits: 64 MiB in float32, 2,048 positions with a vocabulary of 8,192


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
    """What TRL's fused head does, for CPUs: in the dtype given, and nothing twice if it fits."""

    @staticmethod
    def forward(ctx, hidden, weight, labels, softcap):
        ctx.size, ctx.softcap, ctx.kept = max(1, CHUNK // len(weight)), softcap, None
        logps, normalizers = [], []
        for h, y in zip(hidden.split(ctx.size), labels.split(ctx.size), strict=True):
            logits = _logits(h, weight, softcap)
            found, top = logits.gather(-1, y[:, None]), logits.amax(-1, keepdim=True)
            exponentials = logits.sub_(top).exp_()
            total = exponentials.sum(-1, keepdim=True)
            normalizers.append(total.log() + top)
            logps.append(found - normalizers[-1])
        if len(logps) == 1 and softcap is None:
            ctx.kept = exponentials, total
        ctx.save_for_backward(hidden, weight, labels, torch.cat(normalizers))
        return torch.cat(logps)[:, 0]

    @staticmethod
    def backward(ctx, grad):
        # d log p_y / d logits = onehot(y) - p; times 1 - (logits / s)^2 under a soft cap.
        hidden, weight, labels, normalizers = ctx.saved_tensors
        kept, ctx.kept = ctx.kept, None  # overwritten here, so a second backward has none
        grad_hidden = torch.empty_like(hidden, dtype=grad.dtype)
        grad_weight = torch.zeros_like(weight, dtype=grad.dtype)
        chunks = (hidden, labels[:, None], normalizers, grad[:, None], grad_hidden)
        for h, y, z, g, out in zip(*(x.split(ctx.size) for x in chunks), strict=True):
            slope = None
            if kept:
                p, total = kept
                p.mul_(-g / total)
            else:
                logits = _logits(h, weight, ctx.softcap)
                if ctx.softcap:
                    slope = 1 - (logits / ctx.softcap).square()
                p = logits.sub_(z).exp_().mul_(-g)
            p.scatter_add_(1, y, g)
            if slope is not None:
                p.mul_(slope)
            p = p.to(weight.dtype)  # products in the weights' dtype, as torch's own head makes them
            out.copy_(p @ weight)
            grad_weight += p.T @ h
        return grad_hidden.to(hidden.dtype), grad_weight.to(weight.dtype), None, None


def _logits(hidden: Tensor, weight: Tensor, softcap: float | None) -> Tensor:
    logits = hidden @ weight.T
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if softcap is None else logits.div_(softcap).tanh_().mul_(softcap)
