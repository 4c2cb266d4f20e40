//! Kernels in their eigenbasis: K = U S Uᵀ, as far as its eigenvalues matter.
//!
//! A spectrum keeps the r largest eigenpairs and says what it dropped; what the kept ones do not span
//! has eigenvalue zero. It knows nothing of the likelihood.

use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::locations::Locations;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::matmul::matmul;
use faer::prelude::*;
use faer::{Accum, Par};
use rayon::prelude::*;

/// The share of K's trace that a truncated exact spectrum may drop.
const DROPPED_TRACE: f64 = 1e-14;

/// How a spectrum was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Engine {
    /// Dense eigendecomposition.
    Dense,
    /// Pivoted Cholesky factor, then the eigendecomposition of its Gram matrix.
    PivotedCholesky,
}

impl Engine {
    /// `dense` or `pivoted_cholesky`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::PivotedCholesky => "pivoted_cholesky",
        }
    }
}

/// The eigenpairs of one sample's diagonal block of K.
#[derive(Debug, Clone)]
pub struct Block {
    start: usize,
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
#[derive(Debug, Clone)]
pub struct Spectrum {
    kernel: Kernel,
    engine: Engine,
    n: usize,
    values: Vec<f64>,
    blocks: Vec<Block>,
    dropped: f64,
}

impl Spectrum {
    /// The exact spectrum of a kernel, by dense eigendecomposition: O(n³) time, O(n²) memory.
    pub fn dense(kernel: Kernel, locations: &Locations) -> Result<Self> {
        let mut spectrum = Self {
            kernel,
            engine: Engine::Dense,
            n: locations.len(),
            values: Vec::new(),
            blocks: Vec::new(),
            dropped: 0.0,
        };
        for rows in locations.samples() {
            let k = kernel.at(locations).block(rows.clone());
            let (values, vectors) =
                eigen(k.as_ref()).ok_or_else(|| Error::NoConvergence(kernel.name().to_string()))?;
            spectrum.push_block(rows.start, &values, vectors.as_ref());
        }
        Ok(spectrum)
    }

    /// Dense spectra of several kernels, side by side in the current rayon pool.
    ///
    /// Each decomposition runs on one thread, so that the result does not depend on their number.
    pub fn dense_all(kernels: &[Kernel], locations: &Locations) -> Result<Vec<Self>> {
        kernels.par_iter().with_max_len(1).map(|&kernel| Self::dense(kernel, locations)).collect()
    }

    /// Appends a sample's eigenpairs, values in increasing order; clips the negative, drops the negligible.
    fn push_block(&mut self, start: usize, values: &[f64], vectors: MatRef<'_, f64>) {
        let trace: f64 = values.iter().filter(|&&s| s > 0.0).sum();
        let mut dropped = 0.0;
        let mut first = 0;
        while first < values.len() && dropped + values[first].max(0.0) <= DROPPED_TRACE * trace {
            dropped += values[first].max(0.0);
            first += 1;
        }
        let kept = values.len() - first;
        // Largest first.
        self.values.extend(values[first..].iter().rev());
        let vectors = Mat::from_fn(vectors.nrows(), kept, |i, j| vectors[(i, values.len() - 1 - j)]);
        self.blocks.push(Block { start, vectors });
        self.dropped += dropped;
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

/// Eigenvalues in increasing order, and eigenvectors; one thread. `None` where it does not converge.
pub(crate) fn eigen(k: MatRef<'_, f64>) -> Option<(Vec<f64>, Mat<f64>)> {
    let n = k.nrows();
    let mut values = faer::diag::Diag::<f64>::zeros(n);
    let mut vectors = Mat::zeros(n, n);
    let mut memory = MemBuffer::new(self_adjoint_evd_scratch::<f64>(
        n,
        ComputeEigenvectors::Yes,
        Par::Seq,
        Default::default(),
    ));
    self_adjoint_evd(
        k,
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut memory),
        Default::default(),
    )
    .ok()?;
    Some((values.column_vector().iter().copied().collect(), vectors))
}
