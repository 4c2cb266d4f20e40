//! The border that engines implement: a kernel made ready ([`Model`]), a block of genes as it sees them ([`View`]), and
//! their likelihoods ([`Likelihood`]). The test of genes knows of engines no more than this.

use crate::error::Result;
use crate::kernel::Kernel;
use crate::likelihood::{Candidate, Maximum};
use crate::locations::Locations;
use crate::null::KernelForms;
use faer::{Mat, MatRef};
use std::any::Any;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

/// A kernel over given locations, made ready for genes by some engine.
pub trait Model: Debug + Send + Sync {
    /// The kernel.
    fn kernel(&self) -> Kernel;

    /// The engine's name, as users see it.
    fn engine(&self) -> &'static str;

    /// Number of eigenpairs; of a matrix without any, the number of its rows.
    fn rank(&self) -> usize;

    /// Gower's factor: the mean variance that K gives to data centred within samples, `tr(PKP) / (n - samples)`.
    fn gower(&self) -> f64;

    /// About the largest error of a log likelihood ratio at delta = 1 (it grows as 1 / delta).
    fn error_bound(&self) -> f64;

    /// What a log likelihood ratio at some log delta may be off by, beside what [`Likelihood::ceiling`] tells of.
    fn doubt(&self, log_delta: f64) -> f64 {
        self.error_bound() * (-log_delta).exp()
    }

    /// Whether every gene's maximum is known, so that a test by another engine is never needed.
    fn always_converges(&self) -> bool {
        true
    }

    /// The kernel's quadratic forms at these noise ratios, as far as the engine has them. In the current rayon pool.
    fn forms(&self, locations: &Locations, deltas: &[f64]) -> KernelForms;

    /// A block of genes as this model sees them.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::Error::Interrupted).
    fn view<'a>(&'a self, block: &'a Block<'a>) -> Result<Box<dyn View + 'a>>;
}

/// A block of genes as one model sees them. Genes are counted from 0 within the block; only those that are testable are
/// asked for.
pub trait View {
    /// The quadratic forms y'Ay of a gene at the block's noise ratios; those that the engine does not have are 0.
    fn forms(&self, gene: usize, out: &mut [f64]);

    /// The genes' likelihoods, if the engine has them.
    fn likelihood(&self) -> Option<&dyn Likelihood>;
}

/// The profile likelihoods of a block's genes, as functions of log delta.
pub trait Likelihood {
    /// The local maxima of a gene's likelihood on the engine's grid.
    fn scan(&self, gene: usize, found: &mut dyn FnMut(Candidate));

    /// Refines one of them.
    fn refine(&self, gene: usize, candidate: Candidate) -> Maximum;

    /// The generalised least squares means of the samples, and `s2 = yᵀ P y / n`.
    fn mean_and_scale(&self, gene: usize, log_delta: f64) -> (Vec<f64>, f64);

    /// The range of log delta in which a gene's likelihood is at least this, on the engine's grid; `None` if it is so at no
    /// point of it, or not known.
    fn range_above(&self, gene: usize, least: f64) -> Option<(f64, f64)> {
        let _ = (gene, least);
        None
    }

    /// What the likelihood may still reach where its maximum is not known.
    fn ceiling(&self, gene: usize) -> f64 {
        let _ = gene;
        f64::NEG_INFINITY
    }
}

/// A block of genes, made ready for all models.
pub struct Block<'a> {
    /// n × width: genes centred within samples and scaled to a mean square of 1, filled up with zeros to a fixed width, so
    /// that a gene's result does not depend on its neighbours.
    pub y: Mat<f64>,
    /// Width × samples: their sums of squares.
    pub squares: Mat<f64>,
    /// Which genes can be tested; as many as there are genes.
    pub testable: Vec<bool>,
    /// The noise ratios of the quadratic forms that are asked for.
    pub deltas: &'a [f64],
    shared: Mutex<HashMap<usize, Arc<dyn Any + Send + Sync>>>,
}

impl<'a> Block<'a> {
    /// From values that are centred and scaled already.
    pub fn new(y: Mat<f64>, locations: &Locations, testable: Vec<bool>, deltas: &'a [f64]) -> Self {
        let samples = locations.samples();
        let squares = Mat::from_fn(y.ncols(), samples.len(), |g, p| {
            let column = y.col(g);
            samples[p].clone().map(|i| column[i] * column[i]).sum::<f64>()
        });
        Self { y, squares, testable, deltas, shared: Mutex::new(HashMap::new()) }
    }

    /// The values of one gene.
    pub fn gene(&self, gene: usize) -> &[f64] {
        self.y.col_as_slice(gene)
    }

    /// The values.
    pub fn values(&self) -> MatRef<'_, f64> {
        self.y.as_ref()
    }

    /// Work on this block that several models share, done by the first of them. Models that share something hold it by
    /// the same `Arc`, which tells it from what others share.
    pub fn shared<S, T: Send + Sync + 'static>(&self, by: &Arc<S>, make: impl FnOnce() -> T) -> Arc<T> {
        let key = Arc::as_ptr(by).cast::<()>() as usize;
        let known = self.shared.lock().ok().and_then(|shared| shared.get(&key).cloned());
        if let Some(known) = known.and_then(|known| known.downcast::<T>().ok()) {
            return known;
        }
        let made = Arc::new(make());
        if let Ok(mut shared) = self.shared.lock() {
            shared.insert(key, made.clone());
        }
        made
    }
}
