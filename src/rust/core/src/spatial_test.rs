//! The test of many genes: the best of several kernels for each.
//!
//! Genes are taken in blocks of fixed width. Each kernel's engine looks at a block as a whole and scans all likelihoods
//! on a grid of log delta; then the maxima that can win are refined gene by gene. Genes that an engine cannot settle are
//! tested again with dense spectra, as long as those are affordable.

use crate::engine::{Approximation, Fit, Request, TRUNCATION, settles_exactly};
use crate::error::{Error, Result, check_size};
use crate::gene::{CONSTANT, Standard, standardise};
use crate::grid::Grid;
use crate::grid::basis::{Basis, Entries, SparseGene};
use crate::interrupt;
use crate::kernel::Kernel;
use crate::likelihood::{Candidate, LOG_DELTA, Maximum, constant_loglik};
use crate::locations::Locations;
use crate::model::{Block, Likelihood, View};
use crate::moment_fit::moment_fit;
use crate::null::{DELTAS, GeneMoments, KernelForms, LogP, NullForms};
use crate::prepare::{self, AnyModel};
use faer::{Mat, MatRef};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

pub use crate::gene::Status;

/// Genes that are combinations, in a task.
const TOGETHER: usize = 8;

/// A combination whose sum of squares is below this share of its entries' is rounding error.
const CANCELLED: f64 = 1e-20;

/// Genes in a block over very many locations, where a block's memory counts.
const NARROW_BLOCK: (usize, usize) = (50_000, 16);

/// Genes in a block. Blocks are filled up with zeros, so that a gene's result does not depend on its neighbours.
const BLOCK: usize = 128;

/// What a gene's variances and lengthscale come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FittedBy {
    /// The likelihood.
    Likelihood,
    /// Moments, see [`crate::moment_fit`]: likelihoods are NaN.
    Moments,
}

impl FittedBy {
    /// `likelihood` or `moments`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Likelihood => "likelihood",
            Self::Moments => "moments",
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
    /// Its 95 % interval: all fractions that some kernel of the group and some delta reach with a log likelihood at most
    /// 3.0 below the maximum.
    pub fsv_interval: (f64, f64),
    /// The generalised least squares mean (over samples: the mean weighted by their sizes).
    pub mean: f64,
    /// Variance of the spatial part, s2 times Gower's factor (less what is [`crate::unshared`]).
    pub var_spatial: f64,
    /// Variance of the noise, s2 delta (and what is unshared).
    pub var_noise: f64,
}

/// One gene's result.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneFit {
    /// Whether it was tested; if not, the rest is NaN or empty (but for the p-value of one that did not converge).
    pub status: Status,
    /// The maximised log likelihood of the model without a spatial part.
    pub loglik_null: f64,
    /// What the fits come from.
    pub by: FittedBy,
    /// The best kernel of each group.
    pub best: Vec<KernelFit>,
    /// The calibrated p-value, if the test was asked for one.
    pub calibrated: Option<LogP>,
}

/// Kernels over some locations, ready to test genes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SpatialTest {
    locations: Locations,
    models: Vec<AnyModel>,
    /// The models' places among the kernels that were asked for.
    kept: Vec<usize>,
    groups: Vec<usize>,
    n_groups: usize,
    /// Whether genes that do not converge get another test.
    exact_if_needed: bool,
    /// Whether moments are wanted even where there are likelihoods.
    moments: bool,
    /// The models with dense spectra that those tests needed so far.
    #[serde(skip)]
    exact: Arc<Mutex<BTreeMap<usize, AnyModel>>>,
    null: Option<NullForms>,
    /// The variance of each kernel that counts as noise.
    unshared: Vec<f64>,
}

/// Half the 95 % quantile of a chi-squared variable with two degrees of freedom, -log(.05): how far below its maximum the
/// likelihood of lengthscale and delta ends what the data allow. (One degree of freedom would be enough for delta alone, but
/// lengthscales are few: on simulated genes between two of them such intervals have the truth in 81 % of the cases.)
const INTERVAL_DROP: f64 = 2.995_732_273_553_991;

impl SpatialTest {
    /// Prepares the kernels, each by the engine that suits it, in the current rayon pool; each gene gets the best of
    /// them all.
    pub fn new(kernels: &[Kernel], locations: Locations) -> Result<Self> {
        let groups = vec![0; kernels.len()];
        Self::with_groups(kernels, &groups, locations, Request::test(Approximation::Auto))
    }

    /// The same, but each gene gets the best kernel of each group; `groups` gives each kernel's, from 0 without gaps.
    ///
    /// Kernels that oscillate too fast for so many locations are left out, and with them groups that have no
    /// other: [`SpatialTest::kept`] has the rest.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where no engine can take another kernel, or no kernel is left; [`Error::Memory`] where there
    /// is too little memory. Both come before any kernel is computed.
    pub fn with_groups(
        kernels: &[Kernel],
        groups: &[usize],
        locations: Locations,
        request: Request,
    ) -> Result<Self> {
        if kernels.is_empty() || groups.len() != kernels.len() {
            return Err(Error::Shape { what: "groups", expected: kernels.len().max(1), got: groups.len() });
        }
        let models = prepare::models(kernels, &locations, request)?;
        let kept: Vec<usize> = (0..kernels.len()).filter(|&k| models[k].is_some()).collect();
        if kept.is_empty() {
            let (kernel, scale) = (kernels[0].name(), kernels[0].scale());
            return Err(Error::Unsupported { kernel, scale, n: locations.len() });
        }
        let present: BTreeSet<usize> = kept.iter().map(|&k| groups[k]).collect();
        let groups = kept.iter().map(|&k| present.range(..groups[k]).count()).collect();
        let models = models.into_iter().flatten().collect();
        let exact_if_needed = settles_exactly(&locations, request.approximation);
        let moments = request.fit == Fit::Moments;
        Ok(Self {
            kept,
            exact_if_needed: exact_if_needed && !moments,
            moments,
            ..Self::from_models(models, groups, locations)
        })
    }

