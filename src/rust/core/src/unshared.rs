//! What of a kernel's variance a location shares with no other.
//!
//! A kernel narrower than the spacing of the locations is the identity matrix, and a function drawn from it the noise
//! itself: no data can tell which of both a gene follows. In general f at a location has a part that its values everywhere
//! else do not tell, with variance `1 / (K⁻¹)ᵢᵢ`, and only what is left of it can be told from noise. A fraction of
//! spatial variance counts that part as noise; for kernels wider than two spacings it is next to nothing.

use crate::kd_tree::KdTree;
use crate::kernel::Kernel;
use crate::locations::Locations;
use rayon::prelude::*;

/// Locations that stand for all.
const SAMPLED: usize = 400;

/// Neighbours that stand for all others: the nearest ones.
const NEIGHBOURS: usize = 24;

/// A variance below this counts as 0.
const NEGLIGIBLE: f64 = 1e-9;

/// The mean variance of a draw of each kernel at a location, given its values at all others of the sample. 0 for kernels
/// without a variance of their own (not functions of the distance, or with negative eigenvalues). In the current rayon
/// pool.
pub fn unshared(kernels: &[Kernel], locations: &Locations) -> Vec<f64> {
    let groups = neighbourhoods(locations);
    let mean = |kernel: &Kernel| {
        if !kernel.is_psd() || kernel.radial().is_none() {
            return 0.0;
        }
        let at = kernel.at(locations);
        let sum: f64 = groups.iter().map(|rows| last_given_others(rows, |i, j| at.value(i, j))).sum();
        sum / groups.len() as f64
    };
    kernels.par_iter().map(mean).collect()
}

/// For some locations their neighbours' rows, the nearest ones first, and their own.
fn neighbourhoods(locations: &Locations) -> Vec<Vec<usize>> {
    let step = locations.len().div_ceil(SAMPLED).max(1);
    let spacing = locations.spacing();
    let of_tree = |tree: &KdTree| {
        let places: Vec<usize> = (0..tree.rows().len()).step_by(step).collect();
        places.into_par_iter().map(|place| neighbourhood(tree, place, spacing)).collect::<Vec<_>>()
    };
    locations.trees().iter().flat_map(of_tree).collect()
}

fn neighbourhood(tree: &KdTree, place: usize, spacing: f64) -> Vec<usize> {
    let wanted = NEIGHBOURS.min(tree.rows().len() - 1);
    let mut radius2 = spacing * spacing;
    let mut found: Vec<(f64, usize)> = Vec::new();
    // Twice the area, until there are enough; all of them are within some radius.
    for _ in 0..200 {
        found.clear();
        tree.within(place, radius2, |other, d2| {
            if other != place {
                found.push((d2, other));
            }
        });
        if found.len() >= wanted {
            break;
        }
        radius2 *= 2.0;
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    found.truncate(NEIGHBOURS);
    found.into_iter().map(|(_, other)| other).chain([place]).map(|place| tree.rows()[place]).collect()
}

/// The variance of the last of some variables, given the others: a Cholesky factor row by row, without variables that
/// those before them tell.
fn last_given_others(rows: &[usize], covariance: impl Fn(usize, usize) -> f64) -> f64 {
    let mut kept: Vec<(usize, Vec<f64>)> = Vec::new();
    let mut variance = 0.0;
    for &row in rows {
        let mut factor: Vec<f64> = Vec::with_capacity(kept.len() + 1);
        for (k, (other, its)) in kept.iter().enumerate() {
            let known: f64 = factor.iter().zip(its).map(|(a, b)| a * b).sum();
            factor.push((covariance(row, *other) - known) / its[k]);
        }
        variance = covariance(row, row) - factor.iter().map(|x| x * x).sum::<f64>();
        if variance > NEGLIGIBLE {
            factor.push(variance.sqrt());
            kept.push((row, factor));
        }
    }
    if variance > NEGLIGIBLE { variance } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{cosine, grid_with_gaps, scattered, se, two_samples};
    use faer::Mat;
    use faer::prelude::Solve;

    /// Mean 1 / (K⁻¹)ᵢᵢ over all locations.
    fn brute_force(kernel: Kernel, locations: &Locations) -> f64 {
        let mut sum = 0.0;
        for rows in locations.samples() {
            let mut k = kernel.at(locations).block(rows.clone());
            (0..rows.len()).for_each(|i| k[(i, i)] += 1e-10);
            let inverse = k.partial_piv_lu().solve(Mat::<f64>::identity(rows.len(), rows.len()));
            sum += (0..rows.len()).map(|i| 1.0 / inverse[(i, i)]).sum::<f64>();
        }
        sum / locations.len() as f64
    }

    #[test]
    fn it_is_the_inverse_of_the_inverse_on_the_diagonal() {
        for locations in [grid_with_gaps(15), scattered(200, 2, 1), scattered(60, 1, 2), two_samples(120)] {
            for lengthscale in [0.2, 0.5, 0.8, 1.2] {
                let kernel = se(lengthscale * locations.spacing());
                let (own, expected) = (unshared(&[kernel], &locations)[0], brute_force(kernel, &locations));
                assert!((own - expected).abs() < 0.02, "{lengthscale}: {own} {expected}");
            }
        }
    }

    #[test]
    fn a_narrow_kernel_shares_nothing_and_a_wide_one_everything() {
        let locations = grid_with_gaps(20);
        let found =
            unshared(&[se(0.1), se(0.5), se(2.5), se(40.0), cosine(2.0), Kernel::linear()], &locations);
        assert!((found[0] - 1.0).abs() < 1e-9 && found[1] > 0.9 && found[1] < 0.97, "{found:?}");
        assert!(found[2..].iter().all(|share| (0.0..1e-3).contains(share)), "{found:?}");
    }

    #[test]
    fn what_was_measured_twice_is_shared() {
        let once = grid_with_gaps(8);
        let n = once.len();
        let x = Mat::from_fn(2 * n, 2, |i, k| once.coords()[(i % n, k)]);
        let twice = Locations::new(x.as_ref()).unwrap();
        assert!(unshared(&[se(0.1), se(3.0)], &twice).iter().all(|share| *share == 0.0));
    }
}
