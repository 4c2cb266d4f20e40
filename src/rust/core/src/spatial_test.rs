//! The test of many genes: the best of several kernels for each.
//!
//! A kernel is held as its spectrum, or, for short lengthscales over many locations, as a sparse matrix. Genes are
//! taken in blocks of fixed width. For a block and a kernel, one matrix product projects all genes and two more give
//! all likelihoods on the grid of log delta; then the maxima that can win are refined gene by gene. Genes that Lanczos
//! cannot settle are tested again with dense spectra, as long as those are affordable.

use crate::error::{Error, Result};
use crate::interrupt;
use crate::kernel::Kernel;
use crate::krylov::{GeneQuadrature, Krylov};
use crate::likelihood::{Candidate, Maximum, Profile, candidates, constant_loglik};
use crate::locations::Locations;
use crate::null::{DELTAS, LogP, NullForms, Source};
use crate::spectrum::{Approximation, DENSE_LIMIT, Spectrum};
use faer::{Mat, MatMut, MatRef};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

/// Genes in a block. Blocks are filled up with zeros, so that a gene's result does not depend on its neighbours.
const BLOCK: usize = 128;

/// A gene whose standard deviation is below this share of its largest value is constant to rounding.
const CONSTANT: f64 = 1e-13;

/// The error of a log likelihood ratio that a truncated kernel may make: absolute, and as a share of it.
const TRUNCATION: (f64, f64) = (0.02, 1e-4);

/// Whether a gene could be tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It was tested.
    Ok,
    /// It is the same at all locations (of each sample).
    Constant,
    /// It has a NaN or an infinite value.
    NonFinite,
    /// Its likelihood's maximum is not known to the tolerance; its calibrated p-value is.
    NotConverged,
}

impl Status {
    /// `ok`, `constant`, `non-finite` or `not converged`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Constant => "constant",
            Self::NonFinite => "non-finite",
            Self::NotConverged => "not converged",
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
    /// Bayesian information criterion, `-2 loglik + M log n` with [`Kernel::parameters`] M.
    pub bic: f64,
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
    /// Whether it was tested; if not, the rest is NaN or empty (but for the p-value of one that did not converge).
    pub status: Status,
    /// The maximised log likelihood of the model without a spatial part.
    pub loglik_null: f64,
    /// The best kernel of each group.
    pub best: Vec<KernelFit>,
    /// The calibrated p-value, if the test was asked for one.
    pub calibrated: Option<LogP>,
}

/// A kernel over given locations, ready for likelihoods.
#[derive(Debug, Clone)]
pub enum Model {
    /// By its spectrum.
    Spectral {
        /// The spectrum.
        spectrum: Arc<Spectrum>,
        /// What the likelihoods need of it.
        profile: Arc<Profile>,
    },
    /// By a sparse matrix.
    Sparse(Krylov),
}

impl Model {
    /// `None` for a cosine kernel that no engine can take.
    fn new(kernel: Kernel, spectrum: Option<Spectrum>, locations: &Locations) -> Result<Option<Self>> {
        interrupt::check()?;
        if let Some(spectrum) = spectrum {
            return Ok(Some(Self::spectral(spectrum)));
        }
        if matches!(kernel, Kernel::Cosine { .. }) {
            return Ok(None);
        }
        match Krylov::new(kernel, locations)? {
            Some(krylov) => Ok(Some(Self::Sparse(krylov))),
            None => Err(Error::Unsupported { kernel, n: locations.len() }),
        }
    }

    fn spectral(spectrum: Spectrum) -> Self {
        let profile = Arc::new(Profile::new(&spectrum));
        Self::Spectral { spectrum: Arc::new(spectrum), profile }
    }

    /// The kernel.
    pub fn kernel(&self) -> Kernel {
        match self {
            Self::Spectral { spectrum, .. } => spectrum.kernel(),
            Self::Sparse(krylov) => krylov.kernel(),
        }
    }

