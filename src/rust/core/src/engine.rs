//! Which engine serves a kernel. The choice is made here and nowhere else, for all kernels of a call before any is
//! computed, from sizes, lengthscales, the approximation asked for and the memory there is; and here stand all limits
//! and tolerances that engines keep to.
//!
//! A kernel that is smooth over the spacing of the locations has a low rank, and is held as few eigenpairs
//! ([`How::PivotedCholesky`], [`How::RayleighRitz`]); one that is short has few entries, and is held as a sparse matrix
//! ([`Choice::Krylov`]); where there are few locations, or nothing else will do, all eigenpairs are affordable
//! ([`How::Dense`]).

use crate::error::{Error, Result};
use crate::kd_tree::KdTree;
use crate::kernel::Kernel;
use crate::locations::Locations;
use crate::spectrum::interpolated::{nodes_if_fewer, tiles};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::f64::consts::PI;

/// Up to so many locations every kernel is decomposed densely: all ten of a test take less than 3 seconds.
const SMALL: usize = 1000;

/// Up to so many locations even those who ask for Lanczos get a dense decomposition: it takes no time, and quadrature
/// has no room.
const TINY: usize = 30;

/// Up to so many locations a dense decomposition is affordable: 20 seconds, and 200 MB for its eigenvectors.
const DENSE_LIMIT: usize = 5000;

/// Up to so many locations it still is where nothing else will do, as for rough kernels of a wide reach: some minutes, and
/// 800 MB.
const DENSE_IF_NEEDED: usize = 10_000;

/// From so many spacings of the locations on the rank of a smooth kernel is far enough below n for a factor to pay.
const FINE: f64 = 3.0;

/// From so many locations on SE kernels have no likelihood, only quadratic forms, where that is left to the engines.
const GRID_FROM: usize = 20_000;

/// The share of K's trace that pivoted Cholesky may leave: LLRs up to 2,200 are then right to 0.02.
pub const CHOLESKY_TOLERANCE: f64 = 1e-11;

/// The most it may leave where nothing else will do (with some room for the rounding of powers of ten). With
/// n = 100,000 LLRs may then be off by 0.01 at delta = 1.
pub const LOOSEST_TOLERANCE: f64 = 1.01e-7;

/// Bounds on the rank r of a factor, whose eigendecomposition takes r³, and on n r², the work of the factor itself.
const RANK_LIMIT: usize = 5000;
const WORK_LIMIT: f64 = 1e12;

/// A rank is foreseen to about 20 %: so much more than the limit is let pass once the work has begun.
const RANK_MARGIN: (usize, usize) = (5, 4);

/// Bound on the rank of a kernel that is not positive semidefinite, whose cost grows as n² r.
const INDEFINITE_RANK_LIMIT: usize = 1600;

/// From so many locations on smooth kernels are interpolated from a lattice (periodic ones from [`DENSE_LIMIT`] on, where
/// one lattice is affordable), with steps of so many radians up to the wave number where their spectral density is this
/// share of its largest: 2/5 of a lengthscale, a tenth of a period. An interpolated kernel is then off by 5e-4 of its
/// size, in three dimensions by 1.5e-3.
const INTERPOLATED_FROM: usize = GRID_FROM;
const STEP: (f64, f64) = (0.63, 0.29);

/// Most nodes of such a lattice, or of one with the same work as those of all tiles together: half a minute.
const NODES: usize = 5000;

/// The same for kernels that are not positive semidefinite, whose rank is lower.
const INDEFINITE_NODES: usize = 16_384;

/// Most values of an interpolated kernel's eigenvectors: 2.4 GB.
const STORED: f64 = 3e8;

/// Sides of tiles, in lengthscales, the first whose work is affordable; one tile of all where it is. Of the squared
/// correlations of a squared exponential 7 % are between tiles of a side of 16 lengthscales.
const TILES: [f64; 6] = [40.0, 28.0, 20.0, 16.0, 12.0, 8.0];

/// The share of the trace of a kernel that is not positive semidefinite that may be missing at a lattice's nodes.
pub const NODES_TOLERANCE: f64 = 1e-9;

/// The share of K's trace that a truncated exact spectrum may drop: its eigenvalues are right to about as much.
pub const DROPPED_TRACE: f64 = 1e-14;

