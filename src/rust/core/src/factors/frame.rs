//! Coordinates in spacings, from the lowest place of each sample, rounded: results do not depend on the unit of the
//! coordinates, nor on where their origin is. Which of several neighbours at the same distance counts would otherwise be a
//! matter of rounding.

use crate::error::Result;
use crate::kd_tree::Point;
use crate::locations::Locations;
use faer::Mat;

/// Steps of the rounding in a spacing: far below what moves a field, far above what rounding does to lattices.
const STEPS: f64 = 1_048_576.0;

/// Where the coordinates count from, and their unit.
pub(crate) struct Frame {
    unit: f64,
    /// The lowest coordinates of each sample.
    origins: Vec<Point>,
}

impl Frame {
    pub fn new(locations: &Locations) -> Self {
        let spacing = locations.spacing();
        let lowest = |rows: &std::ops::Range<usize>| {
            std::array::from_fn(|k| {
                let column = (k < locations.dim()).then(|| locations.coords().col(k));
                column.map_or(0.0, |x| rows.clone().map(|i| x[i]).fold(f64::INFINITY, f64::min))
            })
        };
        Self {
            unit: if spacing.is_finite() && spacing > 0.0 { spacing } else { 1.0 },
            origins: locations.samples().iter().map(lowest).collect(),
        }
    }

    /// The unit, in that of the coordinates.
    pub fn unit(&self) -> f64 {
        self.unit
    }

    /// The lowest coordinates of a sample.
    pub fn origin(&self, sample: usize) -> Point {
        self.origins[sample]
    }

    /// A place of a sample.
    pub fn point<'a>(&self, coords: impl Iterator<Item = &'a f64>, sample: usize) -> Point {
        let mut point = [0.0; 3];
        for ((x, own), origin) in point.iter_mut().zip(coords).zip(self.origins[sample]) {
            *x = ((own - origin) / self.unit * STEPS).round() / STEPS;
        }
        point
    }

    /// The same locations.
    ///
    /// # Errors
    /// Those of [`Locations::with_samples`].
    pub fn locations(&self, locations: &Locations) -> Result<Locations> {
        let (n, d) = locations.coords().shape();
        let mut coords = Mat::zeros(n, d);
        for (s, rows) in locations.samples().iter().enumerate() {
            for i in rows.clone() {
                let point = self.point(locations.coords().row(i).iter(), s);
                (0..d).for_each(|k| coords[(i, k)] = point[k]);
            }
        }
        let sizes: Vec<usize> = locations.samples().iter().map(|rows| rows.len()).collect();
        Locations::with_samples(coords.as_ref(), &sizes)
    }
}
