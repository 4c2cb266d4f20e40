//! SE kernels over very many locations: no matrix, no eigenvectors, only quadratic forms.
//!
//! The score forms y'HKHy of all lengthscales of a gene come from sums over pairs of near locations for the narrow
//! kernels ([`strips`]) and from Fourier transforms on meshes for the others ([`mesh`]); which is which says the [`plan`].
//! The same products, of vectors of ones, give what the p-values need of the kernels ([`prepare`]).
//! A gene with few non-zero counts is a combination of few functions that all genes share, plus few entries: products of
//! those functions are computed once ([`basis`]).

pub mod basis;
pub mod beside;
pub mod eigenvalues;
pub mod finite;
pub mod fourier;
pub mod mesh;
pub mod model;
pub mod pieces;
pub mod plan;
pub mod prepare;
pub mod strips;
pub mod window;

pub use beside::Beside;
pub use model::GridModel;

use crate::error::Result;
use crate::interrupt;
use crate::locations::Locations;
use crate::null::score::{ScoreSample, with_powers};
use faer::{Mat, MatRef};
use finite::Finite;
use fourier::Workspace;
use mesh::{Mesh, Weights, bounds};
use pieces::split;
use plan::{FEW, GENE_CELLS, GENE_WIDTH, Plan};
use prepare::{Meshes, near_parts};
use rayon::prelude::*;
use std::ops::Range;
use strips::{LANES, REACH, Strips};

/// SE kernels of several lengthscales over the same locations, ready for the forms of genes.
pub struct Grid {
    locations: Locations,
    lengthscales: Vec<f64>,
    samples: Vec<Sample>,
}

/// One sample.
struct Sample {
    rows: Range<usize>,
    strips: Strips,
    plan: Plan,
    levels: Vec<Vec<Piece>>,
    /// The forms at a finite noise ratio, of the kernels that have one.
    finite: Vec<Option<Finite>>,
}

/// A part of a sample that a level's kernels do not connect with the rest.
struct Piece {
    rows: Vec<u32>,
    /// `None` for a few points.
    mesh: Option<(Mesh<f32>, Vec<Weights>)>,
}

/// Strips are so many spacings wide in one to three dimensions, where a spacing is the side of a square, or cube, that
/// holds one point.
const STRIP: [f64; 3] = [3.0, 3.0, 1.5];

impl std::fmt::Debug for Grid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grid").field("lengthscales", &self.lengthscales).finish_non_exhaustive()
    }
}

impl Grid {
    /// Plans for these lengthscales, in ascending order.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] if one of them cannot be served.
    pub fn new(lengthscales: &[f64], locations: &Locations) -> Result<Self> {
        let coords = locations.coords();
        let dim = coords.ncols();
        let mut samples = Vec::with_capacity(locations.samples().len());
        for rows in locations.samples() {
            interrupt::check()?;
            let strips = Strips::new(coords, rows.clone(), strip_side(coords, rows.clone()));
            let plan = plan::plan(coords, rows.clone(), &strips, lengthscales).map_err(|k| {
                crate::Error::Unsupported { kernel: "SE", scale: lengthscales[k], n: locations.len() }
            })?;
            let levels = plan
                .levels
                .iter()
                .map(|kernels| {
                    let reach = REACH * lengthscales[kernels.end - 1];
                    let step = lengthscales[kernels.start] / GENE_CELLS;
                    split(coords, rows.clone().map(|row| row as u32).collect(), reach)
                        .into_iter()
                        .map(|rows| {
                            let mesh = (rows.len() > FEW).then(|| {
                                let (low, high) = bounds(coords, rows.iter().map(|&row| row as usize));
                                let mesh = Mesh::new(low, high, dim, step, reach, GENE_WIDTH);
                                let weights =
                                    lengthscales[kernels.clone()].iter().map(|l| mesh.weights(*l)).collect();
                                (mesh, weights)
                            });
                            Piece { rows, mesh }
                        })
                        .collect()
                })
                .collect();
            let finite = Vec::new();
            samples.push(Sample { rows: rows.clone(), strips, plan, levels, finite });
        }
        let density = density(locations, &samples);
        let wide: Vec<usize> = (0..lengthscales.len())
            .filter(|&k| finite::is_wide(lengthscales[k], density.iter().copied().fold(0.0, f64::max), dim))
            .collect();
        for (sample, &density) in samples.iter_mut().zip(&density) {
            let rows = sample.rows.clone();
            let make = |k: usize| {
                interrupt::check()?;
                let wide = wide.contains(&k);
                Ok(wide.then(|| Finite::new(coords, rows.clone(), lengthscales[k], density)).flatten())
            };
            sample.finite =
                (0..lengthscales.len()).into_par_iter().with_max_len(1).map(make).collect::<Result<_>>()?;
        }
        Ok(Self { locations: locations.clone(), lengthscales: lengthscales.to_vec(), samples })
    }

