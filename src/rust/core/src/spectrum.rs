//! Kernels in their eigenbasis: K = U S Uᵀ, as far as its eigenvalues matter.
//!
//! A spectrum keeps the r largest eigenpairs and says what it dropped; what the kept ones do not span
//! has eigenvalue zero. It knows nothing of the likelihood.

use crate::cholesky::{CHUNK, Factor};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::kernel::Kernel;
use crate::krylov::Krylov;
use crate::landmarks;
use crate::locations::Locations;
use crate::tree::Tree;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::matmul::matmul;
use faer::prelude::*;
use faer::{Accum, Par};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The share of K's trace that a truncated exact spectrum may drop.
const DROPPED_TRACE: f64 = 1e-14;

/// The share of K's trace that pivoted Cholesky may leave: LLRs up to 2,200 are then right to 0.02.
pub const CHOLESKY_TOLERANCE: f64 = 1e-11;

/// The most it may leave where nothing else will do. With n = 100,000 LLRs may then be off by 0.01 at delta = 1.
const LOOSEST_TOLERANCE: f64 = 1.01e-7;

/// Up to so many locations every kernel is decomposed densely.
const SMALL: usize = 1000;

/// Up to so many locations a dense decomposition is affordable.
pub(crate) const DENSE_LIMIT: usize = 5000;

/// Below so many spacings of the locations an SE kernel has nearly full rank.
const FINE: f64 = 3.0;

/// Bounds on the rank r of a pivoted Cholesky factor, and on n r².
const RANK_LIMIT: usize = 5000;
const WORK_LIMIT: f64 = 1e12;

/// Bound on the rank of a cosine kernel, whose cost grows as n² r.
const PERIODIC_RANK_LIMIT: usize = 1600;

/// What a test may do about large numbers of locations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Approximation {
    /// The engine that suits the kernel and the number of locations.
    #[default]
    Auto,
    /// Dense eigendecompositions, whatever they cost.
    Exact,
    /// Pivoted Cholesky, whatever the rank.
    PivotedCholesky,
    /// Lanczos quadrature on a sparse matrix: for short lengthscales.
    Krylov,
}

impl Approximation {
    /// From its name: `auto`, `exact`, `pivoted_cholesky` or `krylov`.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "exact" => Ok(Self::Exact),
            "pivoted_cholesky" => Ok(Self::PivotedCholesky),
            "krylov" => Ok(Self::Krylov),
            _ => Err(Error::Parameter {
                name: "approximation",
                value: f64::NAN,
                must_be: "auto, exact, pivoted_cholesky or krylov",
            }),
        }
    }
}

/// How a spectrum was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Engine {
    /// Dense eigendecomposition.
    Dense,
    /// Pivoted Cholesky factor, then the eigendecomposition of its Gram matrix.
    PivotedCholesky,
    /// Eigendecomposition in the space that landmarks span.
    Landmarks,
}

impl Engine {
    /// `dense`, `pivoted_cholesky` or `landmarks`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::PivotedCholesky => "pivoted_cholesky",
            Self::Landmarks => "landmarks",
        }
    }
}

/// The eigenpairs of one sample's diagonal block of K.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Block {
    start: usize,
    #[serde(with = "crate::storage::matrix")]
    vectors: Mat<f64>,
}

impl Block {
    /// The first row of the sample.
    pub fn start(&self) -> usize {
        self.start
    }

    /// The eigenvectors, a row for each location of the sample, a column for each kept eigenvalue.
    pub fn vectors(&self) -> MatRef<'_, f64> {
        self.vectors.as_ref()
    }
}

/// A kernel's kept eigenpairs over all samples: eigenvalues, and eigenvectors block by block.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spectrum {
    kernel: Kernel,
    engine: Engine,
    n: usize,
    values: Vec<f64>,
    blocks: Vec<Block>,
    dropped: f64,
}

impl Spectrum {
    /// Without any samples' blocks yet.
    fn empty(kernel: Kernel, engine: Engine, locations: &Locations) -> Self {
        Self { kernel, engine, n: locations.len(), values: Vec::new(), blocks: Vec::new(), dropped: 0.0 }
    }

    /// The exact spectrum of a kernel, by dense eigendecomposition: O(n³) time, O(n²) memory.
    pub fn dense(kernel: Kernel, locations: &Locations) -> Result<Self> {
        let mut spectrum = Self::empty(kernel, Engine::Dense, locations);
        for rows in locations.samples() {
            interrupt::check()?;
            let k = kernel.at(locations).block(rows.clone());
            let (values, vectors) =
                eigen(k.as_ref()).ok_or_else(|| Error::NoConvergence(kernel.name().to_string()))?;
            spectrum.push_block(rows.start, &values, vectors.as_ref());
        }
        Ok(spectrum)
    }

