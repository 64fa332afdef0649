"""The rules against their defining properties, on numbers; then the coordinate check, on tensors."""

from __future__ import annotations

import dataclasses
from math import sqrt

import pytest
from torch import Tensor, nn
from torch.nn import functional as F

from conf.compose import compose
from conf.config import Config, resolve
from conf.schema import ParamConfig
from models.build import build, parameter_rules
from models.parametrize import Shape, logit_multiplier, residual_multiplier, rule
from models.roles import Role, named_roles
from tests.helpers import gpt, log_slope, tokens
from train.optim import build_optimizer

MUP = ParamConfig(name="mup", base_width=32)
STANDARD = ParamConfig(base_width=32)
COMPLETEP = ParamConfig(name="completep", base_width=32, base_depth=2)


def at_width(width: int, role: Role, param: ParamConfig, depth: int = 4) -> object:
    return rule(role, width, param, Shape(width, depth))


@pytest.mark.parametrize("role", [Role.HIDDEN, Role.RESIDUAL, Role.READOUT, Role.EMBEDDING, Role.BLOCK_NORM])
def test_mup_equals_standard_at_base_width(role: Role) -> None:
    assert at_width(32, role, MUP) == at_width(32, role, STANDARD)
    if role not in {Role.BLOCK_NORM}:
        assert at_width(64, role, MUP) != at_width(64, role, STANDARD)


@pytest.mark.parametrize("role", [Role.HIDDEN, Role.QUERY, Role.RESIDUAL])
def test_mup_matrix_rules(role: Role) -> None:
    """One Adam step moves each entry by lr, so outputs move by lr x fan_in: that product must not grow."""
    narrow, wide = at_width(32, role, MUP), at_width(512, role, MUP)
    assert wide.lr_scale * 512 == pytest.approx(narrow.lr_scale * 32)
    if role is not Role.QUERY:
        assert wide.std * sqrt(512) == pytest.approx(narrow.std * sqrt(32))
    assert wide.lr_scale * wide.decay_scale == pytest.approx(1)
    assert at_width(512, role, STANDARD).lr_scale == 1


def test_mup_readout_shrinks_faster_than_a_matrix() -> None:
    narrow, wide = at_width(32, Role.READOUT, MUP), at_width(512, Role.READOUT, MUP)
    assert wide.std * 512 == pytest.approx(narrow.std * 32)
    assert at_width(512, Role.EMBEDDING, MUP).lr_scale == 1
    assert at_width(512, Role.EMBEDDING, MUP).std == at_width(32, Role.EMBEDDING, MUP).std


def test_mup_variants_add_one_rule_each() -> None:
    """Wortsman et al. 2023, section 3.2.3."""
    simple, intermediate, full = (dataclasses.replace(MUP, variant=v) for v in ("simple", "intermediate", "full"))
    assert all(at_width(128, Role.HIDDEN, p).lr_scale == 0.25 for p in (simple, intermediate, full))
    assert at_width(128, Role.READOUT, simple).std == pytest.approx(0.1 / sqrt(128))
    assert at_width(128, Role.READOUT, intermediate).std == pytest.approx(0.1 * sqrt(32) / 128)
    assert at_width(128, Role.QUERY, intermediate).std > 0
    assert at_width(128, Role.QUERY, full).std == 0
    scales = {
        v: resolve(compose(["param=mup", f"param.variant={v}"]), cuda=False).model.attention_scale
        for v in ("simple", "intermediate", "full")
    }
    assert scales == {"simple": "1/sqrt(d)", "intermediate": "1/sqrt(d)", "full": "1/d"}


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_depth_rules(alpha: float) -> None:
    """Dey et al. 2025: multiplier m_L^-alpha, block rates m_L^(alpha-1): L branches of lr x multiplier move O(1)."""
    param = dataclasses.replace(COMPLETEP, depth_alpha=alpha)
    shallow, deep = Shape(32, 2), Shape(32, 32)
    for role in (Role.HIDDEN, Role.BLOCK_NORM):
        moved = [
            shape.depth * residual_multiplier(param, shape) * rule(role, 32, param, shape).lr_scale
            for shape in (shallow, deep)
        ]
        assert moved[0] == pytest.approx(moved[1])
    wide = Shape(128, 32)
    assert rule(Role.HIDDEN, 128, param, wide).eps_scale == pytest.approx(16**-alpha / 4)
    assert rule(Role.BLOCK_NORM, 1, param, wide).eps_scale == pytest.approx(16**-alpha / 4)
    assert rule(Role.READOUT, 32, param, deep) == rule(Role.READOUT, 32, param, shallow)
    assert rule(Role.EDGE_NORM, 1, param, deep) == rule(Role.EDGE_NORM, 1, param, shallow)
    assert residual_multiplier(MUP, deep) == 1


