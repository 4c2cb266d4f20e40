//! Kernels in their eigenbasis: K = U S Uᵀ, as far as its eigenvalues matter.
//!
//! A spectrum keeps the r largest eigenpairs and says what it dropped; what the kept ones do not span
//! has eigenvalue zero. It knows nothing of the likelihood.

mod cholesky;
pub mod interpolated;
mod rayleigh_ritz;

use crate::eigen::{eigen, eigen_of, failed};
use crate::engine::{CHOLESKY_TOLERANCE, Choice, DROPPED_TRACE, How, LEAST_VARIATION, NODES_TOLERANCE};
use crate::error::Result;
use crate::interrupt;
use crate::kernel::{Kernel, KernelAt};
use crate::locations::Locations;
use crate::memory;
use cholesky::{CHUNK, Factor};
use faer::linalg::matmul::matmul;
use faer::prelude::*;
use faer::{Accum, Par};
use interpolated::{Interpolation, nodes_if_fewer, tiles};
use rayleigh_ritz::by_rows;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Functions of a factor whose squared norm is below this share of the largest are rounding errors.
const NEGLIGIBLE_SQUARE: f64 = 1e-13;

/// How a spectrum was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Method {
    /// Dense eigendecomposition.
    Dense,
    /// Pivoted Cholesky factor, then the eigendecomposition of its Gram matrix.
    PivotedCholesky,
    /// Rayleigh-Ritz in the space that a Nyström basis at landmarks spans.
    RayleighRitz,
    /// Interpolation from a lattice.
    Interpolated,
}

impl Method {
    /// `dense`, `pivoted_cholesky`, `landmarks` or `interpolated`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::PivotedCholesky => "pivoted_cholesky",
            Self::RayleighRitz => "landmarks",
            Self::Interpolated => "interpolated",
        }
    }
}

/// Which locations eigenvectors belong to.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Rows {
    /// All of the sample, in their order.
    All,
    /// Some of the sample, counted from its first.
    Some(Vec<u32>),
    /// Those that are interpolated from a lattice.
    Lattice(Interpolation),
}

/// Eigenvectors over all locations of a sample, or over those of a tile.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Piece {
    rows: Rows,
    /// A column for each kept eigenvalue; on a lattice at its nodes.
    #[serde(with = "crate::serde_matrix")]
    vectors: Mat<f64>,
}

impl Piece {
    /// `out = Uᵀ y` of the sample's rows. One thread.
    fn project(&self, y: MatRef<'_, f64>, out: MatMut<'_, f64>) {
        let multiply = |y: MatRef<'_, f64>| {
            matmul(out, Accum::Replace, self.vectors.transpose(), y, 1.0, Par::Seq);
        };
        match &self.rows {
            Rows::All => multiply(y),
            Rows::Some(rows) => {
                let own = Mat::from_fn(rows.len(), y.ncols(), |i, j| y[(rows[i] as usize, j)]);
                multiply(own.as_ref());
            }
            Rows::Lattice(lattice) => {
                let mut own = Mat::zeros(self.vectors.nrows(), y.ncols());
                y.col_iter().zip(own.col_iter_mut()).for_each(|(y, out)| lattice.gather(y, out));
                multiply(own.as_ref());
            }
        }
    }
}

/// The eigenpairs of one sample's diagonal block of K.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Block {
    start: usize,
    n: usize,
    pieces: Vec<Piece>,
}

impl Block {
    /// With eigenvectors of all locations together.
    fn whole(start: usize, vectors: Mat<f64>) -> Self {
        Self { start, n: vectors.nrows(), pieces: vec![Piece { rows: Rows::All, vectors }] }
    }

    /// The first row of the sample.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Number of the sample's locations.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Number of kept eigenvalues.
    pub fn rank(&self) -> usize {
        self.pieces.iter().map(|piece| piece.vectors.ncols()).sum()
    }