    /// Dense spectra of several kernels, side by side in the current rayon pool.
    pub fn dense_all(kernels: &[Kernel], locations: &Locations) -> Result<Vec<Self>> {
        kernels.par_iter().with_max_len(1).map(|&kernel| Self::dense(kernel, locations)).collect()
    }

    /// The spectrum of a positive semidefinite kernel by pivoted Cholesky, `K ≈ L Lᵀ`, and the eigendecomposition
    /// of `Lᵀ L`: O(n r²) time, O(n r) memory, in the current rayon pool.
    ///
    /// At most the share `tolerance` of each sample's trace is left by the factor, and as much again by leaving out
    /// the smallest eigenvalues. `None` if that takes a rank above `limit`, or for the cosine kernel, which has
    /// negative eigenvalues.
    pub fn pivoted_cholesky(
        kernel: Kernel,
        locations: &Locations,
        tolerance: f64,
        limit: usize,
    ) -> Result<Option<Self>> {
        if matches!(kernel, Kernel::Cosine { .. }) {
            return Ok(None);
        }
        let mut spectrum = Self::empty(kernel, Engine::PivotedCholesky, locations);
        let entries = kernel.at(locations);
        for rows in locations.samples() {
            let trace: f64 = rows.clone().map(|i| entries.value(i, i)).sum();
            let tree = Tree::new(locations, rows.clone());
            let left = limit.saturating_sub(spectrum.rank());
            let factor = Factor::new(&entries, &tree, tolerance * trace, left);
            interrupt::check()?;
            let Some(factor) = factor else {
                return Ok(None);
            };
            spectrum.push_factor(rows.start, rows.len(), factor, tolerance * trace)?;
        }
        Ok(Some(spectrum))
    }

    /// Appends a sample's eigenpairs from its factor, without the smallest that sum up to `negligible`.
    fn push_factor(&mut self, start: usize, n: usize, factor: Factor, negligible: f64) -> Result<()> {
        let rank = factor.rank();
        let no_convergence = || Error::NoConvergence(self.kernel.name().to_string());
        let (values, vectors) = eigen(factor.gram().as_ref()).ok_or_else(no_convergence)?;
        self.dropped += factor.residual();
        let first = self.push_values(&values, negligible);
        // U = L V S^(-1/2), largest eigenvalue first.
        let kept = rank - first;
        let turn = Mat::from_fn(rank, kept, |i, j| vectors[(i, rank - 1 - j)] / values[rank - 1 - j].sqrt());
        drop(vectors);
        let mut out = Mat::zeros(n, kept);
        out.as_mut().par_row_chunks_mut(CHUNK).zip(factor.into_chunks()).for_each(|(out, chunk)| {
            matmul(out, Accum::Replace, chunk.as_ref(), turn.as_ref(), 1.0, Par::Seq);
        });
        self.blocks.push(Block { start, vectors: out });
        Ok(())
    }

    /// The spectrum of the cosine kernel by landmarks: O(n² r) time, O(n r) memory, in the current rayon pool. `None` if
    /// the period is too short.
    fn landmarks(period: f64, locations: &Locations) -> Result<Option<Self>> {
        // Wave vectors up to 2 pi / p, as those of the SE kernel of lengthscale p / pi up to a tolerance of exp(-2).
        if predicted_rank(period / std::f64::consts::PI, locations, (-2.0_f64).exp()) > PERIODIC_RANK_LIMIT {
            return Ok(None);
        }
        let kernel = Kernel::Cosine { period };
        let mut spectrum = Self::empty(kernel, Engine::Landmarks, locations);
        let entries = kernel.at(locations);
        for rows in locations.samples() {
            let tree = Tree::new(locations, rows.clone());
            let Some(found) = landmarks::eigenpairs(&entries, &tree, LOOSEST_TOLERANCE)? else {
                return Ok(None);
            };
            spectrum.push_block(rows.start, &found.values, found.vectors.as_ref());
            spectrum.dropped += found.residual;
        }
        Ok(Some(spectrum))
    }

    /// Spectra of several kernels, side by side in the current rayon pool, each by the engine that
    /// `approximation` and the sizes ask for; `None` where only Lanczos quadrature will do.
    pub fn choose_all(
        kernels: &[Kernel],
        locations: &Locations,
        approximation: Approximation,
    ) -> Result<Vec<Option<Self>>> {
        Self::choose_each(kernels, locations, approximation, true)
    }