@pytest.mark.parametrize("variant", ["simple", "intermediate", "full"])
def test_a_tied_readout_moves_as_little_when_wide(variant: str) -> None:
    """Under muP the logits change after two steps by an amount that does not grow with width; it does without."""

    def change(*overrides: str) -> float:
        def moved(width: int) -> float:
            config = resolve(
                compose(
                    [
                        f"model.width={width}", f"model.heads={width // 16}", "model.depth=2", "optim.lr=1e-2",
                        "model.tie_embeddings=true", "param.base_width=32", *overrides,
                    ]
                ),
                cuda=False,
            )  # fmt: skip
            model = build(config.model, config.param, vocab_size=64, context=32, seed=0)
            optimizer = build_optimizer(model, parameter_rules(model, config.param), config.optim)
            x_BT = tokens(8, 33, 64)
            before = model(x_BT[:, :-1]).detach()
            for _ in range(2):
                loss = F.cross_entropy(model(x_BT[:, :-1]).flatten(0, 1), x_BT[:, 1:].flatten())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            return (model(x_BT[:, :-1]) - before).abs().mean().item()

        return log_slope((32, 64, 128, 256), [moved(width) for width in (32, 64, 128, 256)])

    assert change("param=mup", f"param.variant={variant}") < 0.25
    assert change("param=standard") > 0.5


def test_scaled_residual_init_touches_residual_outputs_only() -> None:
    scaled = dataclasses.replace(STANDARD, scaled_residual_init=True)
    assert at_width(64, Role.RESIDUAL, scaled, depth=8).std == pytest.approx(1 / 8 / 4)
    assert at_width(64, Role.HIDDEN, scaled, depth=8) == at_width(64, Role.HIDDEN, STANDARD, depth=8)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["param=mup"],
        ["param.init=constant"],
        ["param=completep"],
        ["model.param_tokens=200"],
        ["model.param_tokens=200", "param=mup"],
        ["model.param_tokens=200", "param.scaled_residual_init=true"],
    ],
)
def test_drawn_weights_have_the_std_of_their_rule(overrides: list[str]) -> None:
    config = resolve(compose(["model.depth=2", "model.width=128", "model.heads=4", *overrides]), cuda=False)
    model = build(config.model, config.param, vocab_size=300, context=16, seed=0)
    rules = parameter_rules(model, config.param)
    for name, parameter, role in named_roles(model):
        if rules[name].std is None:
            assert (parameter == 1).all(), name
        else:
            assert parameter.std().item() == pytest.approx(rules[name].std, rel=0.05, abs=1e-12), (name, role)


def test_a_parameter_without_a_role_is_an_error() -> None:
    model = gpt()
    assert len(list(named_roles(model))) == len(list(model.parameters()))
    model.extra = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"extra\.weight: a parameter without a role"):
        list(named_roles(model))


# --- rules switched off ----------------------------------------------------------------------------------

BLOCK_MATRICES = {Role.HIDDEN, Role.QUERY, Role.RESIDUAL}


def _decided(param: ParamConfig, width: int, depth: int) -> dict[tuple[str, str], object]:
    """All that a parametrisation decides, by what it is about."""
    shape = Shape(width, depth)
    decided: dict[tuple[str, str], object] = {}
    for role in Role:
        for field, value in dataclasses.asdict(rule(role, width, param, shape)).items():
            decided[role, field] = value
    decided["residual", "multiplier"] = residual_multiplier(param, shape)
    decided["logits", "multiplier"] = logit_multiplier(param, shape, tied=True)
    config = Config(param=param)
    decided["attention", "scale"] = resolve(config, cuda=False).model.attention_scale
    return decided