    /// The eigenvectors, a row for each location of the sample, a column for each kept eigenvalue. They are made anew if
    /// the kernel is interpolated.
    pub fn vectors(&self) -> Cow<'_, Mat<f64>> {
        if let [Piece { rows: Rows::All, vectors }] = &self.pieces[..] {
            return Cow::Borrowed(vectors);
        }
        let mut out = Mat::zeros(self.n, self.rank());
        let mut column = 0;
        for Piece { rows, vectors } in &self.pieces {
            let mut out = out.as_mut().subcols_mut(column, vectors.ncols());
            column += vectors.ncols();
            match rows {
                Rows::All => out.copy_from(vectors),
                Rows::Some(rows) => rows
                    .iter()
                    .enumerate()
                    .for_each(|(i, &row)| out.as_mut().row_mut(row as usize).copy_from(vectors.row(i))),
                Rows::Lattice(lattice) => lattice.spread(vectors.as_ref(), out),
            }
        }
        Cow::Owned(out)
    }

    /// `Uᵀ 1`.
    pub fn sums(&self) -> Vec<f64> {
        if let [Piece { rows: Rows::All, vectors }] = &self.pieces[..] {
            return vectors.col_iter().map(|u| u.iter().sum()).collect();
        }
        let mut sums = Mat::zeros(self.rank(), 1);
        self.project(Mat::full(self.n, 1, 1.0).as_ref(), sums.as_mut());
        sums.col(0).iter().copied().collect()
    }

    /// `out = Uᵀ y` of the sample's own rows. One thread.
    fn project(&self, y: MatRef<'_, f64>, mut out: MatMut<'_, f64>) {
        let mut row = 0;
        for piece in &self.pieces {
            let rank = piece.vectors.ncols();
            piece.project(y, out.as_mut().subrows_mut(row, rank));
            row += rank;
        }
    }
}

/// A kernel's kept eigenpairs over all samples: eigenvalues, and eigenvectors block by block.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spectrum {
    kernel: Kernel,
    method: Method,
    n: usize,
    values: Vec<f64>,
    blocks: Vec<Block>,
    dropped: f64,
}

/// What came of an attempt at a spectrum.
pub(crate) enum Made {
    Spectrum(Spectrum),
    /// Its rank was higher than foreseen.
    Otherwise(Choice),
}

impl Spectrum {
    /// Without any samples' blocks yet.
    fn empty(kernel: Kernel, method: Method, locations: &Locations) -> Self {
        Self { kernel, method, n: locations.len(), values: Vec::new(), blocks: Vec::new(), dropped: 0.0 }
    }

    /// A kernel's spectrum as [`crate::engine`] says, or what it says to do otherwise.
    pub(crate) fn by(how: &How, kernel: Kernel, locations: &Locations) -> Result<Made> {
        let (spectrum, otherwise) = match how {
            How::Dense => return Self::dense(kernel, locations).map(Made::Spectrum),
            How::PivotedCholesky { tolerance, limit, otherwise } => {
                let spectrum = Self::pivoted_cholesky(kernel, locations, *tolerance, *limit)?;
                (spectrum.filter(Self::varies_more_than_it_dropped), otherwise)
            }
            How::RayleighRitz { tolerance, otherwise } => {
                (Self::rayleigh_ritz(kernel, locations, *tolerance)?, otherwise)
            }
            How::Interpolated { step, tile, otherwise } => {
                (Self::interpolated(kernel, locations, *step, *tile)?, otherwise)
            }
        };
        Ok(spectrum.map_or_else(|| Made::Otherwise(otherwise.as_ref().clone()), Made::Spectrum))
    }

    /// Whether what varies within samples is well above what was dropped. It is not where a kernel is so long that it is
    /// constant to the factor's tolerance.
    fn varies_more_than_it_dropped(&self) -> bool {
        let (mut varying, mut from) = (0.0, 0);
        for block in &self.blocks {
            for (sum, s) in block.sums().into_iter().zip(&self.values[from..from + block.rank()]) {
                varying += s * (1.0 - sum.powi(2) / block.n() as f64).max(0.0);
            }
            from += block.rank();
        }
        varying > LEAST_VARIATION * self.dropped
    }