/// What varies of a truncated kernel within samples is so many times what was dropped, or it is not used: its forms
/// would be those of the truncation.
pub const LEAST_VARIATION: f64 = 1e3;

/// Kernel values below this are left out of a sparse matrix: single precision has no more digits.
pub const CUTOFF: f64 = 1e-8;

/// Most stored values of a sparse matrix over all samples, at 8 bytes each: 1.2 GB.
const ENTRY_LIMIT: f64 = 1.5e8;

/// Up to so many spacings a kernel is narrow, and Lanczos goes on until everything is known at any delta, if its steps
/// are cheap enough (entries times colours).
const NARROW: f64 = 1.25;
const NARROW_WORK: f64 = 3e8;

/// Lanczos' method pays as long as it takes at most this share of n³ products in a step, over all colours: beyond it a dense
/// decomposition is cheaper and knows more, and the log determinant at small deltas comes out wrong.
const SPARSE_WORK: f64 = 0.25;

/// Locations of the same colour in a probe are so far apart that the kernel is below the exponential of this (wide
/// kernels, narrow kernels), and two spacings more. The log determinant's error comes from the terms between them.
const APART: (f64, f64) = (-8.0, -18.0);

/// Largest difference of Gauss and Radau quadrature, in units of the log likelihood, for the log determinant and for a
/// gene, and the share of the gene's LLR that comes on top: together they keep what the help promises, 0.03 and 1e-4.
pub const LOG_DET_GAP: f64 = 0.02;
/// See [`LOG_DET_GAP`].
pub const GENE_GAP: f64 = 0.01;
/// See [`LOG_DET_GAP`].
pub const GENE_RELATIVE_GAP: f64 = 5e-5;

/// A score of at most 1 means that there is no signal only for kernels whose Gower factor is at least this: of longer
/// ones much of the trace belongs to the constant, and genes are not screened by their scores.
pub const SCREENED_GOWER: f64 = 0.9;

/// With fewer locations genes are not screened by their scores either: the mean's share of the spectrum matters.
pub const SCREENED_LOCATIONS: usize = SMALL + 1;

/// Three standard deviations of y'Ey for the rounding E of a matrix to single precision, as a share of the root of
/// the sum of its squared entries times y'y / n.
pub const SINGLE_ROUNDING: f64 = 1.1e-7;

/// What truncation of a kernel may do to a log likelihood ratio: absolute, and as a share of it. A gene for which it
/// may do more has not converged.
pub const TRUNCATION: (f64, f64) = (0.02, 1e-4);

/// What a test may do about large numbers of locations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// Quadratic forms alone, by Fourier transforms: for SE kernels.
    Grid,
}

/// How variances and lengthscale of a gene are estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Fit {
    /// By the likelihood below 20,000 locations, by moments from there on.
    #[default]
    Auto,
    /// By the likelihood.
    Likelihood,
    /// By moments.
    Moments,
}

impl Fit {
    /// From its name: `auto`, `likelihood` or `moments`.
    ///
    /// # Errors
    /// Another name.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "likelihood" => Ok(Self::Likelihood),
            "moments" => Ok(Self::Moments),
            _ => {
                Err(Error::Parameter { name: "fit", value: f64::NAN, must_be: "auto, likelihood or moments" })
            }
        }
    }
}

impl Approximation {
    /// From its name: `auto`, `exact`, `pivoted_cholesky`, `krylov` or `grid`.
    ///
    /// # Errors
    /// Another name.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "exact" => Ok(Self::Exact),
            "pivoted_cholesky" => Ok(Self::PivotedCholesky),
            "krylov" => Ok(Self::Krylov),
            "grid" => Ok(Self::Grid),
            _ => Err(Error::Parameter {
                name: "approximation",
                value: f64::NAN,
                must_be: "auto, exact, pivoted_cholesky, krylov or grid",
            }),
        }
    }
}

/// What is asked of the engines.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// The approximation.
    pub approximation: Approximation,
    /// Whether eigenpairs are needed, as patterns need them; a test of genes does without.
    pub eigenpairs: bool,
    /// What a gene's variances come from.
    pub fit: Fit,
    /// Bytes of memory that may be used.
    pub memory: f64,
}

