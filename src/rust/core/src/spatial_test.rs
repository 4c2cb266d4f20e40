//! The test of many genes: the best of several kernels for each.
//!
//! Genes are taken in blocks of fixed width. For a block and a kernel, one matrix product projects all genes and
//! two more give all likelihoods on the grid of log delta; then the maxima that can win are refined gene by gene.

use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::likelihood::{Candidate, Maximum, Profile, candidates, constant_loglik};
use crate::locations::Locations;
use crate::null::{LogP, NullForms};
use crate::spectrum::Spectrum;
use faer::{Mat, MatMut, MatRef};
use rayon::prelude::*;

/// Genes in a block. Blocks are filled up with zeros, so that a gene's result does not depend on its neighbours.
const BLOCK: usize = 128;

/// A gene whose standard deviation is below this share of its largest value is constant to rounding.
const CONSTANT: f64 = 1e-13;

/// Whether a gene could be tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It was tested.
    Ok,
    /// It is the same at all locations (of each sample).
    Constant,
    /// It has a NaN or an infinite value.
    NonFinite,
}

impl Status {
    /// `ok`, `constant` or `non-finite`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Constant => "constant",
            Self::NonFinite => "non-finite",
        }
    }
}

/// The maximum of one gene's likelihood over the kernels of one group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KernelFit {
    /// The kernel, by its place among the test's kernels.
    pub kernel: usize,
    /// Log of the ratio of noise to signal variance, within [`crate::likelihood::LOG_DELTA`].
    pub log_delta: f64,
    /// The maximised log likelihood.
    pub loglik: f64,
    /// Its excess over the constant model's, at least 0.
    pub llr: f64,
    /// Fraction of the variance that is spatial, 0 to 1.
    pub fsv: f64,
    /// Its standard error by the delta method, from the likelihood's curvature in log delta; none where the
    /// maximum lies on the boundary.
    pub fsv_se: Option<f64>,
    /// The generalised least squares mean (over samples: the mean weighted by their sizes).
    pub mean: f64,
    /// Variance of the spatial part, s2 times Gower's factor.
    pub var_spatial: f64,
    /// Variance of the noise, s2 delta.
    pub var_noise: f64,
}

/// One gene's result.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneFit {
    /// Whether it was tested; if not, the rest is NaN or empty.
    pub status: Status,
    /// The maximised log likelihood of the model without a spatial part.
    pub loglik_null: f64,
    /// The best kernel of each group.
    pub best: Vec<KernelFit>,
    /// The calibrated p-value, if the test was asked for one.
    pub calibrated: Option<LogP>,
}

/// Kernels over some locations, ready to test genes.
#[derive(Debug, Clone)]
pub struct SpatialTest {
    locations: Locations,
    spectra: Vec<Spectrum>,
    profiles: Vec<Profile>,
    groups: Vec<usize>,
    n_groups: usize,
    null: Option<NullForms>,
}

impl SpatialTest {
    /// Decomposes the kernels, in the current rayon pool; each gene gets the best of them all.
    pub fn new(kernels: &[Kernel], locations: Locations) -> Result<Self> {
        let groups = vec![0; kernels.len()];
        Self::with_groups(kernels, &groups, locations)
    }

    /// The same, but each gene gets the best kernel of each group; `groups` gives each kernel's, from 0 without gaps.
    pub fn with_groups(kernels: &[Kernel], groups: &[usize], locations: Locations) -> Result<Self> {
        if kernels.is_empty() || groups.len() != kernels.len() {
            return Err(Error::Shape { what: "groups", expected: kernels.len().max(1), got: groups.len() });
        }
        let spectra = Spectrum::dense_all(kernels, &locations)?;
        let profiles = spectra.par_iter().map(Profile::new).collect();
        let n_groups = groups.iter().max().map_or(0, |g| g + 1);
        Ok(Self { locations, spectra, profiles, groups: groups.to_vec(), n_groups, null: None })
    }

    /// Adds calibrated p-values, over all kernels of all groups.
    ///
    /// # Errors
    /// [`Error::TooFewLocations`] if a sample has too few for the permutation moments.
    pub fn calibrate(mut self) -> Result<Self> {
        self.null = Some(NullForms::new(&self.spectra, &self.locations)?);
        Ok(self)
    }