    /// The exact spectrum of a kernel, by dense eigendecomposition: O(n³) time, O(n²) memory.
    pub fn dense(kernel: Kernel, locations: &Locations) -> Result<Self> {
        let mut spectrum = Self::empty(kernel, Method::Dense, locations);
        for rows in locations.samples() {
            interrupt::check()?;
            // K, its eigenvectors, and about three times as much to find them.
            memory::check(5.0 * 8.0 * (rows.len() as f64).powi(2))?;
            let k = kernel.at(locations).block(rows.clone());
            let (values, vectors) = eigen_of(k).ok_or_else(|| failed(kernel.name()))?;
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
    /// the smallest eigenvalues. `None` if that takes a rank above `limit`, or the kernel is not positive semidefinite.
    pub fn pivoted_cholesky(
        kernel: Kernel,
        locations: &Locations,
        tolerance: f64,
        limit: usize,
    ) -> Result<Option<Self>> {
        if !kernel.is_psd() {
            return Ok(None);
        }
        let mut spectrum = Self::empty(kernel, Method::PivotedCholesky, locations);
        let entries = kernel.at(locations);
        for (tree, rows) in locations.trees().iter().zip(locations.samples()) {
            let trace: f64 = rows.clone().map(|i| entries.value(i, i)).sum();
            let left = limit.saturating_sub(spectrum.rank());
            let factor = Factor::new(&entries, tree, tolerance * trace, left);
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
        if rank == 0 {
            // A sample where the kernel is zero, as the linear one is at the origin.
            self.dropped += factor.residual();
            self.blocks.push(Block::whole(start, Mat::zeros(n, 0)));
            return Ok(());
        }
        let (values, vectors) = eigen(factor.gram().as_ref()).ok_or_else(|| failed(self.kernel.name()))?;
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
        self.blocks.push(Block::whole(start, out));
        Ok(())
    }

    /// The spectrum of a kernel that need not be positive semidefinite, by the Rayleigh-Ritz method in a Nyström basis:
    /// O(n² r) time, O(n r) memory, in the current rayon pool. `None` if more than a share of `tolerance` of the trace
    /// would be missing with the largest basis.
    pub fn rayleigh_ritz(kernel: Kernel, locations: &Locations, tolerance: f64) -> Result<Option<Self>> {
        let mut spectrum = Self::empty(kernel, Method::RayleighRitz, locations);
        let entries = kernel.at(locations);
        for tree in locations.trees() {
            let start = tree.first_row();
            let Some(found) = rayleigh_ritz::eigenpairs(&entries, &tree, tolerance)? else {
                return Ok(None);
            };
            spectrum.push_block(start, &found.values, found.vectors.as_ref());
            spectrum.dropped += found.residual;
        }
        Ok(Some(spectrum))
    }

    /// The spectrum of a kernel that is interpolated from the nodes of a lattice of this step, in independent tiles of this side
    /// (infinite for one): O(n + m r²) time, O(n + m r) memory for m nodes, in the current rayon pool. A tile that has no more
    /// locations than nodes is decomposed densely. `None` if more than a small share of K's trace would be missing.
    pub fn interpolated(kernel: Kernel, locations: &Locations, step: f64, tile: f64) -> Result<Option<Self>> {
        let mut spectrum = Self::empty(kernel, Method::Interpolated, locations);
        let entries = kernel.at(locations);
        let coords = locations.coords();
        for rows in locations.samples() {
            let make = |own: Vec<u32>| {
                interrupt::check()?;
                match nodes_if_fewer(kernel, coords, &own, step, usize::MAX) {
                    Some(_) => on_lattice(kernel, Interpolation::new(coords, &own, rows.start, step)),
                    None => dense_tile(&entries, &own, rows.start).map(Some),
                }
            };
            let tiles = tiles(coords, rows.clone(), tile);
            let made: Result<Vec<Option<Tile>>> = tiles.into_par_iter().with_max_len(1).map(make).collect();
            let mut pieces = Vec::new();
            for tile in made? {
                let Some(Tile { n, rows, values, vectors, missing }) = tile else { return Ok(None) };
                let vectors = spectrum.push_pairs(&values, vectors.as_ref(), CHOLESKY_TOLERANCE * n as f64);
                spectrum.dropped += missing;
                pieces.push(Piece { rows, vectors });
            }
            spectrum.blocks.push(Block { start: rows.start, n: rows.len(), pieces });
        }
        Ok(Some(spectrum))
    }

    /// Appends a sample's eigenpairs, values in increasing order; clips the negative, drops the negligible.
    fn push_block(&mut self, start: usize, values: &[f64], vectors: MatRef<'_, f64>) {
        let trace: f64 = values.iter().filter(|&&s| s > 0.0).sum();
        let vectors = self.push_pairs(values, vectors, DROPPED_TRACE * trace);
        self.blocks.push(Block::whole(start, vectors));
    }

    /// Appends eigenvalues as [`Spectrum::push_values`] does. Returns the eigenvectors of those that are kept, in their order.
    fn push_pairs(&mut self, values: &[f64], vectors: MatRef<'_, f64>, negligible: f64) -> Mat<f64> {
        let kept = values.len() - self.push_values(values, negligible);
        Mat::from_fn(vectors.nrows(), kept, |i, j| vectors[(i, values.len() - 1 - j)])
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
    pub fn method(&self) -> Method {
        self.method
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
            block.project(y.subrows(block.start, block.n()), out.as_mut().subrows_mut(row, block.rank()));
            row += block.rank();
        }
    }
}

/// Eigenpairs of a tile, values in increasing order.
struct Tile {
    /// Number of its locations.
    n: usize,
    rows: Rows,
    values: Vec<f64>,
    vectors: Mat<f64>,
    /// What is missing of K's trace.
    missing: f64,
}

/// The eigenpairs of K over some rows.
fn dense_tile(entries: &KernelAt<'_>, rows: &[u32], start: usize) -> Result<Tile> {
    let k = Mat::from_fn(rows.len(), rows.len(), |i, j| entries.value(rows[i] as usize, rows[j] as usize));
    let (values, vectors) = eigen_of(k).ok_or_else(|| failed(entries.name()))?;
    let own = rows.iter().map(|row| row - start as u32).collect();
    Ok(Tile { n: rows.len(), rows: Rows::Some(own), values, vectors, missing: 0.0 })
}

/// The eigenpairs of W K_nodes Wᵀ.
fn on_lattice(kernel: Kernel, lattice: Interpolation) -> Result<Option<Tile>> {
    let decomposed = |x: MatRef<'_, f64>| eigen(x).ok_or_else(|| failed(kernel.name()));
    let nodes = Locations::new(lattice.nodes())?;
    let entries = kernel.at(&nodes);
    let tree = &nodes.trees()[0];
    // K at the nodes is A C Aᵀ with a diagonal C.
    let (a, c, residual) = if kernel.is_psd() {
        let factor = Factor::new(&entries, tree, CHOLESKY_TOLERANCE * nodes.len() as f64, nodes.len());
        interrupt::check()?;
        let Some(factor) = factor else { return Ok(None) };
        (factor.rows(), None, factor.residual())
    } else {
        let Some(found) = rayleigh_ritz::eigenpairs(&entries, tree, NODES_TOLERANCE)? else {
            return Ok(None);
        };
        (found.vectors, Some(found.values), found.residual)
    };
    let (mut values, vectors) = decomposed(lattice.gram(a.as_ref()).as_ref())?;
    let least = NEGLIGIBLE_SQUARE * values.last().copied().unwrap_or(0.0);
    let first = values.partition_point(|value| *value <= least);
    let kept = values.len() - first;
    values.drain(..first);
    // W A turn is orthonormal.
    let mut turn = Mat::from_fn(a.ncols(), kept, |i, j| vectors[(i, first + j)] / values[j].sqrt());
    if let Some(c) = c {
        let scaled = Mat::from_fn(a.ncols(), kept, |i, j| vectors[(i, first + j)] * values[j].sqrt());
        let weighted = Mat::from_fn(a.ncols(), kept, |i, j| c[i] * scaled[(i, j)]);
        let (own, inner) = decomposed((scaled.transpose() * &weighted).as_ref())?;
        values = own;
        turn = &turn * &inner;
    }
    let vectors = by_rows(a.nrows(), kept, CHUNK, |rows, out| {
        matmul(out, Accum::Replace, a.subrows(rows.start, rows.len()), turn.as_ref(), 1.0, Par::Seq);
    });
    let n = lattice.n();
    let missing = residual * n as f64 / nodes.len() as f64;
    Ok(Some(Tile { n, rows: Rows::Lattice(lattice), values, vectors, missing }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::CHOLESKY_TOLERANCE;
    use crate::fixtures::{grid_with_gaps, irregular, se, two_samples};

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
            let gram = u.transpose() * &*u - Mat::<f64>::identity(u.ncols(), u.ncols());
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
                let kernel = se(lengthscale);
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
        let fine = se(1.0);
        assert!(Spectrum::pivoted_cholesky(fine, &locations, 1e-11, 100).unwrap().is_none());
        let linear = Spectrum::pivoted_cholesky(Kernel::linear(), &locations, 1e-11, 100).unwrap().unwrap();
        assert_eq!(linear.rank(), 2);
        assert!(errors(&linear, &locations).0 < 1e-12);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let locations = irregular(2500, 2, 8);
        let kernel = se(6.0);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Spectrum::pivoted_cholesky(kernel, &locations, 1e-11, 2500)).unwrap().unwrap()
        };
        let (one, three) = (run(1), run(3));
        assert_eq!(one.values(), three.values());
        assert_eq!(one.blocks()[0].vectors(), three.blocks()[0].vectors());
    }
}