# What is different at four times the base width and depth, and what it then is.
WITHOUT = {
    ("mup", "hidden_init"): {(role, "std"): 1 / sqrt(32) for role in BLOCK_MATRICES - {Role.QUERY}},
    ("mup", "hidden_lr"): {(role, field): 1 for role in BLOCK_MATRICES for field in ("lr_scale", "decay_scale")},
    ("mup", "readout_init"): {(Role.READOUT, "std"): 0.1 / sqrt(128)},
    ("mup", "readout_lr"): {(Role.READOUT, field): 1 for field in ("lr_scale", "decay_scale")},
    ("mup", "embedding_std"): {(Role.EMBEDDING, "std"): 1 / sqrt(128), (Role.TIED_EMBEDDING, "std"): 0.1 / sqrt(128)},
    ("mup", "query_init"): {(Role.QUERY, "std"): 1 / sqrt(128)},
    ("mup", "attention_scale"): {("attention", "scale"): "1/sqrt(d)"},
    ("completep", "hidden_init"): {(role, "std"): 1 / sqrt(32) for role in BLOCK_MATRICES},
    ("completep", "hidden_lr"): {
        (role, field): 4 ** (-0.5) if field == "lr_scale" else 1  # the rule for depth stays
        for role in BLOCK_MATRICES
        for field in ("lr_scale", "decay_scale")
    },
    ("completep", "residual_multiplier"): {("residual", "multiplier"): 1},
}


@pytest.mark.parametrize(("name", "without"), WITHOUT)
def test_without_a_rule_that_rule_alone_is_off(name: str, without: str) -> None:
    whole = {"mup": MUP, "completep": dataclasses.replace(COMPLETEP, depth_alpha=0.5)}[name]
    part = dataclasses.replace(whole, without=without)
    all_rules, others = _decided(whole, 128, 8), _decided(part, 128, 8)
    changed = {what: value for what, value in others.items() if value != all_rules[what]}
    assert changed == pytest.approx(WITHOUT[name, without])
    if without not in {"query_init", "attention_scale"}:  # which are not about width or depth
        assert _decided(part, 32, 2) == _decided(whole, 32, 2)


def test_every_rule_that_can_be_switched_off_is_tested() -> None:
    choices = set(ParamConfig.__dataclass_fields__["without"].metadata["choices"])
    assert {without for _, without in WITHOUT} == choices - {"none"}


def test_without_hidden_init_follows_a_constant_init() -> None:
    constant = dataclasses.replace(MUP, init="constant", without="hidden_init")
    assert at_width(512, Role.HIDDEN, constant).std == pytest.approx(0.02)
    assert at_width(512, Role.HIDDEN, dataclasses.replace(constant, without="none")).std == pytest.approx(0.005)


def test_queries_start_at_zero_only_where_nothing_divides_by_their_size() -> None:
    for option, zero in (
        ("model.norm=rmsnorm", True),
        ("model.qk_norm=qkv", False),
        ("model.qk_rms=2", False),
        ("model.sigma_reparam=true", False),
        ("param.without=query_init", False),
    ):
        query = gpt("param=mup", option).blocks[0].attention.branch.query.weight
        assert bool((query == 0).all()) is zero, option


# --- coordinate check ------------------------------------------------------------------------------------

WIDTHS = (32, 64, 128, 256)


def _coordinates(
    param: str, width: int, seed: int, steps: int = 4, option: str = "model.norm=rmsnorm"
) -> tuple[list[dict[str, float]], list[float]]:
    """Mean |x| of module outputs, and the loss, before each of a few Adam steps on fixed batches."""
    config = resolve(
        compose(
            [
                f"param={param}", "param.base_width=32", "model.depth=2", f"model.width={width}",
                f"model.heads={width // 16}", "optim.lr=1e-2", "optim.weight_decay=0", option.format(width=width),
            ]
        ),
        cuda=False,
    )  # fmt: skip
    model = build(config.model, config.param, vocab_size=64, context=32, seed=seed)
    optimizer = build_optimizer(model, parameter_rules(model, config.param), config.optim)
    table, losses = [], []
    # text with some structure: each token is followed by itself plus a small number
    walk_BT = (tokens(8, 1, 64) + tokens(8, 33, 4, seed=1).cumsum(1)) % 64
    for _ in range(steps + 1):
        row: dict[str, float] = {}
        hooks = [
            module.register_forward_hook(
                lambda _m, _i, out, name=name, row=row: row.__setitem__(name, out.detach().abs().mean().item())
            )
            for name, module in model.named_modules()
            if name.endswith(("attention.branch", "mlp.branch"))
        ]

        def tap(name: str, _: int, x: Tensor, row: dict[str, float] = row) -> None:
            if name == "logits":
                row["logits"] = x.detach().abs().mean().item()

        loss = F.cross_entropy(model(walk_BT[:, :-1], tap).flatten(0, 1), walk_BT[:, 1:].flatten())
        for hook in hooks:
            hook.remove()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        table.append(row)
        losses.append(loss.item())
    return table, losses