    /// The lengthscales.
    pub fn lengthscales(&self) -> &[f64] {
        &self.lengthscales
    }

    /// The locations.
    pub fn locations(&self) -> &Locations {
        &self.locations
    }

    /// Gower's factor of a kernel: (n - Σ over samples of 1'K1 / n_s) / (n - samples).
    pub fn gower(&self, kernel: usize) -> Result<f64> {
        let l = self.lengthscales[kernel];
        let mut within = 0.0;
        for sample in &self.samples {
            interrupt::check()?;
            let n = sample.rows.len() as f64;
            within += if kernel < sample.plan.narrow {
                (sample.strips.total(l) + n) / n
            } else {
                Meshes::new(self.locations.coords(), sample.rows.clone(), l).total() / n
            };
        }
        let n = self.locations.len() as f64;
        Ok((n - within) / (n - self.samples.len() as f64))
    }

    /// In each sample, how many of the kernels are sums over near pairs.
    pub fn narrow(&self) -> Vec<usize> {
        self.samples.iter().map(|sample| sample.plan.narrow).collect()
    }

    /// The score form of one of the kernels in each sample, in the current rayon pool.
    pub fn score(&self, kernel: usize) -> Result<Vec<ScoreSample>> {
        let l = self.lengthscales[kernel];
        let sample = |(s, sample): (usize, &Sample)| {
            interrupt::check()?;
            let seed = (kernel * self.samples.len() + s) as u64;
            let parts = if kernel < sample.plan.narrow {
                near_parts(&sample.strips, l, seed)
            } else {
                Meshes::new(self.locations.coords(), sample.rows.clone(), l).parts(seed)
            };
            interrupt::check()?;
            let mut made = ScoreSample::from_row_sums(&parts.sums, &parts.twice, &parts.eigenvalues);
            let form = &mut made.form;
            with_powers(
                &mut form.eigenvalues,
                &[form.invariants.n - 1.0, 0.0, form.invariants.t2, form.invariants.t3],
            );
            Ok(made)
        };
        self.samples.iter().enumerate().map(sample).collect()
    }

    /// Whether a kernel has a form at the finite noise ratio [`finite::DELTA`].
    pub fn has_finite(&self, kernel: usize) -> bool {
        self.samples.iter().any(|sample| sample.finite[kernel].is_some())
    }

    /// That form of one of the kernels in each sample.
    pub fn finite(&self, kernel: usize) -> Result<Vec<ScoreSample>> {
        let sample = |(s, sample): (usize, &Sample)| {
            interrupt::check()?;
            let seed = ((kernel + self.lengthscales.len()) * self.samples.len() + s) as u64;
            let coords = self.locations.coords();
            Ok(match &sample.finite[kernel] {
                Some(finite) => finite.null(coords, seed),
                None => ScoreSample::zero(sample.rows.len()),
            })
        };
        self.samples.iter().enumerate().map(sample).collect()
    }

    /// The same as a matrix, by sums of waves, for one sample; `None` where there is none.
    pub fn dense_finite(&self, kernel: usize, sample: usize) -> Option<Mat<f64>> {
        let finite = self.samples[sample].finite[kernel].as_ref();
        finite.map(|finite| finite.dense(self.locations.coords()))
    }

    /// A kernel's form at a noise ratio among a gene's forms: 0 if there is none.
    pub fn form_at(&self, forms: impl Fn(usize) -> f64, kernel: usize, delta: f64) -> f64 {
        if delta.is_infinite() {
            forms(kernel)
        } else if delta == finite::DELTA {
            forms(self.lengthscales.len() + kernel)
        } else {
            0.0
        }
    }