    /// The locations.
    pub fn locations(&self) -> &Locations {
        &self.locations
    }

    /// Number of groups of kernels.
    pub fn n_groups(&self) -> usize {
        self.n_groups
    }

    /// The kernels' spectra.
    pub fn spectra(&self) -> &[Spectrum] {
        &self.spectra
    }

    /// Tests genes, the columns of `y` (n × genes), in the current rayon pool. Results are in the order of the
    /// columns, and each depends on its own column only, bit for bit.
    pub fn fit(&self, y: MatRef<'_, f64>) -> Result<Vec<GeneFit>> {
        let n = self.locations.len();
        if y.nrows() != n {
            return Err(Error::Shape { what: "rows of the expression matrix", expected: n, got: y.nrows() });
        }
        let blocks: Vec<Vec<GeneFit>> = (0..y.ncols().div_ceil(BLOCK))
            .into_par_iter()
            .with_max_len(1)
            .map(|b| {
                let start = b * BLOCK;
                self.fit_block(y.subcols(start, BLOCK.min(y.ncols() - start)))
            })
            .collect();
        Ok(blocks.into_iter().flatten().collect())
    }

    fn fit_block(&self, y: MatRef<'_, f64>) -> Vec<GeneFit> {
        let genes = y.ncols();
        let samples = self.locations.samples();
        let mut scaled = Mat::<f64>::zeros(y.nrows(), BLOCK);
        let standards: Vec<Standard> = (0..genes).map(|g| self.standardise(y, g, scaled.as_mut())).collect();
        let squares = Mat::from_fn(BLOCK, samples.len(), |g, p| {
            let column = scaled.col(g);
            samples[p].clone().map(|i| column[i] * column[i]).sum::<f64>()
        });
        let projections: Vec<Mat<f64>> = self
            .spectra
            .iter()
            .map(|spectrum| {
                let mut z = Mat::zeros(spectrum.rank(), BLOCK);
                spectrum.project(scaled.as_ref(), z.as_mut());
                z
            })
            .collect();

        let mut found: Vec<Vec<(usize, Candidate)>> = vec![Vec::new(); genes];
        for (k, (profile, z)) in self.profiles.iter().zip(&projections).enumerate() {
            let mut scratch = Mat::zeros(z.nrows(), BLOCK);
            let mut scanned = Mat::zeros(profile.grid().len(), BLOCK);
            profile.scan(z.as_ref(), squares.as_ref(), scratch.as_mut(), scanned.as_mut());
            for (g, found) in found.iter_mut().enumerate() {
                if standards[g].status == Status::Ok {
                    candidates(scanned.col_as_slice(g), y.nrows(), |candidate| found.push((k, candidate)));
                }
            }
        }

        (0..genes)
            .map(|g| {
                let standard = &standards[g];
                if standard.status != Status::Ok {
                    return GeneFit {
                        status: standard.status,
                        loglik_null: f64::NAN,
                        best: Vec::new(),
                        calibrated: None,
                    };
                }
                let best = (0..self.n_groups)
                    .map(|group| {
                        let found = found[g].iter().filter(|(k, _)| self.groups[*k] == group);
                        self.best_of(found, standard, |k| projections[k].col_as_slice(g), |p| squares[(g, p)])
                    })
                    .collect();
                let loglik_null = constant_loglik(y.nrows()) + standard.shift(y.nrows());
                let calibrated = self
                    .null
                    .as_ref()
                    .map(|null| p_value(null, scaled.col_as_slice(g), |k| projections[k].col_as_slice(g)));
                GeneFit { status: Status::Ok, loglik_null, best, calibrated }
            })
            .collect()
    }