def _slopes(param: str, step: int, option: str = "model.norm=rmsnorm") -> tuple[dict[str, float], list[float]]:
    runs = {width: [_coordinates(param, width, seed, step, option) for seed in range(3)] for width in WIDTHS}
    names = runs[32][0][0][step]
    slopes = {
        name: log_slope(WIDTHS, [sum(table[step][name] for table, _ in runs[w]) / 3 for w in WIDTHS]) for name in names
    }
    return slopes, [sum(losses[step] for _, losses in runs[w]) / 3 for w in WIDTHS]


def test_coordinate_check() -> None:
    """Activation size against width is flat under muP and grows under the standard parametrisation.

    Bands from the published check: |slope| below 0.15 for hidden outputs under muP, above 0.4 for standard, at
    learning rate 1e-2 after two steps. Logits may fall under muP (they start as width^-1/2), but must not grow.
    """
    mup, mup_losses = _slopes("mup", step=2)
    standard, _ = _slopes("standard", step=2)
    hidden = [name for name in mup if name != "logits"]
    assert len(hidden) == 4
    for name in hidden:
        assert abs(mup[name]) < 0.15, (name, mup[name])
        assert standard[name] > 0.4, (name, standard[name])
    assert mup["logits"] < 0.15
    assert mup_losses == sorted(mup_losses, reverse=True), "wider is better"


@pytest.mark.slow
@pytest.mark.parametrize("option", ["model.param_tokens={width}", "model.templates=3"])
def test_coordinate_check_of_what_stands_in_for_matrices(option: str) -> None:
    """Flat under muP as matrices are, with as many parameter tokens as channels; under standard every branch grows."""
    mup, standard = (_slopes(param, step=2, option=option)[0] for param in ("mup", "standard"))
    for name in mup:
        assert abs(mup[name]) < 0.15, (name, mup[name])
        assert standard[name] > 0.2, (name, standard[name])


@pytest.mark.parametrize(("alpha", "grows"), [("1.0", False), ("0.0", True)])
def test_depth_check(alpha: str, grows: bool) -> None:
    """A few steps move the last block's output more and more with depth for alpha = 0, and not for alpha = 1.

    (Dey et al. 2025, figure 7.) At alpha = 1 the change even falls here, with slope -0.3: so few steps from the
    init, part of it still passes through random branches, whose sum falls as 1/sqrt(L).
    """
    depths = (2, 4, 8, 16)

    def moved(depth: int) -> float:
        config = resolve(
            compose(
                [
                    "param=completep", "param.base_depth=2", f"param.depth_alpha={alpha}", f"model.depth={depth}",
                    "model.width=32", "model.heads=2", "optim.lr=1e-3", "optim.weight_decay=0",
                ]
            ),
            cuda=False,
        )  # fmt: skip
        model = build(config.model, config.param, vocab_size=64, context=32, seed=0)
        optimizer = build_optimizer(model, parameter_rules(model, config.param), config.optim)
        x_BT = tokens(8, 33, 64)
        outputs: list[Tensor] = []

        def tap(name: str, layer: int, x: Tensor) -> None:
            if name == "block_output" and layer == depth - 1:
                outputs.append(x.detach())

        for _ in range(5):
            loss = F.cross_entropy(model(x_BT[:, :-1], tap).flatten(0, 1), x_BT[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return (outputs[-1] - outputs[0]).abs().mean().item()

    slope = log_slope(depths, [moved(depth) for depth in depths])
    assert (slope > 0.25) if grows else (slope < 0.1), slope
