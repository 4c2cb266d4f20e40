//! Which genes go together in space: cross-correlations `z_i' K z_j` of all pairs, one product.
//!
//! z are genes of mean 0 in each sample and variance 1, K a squared exponential kernel without its diagonal, cut off at
//! three lengthscales: the same spot's noise, which genes may share, does not count. For genes with noise of their own,
//! `T_ij / √(T_ii T_jj)` is the correlation of their smooth parts (DeTomaso & Yosef 2021, doi:10.1016/j.cels.2021.04.005, use
//! such sums to find modules).
//!
//! Moments are those under permutation of one gene's values within samples, the other gene left where it is: mean 0 and
//! variance `Σ_s |K z_i|²_s |z_j|²_s / (n_s - 1)`, K z_i centred; of the two variances the larger counts.

use crate::engine::expected_pairs;
use crate::error::{Error, Result, check_size};
use crate::interrupt;
use crate::kernel::Radial;
use crate::locations::Locations;
use faer::linalg::matmul::matmul;
use faer::prelude::*;
use faer::{Accum, Par};
use rayon::prelude::*;

/// Lengthscales beyond which the kernel is zero.
const REACH: f64 = 3.0;
/// Genes of a block, and genes that are smoothed at a time.
const BLOCK: usize = 128;
const LANES: usize = 8;
/// The most neighbours of all locations together: memory is 8 bytes for each.
const MOST: usize = 400_000_000;
/// A gene's own sum counts as so many of its standard deviations at least, so that noise is not divided by noise.
const FLOOR: f64 = 3.0;

/// Correlations of all pairs of genes; both matrices are symmetric.
#[derive(Debug, Clone)]
pub struct Cross {
    /// `T_ij / √(T_ii T_jj)`, from -1 to 1; 1 on the diagonal.
    pub correlation: Mat<f32>,
    /// T in standard deviations under permutation; NaN on the diagonal.
    pub z: Mat<f32>,
    /// T of each gene with itself, in standard deviations: how smooth it is.
    pub own: Vec<f64>,
    /// The mean number of a location's neighbours.
    pub neighbours: f64,
}

/// Correlates all pairs of genes. `y` is locations × genes, finite, no column constant within all samples.
///
/// # Errors
/// Sizes that disagree, a column that is constant or not finite, or a lengthscale that is not positive, so small that no
/// locations are near each other, or so large that too many are.
pub fn cross_correlations(locations: &Locations, y: MatRef<'_, f64>, lengthscale: f64) -> Result<Cross> {
    let (n, genes) = y.shape();
    check_size("rows of y", locations.len(), n)?;
    let wrong = |value, must_be| Err(Error::Parameter { name: "lengthscale", value, must_be });
    if !(lengthscale > 0.0 && lengthscale.is_finite()) {
        return wrong(lengthscale, "positive and finite");
    }
    let graph = Near::new(locations, lengthscale)?;
    if graph.ends.is_empty() {
        return wrong(lengthscale, "long enough for spots to have neighbours within three lengthscales");
    }
    let (values, squares) = standardise(locations, y)?;
    let z = MatRef::from_column_major_slice(&values, n, genes);
    let blocks: Vec<usize> = (0..genes).step_by(BLOCK).collect();
    // Upper blocks of T, and the squares of K z in each sample.
    let found: Vec<(Mat<f32>, Vec<f64>)> = blocks
        .par_iter()
        .with_max_len(1)
        .map(|&first| {
            interrupt::check()?;
            let count = BLOCK.min(genes - first);
            let smooth = graph.smooth(&values, n, first, count);
            let powers = powers(locations, &smooth, n);
            let mut product = Mat::<f32>::zeros(count, genes - first);
            matmul(
                product.as_mut(),
                Accum::Replace,
                MatRef::from_column_major_slice(&smooth, n, count).transpose(),
                z.subcols(first, genes - first),
                1.0,
                Par::Seq,
            );
            Ok((product, powers))
        })
        .collect::<Result<_>>()?;
    let samples = locations.samples();
    let powers: Vec<f64> = found.iter().flat_map(|f| f.1.iter().copied()).collect();
    let variance = |i: usize, j: usize| {
        let one = |s: usize| {
            let freedom = (samples[s].len().max(2) - 1) as f64;
            powers[i * samples.len() + s] * squares[j * samples.len() + s] / freedom
        };
        (0..samples.len()).map(one).sum::<f64>()
    };
    let alone: Vec<(f64, f64)> = (0..genes)
        .map(|i| (f64::from(found[i / BLOCK].0[(i % BLOCK, i % BLOCK)]), variance(i, i).sqrt()))
        .collect();
    let own: Vec<f64> =
        alone.iter().map(|&(sum, sd)| sum.max(FLOOR * sd).max(f64::MIN_POSITIVE).sqrt()).collect();
    let (mut correlation, mut score) = (Mat::<f32>::zeros(genes, genes), Mat::<f32>::zeros(genes, genes));
    for j in 0..genes {
        for i in 0..=j {
            let sum = f64::from(found[i / BLOCK].0[(i % BLOCK, j - i / BLOCK * BLOCK)]);
            let (r, t) = if i == j {
                (1.0, f64::NAN)
            } else {
                let sd = variance(i, j).max(variance(j, i)).sqrt();
                ((sum / (own[i] * own[j])).clamp(-1.0, 1.0), if sd > 0.0 { sum / sd } else { 0.0 })
            };
            correlation[(i, j)] = r as f32;
            correlation[(j, i)] = r as f32;
            score[(i, j)] = t as f32;
            score[(j, i)] = t as f32;
        }
    }
    let own = alone.iter().map(|&(sum, sd)| if sd > 0.0 { sum / sd } else { 0.0 }).collect();
    Ok(Cross { correlation, z: score, own, neighbours: graph.ends.len() as f64 / n as f64 })
}

