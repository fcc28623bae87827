"""Kernels as products of smaller ones: SVD, spatial SVD, Tucker-2 and CP. NumPy alone.

Kernels are `[kh, kw, in, out]`. Where the second moments of the input's channels are given, `[in, in]`, what is made
small is the error of the layer's *output* on such inputs, else that of the kernel: with C the moments,
`||C^(1/2) (W - W')||`, which is the plain problem for `C^(1/2) W`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfcompact.errors import UserError

Array = np.ndarray
RIDGE = 1e-6
"""What is added to the moments, as a share of their mean, so that they have a root that can be inverted."""
SWEEPS, RESTARTS = 60, 3  # of CP's alternating least squares
LARGEST_TERMS = 10.0
"""How many times the kernel's norm the terms of a CP may have together: more of them cancel each other, and 8 bits
would lose what is left."""


@dataclass(frozen=True)
class Roots:
    """A root `R` of second moments, `R^T R`, and its inverse, `[in, in]`."""

    root: Array
    inverse: Array

    @classmethod
    def of(cls, moments: Array) -> Roots:
        """The roots of symmetric moments, with a small ridge."""
        ridge = RIDGE * np.trace(moments) / len(moments)
        firm = moments + max(ridge, 1e-30) * np.eye(len(moments))
        try:
            root = np.linalg.cholesky(firm).T
            return cls(root, np.linalg.inv(root))
        except np.linalg.LinAlgError:  # moments were summed in 32 bits: the smallest may be below zero
            values, vectors = np.linalg.eigh(firm)
            values = np.sqrt(np.maximum(values, ridge))
            return cls((vectors * values) @ vectors.T, (vectors / values) @ vectors.T)

    def turned(self, kernel: Array) -> Array:
        """`R` times the kernel, over its input channels."""
        return np.moveaxis(np.tensordot(self.root, kernel, (1, 2)), 0, 2)

    @classmethod
    def none(cls, channels: int) -> Roots:
        """Those of moments that say nothing."""
        return cls(np.eye(channels), np.eye(channels))


def svd(matrix: Array, rank: int, roots: Roots) -> tuple[Array, Array]:
    """`[in, rank]` and `[rank, out]` whose product is nearest to `matrix [in, out]`."""
    left, values, right = np.linalg.svd(roots.root @ matrix, full_matrices=False)
    share = np.sqrt(values[:rank])  # half of the size on either side, for 8 bits
    return roots.inverse @ (left[:, :rank] * share), share[:, None] * right[:rank]


def spectrum(matrix: Array, roots: Roots) -> Array:
    """The singular values that `svd` would keep or drop, largest first."""
    turned = roots.root @ matrix
    small = turned @ turned.T if len(turned) <= turned.shape[1] else turned.T @ turned
    return np.sqrt(np.maximum(np.linalg.eigvalsh(small)[::-1], 0))


def spatial_matrix(kernel: Array) -> Array:
    """The kernel as a matrix `[kh * in, kw * out]`, whose factors are a vertical and a horizontal kernel."""
    kh, kw, channels, out = kernel.shape
    return kernel.transpose(0, 2, 1, 3).reshape(kh * channels, kw * out)


def spatial_roots(roots: Roots, height: int) -> Roots:
    """The roots for `spatial_matrix`, where every row of the window has the same moments."""
    return Roots(*(np.kron(np.eye(height), part) for part in (roots.root, roots.inverse)))


def spatial_svd(kernel: Array, rank: int, roots: Roots) -> tuple[Array, Array]:
    """Kernels `[kh, 1, in, rank]` and `[1, kw, rank, out]` that in turn are near to `kernel` (arXiv:1405.3866)."""
    kh, kw, channels, out = kernel.shape
    first, second = svd(spatial_matrix(kernel), rank, spatial_roots(roots, kh))
    return first.reshape(kh, 1, channels, rank), second.reshape(rank, 1, kw, out).transpose(1, 2, 0, 3)


def tucker_energies(kernel: Array, roots: Roots) -> Array:
    """Of the higher-order SVD's core the energy of each pair of input and output component, `[in, out]`.

    The energy kept by ranks (i, o) is the sum of the first i rows and o columns, at most what `tucker2` keeps.
    """
    turned = roots.turned(kernel)
    left, right = (_mode(turned, axis) for axis in (2, 3))
    return np.square(_core(turned, left, right)).sum((0, 1))


def tucker2(kernel: Array, ranks: tuple[int, int], roots: Roots, sweeps: int = 10) -> tuple[Array, Array, Array]:
    """Factors `[in, r_in]`, a core `[kh, kw, r_in, r_out]` and `[r_out, out]` (arXiv:1511.06530).

    By higher-order orthogonal iteration from the higher-order SVD. A step of subspace iteration stands for each of
    its singular value decompositions, which keeps no less energy than before and costs less.
    """
    turned = roots.turned(kernel)
    left, right = _mode(turned, 2)[:, : ranks[0]], _mode(turned, 3)[:, : ranks[1]]
    before = 0.0
    for _ in range(sweeps):
        left = _nearer(turned @ right, 2, left)
        right = _nearer(np.moveaxis(np.tensordot(turned, left, (2, 0)), -1, 2), 3, right)
        core = _core(turned, left, right)
        kept = float(np.square(core).sum())
        if kept - before <= 1e-7 * kept:
            break
        before = kept
    return roots.inverse @ left, core, right.T


def _core(turned: Array, left: Array, right: Array) -> Array:
    """The kernel `[kh, kw, in, out]` in the coordinates of `left [in, a]` and `right [out, b]`: `[kh, kw, a, b]`."""
    return np.moveaxis(np.tensordot(turned, left, (2, 0)), -1, 2) @ right


def _nearer(tensor: Array, axis: int, basis: Array) -> Array:
    """An orthonormal basis `[n, r]` that holds no less of the tensor's energy along an axis than `basis` does."""
    unfolded = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
    return np.linalg.qr(unfolded @ (unfolded.T @ basis))[0]