    /// The forms y'Ky of genes that are centred within samples, the columns of `y` (n × at most [`LANES`]), and below them
    /// those at the finite noise ratio: 2 kernels × genes.
    pub fn forms(&self, y: MatRef<'_, f64>) -> Result<Mat<f64>> {
        let kernels = self.lengthscales.len();
        let mut forms = Mat::<f64>::zeros(2 * kernels, y.ncols());
        let mut work = Workspace::default();
        for sample in &self.samples {
            interrupt::check()?;
            let narrow = sample.plan.narrow;
            if narrow > 0 {
                let lanes: Vec<[f32; LANES]> = sample
                    .strips
                    .rows()
                    .iter()
                    .map(|&row| {
                        std::array::from_fn(|g| if g < y.ncols() { y[(row as usize, g)] as f32 } else { 0.0 })
                    })
                    .collect();
                for k in 0..narrow {
                    let own = sample.strips.forms(self.lengthscales[k], &lanes);
                    (0..y.ncols()).for_each(|g| forms[(k, g)] += own[g]);
                    interrupt::check()?;
                }
            }
            for (kernels, pieces) in sample.plan.levels.iter().zip(&sample.levels) {
                for g in 0..y.ncols() {
                    let column = y.col(g);
                    let mut own = vec![0.0; kernels.len()];
                    for piece in pieces {
                        match &piece.mesh {
                            Some((mesh, weights)) => {
                                mesh.clear(&mut work);
                                let value = |&row: &u32| (row as usize, column[row as usize] as f32);
                                let points = piece.rows.iter().map(value);
                                mesh.spread_fast(self.locations.coords(), points, &mut work);
                                mesh.forms(&mut work, weights, &mut own);
                            }
                            None => self.few(&piece.rows, kernels.clone(), |row| column[row], &mut own),
                        }
                    }
                    kernels.clone().zip(own).for_each(|(k, own)| forms[(k, g)] += own);
                }
                interrupt::check()?;
            }
            for (k, finite) in sample.finite.iter().enumerate() {
                let Some(finite) = finite else { continue };
                for g in 0..y.ncols() {
                    let column = y.col(g);
                    forms[(kernels + k, g)] +=
                        finite.form_of(self.locations.coords(), |row| column[row], &mut work);
                }
                interrupt::check()?;
            }
        }
        Ok(forms)
    }

    /// The forms of a piece of few points.
    fn few(&self, rows: &[u32], kernels: Range<usize>, y: impl Fn(usize) -> f64, forms: &mut [f64]) {
        for (l, form) in self.lengthscales[kernels].iter().zip(forms) {
            for &i in rows {
                for &j in rows {
                    let (i, j) = (i as usize, j as usize);
                    let d2 = self.locations.squared_distance(i, j);
                    *form += y(i) * y(j) * (-0.5 * d2 / (l * l)).exp();
                }
            }
        }
    }
}

/// Points in a unit of volume of each sample, as a typical point of it sees them.
fn density(locations: &Locations, samples: &[Sample]) -> Vec<f64> {
    // So wide that it does not matter where exactly neighbours are.
    let lengthscale = 3.0 * locations.spacing();
    if !(lengthscale > 0.0 && lengthscale.is_finite()) {
        return vec![0.0; samples.len()];
    }
    let volume = ((2.0 * std::f64::consts::PI).sqrt() * lengthscale).powi(locations.dim() as i32);
    samples.iter().map(|s| s.strips.total(lengthscale) / (s.rows.len() as f64 * volume)).collect()
}