impl Request {
    /// A test of genes, with all memory it takes.
    pub fn test(approximation: Approximation) -> Self {
        Self { approximation, eigenpairs: false, fit: Fit::Likelihood, memory: f64::INFINITY }
    }

    /// Eigenpairs, with all memory they take.
    pub fn eigenpairs(approximation: Approximation) -> Self {
        Self { eigenpairs: true, ..Self::test(approximation) }
    }
}

/// The engine of one kernel.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// Eigenpairs.
    Spectrum(How),
    /// Lanczos quadrature on a sparse matrix.
    Krylov {
        /// How much can be known.
        width: Width,
        /// How far apart locations of the same colour are in a probe.
        apart: f64,
    },
    /// Quadratic forms alone, without a likelihood.
    Grid,
    /// No engine can take it.
    Unsupported(Reason),
}

/// How wide a kernel that is held as a sparse matrix is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// Lanczos goes on until everything is known at any delta.
    Narrow,
    /// It ends early: small deltas are out of reach.
    Usual,
}

/// How eigenpairs are had.
#[derive(Debug, Clone, PartialEq)]
pub enum How {
    /// Dense eigendecomposition: O(n³) time, O(n²) memory.
    Dense,
    /// Pivoted Cholesky, then the eigendecomposition of a small matrix: O(n r²) time, O(n r) memory.
    PivotedCholesky {
        /// The share of K's trace that may be left.
        tolerance: f64,
        /// The largest rank.
        limit: usize,
        /// What to do where that does not suffice.
        otherwise: Box<Choice>,
    },
    /// The Rayleigh-Ritz method in a Nyström basis: O(n² r) time, O(n r) memory.
    RayleighRitz {
        /// The share of K's trace that may be missing.
        tolerance: f64,
        /// What to do where that takes too large a basis.
        otherwise: Box<Choice>,
    },
    /// Interpolation from the nodes of a lattice of this step: O(n + m r²) time, O(n + m r) memory for m nodes.
    Interpolated {
        /// In units of the coordinates.
        step: f64,
        /// The side of independent tiles, infinite for one.
        tile: f64,
        /// What to do where that takes too large a basis.
        otherwise: Box<Choice>,
    },
}

/// Why no engine can take a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reason {
    /// Its rank is too high, and its entries are too many.
    TooLarge,
    /// It is too wide for a sparse matrix, and no other engine was allowed.
    TooWide,
    /// It oscillates too fast for a basis of the size that is affordable: it is left out, not an error.
    TooFine,
    /// It takes more memory than there is.
    Memory {
        /// Bytes needed for all kernels together.
        needed: f64,
        /// Bytes there are.
        available: f64,
    },
}

impl Reason {
    /// As an error that names the kernel and the number of locations.
    pub fn error(self, kernel: Kernel, n: usize) -> Error {
        match self {
            Self::TooLarge | Self::TooFine => {
                Error::Unsupported { kernel: kernel.name(), scale: kernel.scale(), n }
            }
            Self::TooWide => Error::TooWide { kernel: kernel.name(), scale: kernel.scale(), n },
            Self::Memory { needed, available } => Error::Memory { needed, available },
        }
    }
}

/// The engine of each kernel. Takes a second with millions of locations; nothing is computed yet.
pub fn choose(kernels: &[Kernel], locations: &Locations, request: Request) -> Vec<Choice> {
    let site = Site::new(locations, request.approximation);
    let choose = |&kernel: &Kernel| site.choose(kernel, request);
    let choices: Vec<Choice> = kernels.par_iter().with_max_len(1).map(choose).collect();
    let dense = choices.iter().filter(|choice| matches!(choice, Choice::Spectrum(How::Dense))).count();
    let needed = dense_memory(locations, dense);
    if needed > request.memory {
        let reason = Reason::Memory { needed, available: request.memory };
        return vec![Choice::Unsupported(reason); kernels.len()];
    }
    choices
}

/// Whether genes that an engine could not settle are tested again with dense eigendecompositions.
pub fn settles_exactly(locations: &Locations, approximation: Approximation) -> bool {
    approximation == Approximation::Auto && locations.len() <= DENSE_LIMIT
}

