//! The weights of kernels in the combination of their p-values.

use super::forms::{Form, KernelForms};
use super::spread::spread_rows;
use faer::MatRef;
use rayon::prelude::*;

/// Numbers of a score form's entries that the weights of the kernels are computed from.
const WEIGHT_ENTRIES: usize = 1 << 20;

/// A kernel has half its weight where a gene without noise, nothing but a draw of it, is expected to have a score so
/// many standard deviations above the mean. That few can hardly have a small p-value, and forms of kernels that are
/// nearly the identity take weight from others.
const HALF_WEIGHT: f64 = 5.0;

/// The rows of a sample with n locations that kernels are compared by.
pub fn score_rows(n: usize) -> Vec<usize> {
    spread_rows(n, (WEIGHT_ENTRIES / n).max(16))
}

/// Each kernel's weight is 1 / Σ ρ⁸ over all kernels, ρ the correlation of score forms for a uniform direction,
/// shared equally by its forms: kernels that say the same count once. Kernels that cannot say much count less
/// ([`HALF_WEIGHT`]). The power is examples/power.rs's choice: lower ones give the longest lengthscales too much.
pub(super) fn weights(kernels: &[KernelForms]) -> Vec<f64> {
    let product = |a: usize, b: usize| -> f64 {
        kernels[a].rows.iter().zip(&kernels[b].rows).map(|(x, y)| dot(x.as_ref(), y.as_ref())).sum()
    };
    let varying = |k: usize| kernels[k].forms.iter().filter(|form| !form.constant);
    let varies = |k: usize| varying(k).next().is_some();
    let strength = |k: usize| varying(k).next().map_or(0.0, Form::strength);
    let own: Vec<f64> = (0..kernels.len()).map(|k| product(k, k)).collect();
    let mut weights = vec![0.0; kernels.len()];
    weights.par_iter_mut().enumerate().for_each(|(k, weight)| {
        if varies(k) {
            let others = (0..kernels.len()).filter(|&l| l != k && varies(l));
            let alike: f64 = others.map(|l| (product(k, l).powi(2) / (own[k] * own[l])).powi(4)).sum();
            *weight = 1.0 / (1.0 + alike) / (1.0 + (HALF_WEIGHT / strength(k)).powi(2));
        }
    });
    let per_form = |k: usize| {
        let count = varying(k).count().max(1) as f64;
        let share = weights[k] / count;
        kernels[k].forms.iter().map(move |form| if form.constant { 0.0 } else { share })
    };
    let shares: Vec<f64> = (0..kernels.len()).flat_map(per_form).collect();
    let total: f64 = shares.iter().sum();
    if total > 0.0 { shares.iter().map(|share| share / total).collect() } else { shares }
}

/// Σ aᵢⱼ bᵢⱼ.
pub(super) fn dot(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> f64 {
    let column = |j| a.col(j).iter().zip(b.col(j).iter()).map(|(x, y)| x * y).sum::<f64>();
    (0..a.ncols()).map(column).sum()
}
