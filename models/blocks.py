"""The parts of the model, each option a closed registry.

Letters: B batch, T context, D width, H heads, K = D/H, F MLP hidden. No forward pass branches on a tensor's value or
works in place, so that `torch.func.vmap` can lift a whole model.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conf.schema import ModelConfig
from models.roles import Axis, Role, Weight

NORM_EPS = 1e-6

Tap = Callable[[str, int, Tensor], None]
"""`tap(name, layer, tensor)` is shown what the forward pass computes, and may not change it."""

Show = Callable[[str, Tensor], None]
"""`show(name, tensor)`: a tap at one place in the depth. A block does not know its place: it may have several."""

MakeLinear = Callable[[str, Axis, Axis, Role], nn.Module]
"""`linear(name, inputs, outputs, role)` makes one of a block's linear maps, `query` to `down`."""


def stream(cfg: ModelConfig) -> Axis:
    """The residual stream's channels (D)."""
    return Axis("residual", cfg.width)


# --- matrices and tables ---------------------------------------------------------------------------------


class Linear(nn.Module):
    """y = x Wᵀ. `models.build` draws the weights."""

    def __init__(self, inputs: Axis, outputs: Axis, role: Role) -> None:
        super().__init__()
        self.declared = {"weight": Weight(role, (outputs.name, inputs.name), summed=1)}
        self.weight = nn.Parameter(torch.empty(outputs.size, inputs.size))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class SigmaReparam(nn.Module):
    """W -> gamma W / sigma(W), with sigma the largest singular value (Zhai et al. 2023, arXiv 2303.06296).

    sigma = uᵀ W v, with u and v from the power iteration, one step (`iterate`) before each update and not, as in the
    authors' code, in each forward pass: how a batch is split must not change what is trained. The gradient passes
    through sigma and not through u and v. gamma begins at sigma(W), as in their code, and not at 1, as in the paper:
    the function at init is that of the plain matrix. The singular vectors are part of a checkpoint.
    """

    u: Tensor
    v: Tensor

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.declared = {"gamma": Weight(Role.MATRIX_GAIN, ())}
        self.gamma = nn.Parameter(torch.empty(()))
        self.register_buffer("u", torch.empty(fan_out))
        self.register_buffer("v", torch.empty(fan_in))

    @torch.no_grad()
    def measure(self, weight: Tensor) -> None:
        """Set u, v and gamma to the largest singular value and its vectors."""
        left, sigmas, right = torch.linalg.svd(weight, full_matrices=False)
        self.u.copy_(left[:, 0])
        self.v.copy_(right[0])
        self.gamma.copy_(sigmas[0])

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):  # a ratio of norms in bf16 would be noise
            sigma = self.u.dot(weight.mv(self.v))
            return weight * (self.gamma / sigma)

    @torch.no_grad()
    def iterate(self, weight: Tensor) -> None:
        """Let u and v follow the weight; not between a forward pass and its backward pass."""
        self.u.copy_(F.normalize(weight.mv(self.v), dim=0))
        self.v.copy_(F.normalize(weight.mT.mv(self.u), dim=0))


class SigmaLinear(Linear):
    """A `Linear` whose largest singular value is learned apart from its direction."""

    def __init__(self, inputs: Axis, outputs: Axis, role: Role) -> None:
        super().__init__(inputs, outputs, role)
        self.sigma = SigmaReparam(inputs.size, outputs.size)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.sigma(self.weight))


class Table(nn.Module):
    """Rows looked up by index. `models.build` draws them."""

    def __init__(self, rows: Axis, width: Axis, role: Role) -> None:
        super().__init__()
        self.declared = {"weight": Weight(role, (rows.name, width.name))}
        self.weight = nn.Parameter(torch.empty(rows.size, width.size))

    def forward(self, index: Tensor) -> Tensor:
        return F.embedding(index, self.weight)


# --- normalisation ---------------------------------------------------------------------------------------


def rms_norm(x: Tensor, gain: Tensor) -> Tensor:
    """x / sqrt(mean x²) times a gain, over the last dimension (Zhang and Sennrich 2019, eq. 4)."""
    return F.rms_norm(x, (x.shape[-1],), gain.to(x.dtype), NORM_EPS)