/// Whether the quadratic forms of SE kernels, and so p-values, are the grid's even where other engines have the likelihood.
pub fn forms_on_grid(locations: &Locations, request: Request) -> bool {
    request.approximation == Approximation::Auto && !request.eigenpairs && locations.len() > DENSE_LIMIT
}

/// Bytes that dense eigendecompositions of so many kernels take in the current rayon pool: all eigenvectors, and a
/// matrix, its eigenvectors and as much again for each that is under way.
fn dense_memory(locations: &Locations, kernels: usize) -> f64 {
    let squares: f64 = locations.samples().iter().map(|rows| (rows.len() as f64).powi(2)).sum();
    8.0 * squares * (kernels + 3 * kernels.min(rayon::current_num_threads())) as f64
}

/// Locations, and what choices need to know of them.
struct Site<'a> {
    locations: &'a Locations,
    /// A tree for each sample, and the spacing; empty and NaN where no choice looks at them.
    trees: Vec<KdTree>,
    spacing: f64,
}

impl<'a> Site<'a> {
    fn new(locations: &'a Locations, approximation: Approximation) -> Self {
        let looks = match approximation {
            Approximation::Auto | Approximation::Grid => locations.len() > SMALL,
            Approximation::Krylov => true,
            Approximation::Exact | Approximation::PivotedCholesky => false,
        };
        let (trees, spacing) =
            if looks { (locations.trees(), locations.spacing()) } else { (Vec::new(), f64::NAN) };
        Self { locations, trees, spacing }
    }

    fn choose(&self, kernel: Kernel, request: Request) -> Choice {
        let n = self.locations.len();
        let dense = Choice::Spectrum(How::Dense);
        match request.approximation {
            Approximation::Exact => return dense,
            Approximation::PivotedCholesky if kernel.is_psd() => {
                return cholesky(CHOLESKY_TOLERANCE, n, dense);
            }
            Approximation::PivotedCholesky => {
                let too_fine = Choice::Unsupported(Reason::TooFine);
                return self.rayleigh_ritz(kernel, if n > DENSE_LIMIT { too_fine } else { dense });
            }
            Approximation::Krylov if kernel.reach(CUTOFF.ln()).is_some() => {
                return self.asked_for_krylov(kernel);
            }
            Approximation::Grid if !request.eigenpairs && kernel.has_meshes() => return Choice::Grid,
            Approximation::Auto | Approximation::Krylov | Approximation::Grid => {}
        }
        let moments = match request.fit {
            Fit::Auto => n >= GRID_FROM,
            Fit::Likelihood => false,
            Fit::Moments => n > SMALL,
        };
        if moments && !request.eigenpairs && kernel.has_meshes() {
            return Choice::Grid;
        }
        if n >= INTERPOLATED_FROM && !request.eigenpairs {
            return self.interpolated(kernel);
        }
        if n <= SMALL {
            return dense;
        }
        if n <= DENSE_LIMIT {
            if !request.eigenpairs && self.is_narrow(kernel) {
                return Choice::Krylov { width: Width::Narrow, apart: self.apart(kernel, true) };
            }
            let fine = kernel.scale() < FINE * self.spacing;
            return if kernel.is_smooth() && kernel.is_psd() && !fine {
                cholesky(CHOLESKY_TOLERANCE, n / 2, dense)
            } else {
                dense
            };
        }
        if !kernel.is_psd() {
            let ritz = self.rayleigh_ritz(kernel, Choice::Unsupported(Reason::TooFine));
            return if request.eigenpairs { ritz } else { self.on_lattice(kernel, ritz) };
        }
        let limit = RANK_LIMIT.min((WORK_LIMIT / n as f64).sqrt() as usize);
        if kernel.band(CHOLESKY_TOLERANCE, self.locations.dim()).is_none() {
            return cholesky(CHOLESKY_TOLERANCE, limit, Choice::Unsupported(Reason::TooLarge));
        }
        let sparse = !request.eigenpairs && self.has_few_entries(kernel);
        self.low_rank_or_sparse(kernel, limit, CHOLESKY_TOLERANCE, sparse)
    }