/// Genes of mean 0 in each sample and variance 1, and each gene's sum of squares in each sample.
fn standardise(locations: &Locations, y: MatRef<'_, f64>) -> Result<(Vec<f32>, Vec<f64>)> {
    let (n, genes) = y.shape();
    let samples = locations.samples();
    let mut values = vec![0.0_f32; n * genes];
    let mut squares = vec![0.0; samples.len() * genes];
    values
        .par_chunks_exact_mut(n)
        .zip(squares.par_chunks_exact_mut(samples.len()))
        .enumerate()
        .try_for_each(|(g, (out, squares))| {
            let mut column: Vec<f64> = y.col(g).iter().copied().collect();
            let largest = column.iter().fold(0.0_f64, |a, x| a.max(x.abs()));
            for rows in samples {
                let part = &mut column[rows.clone()];
                let mean = part.iter().sum::<f64>() / part.len() as f64;
                part.iter_mut().for_each(|x| *x -= mean);
            }
            let sd = (column.iter().map(|x| x * x).sum::<f64>() / n as f64).sqrt();
            // Also false for NaN.
            if !(sd > 1e-12 * largest && sd.is_finite()) {
                let must_be = "a column that is finite and not constant";
                return Err(Error::Parameter { name: "gene", value: (g + 1) as f64, must_be });
            }
            out.iter_mut().zip(&column).for_each(|(out, x)| *out = (x / sd) as f32);
            for (square, rows) in squares.iter_mut().zip(samples) {
                *square = column[rows.clone()].iter().map(|x| (x / sd) * (x / sd)).sum();
            }
            Ok(())
        })?;
    Ok((values, squares))
}

/// Σ (u - mean)² of each sample, for each gene in turn.
fn powers(locations: &Locations, smooth: &[f32], n: usize) -> Vec<f64> {
    let one = |u: &[f32]| -> Vec<f64> {
        let sample = |rows: &std::ops::Range<usize>| {
            let part = &u[rows.clone()];
            let mean = part.iter().map(|&x| f64::from(x)).sum::<f64>() / part.len() as f64;
            part.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>()
        };
        locations.samples().iter().map(sample).collect()
    };
    smooth.chunks_exact(n).flat_map(one).collect()
}

/// The kernel without its diagonal, row by row.
struct Near {
    starts: Vec<usize>,
    ends: Vec<u32>,
    weights: Vec<f32>,
}

impl Near {
    fn new(locations: &Locations, lengthscale: f64) -> Result<Self> {
        let reach2 = (REACH * lengthscale).powi(2);
        let mut lists: Vec<Vec<(u32, f32)>> = vec![Vec::new(); locations.len()];
        let mut all = 0;
        let must_be = "shorter: spots have too many neighbours within three lengthscales";
        let too_many = Error::Parameter { name: "lengthscale", value: lengthscale, must_be };
        let trees = locations.trees();
        // Before they take memory, up to the error of counting some.
        let enough = 1.1 * MOST as f64;
        if trees.iter().map(|tree| expected_pairs(tree, reach2, enough)).sum::<f64>() > enough {
            return Err(too_many);
        }
        let kernel = Radial::squared_exponential(lengthscale);
        for tree in trees {
            interrupt::check()?;
            let found: Vec<Vec<(u32, f32)>> = (0..tree.rows().len())
                .into_par_iter()
                .with_min_len(64)
                .map(|place| {
                    let mut list = Vec::new();
                    tree.within(place, reach2, |other, d2| {
                        if other != place {
                            list.push((tree.rows()[other] as u32, kernel.value(d2) as f32));
                        }
                    });
                    list.sort_unstable_by_key(|pair| pair.0);
                    list
                })
                .collect();
            all += found.iter().map(Vec::len).sum::<usize>();
            if all > MOST {
                return Err(too_many);
            }
            found.into_iter().enumerate().for_each(|(place, list)| lists[tree.rows()[place]] = list);
        }
        let mut near = Self {
            starts: Vec::with_capacity(lists.len() + 1),
            ends: Vec::with_capacity(all),
            weights: Vec::with_capacity(all),
        };
        near.starts.push(0);
        for list in lists {
            near.ends.extend(list.iter().map(|pair| pair.0));
            near.weights.extend(list.iter().map(|pair| pair.1));
            near.starts.push(near.ends.len());
        }
        Ok(near)
    }

