//! The weights of kernels in the combination of their p-values.

use super::forms::{Form, KernelForms};
use super::spread::spread_rows;
use crate::locations::Locations;
use faer::MatRef;
use rayon::prelude::*;
use std::cmp::Ordering;
use std::ops::Range;

/// Numbers of a score form's entries that the weights of the kernels are computed from.
const WEIGHT_ENTRIES: usize = 1 << 20;

/// A kernel has half its weight where a gene without noise, nothing but a draw of it, is expected to have a score so
/// many standard deviations above the mean. That few can hardly have a small p-value, and forms of kernels that are
/// nearly the identity take weight from others.
const HALF_WEIGHT: f64 = 5.0;

/// How many rows of a sample with n locations kernels are compared by.
fn score_row_count(n: usize) -> usize {
    (WEIGHT_ENTRIES / n).max(16)
}

/// The rows that kernels are compared by in a sample that has these rows, counted from its first: all, or some that are
/// spread over the sample in the order of their coordinates, whatever the order of its rows.
pub fn score_rows(locations: &Locations, rows: Range<usize>) -> Vec<usize> {
    let n = rows.len();
    let count = score_row_count(n);
    if n <= count {
        return (0..n).collect();
    }
    let coords = locations.coords();
    let mut order: Vec<usize> = (0..n).collect();
    let along =
        |i: usize, j: usize, k: usize| coords[(rows.start + i, k)].total_cmp(&coords[(rows.start + j, k)]);
    order.par_sort_unstable_by(|&i, &j| {
        let axes = (0..coords.ncols()).map(|k| along(i, j, k));
        axes.fold(Ordering::Equal, Ordering::then).then(i.cmp(&j))
    });
    spread_rows(n, count).into_iter().map(|place| order[place]).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{grid_with_gaps, irregular};
    use faer::Mat;

    #[test]
    fn the_same_locations_are_compared_in_any_order() {
        for locations in [irregular(1500, 2, 3), grid_with_gaps(40)] {
            let n = locations.len();
            let place = |i: usize| (i * 7919 + 13) % n;
            let coords = Mat::from_fn(n, 2, |i, k| locations.coords()[(place(i), k)]);
            let other = Locations::new(coords.as_ref()).unwrap();
            let points = |locations: &Locations| -> Vec<[u64; 2]> {
                let rows = score_rows(locations, 0..n);
                assert!(rows.len() == score_row_count(n) && rows.len() < n);
                rows.iter().map(|&row| [0, 1].map(|k| locations.coords()[(row, k)].to_bits())).collect()
            };
            assert_eq!(points(&locations), points(&other));
        }
        let few = irregular(300, 2, 3);
        assert_eq!(score_rows(&few, 10..300), (0..290).collect::<Vec<_>>());
    }
}