    /// For a likelihood at very many locations.
    fn interpolated(&self, kernel: Kernel) -> Choice {
        if kernel.radial().is_none() {
            return cholesky(CHOLESKY_TOLERANCE, RANK_LIMIT, Choice::Unsupported(Reason::TooLarge));
        }
        if self.is_narrow(kernel) && self.has_few_entries(kernel) {
            return Choice::Krylov { width: Width::Narrow, apart: self.apart(kernel, true) };
        }
        self.on_lattice(kernel, Choice::Unsupported(Reason::TooFine))
    }

    /// From a lattice for a smooth kernel, or one in each tile, where that is affordable.
    fn on_lattice(&self, kernel: Kernel, otherwise: Choice) -> Choice {
        let Some((length, wave_number)) = kernel.band(STEP.1, self.locations.dim()) else { return otherwise };
        let step = STEP.0 * length / wave_number;
        // A kernel that never ends cannot be cut.
        let ends = kernel.reach(CUTOFF.ln()).is_some();
        let sides = TILES.iter().filter(|_| ends).map(|lengths| lengths * length);
        let tile =
            std::iter::once(f64::INFINITY).chain(sides).find(|&tile| self.is_affordable(kernel, step, tile));
        match tile {
            Some(tile) => Choice::Spectrum(How::Interpolated { step, tile, otherwise: Box::new(otherwise) }),
            None => otherwise,
        }
    }

    /// See [`NODES`] and [`STORED`].
    fn is_affordable(&self, kernel: Kernel, step: f64, tile: f64) -> bool {
        let coords = self.locations.coords();
        // A lattice's rank is about half its nodes, that of a kernel which is not positive semidefinite less.
        let (most, share) = if kernel.is_psd() {
            (NODES, 0.5)
        } else {
            (INDEFINITE_NODES, (NODES as f64 / INDEFINITE_NODES as f64).powi(3))
        };
        let (mut work, mut stored) = (0.0, 0.0);
        self.locations.samples().iter().flat_map(|rows| tiles(coords, rows.clone(), tile)).all(|rows| {
            let (size, share) = match nodes_if_fewer(kernel, coords, &rows, step, most) {
                Some(nodes) => (nodes as f64, share),
                None => (rows.len() as f64, 1.0),
            };
            work += share * size.powi(3);
            stored += share * size.powi(2);
            work <= (NODES as f64).powi(3) && stored <= STORED
        })
    }

    /// For those who ask for Lanczos.
    fn asked_for_krylov(&self, kernel: Kernel) -> Choice {
        if self.locations.len() <= TINY {
            return Choice::Spectrum(How::Dense);
        }
        match self.krylov(kernel, DENSE_LIMIT) {
            None => Choice::Unsupported(Reason::TooWide),
            Some(Choice::Krylov { .. }) if !self.has_few_entries(kernel) => {
                Choice::Unsupported(Reason::TooLarge)
            }
            Some(choice) => choice,
        }
    }

    /// Between what a sparse matrix and a factor at the usual tolerance can do, the tolerance gives way.
    fn low_rank_or_sparse(&self, kernel: Kernel, limit: usize, tolerance: f64, sparse: bool) -> Choice {
        let otherwise = if let Some(choice) = self.krylov(kernel, DENSE_IF_NEEDED).filter(|_| sparse) {
            choice
        } else if tolerance * 10.0 <= LOOSEST_TOLERANCE {
            self.low_rank_or_sparse(kernel, limit, tolerance * 10.0, sparse)
        } else {
            Choice::Unsupported(Reason::TooLarge)
        };
        if predicted_rank(kernel, self.locations, tolerance) <= limit {
            cholesky(tolerance, limit * RANK_MARGIN.0 / RANK_MARGIN.1, otherwise)
        } else {
            otherwise
        }
    }

    fn rayleigh_ritz(&self, kernel: Kernel, otherwise: Choice) -> Choice {
        if predicted_rank(kernel, self.locations, CHOLESKY_TOLERANCE) > INDEFINITE_RANK_LIMIT {
            return otherwise;
        }
        Choice::Spectrum(How::RayleighRitz { tolerance: LOOSEST_TOLERANCE, otherwise: Box::new(otherwise) })
    }