    /// The engine's name: `dense`, `pivoted_cholesky` or `krylov`.
    pub fn engine(&self) -> &'static str {
        match self {
            Self::Spectral { spectrum, .. } => spectrum.engine().name(),
            Self::Sparse(_) => "krylov",
        }
    }

    /// Number of eigenpairs; of a sparse matrix, the number of its rows.
    pub fn rank(&self) -> usize {
        match self {
            Self::Spectral { spectrum, .. } => spectrum.rank(),
            Self::Sparse(krylov) => krylov.n(),
        }
    }

    /// About the largest error of a log likelihood ratio at delta = 1 (it grows as 1 / delta): half the trace that was
    /// dropped, or what Lanczos and the log determinant may be off by.
    pub fn error_bound(&self) -> f64 {
        match self {
            Self::Spectral { .. } => self.truncation(),
            Self::Sparse(_) => crate::krylov::TOLERANCE,
        }
    }

    /// Half of what is missing of K's trace: over delta, about the error of a log likelihood ratio.
    fn truncation(&self) -> f64 {
        match self {
            Self::Spectral { spectrum, .. } => 0.5 * spectrum.dropped_trace(),
            Self::Sparse(_) => 0.0,
        }
    }

    fn gower(&self) -> f64 {
        match self {
            Self::Spectral { profile, .. } => profile.gower(),
            Self::Sparse(krylov) => krylov.gower(),
        }
    }

    fn source(&self) -> Source<'_> {
        match self {
            Self::Spectral { spectrum, .. } => Source::Spectrum(spectrum),
            Self::Sparse(krylov) => Source::Sparse(krylov),
        }
    }
}

/// A block of genes as one model sees it.
enum View<'a> {
    /// Projections, r × genes.
    Spectral(&'a Profile, Mat<f64>),
    /// Quadratures of the genes that can be tested.
    Sparse(&'a Krylov, Vec<Option<GeneQuadrature>>),
}

/// One gene of a block, centred within samples and scaled, as one model sees it.
struct GeneView<'a> {
    view: &'a View<'a>,
    gene: usize,
    y: &'a [f64],
    squares: &'a [f64],
}

impl GeneView<'_> {
    fn quadrature<'q>(&self, quadratures: &'q [Option<GeneQuadrature>]) -> &'q GeneQuadrature {
        quadratures[self.gene].as_ref().expect("all genes that can be tested have a quadrature")
    }

    fn refine(&self, candidate: Candidate) -> Maximum {
        match self.view {
            View::Spectral(profile, z) => {
                profile.gene(z.col_as_slice(self.gene), |p| self.squares[p]).refine(candidate)
            }
            View::Sparse(krylov, quadratures) => krylov.refine(self.quadrature(quadratures), candidate),
        }
    }

    fn mean_and_scale(&self, log_delta: f64) -> (Vec<f64>, f64) {
        match self.view {
            View::Spectral(profile, z) => {
                profile.gene(z.col_as_slice(self.gene), |p| self.squares[p]).mean_and_scale(log_delta)
            }
            View::Sparse(krylov, quadratures) => {
                krylov.mean_and_scale(self.quadrature(quadratures), self.y, log_delta)
            }
        }
    }

    /// What the likelihood may still reach where its maximum is not known.
    fn ceiling(&self) -> f64 {
        match self.view {
            View::Spectral(..) => f64::NEG_INFINITY,
            View::Sparse(_, quadratures) => self.quadrature(quadratures).ceiling,
        }
    }

    /// The quadratic forms that the calibrated p-value needs.
    fn forms(&self, null: &NullForms, kernel: usize, out: &mut [f64]) {
        match self.view {
            View::Spectral(_, z) => null.quadratic_forms(kernel, z.col_as_slice(self.gene), out),
            View::Sparse(_, quadratures) => {
                // The score form comes first, and there is no other.
                out.fill(0.0);
                out[0] = self.quadrature(quadratures).score;
            }
        }
    }
}

/// A test without what can be computed from the rest in no time; its parts are owned or borrowed.
#[derive(Serialize, Deserialize)]
pub(crate) struct Stored<L, S, K, N> {
    locations: L,
    models: Vec<StoredModel<S, K>>,
    groups: Vec<usize>,
    exact_if_needed: bool,
    null: Option<N>,
}

#[derive(Serialize, Deserialize)]
enum StoredModel<S, K> {
    Spectral(S),
    Sparse(K),
}

/// Kernels over some locations, ready to test genes.
#[derive(Debug, Clone)]
pub struct SpatialTest {
    locations: Locations,
    models: Vec<Model>,
    /// The models' places among the kernels that were asked for.
    kept: Vec<usize>,
    groups: Vec<usize>,
    n_groups: usize,
    /// Whether genes that do not converge get another test, and that test, once it was needed.
    exact_if_needed: bool,
    exact: OnceLock<Box<SpatialTest>>,
    null: Option<NullForms>,
}

