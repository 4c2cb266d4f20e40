//! Σ aᵢⱼ³ of large forms, estimated from some of their rows: the one invariant that costs more than O(n r).

use super::spread::spread_rows;
use crate::kernel::KernelAt;
use faer::Mat;
use rayon::prelude::*;
use std::ops::Range;

/// Covariates of a row's sum of cubes.
const COVARIATES: usize = 6;

/// Rows of a form at a time.
const CHUNK: usize = 128;

/// Sums over a kernel's entries between different locations of a sample.
pub struct KernelCubes {
    /// Σ kᵢⱼ³ over j ≠ i, for each i.
    pub rows: Vec<f64>,
    /// Σ (kᵢⱼ - uᵢ - uⱼ)³ over i ≠ j.
    pub centred: f64,
}

impl KernelCubes {
    /// Of the sample that has these rows, with a u for each of them: O(n²).
    pub fn new(kernel: &KernelAt<'_>, rows: Range<usize>, u: &[f64]) -> Self {
        let (mut sums, mut centred) = (vec![0.0; rows.len()], 0.0);
        for i in 0..rows.len() {
            let mut own = 0.0;
            for j in 0..i {
                let value = kernel.value(rows.start + i, rows.start + j);
                let cube = value.powi(3);
                sums[i] += cube;
                sums[j] += cube;
                own += (value - u[i] - u[j]).powi(3);
            }
            centred += 2.0 * own;
        }
        Self { rows: sums, centred }
    }
}

/// Σ aᵢⱼ³ over i ≠ j of a form's traceless part, from `count` of its rows; `rows` gives some of them, rows × n.
///
/// A quarter of them are those whose sums of the kernel's own cubes are largest (close neighbours), the others
/// are spread over the rest, where the rows' sums are regressed on what is known of all rows: the diagonals of
/// A and of its square, their squares, and the kernel's sums.
pub fn off_diagonal_cubes(
    rows: impl Fn(&[usize]) -> Mat<f64> + Sync,
    shift: f64,
    [diagonal, square_diagonal, kernel_cubes]: [&[f64]; 3],
    count: usize,
) -> f64 {
    let n = diagonal.len();
    let own = shift * (1.0 - 1.0 / n as f64);
    let chunk_sums = |chunk: &[usize]| {
        let block = rows(chunk);
        let mut cubes = vec![0.0; chunk.len()];
        for j in 0..n {
            for (sum, x) in cubes.iter_mut().zip(block.col_as_slice(j)) {
                *sum += x * x * x;
            }
        }
        cubes.iter_mut().zip(chunk).for_each(|(sum, &i)| *sum -= (diagonal[i] - own).powi(3));
        cubes
    };
    let row_sums =
        |some: &[usize]| -> Vec<f64> { some.par_chunks(CHUNK).flat_map_iter(chunk_sums).collect() };
    if n <= count {
        return row_sums(&(0..n).collect::<Vec<_>>()).iter().sum();
    }

    let mut order: Vec<usize> = (0..n).collect();
    if !kernel_cubes.is_empty() {
        order.sort_by(|&i, &j| kernel_cubes[j].total_cmp(&kernel_cubes[i]));
    }
    let (close, rest) = order.split_at_mut(if kernel_cubes.is_empty() { 0 } else { count / 4 });
    rest.sort_unstable();
    let sampled = spread_rows(rest.len(), count - close.len());
    let sampled_sums = row_sums(&sampled.iter().map(|&i| rest[i]).collect::<Vec<_>>());

    let some = |values: &[f64]| unit_scale(rest.iter().filter_map(|&i| values.get(i).copied()).collect());
    let (d, e, k) = (some(diagonal), some(square_diagonal), some(kernel_cubes));
    let covariates = |i: usize| [1.0, d[i], d[i] * d[i], e[i], e[i] * e[i], k.get(i).copied().unwrap_or(0.0)];
    let mut normal = [[0.0; COVARIATES + 1]; COVARIATES];
    for (i, sum) in sampled.into_iter().zip(sampled_sums) {
        let x = covariates(i);
        for (row, v) in normal.iter_mut().zip(x) {
            for (cell, w) in row.iter_mut().zip(x.iter().chain([&sum])) {
                *cell += v * w;
            }
        }
    }
    let slopes = solve_symmetric(normal);
    let mut totals = [0.0; COVARIATES];
    for i in 0..rest.len() {
        for (total, v) in totals.iter_mut().zip(covariates(i)) {
            *total += v;
        }
    }
    let estimate: f64 = slopes.iter().zip(totals).map(|(slope, total)| slope * total).sum();
    row_sums(close).iter().sum::<f64>() + estimate
}

/// Centred and scaled to a standard deviation of one; zeros where nothing varies.
fn unit_scale(values: Vec<f64>) -> Vec<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    values.iter().map(|v| if sd > 1e-12 * mean.abs() { (v - mean) / sd } else { 0.0 }).collect()
}

/// Solves a semidefinite system by elimination; coefficients without information are zero.
fn solve_symmetric(mut m: [[f64; COVARIATES + 1]; COVARIATES]) -> [f64; COVARIATES] {
    let scale: [f64; COVARIATES] = std::array::from_fn(|k| m[k][k]);
    let mut used = [false; COVARIATES];
    for k in 0..COVARIATES {
        if m[k][k] <= 1e-9 * scale[k] {
            continue;
        }
        used[k] = true;
        let pivot = m[k];
        for (i, row) in m.iter_mut().enumerate() {
            if i != k {
                let factor = row[k] / pivot[k];
                row.iter_mut().zip(pivot).for_each(|(cell, p)| *cell -= factor * p);
            }
        }
    }
    std::array::from_fn(|k| if used[k] { m[k][COVARIATES] / m[k][k] } else { 0.0 })
}