    /// From kernels that are ready, by any engine; without another test of genes that do not converge.
    pub fn from_models(models: Vec<AnyModel>, groups: Vec<usize>, locations: Locations) -> Self {
        let n_groups = groups.iter().max().map_or(0, |g| g + 1);
        let kept = (0..models.len()).collect();
        let unshared = vec![0.0; models.len()];
        let (exact_if_needed, moments) = (false, false);
        Self {
            locations,
            models,
            kept,
            groups,
            n_groups,
            exact_if_needed,
            moments,
            exact: Arc::default(),
            null: None,
            unshared,
        }
    }

    /// What a location shares with no other is noise to the fraction of spatial variance; see [`crate::unshared`]. (Without
    /// this it is spatial, as in SpatialDE.)
    pub fn shared_variance(mut self) -> Self {
        let kernels: Vec<Kernel> = self.models.iter().map(|model| model.kernel()).collect();
        self.unshared = crate::unshared::unshared(&kernels, &self.locations);
        self
    }

    /// After reading from a file: plans grids again.
    pub(crate) fn linked(mut self) -> Result<Self> {
        let mut known = None;
        for model in &mut self.models {
            match model {
                AnyModel::Grid(model) => model.link(&self.locations, &mut known)?,
                AnyModel::Beside(model) => model.forms_mut().link(&self.locations, &mut known)?,
                _ => {}
            }
        }
        Ok(self)
    }

    /// The grid that all models share, if they do.
    fn grid(&self) -> Option<&Arc<Grid>> {
        let mut grids = self.models.iter().map(|model| match model {
            AnyModel::Grid(model) => model.grid(),
            _ => None,
        });
        let first = grids.next()??;
        grids.all(|grid| grid.is_some_and(|grid| Arc::ptr_eq(grid, first))).then_some(first)
    }

    /// Whether genes can be given as combinations of few functions, see [`SpatialTest::fit_combined`].
    pub fn takes_combinations(&self) -> bool {
        self.grid().is_some() && self.n_groups == 1 && self.null.is_some()
    }

    /// Makes functions of the locations ready, the columns of `functions` (n × functions), in the current rayon pool.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless [`SpatialTest::takes_combinations`].
    pub fn basis(&self, functions: MatRef<'_, f64>) -> Result<Basis> {
        let grid = self.grid().ok_or_else(|| self.no_grid())?;
        Basis::new(grid, functions)
    }

    fn no_grid(&self) -> Error {
        let kernel = self.models[0].kernel();
        Error::Unsupported { kernel: kernel.name(), scale: kernel.scale(), n: self.locations.len() }
    }