    /// Where Lanczos does not pay a dense decomposition, if there are not more locations than `affordable`: what a sparse
    /// matrix tells of a wide kernel's log determinant would not be enough.
    fn krylov(&self, kernel: Kernel, affordable: usize) -> Option<Choice> {
        let width = if self.is_narrow(kernel) {
            Width::Narrow
        } else if self.pays(kernel) {
            Width::Usual
        } else {
            let squares: f64 = self.trees.iter().map(|tree| (tree.rows().len() as f64).powi(2)).sum();
            let dense = Choice::Spectrum(How::Dense);
            return (squares <= (affordable as f64).powi(2)).then_some(dense);
        };
        Some(Choice::Krylov { width, apart: self.apart(kernel, width == Width::Narrow) })
    }

    /// How far apart locations of the same colour are; infinite where the kernel never ends.
    fn apart(&self, kernel: Kernel, narrow: bool) -> f64 {
        let lengthscales = kernel.reach(if narrow { APART.1 } else { APART.0 }).unwrap_or(f64::INFINITY);
        lengthscales * kernel.scale() + 2.0 * self.spacing
    }

    /// Whether a kernel's sparse matrix would have few enough entries.
    fn has_few_entries(&self, kernel: Kernel) -> bool {
        let Some(reach2) = squared_reach(kernel) else { return false };
        let mut entries = 0.0;
        self.trees.iter().all(|tree| {
            entries += expected_pairs(tree, reach2, ENTRY_LIMIT - entries);
            entries <= ENTRY_LIMIT
        })
    }

    /// See [`NARROW`].
    fn is_narrow(&self, kernel: Kernel) -> bool {
        let Some(reach2) = squared_reach(kernel) else { return false };
        if self.spacing.is_nan() || kernel.scale() > NARROW * self.spacing {
            return false;
        }
        self.work(reach2, self.apart(kernel, true)) <= NARROW_WORK
    }

    /// See [`SPARSE_WORK`].
    fn pays(&self, kernel: Kernel) -> bool {
        let Some(reach2) = squared_reach(kernel) else { return false };
        let dense: f64 = self.trees.iter().map(|tree| (tree.rows().len() as f64).powi(3)).sum();
        self.work(reach2, self.apart(kernel, false)) <= SPARSE_WORK * dense
    }

    /// Products in a step of Lanczos: entries times colours.
    fn work(&self, reach2: f64, apart: f64) -> f64 {
        let work = |tree: &KdTree| {
            let colours = expected_pairs(tree, apart * apart, f64::INFINITY) / tree.rows().len() as f64;
            expected_pairs(tree, reach2, f64::INFINITY) * colours
        };
        self.trees.iter().map(work).sum()
    }
}

fn cholesky(tolerance: f64, limit: usize, otherwise: Choice) -> Choice {
    Choice::Spectrum(How::PivotedCholesky { tolerance, limit, otherwise: Box::new(otherwise) })
}

/// The squared distance from which on a kernel counts as zero in a sparse matrix; `None` if it never does.
pub(crate) fn squared_reach(kernel: Kernel) -> Option<f64> {
    kernel.reach(CUTOFF.ln()).map(|reach| (reach * kernel.scale()).powi(2))
}

/// About the number of pairs of places within a squared distance, (i, j) and (j, i) counted apart, from some places.
/// Counting ends above `enough`.
pub(crate) fn expected_pairs(tree: &KdTree, distance2: f64, enough: f64) -> f64 {
    let n = tree.rows().len();
    let every = (n / 500).max(1);
    let sampled = (0..n).step_by(every);
    let factor = n as f64 / sampled.len() as f64;
    let mut count = 0.0;
    for place in sampled {
        tree.within(place, distance2, |_, _| count += 1.0);
        if count * factor > enough {
            break;
        }
    }
    count * factor
}

