"""nl4: what it weighs, how near it comes, scales of either sign, and what the inputs' second moments are good for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import StudentT

from engine.model.weights.fitted import Table, quantize_fitted
from engine.model.weights.rounding import quantize_tensor


def gaussian(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def heavy_tailed(*shape: int) -> Tensor:
    torch.manual_seed(1)
    return StudentT(4.0).sample(shape)


def power(error: Tensor, moments: Tensor | None = None) -> float:
    """Mean square of an error, or of its products with inputs of these moments."""
    return float((error @ moments * error if moments is not None else error.square()).mean())


def correlated(columns: int, directions: int) -> Tensor:
    """Second moments of inputs that share directions."""
    inputs = gaussian(4 * columns, directions) @ gaussian(directions, columns) + 0.3 * gaussian(4 * columns, columns)
    return inputs.T @ inputs / len(inputs)


@pytest.mark.parametrize("shape", [(64, 64), (7, 70), (3, 16, 96), (1, 4096)])
def test_all_told_it_is_at_most_four_and_a_half_bits(shape: tuple[int, ...]) -> None:
    quantized = quantize_tensor(gaussian(*shape), "nl4")
    assert quantized.nbytes == sum(part.nbytes for part in quantized.parts().values())
    assert 8 * quantized.nbytes / (quantized.scale.numel() * 16) == 4.5
    if shape[-1] % 16 == 0:
        assert quantized.bits_per_weight == 4.5


@pytest.mark.parametrize(("weight", "share"), [(gaussian(256, 512), 0.6), (heavy_tailed(256, 512), 0.5)])
def test_its_error_is_a_share_of_nf4s(weight: Tensor, share: float) -> None:
    errors = {name: power(quantize_tensor(weight, name).dequantize() - weight) for name in ("nf4", "nl4")}
    assert errors["nl4"] < share * errors["nf4"]


def test_the_table_is_the_weights_own() -> None:
    """Evenly spread elements have an evenly spaced table, Gaussian ones a table that is dense about zero."""
    even = torch.rand((64, 512), generator=torch.Generator().manual_seed(1)) - 0.5
    tables = [quantize_fitted(weight).codebook for weight in (even, gaussian(64, 512))]
    for table in tables:
        assert torch.equal(table, table.sort().values)
    unevenness = [float((gaps := table.diff()).std() / gaps.mean()) for table in tables]
    assert unevenness[0] < 0.7 * unevenness[1]


def test_no_scale_of_all_256_serves_a_group_much_better_than_the_one_that_is_found() -> None:
    table = Table(uneven())
    blocks = gaussian(40, 1, 16) * 20
    codes = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    everything = torch.cat([codes, -codes])
    found = table.best_scales(blocks, None)

    def error(scales: Tensor) -> Tensor:
        return (table.decoded(table.ranks(blocks, scales), scales) - blocks).square().sum((-1, -2))

    best = torch.stack([error(scale.expand(40, 1)) for scale in everything]).min(0).values
    assert float(error(found).sum()) <= 1.03 * float(best.sum())


def uneven() -> Tensor:
    """A fitted table."""
    table = quantize_fitted(gaussian(64, 512)).codebook
    return table / table.abs().max()


def test_scales_of_either_sign_are_used() -> None:
    scale = quantize_fitted(gaussian(64, 512)).scale.float()
    assert 0.2 < float((scale < 0).float().mean()) < 0.8


@pytest.mark.parametrize("size", [1e-40, 1e-20, 1.0, 1e20, 1e37])
def test_any_size_is_held_alike(size: float) -> None:
    weight = gaussian(32, 128) * size
    values = quantize_tensor(weight, "nl4").dequantize()
    assert torch.isfinite(values).all()
    if size > 1e-38:
        assert power((values - weight) / size) < 0.01


def test_zeros_stay_zeros() -> None:
    weight = gaussian(4, 128)
    weight[1], weight[2, :16] = 0, 0
    values = quantize_tensor(weight, "nl4").dequantize()
    assert not values[1].any()
    assert not values[2, :16].any()
    assert not quantize_tensor(torch.zeros(3, 64), "nl4").dequantize().any()


@pytest.mark.parametrize("value", [-3.0, 0.125])
def test_a_constant_weight_is_held(value: float) -> None:
    assert torch.allclose(
        quantize_tensor(torch.full((8, 64), value), "nl4").dequantize(), torch.tensor(value), rtol=1e-2
    )


def test_moments_halve_the_products_error_though_not_the_weights() -> None:
    weight, moments = gaussian(128, 256), correlated(256, 128)
    plain, fed = (quantize_fitted(weight, known).dequantize() - weight for known in (None, moments))
    assert power(fed, moments) < 0.5 * power(plain, moments)
    assert power(fed) > power(plain)


@pytest.mark.parametrize("directions", [1, 8, 64])
def test_inputs_of_few_directions_never_make_it_worse(directions: int) -> None:
    weight = gaussian(32, 256)
    inputs = gaussian(400, directions) @ gaussian(directions, 256)
    moments = inputs.T @ inputs / len(inputs)
    plain, fed = (quantize_fitted(weight, known).dequantize() - weight for known in (None, moments))
    assert power(fed, moments) < power(plain, moments)


def test_moments_that_say_nothing_change_little() -> None:
    weight = gaussian(64, 256)
    plain, fed = (quantize_fitted(weight, known).dequantize() - weight for known in (None, torch.eye(256)))
    assert power(fed) == pytest.approx(power(plain), rel=0.05)


def test_columns_that_inputs_weigh_more_are_held_closer() -> None:
    weight, sizes = gaussian(64, 256), torch.ones(256)
    sizes[::8] = 100.0
    error = (quantize_fitted(weight, torch.diag(sizes)).dequantize() - weight).square().mean(0)
    assert float(error[::8].mean()) < 0.5 * float(error[1::8].mean())


def test_every_expert_has_its_own_moments() -> None:
    weight, sizes = gaussian(2, 64, 96), torch.ones(2, 96)
    sizes[0, :48], sizes[1, 48:] = 1000.0, 1000.0
    moments = torch.diag_embed(sizes[:, torch.randperm(96, generator=torch.Generator().manual_seed(2))])
    fed = quantize_fitted(weight, moments)
    swapped = quantize_fitted(weight, moments.flip(0))
    for expert in range(2):
        ours, theirs = (one[expert].dequantize() - weight[expert] for one in (fed, swapped))
        assert power(ours, moments[expert]) < power(theirs, moments[expert])


def test_bf16_is_taken_as_it_is() -> None:
    weight = gaussian(32, 64).bfloat16()
    assert torch.equal(quantize_fitted(weight).dequantize(), quantize_fitted(weight.float()).dequantize())