impl SpatialTest {
    /// Prepares the kernels, each by the engine that suits it, in the current rayon pool; each gene gets the best of
    /// them all.
    pub fn new(kernels: &[Kernel], locations: Locations) -> Result<Self> {
        let groups = vec![0; kernels.len()];
        Self::with_groups(kernels, &groups, locations, Approximation::Auto)
    }

    /// The same, but each gene gets the best kernel of each group; `groups` gives each kernel's, from 0 without gaps.
    ///
    /// Cosine kernels whose period is too short for so many locations are left out, and with them groups that have no
    /// other: [`SpatialTest::kept`] has the rest.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where no engine can take another kernel, or no kernel is left.
    pub fn with_groups(
        kernels: &[Kernel],
        groups: &[usize],
        locations: Locations,
        approximation: Approximation,
    ) -> Result<Self> {
        if kernels.is_empty() || groups.len() != kernels.len() {
            return Err(Error::Shape { what: "groups", expected: kernels.len().max(1), got: groups.len() });
        }
        let spectra = Spectrum::choose_all(kernels, &locations, approximation)?;
        let models = kernels
            .par_iter()
            .zip(spectra)
            .with_max_len(1)
            .map(|(&kernel, spectrum)| Model::new(kernel, spectrum, &locations))
            .collect::<Result<Vec<_>>>()?;
        let kept: Vec<usize> = (0..kernels.len()).filter(|&k| models[k].is_some()).collect();
        if kept.is_empty() {
            return Err(Error::Unsupported { kernel: kernels[0], n: locations.len() });
        }
        let present: BTreeSet<usize> = kept.iter().map(|&k| groups[k]).collect();
        let groups = kept.iter().map(|&k| present.range(..groups[k]).count()).collect();
        let models = models.into_iter().flatten().collect();
        let exact_if_needed = approximation == Approximation::Auto && locations.len() <= DENSE_LIMIT;
        Ok(Self { kept, ..Self::from_parts(locations, models, groups, exact_if_needed, None) })
    }

    fn from_parts(
        locations: Locations,
        models: Vec<Model>,
        groups: Vec<usize>,
        exact_if_needed: bool,
        null: Option<NullForms>,
    ) -> Self {
        let n_groups = groups.iter().max().map_or(0, |g| g + 1);
        let kept = (0..models.len()).collect();
        Self { locations, models, kept, groups, n_groups, exact_if_needed, exact: OnceLock::new(), null }
    }

    /// Adds calibrated p-values, over all kernels of all groups.
    ///
    /// # Errors
    /// [`Error::TooFewLocations`] if a sample has too few for the permutation moments.
    pub fn calibrate(mut self) -> Result<Self> {
        interrupt::check()?;
        let sources: Vec<Source<'_>> = self.models.iter().map(Model::source).collect();
        self.null = Some(NullForms::from_sources(&sources, &self.locations, &DELTAS)?);
        Ok(self)
    }

    /// What [`crate::storage`] writes.
    pub(crate) fn stored(&self) -> Stored<&Locations, &Spectrum, &Krylov, &NullForms> {
        let models = self.models.iter().map(|model| match model {
            Model::Spectral { spectrum, .. } => StoredModel::Spectral(&**spectrum),
            Model::Sparse(krylov) => StoredModel::Sparse(krylov),
        });
        Stored {
            locations: &self.locations,
            models: models.collect(),
            groups: self.groups.clone(),
            exact_if_needed: self.exact_if_needed,
            null: self.null.as_ref(),
        }
    }

    /// From what was written.
    pub(crate) fn restored(stored: Stored<Locations, Spectrum, Krylov, NullForms>) -> Self {
        let model = |model| match model {
            StoredModel::Spectral(spectrum) => Model::spectral(spectrum),
            StoredModel::Sparse(krylov) => Model::Sparse(krylov),
        };
        let models = stored.models.into_iter().map(model).collect();
        Self::from_parts(stored.locations, models, stored.groups, stored.exact_if_needed, stored.null)
    }

    /// The locations.
    pub fn locations(&self) -> &Locations {
        &self.locations
    }