    /// Tests genes that are combinations of a basis' functions plus few entries, in the current rayon pool, as
    /// [`SpatialTest::fit`] does with their values. `coefficients` is functions × samples for each gene, one gene after the
    /// other.
    pub fn fit_combined(
        &self,
        basis: &Basis,
        coefficients: &[f64],
        entries: &[Entries<'_>],
    ) -> Result<Vec<GeneFit>> {
        let each = basis.functions() * self.locations.samples().len();
        let (Some(grid), Some(null)) = (self.grid(), &self.null) else { return Err(self.no_grid()) };
        check_size("coefficients", each * entries.len(), coefficients.len())?;
        let blocks: Result<Vec<Vec<GeneFit>>> = entries
            .par_chunks(TOGETHER)
            .enumerate()
            .map(|(block, entries)| {
                interrupt::check()?;
                let from = block * TOGETHER * each;
                let genes = basis.genes(grid, &coefficients[from..from + each * entries.len()], entries)?;
                Ok(genes
                    .iter()
                    .zip(entries)
                    .map(|(gene, own)| self.combined(grid, null, gene, own))
                    .collect())
            })
            .collect();
        Ok(blocks?.into_iter().flatten().collect())
    }

    fn combined(&self, grid: &Grid, null: &NullForms, gene: &SparseGene, entries: &Entries<'_>) -> GeneFit {
        let n = self.locations.len();
        let square: f64 = gene.sums.iter().map(|sums| sums[0]).sum();
        let scale = (square / n as f64).sqrt();
        if !scale.is_finite() {
            return GeneFit::untested(Status::NonFinite);
        }
        // The combination may take off all that the entries have, but for rounding.
        let taken: f64 = entries.values.iter().map(|v| v * v).sum();
        let largest = gene.means.iter().fold(0.0_f64, |most, mean| most.max(mean.abs()));
        if scale <= CONSTANT * largest || square <= CANCELLED * taken || scale == 0.0 {
            return GeneFit::untested(Status::Constant);
        }
        let each = null.deltas().len();
        let mut forms = vec![0.0; null.len()];
        for (forms, model) in forms.chunks_mut(each).zip(&self.models) {
            if let AnyModel::Grid(model) = model {
                for (form, &delta) in forms.iter_mut().zip(null.deltas()) {
                    *form = grid.form_at(|k| gene.forms[k], model.index(), delta);
                }
            }
        }
        let moments = null.gene_from_powers(&gene.sums);
        let standard = Standard { status: Status::Ok, means: gene.means.clone(), scale };
        GeneFit {
            status: Status::Ok,
            loglik_null: constant_loglik(n) + standard.shift(n),
            by: FittedBy::Moments,
            best: self.by_moments(null, &forms, &moments, &standard),
            calibrated: Some(null.p_value(&forms, &moments)),
        }
    }

    /// The moment fit of each group.
    fn by_moments(
        &self,
        null: &NullForms,
        forms: &[f64],
        gene: &GeneMoments,
        standard: &Standard,
    ) -> Vec<KernelFit> {
        let (n, samples) = (self.locations.len() as f64, self.locations.samples());
        let total = n / (n - samples.len() as f64);
        let each = null.deltas().len();
        let unit = standard.scale * standard.scale;
        let mean =
            samples.iter().zip(&standard.means).map(|(rows, mean)| rows.len() as f64 * mean).sum::<f64>() / n;
        let group = |group: usize| {
            let kernels = (0..self.models.len()).filter(|&k| self.groups[k] == group);
            let excess = |k: usize| null.excess(k, forms[k * each], gene);
            let fit = moment_fit(kernels.map(|k| (k, excess(k))), total)?;
            // Not the model's: a grid would have to compute it.
            let gower = excess(fit.kernel).gower;
            let shared = (1.0 - self.unshared[fit.kernel] / gower).clamp(0.0, 1.0);
            Some(KernelFit {
                kernel: fit.kernel,
                log_delta: fit.log_delta,
                loglik: f64::NAN,
                llr: f64::NAN,
                bic: f64::NAN,
                fsv: fit.fsv * shared,
                fsv_se: None,
                fsv_interval: (f64::NAN, f64::NAN),
                mean,
                var_spatial: unit * fit.variances[0] * shared,
                var_noise: unit * (fit.variances[1] + fit.variances[0] * (1.0 - shared)),
            })
        };
        (0..self.n_groups).filter_map(group).collect()
    }

    /// Adds calibrated p-values, over all kernels of all groups.
    ///
    /// # Errors
    /// [`Error::TooFewLocations`] if a sample has too few for the permutation moments.
    pub fn calibrate(self) -> Result<Self> {
        self.calibrate_at(&DELTAS)
    }

    /// The same from forms at other noise ratios.
    pub(crate) fn calibrate_at(mut self, deltas: &[f64]) -> Result<Self> {
        interrupt::check()?;
        NullForms::check(&self.locations, deltas)?;
        interrupt::expect(self.models.len());
        let forms = |model: &AnyModel| {
            let forms = model.forms(&self.locations, deltas);
            interrupt::step();
            forms
        };
        let forms: Vec<KernelForms> = self.models.par_iter().with_max_len(1).map(forms).collect();
        interrupt::check()?;
        self.null = Some(NullForms::new(&forms, &self.locations, deltas)?);
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

    /// Which of the kernels asked for the models are, counted from 0.
    pub fn kept(&self) -> &[usize] {
        &self.kept
    }

    /// The kernels.
    pub fn models(&self) -> &[AnyModel] {
        &self.models
    }

    /// The null distribution of the calibrated p-values, if they were asked for.
    pub fn null(&self) -> Option<&NullForms> {
        self.null.as_ref()
    }

    /// Tests genes, the columns of `y` (n × genes), in the current rayon pool. Results are in the order of the
    /// columns, and each depends on its own column only, bit for bit.
    pub fn fit(&self, y: MatRef<'_, f64>) -> Result<Vec<GeneFit>> {
        check_size("rows of the expression matrix", self.locations.len(), y.nrows())?;
        let mut outcomes = self.outcomes(y)?;
        if self.exact_if_needed {
            self.settle(y, &mut outcomes)?;
        }
        Ok(outcomes.into_iter().map(|outcome| outcome.fit).collect())
    }

    /// Tests genes that have not converged again. Each gets dense spectra where it needs them and nowhere else, whatever
    /// others need.
    fn settle(&self, y: MatRef<'_, f64>, outcomes: &mut [Outcome]) -> Result<()> {
        loop {
            let mut alike: BTreeMap<BTreeSet<usize>, Vec<usize>> = BTreeMap::new();
            for (g, outcome) in outcomes.iter().enumerate().filter(|(_, own)| !own.unsettled.is_empty()) {
                alike.entry(outcome.unsettled.clone()).or_default().push(g);
            }
            if alike.is_empty() {
                return Ok(());
            }
            for (kernels, genes) in alike {
                let again = Mat::from_fn(y.nrows(), genes.len(), |i, k| y[(i, genes[k])]);
                let found = self.with_exact(&kernels)?.outcomes(again.as_ref())?;
                for (g, mut outcome) in genes.into_iter().zip(found) {
                    outcome.fit.calibrated = outcomes[g].fit.calibrated;
                    if !outcome.unsettled.is_empty() {
                        outcome.unsettled.extend(&kernels);
                    }
                    outcomes[g] = outcome;
                }
            }
        }
    }

    fn outcomes(&self, y: MatRef<'_, f64>) -> Result<Vec<Outcome>> {
        let width = if self.grid().is_some() && y.nrows() > NARROW_BLOCK.0 { NARROW_BLOCK.1 } else { BLOCK };
        let blocks: Result<Vec<Vec<Outcome>>> = (0..y.ncols().div_ceil(width))
            .into_par_iter()
            .with_max_len(1)
            .map(|b| {
                let start = b * width;
                self.fit_block(y.subcols(start, width.min(y.ncols() - start)), width)
            })
            .collect();
        Ok(blocks?.into_iter().flatten().collect())
    }

    /// The same test with dense spectra of some kernels, and without p-values.
    fn with_exact(&self, kernels: &BTreeSet<usize>) -> Result<Self> {
        let known = || self.exact.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<usize> = kernels.iter().copied().filter(|k| !known().contains_key(k)).collect();
        let made: Result<Vec<AnyModel>> = missing
            .par_iter()
            .with_max_len(1)
            .map(|&k| prepare::exact(&self.models[k], &self.locations))
            .collect();
        known().extend(missing.into_iter().zip(made?));
        let models = self.models.iter().enumerate();
        let models = models
            .map(|(k, model)| known().get(&k).filter(|_| kernels.contains(&k)).unwrap_or(model).clone());
        let exact = Self::from_models(models.collect(), self.groups.clone(), self.locations.clone());
        Ok(Self { unshared: self.unshared.clone(), ..exact })
    }

    fn fit_block(&self, y: MatRef<'_, f64>, width: usize) -> Result<Vec<Outcome>> {
        let mut scaled = Mat::<f64>::zeros(y.nrows(), width);
        let standards: Vec<Standard> =
            (0..y.ncols()).map(|g| standardise(y, g, &self.locations, scaled.as_mut())).collect();
        let testable = standards.iter().map(|s| s.status == Status::Ok).collect();
        let deltas = self.null.as_ref().map_or(&[][..], NullForms::deltas);
        let block = Block::new(scaled, &self.locations, testable, deltas);
        let mut views = Vec::with_capacity(self.models.len());
        for model in &self.models {
            interrupt::check()?;
            views.push(model.view(&block)?);
        }
        let gene = |(g, standard): (usize, &Standard)| {
            if standard.status == Status::Ok {
                Gene { test: self, views: &views, block: &block, gene: g, standard }.fit()
            } else {
                GeneFit::untested(standard.status).into()
            }
        };
        Ok(standards.iter().enumerate().map(gene).collect())
    }
}

impl GeneFit {
    fn untested(status: Status) -> Self {
        let (by, best) = (FittedBy::Likelihood, Vec::new());
        Self { status, loglik_null: f64::NAN, by, best, calibrated: None }
    }
}

/// What came of a gene.
struct Outcome {
    fit: GeneFit,
    /// The kernels that another engine has to settle; none unless the gene has not converged.
    unsettled: BTreeSet<usize>,
}

impl From<GeneFit> for Outcome {
    fn from(fit: GeneFit) -> Self {
        Self { fit, unsettled: BTreeSet::new() }
    }
}

/// One gene of a block, as all models see it.
struct Gene<'a> {
    test: &'a SpatialTest,
    views: &'a [Box<dyn View + 'a>],
    block: &'a Block<'a>,
    gene: usize,
    standard: &'a Standard,
}

