//! A kernel that is held as a sparse matrix, ready for genes.

use super::log_det::LogDet;
use super::sample::{Plan, Sample};
use crate::engine::{LOG_DET_GAP, Width, squared_reach};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::kernel::Kernel;
use crate::likelihood::log_delta_grid;
use crate::locations::Locations;
use serde::{Deserialize, Serialize};

/// A kernel ready for the likelihoods of many genes, without its eigenpairs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Krylov {
    pub(super) kernel: Kernel,
    pub(super) n: usize,
    /// Whether Lanczos goes on until everything is known at any delta.
    pub(super) narrow: bool,
    pub(super) samples: Vec<Sample>,
    pub(super) grid: Vec<f64>,
    /// Over all samples, and on the grid.
    pub(super) determinant: LogDet,
    pub(super) log_det: Vec<f64>,
    /// Where the grid starts to be reliable.
    pub(super) reliable: usize,
    pub(super) gower: f64,
    /// Σ kᵢⱼ² over i ≠ j.
    pub(super) squares: f64,
}

impl Krylov {
    /// Prepares a kernel as [`crate::engine::Choice::Krylov`] says, in the current rayon pool.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a kernel that never falls off with distance.
    pub fn new(kernel: Kernel, locations: &Locations, width: Width, apart: f64) -> Result<Self> {
        let n = locations.len();
        let (Some(radial), Some(reach2)) = (kernel.radial(), squared_reach(kernel)) else {
            return Err(Error::Unsupported { kernel: kernel.name(), scale: kernel.scale(), n });
        };
        let narrow = width == Width::Narrow;
        let plan = Plan { radial, reach2, apart, narrow };
        let grid = log_delta_grid();
        let mut samples = Vec::new();
        let mut gaps = vec![0.0; grid.len()];
        for tree in &locations.trees() {
            let (sample, own) = Sample::new(tree, plan, &grid)?;
            samples.push(sample);
            gaps.iter_mut().zip(own).for_each(|(sum, gap)| *sum += gap);
            interrupt::check()?;
        }
        let reliable = gaps.iter().rposition(|gap| *gap > LOG_DET_GAP).map_or(0, |i| i + 1);
        let within: f64 = samples.iter().map(|sample| sample.total() / sample.len() as f64).sum();
        let eigenvalues: Vec<(f64, f64)> =
            samples.iter().flat_map(|sample| sample.eigenvalues().iter().copied()).collect();
        let determinant = LogDet::new(&eigenvalues);
        Ok(Self {
            kernel,
            n,
            narrow,
            gower: ((n as f64 - within) / (n - samples.len()) as f64).max(0.0),
            squares: samples.iter().map(Sample::squares).sum(),
            samples,
            log_det: grid.iter().map(|&x| determinant.at(x)[0]).collect(),
            determinant,
            grid,
            reliable,
        })
    }

    /// The grid of log delta, as far as likelihoods are reliable.
    pub fn grid(&self) -> &[f64] {
        &self.grid[self.reliable..]
    }
}