    /// `sparse` says whether a kernel may be left to Lanczos quadrature.
    fn choose_each(
        kernels: &[Kernel],
        locations: &Locations,
        approximation: Approximation,
        sparse: bool,
    ) -> Result<Vec<Option<Self>>> {
        let spacing = if locations.len() > SMALL { locations.spacing() } else { f64::NAN };
        kernels
            .par_iter()
            .with_max_len(1)
            .map(|&kernel| Self::choose(kernel, locations, approximation, spacing, sparse))
            .collect()
    }

    /// The same where no kernel may do without a spectrum.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where a spectrum is not affordable.
    pub fn all(kernels: &[Kernel], locations: &Locations, approximation: Approximation) -> Result<Vec<Self>> {
        let spectra = Self::choose_each(kernels, locations, approximation, false)?;
        let check = |(spectrum, &kernel): (Option<Self>, &Kernel)| {
            spectrum.ok_or(Error::Unsupported { kernel, n: locations.len() })
        };
        spectra.into_iter().zip(kernels).map(check).collect()
    }

    fn choose(
        kernel: Kernel,
        locations: &Locations,
        approximation: Approximation,
        spacing: f64,
        sparse: bool,
    ) -> Result<Option<Self>> {
        let n = locations.len();
        match approximation {
            Approximation::Exact => return Self::dense(kernel, locations).map(Some),
            Approximation::PivotedCholesky => {
                let spectrum = match kernel {
                    Kernel::Cosine { period } if n > DENSE_LIMIT => {
                        return Self::landmarks(period, locations);
                    }
                    Kernel::Cosine { period } => Self::landmarks(period, locations)?,
                    _ => Self::pivoted_cholesky(kernel, locations, CHOLESKY_TOLERANCE, n)?,
                };
                return spectrum.map_or_else(|| Self::dense(kernel, locations), Ok).map(Some);
            }
            Approximation::Krylov if matches!(kernel, Kernel::SquaredExponential { .. }) => return Ok(None),
            Approximation::Auto | Approximation::Krylov => {}
        }
        if n <= SMALL {
            return Self::dense(kernel, locations).map(Some);
        }
        if n <= DENSE_LIMIT {
            let narrow = |lengthscale| Krylov::is_narrow(lengthscale, spacing, locations);
            if sparse && matches!(kernel, Kernel::SquaredExponential { lengthscale } if narrow(lengthscale)) {
                return Ok(None);
            }
            let smooth = match kernel {
                Kernel::SquaredExponential { lengthscale } => lengthscale >= FINE * spacing,
                Kernel::Linear => true,
                Kernel::Cosine { .. } => false,
            };
            let low_rank = if smooth {
                Self::pivoted_cholesky(kernel, locations, CHOLESKY_TOLERANCE, n / 2)?
            } else {
                None
            };
            return low_rank.map_or_else(|| Self::dense(kernel, locations), Ok).map(Some);
        }
        let limit = RANK_LIMIT.min((WORK_LIMIT / n as f64).sqrt() as usize);
        let lengthscale = match kernel {
            Kernel::SquaredExponential { lengthscale } => lengthscale,
            Kernel::Cosine { period } => return Self::landmarks(period, locations),
            Kernel::Linear => return Self::pivoted_cholesky(kernel, locations, CHOLESKY_TOLERANCE, limit),
        };
        // Between what a sparse matrix and a factor at the usual tolerance can do, the tolerance gives way.
        let mut tolerance = CHOLESKY_TOLERANCE;
        while tolerance <= LOOSEST_TOLERANCE {
            if predicted_rank(lengthscale, locations, tolerance) <= limit {
                let spectrum = Self::pivoted_cholesky(kernel, locations, tolerance, limit * 5 / 4)?;
                if spectrum.is_some() {
                    return Ok(spectrum);
                }
            }
            if sparse && Krylov::affordable(lengthscale, locations) {
                break;
            }
            tolerance *= 10.0;
        }
        Ok(None)
    }

    /// Appends a sample's eigenpairs, values in increasing order; clips the negative, drops the negligible.
    fn push_block(&mut self, start: usize, values: &[f64], vectors: MatRef<'_, f64>) {
        let trace: f64 = values.iter().filter(|&&s| s > 0.0).sum();
        let first = self.push_values(values, DROPPED_TRACE * trace);
        let kept = values.len() - first;
        let vectors = Mat::from_fn(vectors.nrows(), kept, |i, j| vectors[(i, values.len() - 1 - j)]);
        self.blocks.push(Block { start, vectors });
    }