    /// Refines the candidates that can still win, the most hopeful first.
    fn best_of<'a, 'z>(
        &self,
        found: impl Iterator<Item = &'a (usize, Candidate)>,
        standard: &Standard,
        z: impl Fn(usize) -> &'z [f64],
        squares: impl Fn(usize) -> f64 + Copy,
    ) -> KernelFit {
        let mut found: Vec<&(usize, Candidate)> = found.collect();
        found.sort_by(|a, b| b.1.hope.total_cmp(&a.1.hope).then(a.0.cmp(&b.0)));
        let mut best: Option<(usize, Maximum)> = None;
        for &&(k, candidate) in &found {
            if best.is_some_and(|(_, maximum)| candidate.hope < maximum.value) {
                break;
            }
            let maximum = self.profiles[k].gene(z(k), squares).refine(candidate);
            let better = best.is_none_or(|(kernel, known)| {
                (maximum.value, std::cmp::Reverse(k)) > (known.value, std::cmp::Reverse(kernel))
            });
            if better {
                best = Some((k, maximum));
            }
        }
        let (kernel, maximum) = best.expect("every finite likelihood has a maximum on its grid");
        self.describe(kernel, &maximum, standard, z(kernel), squares)
    }

    fn describe(
        &self,
        kernel: usize,
        maximum: &Maximum,
        standard: &Standard,
        z: &[f64],
        squares: impl Fn(usize) -> f64,
    ) -> KernelFit {
        let profile = &self.profiles[kernel];
        let n = self.locations.len();
        let (means, s2) = profile.gene(z, squares).mean_and_scale(maximum.log_delta);
        let (delta, gower) = (maximum.log_delta.exp(), profile.gower());
        let fsv = gower / (gower + delta);
        let samples = self.locations.samples();
        let mean = samples
            .iter()
            .zip(standard.means.iter().zip(&means))
            .map(|(rows, (centre, mu))| rows.len() as f64 * (centre + standard.scale * mu))
            .sum::<f64>()
            / n as f64;
        let unit = s2 * standard.scale * standard.scale;
        KernelFit {
            kernel,
            log_delta: maximum.log_delta,
            loglik: maximum.value + standard.shift(n),
            llr: (maximum.value - constant_loglik(n)).max(0.0),
            fsv,
            fsv_se: maximum.curvature.map(|curvature| fsv * (1.0 - fsv) / (-curvature).sqrt()),
            mean,
            var_spatial: unit * gower,
            var_noise: unit * delta,
        }
    }

    /// Centres gene `g` within samples and scales it to a mean square of 1, into the same column of `out`.
    fn standardise(&self, y: MatRef<'_, f64>, g: usize, mut out: MatMut<'_, f64>) -> Standard {
        let (from, n) = (y.col(g), y.nrows() as f64);
        let mut standard = Standard { status: Status::Ok, means: Vec::new(), scale: f64::NAN };
        if from.iter().any(|v| !v.is_finite()) {
            standard.status = Status::NonFinite;
            return standard;
        }
        let largest = from.iter().fold(0.0_f64, |most, v| most.max(v.abs()));
        if largest == 0.0 {
            standard.status = Status::Constant;
            return standard;
        }
        let mut to = out.as_mut().col_mut(g);
        let mut square = 0.0;
        for rows in self.locations.samples() {
            let len = rows.len() as f64;
            let mean = rows.clone().map(|i| from[i] / largest).sum::<f64>() / len;
            // A second pass takes the rounding error out of the mean.
            let mean = mean + rows.clone().map(|i| from[i] / largest - mean).sum::<f64>() / len;
            for i in rows.clone() {
                to[i] = from[i] / largest - mean;
                square += to[i] * to[i];
            }
            standard.means.push(mean * largest);
        }
        let sd = (square / n).sqrt();
        if sd <= CONSTANT {
            standard.status = Status::Constant;
            to.fill(0.0);
            return standard;
        }
        to.iter_mut().for_each(|v| *v /= sd);
        standard.scale = sd * largest;
        standard
    }
}

/// The calibrated p-value of a centred gene, from its projections on all kernels.
fn p_value<'z>(null: &NullForms, y: &[f64], z: impl Fn(usize) -> &'z [f64]) -> LogP {
    let mut forms = vec![0.0; null.len()];
    for (kernel, forms) in forms.chunks_mut(null.forms_per_kernel()).enumerate() {
        null.quadratic_forms(kernel, z(kernel), forms);
    }
    null.p_value(&forms, &null.gene(y))
}

/// How a gene was centred and scaled.
struct Standard {
    status: Status,
    means: Vec<f64>,
    scale: f64,
}

impl Standard {
    /// What scaling took from the log likelihood.
    fn shift(&self, n: usize) -> f64 {
        -(n as f64) * self.scale.ln()
    }
}