    /// K z of some genes, in the layout of `values`: one column of n for each gene.
    fn smooth(&self, values: &[f32], n: usize, first: usize, count: usize) -> Vec<f32> {
        let mut out = vec![0.0_f32; n * count];
        let mut packed = vec![[0.0_f32; LANES]; n];
        for start in (0..count).step_by(LANES) {
            let lanes = LANES.min(count - start);
            for lane in 0..lanes {
                let column = &values[(first + start + lane) * n..(first + start + lane + 1) * n];
                packed.iter_mut().zip(column).for_each(|(p, x)| p[lane] = *x);
            }
            for row in 0..n {
                let mut sum = [0.0_f32; LANES];
                let range = self.starts[row]..self.starts[row + 1];
                for (&end, &weight) in self.ends[range.clone()].iter().zip(&self.weights[range]) {
                    let other = &packed[end as usize];
                    (0..LANES).for_each(|lane| sum[lane] += weight * other[lane]);
                }
                (0..lanes).for_each(|lane| out[(start + lane) * n + row] = sum[lane]);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::irregular;
    use crate::random::SplitMix64;

    #[test]
    fn is_the_sum_over_pairs_in_its_standard_deviations() {
        let n = 9;
        let locations = irregular(n, 2, 6);
        let mut random = SplitMix64::new(1, &[]);
        let y = Mat::from_fn(n, 3, |_, _| random.normal());
        let l = 0.3;
        let found = cross_correlations(&locations, y.as_ref(), l).unwrap();
        let z = Mat::from_fn(n, 3, |i, g| {
            let mean = (0..n).map(|i| y[(i, g)]).sum::<f64>() / n as f64;
            let variance = (0..n).map(|i| (y[(i, g)] - mean).powi(2)).sum::<f64>() / n as f64;
            (y[(i, g)] - mean) / variance.sqrt()
        });
        let k = Mat::from_fn(n, n, |i, j| {
            let d2 = locations.squared_distance(i, j);
            if i == j || d2 > 9.0 * l * l { 0.0 } else { (-0.5 * d2 / (l * l)).exp() }
        });
        let t = z.transpose() * &k * &z;
        // The variance over all permutations of one gene: its second moment under the uniform distribution.
        let permuted = |i: usize| {
            let u: Vec<f64> = (0..n).map(|a| (0..n).map(|b| k[(a, b)] * z[(b, i)]).sum()).collect();
            let mut second = 0.0;
            for a in 0..n {
                for b in 0..n {
                    let pair = if a == b {
                        1.0
                    } else {
                        // E z_π(a) z_π(b) for centred z of variance 1.
                        -1.0 / (n as f64 - 1.0)
                    };
                    second += u[a] * u[b] * pair;
                }
            }
            second
        };
        for i in 0..3 {
            for j in 0..3 {
                if i != j {
                    let sd = permuted(i).max(permuted(j)).sqrt();
                    assert!((f64::from(found.z[(i, j)]) - t[(i, j)] / sd).abs() < 1e-4);
                    assert!(found.correlation[(i, j)] == found.correlation[(j, i)]);
                }
            }
        }
    }

    #[test]
    fn shared_fields_are_found_and_noise_is_not() {
        let n = 400;
        let locations = irregular(n, 2, 7);
        let spacing = locations.spacing();
        let mut random = SplitMix64::new(2, &[]);
        let y = Mat::from_fn(n, 140, |i, g| {
            let (x, y) = (locations.coords()[(i, 0)], locations.coords()[(i, 1)]);
            let field = [(x / (3.0 * spacing)).sin(), (y / (3.0 * spacing)).cos(), 0.0][g % 3];
            field + random.normal()
        });
        let all = || cross_correlations(&locations, y.as_ref(), 1.5 * spacing).unwrap();
        let found = all();
        let (mut extreme, mut shared, mut alike, mut pairs) = (0, 0.0, 0.0, 0.0);
        for i in 0..140 {
            for j in 0..i {
                let (r, z) = (found.correlation[(i, j)], found.z[(i, j)]);
                if i % 3 == j % 3 && i % 3 < 2 {
                    shared += z;
                    alike += r;
                    pairs += 1.0;
                }
                extreme += usize::from(i % 3 == 2 && j % 3 == 2 && z.abs() > 1.96);
            }
        }
        // The genes' noise, two thirds of their variance, does not count.
        assert!(shared / pairs > 4.0 && alike / pairs > 0.7, "{} {}", shared / pairs, alike / pairs);
        // 46 genes of noise: 1,035 pairs, a twentieth of them beyond 1.96.
        assert!((25..85).contains(&extreme), "{extreme}");
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(all);
        assert!(
            one.z
                .col_iter()
                .zip(found.z.col_iter())
                .all(|(a, b)| { a.iter().zip(b.iter()).all(|(a, b)| a.to_bits() == b.to_bits()) })
        );
    }
}