def layer_norm(x: Tensor, gain: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the last dimension, times a gain, no bias (Ba et al. 2016, eq. 4)."""
    return F.layer_norm(x, (x.shape[-1],), gain.to(x.dtype), None, NORM_EPS)


NORMS = {"rmsnorm": rms_norm, "layernorm": layer_norm}


class Norm(nn.Module):
    """A norm with a learned gain, and a fixed scale on its output (Sun et al. 2025, LayerNorm scaling).

    Args:
        over: what is normalised.
        summed: whether what reads the output sums over it by no weights of its own, so that the gain has to be shared
            out where channels are copied (`models.growth.width`).
    """

    def __init__(self, kind: str, over: Axis, role: Role, *, scale: float = 1.0, summed: bool = False) -> None:
        super().__init__()
        self.declared = {"gain": Weight(role, (over.name,), summed=0 if summed else None)}
        self.normalise = NORMS[kind]
        self.scale = scale
        self.gain = nn.Parameter(torch.empty(over.size))

    def forward(self, x: Tensor) -> Tensor:
        return self.normalise(x, self.gain if self.scale == 1 else self.gain * self.scale)


def fix_rms(x: Tensor, kappa: float) -> Tensor:
    """sqrt(kappa) x / sqrt(mean x²) over the last dimension (Wortsman et al. 2023, section 3.4).

    Of two such vectors of dimension d, the product over d is kappa times their cosine.
    """
    return sqrt(kappa) * F.rms_norm(x, (x.shape[-1],), None, NORM_EPS)


# --- positions -------------------------------------------------------------------------------------------


def rope_tables(context: int, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin of position times frequency, each of shape (T, K/2) (Su et al. 2021, eq. 15)."""
    frequency = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = torch.outer(torch.arange(context, dtype=torch.float64), frequency)
    return angle.cos().float(), angle.sin().float()


def rotate(x_BHTK: Tensor, cos_TK2: Tensor, sin_TK2: Tensor) -> Tensor:
    """Turn the pairs (x_i, x_{i+K/2}) of every position by its angles."""
    first, second = x_BHTK.chunk(2, dim=-1)
    return torch.cat((first * cos_TK2 - second * sin_TK2, second * cos_TK2 + first * sin_TK2), dim=-1)


# --- attention -------------------------------------------------------------------------------------------

ATTENTION_SCALES: dict[str, Callable[[int], float]] = {
    "1/sqrt(d)": lambda d: 1 / sqrt(d),  # Vaswani et al. 2017, eq. 1
    "1/d": lambda d: 1 / d,  # Yang et al. 2022, definition 4.1
}


def soft_cap(logits: Tensor, cap: float) -> Tensor:
    """c tanh(z / c), which is z near 0 and never beyond ±c (Gemma Team 2024, arXiv 2408.00118, section 2)."""
    return cap * torch.tanh(logits / cap)


class Attention(nn.Module):
    """Causal multi-head self-attention, with queries and keys normalised on request, before RoPE.

    `qk_norm=head` normalises over each head with one gain for all heads, `model` over the whole width
    (Wortsman et al. 2023, section 3.1.1; Dehghani et al. 2023); `qkv` is `head` for the values too (Rybakov et al.
    2024, arXiv 2410.16682). `qk_rms` fixes the RMS of each head's queries and keys without a gain.
    """

    def __init__(self, cfg: ModelConfig, linear: MakeLinear) -> None:
        super().__init__()
        residual, head = stream(cfg), Axis("head", cfg.head_dim)
        query, key, value = (Axis(name, cfg.width) for name in ("query", "key", "value"))
        self.heads = cfg.heads
        self.qk_norm = cfg.qk_norm
        self.kappa = cfg.qk_rms
        self.cap = cfg.attention_softcap
        self.rope = cfg.position == "rope"
        self.scale = ATTENTION_SCALES[cfg.attention_scale](cfg.head_dim)
        normalised = cfg.qk_norm != "none" or cfg.qk_rms is not None or cfg.sigma_reparam
        self.query = linear("query", residual, query, Role.HIDDEN if normalised else Role.QUERY)
        self.key = linear("key", residual, key, Role.HIDDEN)
        self.value = linear("value", residual, value, Role.HIDDEN)
        self.out = linear("out", value, residual, Role.RESIDUAL)
        if cfg.qk_norm != "none":
            whole = cfg.qk_norm == "model"
            self.query_norm = Norm(cfg.norm, query if whole else head, Role.BLOCK_NORM)
            self.key_norm = Norm(cfg.norm, key if whole else head, Role.BLOCK_NORM)
        if cfg.qk_norm == "qkv":
            self.value_norm = Norm(cfg.norm, head, Role.BLOCK_NORM)

    def forward(self, x_BTD: Tensor, cos_TK2: Tensor, sin_TK2: Tensor, show: Show | None = None) -> Tensor:
        q_BTD, k_BTD, v_BTD = self.query(x_BTD), self.key(x_BTD), self.value(x_BTD)
        if self.qk_norm == "model":
            q_BTD, k_BTD = self.query_norm(q_BTD), self.key_norm(k_BTD)
        q_BHTK, k_BHTK, v_BHTK = (self._split(y_BTD) for y_BTD in (q_BTD, k_BTD, v_BTD))
        if self.qk_norm in {"head", "qkv"}:
            q_BHTK, k_BHTK = self.query_norm(q_BHTK), self.key_norm(k_BHTK)
        if self.qk_norm == "qkv":
            v_BHTK = self.value_norm(v_BHTK)
        if self.kappa is not None:
            q_BHTK, k_BHTK = fix_rms(q_BHTK, self.kappa), fix_rms(k_BHTK, self.kappa)
        if self.rope:
            q_BHTK, k_BHTK = rotate(q_BHTK, cos_TK2, sin_TK2), rotate(k_BHTK, cos_TK2, sin_TK2)
        if show is not None:
            show("query", q_BHTK)
            show("key", k_BHTK)
            show("attention_logits", self._logits(q_BHTK, k_BHTK))
        return self.out(self._attend(q_BHTK, k_BHTK, v_BHTK).transpose(-3, -2).flatten(-2))

    def _split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def _attend(self, q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor) -> Tensor:
        if self.cap is None:
            return F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, is_causal=True, scale=self.scale)
        # No fused kernel caps its logits.
        return self._logits(q_BHTK, k_BHTK).softmax(-1).to(v_BHTK.dtype) @ v_BHTK

    def _logits(self, q_BHTK: Tensor, k_BHTK: Tensor) -> Tensor:
        """What enters the softmax, in fp32: (B, H, T, T), minus infinity above the diagonal."""
        with torch.autocast(q_BHTK.device.type, enabled=False):  # which would round them to bf16 again
            logits_BHTT = self.scale * q_BHTK.float() @ k_BHTK.float().transpose(-2, -1)
        if self.cap is not None:
            logits_BHTT = soft_cap(logits_BHTT, self.cap)
        future_TT = torch.ones(logits_BHTT.shape[-2:], dtype=torch.bool, device=logits_BHTT.device).triu(1)
        return logits_BHTT.masked_fill(future_TT, -torch.inf)