    /// Appends eigenvalues, given in increasing order, largest first, without the smallest that sum up to `negligible`.
    /// Returns how many those are.
    fn push_values(&mut self, values: &[f64], negligible: f64) -> usize {
        let mut dropped = 0.0;
        let mut first = 0;
        while first < values.len() && dropped + values[first].max(0.0) <= negligible {
            dropped += values[first].max(0.0);
            first += 1;
        }
        self.values.extend(values[first..].iter().rev());
        self.dropped += dropped;
        first
    }

    /// The kernel.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// How it was computed.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Number of locations.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Number of kept eigenpairs, r.
    pub fn rank(&self) -> usize {
        self.values.len()
    }

    /// The kept eigenvalues, positive; in decreasing order within a sample.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The samples' eigenvectors, in the order of [`Spectrum::values`].
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The sum of the eigenvalues that were dropped: a bound on the error in K's trace.
    pub fn dropped_trace(&self) -> f64 {
        self.dropped
    }

    /// `out = Uᵀ y`: r × genes from n × genes. One thread.
    pub fn project(&self, y: MatRef<'_, f64>, mut out: MatMut<'_, f64>) {
        let mut row = 0;
        for block in &self.blocks {
            let (len, rank) = block.vectors.shape();
            matmul(
                out.as_mut().subrows_mut(row, rank),
                Accum::Replace,
                block.vectors.transpose(),
                y.subrows(block.start, len),
                1.0,
                Par::Seq,
            );
            row += rank;
        }
    }
}

/// About the rank of an SE kernel to a relative accuracy of `tolerance`.
///
/// The eigenvalues of a region of volume v are those of v / (2 pi)^d plane waves per volume of wave vectors, and fall
/// below the tolerance at |k| l = sqrt(2 log(1 / tolerance)). The region is the locations' own, in boxes of side 2 l.
fn predicted_rank(lengthscale: f64, locations: &Locations, tolerance: f64) -> usize {
    let side = 2.0 * lengthscale;
    let coords = locations.coords();
    let mut boxes = std::collections::HashSet::new();
    for (sample, rows) in locations.samples().iter().enumerate() {
        for i in rows.clone() {
            let place: [i64; 3] = std::array::from_fn(|k| {
                if k < coords.ncols() { (coords[(i, k)] / side).floor() as i64 } else { 0 }
            });
            boxes.insert((sample, place));
        }
    }
    let reach = (-2.0 * tolerance.ln()).sqrt() / std::f64::consts::PI;
    let ball = [2.0, std::f64::consts::PI, 4.0 / 3.0 * std::f64::consts::PI][locations.dim() - 1];
    (boxes.len() as f64 * ball * reach.powi(locations.dim() as i32)) as usize
}

