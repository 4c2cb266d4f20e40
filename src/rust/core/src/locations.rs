//! Where expression was measured: points in one to three dimensions, in one or several samples.

use crate::error::{Error, Result, check_size};
use crate::kd_tree::{KdTree, Point};
use faer::{Mat, MatRef};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Checked locations: at least [`Locations::MIN`] finite points in 1, 2 or 3 dimensions, not all the same.
///
/// Several samples (slides) are several runs of consecutive rows; points of different samples
/// have no distance and do not depend on each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Locations {
    #[serde(with = "crate::serde_matrix")]
    coords: Mat<f64>,
    samples: Vec<Range<usize>>,
}

impl Locations {
    /// The fewest locations that a test makes sense for.
    pub const MIN: usize = 5;

    /// One sample: `coords` has a row for each location, and a column for each dimension.
    pub fn new(coords: MatRef<'_, f64>) -> Result<Self> {
        Self::with_samples(coords, &[coords.nrows()])
    }

    /// Several samples, whose rows follow each other: `sizes` are their numbers of rows.
    pub fn with_samples(coords: MatRef<'_, f64>, sizes: &[usize]) -> Result<Self> {
        let (n, d) = coords.shape();
        if !(1..=3).contains(&d) {
            return Err(Error::Dimension(d));
        }
        if n < Self::MIN {
            return Err(Error::TooFewLocations { n, needed: Self::MIN });
        }
        let total: usize = sizes.iter().sum();
        if total != n || sizes.contains(&0) {
            return Err(Error::Shape { what: "rows of all samples", expected: n, got: total });
        }
        check_finite(coords)?;
        let mut samples = Vec::with_capacity(sizes.len());
        let mut start = 0;
        for &size in sizes {
            samples.push(start..start + size);
            start += size;
        }
        let varies = |rows: &Range<usize>| {
            rows.clone().any(|i| (0..d).any(|j| coords[(i, j)] != coords[(rows.start, j)]))
        };
        if !samples.iter().any(varies) {
            return Err(Error::IdenticalLocations);
        }
        Ok(Self { coords: coords.to_owned(), samples })
    }

    /// One sample of points that are known to be finite; they may be few, and all the same.
    pub(crate) fn of_points(points: &[Point], dim: usize) -> Self {
        let coords = Mat::from_fn(points.len(), dim, |i, k| points[i][k]);
        Self { coords, samples: std::iter::once(0..points.len()).collect() }
    }

    /// Whether something can be predicted at new locations: `new` has a row for each, `sample` says to which sample it
    /// belongs (counted from 0).
    pub(crate) fn check_new(&self, new: MatRef<'_, f64>, sample: &[usize]) -> Result<()> {
        check_size("coordinates of the new locations", self.dim(), new.ncols())?;
        check_size("samples of the new locations", new.nrows(), sample.len())?;
        let samples = self.samples.len();
        if let Some(&s) = sample.iter().find(|&&s| s >= samples) {
            return Err(Error::Shape { what: "samples", expected: samples, got: s + 1 });
        }
        check_finite(new)
    }

    /// Number of locations.
    pub fn len(&self) -> usize {
        self.coords.nrows()
    }

    /// Never true: there are at least [`Locations::MIN`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of dimensions, 1 to 3.
    pub fn dim(&self) -> usize {
        self.coords.ncols()
    }

    /// The coordinates, a row for each location.
    pub fn coords(&self) -> MatRef<'_, f64> {
        self.coords.as_ref()
    }

    /// The rows of each sample.
    pub fn samples(&self) -> &[Range<usize>] {
        &self.samples
    }

    /// Squared distance of two locations (whatever their samples).
    #[inline]
    pub fn squared_distance(&self, i: usize, j: usize) -> f64 {
        let mut sum = 0.0;
        for k in 0..self.coords.ncols() {
            let diff = self.coords[(i, k)] - self.coords[(j, k)];
            sum += diff * diff;
        }
        sum
    }

    /// A k-d tree for each sample.
    pub(crate) fn trees(&self) -> Vec<KdTree> {
        self.samples.iter().map(|rows| KdTree::new(self.coords(), rows.clone())).collect()
    }

    /// The same locations in another order, in which those of a sample that are near each other follow each other, and the
    /// row of each here. What visits neighbours finds them near in memory.
    pub(crate) fn near_together(&self) -> (Self, Vec<usize>) {
        let order: Vec<usize> = self.trees().iter().flat_map(|tree| tree.rows().to_vec()).collect();
        let coords = Mat::from_fn(self.len(), self.dim(), |i, k| self.coords[(order[i], k)]);
        (Self { coords, samples: self.samples.clone() }, order)
    }

    /// Every so many-th location.
    pub(crate) fn thinned(&self, step: usize) -> Self {
        let coords = Mat::from_fn(self.len().div_ceil(step), self.dim(), |i, k| self.coords[(i * step, k)]);
        let before = |row: usize| row.div_ceil(step);
        let samples = self.samples.iter().map(|rows| before(rows.start)..before(rows.end));
        Self { coords, samples: samples.filter(|rows| !rows.is_empty()).collect() }
    }

    /// The smallest non-zero and the largest distance between locations of one sample.
    pub fn distance_range(&self) -> (f64, f64) {
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for tree in self.trees() {
            least = tree.nearest().into_iter().fold(least, f64::min);
            most = most.max(tree.diameter());
        }
        (least.sqrt(), most.sqrt())
    }

    /// The median distance of a location to its nearest neighbour that is not at the same point; NaN where squared
    /// distances underflow.
    pub fn spacing(&self) -> f64 {
        let mut nearest = Vec::with_capacity(self.len());
        for tree in self.trees() {
            nearest.extend(tree.nearest().into_iter().filter(|d| d.is_finite()));
        }
        if nearest.is_empty() {
            return f64::NAN;
        }
        let middle = nearest.len() / 2;
        nearest.select_nth_unstable_by(middle, f64::total_cmp).1.sqrt()
    }
}

/// That all coordinates are finite; a row for each location.
pub(crate) fn check_finite(coords: MatRef<'_, f64>) -> Result<()> {
    let finite = |i: usize| coords.row(i).iter().all(|x| x.is_finite());
    match (0..coords.nrows()).find(|&i| !finite(i)) {
        Some(i) => Err(Error::NonFiniteLocation(i + 1)),
        None => Ok(()),
    }
}