# --- MLP -------------------------------------------------------------------------------------------------


class MLP(nn.Module):
    """D -> F -> D with a pointwise nonlinearity."""

    def __init__(self, cfg: ModelConfig, linear: MakeLinear, activate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        residual, hidden = stream(cfg), Axis("hidden", cfg.hidden)
        self.activate = activate
        self.up = linear("up", residual, hidden, Role.HIDDEN)
        self.down = linear("down", hidden, residual, Role.RESIDUAL)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down(self.activate(self.up(x_BTD)))


class GatedMLP(nn.Module):
    """SwiGLU: silu(x W_gate) times x W_up (Shazeer 2020, eq. 6)."""

    def __init__(self, cfg: ModelConfig, linear: MakeLinear) -> None:
        super().__init__()
        residual, hidden = stream(cfg), Axis("hidden", cfg.hidden)
        self.gate = linear("gate", residual, hidden, Role.HIDDEN)
        self.up = linear("up", residual, hidden, Role.HIDDEN)
        self.down = linear("down", hidden, residual, Role.RESIDUAL)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x_BTD)) * self.up(x_BTD))


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)² (So et al. 2021, "Primer")."""
    return F.relu(x).square()


MLPS: dict[str, Callable[[ModelConfig, MakeLinear], nn.Module]] = {
    "gelu": lambda cfg, linear: MLP(cfg, linear, F.gelu),  # Hendrycks and Gimpel 2016, exact form
    "relu2": lambda cfg, linear: MLP(cfg, linear, relu_squared),
    "swiglu": GatedMLP,
}


# --- residual sublayers ----------------------------------------------------------------------------------

PLACEMENTS: dict[str, frozenset[str]] = {
    "pre": frozenset({"input"}),  # x + f(norm x): Xiong et al. 2020
    "post": frozenset({"sum"}),  # norm(x + f(x)): Vaswani et al. 2017; the final norm stays (Li et al. 2024)
    "peri": frozenset({"input", "branch"}),  # x + norm f(norm x): Kim et al. 2025
}


class Sublayer(nn.Module):
    """x + r f(x) with norms on the branch's input, the branch, or the sum; r is the residual multiplier."""

    def __init__(
        self, branch: nn.Module, cfg: ModelConfig, layer: int, places: frozenset[str], multiplier: float
    ) -> None:
        super().__init__()
        self.branch = branch
        self.multiplier = multiplier
        # LayerNorm scaling counts blocks from 1 and leaves the final norm alone (Sun et al. 2025, eq. 5).
        scale = 1 / sqrt(layer + 1) if cfg.layernorm_scaling else 1.0

        def norm_at(place: str) -> nn.Module:
            return Norm(cfg.norm, stream(cfg), Role.BLOCK_NORM, scale=scale) if place in places else nn.Identity()

        self.norm_input = norm_at("input")
        self.norm_branch = norm_at("branch")
        self.norm_sum = norm_at("sum")

    def forward(self, x_BTD: Tensor, *context: object) -> tuple[Tensor, Tensor]:
        """The stream after the sublayer, and the branch's output before the multiplier."""
        branch_BTD = self.norm_branch(self.branch(self.norm_input(x_BTD), *context))
        return self.norm_sum(x_BTD + self.multiplier * branch_BTD), branch_BTD
