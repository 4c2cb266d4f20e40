//! The eigenvalues of a score form, for the far tail of its distribution.
//!
//! A kernel that is wide for its tissue is a sum of few waves: the eigenvalues are those of the waves' Gram matrix,
//! whose entries are values of the spectrum of ones at sums and differences of wave vectors. For the others Lanczos
//! quadrature started at random signs gives about their distribution, which is all that matters where they are many.

use super::mesh::Mesh;
use crate::eigen::eigen;
use crate::interrupt;
use crate::random::sign;
use faer::Mat;
use faer::linalg::solvers::Solve;
use realfft::num_complex::Complex;

/// Most waves of a Gram matrix.
const MOST_WAVES: usize = 500;

/// Waves whose part of the kernel is below exp(-BAND²/2) of the largest, 1e-6, do not count.
const BAND: f64 = 5.26;

/// Steps of Lanczos.
const STEPS: usize = 12;

/// About so many values all probes have together.
const PROBE_VALUES: usize = 100_000;

/// Eigenvalues with multiplicities.
pub type Eigenvalues = Vec<(f64, f64)>;

/// The eigenvalues of HKH for `n` points from the spectrum of ones, if waves are few enough.
pub fn from_waves(
    mesh: &Mesh<f64>,
    ones: &[Complex<f64>],
    n: usize,
    lengthscale: f64,
) -> Option<Eigenvalues> {
    let waves = mesh.waves(BAND / lengthscale, MOST_WAVES)?;
    let ones = mesh.ones(ones, lengthscale);
    let half = |wave: &[i64; 3]| *wave > [0; 3];
    // A constant, then cosines and sines of half of the waves.
    let mut functions: Vec<([i64; 3], bool, f64)> = vec![([0; 3], false, ones.amplitude(&[0; 3]).sqrt())];
    for wave in waves.iter().filter(|wave| half(wave)) {
        let amplitude = (2.0 * ones.amplitude(wave)).sqrt();
        functions.push((*wave, false, amplitude));
        functions.push((*wave, true, amplitude));
    }
    // ∑ cos and ∑ sin at a wave vector.
    let sums = |wave: [i64; 3]| {
        let value = ones.at(&wave);
        (value.re, -value.im)
    };
    let rank = functions.len();
    let along: Vec<f64> = functions
        .iter()
        .map(|(wave, sine, a)| {
            let (cosine_sum, sine_sum) = sums(*wave);
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
    let (values, _) = eigen(gram.as_ref())?;
    // The largest come last.
    let positive: Eigenvalues = values.iter().rev().map(|v| (v.max(0.0), 1.0)).take(n - 1).collect();
    let rest = (n - 1).saturating_sub(positive.len()) as f64;
    Some(positive.into_iter().chain((rest > 0.0).then_some((0.0, rest))).collect())
}

/// About the eigenvalues of HKH for `n` points by products with K; `seed` tells probes of different kernels and samples
/// apart.
pub fn from_probes(n: usize, seed: u64, product: impl Fn(&[f64]) -> Vec<f64>) -> Eigenvalues {
    let probes = (PROBE_VALUES / n).clamp(1, 100);
    let mut eigenvalues = Vec::new();
    for probe in 0..probes {
        let mut vector: Vec<f64> =
            (0..n).map(|i| sign(seed.wrapping_mul(1_000_003) ^ ((probe * n + i) as u64))).collect();
        centre(&mut vector);
        let norm = super::dot(&vector, &vector).sqrt();
        vector.iter_mut().for_each(|v| *v /= norm);
        let (mut diagonal, mut off) = (Vec::new(), Vec::new());
        let mut before = vec![0.0; n];
        for step in 0..STEPS.min(n - 1) {
            if interrupt::requested() {
                return Vec::new();
            }
            let mut next = product(&vector);
            centre(&mut next);
            let alpha = super::dot(&next, &vector);
            diagonal.push(alpha);
            if step + 1 == STEPS.min(n - 1) {
                break;
            }
            let last = off.last().copied().unwrap_or(0.0);
            for ((next, vector), before) in next.iter_mut().zip(&vector).zip(&before) {
                *next -= alpha * vector + last * before;
            }
            let beta = super::dot(&next, &next).sqrt();
            if beta <= 1e-10 * alpha.abs() {
                break;
            }
            off.push(beta);
            next.iter_mut().for_each(|v| *v /= beta);
            before = std::mem::replace(&mut vector, next);
        }
        let size = diagonal.len();
        let mut matrix = Mat::<f64>::zeros(size, size);
        for k in 0..size {
            matrix[(k, k)] = diagonal[k];
            if k + 1 < size {
                matrix[(k + 1, k)] = off[k];
                matrix[(k, k + 1)] = off[k];
            }
        }
        if let Some((values, vectors)) = eigen(matrix.as_ref()) {
            let weight = (n - 1) as f64 / probes as f64;
            for (k, value) in values.iter().enumerate() {
                let first = vectors[(0, k)];
                eigenvalues.push((value.max(0.0), weight * first * first));
            }
        }
    }
    eigenvalues
}

/// Changes multiplicities as little as possible so that sums of the first powers of the eigenvalues, from the zeroth on,
/// are these; as many of them as can be had with positive multiplicities.
pub fn with_powers(eigenvalues: &mut Eigenvalues, powers: [f64; 4]) {
    let scale = (powers[2] / powers[0]).sqrt();
    if !(scale > 0.0 && scale.is_finite()) {
        return;
    }
    for count in (1..=4).rev() {
        let own = |v: f64, p: usize| (v / scale).powi(p as i32);
        let sum = |p: usize| eigenvalues.iter().map(|(v, m)| m * own(*v, p)).sum::<f64>();
        let matrix = Mat::from_fn(count, count, |i, j| sum(i + j));
        let missing = Mat::from_fn(count, 1, |i, _| powers[i] / scale.powi(i as i32) - sum(i));
        let change = matrix.partial_piv_lu().solve(missing);
        let factor = |v: f64| 1.0 + (0..count).map(|p| change[(p, 0)] * own(v, p)).sum::<f64>();
        if eigenvalues.iter().all(|(v, _)| factor(*v) > 0.0) {
            let changed = eigenvalues.iter().map(|(v, m)| (*v, m * factor(*v))).collect();
            *eigenvalues = changed;
            return;
        }
    }
}

fn centre(x: &mut [f64]) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    x.iter_mut().for_each(|v| *v -= mean);
}
