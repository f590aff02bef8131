"""A linear start for the autoencoder: its chain of plain convolutions, trained first, then placed inside an
AutoencoderKL.

Trained whole from a random start on two cores, AutoencoderKL reached 20 dB on held-out drawings in 14
minutes; its chain of linear convolutions alone reaches 22.6 dB in 4. So the chain is trained first. Its codes
keep a natural spectrum (few strong channels, many weak ones; whitened codes are much harder for a UNet), its
encoder becomes the autoencoder's encoder exactly, and the decoder starts from it and is then trained with all
of its non-linear branches."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from fade.config import AutoencoderConfig, FitConfig
from fade.judges.image_set import augment, to_unit
from fade.judges.supervised_loop import Logs, Training, fit

_ANCHOR = 5000.0  # constant channels this much larger than any signal turn a group norm into a fixed scale
_FINE = 60.0  # the same at the decoder's end, where signals are pixels in -1..1


class Chain(nn.Module):
    """The convolutions on AutoencoderKL's main path, without norms, activations or residual branches."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        c, latent = config.channels, config.latent_channels
        steps = list(pairwise(c))
        self.enter = nn.Conv2d(3, c[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, a, 3, stride=2) for a, _ in steps)
        self.widen = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in steps)
        self.code = nn.Conv2d(c[-1], latent, 3, padding=1)
        self.uncode = nn.Conv2d(latent, c[-1], 3, padding=1)
        self.up = nn.ModuleList(nn.Conv2d(b, b, 3, padding=1) for _, b in reversed(steps))
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in reversed(steps))
        self.leave = nn.Conv2d(c[0], 3, 3, padding=1)

    def trunk(self, x: Tensor) -> Tensor:
        """(B, 3, 64, 64) -> the features before the last widening (B, c, 8, 8)."""
        h: Tensor = self.enter(x)
        for i, down in enumerate(self.down):
            h = down(F.pad(self.widen[i - 1](h) if i else h, (0, 1, 0, 1)))
        return h

    def encode(self, x: Tensor) -> Tensor:
        """(B, 3, 64, 64) -> codes (B, latent, 8, 8)."""
        return self.code(self.widen[-1](self.trunk(x)))  # type: ignore[no-any-return]

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, latent, 8, 8) -> (B, 3, 64, 64)."""
        h = self.uncode(z)
        for up, narrow in zip(self.up, self.narrow, strict=True):
            h = narrow(up(F.interpolate(h, scale_factor=2.0, mode="nearest")))
        return self.leave(h)  # type: ignore[no-any-return]


def train(
    pixels: Tensor, shares: Tensor, shape: AutoencoderConfig, config: FitConfig, training: Training
) -> Chain:
    """Train the chain on squared error, then turn its codes to the axes of their own spectrum."""
    torch.manual_seed(training.seed)
    chain = Chain(shape)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        pick = torch.multinomial(shares, config.batch_size, replacement=True, generator=generator)
        x = augment(to_unit(pixels[pick]), generator)
        square = F.mse_loss(chain.decode(chain.encode(x)), x)
        return square, {"psnr": float(10 * torch.log10(4 / square.detach()))}

    fit(chain, loss_at, config, training)
    generator = torch.Generator().manual_seed(training.seed)
    pick = torch.multinomial(shares, 1500, replacement=True, generator=generator)
    natural_spectrum(chain, to_unit(pixels[pick]))
    return chain


@torch.no_grad()
def natural_spectrum(chain: Chain, x: Tensor) -> None:
    """Change the codes' basis in place: a unit of code is a unit of pixels, axes uncorrelated on ``x`` and
    strongest first, zero mean."""
    latent = chain.code.out_channels
    probes = torch.zeros(latent + 1, latent, 8, 8)
    probes[torch.arange(latent), torch.arange(latent), 4, 4] = 1
    response = chain.decode(probes)
    gain = (response[:-1] - response[-1:]).flatten(1).double()
    values, vectors = torch.linalg.eigh(gain @ gain.T)
    into, back = vectors * values.sqrt() @ vectors.T, vectors / values.sqrt() @ vectors.T
    _change_basis(chain, into, back, torch.zeros(latent))
    encoded = torch.cat([chain.encode(part) for part in x.split(128)])
    codes = encoded.permute(0, 2, 3, 1).reshape(-1, latent).double()
    mean = codes.mean(0)
    _, axes = torch.linalg.eigh(torch.cov((codes - mean).T))
    axes = axes.flip(1)
    _change_basis(chain, axes.T, axes, mean.float())


def _change_basis(chain: Chain, into: Tensor, back: Tensor, mean: Tensor) -> None:
    """codes' = into (codes - mean); the decoder is changed to match."""
    code, uncode = chain.code, chain.uncode
    undone = F.conv2d(mean.view(1, -1, 1, 1).expand(1, -1, 3, 3), uncode.weight).flatten()
    assert code.bias is not None and uncode.bias is not None
    uncode.bias.add_(undone)
    uncode.weight.copy_(torch.einsum("ojhw,ji->oihw", uncode.weight.double(), back))
    code.weight.copy_(torch.einsum("ij,jkhw->ikhw", into, code.weight.double()))
    code.bias.copy_(into @ (code.bias.double() - mean.double()))


@torch.no_grad()
def place(chain: Chain, model: AutoencoderKL, x: Tensor) -> None:
    """Put the chain into ``model`` (residual branches at zero): its encoder exactly, its decoder up to the
    last 3x3 filter.

    Every block of AutoencoderKL ends in group norm and SiLU before its last convolution, which would scale
    each picture by its own contrast. Constant channels fix that scale, and a large bias keeps SiLU on its
    straight branch. x: pictures (B, 3, 64, 64) in -1..1 on which the signals' ranges are measured."""
    _place_encoder(chain, model, x)
    _place_decoder(chain, model)