/// Eigenvalues in increasing order, and eigenvectors. `None` where it does not converge.
///
/// Large matrices are worked on in two parts, whatever the number of threads, so that results do not depend on it.
pub(crate) fn eigen(k: MatRef<'_, f64>) -> Option<(Vec<f64>, Mat<f64>)> {
    let n = k.nrows();
    let par = if n > SMALL { Par::rayon(2) } else { Par::Seq };
    let mut values = faer::diag::Diag::<f64>::zeros(n);
    let mut vectors = Mat::zeros(n, n);
    let mut memory =
        MemBuffer::new(self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, par, Default::default()));
    self_adjoint_evd(
        k,
        values.as_mut(),
        Some(vectors.as_mut()),
        par,
        MemStack::new(&mut memory),
        Default::default(),
    )
    .ok()?;
    Some((values.column_vector().iter().copied().collect(), vectors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{grid_with_gaps, irregular, two_samples};

    /// The largest error of K, and of the eigenvectors' orthogonality.
    fn errors(spectrum: &Spectrum, locations: &Locations) -> (f64, f64) {
        let entries = spectrum.kernel().at(locations);
        let (mut worst, mut orthogonality, mut from) = (0.0_f64, 0.0_f64, 0);
        for (block, rows) in spectrum.blocks().iter().zip(locations.samples()) {
            let u = block.vectors();
            let values = &spectrum.values()[from..from + u.ncols()];
            from += u.ncols();
            let scaled = Mat::from_fn(u.nrows(), u.ncols(), |i, k| u[(i, k)] * values[k]);
            let error = &scaled * u.transpose() - entries.block(rows.clone());
            worst = worst.max(error.norm_max());
            let gram = u.transpose() * u - Mat::<f64>::identity(u.ncols(), u.ncols());
            orthogonality = orthogonality.max(gram.norm_max());
        }
        (worst, orthogonality)
    }

    #[test]
    fn pivoted_cholesky_reproduces_the_kernel() {
        let cases = [
            irregular(40, 1, 1),
            irregular(300, 1, 2),
            irregular(500, 2, 3),
            irregular(1500, 2, 4),
            irregular(400, 3, 5),
            grid_with_gaps(25),
            two_samples(300),
        ];
        for locations in &cases {
            for lengthscale in [2.0, 4.0, 9.0, 40.0] {
                let kernel = Kernel::SquaredExponential { lengthscale };
                let n = locations.len();
                let spectrum =
                    Spectrum::pivoted_cholesky(kernel, locations, CHOLESKY_TOLERANCE, n).unwrap().unwrap();
                let (error, orthogonality) = errors(&spectrum, locations);
                assert!(spectrum.dropped_trace() <= 2e-11 * n as f64);
                assert!(error <= spectrum.dropped_trace() + 1e-12 * n as f64, "{n} {lengthscale}: {error:e}");
                assert!(orthogonality < 0.02, "{n} {lengthscale}: {orthogonality:e}");
                let dense = Spectrum::dense(kernel, locations).unwrap();
                let mut values = dense.values().to_vec();
                values.sort_by(|a, b| b.total_cmp(a));
                let mut own = spectrum.values().to_vec();
                own.sort_by(|a, b| b.total_cmp(a));
                for (a, b) in own.iter().zip(&values) {
                    assert!((a - b).abs() < 1e-9, "{n} {lengthscale}: {a:e} {b:e}");
                }
            }
        }
    }

    #[test]
    fn a_rank_above_the_limit_is_refused_and_linear_kernels_have_the_rank_of_space() {
        let locations = irregular(600, 2, 7);
        let fine = Kernel::SquaredExponential { lengthscale: 1.0 };
        assert!(Spectrum::pivoted_cholesky(fine, &locations, 1e-11, 100).unwrap().is_none());
        let linear = Spectrum::pivoted_cholesky(Kernel::Linear, &locations, 1e-11, 100).unwrap().unwrap();
        assert_eq!(linear.rank(), 2);
        assert!(errors(&linear, &locations).0 < 1e-12);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let locations = irregular(2500, 2, 8);
        let kernel = Kernel::SquaredExponential { lengthscale: 6.0 };
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Spectrum::pivoted_cholesky(kernel, &locations, 1e-11, 2500)).unwrap().unwrap()
        };
        let (one, three) = (run(1), run(3));
        assert_eq!(one.values(), three.values());
        assert_eq!(one.blocks()[0].vectors(), three.blocks()[0].vectors());
        let predicted = predicted_rank(6.0, &locations, 1e-11) as f64;
        assert!((0.5..2.0).contains(&(predicted / one.rank() as f64)), "{predicted} {}", one.rank());
    }

    #[test]
    fn the_choice_follows_size_and_lengthscale() {
        let kernels = [0.5, 1.2, 8.0].map(|lengthscale| Kernel::SquaredExponential { lengthscale });
        let engines = |n, approximation| -> Vec<Option<Engine>> {
            let spectra = Spectrum::choose_all(&kernels, &irregular(n, 2, 9), approximation).unwrap();
            spectra.iter().map(|s| s.as_ref().map(Spectrum::engine)).collect()
        };
        let (dense, cholesky) = (Some(Engine::Dense), Some(Engine::PivotedCholesky));
        assert_eq!(engines(900, Approximation::Auto), [dense, dense, dense]);
        assert_eq!(engines(1100, Approximation::Auto), [None, dense, cholesky]);
        assert_eq!(engines(1100, Approximation::Exact), [dense, dense, dense]);
        assert_eq!(engines(1100, Approximation::Krylov), [None, None, None]);
        assert_eq!(engines(5100, Approximation::Auto), [None, None, cholesky]);
        // Where nothing else will do than a spectrum, there is one, or an error that names the kernel.
        let some = |n| Spectrum::all(&kernels[..2], &irregular(n, 2, 9), Approximation::Auto);
        assert!(some(1100).unwrap().iter().all(|spectrum| spectrum.engine() == Engine::Dense));
        let error = some(30_000).unwrap_err().to_string();
        assert_eq!(error, "30000 locations are too many for the SE kernel of lengthscale 0.5000");
    }
}
