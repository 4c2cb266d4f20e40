//! The eigenvalues of a score form, for the far tail of its distribution.
//!
//! A kernel that is wide for its tissue is a sum of few waves: the eigenvalues are those of the waves' Gram matrix,
//! whose entries are values of the spectrum of ones at sums and differences of wave vectors. For the others Lanczos
//! quadrature started at random signs gives about their distribution, which is all that matters where they are many.

use super::mesh::Mesh;
use super::strips::LANES;
use crate::eigen::{eigen, eigenvalues_of};
use crate::interrupt;
use crate::random::sign;
use crate::simd::dot;
use faer::Mat;
use realfft::num_complex::Complex;

/// Most waves of a Gram matrix.
const MOST_WAVES: usize = 1500;

/// Waves whose part of the kernel is below exp(-BAND²/2) of the largest, 1e-6, do not count.
const BAND: f64 = 5.26;

/// Steps of Lanczos.
const STEPS: usize = 12;

/// About so many values all probes of a kernel have together: where products are sums over near pairs, and where they
/// are Fourier transforms. The far tail of a p-value is then right to about a thousandth of its logarithm, or a few of them.
pub const NEAR_VALUES: usize = 1_000_000;
/// See [`NEAR_VALUES`].
pub const MESH_VALUES: usize = 200_000;

/// Up to so many points eigenvalues are those of the whole matrix: there are few, and each matters.
pub const WHOLE: usize = 1000;

/// Eigenvalues with multiplicities.
pub type Eigenvalues = Vec<(f64, f64)>;

/// The eigenvalues of HKH for `n` points from the spectrum of ones, if waves are few enough.
pub fn from_waves(
    mesh: &Mesh<f64>,
    ones: &[Complex<f64>],
    n: usize,
    lengthscale: f64,
) -> Option<Eigenvalues> {
    let amplitude = |wave: &[i64; 3]| mesh.amplitude(wave, lengthscale);
    of_waves(mesh, BAND / lengthscale, amplitude, [ones, ones], n)
}

/// The eigenvalues of H W K W H, W diagonal, for `n` points, if the waves that K consists of, all up to some length, are few
/// enough. From each wave's part in K and the spectra of the weights, W1, and of their squares.
pub fn of_waves(
    mesh: &Mesh<f64>,
    band: f64,
    amplitude: impl Fn(&[i64; 3]) -> f64,
    [weights, squares]: [&[Complex<f64>]; 2],
    n: usize,
) -> Option<Eigenvalues> {
    let waves = mesh.waves(band, MOST_WAVES)?;
    let (weights, squares) = (mesh.sums(weights), mesh.sums(squares));
    let half = |wave: &[i64; 3]| *wave > [0; 3];
    // A constant, then cosines and sines of half of the waves.
    let mut functions: Vec<([i64; 3], bool, f64)> = vec![([0; 3], false, amplitude(&[0; 3]).sqrt())];
    for wave in waves.iter().filter(|wave| half(wave)) {
        let amplitude = (2.0 * amplitude(wave)).sqrt();
        functions.push((*wave, false, amplitude));
        functions.push((*wave, true, amplitude));
    }
    // ∑ cos and ∑ sin at a wave vector.
    let parts = |value: Complex<f64>| (value.re, -value.im);
    let sums = |wave: [i64; 3]| parts(squares.at(&wave));
    let rank = functions.len();
    let along: Vec<f64> = functions
        .iter()
        .map(|(wave, sine, a)| {
            let (cosine_sum, sine_sum) = parts(weights.at(wave));
            a * if *sine { sine_sum } else { cosine_sum }
        })
        .collect();
    let mut gram = Mat::<f64>::zeros(rank, rank);
    for (j, (b, b_sine, b_size)) in functions.iter().enumerate() {
        for (i, (a, a_sine, a_size)) in functions.iter().enumerate().skip(j) {
            let plus = sums(std::array::from_fn(|k| a[k] + b[k]));
            let minus = sums(std::array::from_fn(|k| a[k] - b[k]));
            let product = match (a_sine, b_sine) {
                (false, false) => minus.0 + plus.0,
                (true, true) => minus.0 - plus.0,
                // sin a cos b, and cos a sin b = (sin(a + b) - sin(a - b)) / 2.
                (true, false) => plus.1 + minus.1,
                (false, true) => plus.1 - minus.1,
            };
            gram[(i, j)] = 0.5 * a_size * b_size * product - along[i] * along[j] / n as f64;
            gram[(j, i)] = gram[(i, j)];
        }
    }
    let values = eigenvalues_of(gram.as_ref())?;
    Some(largest(&values, n - 1))
}

/// So many of some eigenvalues, which ascend: the largest, and zeros where there are fewer.
fn largest(values: &[f64], count: usize) -> Eigenvalues {
    let positive: Eigenvalues = values.iter().rev().map(|v| (v.max(0.0), 1.0)).take(count).collect();
    let rest = count.saturating_sub(positive.len()) as f64;
    positive.into_iter().chain((rest > 0.0).then_some((0.0, rest))).collect()
}