def _mode(tensor: Array, axis: int) -> Array:
    """The left singular vectors of the tensor unfolded along an axis, `[n, n]`, the strongest first."""
    unfolded = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
    values, vectors = np.linalg.eigh(unfolded @ unfolded.T)
    return vectors[:, np.argsort(-values, kind="stable")]


def cp(kernel: Array, rank: int, roots: Roots, seed: int = 0) -> tuple[Array, Array, Array]:
    """`[in, rank]`, a depthwise kernel `[kh, kw, rank, 1]` and `[rank, out]` (arXiv:1412.6553).

    By alternating least squares with a small ridge, the best of a few random starts. Raises `UserError` where terms
    cancel each other in every one.
    """
    turned = roots.turned(kernel)
    kh, kw, channels, out = turned.shape
    tensor = turned.transpose(2, 0, 1, 3).reshape(channels, kh * kw, out)
    norm = float(np.linalg.norm(tensor))
    rng = np.random.default_rng(seed)
    best: tuple[float, list[Array]] | None = None
    for _ in range(RESTARTS):
        factors = [rng.normal(size=(n, rank)) for n in tensor.shape]
        for _ in range(SWEEPS):
            for mode in range(3):
                factors[mode] = _least_squares(tensor, factors, mode)
        factors = _balanced(factors)
        terms = float(np.prod([np.linalg.norm(f, axis=0) for f in factors], axis=0).sum())
        error = float(np.linalg.norm(tensor - np.einsum("ir,sr,or->iso", *factors, optimize=True)))
        if terms <= LARGEST_TERMS * max(norm, 1e-30) and (best is None or error < best[0]):
            best = error, factors
    if best is None:
        raise UserError(f"a CP of rank {rank} diverges: its terms cancel each other; take tucker, or a smaller rank")
    first, window, last = best[1]
    return roots.inverse @ first, window.reshape(kh, kw, rank, 1), last.T


def _least_squares(tensor: Array, factors: list[Array], mode: int) -> Array:
    """The factor of a mode that fits best with the others as they are."""
    a, b = (factors[i] for i in range(3) if i != mode)
    gram = (a.T @ a) * (b.T @ b)
    letters = "iso"
    others = [letter for i, letter in enumerate(letters) if i != mode]
    product = np.einsum(f"{letters},{others[0]}r,{others[1]}r->{letters[mode]}r", tensor, a, b, optimize=True)
    ridge = 1e-8 * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram + ridge, product.T).T


def _balanced(factors: list[Array]) -> list[Array]:
    """The same product with columns of equal length in every factor."""
    norms = [np.maximum(np.linalg.norm(factor, axis=0), 1e-30) for factor in factors]
    size = np.prod(norms, axis=0) ** (1 / 3)
    return [factor / norm * size for factor, norm in zip(factors, norms, strict=True)]


def evbmf_rank(matrix: Array) -> int:
    """The rank that empirical variational Bayesian matrix factorization finds in a matrix with noise.

    The global analytic solution (Nakajima, Sugiyama, Babacan and Tomioka, JMLR 14, 2013), its noise found by search.
    """
    rows, columns = sorted(matrix.shape)
    values = np.linalg.svd(matrix, compute_uv=False)
    alpha = rows / columns
    tau = 2.5129 * np.sqrt(alpha)
    squares = np.square(values)
    highest = max(1, min(int(np.ceil(rows / (1 + alpha))) - 1, rows - 1))
    upper = float(squares.sum() / (rows * columns))
    edge = (1 + tau) * (1 + alpha / tau)
    rest = squares[highest:]
    lower = max(float(rest[0] / (columns * edge)), float(rest.mean() / columns), upper * 1e-12, 1e-30)
    tried = np.geomspace(lower, max(upper, lower * (1 + 1e-9)), 400)
    best = min(tried, key=lambda variance: _evb(variance, squares, columns, alpha, edge))
    threshold = np.sqrt(columns * best * edge)
    return int((values > threshold).sum())


def _evb(variance: float, squares: Array, columns: int, alpha: float, edge: float) -> float:
    """The free energy of a noise variance, up to a constant."""
    x = squares / (columns * variance)
    signal, noise = x[x > edge], np.maximum(x[x <= edge], 1e-30)
    root = np.sqrt(np.maximum((signal - (1 + alpha)) ** 2 - 4 * alpha, 0))
    t = (signal - (1 + alpha) + root) / 2
    psi = np.log((t + 1) / signal) if len(signal) else np.zeros(0)
    energy = float((noise - np.log(noise)).sum() + (signal - t).sum() + psi.sum())
    return energy + float(alpha * np.log(t / alpha + 1).sum()) if len(signal) else energy
