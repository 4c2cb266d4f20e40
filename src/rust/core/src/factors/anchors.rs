//! What a location is predicted from: single locations, or, for wide kernels, means over cells of them.

use crate::kd_tree::{KdTree, Point};
use crate::locations::Locations;
use std::collections::HashMap;

/// A cell's side, as a share of the lengthscale: within it a field hardly changes.
pub(crate) const CELL: f64 = 0.4;

/// Groups of near locations of one sample each, and which of them are near a point.
pub(crate) struct Anchors {
    /// The mean place of each group's members.
    pub centre: Vec<Point>,
    /// The number of members.
    pub count: Vec<f64>,
    /// The variance of the members' coordinates.
    pub spread: Vec<Point>,
    /// The group of each location.
    pub of: Vec<u32>,
    /// One for each sample; its rows are groups.
    trees: Vec<KdTree>,
}

/// A location's coordinates.
pub(crate) fn point(locations: &Locations, row: usize) -> Point {
    std::array::from_fn(|k| if k < locations.dim() { locations.coords()[(row, k)] } else { 0.0 })
}

/// The squared distance of two points.
#[inline(always)]
pub(crate) fn squared(a: &Point, b: &Point) -> f64 {
    (0..3).map(|k| (a[k] - b[k]) * (a[k] - b[k])).sum()
}

impl Anchors {
    /// Cells of a side; single locations if that is below the spacing.
    pub fn new(locations: &Locations, side: f64, spacing: f64) -> Self {
        let single = side <= spacing;
        let mut of = vec![0_u32; locations.len()];
        let mut sums: Vec<Point> = Vec::new();
        let mut count: Vec<f64> = Vec::new();
        let mut firsts = Vec::with_capacity(locations.samples().len());
        for rows in locations.samples() {
            firsts.push(sums.len());
            let mut cells: HashMap<[i64; 3], usize> = HashMap::new();
            for row in rows.clone() {
                let at = point(locations, row);
                let id = if single {
                    sums.len()
                } else {
                    *cells.entry(at.map(|x| (x / side).floor() as i64)).or_insert(sums.len())
                };
                if id == sums.len() {
                    sums.push([0.0; 3]);
                    count.push(0.0);
                }
                (0..3).for_each(|k| sums[id][k] += at[k]);
                count[id] += 1.0;
                of[row] = id as u32;
            }
        }
        firsts.push(sums.len());
        let centre: Vec<Point> = sums.iter().zip(&count).map(|(sum, n)| sum.map(|x| x / n)).collect();
        let mut spread = vec![[0.0; 3]; centre.len()];
        for (row, &id) in of.iter().enumerate() {
            let (at, id) = (point(locations, row), id as usize);
            (0..3).for_each(|k| spread[id][k] += (at[k] - centre[id][k]).powi(2) / count[id]);
        }
        let tree =
            |ends: &[usize]| KdTree::of_points((ends[0]..ends[1]).map(|id| (id, centre[id])).collect());
        let trees = firsts.windows(2).map(tree).collect();
        Self { centre, count, spread, of, trees }
    }

    pub fn len(&self) -> usize {
        self.count.len()
    }

    /// The groups of a sample nearest to a point: squared distance and group.
    pub fn near(&self, sample: usize, at: &Point, count: usize, found: &mut Vec<(f64, usize)>) {
        self.trees[sample].k_nearest(at, count, found);
    }

    /// Sums of a column over the groups.
    pub fn sums(&self, x: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.len()];
        for (&id, x) in self.of.iter().zip(x) {
            sums[id as usize] += x;
        }
        sums
    }
}