/// The eigenvalues of HKH for few points.
fn of_whole(n: usize, product: impl Fn(&[Vec<f64>]) -> Vec<Vec<f64>>) -> Option<Eigenvalues> {
    let mut matrix = Mat::<f64>::zeros(n, n);
    for from in (0..n).step_by(LANES) {
        let unit: Vec<Vec<f64>> = (from..n.min(from + LANES))
            .map(|j| {
                let mut unit: Vec<f64> = (0..n).map(|i| f64::from(i == j)).collect();
                centre(&mut unit);
                unit
            })
            .collect();
        for (k, mut column) in product(&unit).into_iter().enumerate() {
            centre(&mut column);
            matrix.col_mut(from + k).iter_mut().zip(column).for_each(|(entry, value)| *entry = value);
        }
    }
    Some(largest(&eigenvalues_of(matrix.as_ref())?, n - 1))
}

/// About the eigenvalues of HKH for `n` points by products of K with several vectors, exactly for few points; all probes
/// together have about `values` values. `seed` tells probes of different kernels and samples apart.
pub fn from_probes(
    n: usize,
    seed: u64,
    values: usize,
    product: impl Fn(&[Vec<f64>]) -> Vec<Vec<f64>>,
) -> Eigenvalues {
    if let Some(eigenvalues) = (n <= WHOLE).then(|| of_whole(n, &product)).flatten() {
        return eigenvalues;
    }
    let probes = (values / n).max(1);
    let mut eigenvalues = Vec::new();
    for from in (0..probes).step_by(LANES) {
        let mut together: Vec<Lanczos> = (from..probes.min(from + LANES))
            .map(|probe| Lanczos::new(n, |i| seed.wrapping_mul(1_000_003) ^ ((probe * n + i) as u64)))
            .collect();
        for _ in 0..STEPS.min(n - 1) {
            if interrupt::requested() {
                return Vec::new();
            }
            let vectors: Vec<Vec<f64>> = together.iter().map(|probe| probe.vector.clone()).collect();
            for (probe, next) in together.iter_mut().zip(product(&vectors)) {
                probe.step(next);
            }
        }
        for probe in together {
            probe.quadrature((n - 1) as f64 / probes as f64, &mut eigenvalues);
        }
    }
    eigenvalues
}

/// Lanczos' recurrence from one probe.
struct Lanczos {
    vector: Vec<f64>,
    before: Vec<f64>,
    diagonal: Vec<f64>,
    off: Vec<f64>,
    /// Whether the vectors so far span what the kernel makes of them.
    complete: bool,
}

impl Lanczos {
    fn new(n: usize, seed: impl Fn(usize) -> u64) -> Self {
        let mut vector: Vec<f64> = (0..n).map(|i| sign(seed(i))).collect();
        centre(&mut vector);
        let norm = dot(&vector, &vector).sqrt();
        vector.iter_mut().for_each(|v| *v /= norm);
        Self { vector, before: vec![0.0; n], diagonal: Vec::new(), off: Vec::new(), complete: false }
    }

    /// Takes the kernel's product with the last vector.
    fn step(&mut self, mut next: Vec<f64>) {
        if self.complete {
            return;
        }
        centre(&mut next);
        let alpha = dot(&next, &self.vector);
        let last = if self.diagonal.is_empty() { 0.0 } else { self.off[self.diagonal.len() - 1] };
        self.diagonal.push(alpha);
        for ((next, vector), before) in next.iter_mut().zip(&self.vector).zip(&self.before) {
            *next -= alpha * vector + last * before;
        }
        let beta = dot(&next, &next).sqrt();
        if beta <= 1e-10 * alpha.abs() {
            self.complete = true;
            return;
        }
        self.off.push(beta);
        next.iter_mut().for_each(|v| *v /= beta);
        self.before = std::mem::replace(&mut self.vector, next);
    }

    /// Gauss quadrature: eigenvalues, and multiplicities whose sum is `weight`.
    fn quadrature(self, weight: f64, eigenvalues: &mut Eigenvalues) {
        let size = self.diagonal.len();
        let mut matrix = Mat::<f64>::zeros(size, size);
        for k in 0..size {
            matrix[(k, k)] = self.diagonal[k];
            if k + 1 < size {
                matrix[(k + 1, k)] = self.off[k];
                matrix[(k, k + 1)] = self.off[k];
            }
        }
        if let Some((values, vectors)) = eigen(matrix.as_ref()) {
            for (k, value) in values.iter().enumerate() {
                let first = vectors[(0, k)];
                eigenvalues.push((value.max(0.0), weight * first * first));
            }
        }
    }
}

fn centre(x: &mut [f64]) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    x.iter_mut().for_each(|v| *v -= mean);
}