impl Gene<'_> {
    fn fit(&self) -> Outcome {
        let n = self.test.locations.len();
        let loglik_null = constant_loglik(n) + self.standard.shift(n);
        if let Some(null) = self.test.null.as_ref().filter(|_| self.by_moments()) {
            let forms = self.forms(null);
            let moments = null.gene(self.block.gene(self.gene));
            let fit = GeneFit {
                status: Status::Ok,
                loglik_null,
                by: FittedBy::Moments,
                best: self.test.by_moments(null, &forms, &moments, self.standard),
                calibrated: Some(null.p_value(&forms, &moments)),
            };
            return fit.into();
        }
        let calibrated = self.test.null.as_ref().map(|null| self.p_value(null));
        let (mut best, mut unsettled) = (Vec::new(), BTreeSet::new());
        for group in 0..self.test.n_groups {
            match self.best_of(group) {
                Ok(fit) => best.push(fit),
                Err(kernels) => {
                    unsettled.extend(kernels.into_iter().filter(|&k| !self.test.models[k].always_converges()))
                }
            }
        }
        if best.len() < self.test.n_groups {
            let fit = GeneFit { calibrated, ..GeneFit::untested(Status::NotConverged) };
            return Outcome { fit, unsettled };
        }
        // Values whose squares are just within the range of doubles have variances that are not.
        if best.iter().any(|fit| !(fit.var_spatial.is_finite() && fit.var_noise.is_finite())) {
            return GeneFit::untested(Status::NonFinite).into();
        }
        GeneFit { status: Status::Ok, loglik_null, by: FittedBy::Likelihood, best, calibrated }.into()
    }

    /// The calibrated p-value.
    fn p_value(&self, null: &NullForms) -> LogP {
        null.p_value(&self.forms(null), &null.gene(self.block.gene(self.gene)))
    }

    fn forms(&self, null: &NullForms) -> Vec<f64> {
        let mut forms = vec![0.0; null.len()];
        for (view, forms) in self.views.iter().zip(forms.chunks_mut(null.deltas().len())) {
            view.forms(self.gene, forms);
        }
        forms
    }

    /// Where one kernel has no likelihood, no likelihood is comparable.
    fn by_moments(&self) -> bool {
        self.test.moments || self.views.iter().any(|view| view.likelihood().is_none())
    }

    /// Refines the candidates that can still win, the one with the largest upper bound first.
    ///
    /// # Errors
    /// The kernels that might win and whose maxima are not known well enough.
    fn best_of(&self, group: usize) -> std::result::Result<KernelFit, Vec<usize>> {
        let models = || {
            let of_group = (0..self.views.len()).filter(|&k| self.test.groups[k] == group);
            of_group.filter_map(|k| self.views[k].likelihood().map(|likelihood| (k, likelihood)))
        };
        let mut found: Vec<(usize, Candidate)> = Vec::new();
        for (k, likelihood) in models() {
            likelihood.scan(self.gene, &mut |candidate| found.push((k, candidate)));
        }
        found.sort_by(|a, b| b.1.upper_bound.total_cmp(&a.1.upper_bound).then(a.0.cmp(&b.0)));
        let mut best: Option<(usize, Maximum)> = None;
        for (k, candidate) in found {
            if best.is_some_and(|(_, maximum)| candidate.upper_bound < maximum.value) {
                break;
            }
            let Some(likelihood) = self.views[k].likelihood() else { continue };
            let maximum = likelihood.refine(self.gene, candidate);
            let better = best.is_none_or(|(kernel, known)| {
                (maximum.value, std::cmp::Reverse(k)) > (known.value, std::cmp::Reverse(kernel))
            });
            if better {
                best = Some((k, maximum));
            }
        }
        let Some((kernel, maximum)) = best else { return Err(models().map(|(k, _)| k).collect()) };
        let llr = maximum.value - constant_loglik(self.test.locations.len());
        let certain = self.test.models[kernel].doubt(maximum.log_delta) <= TRUNCATION.0 + TRUNCATION.1 * llr;
        let below = |likelihood: &dyn Likelihood| likelihood.ceiling(self.gene) < maximum.value;
        let unknown: Vec<usize> = models()
            .filter(|(k, likelihood)| !below(*likelihood) || (!certain && *k == kernel))
            .map(|(k, _)| k)
            .collect();
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let least = maximum.value - INTERVAL_DROP;
        let ranges =
            models().filter_map(|(k, likelihood)| Some((k, likelihood.range_above(self.gene, least)?)));
        let interval = self.fsv_interval(kernel, &maximum, ranges);
        self.describe(kernel, &maximum, interval).ok_or_else(|| vec![kernel])
    }

    /// Fraction of spatial variance of a kernel.
    fn fsv(&self, kernel: usize, log_delta: f64) -> f64 {
        if log_delta >= LOG_DELTA.1 {
            return 0.0;
        }
        let gower = self.test.models[kernel].gower();
        (gower - self.test.unshared[kernel]).max(0.0) / (gower + log_delta.exp())
    }

    /// The fractions that kernels reach within ranges of log delta. A sharp maximum may lie between the points of the grid.
    fn fsv_interval(
        &self,
        best: usize,
        maximum: &Maximum,
        ranges: impl Iterator<Item = (usize, (f64, f64))>,
    ) -> (f64, f64) {
        let ranges: Vec<(usize, (f64, f64))> = ranges.collect();
        let found = ranges.iter().any(|(k, _)| *k == best);
        let width = maximum.curvature.filter(|_| !found).map_or(0.0, |c| (2.0 * INTERVAL_DROP / -c).sqrt());
        let around = (maximum.log_delta - width, maximum.log_delta + width);
        let (mut low, mut high) = (1.0_f64, 0.0_f64);
        for (k, (from, to)) in ranges.into_iter().chain([(best, around)]) {
            low = low.min(self.fsv(k, to));
            high = high.max(self.fsv(k, from));
        }
        (low, high)
    }

    fn describe(&self, kernel: usize, maximum: &Maximum, fsv_interval: (f64, f64)) -> Option<KernelFit> {
        let (model, standard) = (&self.test.models[kernel], self.standard);
        let n = self.test.locations.len();
        let (means, s2) = self.views[kernel].likelihood()?.mean_and_scale(self.gene, maximum.log_delta);
        let (delta, gower) = (maximum.log_delta.exp(), model.gower());
        let unshared = self.test.unshared[kernel].min(gower);
        let shared = gower - unshared;
        let fsv = shared / (gower + delta);
        // Its derivative in log delta.
        let slope = fsv * (1.0 - gower / (gower + delta));
        let samples = self.test.locations.samples();
        let mean = samples
            .iter()
            .zip(standard.means.iter().zip(&means))
            .map(|(rows, (centre, mu))| rows.len() as f64 * (centre + standard.scale * mu))
            .sum::<f64>()
            / n as f64;
        let unit = s2 * standard.scale * standard.scale;
        let loglik = maximum.value + standard.shift(n);
        let parameters = model.kernel().parameters();
        Some(KernelFit {
            kernel,
            log_delta: maximum.log_delta,
            loglik,
            llr: (maximum.value - constant_loglik(n)).max(0.0),
            bic: -2.0 * loglik + parameters as f64 * (n as f64).ln(),
            fsv,
            fsv_se: maximum.curvature.map(|curvature| slope / (-curvature).sqrt()),
            fsv_interval,
            mean,
            var_spatial: unit * shared,
            var_noise: unit * (delta + unshared),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{grid_with_gaps, irregular, normal, scattered, se, two_samples, uniform};
    use crate::spectrum::Spectrum;

    const KERNELS: [f64; 4] = [0.4, 1.0, 2.5, 6.0];

    fn kernels() -> Vec<Kernel> {
        KERNELS.map(se).to_vec()
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
        let test =
            SpatialTest::with_groups(&kernels(), &[0; 4], locations.clone(), Request::test(approximation))
                .unwrap();
        test.calibrate().unwrap().fit(y.as_ref()).unwrap()
    }

    #[test]
    fn forms_on_a_grid_have_the_p_values_of_dense_ones() {
        let mut narrow = 0;
        for locations in [scattered(900, 2, 21), two_samples(500)] {
            let y = genes(&locations, 30);
            let kernels: Vec<Kernel> = [0.4, 1.0, 2.0, 5.0, 12.0, 40.0].map(se).to_vec();
            let fits = |approximation| {
                let request = Request { fit: Fit::Moments, ..Request::test(approximation) };
                let test = SpatialTest::with_groups(&kernels, &[0; 6], locations.clone(), request).unwrap();
                let test = test.shared_variance().calibrate_at(&[f64::INFINITY]).unwrap();
                test.fit(y.as_ref()).unwrap()
            };
            let exact = fits(Approximation::Exact);
            for (g, (own, exact)) in fits(Approximation::Grid).iter().zip(&exact).enumerate() {
                assert_eq!((own.status, own.by), (exact.status, FittedBy::Moments));
                let (p, q) = (own.calibrated.unwrap().log10_pval, exact.calibrated.unwrap().log10_pval);
                assert!((p - q).abs() < 1e-3 * q.abs().max(1.0), "{g}: {p} {q}");
                let (own, exact) = (own.best[0], exact.best[0]);
                assert_eq!(own.kernel, exact.kernel);
                // Of the first kernel most is unshared, and noise.
                let total = own.var_spatial + own.var_noise;
                assert!((own.var_spatial / total - own.fsv).abs() < 1e-12 && total > 0.0);
                narrow += usize::from(own.kernel == 0 && own.fsv > 0.0);
                for (own, exact) in [
                    (own.fsv, exact.fsv),
                    (own.mean, exact.mean),
                    (own.var_noise, exact.var_noise),
                    (own.var_spatial, exact.var_spatial),
                ] {
                    assert!((own - exact).abs() < 1e-6, "{g}: {own} {exact}");
                }
            }
        }
        assert!(narrow > 0, "a gene of the kernel that is unshared");
    }

    #[test]
    fn without_likelihoods_p_values_are_nearly_the_same() {
        let mut kernels: Vec<Kernel> = [0.25, 0.5, 0.9, 1.8, 3.5, 7.0, 13.0, 25.0, 50.0].map(se).to_vec();
        for locations in [scattered(1300, 2, 9), grid_with_gaps(36)] {
            let n = locations.len();
            let mut normal = normal(12);
            // Draws of two kernels, weak and strong.
            let y =
                [(2.0, 0.1), (2.0, 0.5), (6.0, 0.1), (6.0, 0.5)].map(|(lengthscale, share): (f64, f64)| {
                    let drawn = Spectrum::dense(se(lengthscale), &locations).unwrap();
                    let vectors = drawn.blocks()[0].vectors();
                    let root = |k: usize| drawn.values()[k].max(0.0).sqrt();
                    let smooth = &*vectors * Mat::from_fn(vectors.ncols(), 3, |k, _| root(k) * normal());
                    Mat::from_fn(n, 3, |i, g| share.sqrt() * smooth[(i, g)] + (1.0 - share).sqrt() * normal())
                });
            let y = Mat::from_fn(n, 12, |i, g| y[g / 3][(i, g % 3)]);
            let fits = |fit, kernels: &[Kernel]| {
                let request = Request { fit, ..Request::test(Approximation::Auto) };
                let groups = vec![0; kernels.len()];
                let test = SpatialTest::with_groups(kernels, &groups, locations.clone(), request).unwrap();
                test.calibrate().unwrap().fit(y.as_ref()).unwrap()
            };
            let log_p = |fits: Vec<GeneFit>| -> Vec<f64> {
                fits.iter().map(|fit| fit.calibrated.unwrap().log10_pval).collect()
            };
            let likelihood = log_p(fits(Fit::Likelihood, &kernels));
            for (own, expected) in log_p(fits(Fit::Moments, &kernels)).iter().zip(likelihood) {
                assert!((own / expected - 1.0).abs() < 0.1, "{own} {expected}");
            }
            kernels.remove(0);
        }
    }

    #[test]
    fn moments_find_the_variances_and_the_lengthscale_of_draws() {
        // Draws of a kernel with fsv 0.3 among noise, and noise alone.
        let locations = scattered(1500, 2, 5);
        let drawn = Spectrum::dense(se(3.0), &locations).unwrap();
        let block = drawn.blocks()[0].vectors();
        let mut normal = normal(8);
        let count = 40;
        let z = Mat::from_fn(block.ncols(), count, |k, _| drawn.values()[k].max(0.0).sqrt() * normal());
        let smooth = &*block * &z;
        let y = Mat::from_fn(1500, 2 * count, |i, g| {
            if g < count { 0.3_f64.sqrt() * smooth[(i, g)] + 0.7_f64.sqrt() * normal() } else { normal() }
        });
        let kernels: Vec<Kernel> = [0.5, 1.0, 1.7, 3.0, 5.2, 9.0, 20.0].map(se).to_vec();
        let request = Request { fit: Fit::Moments, ..Request::test(Approximation::Grid) };
        let test = SpatialTest::with_groups(&kernels, &[0; 7], locations, request).unwrap();
        let gower = test.models()[3].gower();
        let fits = test.calibrate().unwrap().fit(y.as_ref()).unwrap();
        let near = fits[..count].iter().filter(|f| (2..=4).contains(&f.best[0].kernel)).count();
        let mean = |fits: &[GeneFit]| fits.iter().map(|f| f.best[0].fsv).sum::<f64>() / fits.len() as f64;
        let (signal, noise) = (mean(&fits[..count]), mean(&fits[count..]));
        assert!(near >= count * 9 / 10, "{near} of {count} lengthscales are next to the true one");
        let expected = 0.3 * gower / (0.3 * gower + 0.7);
        assert!((signal - expected).abs() < 0.03, "{signal} {expected}");
        assert!(noise < 0.03, "{noise}");
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
        let fine = Spectrum::dense(se(0.5), &locations).unwrap();
        let mut normal = normal(7);
        let draws: Vec<f64> = fine.values().iter().map(|s| s.sqrt() * normal()).collect();
        let vectors = fine.blocks()[0].vectors();
        for i in 0..locations.len() {
            let row = vectors.row(i);
            y[(i, 3)] = (0..draws.len()).map(|k| row[k] * draws[k]).sum::<f64>() + 1e-4 * normal();
        }
        let kernels = [0.5, 4.0].map(se);
        let run = |approximation| {
            let test =
                SpatialTest::with_groups(&kernels, &[0; 2], locations.clone(), Request::test(approximation))
                    .unwrap();
            assert!(approximation == Approximation::Exact || test.models()[0].engine() == "krylov");
            test.calibrate().unwrap().fit(y.as_ref()).unwrap()
        };
        let krylov = run(Approximation::Krylov);
        assert_eq!(krylov[3].status, Status::NotConverged);
        let (auto, exact) = (run(Approximation::Auto), run(Approximation::Exact));
        assert_eq!(auto[3].best, exact[3].best);
        // Its p-value is that of the engines it was tested by first.
        let p = |fits: &[GeneFit]| fits[3].calibrated.unwrap().log10_pval;
        assert!((p(&auto) / p(&krylov) - 1.0).abs() < 1e-9 && p(&auto) != p(&exact));
        for (own, exact) in auto.iter().zip(&exact) {
            let (own, exact) = (own.best[0].llr, exact.best[0].llr);
            assert!((own - exact).abs() < 0.02 + 1e-4 * exact, "{own} {exact}");
        }
    }

    #[test]
    fn a_gene_gets_dense_spectra_where_it_needs_them_whatever_others_need() {
        let locations = scattered(1100, 2, 25);
        let n = locations.len();
        let kernels = [0.35, 0.6, 4.0].map(se);
        // Hardly any noise on fields that are finer than the spacing.
        let mut normal = normal(7);
        let mut y = Mat::<f64>::zeros(n, 3);
        for g in 0..2 {
            let fine = Spectrum::dense(kernels[g], &locations).unwrap();
            let vectors = fine.blocks()[0].vectors();
            let draws = Mat::from_fn(fine.rank(), 1, |k, _| fine.values()[k].max(0.0).sqrt() * normal());
            let field = &*vectors * draws;
            (0..n).for_each(|i| y[(i, g)] = field[(i, 0)] + 1e-4 * normal());
        }
        (0..n).for_each(|i| y[(i, 2)] = normal());
        let test = |y: MatRef<'_, f64>| {
            let request = Request::test(Approximation::Auto);
            let test = SpatialTest::with_groups(&kernels, &[0; 3], locations.clone(), request).unwrap();
            let engines: Vec<&str> = test.models().iter().map(|model| model.engine()).collect();
            assert_eq!(engines, ["krylov", "krylov", "pivoted_cholesky"]);
            let fits = test.fit(y).unwrap();
            let exact: Vec<usize> = test.exact.lock().unwrap().keys().copied().collect();
            (fits, exact)
        };
        let (together, exact) = test(y.as_ref());
        let alone: Vec<(Vec<GeneFit>, Vec<usize>)> = (0..3).map(|g| test(y.as_ref().subcols(g, 1))).collect();
        assert!(alone.iter().zip(&together).all(|(alone, fit)| alone.0[0] == *fit));
        let needed: Vec<&[usize]> = alone.iter().map(|(_, exact)| &exact[..]).collect();
        assert_eq!(needed, [&[][..], &[1], &[]]);
        assert_eq!(exact, [1]);
        assert!(together.iter().all(|fit| fit.status == Status::Ok));
    }

    #[test]
    fn sparse_kernels_have_the_score_forms_of_their_spectra() {
        for locations in [scattered(400, 2, 22), two_samples(200), scattered(300, 3, 23)] {
            let y = genes(&locations, 10);
            let test = |approximation| {
                let models = SpatialTest::with_groups(
                    &kernels()[..3],
                    &[0; 3],
                    locations.clone(),
                    Request::test(approximation),
                );
                models.unwrap().calibrate_at(&[f64::INFINITY]).unwrap()
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

    #[test]
    fn gowers_factor_is_the_mean_variance_within_samples() {
        for (locations, kernel) in
            [(two_samples(40), se(0.7)), (two_samples(40), se(3.0)), (two_samples(300), se(0.4))]
        {
            let k = kernel.at(&locations);
            // tr H K H over the n - 2 dimensions of what is centred in two samples.
            let mut trace = 0.0;
            for rows in locations.samples() {
                let block = k.block(rows.clone());
                let n = rows.len() as f64;
                trace += (0..rows.len()).map(|i| block[(i, i)]).sum::<f64>() - block.sum() / n;
            }
            let expected = trace / (locations.len() as f64 - 2.0);
            let mut engines = Vec::new();
            for approximation in [Approximation::Exact, Approximation::Krylov, Approximation::Grid] {
                let request = Request { fit: Fit::Moments, ..Request::test(approximation) };
                let test = SpatialTest::with_groups(&[kernel], &[0], locations.clone(), request).unwrap();
                let gower = test.models()[0].gower();
                engines.push(test.models()[0].engine());
                assert!((gower - expected).abs() < 1e-6, "{gower} {expected}");
                // The moments' own.
                let test = test.calibrate_at(&[f64::INFINITY]).unwrap();
                let null = test.null().unwrap();
                let y: Vec<f64> = (0..locations.len()).map(|i| ((i * i) as f64).sin()).collect();
                let own = null.excess(0, 1.0, &null.gene(&y)).gower;
                assert!((own - expected).abs() < 1e-6, "{own} {expected}");
            }
            assert!(locations.len() < 300 || engines == ["dense", "krylov", "grid"], "{engines:?}");
        }
    }

    #[test]
    fn a_truncated_kernels_best_fit_has_converged_only_where_truncation_does_not_matter() {
        let locations = scattered(300, 2, 26);
        let kernel = se(3.0);
        let mut normal = normal(8);
        let x = locations.coords().to_owned();
        // A smooth field with less and less noise.
        let noise = [1.0, 0.3, 0.03, 1e-4];
        let y = Mat::from_fn(300, 4, |i, g| (x[(i, 0)] / 4.0).sin() + noise[g] * normal());
        let fits = |tolerance: f64| {
            let spectrum = Spectrum::pivoted_cholesky(kernel, &locations, tolerance, 300).unwrap().unwrap();
            let model = AnyModel::Spectral(spectrum.into());
            let doubt = model.error_bound();
            let test = SpatialTest::from_models(vec![model], vec![0], locations.clone());
            (test.fit(y.as_ref()).unwrap(), doubt)
        };
        let (fine, _) = fits(1e-13);
        assert!(fine.iter().all(|fit| fit.status == Status::Ok));
        let (coarse, doubt) = fits(1e-5);
        for (own, truth) in coarse.iter().zip(&fine) {
            let truth = &truth.best[0];
            let off = doubt * (-truth.log_delta).exp() / (0.02 + 1e-4 * truth.llr);
            // Near the bound the fits themselves differ.
            if off > 2.0 {
                assert_eq!(own.status, Status::NotConverged, "{off}");
            } else if off < 0.5 {
                assert_eq!(own.status, Status::Ok, "{off}");
                assert!((own.best[0].llr - truth.llr).abs() < 0.02 + 1e-4 * truth.llr);
            }
        }
        let count = |status| coarse.iter().filter(|fit| fit.status == status).count();
        assert!(count(Status::Ok) > 0 && count(Status::NotConverged) > 0);
    }

    /// Smooth functions with much, little and next to no noise; small noise makes likelihoods with two maxima.
    fn smooth_and_noisy(locations: &Locations, count: usize, uniform: &mut dyn FnMut() -> f64) -> Mat<f64> {
        let (n, x) = (locations.len(), locations.coords());
        let mut normal = normal(9);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        x.col(0).iter().for_each(|&x| (low, high) = (low.min(x), high.max(x)));
        let mut y = Mat::zeros(n, count);
        for g in 0..count {
            let noise = 10f64.powf(if g % 2 == 0 { 4.5 * uniform() - 4.0 } else { 1.5 * uniform() - 1.0 });
            let (a, b) = (30.0 * uniform(), 30.0 * uniform());
            for i in 0..n {
                let place = |k: usize| (x[(i, k)] - low) / (high - low);
                let (u, v) = (place(0), place(x.ncols() - 1));
                let smooth = match g % 7 {
                    0 => (u - 0.5).powi(2),
                    1 => (a * u).sin(),
                    2 => u * v,
                    3 => (0.2 * a * v).cos() + 0.1 * (b * u).sin(),
                    4 => u + v.powi(3),
                    5 => (a * u).sin() * (b * v).cos(),
                    _ => 0.0,
                };
                y[(i, g)] = smooth + noise * normal();
            }
        }
        y
    }

    #[test]
    fn every_engine_agrees_at_any_lengthscale_or_says_so() {
        let mut uniform = uniform(10);
        let layouts = [
            scattered(150, 2, 27),
            scattered(260, 2, 3),
            grid_with_gaps(15),
            two_samples(120),
            irregular(120, 1, 6),
        ];
        let (mut sparse, mut ok) = (0, 0);
        for (round, locations) in (0..60).zip(layouts.iter().cycle()) {
            let y = smooth_and_noisy(locations, 21, &mut uniform);
            // Of .01 to 10 times the extent; every other one where a sparse matrix is used.
            let lengthscale = if round % 2 == 0 {
                locations.distance_range().1 * 10f64.powf(3.0 * uniform() - 2.0)
            } else {
                locations.spacing() * 10f64.powf(0.8 * uniform() - 0.5)
            };
            let kernel =
                if round % 3 == 2 { Kernel::matern32(lengthscale).unwrap() } else { se(lengthscale) };
            let fit = |approximation| {
                let request = Request::test(approximation);
                let test = SpatialTest::with_groups(&[kernel], &[0], locations.clone(), request).unwrap();
                (test.models()[0].engine(), test.fit(y.as_ref()).unwrap())
            };
            let exact = fit(Approximation::Exact).1;
            for approximation in [Approximation::PivotedCholesky, Approximation::Krylov] {
                let (engine, fits) = fit(approximation);
                sparse += usize::from(engine == "krylov");
                for (g, (own, exact)) in fits.iter().zip(&exact).enumerate() {
                    if own.status != Status::Ok {
                        continue;
                    }
                    ok += 1;
                    let (own, truth) = (own.best[0].llr, exact.best[0].llr);
                    let off = (own - truth).abs();
                    assert!(off < 0.03 + 1e-4 * truth, "{engine}, {kernel:?}, gene {g}: {own} {truth}");
                }
            }
        }
        assert!(sparse >= 15 && ok > 60 * 21, "{sparse} {ok}");
    }

    #[test]
    fn a_grid_agrees_at_any_lengthscale() {
        let mut uniform = uniform(12);
        let layouts = [scattered(900, 2, 3), grid_with_gaps(30), two_samples(500), irregular(800, 1, 6)];
        for (_, locations) in (0..8).zip(layouts.iter().cycle()) {
            let y = smooth_and_noisy(locations, 14, &mut uniform);
            let kernel = [se(locations.distance_range().1 * 10f64.powf(3.0 * uniform() - 2.0))];
            let fit = |approximation| {
                let request = Request { fit: Fit::Moments, ..Request::test(approximation) };
                let test = SpatialTest::with_groups(&kernel, &[0], locations.clone(), request).unwrap();
                test.calibrate_at(&[f64::INFINITY]).unwrap().fit(y.as_ref()).unwrap()
            };
            for (g, (own, exact)) in
                fit(Approximation::Grid).iter().zip(fit(Approximation::Exact)).enumerate()
            {
                let (p, q) = (own.calibrated.unwrap().log10_pval, exact.calibrated.unwrap().log10_pval);
                assert!((p - q).abs() < 5e-3 * q.abs() + 1e-3, "{kernel:?}, gene {g}: {p} {q}");
                let (own, exact) = (own.best[0], exact.best[0]);
                let off = (own.fsv - exact.fsv).abs();
                assert!(off < 1e-4 + 1e-3 * exact.fsv, "{kernel:?}, gene {g}: {} {}", own.fsv, exact.fsv);
            }
        }
    }

    #[test]
    fn values_at_the_ends_of_doubles_cost_their_own_gene_only() {
        let locations = scattered(30, 2, 28);
        let mut normal = normal(11);
        let scales = [1.0, 1e200, 1e-200, 1e150, 1e-150, 1e308, 5e-324, 1.0];
        let y = Mat::from_fn(30, 8, |_, g| normal() * scales[g]);
        let test = SpatialTest::new(&[se(1.0), se(3.0)], locations).unwrap().calibrate().unwrap();
        let fits = test.fit(y.as_ref()).unwrap();
        for g in [0, 3, 4, 7] {
            assert_eq!(fits[g].status, Status::Ok, "{g}");
            let best = &fits[g].best[0];
            assert!(best.var_spatial.is_finite() && best.var_noise > 0.0 && best.var_noise.is_finite());
        }
        for g in [1, 2, 5, 6] {
            assert_eq!(fits[g].status, Status::NonFinite, "{g}");
        }
        assert_eq!(fits[0], test.fit(y.subcols(0, 1)).unwrap()[0]);
    }

    #[test]
    fn a_sample_at_the_origin_and_kernels_that_are_constant_do_no_harm() {
        // The linear kernel is zero over the first sample.
        let x = Mat::from_fn(18, 2, |i, k| if i < 8 { 0.0 } else { (i * (k + 2)) as f64 % 5.0 });
        let locations = Locations::with_samples(x.as_ref(), &[8, 10]).unwrap();
        let y = Mat::from_fn(18, 2, |i, g| ((i * i + g) as f64).sin());
        for approximation in [Approximation::Exact, Approximation::PivotedCholesky] {
            let request = Request::test(approximation);
            let kernel = [Kernel::linear()];
            let test = SpatialTest::with_groups(&kernel, &[0], locations.clone(), request).unwrap();
            assert!(test.fit(y.as_ref()).unwrap().iter().all(|fit| fit.status == Status::Ok));
        }
        // So long that a factor's tolerance leaves nothing but the constant: the exact engine takes over.
        let locations = scattered(8, 2, 29);
        let y = Mat::from_fn(8, 3, |i, g| ((i * (g + 2)) as f64).sin());
        let p = |approximation| -> Vec<f64> {
            let request = Request::test(approximation);
            let test = SpatialTest::with_groups(&[se(1e6)], &[0], locations.clone(), request).unwrap();
            let fits = test.calibrate().unwrap().fit(y.as_ref()).unwrap();
            fits.iter().map(|fit| fit.calibrated.unwrap().pval).collect()
        };
        assert_eq!(p(Approximation::PivotedCholesky), p(Approximation::Exact));
    }
}