/// The width of the strips of some points.
fn strip_side(coords: MatRef<'_, f64>, rows: Range<usize>) -> f64 {
    // The middle half of the points along each coordinate: points far away do not matter.
    let n = rows.len();
    let mut volume = 1.0;
    for k in 0..coords.ncols() {
        let mut x: Vec<f64> = rows.clone().map(|row| coords[(row, k)]).collect();
        x.sort_unstable_by(f64::total_cmp);
        volume *= (2.0 * (x[(3 * n / 4).min(n - 1)] - x[n / 4])).max((x[n - 1] - x[0]) * 1e-6);
    }
    let side = STRIP[coords.ncols() - 1] * (volume / n as f64).powf(1.0 / coords.ncols() as f64);
    if side > 0.0 { side } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::basis::{Basis, Entries};
    use super::*;
    use crate::fixtures::{grid_with_gaps, irregular, scattered, se, two_samples, uniform};
    use crate::null::invariants::by_products;

    /// Two tissues far from each other, and one location far from everything.
    fn islands() -> Locations {
        let own = irregular(600, 2, 3);
        let away = |i: usize| if i.rem_euclid(3) == 0 { 300.0 } else { 0.0 } + if i == 7 { 1e5 } else { 0.0 };
        Locations::new(Mat::from_fn(600, 2, |i, k| own.coords()[(i, k)] + away(i)).as_ref()).unwrap()
    }

    fn tissues() -> Vec<(&'static str, Locations, Vec<f64>)> {
        let long = vec![0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
        vec![
            ("irregular", irregular(600, 2, 3), long.clone()),
            ("lattice with a hole", grid_with_gaps(25), long[1..].to_vec()),
            ("one dimension", irregular(600, 1, 3), vec![0.5, 2.0, 8.0, 40.0, 100.0, 400.0]),
            ("three dimensions", irregular(600, 3, 3), vec![0.3, 0.6, 1.2, 2.4, 5.0]),
            ("two samples", two_samples(400), long.clone()),
            ("islands", islands(), long),
        ]
    }

    /// HKH of one sample.
    fn score_form(locations: &Locations, lengthscale: f64, sample: usize) -> Mat<f64> {
        let kernel = se(lengthscale);
        let k = kernel.at(locations).block(locations.samples()[sample].clone());
        let n = k.nrows() as f64;
        let means: Vec<f64> = k.col_iter().map(|column| column.iter().sum::<f64>() / n).collect();
        let mean = means.iter().sum::<f64>() / n;
        Mat::from_fn(k.nrows(), k.ncols(), |i, j| k[(i, j)] - means[i] - means[j] + mean)
    }

    fn centre(y: &mut Mat<f64>, locations: &Locations) {
        for rows in locations.samples() {
            for g in 0..y.ncols() {
                let mean = rows.clone().map(|i| y[(i, g)]).sum::<f64>() / rows.len() as f64;
                rows.clone().for_each(|i| y[(i, g)] -= mean);
            }
        }
    }

    /// Dense noise and counts in a few spots.
    fn genes(locations: &Locations) -> Mat<f64> {
        let mut uniform = uniform(5);
        let mut y = Mat::from_fn(locations.len(), 5, |_, g| {
            let u = uniform();
            if g == 0 || u < 0.05 * g as f64 { 1.0 + u } else { 0.0 }
        });
        centre(&mut y, locations);
        y
    }

    /// The largest difference to dense sums, in standard deviations of a form under permutation.
    fn worst(
        locations: &Locations,
        lengthscales: &[f64],
        y: &Mat<f64>,
        forms: impl Fn(usize, usize) -> f64,
    ) -> f64 {
        let mut worst = 0.0_f64;
        for (k, &l) in lengthscales.iter().enumerate() {
            let (mut expected, mut square) = (vec![0.0; y.ncols()], 0.0);
            for (s, rows) in locations.samples().iter().enumerate() {
                let a = score_form(locations, l, s);
                square += by_products(a.clone()).invariants.t2;
                let own = y.subrows(rows.start, rows.len());
                let product = &a * own;
                for (g, expected) in expected.iter_mut().enumerate() {
                    *expected += own.col(g).transpose() * product.col(g);
                }
            }
            for (g, expected) in expected.into_iter().enumerate() {
                let sd = (2.0 * square).sqrt() * y.col(g).squared_norm_l2() / y.nrows() as f64;
                worst = worst.max((forms(k, g) - expected).abs() / sd);
            }
        }
        worst
    }

    #[test]
    fn forms_agree_with_dense_sums() {
        for (name, locations, lengthscales) in tissues() {
            let grid = Grid::new(&lengthscales, &locations).unwrap();
            assert!(grid.narrow().iter().all(|n| (1..lengthscales.len()).contains(n)), "{name}: both ways");
            let y = genes(&locations);
            let forms = grid.forms(y.as_ref()).unwrap();
            let error = worst(&locations, &lengthscales, &y, |k, g| forms[(k, g)]);
            assert!(error < 1e-5, "{name}: {error}");
        }
    }

    #[test]
    fn combinations_agree_with_their_values() {
        for (name, locations, lengthscales) in tissues() {
            let (n, samples) = (locations.len(), locations.samples());
            let grid = Grid::new(&lengthscales, &locations).unwrap();
            let functions = Mat::from_fn(n, 3, |i, j| 0.1 * ((i * (j + 1)) as f64 * 0.37).sin());
            let basis = Basis::new(&grid, functions.as_ref()).unwrap();
            let coefficients: Vec<f64> = (0..5 * samples.len() * 3).map(|k| (k as f64).cos()).collect();
            let mut y = Mat::<f64>::zeros(n, 5);
            let mut entries = Vec::new();
            for g in 0..5 {
                let rows: Vec<u32> = (0..n as u32).filter(|i| (i * 7 + g as u32 * 13) % 11 < 2).collect();
                let values: Vec<f64> = rows.iter().map(|&i| 1.0 + f64::from(i).sin()).collect();
                rows.iter().zip(&values).for_each(|(&i, v)| y[(i as usize, g)] += v);
                for (s, range) in samples.iter().enumerate() {
                    let own = &coefficients[(g * samples.len() + s) * 3..][..3];
                    for i in range.clone() {
                        y[(i, g)] += (0..3).map(|j| own[j] * functions[(i, j)]).sum::<f64>();
                    }
                }
                entries.push((rows, values));
            }
            centre(&mut y, &locations);
            let entries: Vec<Entries<'_>> =
                entries.iter().map(|(rows, values)| Entries { rows, values }).collect();
            let got = basis.genes(&grid, &coefficients, &entries).unwrap();
            let error = worst(&locations, &lengthscales, &y, |k, g| got[g].forms[k]);
            assert!(error < 1e-5, "{name}: {error}");
            let dense = grid.forms(y.as_ref()).unwrap();
            for k in 0..lengthscales.len() {
                let scale = y.squared_norm_l2();
                for (g, got) in got.iter().enumerate() {
                    let at = k + lengthscales.len();
                    let error = (got.forms[at] - dense[(at, g)]).abs() / scale;
                    assert!(error < 1e-6, "{name} {k}: {error}");
                }
            }
            for (s, rows) in samples.iter().enumerate() {
                for (g, got) in got.iter().enumerate() {
                    for (power, got) in [2, 3, 4, 6].into_iter().zip(got.sums[s]) {
                        let expected: f64 = rows.clone().map(|i| y[(i, g)].powi(power)).sum();
                        assert!((got - expected).abs() < 1e-9 * expected.abs().max(1.0), "{name} {power}");
                    }
                }
            }
        }
    }

    #[test]
    fn score_forms_have_the_invariants_of_dense_ones() {
        for (name, locations, lengthscales) in tissues() {
            let grid = Grid::new(&lengthscales, &locations).unwrap();
            for (k, &l) in lengthscales.iter().enumerate() {
                for (s, own) in grid.score(k).unwrap().iter().enumerate() {
                    let a = score_form(&locations, l, s);
                    let expected = by_products(a);
                    let (x, y) = (&own.form.invariants, &expected.invariants);
                    let shift = (own.form.shift / expected.shift - 1.0).abs();
                    assert!(shift < 1e-7, "{name} {l}: shift {shift}");
                    // In units of what decides about them: moments are sums of all.
                    let size = y.t2.sqrt();
                    let pairs = [
                        ("t2", x.t2, y.t2, y.t2),
                        ("t3", x.t3, y.t3, y.t3.abs()),
                        ("s2", x.s2, y.s2, y.t2),
                        ("s3", x.s3, y.s3, size.powi(3)),
                        ("u", x.u, y.u, y.u.abs()),
                        ("r", x.r, y.r, size.powi(3)),
                        ("b", x.b, y.b, size.powi(3)),
                        ("squares", x.squares, y.squares, y.squares),
                    ];
                    for (what, x, y, size) in pairs {
                        assert!((x - y).abs() < 1e-4 * size, "{name} {l}: {what} {x} {y}");
                    }
                }
            }
        }
    }

    #[test]
    fn finite_forms_are_those_of_their_products() {
        for (name, locations, lengthscales) in tissues() {
            let grid = Grid::new(&lengthscales, &locations).unwrap();
            let kernels = lengthscales.len();
            let own: Vec<usize> = (0..kernels).filter(|&k| grid.has_finite(k)).collect();
            assert!(own.len() > 1, "{name}: {own:?}");
            let y = genes(&locations);
            let forms = grid.forms(y.as_ref()).unwrap();
            for k in own {
                let made = grid.finite(k).unwrap();
                let (mut expected, mut square) = (vec![0.0; y.ncols()], 0.0);
                for (s, rows) in locations.samples().iter().enumerate() {
                    let Some(finite) = &grid.samples[s].finite[k] else { continue };
                    let a = finite.dense(locations.coords());
                    let dense = by_products(a.clone());
                    let (x, y) = (&made[s].form.invariants, &dense.invariants);
                    let what = format!("{name} {}", lengthscales[k]);
                    let shift = (made[s].form.shift / dense.shift - 1.0).abs();
                    assert!(shift < 1e-6, "{what}: shift {shift}");
                    let size = y.t2.sqrt();
                    let pairs = [
                        ("t2", x.t2, y.t2, y.t2, 1e-5),
                        ("t3", x.t3, y.t3, size.powi(3), 1e-4),
                        ("s2", x.s2, y.s2, y.t2, 1e-6),
                        ("s3", x.s3, y.s3, size.powi(3), 1e-6),
                        ("u", x.u, y.u, size.powi(3), 1e-3),
                        ("r", x.r, y.r, size.powi(3), 1e-5),
                        ("b", x.b, y.b, size.powi(3), 1e-5),
                        ("squares", x.squares, y.squares, y.squares, 1e-4),
                    ];
                    for (part, x, y, size, bound) in pairs {
                        let error = (x - y).abs() / size;
                        println!("{what}: {part} {error:.1e}");
                        assert!(error < bound, "{what}: {part} {x} {y}");
                    }
                    square += y.t2;
                    let columns = genes(&locations);
                    let product = &a * columns.subrows(rows.start, rows.len());
                    for (g, expected) in expected.iter_mut().enumerate() {
                        *expected +=
                            columns.col(g).subrows(rows.start, rows.len()).transpose() * product.col(g);
                    }
                }
                for (g, expected) in expected.into_iter().enumerate() {
                    let sd = (2.0 * square).sqrt() * y.col(g).squared_norm_l2() / y.nrows() as f64;
                    let error = (forms[(kernels + k, g)] - expected).abs() / sd;
                    assert!(error < 1e-4, "{name} {k} {g}: {error}");
                }
            }
        }
    }

    #[test]
    fn eigenvalues_have_the_traces_and_the_largest_is_right() {
        let locations = scattered(900, 2, 4);
        let lengthscales = [1.0, 3.0, 8.0, 30.0];
        let grid = Grid::new(&lengthscales, &locations).unwrap();
        for (k, &l) in lengthscales.iter().enumerate() {
            let own = &grid.score(k).unwrap()[0].form;
            let power = |p: i32| own.eigenvalues.iter().map(|(v, m)| m * v.powi(p)).sum::<f64>();
            assert!((power(0) - 899.0).abs() < 1e-6 * 899.0, "{l}");
            assert!(
                (power(2) / own.invariants.t2 - 1.0).abs() < 1e-6,
                "{l}: {} {}",
                power(2),
                own.invariants.t2
            );
            assert!(
                (power(3) / own.invariants.t3 - 1.0).abs() < 1e-5,
                "{l}: {} {}",
                power(3),
                own.invariants.t3
            );
            let dense = score_form(&locations, l, 0).self_adjoint_eigenvalues(faer::Side::Lower).unwrap();
            let got = own.eigenvalues.iter().fold(f64::NEG_INFINITY, |most, (v, _)| most.max(*v)) + own.shift;
            let expected = dense[dense.len() - 1];
            assert!((got / expected - 1.0).abs() < 0.02, "{l}: {got} {expected}");
        }
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let locations = irregular(3000, 2, 3);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let grid = Grid::new(&[0.5, 2.0, 9.0], &locations).unwrap();
                let scores: Vec<_> = (0..3).map(|k| grid.score(k).unwrap()[0].form.clone()).collect();
                let forms = grid.forms(genes(&locations).as_ref()).unwrap();
                format!("{scores:?} {forms:?}")
            })
        };
        assert!(run(1) == run(3));
    }
}