def _copy(target: Any, source: Any) -> None:
    target.weight.copy_(source.weight)
    target.bias.copy_(source.bias)


def set_to_zero(layer: Any) -> None:
    """Its weight and its bias."""
    layer.weight.zero_()
    layer.bias.zero_()


def _identity(layer: Any) -> None:
    set_to_zero(layer)
    layer.weight.copy_(torch.eye(len(layer.weight))[:, :, None, None])


def _anchor(norm: Any, bias: Tensor, value: float) -> float:
    """Make the first two channels of each group +-value by the bias; returns the standard deviation."""
    size = len(bias) // norm.num_groups
    bias.zero_()
    bias[::size], bias[1::size] = value, -value
    return value * (2 / size) ** 0.5  # type: ignore[no-any-return]


def _place_encoder(chain: Chain, model: AutoencoderKL, x: Tensor) -> None:
    encoder = model.encoder
    _copy(encoder.conv_in, chain.enter)
    blocks = encoder.down_blocks
    for i, (down, widen) in enumerate(zip(chain.down, chain.widen, strict=True)):
        _copy(blocks[i].downsamplers[0].conv, down)
        _copy(blocks[i + 1].resnets[0].conv_shortcut, widen)
    # The last widening is folded into the code; the features that reach the end are those before it.
    last: Any = chain.widen[-1]  # Modules: a ModuleList does not say which
    code: Any = chain.code
    norm = encoder.conv_norm_out
    narrow, wide, latent = last.in_channels, last.out_channels, code.out_channels
    size = wide // norm.num_groups
    # The first two of each group are the anchors; the third is minus the sum of the others, so that a group's
    # mean is zero.
    free = [c for c in range(wide) if c % size >= 3]
    carry, helper = free[:narrow], free[narrow : narrow + latent]
    balance = {c: c // size * size + 2 for c in free}
    shortcut = blocks[-1].resnets[0].conv_shortcut
    set_to_zero(shortcut)
    shortcut.weight[carry, torch.arange(narrow), 0, 0] = 1
    for c in carry:
        shortcut.weight[balance[c]] -= shortcut.weight[c]
    final = encoder.mid_block.resnets[-1]
    norm.weight.fill_(_anchor(norm, final.conv2.bias, _ANCHOR))
    lift = 2 * float(chain.trunk(x).abs().max()) + 16  # SiLU is straight from about 16 on
    norm.bias.fill_(0)
    norm.bias[carry] = lift
    # taps[t] (latent, narrow): what the code does to the features; at a border some taps are missing, and
    # with them the lift and the widening's bias. A branch that convolves a constant shows which, and takes
    # the surplus away again.
    kernel = code.weight.double()
    taps = torch.einsum("ochw,cn->onhw", kernel, last.weight[:, :, 0, 0].double())
    surplus = lift * taps.sum(1) - torch.einsum("ochw,c->ohw", kernel, last.bias.double())  # (latent, 3, 3)
    scale = 10.0
    final.norm2.weight.zero_()
    final.norm2.bias.fill_(1.0)
    one = F.silu(torch.tensor(1.0, dtype=torch.float64))
    final.conv2.weight.zero_()
    final.conv2.weight[helper, 0] = (-surplus / scale / one).float()
    for c in helper:
        final.conv2.weight[balance[c]] -= final.conv2.weight[c]
    room = 2 * float(surplus.abs().sum(dim=(1, 2)).max()) / scale + 16
    norm.bias[helper] = room
    out = encoder.conv_out
    set_to_zero(out)
    out.weight[:latent, carry] = taps.float()
    out.weight[torch.arange(latent), helper, 1, 1] = scale
    out.bias[:latent] = code.bias - scale * room
    _identity(model.quant_conv)
    _identity(model.post_quant_conv)
    model.quant_conv.bias[latent:] = -12.0  # the codes are exact: next to no posterior noise


def _place_decoder(chain: Chain, model: AutoencoderKL) -> None:
    decoder = model.decoder
    _copy(decoder.conv_in, chain.uncode)
    for i, up in enumerate(chain.up):
        _copy(decoder.up_blocks[i].upsamplers[0].conv, up)
        if i + 1 < len(chain.up):
            _copy(decoder.up_blocks[i + 1].resnets[0].conv_shortcut, chain.narrow[i])
    # The last filter is reduced to its sum: one channel a colour; the branches learn the rest.
    last: Any = chain.narrow[-1]
    leave: Any = chain.leave
    norm = decoder.conv_norm_out
    mix = leave.weight.sum(dim=(2, 3))  # (3, c0)
    size = last.out_channels // norm.num_groups
    colour = [g * size + 2 for g in range(3)]
    shortcut = decoder.up_blocks[-1].resnets[0].conv_shortcut
    set_to_zero(shortcut)
    shortcut.weight[colour] = torch.einsum("oc,cnhw->onhw", mix, last.weight)
    shortcut.bias[colour] = mix @ last.bias + leave.bias
    for c in colour:  # the balance, see the encoder
        shortcut.weight[c + 1], shortcut.bias[c + 1] = -shortcut.weight[c], -shortcut.bias[c]
    norm.weight.fill_(_anchor(norm, decoder.up_blocks[-1].resnets[-1].conv2.bias, _FINE))
    norm.bias.fill_(16.0)
    out = decoder.conv_out
    out.weight.zero_()
    out.weight[torch.arange(3), colour, 1, 1] = 1
    out.bias.fill_(-16.0)