    /// Number of groups of kernels.
    pub fn n_groups(&self) -> usize {
        self.n_groups
    }

    /// Which of the kernels asked for the models are, counted from 0 (after reading from a file: all of them).
    pub fn kept(&self) -> &[usize] {
        &self.kept
    }

    /// The kernels.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// Tests genes, the columns of `y` (n × genes), in the current rayon pool. Results are in the order of the
    /// columns, and each depends on its own column only, bit for bit.
    pub fn fit(&self, y: MatRef<'_, f64>) -> Result<Vec<GeneFit>> {
        let n = self.locations.len();
        if y.nrows() != n {
            return Err(Error::Shape { what: "rows of the expression matrix", expected: n, got: y.nrows() });
        }
        let blocks: Result<Vec<Vec<GeneFit>>> = (0..y.ncols().div_ceil(BLOCK))
            .into_par_iter()
            .with_max_len(1)
            .map(|b| {
                let start = b * BLOCK;
                self.fit_block(y.subcols(start, BLOCK.min(y.ncols() - start)))
            })
            .collect();
        let mut fits: Vec<GeneFit> = blocks?.into_iter().flatten().collect();
        if self.exact_if_needed {
            let failed: Vec<usize> =
                (0..fits.len()).filter(|&g| fits[g].status == Status::NotConverged).collect();
            if !failed.is_empty() {
                let again = Mat::from_fn(n, failed.len(), |i, k| y[(i, failed[k])]);
                for (g, fit) in failed.into_iter().zip(self.exact()?.fit(again.as_ref())?) {
                    fits[g] = GeneFit { calibrated: fits[g].calibrated, ..fit };
                }
            }
        }
        Ok(fits)
    }

    /// The same kernels with dense spectra in place of sparse matrices, and without p-values.
    fn exact(&self) -> Result<&Self> {
        if let Some(exact) = self.exact.get() {
            return Ok(exact);
        }
        let model = |model: &Model| match model {
            Model::Spectral { .. } => Ok(model.clone()),
            Model::Sparse(krylov) => Spectrum::dense(krylov.kernel(), &self.locations).map(Model::spectral),
        };
        let models = self.models.par_iter().with_max_len(1).map(model).collect::<Result<_>>()?;
        let exact = Self::from_parts(self.locations.clone(), models, self.groups.clone(), false, None);
        Ok(self.exact.get_or_init(|| Box::new(exact)))
    }

    fn fit_block(&self, y: MatRef<'_, f64>) -> Result<Vec<GeneFit>> {
        let genes = y.ncols();
        let samples = self.locations.samples();
        let mut scaled = Mat::<f64>::zeros(y.nrows(), BLOCK);
        let standards: Vec<Standard> = (0..genes).map(|g| self.standardise(y, g, scaled.as_mut())).collect();
        // Genes × samples, and by gene.
        let squares = Mat::from_fn(BLOCK, samples.len(), |g, p| {
            let column = scaled.col(g);
            samples[p].clone().map(|i| column[i] * column[i]).sum::<f64>()
        });
        let squares_of: Vec<Vec<f64>> = squares.row_iter().map(|row| row.iter().copied().collect()).collect();
        let testable: Vec<bool> = standards.iter().map(|s| s.status == Status::Ok).collect();

        let mut found: Vec<Vec<(usize, Candidate)>> = vec![Vec::new(); genes];
        let mut views = Vec::with_capacity(self.models.len());
        for (k, model) in self.models.iter().enumerate() {
            interrupt::check()?;
            match model {
                Model::Spectral { spectrum, profile } => {
                    let mut z = Mat::zeros(spectrum.rank(), BLOCK);
                    spectrum.project(scaled.as_ref(), z.as_mut());
                    let mut scratch = Mat::zeros(z.nrows(), BLOCK);
                    let mut scanned = Mat::zeros(profile.grid().len(), BLOCK);
                    profile.scan(z.as_ref(), squares.as_ref(), scratch.as_mut(), scanned.as_mut());
                    for g in (0..genes).filter(|&g| testable[g]) {
                        candidates(scanned.col_as_slice(g), y.nrows(), |candidate| {
                            found[g].push((k, candidate))
                        });
                    }
                    views.push(View::Spectral(profile, z));
                }
                Model::Sparse(krylov) => {
                    let quadratures = krylov.quadratures(scaled.as_ref(), &testable);
                    interrupt::check()?;
                    for (found, quadrature) in found.iter_mut().zip(&quadratures) {
                        if let Some(quadrature) = quadrature {
                            let scanned = krylov.scan(quadrature);
                            candidates(&scanned, y.nrows(), |candidate| found.push((k, candidate)));
                        }
                    }
                    views.push(View::Sparse(krylov, quadratures));
                }
            }
        }

        let fits = (0..genes)
            .map(|g| {
                let standard = &standards[g];
                let untested =
                    |status| GeneFit { status, loglik_null: f64::NAN, best: Vec::new(), calibrated: None };
                if standard.status != Status::Ok {
                    return untested(standard.status);
                }
                let gene = |k: usize| GeneView {
                    view: &views[k],
                    gene: g,
                    y: scaled.col_as_slice(g),
                    squares: &squares_of[g],
                };
                let calibrated = self.null.as_ref().map(|null| self.p_value(null, gene));
                let best: Option<Vec<KernelFit>> = (0..self.n_groups)
                    .map(|group| {
                        let found = found[g].iter().filter(|(k, _)| self.groups[*k] == group);
                        self.best_of(group, found, standard, gene)
                    })
                    .collect();
                let Some(best) = best else {
                    return GeneFit { calibrated, ..untested(Status::NotConverged) };
                };
                let loglik_null = constant_loglik(y.nrows()) + standard.shift(y.nrows());
                GeneFit { status: Status::Ok, loglik_null, best, calibrated }
            })
            .collect();
        Ok(fits)
    }