/// About the rank of a kernel to a relative accuracy of `tolerance`.
///
/// The eigenvalues of a region of volume v are those of v / (2 pi)^d plane waves per volume of wave vectors, up to the
/// end of the kernel's band. The region is the locations' own, in boxes of two lengths. 0 for a kernel without a band.
fn predicted_rank(kernel: Kernel, locations: &Locations, tolerance: f64) -> usize {
    let Some((length, wave_number)) = kernel.band(tolerance, locations.dim()) else { return 0 };
    let side = 2.0 * length;
    let coords = locations.coords();
    let mut boxes = HashSet::new();
    for (sample, rows) in locations.samples().iter().enumerate() {
        for i in rows.clone() {
            let place: [i64; 3] = std::array::from_fn(|k| {
                if k < coords.ncols() { (coords[(i, k)] / side).floor() as i64 } else { 0 }
            });
            boxes.insert((sample, place));
        }
    }
    let reach = wave_number / PI;
    let ball = [2.0, PI, 4.0 / 3.0 * PI][locations.dim() - 1];
    (boxes.len() as f64 * ball * reach.powi(locations.dim() as i32)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{cosine, irregular, se};
    use crate::spectrum::Spectrum;

    /// What is tried first, and what comes last.
    fn names(kernels: &[Kernel], n: usize, request: Request) -> Vec<(&'static str, &'static str)> {
        fn name(choice: &Choice) -> &'static str {
            match choice {
                Choice::Spectrum(How::Dense) => "dense",
                Choice::Spectrum(How::PivotedCholesky { .. }) => "cholesky",
                Choice::Spectrum(How::RayleighRitz { .. }) => "rayleigh_ritz",
                Choice::Spectrum(How::Interpolated { .. }) => "interpolated",
                Choice::Grid => "grid",
                Choice::Krylov { width: Width::Narrow, .. } => "narrow",
                Choice::Krylov { width: Width::Usual, .. } => "krylov",
                Choice::Unsupported(Reason::TooLarge) => "too large",
                Choice::Unsupported(Reason::TooWide) => "too wide",
                Choice::Unsupported(Reason::TooFine) => "too fine",
                Choice::Unsupported(Reason::Memory { .. }) => "memory",
            }
        }
        fn last(choice: &Choice) -> &'static str {
            match choice {
                Choice::Spectrum(
                    How::PivotedCholesky { otherwise, .. }
                    | How::RayleighRitz { otherwise, .. }
                    | How::Interpolated { otherwise, .. },
                ) => last(otherwise),
                other => name(other),
            }
        }
        let choices = choose(kernels, &irregular(n, 2, 9), request);
        choices.iter().map(|choice| (name(choice), last(choice))).collect()
    }

    #[test]
    fn the_choice_follows_size_and_lengthscale() {
        let kernels = [se(0.5), se(1.2), se(8.0), cosine(60.0), cosine(0.5), Kernel::linear()];
        let auto = Request::test(Approximation::Auto);
        let (dense, narrow, krylov) = (("dense", "dense"), ("narrow", "narrow"), ("krylov", "krylov"));
        assert_eq!(names(&kernels, 900, auto), [dense; 6]);
        let low_rank = ("cholesky", "dense");
        assert_eq!(names(&kernels, 1100, auto), [narrow, dense, low_rank, dense, dense, low_rank]);
        let (factor, waves) = (("cholesky", "dense"), ("interpolated", "too fine"));
        let (too_fine, too_large) = (("too fine", "too fine"), ("too large", "too large"));
        assert_eq!(
            names(&kernels, 5100, auto),
            [narrow, krylov, factor, waves, too_fine, ("cholesky", "too large")]
        );
        // Where eigenpairs are needed a sparse matrix will not do.
        let spectra = Request::eigenpairs(Approximation::Auto);
        assert_eq!(names(&kernels[..3], 1100, spectra), [dense, dense, low_rank]);
        assert_eq!(names(&kernels[..1], 30_000, spectra), [too_large]);
    }

    #[test]
    fn very_many_locations_are_interpolated_for_a_likelihood() {
        let kernels = [se(0.5), se(1.0), se(3.0), se(40.0), cosine(60.0), cosine(0.5), Kernel::linear()];
        let auto = Request::test(Approximation::Auto);
        let (narrow, interpolated) = (("narrow", "narrow"), ("interpolated", "too fine"));
        let fine = ("too fine", "too fine");
        let linear = ("cholesky", "too large");
        assert_eq!(
            names(&kernels, 20_000, auto),
            [narrow, interpolated, interpolated, interpolated, interpolated, fine, linear]
        );
        // Wide kernels are in one tile, short ones in many.
        let choices = choose(&kernels, &irregular(20_000, 2, 9), auto);
        let tile = |choice: &Choice| match choice {
            Choice::Spectrum(How::Interpolated { step, tile, .. }) => (*step, *tile),
            other => panic!("{other:?}"),
        };
        let (step, side) = tile(&choices[2]);
        assert!((step - 1.2).abs() < 0.01 && (24.0..=120.0).contains(&side), "{step} {side}");
        assert_eq!(tile(&choices[3]).1, f64::INFINITY);
    }

    #[test]
    fn rough_kernels_have_no_low_rank() {
        let kernels = [0.5, 8.0].map(|lengthscale| Kernel::matern32(lengthscale).unwrap());
        let auto = Request::test(Approximation::Auto);
        assert_eq!(names(&kernels, 1100, auto), [("narrow", "narrow"), ("dense", "dense")]);
        assert_eq!(names(&kernels, 5100, auto), [("narrow", "narrow"), ("dense", "dense")]);
        // Beyond what a dense decomposition can do.
        let too_large = ("too large", "too large");
        assert_eq!(names(&kernels, 10_100, auto), [("narrow", "narrow"), too_large]);
    }

    #[test]
    fn what_is_asked_for_is_chosen() {
        let kernels = [se(0.5), se(8.0), cosine(60.0)];
        let asked = |approximation| names(&kernels, 1100, Request::test(approximation));
        assert_eq!(asked(Approximation::Exact), [("dense", "dense"); 3]);
        let ritz = ("rayleigh_ritz", "dense");
        assert_eq!(
            asked(Approximation::PivotedCholesky),
            [("cholesky", "dense"), ("cholesky", "dense"), ritz]
        );
        // What is too wide for a sparse matrix is decomposed densely, or refused.
        assert_eq!(
            asked(Approximation::Krylov),
            [("narrow", "narrow"), ("dense", "dense"), ("dense", "dense")]
        );
        let request = Request::test(Approximation::Krylov);
        assert_eq!(
            names(&[se(2.0), se(8.0), se(90.0)], 5100, request),
            [("krylov", "krylov"), ("too wide", "too wide"), ("too wide", "too wide")]
        );
        assert_eq!(names(&[se(0.5)], TINY, request), [("dense", "dense")]);
    }

    #[test]
    fn samples_too_small_for_a_sparse_matrix_are_decomposed_densely() {
        let own = irregular(6000, 2, 9);
        let many = Locations::with_samples(own.coords(), &[200; 30]).unwrap();
        let auto = Request::test(Approximation::Auto);
        let dense = Choice::Spectrum(How::Dense);
        assert_eq!(choose(&[Kernel::matern32(20.0).unwrap()], &many, auto), [dense]);
        let wide = choose(&[Kernel::matern32(20.0).unwrap()], &own, auto);
        assert_eq!(wide, [Choice::Spectrum(How::Dense)]);
        let request = Request::test(Approximation::Krylov);
        let refused = [Choice::Unsupported(Reason::TooWide)];
        assert_eq!(choose(&[Kernel::matern32(20.0).unwrap()], &own, request), refused);
    }

    #[test]
    fn memory_is_known_to_be_short_before_anything_is_computed() {
        let request = Request { memory: 1e6, ..Request::test(Approximation::Exact) };
        assert_eq!(names(&[se(1.0)], 500, request), [("memory", "memory")]);
        let enough = Request { memory: 3e8, ..request };
        assert_eq!(names(&[se(1.0)], 500, enough), [("dense", "dense")]);
    }

    #[test]
    fn ranks_are_foreseen() {
        let locations = irregular(1500, 2, 2);
        for lengthscale in [4.0, 8.0] {
            let kernel = se(lengthscale);
            let spectrum = Spectrum::pivoted_cholesky(kernel, &locations, CHOLESKY_TOLERANCE, 1500);
            let rank = spectrum.unwrap().unwrap().rank() as f64;
            let foreseen = predicted_rank(kernel, &locations, CHOLESKY_TOLERANCE) as f64;
            assert!((0.6..1.7).contains(&(foreseen / rank)), "{foreseen} {rank}");
        }
    }

    #[test]
    fn counting_ends_where_the_answer_is_known() {
        let locations = irregular(3000, 2, 1);
        let tree = &locations.trees()[0];
        let all = expected_pairs(tree, 1e6, f64::INFINITY);
        assert_eq!(all, 9e6);
        let some = expected_pairs(tree, 1e6, 1e5);
        assert!(some > 1e5 && some < 1.2e5, "{some}");
    }
}
