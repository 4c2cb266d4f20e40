//! The posterior from near locations alone, see `kriging`.

use super::Smoother;
use crate::error::{Error, Result};
use crate::factors::anchors::CELL;
use crate::factors::kriging::{Level, Weights};
use crate::kd_tree::Point;
use crate::locations::Locations;
use faer::prelude::*;
use rayon::prelude::*;

/// Predictions of the locations of one sample, each from its neighbours, and of other places.
pub(super) struct Near {
    level: Level,
    delta: f64,
    own: Weights,
    new: Weights,
    rows: Vec<usize>,
}

/// The side of a cell of locations, in lengthscales: what a field varies within it must be little beside the noise, and
/// the wider the cells are, the farther their number reaches.
fn cell(delta: f64) -> f64 {
    CELL * (0.5 * delta).sqrt().clamp(1.0, 2.0)
}

impl Near {
    /// `locations` are one sample.
    pub fn new(locations: &Locations, new: &[Point], lengthscale: f64, delta: f64) -> Result<Self> {
        // Its square is a number.
        let lengthscale = lengthscale.clamp(1e-150, 1e150);
        let level = Level::with_cells(locations, lengthscale, locations.spacing(), cell(delta), true);
        let rows: Vec<usize> = (0..locations.len()).collect();
        let own = level.weights(locations, &rows, &[delta])?.pop().ok_or(Error::Shape {
            what: "weights",
            expected: 1,
            got: 0,
        })?;
        let places: Vec<(Point, usize)> = new.iter().map(|&point| (point, 0)).collect();
        let new = level.weights_at(&places, delta)?;
        Ok(Self { level, delta, own, new, rows })
    }

    /// What is left of the variance 1 at the locations.
    pub fn own_variance(&self) -> Vec<f64> {
        self.own.variance.iter().map(|v| self.delta * (1.0 - self.delta / v)).collect()
    }

    /// The same at the other places.
    pub fn new_variance(&self) -> Vec<f64> {
        self.new.variance.clone()
    }
}

impl Smoother for Near {
    fn smooth(&self, y: MatRef<'_, f64>, _: f64) -> Result<Mat<f64>> {
        let n = self.rows.len();
        let mut out = Mat::zeros(n + self.new.variance.len(), y.ncols());
        out.as_mut().par_col_chunks_mut(1).zip(y.par_col_chunks(1)).for_each(|(mut out, y)| {
            let y: Vec<f64> = y.col(0).iter().copied().collect();
            let sums = self.level.anchors.sums(&y);
            let errors = self.level.errors(&[&self.own], &self.rows, &y, &sums);
            for i in 0..n {
                out[(i, 0)] = y[i] - self.delta * errors[i] / self.own.variance[i];
            }
            let new = self.level.means(&self.new, self.new.variance.len(), &sums);
            new.into_iter().enumerate().for_each(|(i, mean)| out[(n + i, 0)] = mean);
        });
        Ok(out)
    }
}