    /// The calibrated p-value of one gene.
    fn p_value<'a>(&self, null: &NullForms, gene: impl Fn(usize) -> GeneView<'a>) -> LogP {
        let mut forms = vec![0.0; null.len()];
        for (kernel, forms) in forms.chunks_mut(null.forms_per_kernel()).enumerate() {
            gene(kernel).forms(null, kernel, forms);
        }
        null.p_value(&forms, &null.gene(gene(0).y))
    }

    /// Refines the candidates that can still win, the most hopeful first. `None` if a kernel whose maximum is not
    /// known might win.
    fn best_of<'a, 'v>(
        &self,
        group: usize,
        found: impl Iterator<Item = &'a (usize, Candidate)>,
        standard: &Standard,
        gene: impl Fn(usize) -> GeneView<'v>,
    ) -> Option<KernelFit> {
        let mut found: Vec<&(usize, Candidate)> = found.collect();
        found.sort_by(|a, b| b.1.hope.total_cmp(&a.1.hope).then(a.0.cmp(&b.0)));
        let mut best: Option<(usize, Maximum)> = None;
        for &&(k, candidate) in &found {
            if best.is_some_and(|(_, maximum)| candidate.hope < maximum.value) {
                break;
            }
            let maximum = gene(k).refine(candidate);
            let better = best.is_none_or(|(kernel, known)| {
                (maximum.value, std::cmp::Reverse(k)) > (known.value, std::cmp::Reverse(kernel))
            });
            if better {
                best = Some((k, maximum));
            }
        }
        let (kernel, maximum) = best.expect("every finite likelihood has a maximum on its grid");
        let known = (0..self.models.len())
            .filter(|&k| self.groups[k] == group)
            .all(|k| gene(k).ceiling() < maximum.value);
        let llr = maximum.value - constant_loglik(self.locations.len());
        let exact = self.models[kernel].truncation() * (-maximum.log_delta).exp()
            <= TRUNCATION.0 + TRUNCATION.1 * llr;
        (known && exact).then(|| self.describe(kernel, &maximum, standard, &gene(kernel)))
    }

    fn describe(
        &self,
        kernel: usize,
        maximum: &Maximum,
        standard: &Standard,
        gene: &GeneView<'_>,
    ) -> KernelFit {
        let n = self.locations.len();
        let (means, s2) = gene.mean_and_scale(maximum.log_delta);
        let (delta, gower) = (maximum.log_delta.exp(), self.models[kernel].gower());
        let fsv = gower / (gower + delta);
        let samples = self.locations.samples();
        let mean = samples
            .iter()
            .zip(standard.means.iter().zip(&means))
            .map(|(rows, (centre, mu))| rows.len() as f64 * (centre + standard.scale * mu))
            .sum::<f64>()
            / n as f64;
        let unit = s2 * standard.scale * standard.scale;
        let loglik = maximum.value + standard.shift(n);
        let parameters = self.models[kernel].kernel().parameters();
        KernelFit {
            kernel,
            log_delta: maximum.log_delta,
            loglik,
            llr: (maximum.value - constant_loglik(n)).max(0.0),
            bic: -2.0 * loglik + parameters as f64 * (n as f64).ln(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{normal, scattered, two_samples, uniform};

    const KERNELS: [f64; 4] = [0.4, 1.0, 2.5, 6.0];

    fn kernels() -> Vec<Kernel> {
        KERNELS.map(|lengthscale| Kernel::SquaredExponential { lengthscale }).to_vec()
    }

    /// Noise, counts in a few spots, and smooth patterns of growing strength.
    fn genes(locations: &Locations, count: usize) -> Mat<f64> {
        let (mut normal, mut uniform) = (normal(5), uniform(6));
        let mut y = Mat::zeros(locations.len(), count);
        for g in 0..count {
            let strength = [0.0, 0.0, 0.3, 1.0, 2.0][g % 5];
            for i in 0..locations.len() {
                let x = locations.coords().row(i);
                let wave = (0..x.ncols()).map(|k| (x[k] / (2.0 + g as f64 / 3.0)).sin()).sum::<f64>();
                let sparse = if uniform() < 0.02 { 3.0 } else { 0.0 };
                y[(i, g)] = if g % 5 == 1 { sparse } else { strength * wave + normal() };
            }
        }
        y
    }

    fn fit(locations: &Locations, y: &Mat<f64>, approximation: Approximation) -> Vec<GeneFit> {
        let test = SpatialTest::with_groups(&kernels(), &[0; 4], locations.clone(), approximation).unwrap();
        test.calibrate().unwrap().fit(y.as_ref()).unwrap()
    }

    #[test]
    fn every_engine_agrees_with_the_exact_one() {
        for locations in [scattered(600, 2, 21), two_samples(400)] {
            let y = genes(&locations, 20);
            let exact = fit(&locations, &y, Approximation::Exact);
            let cholesky = fit(&locations, &y, Approximation::PivotedCholesky);
            let krylov = fit(&locations, &y, Approximation::Krylov);
            for (g, exact) in exact.iter().enumerate() {
                let (truth, tail) = (&exact.best[0], exact.calibrated.unwrap());
                let own = &cholesky[g];
                assert!((own.best[0].llr - truth.llr).abs() < 1e-3);
                assert!((own.calibrated.unwrap().log10_pval / tail.log10_pval - 1.0).abs() < 1e-4);
                let own = &krylov[g];
                println!(
                    "{g}: LLR {} (delta {:.2}), log p {}; krylov {:?} log p {}",
                    truth.llr,
                    truth.log_delta,
                    tail.log10_pval,
                    own.best.first().map(|b| b.llr),
                    own.calibrated.unwrap().log10_pval
                );
                if own.status == Status::Ok {
                    assert!((own.best[0].llr - truth.llr).abs() < 0.02 + 1e-4 * truth.llr);
                    assert!((own.best[0].fsv - truth.fsv).abs() < 0.01);
                } else {
                    assert_eq!(own.status, Status::NotConverged);
                    assert!(truth.log_delta < 0.0 && own.best.is_empty());
                }
            }
            let failed = krylov.iter().filter(|f| f.status != Status::Ok).count();
            assert!(failed <= 2, "{failed} of 20 genes did not converge");
        }
    }

    #[test]
    fn genes_that_do_not_converge_are_tested_exactly_where_that_is_affordable() {
        // Hardly any noise on a field that is finer than the spacing.
        let locations = scattered(1100, 2, 25);
        let mut y = genes(&locations, 6);
        let fine = Spectrum::dense(Kernel::SquaredExponential { lengthscale: 0.5 }, &locations).unwrap();
        let mut normal = normal(7);
        let draws: Vec<f64> = fine.values().iter().map(|s| s.sqrt() * normal()).collect();
        for i in 0..locations.len() {
            let row = fine.blocks()[0].vectors().row(i);
            y[(i, 3)] = (0..draws.len()).map(|k| row[k] * draws[k]).sum::<f64>() + 1e-4 * normal();
        }
        let kernels = [0.5, 4.0].map(|lengthscale| Kernel::SquaredExponential { lengthscale });
        let run = |approximation| {
            let test = SpatialTest::with_groups(&kernels, &[0; 2], locations.clone(), approximation).unwrap();
            assert!(approximation == Approximation::Exact || test.models()[0].engine() == "krylov");
            test.fit(y.as_ref()).unwrap()
        };
        let krylov = run(Approximation::Krylov);
        assert_eq!(krylov[3].status, Status::NotConverged);
        let (auto, exact) = (run(Approximation::Auto), run(Approximation::Exact));
        assert_eq!(auto[3].best, exact[3].best);
        for (own, exact) in auto.iter().zip(&exact) {
            let (own, exact) = (own.best[0].llr, exact.best[0].llr);
            assert!((own - exact).abs() < 0.02 + 1e-4 * exact, "{own} {exact}");
        }
    }

    #[test]
    fn sparse_kernels_have_the_score_forms_of_their_spectra() {
        for locations in [scattered(400, 2, 22), two_samples(200), scattered(300, 3, 23)] {
            let y = genes(&locations, 10);
            let test = |approximation| {
                let models =
                    SpatialTest::with_groups(&kernels()[..3], &[0; 3], locations.clone(), approximation);
                let mut test = models.unwrap();
                let sources: Vec<Source<'_>> = test.models.iter().map(Model::source).collect();
                test.null = Some(NullForms::from_sources(&sources, &locations, &[f64::INFINITY]).unwrap());
                test
            };
            let (dense, sparse) = (test(Approximation::Exact), test(Approximation::Krylov));
            let weights = |test: &SpatialTest| test.null.as_ref().unwrap().weights().to_vec();
            for (a, b) in weights(&dense).iter().zip(&weights(&sparse)) {
                assert!((a - b).abs() < 1e-6, "{a} {b}");
            }
            let blocks: Vec<Mat<f64>> = kernels()[..3]
                .iter()
                .map(|kernel| {
                    let entries = kernel.at(&locations);
                    let mut k = Mat::zeros(locations.len(), locations.len());
                    for rows in locations.samples() {
                        let block = entries.block(rows.clone());
                        k.as_mut()
                            .submatrix_mut(rows.start, rows.start, rows.len(), rows.len())
                            .copy_from(block);
                    }
                    k
                })
                .collect();
            let fits = dense.fit(y.as_ref()).unwrap().into_iter().zip(sparse.fit(y.as_ref()).unwrap());
            for (g, (a, b)) in fits.enumerate() {
                let mut centred = y.col(g).to_owned();
                for rows in locations.samples() {
                    let mean = rows.clone().map(|i| centred[i]).sum::<f64>() / rows.len() as f64;
                    rows.clone().for_each(|i| centred[i] -= mean);
                }
                let q: Vec<f64> = blocks.iter().map(|k| centred.transpose() * (k * &centred)).collect();
                let values: Vec<f64> = centred.iter().copied().collect();
                let moments = |test: &SpatialTest| {
                    let null = test.null.as_ref().unwrap();
                    null.pearson3(&q, &null.gene(&values))
                };
                for (a, b) in moments(&dense).iter().zip(moments(&sparse)) {
                    assert!((a - b).abs() <= 1e-4 * a.abs(), "{a} {b}");
                }
                // The correction of the tail takes K's eigenvalues for those of H K H.
                let (a, b) = (a.calibrated.unwrap().log10_pval, b.calibrated.unwrap().log10_pval);
                assert!((a - b).abs() < 0.2 * a.abs(), "{a} {b}");
            }
        }
    }

    #[test]
    fn krylov_results_depend_on_nothing_but_their_own_gene() {
        let locations = scattered(300, 2, 24);
        let y = genes(&locations, 40);
        let all = fit(&locations, &y, Approximation::Krylov);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let again = pool.install(|| fit(&locations, &y, Approximation::Krylov));
        let some = fit(&locations, &y.subcols(17, 9).to_owned(), Approximation::Krylov);
        // As text: NaN is not equal to itself.
        assert!(format!("{all:?}") == format!("{again:?}"));
        assert!(format!("{:?}", &all[17..26]) == format!("{some:?}"));
    }
}
